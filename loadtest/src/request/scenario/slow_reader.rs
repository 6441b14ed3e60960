use anyhow::Result;
use clap::{Args, value_parser};

use crate::request::{
    flags::LoadFlags,
    workload::{Reading, Subscription, Workload},
};

/// One topic, and among those who subscribe to it some who hardly read.
///
/// The account and the latency are of the others, who should not suffer. The slow ones may lose
/// messages and their connections; they are counted apart.
#[derive(Debug, Args)]
pub struct SlowReader {
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(1..))]
    publishers: u32,
    /// Those who read what comes.
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u32).range(1..))]
    subscribers: u32,
    /// Those who hardly read.
    #[arg(long, default_value_t = 1)]
    slow: u32,
    /// Bytes per second that each slow one reads.
    #[arg(long, default_value_t = 1000)]
    slow_rate: u32,
    #[command(flatten)]
    pub(super) flags: LoadFlags,
}

impl SlowReader {
    pub(super) fn workload(&self) -> Result<Workload> {
        let topics = self.flags.topics.common("bench/slow")?;
        let slow = Subscription {
            reading: Reading::Slowly { bytes_per_second: self.slow_rate },
            ..Subscription::to_common_topics(0..self.publishers, &topics)
        };
        let mut workload =
            Workload::to_everybody("slow-reader", &topics, self.publishers, self.subscribers);
        workload.subscribers.extend((0..self.slow).map(|_| slow.clone()));
        Ok(workload)
    }
}
