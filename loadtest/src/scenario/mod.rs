//! The shapes of load. One file per scenario: its flags, and the workload they stand for.
//!
//! A scenario says who publishes what and who receives it; it knows nothing of pacing and sockets.

mod connect;
mod fan_in;
mod fan_out;
mod idle;
mod pairs;
mod preset;
mod reconnect;
mod retained;
mod shared;
mod slow_reader;
mod topics;
mod wildcard;

use std::ops::Range;

use anyhow::Result;
use clap::Subcommand;
use ringmq::{base::time::Span, mqtt::QoS};

use self::topics::Spread;
pub use self::topics::{Dice, Pattern, TopicFlags, Topics};
use crate::{arguments::Common, pacing::Extent, payload::SEQUENCES_MAX};

/// What to drive the broker with.
#[derive(Debug, Subcommand)]
pub enum Scenario {
    FanIn(fan_in::FanIn),
    FanOut(fan_out::FanOut),
    Pairs(pairs::Pairs),
    Shared(shared::Shared),
    Retained(retained::Retained),
    SlowReader(slow_reader::SlowReader),
    Wildcard(wildcard::Wildcard),
    Connect(connect::Connect),
    Reconnect(reconnect::Reconnect),
    Idle(idle::Idle),
    Preset(preset::Preset),
}

impl Scenario {
    pub fn workload(&self) -> Result<Workload> {
        match self {
            Scenario::FanIn(scenario) => scenario.workload(),
            Scenario::FanOut(scenario) => scenario.workload(),
            Scenario::Pairs(scenario) => scenario.workload(),
            Scenario::Shared(scenario) => scenario.workload(),
            Scenario::Retained(scenario) => scenario.workload(),
            Scenario::SlowReader(scenario) => scenario.workload(),
            Scenario::Wildcard(scenario) => scenario.workload(),
            Scenario::Connect(scenario) => scenario.workload(),
            Scenario::Reconnect(scenario) => scenario.workload(),
            Scenario::Idle(scenario) => scenario.workload(),
            Scenario::Preset(scenario) => scenario.workload(),
        }
    }

    pub fn common(&self) -> &Common {
        match self {
            Scenario::FanIn(scenario) => &scenario.common,
            Scenario::FanOut(scenario) => &scenario.common,
            Scenario::Pairs(scenario) => &scenario.common,
            Scenario::Shared(scenario) => &scenario.common,
            Scenario::Retained(scenario) => &scenario.common,
            Scenario::SlowReader(scenario) => &scenario.common,
            Scenario::Wildcard(scenario) => &scenario.common,
            Scenario::Connect(scenario) => &scenario.common,
            Scenario::Reconnect(scenario) => &scenario.common,
            Scenario::Idle(scenario) => &scenario.common,
            Scenario::Preset(scenario) => &scenario.common,
        }
    }
}

/// Who publishes what, and who receives it.
#[derive(Clone, Debug)]
pub struct Workload {
    pub name: &'static str,
    pub act: Act,
    pub publishers: Vec<Topics>,
    pub subscribers: Vec<Subscription>,
    /// Subscribers that each message goes to.
    pub audience: u64,
    /// Where the scenario leaves no choice: how long the measured phase lasts.
    pub extent: Option<Extent>,
    pub defaults: Defaults,
}

impl Workload {
    /// The messages of all publishers, wherever they go, to all of so many subscribers.
    fn to_everybody(
        name: &'static str,
        spread: &Spread,
        publishers: u32,
        subscribers: u32,
    ) -> Workload {
        let subscription = Subscription::to_spread(0..publishers, spread);
        Workload {
            name,
            act: Act::Publish,
            publishers: spread.topics(publishers),
            subscribers: (0..subscribers).map(|_| subscription.clone()).collect(),
            audience: u64::from(subscribers),
            extent: None,
            defaults: Defaults::default(),
        }
    }
}

/// What holds where no flag says otherwise.
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
    /// Messages on their way to those who have subscribed.
    Publish,
    /// Retained messages on their way to those who subscribe then. Before, the broker has had the
    /// time `settle` to put them in their places.
    Replay { settle: Span },
    /// Clients, until they are connected.
    Connect,
    /// Clients that were connected, until they are again.
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
    /// Those of their messages that it receives.
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
    fn to_all_of(publishers: Range<u32>, filter: String) -> Subscription {
        Subscription {
            filters: vec![filter],
            publishers,
            sequences: 0..SEQUENCES_MAX,
            arrivals: Arrivals::InOrder,
            reading: Reading::Freely,
        }
    }

    /// To all topics of these publishers, wherever their messages go.
    fn to_spread(publishers: Range<u32>, spread: &Spread) -> Subscription {
        let arrivals = spread.arrivals();
        Subscription { arrivals, ..Subscription::to_all_of(publishers, spread.filter()) }
    }

    /// Of a client that nothing is sent to.
    fn to_nothing(filters: Vec<String>) -> Subscription {
        Subscription { filters, ..Subscription::to_all_of(0..0, String::new()) }
    }
}
