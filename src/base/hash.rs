//! Hash maps with a given seed, so that a run can be replayed. The seed of a broker is secret, so
//! that clients cannot guess which keys collide.

use std::hash::{BuildHasher, Hash};

use foldhash::{SharedSeed, fast::SeedableRandomState};

/// A hash map with a given [`Seed`].
pub type Map<K, V> = hashbrown::HashMap<K, V, Seed>;
/// A hash set with a given [`Seed`].
pub type Set<K> = hashbrown::HashSet<K, Seed>;

/// The seed of a hash. All shards of a broker share one, chosen at random when it starts.
#[derive(Clone, Copy, Debug)]
pub struct Seed(u64);

impl Seed {
    pub const fn new(value: u64) -> Seed {
        Seed(value)
    }

    /// The hash of one value.
    pub fn hash<T: Hash + ?Sized>(self, value: &T) -> u64 {
        self.hash_one(value)
    }
}

impl BuildHasher for Seed {
    type Hasher = <SeedableRandomState as BuildHasher>::Hasher;

    #[inline]
    fn build_hasher(&self) -> Self::Hasher {
        SeedableRandomState::with_seed(self.0, SharedSeed::global_fixed()).build_hasher()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_hashes_alike_every_time_and_unlike_another() {
        let seed = Seed::new(7);
        assert_eq!(seed.hash("a/b"), Seed::new(7).hash("a/b"));
        assert_ne!(seed.hash("a/b"), Seed::new(8).hash("a/b"));
    }
}
