//! Tries full of filters of one shape, and names of which each matches exactly one of them.

use ringmq::{
    base::{hash::Seed, ids::SubscriberId},
    routing::{Entry, Matches, Options, Trie},
    topic::{OwnedTopicFilter, OwnedTopicName, TopicFilter, TopicName},
};

/// How the filters look, and a name that matches the one with the same number.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    filter: fn(u32) -> String,
    topic: fn(u32) -> String,
}

pub(crate) const SHAPES: [Shape; 4] = [
    Shape {
        name: "exact",
        filter: |number| format!("site/{number}/temperature"),
        topic: |number| format!("site/{number}/temperature"),
    },
    Shape {
        name: "one +",
        filter: |number| format!("site/+/{number}"),
        topic: |number| format!("site/7/{number}"),
    },
    Shape {
        name: "#",
        filter: |number| format!("site/{number}/#"),
        topic: |number| format!("site/{number}/temperature"),
    },
    Shape {
        name: "eight levels",
        filter: |number| format!("site/7/building/2/floor/3/room/{number}"),
        topic: |number| format!("site/7/building/2/floor/3/room/{number}"),
    },
];

impl Shape {
    pub(crate) fn filters(&self, count: u32) -> impl Iterator<Item = OwnedTopicFilter> {
        (0..count).map(|number| filter(&(self.filter)(number)).into())
    }
}

/// A trie with so many filters, each with one subscriber.
pub(crate) struct Forest {
    pub(crate) trie: Trie,
    matches: Matches,
    names: Vec<OwnedTopicName>,
    next: usize,
}

impl Forest {
    pub(crate) fn new(shape: &Shape, filters: u32) -> Forest {
        let mut trie = Trie::new(Seed::new(1));
        for (number, filter) in (0..).zip(shape.filters(filters)) {
            trie.subscribe(filter.as_filter(), entry(number));
        }
        let names = (0..filters.min(NAMES_MAX)).map(|nth| {
            let topic = (shape.topic)(nth * STRIDE % filters);
            TopicName::parse(&topic).expect("the names have no wildcards").into()
        });
        Forest { trie, matches: Matches::default(), names: names.collect(), next: 0 }
    }

    /// Matches one name, every time another one.
    pub(crate) fn match_next(&mut self) {
        self.next = (self.next + 1) % self.names.len();
        self.trie.matches(self.names[self.next].as_name(), &mut self.matches);
        assert_eq!(self.matches.targets().len(), 1);
    }
}

pub(crate) fn filter(text: &str) -> TopicFilter<'_> {
    TopicFilter::parse(text).expect("the filters are valid")
}

pub(crate) fn entry(subscriber: u32) -> Entry {
    Entry { subscriber: SubscriberId(subscriber), options: Options(0), subscription_id: 0 }
}

/// Enough names that their nodes do not all stay in the nearest cache.
const NAMES_MAX: u32 = 4096;
/// A prime, so that neighbours among the names are none among the filters.
const STRIDE: u32 = 7919;
