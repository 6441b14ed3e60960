//! The command line: a load, a server to try it on, or a comparison of runs.

use clap::{Parser, Subcommand};

use crate::{report::compare::Compare, request::scenario::Scenario, sink::Sink};

/// Drives an MQTT broker with load, accounts for every message, and says what it cost.
///
/// Exit status: 0, 1 when the broker broke what the QoS promises, 2 when there was no measurement.
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
