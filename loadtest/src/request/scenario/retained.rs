use anyhow::Result;
use clap::{Args, value_parser};
use ringmq::base::time::Span;

use crate::{
    payload::SEQUENCES_MAX,
    request::{
        flags::LoadFlags,
        pacing::{Extent, parse_span},
        topics::Topics,
        workload::{Act, Arrivals, Defaults, Reading, Subscription, Workload},
    },
};

/// All subscribers subscribe to retained messages at the same moment.
///
/// The messages are published first, one to each topic, and are removed at the end. This scenario
/// measures their replay: latency is the time from the subscription until the message arrives.
#[derive(Debug, Args)]
pub struct Retained {
    #[arg(long, default_value_t = 1000)]
    #[arg(value_parser = value_parser!(u32).range(1..i64::from(SEQUENCES_MAX)))]
    messages: u32,
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u32).range(1..))]
    subscribers: u32,
    /// Time that the broker has to store the messages before the subscribers subscribe.
    #[arg(long, default_value = "500ms", value_parser = parse_span)]
    settle: Span,
    #[command(flatten)]
    pub(super) flags: LoadFlags,
}

impl Retained {
    pub(super) fn workload(&self) -> Result<Workload> {
        let pattern = self.flags.topics.own("each message", "bench/retained/{id}")?;
        let subscription = Subscription {
            filters: vec![pattern.filter()],
            publishers: 0..1,
            sequences: 0..self.messages,
            arrivals: Arrivals::AnyOrder,
            reading: Reading::Freely,
        };
        Ok(Workload {
            name: "retained",
            act: Act::Replay { settle: self.settle },
            publishers: vec![Topics::Numbered(pattern)],
            subscribers: (0..self.subscribers).map(|_| subscription.clone()).collect(),
            audience: u64::from(self.subscribers),
            extent: Some(Extent::Messages(self.messages)),
            defaults: Defaults::default(),
        })
    }
}
