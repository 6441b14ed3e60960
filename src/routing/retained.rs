//! Retained messages: one for each Topic Name, the same on every shard.
//!
//! Every shard applies the updates of all shards, and of two updates of one name the one with the
//! larger [`Stamp`] wins, so replicas agree whatever order letters arrive in. A removal leaves a
//! tombstone for a while, so that an older message that arrives after it stays removed.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
};

use super::cursor::Cursor;
use crate::{
    base::ids::ShardId,
    topic::{OwnedTopicName, TopicFilter, TopicName},
};

/// When and where an update was made. The larger of two is the newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// Grows with every update of one shard, and follows the clock that all shards share.
    pub time: u64,
    /// The shard that took the update in; tells updates of one moment apart.
    pub shard: ShardId,
}

/// How much memory a stored message takes beside its name.
pub trait MemorySize {
    fn bytes(&self) -> usize;
}

/// The retained messages of one shard.
#[derive(Debug)]
pub struct RetainedStore<M> {
    pub(super) kept: BTreeMap<OwnedTopicName, Kept<M>>,
    /// Tombstones in the order in which they were applied. One that has been overwritten since
    /// stays here until its turn comes.
    tombstones: VecDeque<(Stamp, OwnedTopicName)>,
    sequence: u64,
    messages: usize,
    bytes: usize,
    /// Of those, what the entries with a message take.
    message_bytes: usize,
    tombstone_bytes: usize,
    /// The last topic that [`RetainedStore::sweep`] has looked at, unless it was the last of all.
    swept_to: Option<OwnedTopicName>,
}

#[derive(Debug)]
pub(super) struct Kept<M> {
    /// None: a tombstone.
    pub(super) message: Option<M>,
    stamp: Stamp,
    /// Which update of this store it was.
    pub(super) sequence: u64,
}

impl<M> Default for RetainedStore<M> {
    fn default() -> RetainedStore<M> {
        RetainedStore {
            kept: BTreeMap::new(),
            tombstones: VecDeque::new(),
            sequence: 0,
            messages: 0,
            bytes: 0,
            message_bytes: 0,
            tombstone_bytes: 0,
            swept_to: None,
        }
    }
}

impl<M: MemorySize> RetainedStore<M> {
    /// Stores a message, or removes it where there is none, unless an update as new as this one
    /// is known. Says whether it did. [MQTT-3.3.1-5] [MQTT-3.3.1-6]
    pub fn apply(&mut self, topic: TopicName<'_>, message: Option<M>, stamp: Stamp) -> bool {
        if self.kept.get(topic.as_str()).is_some_and(|kept| kept.stamp >= stamp) {
            return false;
        }
        self.replace(topic, message, stamp);
        true
    }

    /// Removes messages that are `dead`, among the next topics after those that the last call
    /// looked at. Says how many. Each leaves a tombstone: an earlier update may still be on its
    /// way from another shard, and would be taken for the latest.
    pub fn sweep(&mut self, topics_max: usize, dead: impl Fn(&M) -> bool) -> usize {
        let after = self.swept_to.take().map_or(Bound::Unbounded, Bound::Excluded);
        let mut found = Vec::new();
        let mut looked = 0;
        for (topic, kept) in self.kept.range((after, Bound::Unbounded)).take(topics_max) {
            looked += 1;
            if kept.message.as_ref().is_some_and(&dead) {
                found.push((topic.clone(), kept.stamp));
            }
            if looked == topics_max {
                self.swept_to = Some(topic.clone());
            }
        }
        for (topic, stamp) in &found {
            self.expire(topic.as_name(), *stamp);
        }
        found.len()
    }

    /// Removes what this very update has stored.
    pub(super) fn expire(&mut self, topic: TopicName<'_>, stamp: Stamp) {
        if self.get(topic).is_some() && self.stamp(topic) == Some(stamp) {
            self.replace(topic, None, stamp);
        }
    }

    /// Forgets tombstones of before this time, a bounded number of them. True: there may be more.
    pub fn forget_tombstones(&mut self, before: u64) -> bool {
        for _ in 0..FORGOTTEN_AT_ONCE {
            match self.tombstones.front() {
                Some((stamp, _)) if stamp.time < before => self.forget_oldest_tombstone(),
                _ => return false,
            }
        }
        true
    }

    pub fn get(&self, topic: TopicName<'_>) -> Option<&M> {
        self.kept.get(topic.as_str())?.message.as_ref()
    }

    /// The update that decides about this topic: that of its message or that of its removal.
    pub fn stamp(&self, topic: TopicName<'_>) -> Option<Stamp> {
        Some(self.kept.get(topic.as_str())?.stamp)
    }

    /// Every topic with the update that decides about it, and its message unless that is a removal.
    pub fn iter(&self) -> impl Iterator<Item = (TopicName<'_>, Stamp, Option<&M>)> {
        let each = self.kept.iter();
        each.map(|(topic, kept)| (topic.as_name(), kept.stamp, kept.message.as_ref()))
    }

    /// How many messages are stored.
    pub fn len(&self) -> usize {
        self.messages
    }

    pub fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// How much memory messages and tombstones take, about.
    pub fn bytes(&self) -> usize {
        self.bytes + self.tombstone_bytes
    }

    /// How much memory all messages would take, about, if this topic had one of so many bytes.
    pub fn bytes_with(&self, topic: TopicName<'_>, message_bytes: usize) -> usize {
        let former = self.get(topic).map_or(0, |former| weight(topic, former.bytes()));
        self.message_bytes - former + weight(topic, message_bytes)
    }

    /// Begins to read the messages that match, as they are now: what is stored later reaches the
    /// subscriber as it is published. [MQTT-3.3.1-9]
    pub fn open(&self, filter: TopicFilter<'_>) -> Cursor {
        Cursor::new(filter, self.sequence)
    }

    /// Stores a message, or a tombstone, whatever was there.
    fn replace(&mut self, topic: TopicName<'_>, message: Option<M>, stamp: Stamp) {
        self.sequence += 1;
        if message.is_none() {
            self.note_tombstone(topic, stamp);
        }
        let kept = Kept { message, stamp, sequence: self.sequence };
        self.put(topic, kept);
        self.limit_tombstones();
    }

    fn put(&mut self, topic: TopicName<'_>, kept: Kept<M>) {
        self.count(topic, &kept);
        let former = match self.kept.get_mut(topic.as_str()) {
            Some(place) => Some(std::mem::replace(place, kept)),
            None => self.kept.insert(topic.into(), kept),
        };
        if let Some(former) = former {
            self.discount(topic, &former);
        }
    }

    fn count(&mut self, topic: TopicName<'_>, kept: &Kept<M>) {
        self.messages += usize::from(kept.message.is_some());
        let (bytes, message_bytes) = kept.weights(topic);
        self.bytes += bytes;
        self.message_bytes += message_bytes;
    }

    fn discount(&mut self, topic: TopicName<'_>, kept: &Kept<M>) {
        self.messages -= usize::from(kept.message.is_some());
        let (bytes, message_bytes) = kept.weights(topic);
        self.bytes -= bytes;
        self.message_bytes -= message_bytes;
    }

    fn note_tombstone(&mut self, topic: TopicName<'_>, stamp: Stamp) {
        self.tombstone_bytes += tombstone_weight(topic);
        self.tombstones.push_back((stamp, topic.into()));
    }

    fn limit_tombstones(&mut self) {
        while self.tombstone_bytes > TOMBSTONE_BYTES_MAX {
            self.forget_oldest_tombstone();
        }
    }

    fn forget_oldest_tombstone(&mut self) {
        let Some((stamp, topic)) = self.tombstones.pop_front() else { return };
        let topic = topic.as_name();
        self.tombstone_bytes -= tombstone_weight(topic);
        let kept = self.kept.get(topic.as_str());
        if kept.is_some_and(|kept| kept.message.is_none() && kept.stamp == stamp)
            && let Some(kept) = self.kept.remove(topic.as_str())
        {
            self.discount(topic, &kept);
        }
    }
}

impl<M: MemorySize> Kept<M> {
    /// Bytes of the entry, and how many of them are for a message.
    fn weights(&self, topic: TopicName<'_>) -> (usize, usize) {
        let Some(message) = &self.message else { return (weight(topic, 0), 0) };
        let bytes = weight(topic, message.bytes());
        (bytes, bytes)
    }
}

fn weight(topic: TopicName<'_>, message_bytes: usize) -> usize {
    topic.as_str().len() + ENTRY_BYTES + message_bytes
}

fn tombstone_weight(topic: TopicName<'_>) -> usize {
    topic.as_str().len() + size_of::<(Stamp, OwnedTopicName)>()
}

/// What an entry costs beside its name and its message, in a tree that is two thirds full.
const ENTRY_BYTES: usize = 96;
/// What is forgotten in one call.
const FORGOTTEN_AT_ONCE: usize = 64;
/// Above this, the oldest tombstones go before their time. A store that clients fill with
/// removals of nothing stays bounded.
const TOMBSTONE_BYTES_MAX: usize = 32 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl MemorySize for u32 {
        fn bytes(&self) -> usize {
            4
        }
    }

    fn stamp(time: u64, shard: usize) -> Stamp {
        Stamp { time, shard: ShardId::new(shard).unwrap() }
    }

    fn name(text: &str) -> TopicName<'_> {
        TopicName::parse(text).unwrap()
    }

    /// [MQTT-3.3.1-5] [MQTT-3.3.1-6]
    #[test]
    fn the_newer_update_wins_whenever_it_arrives() {
        let mut store = RetainedStore::default();
        assert!(store.apply(name("a"), Some(1), stamp(5, 0)));
        assert!(!store.apply(name("a"), Some(2), stamp(5, 0)));
        assert!(!store.apply(name("a"), Some(3), stamp(4, 1)));
        assert!(store.apply(name("a"), Some(4), stamp(5, 1)));
        assert_eq!((store.get(name("a")), store.len()), (Some(&4), 1));
        assert!(store.apply(name("a"), None, stamp(6, 0)));
        assert!(!store.apply(name("a"), Some(5), stamp(5, 3)));
        assert_eq!((store.get(name("a")), store.len()), (None, 0));
    }

    #[test]
    fn a_removal_is_remembered_until_it_is_forgotten() {
        let mut store = RetainedStore::default();
        store.apply(name("gone"), None, stamp(10, 0));
        store.apply(name("back"), None, stamp(11, 0));
        store.apply(name("back"), Some(1), stamp(12, 0));
        assert!(!store.forget_tombstones(10));
        assert_eq!(store.stamp(name("gone")), Some(stamp(10, 0)));
        assert!(!store.forget_tombstones(100));
        assert_eq!((store.stamp(name("gone")), store.get(name("back"))), (None, Some(&1)));
        store.apply(name("back"), None, stamp(13, 0));
        while store.forget_tombstones(100) {}
        assert_eq!(store.bytes(), 0);
    }

    #[test]
    fn an_expired_message_is_removed_and_no_earlier_one_takes_its_place() {
        let mut store = RetainedStore::default();
        store.apply(name("a"), Some(1), stamp(5, 0));
        store.apply(name("b"), Some(2), stamp(6, 0));
        assert_eq!(store.sweep(10, |&message| message == 1), 1);
        assert_eq!((store.get(name("a")), store.get(name("b")), store.len()), (None, Some(&2), 1));
        // It comes late, from a shard that did not know of the other.
        assert!(!store.apply(name("a"), Some(3), stamp(4, 1)));
        assert!(store.apply(name("a"), Some(4), stamp(7, 1)));
        assert_eq!(store.sweep(10, |_| true), 2);
        while store.forget_tombstones(100) {}
        assert_eq!((store.len(), store.bytes()), (0, 0));
    }

    #[test]
    fn what_a_message_would_take_is_what_it_takes() {
        let mut store = RetainedStore::default();
        store.apply(name("gone"), None, stamp(1, 0));
        for (time, topic) in [(2, "a"), (3, "b"), (4, "a")] {
            let would = store.bytes_with(name(topic), 4);
            store.apply(name(topic), Some(7), stamp(time, 0));
            assert_eq!(store.message_bytes, would);
        }
        store.apply(name("a"), None, stamp(5, 0));
        store.apply(name("b"), None, stamp(6, 0));
        assert_eq!(store.message_bytes, 0);
    }

    #[test]
    fn removals_of_nothing_take_bounded_memory() {
        let mut store: RetainedStore<u32> = RetainedStore::default();
        let long = "x".repeat(60_000);
        for time in 0..2_000 {
            store.apply(name(&format!("{time}/{long}")), None, stamp(time, 0));
        }
        assert!(store.bytes() < 3 * TOMBSTONE_BYTES_MAX);
        assert_eq!(store.stamp(name(&format!("0/{long}"))), None);
        while store.forget_tombstones(u64::MAX) {}
        assert_eq!(store.bytes(), 0);
    }

    type Update = (usize, Option<u32>, u64);

    /// Three shards, each with its updates in the order of their times.
    fn arb_histories() -> impl Strategy<Value = Vec<Vec<Update>>> {
        let update = (0..3usize, proptest::option::of(0..100u32), 1..4u64);
        let history = prop::collection::vec(update, 0..12).prop_map(|mut updates| {
            let mut time = 0;
            for (_, _, step) in &mut updates {
                time += *step;
                *step = time;
            }
            updates
        });
        prop::collection::vec(history, 3)
    }

    /// Applies all histories to one replica; `choices` says whose letter arrives next.
    fn replay(histories: &[Vec<Update>], choices: &[usize]) -> RetainedStore<u32> {
        let mut store = RetainedStore::default();
        let mut read = [0; 3];
        let rest = (0..3).flat_map(|shard| [shard; 12]);
        for shard in choices.iter().copied().chain(rest) {
            if let Some((topic, message, time)) = histories[shard].get(read[shard]) {
                read[shard] += 1;
                store.apply(name(["a", "b", "c"][*topic]), *message, stamp(*time, shard));
            }
        }
        store
    }

    proptest! {
        #[test]
        fn replicas_agree_whatever_order_letters_arrive_in(
            histories in arb_histories(),
            one in prop::collection::vec(0..3usize, 36),
            other in prop::collection::vec(0..3usize, 36),
        ) {
            let (one, other) = (replay(&histories, &one), replay(&histories, &other));
            for topic in ["a", "b", "c"] {
                prop_assert_eq!(one.get(name(topic)), other.get(name(topic)));
                prop_assert_eq!(one.stamp(name(topic)), other.stamp(name(topic)));
            }
            prop_assert_eq!(one.len(), other.len());
        }
    }
}
