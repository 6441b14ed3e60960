use anyhow::Result;
use clap::{Args, value_parser};

use crate::request::{
    flags::LoadFlags,
    topics::{ID, Pattern},
    workload::Workload,
};

/// Subscribers with large sets of wildcard filters, of which one matches.
///
/// Publisher p sends to `bench/wild/p/value`, and all subscribers subscribe to
/// `bench/wild/+/value`. The other filters begin like these topics, so that the broker has to check
/// them.
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
    pub(super) flags: LoadFlags,
}

impl Wildcard {
    pub(super) fn workload(&self) -> Result<Workload> {
        let topics = self.flags.topics.common(TOPIC)?;
        let mut workload =
            Workload::to_everybody("wildcard", &topics, self.publishers, self.subscribers);
        for (subscriber, subscription) in (0..).zip(&mut workload.subscribers) {
            let decoy = |number| decoy(&topics.pattern, subscriber, number);
            subscription.filters.extend((0..self.decoys).map(decoy));
        }
        Ok(workload)
    }
}

/// A filter that begins like one that matches, and does not match.
fn decoy(pattern: &Pattern, subscriber: u32, number: u32) -> String {
    let filter = pattern.filter();
    match number % 4 {
        0 => format!("{filter}/{subscriber}/{number}/#"),
        1 => format!("{}/{subscriber}-{number}", with_wildcard(pattern, 1)),
        2 => with_another_end(&with_wildcard(pattern, 0), &format!("{subscriber}-{number}")),
        _ => format!("{}/+/{subscriber}/#", pattern.name(number)),
    }
}

/// The filter of all names, in which the level at `place` is a wildcard, too.
fn with_wildcard(pattern: &Pattern, place: usize) -> String {
    let levels = pattern.levels().enumerate();
    let levels = levels.map(|(at, level)| if at == place || level == ID { "+" } else { level });
    levels.collect::<Vec<_>>().join("/")
}

/// The same filter with another last level, which no Topic Name of a message has.
fn with_another_end(filter: &str, end: &str) -> String {
    match filter.rsplit_once('/') {
        Some((front, "+")) => format!("{front}/{end}"),
        Some((front, last)) => format!("{front}/{last}-{end}"),
        None => end.to_owned(),
    }
}

const TOPIC: &str = "bench/wild/{id}/value";

/// More would need more SUBSCRIBE packets than there are Packet Identifiers.
const DECOYS_MAX: i64 = 6_000_000;

#[cfg(test)]
mod tests {
    use ringmq::topic::{TopicFilter, TopicName};

    use super::*;

    #[test]
    fn decoys_are_filters_that_match_no_message() {
        for pattern in [TOPIC, "{id}", "a", "a/{id}", "{id}/3-5", "{id}/{id}", "/{id}//"] {
            let pattern: Pattern = pattern.parse().unwrap();
            for (number, publisher) in (0..40).flat_map(|n| (0..40).map(move |p| (n, p))) {
                let (filter, topic) = (decoy(&pattern, 3, number), pattern.name(publisher));
                let name = TopicName::parse(&topic).unwrap();
                assert!(!TopicFilter::parse(&filter).unwrap().matches(name), "{filter} {topic}");
            }
        }
    }
}
