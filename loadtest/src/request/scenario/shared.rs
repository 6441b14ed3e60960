use anyhow::Result;
use clap::{Args, value_parser};

use crate::request::{
    flags::LoadFlags,
    topics::TopicFlags,
    workload::{Act, Arrivals, Defaults, Subscription, Workload},
};

/// Publishers, each with a topic of its own, and one group that shares all their messages.
///
/// Each message goes to exactly one member. The specification has Shared Subscriptions since 5.0;
/// many brokers support them in earlier versions, too.
#[derive(Debug, Args)]
pub struct Shared {
    #[arg(long, default_value_t = 50, value_parser = value_parser!(u32).range(1..))]
    publishers: u32,
    /// Members of the group.
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u32).range(1..))]
    subscribers: u32,
    /// The Share Name.
    #[arg(long, default_value = "load", value_parser = parse_share_name)]
    group: String,
    #[command(flatten)]
    pub(super) flags: LoadFlags,
}

impl Shared {
    pub(super) fn workload(&self) -> Result<Workload> {
        workload(&self.flags.topics, self.publishers, self.subscribers, &self.group)
    }
}

pub(super) fn workload(
    topics: &TopicFlags,
    publishers: u32,
    subscribers: u32,
    group: &str,
) -> Result<Workload> {
    let topics = topics.common("bench/shared/{id}")?;
    let filter = format!("$share/{group}/{}", topics.filter());
    let subscription = Subscription {
        arrivals: Arrivals::Pooled,
        ..Subscription::to_all_of(0..publishers, filter)
    };
    Ok(Workload {
        name: "shared",
        act: Act::Publish,
        publishers: topics.of_publishers(publishers),
        subscribers: (0..subscribers).map(|_| subscription.clone()).collect(),
        audience: 1,
        extent: None,
        defaults: Defaults::default(),
    })
}

/// [MQTT-4.8.2-1] [MQTT-4.8.2-2]
fn parse_share_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(['/', '+', '#']) {
        return Err("a Share Name has characters, but none of / + #".to_owned());
    }
    Ok(text.to_owned())
}
