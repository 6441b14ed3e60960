//! Topic Filters: the patterns of Topic Names that a client subscribes to.

use super::{Levels, TopicError, TopicName, check_text, count_levels};

/// A pattern over Topic Names: `+` stands for one level, a final `#` for the level before it and
/// all that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter<'a>(&'a str);

impl<'a> TopicFilter<'a> {
    pub fn parse(text: &'a str) -> Result<TopicFilter<'a>, TopicError> {
        check_text(text)?;
        let mut levels = text.split('/').peekable();
        while let Some(level) = levels.next() {
            check_level(level, levels.peek().is_none())?;
        }
        Ok(TopicFilter(text))
    }

    /// A filter that was parsed before. It is not checked again.
    pub fn from_valid(text: &'a str) -> TopicFilter<'a> {
        debug_assert!(TopicFilter::parse(text).is_ok(), "no Topic Filter: {text:?}");
        TopicFilter(text)
    }

    pub fn as_str(self) -> &'a str {
        self.0
    }

    pub fn levels(self) -> impl Iterator<Item = &'a str> + Clone {
        Levels { rest: Some(self.0) }
    }

    pub fn level_count(self) -> usize {
        count_levels(self.0)
    }

    pub fn has_wildcard(self) -> bool {
        self.first_wildcard().is_some()
    }

    /// The complete levels before the first wildcard, with their last separator; the whole filter
    /// if it has no wildcard. Every name that matches begins with this, except the parent level of
    /// `#`, which lacks the separator.
    pub fn literal_prefix(self) -> &'a str {
        &self.0[..self.first_wildcard().unwrap_or(self.0.len())]
    }

    /// Whether the filter matches this name.
    pub fn matches(self, name: TopicName<'_>) -> bool {
        // [MQTT-4.7.2-1]
        if name.is_reserved() && self.first_wildcard() == Some(0) {
            return false;
        }
        let mut rest = name.levels();
        for level in self.levels() {
            match (level, rest.next()) {
                ("#", _) => return true,
                ("+", Some(_)) => {}
                (level, Some(part)) if level == part => {}
                _ => return false,
            }
        }
        rest.next().is_none()
    }

    /// A wildcard stands alone in its level, so the bytes before it are whole levels.
    fn first_wildcard(self) -> Option<usize> {
        self.0.bytes().position(|byte| matches!(byte, b'+' | b'#'))
    }
}

/// A Topic Filter that is kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnedTopicFilter(Box<str>);

impl OwnedTopicFilter {
    pub fn as_filter(&self) -> TopicFilter<'_> {
        TopicFilter(&self.0)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<TopicFilter<'_>> for OwnedTopicFilter {
    fn from(filter: TopicFilter<'_>) -> OwnedTopicFilter {
        OwnedTopicFilter(filter.0.into())
    }
}

fn check_level(level: &str, last: bool) -> Result<(), TopicError> {
    // [MQTT-4.7.1-1]
    if level.contains('#') && !(last && level == "#") {
        return Err(TopicError::MisplacedMultiLevelWildcard);
    }
    // [MQTT-4.7.1-2]
    if level.contains('+') && level != "+" {
        return Err(TopicError::MisplacedSingleLevelWildcard);
    }
    Ok(())
}

#[cfg(test)]
#[path = "../../tests/support/matching.rs"]
mod matching;

#[cfg(test)]
pub(crate) mod twin {
    //! Section 4.7 in ten lines, and the small world in which it judges cleverer code.

    pub(crate) use super::matching::matches;

    /// All texts of one to three of these levels, except the empty text.
    pub(crate) fn texts(levels: &[&str]) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for a in levels {
            all.push((*a).to_owned());
            for b in levels {
                all.push(format!("{a}/{b}"));
                all.extend(levels.iter().map(|c| format!("{a}/{b}/{c}")));
            }
        }
        all.retain(|text| !text.is_empty());
        all
    }

    /// All names of up to three levels over a small alphabet.
    pub(crate) fn names() -> Vec<String> {
        texts(&["a", "b", "$s", ""])
    }

    /// All filters of up to three levels over a small alphabet.
    pub(crate) fn filters() -> Vec<String> {
        let mut filters = texts(&["a", "b", "$s", "", "+", "#"]);
        filters.retain(|text| !text.contains("#/"));
        filters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-1] [MQTT-4.7.3-2] [MQTT-4.7.3-3]
    /// [MQTT-4.7.1-2@3.1.1] [MQTT-4.7.1-3@3.1.1] [MQTT-4.7.3-1@3.1.1] [MQTT-4.7.3-2@3.1.1]
    /// [MQTT-4.7.3-3@3.1.1]
    #[test]
    fn wildcards_stand_alone_in_their_level_and_the_multi_level_one_is_last() {
        let long = "x".repeat(65_536);
        let cases = [
            ("#", Ok(())),
            ("+", Ok(())),
            ("+/tennis/#", Ok(())),
            ("sport/+/player1", Ok(())),
            ("/", Ok(())),
            ("sport/tennis#", Err(TopicError::MisplacedMultiLevelWildcard)),
            ("sport/tennis/#/ranking", Err(TopicError::MisplacedMultiLevelWildcard)),
            ("##", Err(TopicError::MisplacedMultiLevelWildcard)),
            ("sport+", Err(TopicError::MisplacedSingleLevelWildcard)),
            ("a/++/b", Err(TopicError::MisplacedSingleLevelWildcard)),
            ("", Err(TopicError::Empty)),
            ("a/\0", Err(TopicError::DisallowedCodePoint)),
            (long.as_str(), Err(TopicError::TooLong)),
        ];
        for (text, expected) in cases {
            assert_eq!(TopicFilter::parse(text).map(|_| ()), expected, "{text:.20}");
        }
    }

    /// [MQTT-4.7.2-1] [MQTT-4.7.3-4] [MQTT-4.7.2-1@3.1.1] [MQTT-4.7.3-4@3.1.1]
    #[test]
    fn small_filters_match_small_names_as_section_4_7_says() {
        let names = twin::names();
        for filter in twin::filters() {
            let parsed = TopicFilter::parse(&filter).unwrap();
            for name in &names {
                let verdict = parsed.matches(TopicName::parse(name).unwrap());
                assert_eq!(verdict, twin::matches(&filter, name), "{filter} {name}");
            }
        }
    }

    #[test]
    fn the_examples_of_the_specification_hold() {
        for (filter, name, expected) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/x", false),
            ("+/monitor/Clients", "$SYS/monitor/Clients", false),
            ("$SYS/#", "$SYS/x", true),
            ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
            ("ACCOUNTS", "Accounts", false),
        ] {
            let (filter, name) = (TopicFilter::parse(filter), TopicName::parse(name));
            assert_eq!(filter.unwrap().matches(name.unwrap()), expected, "{filter:?} {name:?}");
        }
    }

    #[test]
    fn the_literal_prefix_ends_where_the_first_wildcard_level_begins() {
        for (filter, prefix, wild) in [
            ("#", "", true),
            ("+/a", "", true),
            ("a/#", "a/", true),
            ("a/b/+/c", "a/b/", true),
            ("/+", "/", true),
            ("a/b", "a/b", false),
        ] {
            let filter = TopicFilter::parse(filter).unwrap();
            assert_eq!((filter.literal_prefix(), filter.has_wildcard()), (prefix, wild));
        }
    }

    #[test]
    fn the_deepest_topics_are_matched_without_recursion() {
        let slashes = "/".repeat(65_535);
        let name = TopicName::parse(&slashes).unwrap();
        assert_eq!(name.level_count(), 65_536);
        assert!(TopicFilter::parse(&slashes).unwrap().matches(name));
        let plusses = format!("{}/#", vec!["+"; 32_767].join("/"));
        assert!(TopicFilter::parse(&plusses).unwrap().matches(name));
    }
}
