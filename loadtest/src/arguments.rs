//! The command line: a scenario, the server `sink`, or a comparison of runs.

use clap::{Parser, Subcommand};

use crate::{report::compare::Compare, request::scenario::Scenario, sink::Sink};

/// Drives an MQTT broker with load, accounts for every message, and reports the cost.
///
/// Exit status: 0 if all promises of the QoS were kept, 1 if the broker broke one, 2 if there was
/// no measurement.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version)]
pub struct Arguments {
    #[command(subcommand)]
    pub task: Task,
}

#[derive(Debug, Subcommand)]
pub enum Task {
    #[command(flatten)]
    Load(Box<Scenario>),
    Sink(Sink),
    Compare(Compare),
}
