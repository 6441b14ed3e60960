//! Identifiers: small numbers that are cheap to copy.

use std::fmt;

/// The most shards that one broker runs: a [`ShardSet`] has so many bits.
pub const SHARDS_MAX: usize = 128;

/// One shard, counted from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(u8);

impl ShardId {
    pub const FIRST: ShardId = ShardId(0);

    /// The shard with this index, if there can be one.
    pub fn new(index: usize) -> Option<ShardId> {
        let small = u8::try_from(index).ok()?;
        (index < SHARDS_MAX).then_some(ShardId(small))
    }

    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// All shards of a broker with `count` of them, in order.
    pub fn all(count: usize) -> impl Iterator<Item = ShardId> + Clone {
        (0..count).filter_map(ShardId::new)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A set of shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardSet(u128);

impl ShardSet {
    pub const EMPTY: ShardSet = ShardSet(0);

    pub fn insert(&mut self, shard: ShardId) {
        // A shift of 128 bits would take twice as many instructions.
        let bit = u128::from(1_u64 << (shard.0 % 64));
        self.0 |= if shard.0 < 64 { bit } else { bit << 64 };
    }

    pub fn remove(&mut self, shard: ShardId) {
        self.0 &= !(1 << shard.0);
    }

    pub fn contains(self, shard: ShardId) -> bool {
        self.0 >> shard.0 & 1 == 1
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[must_use]
    pub fn union(self, other: ShardSet) -> ShardSet {
        ShardSet(self.0 | other.0)
    }

    /// The shards of the set, lowest first.
    pub fn iter(self) -> impl Iterator<Item = ShardId> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            if rest == 0 {
                return None;
            }
            let index = rest.trailing_zeros() as usize;
            rest &= rest.wrapping_sub(1);
            ShardId::new(index)
        })
    }

    /// The shards of the set: those above one, lowest first, and then the others.
    pub fn iter_after(self, shard: ShardId) -> impl Iterator<Item = ShardId> {
        let up_to = u128::MAX >> (SHARDS_MAX - 1 - shard.index());
        ShardSet(self.0 & !up_to).iter().chain(ShardSet(self.0 & up_to).iter())
    }
}

/// One connection, for as long as its socket lives; never used twice on one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    /// The place of the connection in its shard's tables.
    pub slot: u32,
    /// Tells apart the connections that use the same slot one after the other.
    pub generation: u32,
}

/// One session on its home shard. The number is reused after the session has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriberId(pub u32);

impl SubscriberId {
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_lists_its_shards_in_order() {
        let mut set = ShardSet::EMPTY;
        for index in [127, 0, 64, 3] {
            set.insert(ShardId::new(index).unwrap());
        }
        set.remove(ShardId::new(3).unwrap());
        let listed: Vec<usize> = set.iter().map(ShardId::index).collect();
        assert_eq!(listed, [0, 64, 127]);
        assert!(set.contains(ShardId::new(64).unwrap()));
        assert!(!set.contains(ShardId::new(3).unwrap()));
    }

    #[test]
    fn a_set_is_listed_from_the_shard_after_any_other() {
        let mut set = ShardSet::EMPTY;
        for index in [127, 0, 64] {
            set.insert(ShardId::new(index).unwrap());
        }
        let after = |index| {
            let shard = ShardId::new(index).unwrap();
            set.iter_after(shard).map(ShardId::index).collect::<Vec<_>>()
        };
        assert_eq!(after(0), [64, 127, 0]);
        assert_eq!(after(63), [64, 127, 0]);
        assert_eq!(after(64), [127, 0, 64]);
        assert_eq!(after(127), [0, 64, 127]);
    }

    #[test]
    fn there_is_no_shard_beyond_the_last() {
        assert_eq!(ShardId::new(SHARDS_MAX), None);
        assert_eq!(ShardId::all(3).count(), 3);
    }
}
