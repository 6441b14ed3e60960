//! Questions about the subscriptions of a client.

use super::{Answer, Shard};
use crate::{
    base::ids::SubscriberId, mqtt::SubscriptionOptions, shard::granted::Granted,
    topic::Subscription,
};

/// Some subscriptions of a session, the latest ones first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionPage {
    pub subscriptions: Vec<SubscriptionReport>,
    /// How many come behind them; `None` if there are no more.
    pub left: Option<u32>,
}

/// One subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionReport {
    /// As the client has sent it.
    pub filter: String,
    /// What was granted.
    pub options: SubscriptionOptions,
    pub subscription_id: Option<u32>,
}

impl Shard {
    /// Some of the subscriptions of a session, of so many of its first ones, or of all.
    ///
    /// The walk goes from the last place to the first. When a filter is removed, the last one takes
    /// its place, so that the walk may meet that one twice, and misses none that is there all the
    /// time.
    pub(super) fn subscription_page(
        &self,
        client_id: &str,
        first: Option<u32>,
        count: usize,
    ) -> Answer {
        let found = self.sessions.find(client_id);
        let Some((subscriber, session)) = found.and_then(|it| Some((it, self.sessions.get(it)?)))
        else {
            return Answer::Nothing;
        };
        let filters = session.filters().list();
        let mut left = first.map_or(filters.len(), |first| filters.len().min(first as usize));
        let (mut subscriptions, mut bytes) = (Vec::new(), 0);
        let count = count.min(SUBSCRIPTIONS_MAX);
        while left > 0 && subscriptions.len() < count && bytes < BYTES_MAX {
            left -= 1;
            bytes += filters[left].len();
            subscriptions.extend(self.subscription_report(subscriber, &filters[left]));
        }
        let left = u32::try_from(left).ok().filter(|left| *left > 0);
        Answer::Subscriptions(SubscriptionPage { subscriptions, left })
    }

    fn subscription_report(
        &self,
        subscriber: SubscriberId,
        text: &str,
    ) -> Option<SubscriptionReport> {
        let subscription = Subscription::from_valid(text);
        let entry = self.router.interest().subscription(subscription, subscriber)?;
        Some(SubscriptionReport {
            filter: text.to_owned(),
            options: Granted::unpack(entry.options).options(),
            subscription_id: Some(entry.subscription_id).filter(|id| *id > 0),
        })
    }
}

/// Subscriptions that one answer tells of, and the bytes of Topic Filters after which it ends.
const SUBSCRIPTIONS_MAX: usize = 64;
const BYTES_MAX: usize = 64 << 10;
