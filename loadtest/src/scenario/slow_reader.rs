use anyhow::Result;
use clap::{Args, value_parser};

use super::{Act, Defaults, Reading, Subscription, Workload};
use crate::arguments::Common;

/// One topic, and among those who subscribe to it some who hardly read.
///
/// The account and the latency are of the others: they are not to suffer. What becomes of the slow
/// ones, who may lose messages and their connections, is told apart.
#[derive(Debug, Args)]
pub struct SlowReader {
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(1..))]
    publishers: u32,
    /// Those who read what comes.
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u32).range(1..))]
    subscribers: u32,
    #[arg(long, default_value_t = 1)]
    slow: u32,
    /// Bytes per second that each slow one reads.
    #[arg(long, default_value_t = 1000)]
    slow_rate: u32,
    #[command(flatten)]
    pub(super) common: Common,
}

impl SlowReader {
    pub(super) fn workload(&self) -> Result<Workload> {
        let spread = self.common.topics.spread("bench/slow")?;
        let subscription = Subscription::to_spread(0..self.publishers, &spread);
        let slow = Subscription {
            reading: Reading::Slowly { bytes_per_second: self.slow_rate },
            ..subscription.clone()
        };
        let subscribers = (0..self.subscribers).map(|_| subscription.clone());
        Ok(Workload {
            name: "slow-reader",
            act: Act::Publish,
            publishers: spread.topics(self.publishers),
            subscribers: subscribers.chain((0..self.slow).map(|_| slow.clone())).collect(),
            audience: u64::from(self.subscribers),
            extent: None,
            defaults: Defaults::default(),
        })
    }
}
