//! Who publishes what, and who receives it.
//!
//! Knows nothing of flags, pacing and sockets.

use std::ops::Range;

use ringmq::{base::time::Span, mqtt::QoS};

use super::{
    pacing::Extent,
    topics::{CommonTopics, Topics},
};
use crate::payload::SEQUENCES_MAX;

/// Who publishes what, and who receives it.
#[derive(Clone, Debug)]
pub struct Workload {
    pub name: &'static str,
    pub act: Act,
    pub publishers: Vec<Topics>,
    pub subscribers: Vec<Subscription>,
    /// Subscribers that each message goes to.
    pub audience: u64,
    /// How long the measured phase lasts, in scenarios that leave no choice.
    pub extent: Option<Extent>,
    pub defaults: Defaults,
}

impl Workload {
    /// A workload in which all subscribers receive the messages of all publishers.
    pub(super) fn to_everybody(
        name: &'static str,
        topics: &CommonTopics,
        publishers: u32,
        subscribers: u32,
    ) -> Workload {
        let subscription = Subscription::to_common_topics(0..publishers, topics);
        Workload {
            name,
            act: Act::Publish,
            publishers: topics.of_publishers(publishers),
            subscribers: (0..subscribers).map(|_| subscription.clone()).collect(),
            audience: u64::from(subscribers),
            extent: None,
            defaults: Defaults::default(),
        }
    }
}

/// The values of flags that are not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defaults {
    pub qos: QoS,
    /// Bytes of payload.
    pub size: u32,
    /// Messages per second.
    pub rate: Option<u64>,
}

impl Default for Defaults {
    fn default() -> Defaults {
        Defaults { qos: QoS::AtMostOnce, size: 64, rate: None }
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Messages, until they come to those who have subscribed.
    Publish,
    /// Retained messages, until they come to those who subscribe. Before that the broker has the
    /// time `settle` to store them.
    Replay { settle: Span },
    /// Clients, until they are connected.
    Connect,
    /// Clients that were connected before, until they are connected again.
    Reconnect,
}

impl Act {
    /// What is counted are connections, not messages.
    pub fn is_connecting(self) -> bool {
        matches!(self, Act::Connect | Act::Reconnect)
    }
}

/// What one subscriber asks for, and what it is to receive.
#[derive(Clone, Debug)]
pub struct Subscription {
    pub filters: Vec<String>,
    /// The publishers whose messages it receives.
    pub publishers: Range<u32>,
    /// The sequence numbers of their messages that it receives.
    pub sequences: Range<u32>,
    pub arrivals: Arrivals,
    pub reading: Reading,
}

/// How fast a subscriber takes what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    Freely,
    /// Too slowly; nothing is owed to it.
    Slowly {
        bytes_per_second: u32,
    },
}

/// How the messages of one publisher come to a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrivals {
    InOrder,
    /// Their topics differ, and order is promised within a topic only.
    AnyOrder,
    /// Each comes to one member of a group, and nothing is said of order. [MQTT-4.6.0-6]
    Pooled,
}

impl Subscription {
    pub(super) fn to_all_of(publishers: Range<u32>, filter: String) -> Subscription {
        Subscription {
            filters: vec![filter],
            publishers,
            sequences: 0..SEQUENCES_MAX,
            arrivals: Arrivals::InOrder,
            reading: Reading::Freely,
        }
    }

    /// To all common topics of these publishers.
    pub(super) fn to_common_topics(publishers: Range<u32>, topics: &CommonTopics) -> Subscription {
        let arrivals = if topics.is_chosen() { Arrivals::AnyOrder } else { Arrivals::InOrder };
        Subscription { arrivals, ..Subscription::to_all_of(publishers, topics.filter()) }
    }

    /// The subscription of a client that nothing is sent to.
    pub(super) fn to_nothing(filters: Vec<String>) -> Subscription {
        Subscription { filters, ..Subscription::to_all_of(0..0, String::new()) }
    }
}
