//! One record: a fact that survives a restart. It borrows its text, both from the state that it is
//! written from and from the bytes that it is read from.
//!
//! Rules that recovery and cleaning rely on:
//!
//! - Cleaning writes old records again behind newer ones. So a record is understood whatever comes
//!   before it: a `Ref` may precede its `Message`, a `Subscription` its `Session`.
//! - Of two records of one thing the later one counts; of two `Retain` the one with the larger
//!   stamp.
//! - Numbers of sessions and messages are never used twice, also after a restart.
//! - A `Message` counts while a `Ref`, a `Retain` or a target needs it. So a batch that passes a
//!   message from one session to another has the new `Ref` before the `Ack` of the former one.

use std::net::IpAddr;

use super::field::{List, Target};
use crate::{
    base::{ids::ShardId, time::WallTime},
    mqtt::{PacketId, QoS},
};

/// Names a session in records. Unique in the broker, for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionNumber(pub u64);

/// Names a message in records. Unique in the broker, for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u64);

/// One fact.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Record<'a> {
    /// A process has taken the store over, with this many shards. All targets of messages before
    /// it are void: the batch with this record has the `Ref`s that they still asked for.
    Epoch {
        number: u64,
        shards: u8,
    },
    /// The client has connected: all terms of its session, anew. Its subscriptions and messages
    /// stay.
    Session(SessionRecord<'a>),
    /// The session is over, with all that belongs to it.
    SessionEnd {
        session: SessionNumber,
    },
    /// The client has no connection since `at`. `keeps_will`: its Will waits for its delay. A
    /// second one with `keeps_will` false says that the Will has been published or deleted.
    Disconnected {
        session: SessionNumber,
        at: WallTime,
        keeps_will: bool,
    },
    /// A subscription, new or with new options. `filter` is as in SUBSCRIBE, with `$share`.
    Subscription {
        session: SessionNumber,
        filter: &'a str,
        /// The Subscription Options of SUBSCRIBE, with the QoS that was granted.
        options: u8,
        subscription_id: Option<u32>,
    },
    Unsubscribe {
        session: SessionNumber,
        filter: &'a str,
    },
    /// A message, once for the whole broker.
    Message(MessageRecord<'a>),
    /// A message for a session, queued or in flight.
    Ref(RefRecord<'a>),
    /// The session needs that message no more: acknowledged, expired, dropped, passed on.
    Ack {
        session: SessionNumber,
        ordinal: u64,
    },
    /// The client has sent PUBREC for it: only PUBREL is sent again.
    Released {
        session: SessionNumber,
        ordinal: u64,
    },
    /// A QoS 2 message from the client has been taken, and its identifier is not released.
    Hold {
        session: SessionNumber,
        packet_id: PacketId,
    },
    Unhold {
        session: SessionNumber,
        packet_id: PacketId,
    },
    /// A change of the retained message of a topic.
    Retain(RetainRecord<'a>),
    /// Shard `to` has done what all messages up to number `n` in the row from `from` asked of it.
    Taken {
        from: ShardId,
        to: ShardId,
        n: u64,
    },
}

impl Record<'_> {
    /// The names of all kinds.
    pub const KINDS: [&'static str; 14] = [
        "Epoch",
        "Session",
        "SessionEnd",
        "Disconnected",
        "Subscription",
        "Unsubscribe",
        "Message",
        "Ref",
        "Ack",
        "Released",
        "Hold",
        "Unhold",
        "Retain",
        "Taken",
    ];

    /// The place of the record's kind among all kinds.
    pub fn kind_index(&self) -> usize {
        match self {
            Record::Epoch { .. } => 0,
            Record::Session(_) => 1,
            Record::SessionEnd { .. } => 2,
            Record::Disconnected { .. } => 3,
            Record::Subscription { .. } => 4,
            Record::Unsubscribe { .. } => 5,
            Record::Message(_) => 6,
            Record::Ref(_) => 7,
            Record::Ack { .. } => 8,
            Record::Released { .. } => 9,
            Record::Hold { .. } => 10,
            Record::Unhold { .. } => 11,
            Record::Retain(_) => 12,
            Record::Taken { .. } => 13,
        }
    }

    /// Whether a ledger keeps the place of the record, unless a later record makes it void.
    pub fn is_kept(&self) -> bool {
        match self {
            Record::Session(_)
            | Record::Disconnected { .. }
            | Record::Subscription { .. }
            | Record::Message(_)
            | Record::Ref(_)
            | Record::Released { .. }
            | Record::Hold { .. }
            | Record::Retain(_)
            | Record::Taken { .. } => true,
            Record::Epoch { .. }
            | Record::SessionEnd { .. }
            | Record::Unsubscribe { .. }
            | Record::Ack { .. }
            | Record::Unhold { .. } => false,
        }
    }
}

/// The terms of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRecord<'a> {
    pub session: SessionNumber,
    pub client_id: &'a str,
    /// The proven User Name.
    pub user: Option<&'a str>,
    /// Where the client came from. It pays for the session if there is no proven user.
    pub peer: Option<IpAddr>,
    /// Seconds that the session outlives its connection; `u32::MAX` never expires.
    pub expiry_interval: u32,
    pub created_at: WallTime,
    pub connected_at: WallTime,
    pub will: Option<WillRecord<'a>>,
}

/// A Will as CONNECT gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WillRecord<'a> {
    pub topic: &'a str,
    /// The properties that are forwarded unaltered, as MQTT 5.0 encodes them.
    pub application: &'a [u8],
    pub payload: &'a [u8],
    pub qos: QoS,
    pub retain: bool,
    /// Will Delay Interval in seconds.
    pub delay: u32,
    /// Message Expiry Interval in seconds, from the publication on.
    pub message_expiry: Option<u32>,
}

/// A message, and which other shards have to take it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MessageRecord<'a> {
    pub id: MessageId,
    /// A hash of the publisher's Client Identifier; 0 for the broker itself.
    pub publisher_hash: u32,
    /// The session that published it, for No Local; 0 if it is not durable or not known.
    pub publisher: SessionNumber,
    pub topic: &'a str,
    /// The properties that are forwarded unaltered, as MQTT 5.0 encodes them.
    pub application: &'a [u8],
    pub payload: &'a [u8],
    pub qos: QoS,
    /// RETAIN as the publisher set it.
    pub retain: bool,
    pub expires_at: Option<WallTime>,
    /// The shard that wrote it: whose rows to the targets have the numbers in `targets`.
    pub from: ShardId,
    pub targets: List<'a, Target>,
    /// The share groups that the targets serve: for each target that has any its number, their
    /// length in bytes, and their names as letters have them, with a space between each.
    pub groups: &'a str,
}

/// A message for one session.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RefRecord<'a> {
    pub session: SessionNumber,
    /// The place in the session's order. Packet Identifier = ordinal mod 65,535 + 1.
    pub ordinal: u64,
    pub message: MessageId,
    pub qos: QoS,
    pub retain: bool,
    /// Subscription Identifiers of all matching subscriptions.
    pub subscription_ids: List<'a, u32>,
    /// The share group by which the message came, as its name and filter: `group/filter`.
    pub group: Option<&'a str>,
}

/// A change of the retained message of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetainRecord<'a> {
    pub topic: &'a str,
    /// `None` removes the message.
    pub message: Option<MessageId>,
    pub stamp: Stamp,
    /// When the message expires, so that cleaning need not look for it.
    pub expires_at: Option<WallTime>,
}

/// The order of changes of retained messages. The larger of two is the newer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    pub time: u64,
    pub shard: u8,
}
