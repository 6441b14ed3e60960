//! Shared Subscriptions: a group of sessions that share the messages of one Topic Filter.

use super::{OwnedTopicFilter, TopicError, TopicFilter};

/// The name of a group of sessions that share a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShareName<'a>(&'a str);

impl<'a> ShareName<'a> {
    pub fn parse(text: &'a str) -> Result<ShareName<'a>, TopicError> {
        // [MQTT-4.8.2-1] [MQTT-4.8.2-2]
        if text.is_empty() || text.contains(['/', '+', '#', '\0']) {
            return Err(TopicError::ShareName);
        }
        Ok(ShareName(text))
    }

    /// A name that was parsed before. It is not checked again.
    pub fn from_valid(text: &'a str) -> ShareName<'a> {
        debug_assert!(ShareName::parse(text).is_ok(), "no ShareName: {text:?}");
        ShareName(text)
    }

    pub fn as_str(self) -> &'a str {
        self.0
    }
}

/// One group on one Topic Filter. The same `ShareName` on another filter is another group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SharedFilter<'a> {
    pub share: ShareName<'a>,
    pub filter: TopicFilter<'a>,
}

/// The name of a group as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupName {
    share: Box<str>,
    filter: OwnedTopicFilter,
}

impl GroupName {
    pub fn as_shared(&self) -> SharedFilter<'_> {
        SharedFilter { share: ShareName(&self.share), filter: self.filter.as_filter() }
    }

    /// `ShareName` and Topic Filter.
    pub fn key(&self) -> (&str, &str) {
        (&self.share, self.filter.as_str())
    }
}

impl From<SharedFilter<'_>> for GroupName {
    fn from(shared: SharedFilter<'_>) -> GroupName {
        GroupName { share: shared.share.0.into(), filter: shared.filter.into() }
    }
}

/// What a SUBSCRIBE or an UNSUBSCRIBE asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscription<'a> {
    Plain(TopicFilter<'a>),
    Shared(SharedFilter<'a>),
}

impl<'a> Subscription<'a> {
    /// Reads `{filter}` or `$share/{ShareName}/{filter}`.
    pub fn parse(text: &'a str) -> Result<Subscription<'a>, TopicError> {
        // The limits of length and of characters concern the text as the client wrote it.
        super::check_text(text)?;
        match text.strip_prefix("$share/") {
            None => TopicFilter::parse(text).map(Subscription::Plain),
            Some(shared) => parse_shared(shared).map(Subscription::Shared),
        }
    }

    /// A Subscription that was parsed before. It is not checked again.
    ///
    /// # Panics
    /// If the text is not a Subscription.
    pub fn from_valid(text: &'a str) -> Subscription<'a> {
        let Some(shared) = text.strip_prefix("$share/") else {
            return Subscription::Plain(TopicFilter::from_valid(text));
        };
        let (share, filter) = shared.split_once('/').expect("a ShareName comes before a filter");
        let share = ShareName::from_valid(share);
        Subscription::Shared(SharedFilter { share, filter: TopicFilter::from_valid(filter) })
    }

    /// The filter that messages are matched against, without the name of a group.
    pub fn filter(self) -> TopicFilter<'a> {
        match self {
            Subscription::Plain(filter) | Subscription::Shared(SharedFilter { filter, .. }) => {
                filter
            }
        }
    }
}

fn parse_shared(text: &str) -> Result<SharedFilter<'_>, TopicError> {
    let Some((share, filter)) = text.split_once('/') else {
        ShareName::parse(text)?;
        return Err(TopicError::SharedFilterMissing);
    };
    let share = ShareName::parse(share)?;
    if filter.is_empty() {
        return Err(TopicError::SharedFilterMissing);
    }
    Ok(SharedFilter { share, filter: TopicFilter::parse(filter)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Result<(Option<&str>, &str), TopicError> {
        Ok(match Subscription::parse(text)? {
            Subscription::Plain(filter) => (None, filter.as_str()),
            Subscription::Shared(shared) => (Some(shared.share.as_str()), shared.filter.as_str()),
        })
    }

    /// [MQTT-4.8.2-1] [MQTT-4.8.2-2]
    #[test]
    fn a_shared_subscription_names_its_group_and_then_its_filter() {
        let cases = [
            ("a/#", Ok((None, "a/#"))),
            ("$share", Ok((None, "$share"))),
            ("$shared/a/b", Ok((None, "$shared/a/b"))),
            ("$share/consumer1/sport/tennis/+", Ok((Some("consumer1"), "sport/tennis/+"))),
            ("$share/consumer1//finance", Ok((Some("consumer1"), "/finance"))),
            ("$share/$g/#", Ok((Some("$g"), "#"))),
            ("$share/", Err(TopicError::ShareName)),
            ("$share//a", Err(TopicError::ShareName)),
            ("$share/+/a", Err(TopicError::ShareName)),
            ("$share/g#/a", Err(TopicError::ShareName)),
            ("$share/g", Err(TopicError::SharedFilterMissing)),
            ("$share/g/", Err(TopicError::SharedFilterMissing)),
            ("$share/g/a/#/b", Err(TopicError::MisplacedMultiLevelWildcard)),
            ("$share/g\0/a", Err(TopicError::DisallowedCodePoint)),
        ];
        for (text, expected) in cases {
            assert_eq!(parts(text), expected, "{text}");
        }
    }
}
