use clap::{Args, value_parser};

use super::{Act, Defaults, Subscription, Topics, Workload};
use crate::arguments::Common;

/// Many publishers, each with a topic of its own, and few subscribers to all of them.
#[derive(Debug, Args)]
pub struct FanIn {
    #[arg(long, default_value_t = 50, value_parser = value_parser!(u32).range(1..))]
    publishers: u32,
    /// Without any, the messages go nowhere.
    #[arg(long, default_value_t = 1)]
    subscribers: u32,
    #[command(flatten)]
    pub(super) common: Common,
}

impl FanIn {
    pub(super) fn workload(&self) -> Workload {
        workload(self.publishers, self.subscribers)
    }
}

pub(super) fn workload(publishers: u32, subscribers: u32) -> Workload {
    let subscription = Subscription::to_all_of(0..publishers, "bench/in/+".to_owned());
    Workload {
        name: "fan-in",
        act: Act::Publish,
        publishers: (0..publishers).map(|id| Topics::One(format!("bench/in/{id}"))).collect(),
        subscribers: (0..subscribers).map(|_| subscription.clone()).collect(),
        audience: u64::from(subscribers),
        extent: None,
        defaults: Defaults::default(),
    }
}
