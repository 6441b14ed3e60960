use anyhow::Result;
use clap::{Args, value_parser};

use crate::{
    payload::SEQUENCES_MAX,
    request::{
        flags::LoadFlags,
        pacing::Extent,
        workload::{Act, Defaults, Subscription, Workload},
    },
};

/// All clients lose their connections at once, and reconnect together.
///
/// Each client subscribes to a topic of its own, before and after. This scenario counts
/// connections: --rate is connections per second, and latency is the time from when one was due
/// until its SUBACK.
#[derive(Debug, Args)]
pub struct Reconnect {
    #[arg(long, default_value_t = 1000)]
    #[arg(value_parser = value_parser!(u32).range(1..i64::from(SEQUENCES_MAX)))]
    connections: u32,
    #[command(flatten)]
    pub(super) flags: LoadFlags,
}

impl Reconnect {
    pub(super) fn workload(&self) -> Result<Workload> {
        let pattern = self.flags.topics.own("each client", "bench/reconnect/{id}")?;
        let subscription = |id| Subscription::to_nothing(vec![pattern.name(id)]);
        Ok(Workload {
            name: "reconnect",
            act: Act::Reconnect,
            publishers: Vec::new(),
            subscribers: (0..self.connections).map(subscription).collect(),
            audience: 1,
            extent: Some(Extent::Messages(1)),
            defaults: Defaults::default(),
        })
    }
}
