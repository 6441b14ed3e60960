use anyhow::Result;
use clap::{Args, value_parser};

use crate::request::{flags::LoadFlags, topics::TopicFlags, workload::Workload};

/// Few publishers to one topic with many subscribers.
///
/// With --topics each message goes to one of that many topics, and all subscribers subscribe to
/// all.
#[derive(Debug, Args)]
pub struct FanOut {
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(1..))]
    publishers: u32,
    #[arg(long, default_value_t = 500, value_parser = value_parser!(u32).range(1..))]
    subscribers: u32,
    #[command(flatten)]
    pub(super) flags: LoadFlags,
}

impl FanOut {
    pub(super) fn workload(&self) -> Result<Workload> {
        workload(&self.flags.topics, self.publishers, self.subscribers)
    }
}

pub(super) fn workload(topics: &TopicFlags, publishers: u32, subscribers: u32) -> Result<Workload> {
    let topics = topics.common("bench/out")?;
    Ok(Workload::to_everybody("fan-out", &topics, publishers, subscribers))
}
