use clap::{Args, value_parser};

use super::{Act, Defaults, Subscription, Topics, Workload};
use crate::arguments::Common;

/// Subscribers with large sets of wildcard filters, of which one matches.
///
/// Message p goes to `bench/wild/<p>/value`, and everybody subscribes to `bench/wild/+/value`. The
/// other filters begin in the same way, so that a broker has to look at them.
#[derive(Debug, Args)]
pub struct Wildcard {
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u32).range(1..))]
    publishers: u32,
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u32).range(1..))]
    subscribers: u32,
    /// Filters of each subscriber that match no message.
    #[arg(long, default_value_t = 1000)]
    #[arg(value_parser = value_parser!(u32).range(..=DECOYS_MAX))]
    decoys: u32,
    #[command(flatten)]
    pub(super) common: Common,
}

impl Wildcard {
    pub(super) fn workload(&self) -> Workload {
        Workload {
            name: "wildcard",
            act: Act::Publish,
            publishers: (0..self.publishers)
                .map(|id| Topics::One(format!("bench/wild/{id}/value")))
                .collect(),
            subscribers: (0..self.subscribers).map(|id| self.subscription(id)).collect(),
            audience: u64::from(self.subscribers),
            extent: None,
            defaults: Defaults::default(),
        }
    }

    fn subscription(&self, subscriber: u32) -> Subscription {
        let mut subscription =
            Subscription::to_all_of(0..self.publishers, "bench/wild/+/value".to_owned());
        let decoys = (0..self.decoys).map(|number| decoy(subscriber, number));
        subscription.filters.extend(decoys);
        subscription
    }
}

/// A filter that begins as those that match do, and does not match.
fn decoy(subscriber: u32, number: u32) -> String {
    match number % 4 {
        0 => format!("bench/wild/+/value/{subscriber}/{number}/#"),
        1 => format!("bench/+/+/value/{subscriber}-{number}"),
        2 => format!("+/wild/+/{subscriber}-{number}"),
        _ => format!("bench/wild/{number}/+/{subscriber}/#"),
    }
}

/// More would need more SUBSCRIBE packets than there are Packet Identifiers.
const DECOYS_MAX: i64 = 6_000_000;

#[cfg(test)]
mod tests {
    use ringmq::topic::{TopicFilter, TopicName};

    use super::*;

    #[test]
    fn decoys_are_filters_that_match_no_message() {
        for number in 0..40 {
            let filter = decoy(3, number);
            for publisher in 0..40 {
                let topic = format!("bench/wild/{publisher}/value");
                let name = TopicName::parse(&topic).unwrap();
                assert!(!TopicFilter::parse(&filter).unwrap().matches(name), "{filter}");
            }
        }
    }
}
