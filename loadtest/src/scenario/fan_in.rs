use std::sync::Arc;

use clap::{Args, value_parser};

use super::{Act, Arrivals, Defaults, Dice, Pattern, Subscription, Topics, Workload};
use crate::arguments::Common;

/// Many publishers, each with a topic of its own, and few subscribers to all of them.
///
/// With --topics each message goes to one of so many instead.
#[derive(Debug, Args)]
pub struct FanIn {
    #[arg(long, default_value_t = 50, value_parser = value_parser!(u32).range(1..))]
    publishers: u32,
    /// Without any, the messages go nowhere.
    #[arg(long, default_value_t = 1)]
    subscribers: u32,
    /// The topic, with `{id}` for the publisher's number, or the number that was drawn.
    #[arg(long, default_value = TOPIC)]
    topic: Pattern,
    /// Topics that each message has the choice of.
    #[arg(long, value_parser = value_parser!(u32).range(1..=TOPICS_MAX))]
    topics: Option<u32>,
    /// How much more often the first of the topics are chosen: topic n as often as 1/n^s.
    #[arg(long, value_name = "S", default_value_t = 0.0, requires = "topics")]
    zipf: f64,
    #[command(flatten)]
    pub(super) common: Common,
}

impl FanIn {
    pub(super) fn workload(&self) -> Workload {
        let workload = workload(&self.topic, self.publishers, self.subscribers);
        match self.topics {
            None => workload,
            Some(topics) => self.spread(workload, topics),
        }
    }

    fn spread(&self, mut workload: Workload, topics: u32) -> Workload {
        let dice = Arc::new(Dice::zipf(topics, self.zipf));
        for publisher in &mut workload.publishers {
            *publisher = Topics::Drawn(self.topic.clone(), Arc::clone(&dice));
        }
        for subscriber in &mut workload.subscribers {
            subscriber.arrivals = Arrivals::AnyOrder;
        }
        workload
    }
}

/// With the usual topics.
pub(super) fn usual(publishers: u32, subscribers: u32) -> Workload {
    workload(&Pattern::new(TOPIC), publishers, subscribers)
}

fn workload(topic: &Pattern, publishers: u32, subscribers: u32) -> Workload {
    let subscription = Subscription::to_all_of(0..publishers, topic.filter());
    Workload {
        name: "fan-in",
        act: Act::Publish,
        publishers: (0..publishers).map(|id| Topics::One(topic.name(id))).collect(),
        subscribers: (0..subscribers).map(|_| subscription.clone()).collect(),
        audience: u64::from(subscribers),
        extent: None,
        defaults: Defaults::default(),
    }
}

const TOPIC: &str = "bench/in/{id}";

const TOPICS_MAX: i64 = 10_000_000;
