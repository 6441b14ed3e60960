//! A hash table in many small parts. When it grows, only one part moves its entries, so that no
//! single subscription pays for moving a million of them.

use hashbrown::HashTable;

/// Numbers of values that are kept elsewhere, found by the hash of the value.
#[derive(Debug)]
pub(super) struct Index<T> {
    parts: Box<[HashTable<T>; PARTS]>,
}

impl<T> Default for Index<T> {
    fn default() -> Index<T> {
        Index { parts: Box::new([const { HashTable::new() }; PARTS]) }
    }
}

impl<T: Copy + PartialEq> Index<T> {
    #[inline]
    pub(super) fn find(&self, hash: u64, is_meant: impl FnMut(&T) -> bool) -> Option<T> {
        self.parts[part(hash)].find(hash, is_meant).copied()
    }

    /// All values with this hash, and maybe others.
    #[inline]
    pub(super) fn all(&self, hash: u64) -> impl Iterator<Item = T> {
        self.parts[part(hash)].iter_hash(hash).copied()
    }

    /// Adds a value. `rehash` returns the hash of a value in the index.
    pub(super) fn insert(&mut self, hash: u64, value: T, rehash: impl Fn(&T) -> u64) {
        self.parts[part(hash)].insert_unique(hash, value, rehash);
    }

    /// Removes a value with this hash, once. `rehash` returns the hash of a value that stays.
    /// False: it is not there.
    pub(super) fn remove(&mut self, hash: u64, value: T, rehash: impl Fn(&T) -> u64) -> bool {
        let part = &mut self.parts[part(hash)];
        let Ok(found) = part.find_entry(hash, |&other| other == value) else { return false };
        found.remove();
        if part.capacity() > SPARE_MIN && part.len() < part.capacity() / 8 {
            part.shrink_to(part.len() * 2, rehash);
        }
        true
    }
}

/// The table takes its places from the lowest bits and its tags from the highest.
#[inline]
fn part(hash: u64) -> usize {
    (hash >> 32) as usize % PARTS
}

const PARTS: usize = 256;
/// A part keeps memory for this many entries.
const SPARE_MIN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash::Seed;

    #[test]
    fn values_are_found_until_they_are_removed() {
        let (mut index, seed) = (Index::default(), Seed::new(1));
        let hash = |value: &u32| seed.hash(value);
        for value in 0..50_000u32 {
            index.insert(hash(&value), value, hash);
        }
        for value in (0..50_000).filter(|value| value % 10 > 0) {
            index.remove(hash(&value), value, hash);
        }
        for value in 0..50_000 {
            let found = index.find(hash(&value), |&other| other == value);
            assert_eq!(found, (value % 10 == 0).then_some(value));
        }
    }
}
