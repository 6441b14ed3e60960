//! Topic Aliases that a client has set on its connection, and the topics that they stand for.

use std::num::NonZeroU16;

use crate::base::byte_count::ByteCount;

/// Topics by their alias. The owner limits the number of aliases; this type limits the bytes of
/// their topics.
#[derive(Debug, Default)]
pub struct ClientAliases {
    topics: Vec<Option<Box<str>>>,
    bytes: usize,
    /// Where the bytes are counted; `None` until there are any.
    count: Option<ByteCount>,
}

/// What the topics of a connection may take, and where it is counted.
#[derive(Clone, Copy, Debug)]
pub struct AliasRoom<'a> {
    pub bytes_max: usize,
    pub count: &'a ByteCount,
}

/// The topics would take more than there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AliasesFull;

/// Bytes of the topics of all aliases of a connection: enough for one topic of any length.
pub const TOPIC_BYTES_MAX: usize = 64 << 10;

impl ClientAliases {
    /// Sets an alias to a topic. [MQTT-3.3.2-7]
    ///
    /// # Errors
    /// If there is no room for the topic. The alias is then unchanged.
    pub fn set(
        &mut self,
        alias: NonZeroU16,
        topic: &str,
        room: AliasRoom<'_>,
    ) -> Result<(), AliasesFull> {
        let index = usize::from(alias.get()) - 1;
        let former = self.topic(alias).map_or(0, str::len);
        let bytes = self.bytes - former + topic.len();
        if bytes > room.bytes_max && bytes > self.bytes {
            return Err(AliasesFull);
        }
        if self.topics.len() <= index {
            self.topics.resize_with(index + 1, || None);
        }
        self.topics[index] = Some(topic.into());
        let count = self.count.get_or_insert_with(|| room.count.clone());
        count.subtract(self.bytes);
        count.add(bytes);
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

impl Drop for ClientAliases {
    fn drop(&mut self) {
        if let Some(count) = &self.count {
            count.subtract(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(count: &ByteCount) -> AliasRoom<'_> {
        AliasRoom { bytes_max: TOPIC_BYTES_MAX, count }
    }

    fn alias(value: u16) -> NonZeroU16 {
        NonZeroU16::new(value).unwrap()
    }

    #[test]
    fn an_alias_stands_for_the_topic_it_was_given_last() {
        let (mut aliases, count) = (ClientAliases::default(), ByteCount::default());
        assert_eq!(aliases.topic(alias(3)), None);
        aliases.set(alias(3), "a", room(&count)).unwrap();
        aliases.set(alias(1), "b", room(&count)).unwrap();
        aliases.set(alias(3), "c", room(&count)).unwrap();
        assert_eq!([1, 2, 3].map(|it| aliases.topic(alias(it))), [Some("b"), None, Some("c")]);
        assert_eq!(aliases.count(), 2);
    }

    #[test]
    fn topics_take_no_more_bytes_than_they_may() {
        let (mut aliases, count) = (ClientAliases::default(), ByteCount::default());
        let longest = "x".repeat(65_535);
        aliases.set(alias(1), &longest, room(&count)).unwrap();
        aliases.set(alias(2), "y", room(&count)).unwrap();
        assert_eq!(aliases.set(alias(3), "z", room(&count)), Err(AliasesFull));
        assert_eq!(aliases.topic(alias(3)), None);
        aliases.set(alias(1), "short", room(&count)).unwrap();
        aliases.set(alias(3), "z", room(&count)).unwrap();
        assert_eq!(aliases.set(alias(3), &longest, room(&count)), Err(AliasesFull));
        assert_eq!(aliases.topic(alias(3)), Some("z"));
    }

    #[test]
    fn topics_are_counted_until_the_connection_ends() {
        let (mut aliases, count) = (ClientAliases::default(), ByteCount::default());
        aliases.set(alias(1), "topic", room(&count)).unwrap();
        aliases.set(alias(2), "b", room(&count)).unwrap();
        aliases.set(alias(1), "top", room(&count)).unwrap();
        assert_eq!(count.bytes(), 4);
        let narrow = AliasRoom { bytes_max: 2, count: &count };
        assert_eq!(aliases.set(alias(3), "c", narrow), Err(AliasesFull));
        aliases.set(alias(1), "a", narrow).expect("it becomes less");
        drop(aliases);
        assert_eq!(count.bytes(), 0);
    }
}
