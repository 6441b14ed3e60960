//! The Topic Filters that a session has subscribed to, so that they can be undone at its end.

use crate::base::hash::{Seed, Set};

/// A set of filters: a list while it is short, hashed beyond.
#[derive(Debug)]
pub enum Filters {
    Few(Vec<Box<str>>),
    Many(Box<Set<Box<str>>>),
}

impl Default for Filters {
    fn default() -> Filters {
        Filters::Few(Vec::new())
    }
}

/// A list longer than this is hashed.
const FEW_MAX: usize = 16;

impl Filters {
    pub fn len(&self) -> usize {
        match self {
            Filters::Few(list) => list.len(),
            Filters::Many(set) => set.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn contains(&self, filter: &str) -> bool {
        match self {
            Filters::Few(list) => list.iter().any(|held| **held == *filter),
            Filters::Many(set) => set.contains(filter),
        }
    }

    /// Adds a filter that is not in the set yet.
    pub fn add(&mut self, filter: &str, seed: Seed) {
        debug_assert!(!self.contains(filter), "the session said that it was new");
        match self {
            Filters::Few(list) if list.len() < FEW_MAX => {
                list.reserve_exact(1);
                list.push(filter.into());
            }
            Filters::Few(list) => {
                let mut set = Set::with_hasher(seed);
                set.extend(list.drain(..));
                set.insert(filter.into());
                *self = Filters::Many(Box::new(set));
            }
            Filters::Many(set) => {
                set.insert(filter.into());
            }
        }
    }

    pub fn remove(&mut self, filter: &str) {
        match self {
            Filters::Few(list) => list.retain(|held| **held != *filter),
            Filters::Many(set) => {
                set.remove(filter);
            }
        }
    }

    /// Those of shared subscriptions.
    pub fn shared(&self) -> Vec<Box<str>> {
        let all: &mut dyn Iterator<Item = &Box<str>> = match self {
            Filters::Few(list) => &mut list.iter(),
            Filters::Many(set) => &mut set.iter(),
        };
        all.filter(|filter| filter.starts_with("$share/")).cloned().collect()
    }

    /// Takes all of them out.
    pub fn take(&mut self) -> Vec<Box<str>> {
        match std::mem::take(self) {
            Filters::Few(list) => list,
            Filters::Many(set) => set.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_set_on_both_sides_of_the_threshold() {
        let names: Vec<String> = (0..FEW_MAX * 3).map(|n| format!("a/{n}")).collect();
        let mut filters = Filters::default();
        for (count, name) in names.iter().enumerate() {
            assert_eq!(filters.len(), count);
            assert!(!filters.contains(name));
            filters.add(name, Seed::new(1));
            assert!(filters.contains(name));
        }
        for name in &names[5..] {
            filters.remove(name);
            assert!(!filters.contains(name));
        }
        let mut left = filters.take();
        left.sort();
        assert_eq!(left.len(), 5);
        assert!(filters.is_empty());
    }
}
