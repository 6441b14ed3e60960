use clap::{Args, value_parser};

use super::{Act, Defaults, Subscription, Topics, Workload};
use crate::arguments::Common;

/// Few publishers to one topic that many subscribe to.
#[derive(Debug, Args)]
pub struct FanOut {
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(1..))]
    publishers: u32,
    #[arg(long, default_value_t = 500, value_parser = value_parser!(u32).range(1..))]
    subscribers: u32,
    #[command(flatten)]
    pub(super) common: Common,
}

impl FanOut {
    pub(super) fn workload(&self) -> Workload {
        workload(self.publishers, self.subscribers)
    }
}

pub(super) fn workload(publishers: u32, subscribers: u32) -> Workload {
    let topic = "bench/out";
    let subscription = Subscription::to_all_of(0..publishers, topic.to_owned());
    Workload {
        name: "fan-out",
        act: Act::Publish,
        publishers: (0..publishers).map(|_| Topics::One(topic.to_owned())).collect(),
        subscribers: (0..subscribers).map(|_| subscription.clone()).collect(),
        audience: u64::from(subscribers),
        extent: None,
        defaults: Defaults::default(),
    }
}
