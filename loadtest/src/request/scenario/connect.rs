use anyhow::Result;
use clap::{Args, value_parser};

use crate::{
    payload::SEQUENCES_MAX,
    request::{
        flags::LoadFlags,
        pacing::Extent,
        topics::TopicFlags,
        workload::{Act, Defaults, Subscription, Workload},
    },
};

/// Clients connect and stay connected.
///
/// This scenario counts connections: --rate is connections per second, and latency is the time from
/// when a connection was due until its CONNACK. Clients stay for --hold; --pid reports their cost.
#[derive(Debug, Args)]
pub struct Connect {
    #[arg(long, default_value_t = 10_000)]
    #[arg(value_parser = value_parser!(u32).range(1..i64::from(SEQUENCES_MAX)))]
    connections: u32,
    #[command(flatten)]
    pub(super) flags: LoadFlags,
}

impl Connect {
    pub(super) fn workload(&self) -> Result<Workload> {
        workload(&self.flags.topics, self.connections)
    }
}

pub(super) fn workload(topics: &TopicFlags, connections: u32) -> Result<Workload> {
    topics.refuse()?;
    Ok(Workload {
        name: "connect",
        act: Act::Connect,
        publishers: Vec::new(),
        subscribers: (0..connections).map(|_| Subscription::to_nothing(Vec::new())).collect(),
        audience: 1,
        extent: Some(Extent::Messages(1)),
        defaults: Defaults::default(),
    })
}
