//! The scenarios. Each file has the flags of one scenario, and makes its workload.
//!
//! A scenario decides who publishes what and who receives it. It knows nothing of pacing and
//! sockets.

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
mod wildcard;

use anyhow::Result;
use clap::Subcommand;

use super::{flags::LoadFlags, plan::Plan, workload::Workload};

/// The load to drive the broker with.
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
    /// What is asked for: the scenario and its flags.
    pub fn plan(&self) -> Result<Plan> {
        self.flags().plan(self.workload()?)
    }

    fn workload(&self) -> Result<Workload> {
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

    fn flags(&self) -> &LoadFlags {
        match self {
            Scenario::FanIn(scenario) => &scenario.flags,
            Scenario::FanOut(scenario) => &scenario.flags,
            Scenario::Pairs(scenario) => &scenario.flags,
            Scenario::Shared(scenario) => &scenario.flags,
            Scenario::Retained(scenario) => &scenario.flags,
            Scenario::SlowReader(scenario) => &scenario.flags,
            Scenario::Wildcard(scenario) => &scenario.flags,
            Scenario::Connect(scenario) => &scenario.flags,
            Scenario::Reconnect(scenario) => &scenario.flags,
            Scenario::Idle(scenario) => &scenario.flags,
            Scenario::Preset(scenario) => &scenario.flags,
        }
    }
}
