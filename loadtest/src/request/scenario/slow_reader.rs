use anyhow::Result;
use clap::{Args, value_parser};

use crate::request::{
    flags::LoadFlags,
    workload::{Reading, Subscription, Workload},
};

/// Some subscribers of a topic read slowly.
///
/// The account and the latency are those of the other subscribers, which should not be affected.
/// The slow readers may lose messages and their connections. They are counted separately.
#[derive(Debug, Args)]
pub struct SlowReader {
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(1..))]
    publishers: u32,
    /// Number of subscribers that read everything at once.
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u32).range(1..))]
    subscribers: u32,
    /// Number of subscribers that read slowly.
    #[arg(long, default_value_t = 1)]
    slow: u32,
    /// Bytes per second that each slow reader reads.
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
