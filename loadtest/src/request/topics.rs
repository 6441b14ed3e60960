//! The topics of messages.

use std::{str::FromStr, sync::Arc};

use anyhow::{Result, ensure};
use clap::{Args, value_parser};
use ringmq::topic::TopicName;

use crate::payload::scatter;

/// The flags that say where messages go. Each scenario says what they mean in it.
#[derive(Debug, Default, Args)]
pub struct TopicFlags {
    /// The topic. `{id}` stands for the number of the publisher, or with --topics for the number
    /// that was chosen; for `pairs`, `retained` and `idle` it is the number of each pair, message
    /// or client [default: the scenario's]
    #[arg(long)]
    topic: Option<Pattern>,
    /// How many topics each message can go to, in scenarios whose publishers all have the same
    /// subscribers.
    #[arg(long, value_parser = value_parser!(u32).range(1..=TOPICS_MAX))]
    topics: Option<u32>,
    /// How uneven the choice among --topics is: topic n is chosen in proportion to 1/n^S, and with
    /// 0 all topics are chosen equally often.
    #[arg(long, value_name = "S", default_value_t = 0.0, requires = "topics")]
    zipf: f64,
}

impl TopicFlags {
    /// The topics of publishers whose messages all go to the same subscribers.
    pub(super) fn common(&self, default: &str) -> Result<CommonTopics> {
        let Some(topics) = self.topics else {
            return Ok(CommonTopics { pattern: self.pattern(default), choice: None });
        };
        let numbered =
            if default.contains(ID) { default.to_owned() } else { format!("{default}/{ID}") };
        let pattern = self.pattern(&numbered);
        ensure!(pattern.has_id(), "--topics needs {ID} in the --topic");
        Ok(CommonTopics { pattern, choice: Some(Arc::new(TopicChoice::zipf(topics, self.zipf))) })
    }

    /// A topic for each of `whose`, by its number.
    pub(super) fn own(&self, whose: &str, default: &str) -> Result<Pattern> {
        ensure!(self.topics.is_none(), "{whose} has one topic of its own: no --topics");
        let pattern = self.pattern(default);
        ensure!(pattern.has_id(), "{whose} has a topic of its own: --topic needs {ID}");
        Ok(pattern)
    }

    /// For scenarios without messages.
    pub(super) fn refuse(&self) -> Result<()> {
        let none = self.topic.is_none() && self.topics.is_none();
        ensure!(none, "nothing is published or subscribed to: no --topic and no --topics");
        Ok(())
    }

    fn pattern(&self, default: &str) -> Pattern {
        self.topic.clone().unwrap_or_else(|| Pattern::new(default))
    }
}

/// The topics of publishers whose messages all go to the same subscribers.
#[derive(Debug)]
pub(super) struct CommonTopics {
    pub(super) pattern: Pattern,
    choice: Option<Arc<TopicChoice>>,
}

impl CommonTopics {
    pub(super) fn of_publishers(&self, publishers: u32) -> Vec<Topics> {
        let topics = |id| match &self.choice {
            None => Topics::One(self.pattern.name(id)),
            Some(choice) => Topics::Chosen(self.pattern.clone(), Arc::clone(choice)),
        };
        (0..publishers).map(topics).collect()
    }

    /// The filter of a subscriber that receives everything.
    pub(super) fn filter(&self) -> String {
        self.pattern.filter()
    }

    /// A publisher's messages go to several topics.
    pub(super) fn is_chosen(&self) -> bool {
        self.choice.is_some()
    }
}

/// Where a publisher's messages go.
#[derive(Clone, Debug)]
pub enum Topics {
    One(String),
    /// Message n goes to topic n.
    Numbered(Pattern),
    /// Each message goes to a topic that is chosen for it.
    Chosen(Pattern, Arc<TopicChoice>),
}

impl Topics {
    pub fn name(&self, publisher: u32, sequence: u32) -> String {
        match self {
            Topics::One(topic) => topic.clone(),
            Topics::Numbered(pattern) => pattern.name(sequence),
            Topics::Chosen(pattern, choice) => pattern.name(choice.choose(publisher, sequence)),
        }
    }
}

/// A Topic Name, or many that differ in one number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    pub fn new(text: &str) -> Pattern {
        Pattern(text.to_owned())
    }

    pub fn name(&self, id: u32) -> String {
        self.0.replace(ID, &id.to_string())
    }

    fn has_id(&self) -> bool {
        self.0.contains(ID)
    }

    pub(super) fn levels(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The filter of all names.
    pub fn filter(&self) -> String {
        self.0.replace(ID, "+")
    }
}

/// Reads the --topic flag: a Topic Name in which whole levels may be `{id}`.
impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Pattern, String> {
        let (mut levels, parts) = (text.split('/'), text.matches(ID).count());
        let whole = levels.by_ref().filter(|level| *level == ID).count();
        match TopicName::parse(text) {
            Ok(_) if whole == parts => Ok(Pattern::new(text)),
            _ => Err(format!("a topic has {ID} as a whole level or not at all, and no wildcards")),
        }
    }
}

/// Chooses a number below a limit for each message: the n-th number, counted from one, in
/// proportion to 1/n^s.
#[derive(Debug)]
pub struct TopicChoice {
    /// For each number, the part of all messages that get this number or one before it.
    shares: Vec<f64>,
}

impl TopicChoice {
    /// With an exponent of zero all numbers come equally often.
    pub fn zipf(numbers: u32, exponent: f64) -> TopicChoice {
        let mut sum = 0.0;
        let weights = (1..=numbers).map(|number| f64::from(number).powf(-exponent));
        let mut shares: Vec<f64> = weights
            .map(|weight| {
                sum += weight;
                sum
            })
            .collect();
        for share in &mut shares {
            *share /= sum;
        }
        TopicChoice { shares }
    }

    /// The same number for the same message, in every run.
    pub fn choose(&self, publisher: u32, sequence: u32) -> u32 {
        let random = scatter(u64::from(publisher) << 32 | u64::from(sequence)) >> 32;
        let point =
            f64::from(u32::try_from(random).unwrap_or_default()) / (f64::from(u32::MAX) + 1.0);
        let number = self.shares.partition_point(|share| *share <= point);
        u32::try_from(number.min(self.shares.len() - 1)).unwrap_or_default()
    }
}

/// Stands for the number in a pattern.
pub(super) const ID: &str = "{id}";

const TOPICS_MAX: i64 = 10_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_has_the_number_as_a_level() {
        let pattern: Pattern = "house/{id}/heat".parse().unwrap();
        assert_eq!(pattern.name(7), "house/7/heat");
        assert_eq!(pattern.filter(), "house/+/heat");
        assert_eq!("a/b".parse::<Pattern>().unwrap().filter(), "a/b");
        for wrong in ["", "a/x{id}", "{id}/x{id}", "+/{id}", "{id}/#"] {
            assert!(wrong.parse::<Pattern>().is_err(), "{wrong}");
        }
    }

    /// Chooses 40,000 times among four numbers, and compares how often each came.
    fn check(exponent: f64, expected: [u32; 4]) {
        let (choice, mut counts) = (TopicChoice::zipf(4, exponent), [0; 4]);
        for sequence in 0..40_000 {
            counts[choice.choose(3, sequence) as usize] += 1;
        }
        for (count, expected) in counts.into_iter().zip(expected) {
            assert!(expected.abs_diff(count) < 400, "{counts:?}");
        }
    }

    #[test]
    fn numbers_come_as_often_as_the_exponent_says() {
        check(0.0, [10_000; 4]);
        // 1, 1/2, 1/3 and 1/4 of 40,000 by their sum, 25/12.
        check(1.0, [19_200, 9600, 6400, 4800]);
    }

    #[test]
    fn one_number_is_always_chosen() {
        let choice = TopicChoice::zipf(1, 1.5);
        assert!((0..100).all(|sequence| choice.choose(0, sequence) == 0));
    }
}
