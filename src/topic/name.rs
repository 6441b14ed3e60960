//! Topic Names: where a message is published.

use std::borrow::Borrow;

use super::{Levels, TopicError, check_length, check_text, count_levels};
use crate::base::text::is_plain;

/// The name that a message is published to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName<'a>(&'a str);

impl<'a> TopicName<'a> {
    pub fn parse(text: &'a str) -> Result<TopicName<'a>, TopicError> {
        if !is_plain(text.as_bytes()) || text.is_empty() {
            return TopicName::parse_unusual(text);
        }
        check_length(text)?;
        Ok(TopicName(text))
    }

    /// Parses a name with other than plain ASCII characters.
    #[cold]
    fn parse_unusual(text: &'a str) -> Result<TopicName<'a>, TopicError> {
        check_text(text)?;
        // [MQTT-4.7.0-1]
        let is_wild = text.contains(['+', '#']);
        if is_wild { Err(TopicError::WildcardInName) } else { Ok(TopicName(text)) }
    }

    /// A name that was parsed before, or that the broker made. It is not checked again.
    #[inline]
    pub fn from_valid(text: &'a str) -> TopicName<'a> {
        debug_assert!(TopicName::parse(text).is_ok(), "no Topic Name: {text:?}");
        TopicName(text)
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

    /// Whether the name begins with `$`, so that filters that begin with a wildcard do not match
    /// it.
    #[inline]
    pub fn is_reserved(self) -> bool {
        self.0.starts_with('$')
    }

    /// Whether the name belongs to the `$SYS` tree.
    pub fn is_sys(self) -> bool {
        self.0.strip_prefix("$SYS").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// A Topic Name that is kept. Names are ordered by their bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnedTopicName(Box<str>);

impl OwnedTopicName {
    pub fn as_name(&self) -> TopicName<'_> {
        TopicName(&self.0)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<TopicName<'_>> for OwnedTopicName {
    fn from(name: TopicName<'_>) -> OwnedTopicName {
        OwnedTopicName(name.0.into())
    }
}

impl Borrow<str> for OwnedTopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [MQTT-4.7.0-1] [MQTT-4.7.3-1] [MQTT-4.7.3-2] [MQTT-4.7.3-3] [MQTT-4.7.1-1@3.1.1]
    /// [MQTT-4.7.3-1@3.1.1] [MQTT-4.7.3-2@3.1.1] [MQTT-4.7.3-3@3.1.1]
    #[test]
    fn a_name_is_not_empty_nor_long_nor_wild_nor_null() {
        let longest = "x".repeat(65_535);
        let cases = [
            ("a", Ok(())),
            ("/", Ok(())),
            ("Accounts payable", Ok(())),
            (longest.as_str(), Ok(())),
            ("", Err(TopicError::Empty)),
            (&format!("{longest}x"), Err(TopicError::TooLong)),
            ("20 °C", Ok(())),
            ("a\0b", Err(TopicError::DisallowedCodePoint)),
            ("a\nb", Err(TopicError::DisallowedCodePoint)),
            ("\u{FFFE}", Err(TopicError::DisallowedCodePoint)),
            ("a/+", Err(TopicError::WildcardInName)),
            ("a#b", Err(TopicError::WildcardInName)),
        ];
        for (text, expected) in cases {
            assert_eq!(TopicName::parse(text).map(|_| ()), expected);
        }
    }

    #[test]
    fn levels_are_what_stands_between_separators() {
        let name = TopicName::parse("/a//b/").unwrap();
        assert_eq!(name.levels().collect::<Vec<_>>(), ["", "a", "", "b", ""]);
        assert_eq!(name.level_count(), 5);
    }

    #[test]
    fn sys_is_one_reserved_tree_among_others() {
        for (text, reserved, sys) in [
            ("$SYS", true, true),
            ("$SYS/uptime", true, true),
            ("$SYSTEM/x", true, false),
            ("$other", true, false),
            ("a/$SYS", false, false),
        ] {
            let name = TopicName::parse(text).unwrap();
            assert_eq!((name.is_reserved(), name.is_sys()), (reserved, sys), "{text}");
        }
    }
}
