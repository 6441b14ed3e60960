//! Topic Names, Topic Filters and Shared Subscriptions: parsed once, then valid.
//!
//! Knows how names and filters are written and which filter matches which name. Does not know who
//! subscribes, and sets no limit of its own to the number of levels. Nothing is normalized: a name
//! is the bytes that the client wrote. [MQTT-4.7.3-4]
#![forbid(unsafe_code)]

mod filter;
mod name;
mod share;

use crate::base::text::has_disallowed;

pub use filter::{OwnedTopicFilter, TopicFilter};
pub use name::{OwnedTopicName, TopicName};
pub use share::{GroupName, ShareName, SharedFilter, Subscription};

#[cfg(test)]
pub(crate) use filter::twin;

/// The most bytes that a Topic Name or a Topic Filter has. [MQTT-4.7.3-3]
pub const TOPIC_BYTES_MAX: usize = 65_535;

/// Why a string is not a valid Topic Name, Topic Filter or Shared Subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    #[error("a topic has at least one character")]
    Empty,
    #[error("a topic has at most 65,535 bytes")]
    TooLong,
    #[error("a topic contains no U+0000, control characters or noncharacters")]
    DisallowedCodePoint,
    #[error("a Topic Name does not contain + or #")]
    WildcardInName,
    #[error("# stands alone in its level, and its level is the last")]
    MisplacedMultiLevelWildcard,
    #[error("+ stands alone in its level")]
    MisplacedSingleLevelWildcard,
    #[error("a ShareName has at least one character and does not contain /, + or #")]
    ShareName,
    #[error("a ShareName is followed by / and a Topic Filter")]
    SharedFilterMissing,
}

/// Checks the rules that names and filters have in common.
fn check_text(text: &str) -> Result<(), TopicError> {
    // [MQTT-4.7.3-1]
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    check_length(text)?;
    // [MQTT-4.7.3-2]
    if has_disallowed(text) {
        return Err(TopicError::DisallowedCodePoint);
    }
    Ok(())
}

fn check_length(text: &str) -> Result<(), TopicError> {
    if text.len() > TOPIC_BYTES_MAX { Err(TopicError::TooLong) } else { Ok(()) }
}

/// The levels of a text. They are short, so a loop over the bytes is faster than a search.
#[derive(Clone, Debug)]
struct Levels<'a> {
    rest: Option<&'a str>,
}

impl<'a> Iterator for Levels<'a> {
    type Item = &'a str;

    #[inline]
    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest?;
        let end = rest.bytes().position(|byte| byte == b'/');
        self.rest = end.map(|end| &rest[end + 1..]);
        Some(&rest[..end.unwrap_or(rest.len())])
    }
}

/// How many levels a text has: one more than it has separators.
fn count_levels(text: &str) -> usize {
    text.bytes().filter(|&byte| byte == b'/').count() + 1
}
