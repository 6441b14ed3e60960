use anyhow::Result;
use clap::{Args, value_parser};

use crate::request::{flags::LoadFlags, topics::TopicFlags, workload::Workload};

/// Many publishers, each with a topic of its own, and few subscribers to all of them.
///
/// With --topics each message goes to one of that many topics instead.
#[derive(Debug, Args)]
pub struct FanIn {
    #[arg(long, default_value_t = 50, value_parser = value_parser!(u32).range(1..))]
    publishers: u32,
    /// Number of subscribers. With 0 no message is delivered.
    #[arg(long, default_value_t = 1)]
    subscribers: u32,
    #[command(flatten)]
    pub(super) flags: LoadFlags,
}

impl FanIn {
    pub(super) fn workload(&self) -> Result<Workload> {
        workload(&self.flags.topics, self.publishers, self.subscribers)
    }
}

pub(super) fn workload(topics: &TopicFlags, publishers: u32, subscribers: u32) -> Result<Workload> {
    let topics = topics.common("bench/in/{id}")?;
    Ok(Workload::to_everybody("fan-in", &topics, publishers, subscribers))
}
