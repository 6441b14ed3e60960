//! An Application Message: as it passes through, and as it is kept.

use std::{ops::Deref, sync::Arc};

use bytes::Bytes;

use crate::{
    base::{
        byte_count::ByteCount,
        ids::SubscriberId,
        time::{Moment, Span},
    },
    mqtt::QoS,
    topic::TopicName,
};

/// A payload of at least this many bytes is shared by reference and not copied.
const SHARED_PAYLOAD_MIN: usize = 8 << 10;

/// A message on its way through a shard. Nothing in it is owned.
#[derive(Clone, Copy, Debug)]
pub struct MessageView<'a> {
    pub topic: TopicName<'a>,
    /// The properties that travel unaltered from publisher to subscriber, as MQTT 5.0 encodes them.
    pub application: &'a [u8],
    pub payload: Payload<'a>,
    pub qos: QoS,
    /// RETAIN as the publisher set it.
    pub retain: bool,
    /// When the message expires.
    pub expires_at: Option<Moment>,
    /// The session that published it, if it is on this shard. For No Local.
    pub publisher: Option<SubscriberId>,
    /// A hash of the publisher's Client Identifier; 0 for the broker itself.
    pub publisher_hash: u32,
}

/// The payload in memory that can be shared, which `share` provides; `None` if it is small.
pub fn shared_payload(payload: &[u8], share: impl FnOnce(&[u8]) -> Bytes) -> Option<Bytes> {
    (payload.len() >= SHARED_PAYLOAD_MIN).then(|| share(payload))
}

/// The bytes of a message: borrowed when small, shareable when large.
#[derive(Clone, Copy, Debug)]
pub enum Payload<'a> {
    Small(&'a [u8]),
    Shared(&'a Bytes),
}

impl Payload<'_> {
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Payload::Small(bytes) => bytes,
            Payload::Shared(bytes) => bytes,
        }
    }

    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    pub fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }
}

/// A message that is kept: queued, in flight or retained.
#[derive(Debug)]
pub struct Message {
    /// Topic Name, application properties and a small payload, one after the other.
    text: Box<[u8]>,
    topic_len: u16,
    application_len: u32,
    /// The payload if it is shared.
    shared: Option<Bytes>,
    qos: QoS,
    retain: bool,
    expires_at: Option<Moment>,
    publisher_hash: u32,
    /// Who has published it, if that may matter when it is sent.
    source: Option<Arc<Source>>,
}

/// Who has published a message, as rights know it.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// `None` for an anonymous client.
    pub user_name: Option<Box<str>>,
    pub client_id: Box<str>,
    /// The number of the rules by which it was allowed to.
    pub acl: u64,
}

impl Message {
    pub fn keep(view: &MessageView<'_>) -> Message {
        let (small, shared) = match view.payload {
            Payload::Small(bytes) => (bytes, None),
            Payload::Shared(bytes) => (&[][..], Some(bytes.clone())),
        };
        let text = [view.topic.as_str().as_bytes(), view.application, small].concat();
        Message {
            text: text.into_boxed_slice(),
            topic_len: u16::try_from(view.topic.as_str().len())
                .expect("a Topic Name has a 16-bit length"),
            application_len: u32::try_from(view.application.len())
                .expect("properties are shorter than the packet they came in"),
            shared,
            qos: view.qos,
            retain: view.retain,
            expires_at: view.expires_at,
            publisher_hash: view.publisher_hash,
            source: None,
        }
    }

    /// The same message, with who has published it.
    #[must_use]
    pub fn by(self, source: Option<Arc<Source>>) -> Message {
        Message { source, ..self }
    }

    /// Who has published it, if that may matter when it is sent.
    pub fn source(&self) -> Option<&Source> {
        self.source.as_deref()
    }

    pub fn view(&self) -> MessageView<'_> {
        let (topic, rest) = self.text.split_at(usize::from(self.topic_len));
        let (application, small) = rest.split_at(self.application_len as usize);
        let topic = std::str::from_utf8(topic).expect("it was a str when it was kept");
        MessageView {
            topic: TopicName::from_valid(topic),
            application,
            payload: self.shared.as_ref().map_or(Payload::Small(small), Payload::Shared),
            qos: self.qos,
            retain: self.retain,
            expires_at: self.expires_at,
            publisher: None,
            publisher_hash: self.publisher_hash,
        }
    }

    /// Bytes by which the message counts against the limit of a queue.
    pub fn size(&self) -> usize {
        Message::size_of(self.text.len() + self.shared.as_ref().map_or(0, Bytes::len))
    }

    /// The same for a message whose topic, properties and payload have `bytes` bytes.
    pub const fn size_of(bytes: usize) -> usize {
        size_of::<Message>() + bytes
    }

    pub fn expires_at(&self) -> Option<Moment> {
        self.expires_at
    }

    pub fn has_expired(&self, now: Moment) -> bool {
        has_expired(self.expires_at, now)
    }
}

fn has_expired(expires_at: Option<Moment>, now: Moment) -> bool {
    expires_at.is_some_and(|at| at <= now)
}

/// A message that one shard keeps for itself. Its memory is counted without a shared payload, which
/// is counted by who shares it.
#[derive(Debug)]
pub struct CountedMessage {
    message: Message,
    count: ByteCount,
}

impl CountedMessage {
    pub fn keep(view: &MessageView<'_>, count: &ByteCount) -> CountedMessage {
        let message = Message::keep(view);
        count.add(ALLOWANCE + message.text.len());
        CountedMessage { message, count: count.clone() }
    }
}

impl Deref for CountedMessage {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
}

impl Drop for CountedMessage {
    fn drop(&mut self) {
        self.count.subtract(ALLOWANCE + self.message.text.len());
    }
}

/// What a counted message takes besides its text: itself, and what the allocator adds to both.
const ALLOWANCE: usize = size_of::<CountedMessage>() + 48;

impl MessageView<'_> {
    pub fn has_expired(&self, now: Moment) -> bool {
        has_expired(self.expires_at, now)
    }

    /// What is left of the Message Expiry Interval, in seconds, rounded up. [MQTT-3.3.2-6]
    pub fn expiry_left(&self, now: Moment) -> Option<u32> {
        let left = self.expires_at?.since(now) + Span::from_nanos(999_999_999);
        Some(u32::try_from(left.as_secs()).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn view<'a>(topic: &'a str, payload: &'a [u8], qos: QoS) -> MessageView<'a> {
        MessageView {
            topic: TopicName::from_valid(topic),
            application: &[],
            payload: Payload::Small(payload),
            qos,
            retain: false,
            expires_at: None,
            publisher: None,
            publisher_hash: 0,
        }
    }

    #[test]
    fn a_kept_message_reads_like_the_one_that_passed() {
        let large = Bytes::from(vec![7; SHARED_PAYLOAD_MIN]);
        for payload in [Payload::Small(b"20.5"), Payload::Shared(&large), Payload::Small(b"")] {
            let passing = MessageView {
                application: b"\x01\x01",
                payload,
                retain: true,
                expires_at: Some(Moment::from_nanos(5)),
                publisher_hash: 77,
                ..view("room/temperature", b"", QoS::AtLeastOnce)
            };
            let kept = Message::keep(&passing);
            let read = kept.view();
            assert_eq!(read.topic.as_str(), "room/temperature");
            assert_eq!(read.application, b"\x01\x01");
            assert_eq!(read.payload.as_slice(), payload.as_slice());
            assert_eq!((read.qos, read.retain), (QoS::AtLeastOnce, true));
            assert_eq!(read.publisher_hash, 77);
            assert!(kept.has_expired(Moment::from_nanos(5)));
            assert!(!kept.has_expired(Moment::from_nanos(4)));
        }
    }

    #[test]
    fn a_message_counts_while_it_is_kept_without_a_shared_payload() {
        let count = ByteCount::default();
        let large = Bytes::from(vec![7; SHARED_PAYLOAD_MIN]);
        let small = CountedMessage::keep(&view("t", b"payload", QoS::AtLeastOnce), &count);
        assert_eq!(count.bytes(), ALLOWANCE + 8);
        let passing = MessageView { payload: Payload::Shared(&large), ..small.view() };
        let shared = CountedMessage::keep(&passing, &count);
        assert_eq!(count.bytes(), 2 * ALLOWANCE + 8 + 1);
        drop((small, shared));
        assert_eq!(count.bytes(), 0);
    }

    /// [MQTT-3.3.2-6]
    #[test]
    fn the_interval_sent_on_is_what_is_left_of_it() {
        let start = Moment::from_nanos(1_000_000_000);
        let message = MessageView {
            expires_at: Some(start + Span::from_secs(10)),
            ..view("t", b"", QoS::AtMostOnce)
        };
        assert_eq!(message.expiry_left(start), Some(10));
        assert_eq!(message.expiry_left(start + Span::from_millis(3_500)), Some(7));
        assert_eq!(message.expiry_left(start + Span::from_secs(11)), Some(0));
    }
}
