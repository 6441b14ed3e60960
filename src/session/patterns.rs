//! How many ways a Topic Name may take through the `+` of a session's Topic Filters.
//!
//! A pattern is how some levels at the beginning of a filter are: each is text or `+`. A name leads
//! to at most one node of the trie for each pattern, so the number of patterns bounds the time that
//! the filters of a session add to a message. Fleets have many filters of few patterns.

use crate::{
    base::hash::{Map, Seed},
    topic::TopicFilter,
};

/// The patterns with a `+` of the filters of one session, and how many filters have each. A session
/// without such filters takes memory for a pointer.
#[derive(Debug, Default)]
pub(super) struct Patterns(Option<Box<Map<u64, u32>>>);

impl Patterns {
    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |counts| counts.len())
    }

    /// Adds the patterns of a filter. False: there would be more than `maximum`, and none was
    /// added. Patterns beyond a lowered limit stay.
    pub(super) fn try_add(&mut self, filter: TopicFilter<'_>, maximum: usize, seed: Seed) -> bool {
        let is_new = |key: &u64| !self.0.as_ref().is_some_and(|counts| counts.contains_key(key));
        let new = keys(filter, seed).filter(is_new).count();
        if new > 0 && self.len() + new > maximum {
            return false;
        }
        for key in keys(filter, seed) {
            let counts = self.0.get_or_insert_with(|| Box::new(Map::with_hasher(seed)));
            *counts.entry(key).or_default() += 1;
        }
        true
    }

    /// Removes the patterns of a filter that was added.
    pub(super) fn remove(&mut self, filter: TopicFilter<'_>, seed: Seed) {
        let Some(counts) = &mut self.0 else { return };
        for key in keys(filter, seed) {
            let count = counts.get_mut(&key).expect("the filter was added");
            *count -= 1;
            if *count == 0 {
                counts.remove(&key);
            }
        }
        self.0.take_if(|counts| counts.is_empty());
    }
}

/// A number for each beginning of a filter that has a `+`. Numbers that collide by chance count as
/// one.
fn keys(filter: TopicFilter<'_>, seed: Seed) -> impl Iterator<Item = u64> {
    let levels = filter.levels().take_while(|level| *level != "#");
    let beginnings = levels.scan((0u64, false), move |(key, wild), level| {
        let is_plus = level == "+";
        *key = seed.hash(&(*key, is_plus));
        *wild |= is_plus;
        Some((*key, *wild))
    });
    beginnings.filter_map(|(key, wild)| wild.then_some(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: Seed = Seed::new(1);

    fn filter(text: &str) -> TopicFilter<'_> {
        TopicFilter::parse(text).unwrap()
    }

    #[test]
    fn beginnings_with_a_plus_are_counted_and_their_texts_are_not_told_apart() {
        let mut patterns = Patterns::default();
        for (text, count) in [
            ("a/b/c", 0),
            ("a/#", 0),
            ("+/a", 2),
            ("+/b", 2),
            ("+/b/#", 2),
            ("+/+", 3),
            ("a/+", 4),
            ("longer/+/c/d", 6),
        ] {
            assert!(patterns.try_add(filter(text), 6, SEED), "{text}");
            assert_eq!(patterns.len(), count, "{text}");
        }
        assert!(!patterns.try_add(filter("a/b/+"), 6, SEED));
        assert!(patterns.try_add(filter("b/+/x"), 0, SEED), "it adds none");
        assert_eq!(patterns.len(), 6);
    }

    #[test]
    fn a_pattern_lasts_as_long_as_a_filter_has_it() {
        let mut patterns = Patterns::default();
        for text in ["+/a", "+/b", "+"] {
            assert!(patterns.try_add(filter(text), 9, SEED));
        }
        for (text, count) in [("+/a", 2), ("+/b", 1), ("+", 0)] {
            patterns.remove(filter(text), SEED);
            assert_eq!(patterns.len(), count, "{text}");
        }
        assert!(patterns.0.is_none());
    }

    /// The fleet of a large site; all beginnings of all filters of `a` and `+` over 16 levels.
    #[test]
    fn fleets_have_few_patterns_and_bombs_have_many() {
        let mut fleet = Patterns::default();
        for n in 0..1_000 {
            for text in [format!("site/{n}/+/status"), format!("site/+/{n}/#"), format!("+/{n}/+")]
            {
                assert!(fleet.try_add(filter(&text), 10, SEED));
            }
        }
        assert_eq!(fleet.len(), 7);
        let mut bomb = Patterns::default();
        let level = |number: u32, bit: u32| if number >> bit & 1 == 1 { "+" } else { "a" };
        for number in 0..1u32 << 16 {
            let levels: Vec<&str> = (0..16).map(|bit| level(number, bit)).collect();
            bomb.try_add(filter(&levels.join("/")), 512, SEED);
        }
        assert!(bomb.len() <= 512);
    }
}
