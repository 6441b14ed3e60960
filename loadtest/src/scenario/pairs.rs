use clap::{Args, value_parser};

use super::{Act, Defaults, Pattern, Subscription, Topics, Workload};
use crate::arguments::Common;

/// Pairs of one publisher and one subscriber, each pair with a topic of its own.
#[derive(Debug, Args)]
pub struct Pairs {
    #[arg(long = "pairs", value_name = "PAIRS")]
    #[arg(default_value_t = 100, value_parser = value_parser!(u32).range(1..))]
    number: u32,
    /// The topic, with `{id}` for the pair's number.
    #[arg(long, default_value = TOPIC)]
    topic: Pattern,
    #[command(flatten)]
    pub(super) common: Common,
}

impl Pairs {
    pub(super) fn workload(&self) -> Workload {
        workload(&self.topic, self.number)
    }
}

/// With the usual topics.
pub(super) fn usual(pairs: u32) -> Workload {
    workload(&Pattern::new(TOPIC), pairs)
}

fn workload(topic: &Pattern, pairs: u32) -> Workload {
    let subscription = |id| Subscription::to_all_of(id..id + 1, topic.name(id));
    Workload {
        name: "pairs",
        act: Act::Publish,
        publishers: (0..pairs).map(|id| Topics::One(topic.name(id))).collect(),
        subscribers: (0..pairs).map(subscription).collect(),
        audience: 1,
        extent: None,
        defaults: Defaults::default(),
    }
}

const TOPIC: &str = "bench/pair/{id}";
