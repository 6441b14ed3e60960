use clap::{Args, value_parser};

use super::{Act, Defaults, Subscription, Topics, Workload};
use crate::arguments::Common;

/// Pairs of one publisher and one subscriber, each pair with a topic of its own.
#[derive(Debug, Args)]
pub struct Pairs {
    #[arg(long, default_value_t = 100, value_parser = value_parser!(u32).range(1..))]
    pairs: u32,
    #[command(flatten)]
    pub(super) common: Common,
}

impl Pairs {
    pub(super) fn workload(&self) -> Workload {
        workload(self.pairs)
    }
}

pub(super) fn workload(pairs: u32) -> Workload {
    let topic = |id: u32| format!("bench/pair/{id}");
    Workload {
        name: "pairs",
        act: Act::Publish,
        publishers: (0..pairs).map(|id| Topics::One(topic(id))).collect(),
        subscribers: (0..pairs).map(|id| Subscription::to_all_of(id..id + 1, topic(id))).collect(),
        audience: 1,
        extent: None,
        defaults: Defaults::default(),
    }
}
