//! Topic Aliases that a client has set on its connection, and the topics that they stand for.

use std::num::NonZeroU16;

/// Topics by their alias. The owner limits the number of aliases; this type limits the bytes of
/// their topics.
#[derive(Debug, Default)]
pub struct ClientAliases {
    topics: Vec<Option<Box<str>>>,
    bytes: usize,
}

/// The topics would take more than [`TOPIC_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AliasesFull;

/// Bytes of the topics of all aliases of a connection: enough for one topic of any length.
pub const TOPIC_BYTES_MAX: usize = 64 << 10;

impl ClientAliases {
    /// Sets an alias to a topic. [MQTT-3.3.2-7]
    ///
    /// # Errors
    /// If there is no room for the topic. The alias is then unchanged.
    pub fn set(&mut self, alias: NonZeroU16, topic: &str) -> Result<(), AliasesFull> {
        let index = usize::from(alias.get()) - 1;
        let former = self.topic(alias).map_or(0, str::len);
        let bytes = self.bytes - former + topic.len();
        if bytes > TOPIC_BYTES_MAX {
            return Err(AliasesFull);
        }
        if self.topics.len() <= index {
            self.topics.resize_with(index + 1, || None);
        }
        self.topics[index] = Some(topic.into());
        self.bytes = bytes;
        Ok(())
    }

    pub fn topic(&self, alias: NonZeroU16) -> Option<&str> {
        self.topics.get(usize::from(alias.get()) - 1)?.as_deref()
    }

    /// How many aliases are set.
    pub fn count(&self) -> usize {
        self.topics.iter().flatten().count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alias(value: u16) -> NonZeroU16 {
        NonZeroU16::new(value).unwrap()
    }

    #[test]
    fn an_alias_stands_for_the_topic_it_was_given_last() {
        let mut aliases = ClientAliases::default();
        assert_eq!(aliases.topic(alias(3)), None);
        aliases.set(alias(3), "a").unwrap();
        aliases.set(alias(1), "b").unwrap();
        aliases.set(alias(3), "c").unwrap();
        assert_eq!([1, 2, 3].map(|it| aliases.topic(alias(it))), [Some("b"), None, Some("c")]);
        assert_eq!(aliases.count(), 2);
    }

    #[test]
    fn topics_take_no_more_bytes_than_they_may() {
        let mut aliases = ClientAliases::default();
        let longest = "x".repeat(65_535);
        aliases.set(alias(1), &longest).unwrap();
        aliases.set(alias(2), "y").unwrap();
        assert_eq!(aliases.set(alias(3), "z"), Err(AliasesFull));
        assert_eq!(aliases.topic(alias(3)), None);
        aliases.set(alias(1), "short").unwrap();
        aliases.set(alias(3), "z").unwrap();
        assert_eq!(aliases.set(alias(3), &longest), Err(AliasesFull));
        assert_eq!(aliases.topic(alias(3)), Some("z"));
    }
}
