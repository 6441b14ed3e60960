//! The Topic Filters that a session has subscribed to, so that they can be undone at its end.

use crate::base::hash::{Seed, Set};

/// A set of filters: a list while it is short, hashed beyond.
#[derive(Debug)]
pub enum Filters {
    Few(Vec<Box<str>>),
    Many(Box<Many>),
}

#[derive(Debug)]
pub struct Many {
    set: Set<Box<str>>,
    bytes: usize,
}

impl Default for Filters {
    fn default() -> Filters {
        Filters::Few(Vec::new())
    }
}

/// How many filters a session may have, and how many bytes of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FiltersMax {
    pub count: usize,
    pub bytes: usize,
}

/// The session has as many filters as it may; the filter was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FiltersFull;

/// A list longer than this is hashed.
const FEW_MAX: usize = 16;

impl Filters {
    pub fn len(&self) -> usize {
        match self {
            Filters::Few(list) => list.len(),
            Filters::Many(many) => many.set.len(),
        }
    }

    /// Bytes of all filters together.
    pub fn bytes(&self) -> usize {
        match self {
            Filters::Few(list) => list.iter().map(|filter| filter.len()).sum(),
            Filters::Many(many) => many.bytes,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn contains(&self, filter: &str) -> bool {
        match self {
            Filters::Few(list) => list.iter().any(|held| **held == *filter),
            Filters::Many(many) => many.set.contains(filter),
        }
    }

    /// Adds a filter that is not in the set yet, if there is room for it.
    pub fn try_add(
        &mut self,
        filter: &str,
        maximum: FiltersMax,
        seed: Seed,
    ) -> Result<(), FiltersFull> {
        if self.len() >= maximum.count || self.bytes() + filter.len() > maximum.bytes {
            return Err(FiltersFull);
        }
        self.add(filter, seed);
        Ok(())
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
                let bytes = list.iter().map(|filter| filter.len()).sum();
                let mut many = Many { set: Set::with_hasher(seed), bytes };
                many.set.extend(list.drain(..));
                many.add(filter);
                *self = Filters::Many(Box::new(many));
            }
            Filters::Many(many) => many.add(filter),
        }
    }

    pub fn remove(&mut self, filter: &str) {
        match self {
            Filters::Few(list) => list.retain(|held| **held != *filter),
            Filters::Many(many) => many.remove(filter),
        }
    }

    /// Those of shared subscriptions.
    pub fn shared(&self) -> Vec<Box<str>> {
        let all: &mut dyn Iterator<Item = &Box<str>> = match self {
            Filters::Few(list) => &mut list.iter(),
            Filters::Many(many) => &mut many.set.iter(),
        };
        all.filter(|filter| filter.starts_with("$share/")).cloned().collect()
    }

    /// Takes all of them out.
    pub fn take(&mut self) -> Vec<Box<str>> {
        match std::mem::take(self) {
            Filters::Few(list) => list,
            Filters::Many(many) => many.set.into_iter().collect(),
        }
    }
}

impl Many {
    fn add(&mut self, filter: &str) {
        self.set.insert(filter.into());
        self.bytes += filter.len();
    }

    fn remove(&mut self, filter: &str) {
        if self.set.remove(filter) {
            self.bytes -= filter.len();
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
            assert_eq!(filters.bytes(), names[..count].concat().len());
            assert!(!filters.contains(name));
            filters.add(name, Seed::new(1));
            assert!(filters.contains(name));
        }
        for name in &names[5..] {
            filters.remove(name);
            assert!(!filters.contains(name));
        }
        filters.remove("never there");
        assert_eq!(filters.bytes(), names[..5].concat().len());
        let mut left = filters.take();
        left.sort();
        assert_eq!(left.len(), 5);
        assert!(filters.is_empty());
    }
}
