use anyhow::Result;
use clap::{Args, value_parser};

use crate::{
    payload::SEQUENCES_MAX,
    request::{
        flags::LoadFlags,
        pacing::Extent,
        topics::Topics,
        workload::{Act, Arrivals, Defaults, Reading, Subscription, Workload},
    },
};

/// Many idle connections, then one message to each.
///
/// Each client subscribes to `bench/{id}/x`. With --pid the summary has the memory that the
/// connections cost the broker.
#[derive(Debug, Args)]
pub struct Idle {
    #[arg(long, default_value_t = 10_000)]
    #[arg(value_parser = value_parser!(u32).range(1..i64::from(SEQUENCES_MAX)))]
    connections: u32,
    #[command(flatten)]
    pub(super) flags: LoadFlags,
}

impl Idle {
    pub(super) fn workload(&self) -> Result<Workload> {
        let pattern = self.flags.topics.own("each client", "bench/{id}/x")?;
        let subscription = |id| Subscription {
            filters: vec![pattern.name(id)],
            publishers: 0..1,
            sequences: id..id + 1,
            arrivals: Arrivals::InOrder,
            reading: Reading::Freely,
        };
        Ok(Workload {
            name: "idle",
            act: Act::Publish,
            subscribers: (0..self.connections).map(subscription).collect(),
            publishers: vec![Topics::Numbered(pattern)],
            audience: 1,
            extent: Some(Extent::Messages(self.connections)),
            defaults: Defaults::default(),
        })
    }
}
