use anyhow::Result;
use clap::{Args, value_parser};

use crate::request::{
    flags::LoadFlags,
    topics::{TopicFlags, Topics},
    workload::{Act, Defaults, Subscription, Workload},
};

/// Pairs of one publisher and one subscriber, each pair with a topic of its own.
#[derive(Debug, Args)]
pub struct Pairs {
    #[arg(long = "pairs", value_name = "PAIRS")]
    #[arg(default_value_t = 100, value_parser = value_parser!(u32).range(1..))]
    number: u32,
    #[command(flatten)]
    pub(super) flags: LoadFlags,
}

impl Pairs {
    pub(super) fn workload(&self) -> Result<Workload> {
        workload(&self.flags.topics, self.number)
    }
}

pub(super) fn workload(topics: &TopicFlags, pairs: u32) -> Result<Workload> {
    let topic = topics.own("each pair", "bench/pair/{id}")?;
    let subscription = |id| Subscription::to_all_of(id..id + 1, topic.name(id));
    Ok(Workload {
        name: "pairs",
        act: Act::Publish,
        publishers: (0..pairs).map(|id| Topics::One(topic.name(id))).collect(),
        subscribers: (0..pairs).map(subscription).collect(),
        audience: 1,
        extent: None,
        defaults: Defaults::default(),
    })
}
