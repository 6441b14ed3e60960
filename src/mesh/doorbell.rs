//! The doorbell: how a shard learns that others have put something into its mailboxes, and how it
//! sleeps without missing that.
//!
//! ```text
//!   sender                         sleeper
//!   1. puts into the mailbox       1. says that it sleeps
//!   2. marks its bit               2. looks at the bits once more
//!   3. peer sleeps? ring           3. none: sleeps; some: wakes
//! ```
//! Each side first writes its own flag, then reads the flag of the other side. So at least one of
//! them sees the flag of the other.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use crate::base::ids::{SHARDS_MAX, ShardId, ShardSet};

/// The bell of one shard, alone on its cache lines: all shards write to it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Doorbell {
    senders: [AtomicU64; WORDS],
    sleeping: AtomicBool,
}

impl Doorbell {
    /// Sets the bit of `from`, which has put something into its mailbox. True: the owner sleeps,
    /// and the caller has to wake it.
    pub fn mark(&self, from: ShardId) -> bool {
        // Release: the owner that collects the bit sees everything put into the mailbox before.
        self.senders[word(from)].fetch_or(bit(from), Ordering::Release);
        // Orders the store of the bit before the load of `sleeping`; pairs with the fence in
        // `announce_sleep`. Release and Acquire do not order a store before a later load.
        fence(Ordering::SeqCst);
        // Relaxed: the flag guards no other memory. The swap lets only one of several senders ring.
        self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::Relaxed)
    }

    /// Announces that the owner is about to sleep. False: something has come, so it must not.
    pub fn announce_sleep(&self) -> bool {
        self.sleeping.store(true, Ordering::Relaxed);
        // Orders the store of the flag before the load of the bits; pairs with the fence in `mark`.
        fence(Ordering::SeqCst);
        let quiet = !self.has_marks();
        if !quiet {
            self.wake();
        }
        quiet
    }

    /// Notes that the owner is awake again.
    pub fn wake(&self) {
        // Relaxed: a sender that still sees the flag rings once too often, which is harmless.
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// Whether any sender has set its bit since the last [`Doorbell::collect`].
    pub fn has_marks(&self) -> bool {
        // Relaxed: only `collect` makes the mailboxes visible.
        self.senders.iter().any(|senders| senders.load(Ordering::Relaxed) != 0)
    }

    /// The shards that have put something into their mailboxes since the last call.
    pub fn collect(&self) -> ShardSet {
        let mut set = ShardSet::EMPTY;
        for (word, senders) in self.senders.iter().enumerate() {
            if senders.load(Ordering::Relaxed) != 0 {
                // Acquire: everything that these senders queued before they set the bit is visible.
                add_bits(&mut set, word, senders.swap(0, Ordering::Acquire));
            }
        }
        set
    }
}

fn add_bits(set: &mut ShardSet, word: usize, mut bits: u64) {
    while bits != 0 {
        let index = word * WORD_BITS + bits.trailing_zeros() as usize;
        set.insert(ShardId::new(index).expect("only shards mark their bits"));
        bits &= bits - 1;
    }
}

fn word(shard: ShardId) -> usize {
    shard.index() / WORD_BITS
}

fn bit(shard: ShardId) -> u64 {
    1 << (shard.index() % WORD_BITS)
}

const WORD_BITS: usize = u64::BITS as usize;
const WORDS: usize = SHARDS_MAX.div_ceil(WORD_BITS);

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(index: usize) -> ShardId {
        ShardId::new(index).unwrap()
    }

    #[test]
    fn marks_are_collected_once() {
        let bell = Doorbell::default();
        for index in [0, 63, 64, 127] {
            assert!(!bell.mark(shard(index)), "nobody sleeps");
        }
        let marked: Vec<usize> = bell.collect().iter().map(ShardId::index).collect();
        assert_eq!(marked, [0, 63, 64, 127]);
        assert!(bell.collect().is_empty());
    }

    #[test]
    fn a_sleeper_is_rung_by_one_sender_only() {
        let bell = Doorbell::default();
        assert!(bell.announce_sleep());
        assert!(bell.mark(shard(1)));
        assert!(!bell.mark(shard(2)));
    }

    #[test]
    fn nobody_falls_asleep_over_a_mark() {
        let bell = Doorbell::default();
        bell.mark(shard(1));
        assert!(!bell.announce_sleep());
        assert!(!bell.mark(shard(2)), "the owner is awake");
    }
}
