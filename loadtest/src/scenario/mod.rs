//! The shapes of load. One file per scenario: its flags, and the workload they stand for.
//!
//! A scenario says who publishes what and who receives it; it knows nothing of pacing and sockets.

mod fan_in;
mod fan_out;
mod idle;
mod pairs;

use std::ops::Range;

use clap::Subcommand;

use crate::{arguments::Common, pacing::Extent, payload::SEQUENCES_MAX};

/// What to drive the broker with.
#[derive(Debug, Subcommand)]
pub enum Scenario {
    FanIn(fan_in::FanIn),
    FanOut(fan_out::FanOut),
    Pairs(pairs::Pairs),
    Idle(idle::Idle),
}

impl Scenario {
    pub fn workload(&self) -> Workload {
        match self {
            Scenario::FanIn(scenario) => scenario.workload(),
            Scenario::FanOut(scenario) => scenario.workload(),
            Scenario::Pairs(scenario) => scenario.workload(),
            Scenario::Idle(scenario) => scenario.workload(),
        }
    }

    pub fn common(&self) -> &Common {
        match self {
            Scenario::FanIn(scenario) => &scenario.common,
            Scenario::FanOut(scenario) => &scenario.common,
            Scenario::Pairs(scenario) => &scenario.common,
            Scenario::Idle(scenario) => &scenario.common,
        }
    }
}

/// Who publishes what, and who receives it.
#[derive(Debug)]
pub struct Workload {
    pub name: &'static str,
    pub publishers: Vec<Topics>,
    pub subscribers: Vec<Subscription>,
    /// Subscribers that each message goes to.
    pub audience: u64,
    /// Where the scenario leaves no choice: how long the measured phase lasts.
    pub extent: Option<Extent>,
}

/// Where a publisher's messages go.
#[derive(Clone, Debug)]
pub enum Topics {
    One(String),
    /// Message n goes to the topic of connection n.
    Idle,
}

impl Topics {
    pub fn name(&self, sequence: u32) -> String {
        match self {
            Topics::One(topic) => topic.clone(),
            Topics::Idle => idle::topic(sequence),
        }
    }
}

/// What one subscriber asks for, and what it is to receive.
#[derive(Clone, Debug)]
pub struct Subscription {
    pub filter: String,
    /// The publishers whose messages it receives.
    pub publishers: Range<u32>,
    /// Those of their messages that it receives.
    pub sequences: Range<u32>,
}

impl Subscription {
    fn to_all_of(publishers: Range<u32>, filter: String) -> Subscription {
        Subscription { filter, publishers, sequences: 0..SEQUENCES_MAX }
    }
}
