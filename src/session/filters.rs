//! The Topic Filters of a session, so that its subscriptions can be removed when it ends.

use hashbrown::HashTable;

use crate::base::hash::Seed;

/// A set of filters: a list while there are few, a hash table otherwise.
#[derive(Debug)]
pub enum Filters {
    Few(Vec<Box<str>>),
    Many(Box<Many>),
}

#[derive(Debug)]
pub struct Many {
    list: Vec<Box<str>>,
    /// Where each filter stands in the list, by its hash.
    places: HashTable<u32>,
    bytes: usize,
    seed: Seed,
}

impl Default for Filters {
    fn default() -> Filters {
        Filters::Few(Vec::new())
    }
}

/// How many filters a session may have, how many bytes of them, and how many patterns with a `+`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FiltersMax {
    pub count: usize,
    pub bytes: usize,
    pub patterns: usize,
}

/// Which limit of a session is reached. The filter was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FiltersFull {
    Filters,
    Patterns,
}

/// A list longer than this is hashed.
const FEW_MAX: usize = 16;

impl Filters {
    pub fn len(&self) -> usize {
        match self {
            Filters::Few(list) => list.len(),
            Filters::Many(many) => many.list.len(),
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
            Filters::Many(many) => many.place(filter).is_some(),
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
            return Err(FiltersFull::Filters);
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
                let places = HashTable::new();
                let mut many = Many { list: Vec::new(), places, bytes: 0, seed };
                list.drain(..).for_each(|held| many.add(held));
                many.add(filter.into());
                *self = Filters::Many(Box::new(many));
            }
            Filters::Many(many) => many.add(filter.into()),
        }
    }

    pub fn remove(&mut self, filter: &str) {
        match self {
            Filters::Few(list) => {
                if let Some(place) = list.iter().position(|held| **held == *filter) {
                    list.swap_remove(place);
                }
            }
            Filters::Many(many) => many.remove(filter),
        }
    }

    /// The filter at a place, if it is of a shared subscription. The last filter takes the place of
    /// one that is removed, and no other one changes its place.
    pub fn shared_at(&self, place: usize) -> Option<&str> {
        self.list().get(place).map(|filter| &**filter).filter(|filter| is_shared(filter))
    }

    /// Takes all filters out.
    pub fn take(&mut self) -> Vec<Box<str>> {
        match std::mem::take(self) {
            Filters::Few(list) => list,
            Filters::Many(many) => many.list,
        }
    }

    /// All of them, each in its place.
    pub fn list(&self) -> &[Box<str>] {
        match self {
            Filters::Few(list) => list,
            Filters::Many(many) => &many.list,
        }
    }
}

fn is_shared(filter: &str) -> bool {
    filter.starts_with("$share/")
}

impl Many {
    fn place(&self, filter: &str) -> Option<u32> {
        let is_it = |&place: &u32| *self.list[place as usize] == *filter;
        self.places.find(self.seed.hash(filter), is_it).copied()
    }

    fn add(&mut self, filter: Box<str>) {
        let Many { list, places, bytes, seed } = self;
        let place = u32::try_from(list.len()).expect("a session has fewer than 2^32 filters");
        *bytes += filter.len();
        let hash = seed.hash(&*filter);
        list.push(filter);
        places.insert_unique(hash, place, |&place| seed.hash(&*list[place as usize]));
    }

    fn remove(&mut self, filter: &str) {
        let Many { list, places, bytes, seed } = self;
        let is_it = |&place: &u32| *list[place as usize] == *filter;
        let Ok(found) = places.find_entry(seed.hash(filter), is_it) else { return };
        let (place, _) = found.remove();
        *bytes -= list.swap_remove(place as usize).len();
        // The last filter has taken the place, unless it was the last one itself.
        if let Some(moved) = list.get(place as usize) {
            let last = list.len();
            let entry = places.find_mut(seed.hash(&**moved), |&other| other as usize == last);
            *entry.expect("every filter has an entry") = place;
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
