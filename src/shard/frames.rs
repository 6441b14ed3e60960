//! A message as the frames of PUBLISH packets.
//!
//! A message is encoded once for each shape (version, QoS, RETAIN). For each receiver the Packet
//! Identifier is patched, and the Topic Alias for a client that accepts aliases. Knows neither
//! sessions nor limits.

use std::num::NonZeroU16;

use super::ports::Ports;
use crate::{
    base::{hash::Seed, ids::ConnectionId, time::Moment},
    mqtt::{PacketId, PublishHead, QoS, Version},
    session::{
        Link,
        message::{MessageView, Payload},
        topic_aliases::{Naming, TopicAliases},
    },
};

/// Frames of the message that is being delivered, one for each shape. The memory is reused.
#[derive(Debug)]
pub(super) struct Frames {
    bytes: Vec<u8>,
    places: [EncodedFrame; PLACES],
    /// Which of them have been encoded, a bit for each shape.
    encoded: u32,
    seed: Seed,
    /// The hash of the topic, once it has been needed.
    topic_hash: Option<u64>,
}

/// Where a frame is in the bytes. A shared payload is not part of it.
#[derive(Clone, Copy, Debug, Default)]
struct EncodedFrame {
    start: usize,
    end: usize,
    packet_id_at: Option<usize>,
    topic_alias_at: Option<usize>,
}

/// A frame that is ready to be sent to one client.
#[derive(Clone, Copy, Debug)]
pub(super) struct PreparedFrame {
    /// The place of a shape, or [`OWN`].
    place: usize,
    naming: Naming,
}

/// How a message is to be written for one receiver.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form<'a> {
    pub(super) dup: bool,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) subscription_ids: &'a [u32],
}

/// Bytes of memory that are kept from message to message, at most.
const BYTES_KEPT_MAX: usize = 64 << 10;
/// Two kinds of version, three QoS, two values of RETAIN.
const IN_FULL: usize = 12;
/// The same shapes with an alias, besides the topic or instead of it. Only 5.0 has aliases.
const SHAPES: usize = IN_FULL + 12;
/// The place of a frame that no other receiver has.
const OWN: usize = SHAPES;
const PLACES: usize = SHAPES + 1;

impl Frames {
    pub(super) fn new(seed: Seed) -> Frames {
        Frames {
            bytes: Vec::new(),
            places: [EncodedFrame::default(); PLACES],
            encoded: 0,
            seed,
            topic_hash: None,
        }
    }

    /// Begins with a new message: nothing of it has been encoded.
    pub(super) fn begin(&mut self) {
        self.bytes.clear();
        if self.bytes.capacity() > BYTES_KEPT_MAX {
            self.bytes.shrink_to(BYTES_KEPT_MAX);
        }
        self.encoded = 0;
        self.topic_hash = None;
    }

    /// The frame for one client. It is encoded now unless an earlier receiver had the same shape.
    /// The topic is sent in full if the message is sent again, or if the client accepts no aliases.
    /// [MQTT-3.1.2-27]
    #[inline]
    pub(super) fn ready(
        &mut self,
        view: &MessageView<'_>,
        link: Link,
        topic_aliases: &mut Option<Box<TopicAliases>>,
        form: Form<'_>,
        now: Moment,
    ) -> PreparedFrame {
        if link.terms.topic_aliases() == 0 || form.dup {
            self.in_full(view, link.terms.version(), form, now)
        } else {
            self.by_alias(view, link, topic_aliases, form, now)
        }
    }

    /// As [`Frames::ready`], with the topic in full.
    #[inline]
    pub(super) fn in_full(
        &mut self,
        view: &MessageView<'_>,
        version: Version,
        form: Form<'_>,
        now: Moment,
    ) -> PreparedFrame {
        let modern = usize::from(version == Version::V5);
        let shape = (form.qos as usize * 2 + modern) * 2 + usize::from(form.retain);
        self.shaped(shape, view, (version, Naming::InFull), form, now)
    }

    #[inline(never)]
    fn by_alias(
        &mut self,
        view: &MessageView<'_>,
        link: Link,
        topic_aliases: &mut Option<Box<TopicAliases>>,
        form: Form<'_>,
        now: Moment,
    ) -> PreparedFrame {
        let version = link.terms.version();
        let naming = self.name(view.topic.as_str(), link, topic_aliases);
        let (kind, alias) = match naming {
            Naming::InFull => return self.in_full(view, version, form, now),
            Naming::WithAlias(alias) => (0, alias),
            Naming::ByAlias(alias) => (1, alias),
        };
        let shape = IN_FULL + (form.qos as usize * 2 + kind) * 2 + usize::from(form.retain);
        let ready = self.shaped(shape, view, (version, naming), form, now);
        if kind == 0 && !link.terms.takes(self.len_with(ready, view)) {
            // Without the alias the frame is three bytes shorter, which may be enough.
            self.forget(ready);
            return self.in_full(view, version, form, now);
        }
        self.put(self.places[ready.place].topic_alias_at, alias.get());
        ready
    }

    fn name(
        &mut self,
        topic: &str,
        link: Link,
        topic_aliases: &mut Option<Box<TopicAliases>>,
    ) -> Naming {
        let maximum = NonZeroU16::new(link.terms.topic_aliases());
        let Some(maximum) = maximum.filter(|_| TopicAliases::are_worth(topic)) else {
            return Naming::InFull;
        };
        let hash = self.hash(topic);
        let aliases = topic_aliases.get_or_insert_with(|| Box::new(TopicAliases::new(maximum)));
        aliases.name(topic, hash)
    }

    fn hash(&mut self, topic: &str) -> u64 {
        *self.topic_hash.get_or_insert_with(|| self.seed.hash(topic))
    }

    #[inline]
    fn shaped(
        &mut self,
        shape: usize,
        view: &MessageView<'_>,
        style: (Version, Naming),
        form: Form<'_>,
        now: Moment,
    ) -> PreparedFrame {
        if form.dup || !form.subscription_ids.is_empty() {
            self.encode(OWN, view, style, form, now);
            return PreparedFrame { place: OWN, naming: style.1 };
        }
        if self.encoded & 1 << shape == 0 {
            self.encoded |= 1 << shape;
            self.encode(shape, view, style, form, now);
        }
        PreparedFrame { place: shape, naming: style.1 }
    }

    /// Encodes the message behind the frames that are encoded already.
    #[inline(never)]
    fn encode(
        &mut self,
        place: usize,
        view: &MessageView<'_>,
        (version, naming): (Version, Naming),
        form: Form<'_>,
        now: Moment,
    ) {
        let start = self.bytes.len();
        let (topic, topic_alias) = match naming {
            Naming::InFull => (view.topic.as_str(), None),
            Naming::WithAlias(alias) => (view.topic.as_str(), Some(alias)),
            Naming::ByAlias(alias) => ("", Some(alias)),
        };
        let head = PublishHead {
            dup: form.dup,
            qos: form.qos,
            retain: form.retain,
            topic,
            application: view.application,
            message_expiry_interval: view.expiry_left(now),
            subscription_identifiers: form.subscription_ids,
            topic_alias,
            payload_len: view.payload.len(),
        };
        let blanks = head.encode_with_blanks(version, &mut self.bytes);
        if let Payload::Small(payload) = view.payload {
            self.bytes.extend_from_slice(payload);
        }
        self.places[place] = EncodedFrame {
            start,
            end: self.bytes.len(),
            packet_id_at: blanks.packet_id,
            topic_alias_at: blanks.topic_alias,
        };
    }

    pub(super) fn patch(&mut self, ready: PreparedFrame, packet_id: PacketId) {
        self.put(self.places[ready.place].packet_id_at, packet_id.value());
    }

    fn put(&mut self, at: Option<usize>, value: u16) {
        if let Some(at) = at {
            self.bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
        }
    }

    /// Bytes of the whole packet, a shared payload included.
    #[inline]
    pub(super) fn len_with(&self, ready: PreparedFrame, view: &MessageView<'_>) -> usize {
        let shared = match view.payload {
            Payload::Small(_) => 0,
            Payload::Shared(payload) => payload.len(),
        };
        let frame = &self.places[ready.place];
        frame.end - frame.start + shared
    }

    /// Frees the memory of a frame that no other receiver shares.
    #[inline]
    pub(super) fn forget(&mut self, ready: PreparedFrame) {
        if ready.place == OWN {
            self.bytes.truncate(self.places[OWN].start);
        }
    }

    /// Sends a frame of this message to the client that it was made for.
    #[expect(clippy::inline_always, reason = "a tenth of what one more subscriber costs")]
    #[inline(always)]
    pub(super) fn send(
        &mut self,
        ready: PreparedFrame,
        view: &MessageView<'_>,
        connection: ConnectionId,
        topic_aliases: &mut Option<Box<TopicAliases>>,
        ports: &mut impl Ports,
    ) {
        let frame = &self.places[ready.place];
        let bytes = &self.bytes[frame.start..frame.end];
        match view.payload {
            Payload::Small(_) => ports.send(connection, bytes),
            Payload::Shared(payload) => ports.send_shared(connection, bytes, payload),
        }
        match ready.naming {
            Naming::WithAlias(alias) => {
                self.conclude(ready, view.topic.as_str(), alias, topic_aliases);
            }
            Naming::InFull | Naming::ByAlias(_) => self.forget(ready),
        }
    }

    /// Notes that a new Topic Alias is set, now that its PUBLISH is in the outbox.
    #[inline(never)]
    fn conclude(
        &mut self,
        ready: PreparedFrame,
        topic: &str,
        alias: NonZeroU16,
        topic_aliases: &mut Option<Box<TopicAliases>>,
    ) {
        if let Some(aliases) = topic_aliases {
            let hash = self.hash(topic);
            aliases.set(alias, topic, hash);
        }
        self.forget(ready);
    }
}
