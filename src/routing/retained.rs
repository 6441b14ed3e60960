//! Retained messages: one for each Topic Name, the same on every shard.
//!
//! Every shard applies the changes of all shards. Of two changes of one name, the one with the
//! larger [`Stamp`] wins, so all shards end with the same message in whatever order letters
//! arrive. A removal leaves a tombstone for a while, so that an older change that arrives later is
//! ignored.
//!
//! All shards share the memory of a change. A shard has only a reference to it, in the order of
//! names.

use std::{cmp::Ordering, collections::VecDeque, sync::Arc};

use super::{
    cursor::Cursor,
    sorted::{Place, Sorted},
};
use crate::{
    base::{ids::ShardId, time::Moment},
    topic::{OwnedTopicName, TopicFilter, TopicName},
};

/// When and where a change was made. The larger of two is the newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// Grows with every change of one shard, and follows the clock that all shards share.
    pub time: u64,
    /// The shard that made the change. It orders changes with the same time.
    pub shard: ShardId,
}

/// What a store must know of a message.
pub trait Retainable {
    /// How many bytes of memory it takes, without its name.
    fn bytes(&self) -> usize;

    /// When the message expires.
    fn expires_at(&self) -> Option<Moment>;

    /// Whether it counts against the limits of retained messages.
    fn is_limited(&self) -> bool;
}

/// A change of the retained message of one topic.
#[derive(Debug)]
pub struct Change<M> {
    topic: OwnedTopicName,
    /// `None` if the change removes the message.
    message: Option<M>,
    stamp: Stamp,
}

/// The retained messages of one shard.
#[derive(Debug)]
pub struct RetainedStore<M> {
    /// The latest change of each topic, in the order of names.
    pub(super) kept: Sorted<Kept<M>>,
    /// Tombstones in the order in which they were applied. One that has been overwritten stays
    /// here until it is its turn to be forgotten.
    tombstones: VecDeque<Arc<Change<M>>>,
    sequence: u64,
    messages: usize,
    bytes: usize,
    /// The messages among these that count against limits, with the bytes of their entries.
    limited: Tally,
    tombstone_bytes: usize,
    /// The messages that expire, the soonest first, then in the order of names.
    expiries: Sorted<Arc<Change<M>>>,
}

/// A number of messages, and the bytes that they take with their names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub messages: usize,
    pub bytes: usize,
}

/// What one shard has for itself of a change.
#[derive(Debug)]
pub(super) struct Kept<M> {
    pub(super) change: Arc<Change<M>>,
    /// The number of the update of this store that applied the change.
    pub(super) sequence: u64,
}

const _: () = assert!(size_of::<Kept<u64>>() <= 16, "every shard has one for each topic");

impl<M> Default for RetainedStore<M> {
    fn default() -> RetainedStore<M> {
        RetainedStore {
            kept: Sorted::default(),
            tombstones: VecDeque::new(),
            sequence: 0,
            messages: 0,
            bytes: 0,
            limited: Tally::default(),
            tombstone_bytes: 0,
            expiries: Sorted::default(),
        }
    }
}

impl<M> Change<M> {
    /// A change that stores a message, or removes it if `message` is `None`.
    pub fn new(topic: TopicName<'_>, message: Option<M>, stamp: Stamp) -> Change<M> {
        Change { topic: topic.into(), message, stamp }
    }

    pub fn topic(&self) -> TopicName<'_> {
        self.topic.as_name()
    }

    pub fn message(&self) -> Option<&M> {
        self.message.as_ref()
    }

    pub fn stamp(&self) -> Stamp {
        self.stamp
    }
}

impl<M: Retainable> RetainedStore<M> {
    /// Stores or removes a message, unless an equally new or newer change is known. Returns whether
    /// it did. [MQTT-3.3.1-5] [MQTT-3.3.1-6]
    pub fn apply(&mut self, change: &Arc<Change<M>>) -> bool {
        let place = self.find(change.topic());
        if place.is_ok_and(|place| self.kept.at(place).change.stamp >= change.stamp) {
            return false;
        }
        self.put(place, change);
        true
    }

    /// Removes the message that expires first, if it has expired. Returns whether it did. The
    /// message leaves a tombstone, because an earlier change may still arrive from another shard
    /// and would be taken for the latest one.
    pub fn expire_next(&mut self, now: Moment) -> bool {
        let Some(soonest) = self.expiries.first() else { return false };
        if soonest.expires_at().is_none_or(|at| at > now) {
            return false;
        }
        let tombstone = Change::new(soonest.topic(), None, soonest.stamp);
        self.put(self.find(tombstone.topic()), &Arc::new(tombstone));
        true
    }

    /// Removes the message of a topic as if it had expired.
    #[cfg(test)]
    pub(super) fn expire_now(&mut self, topic: TopicName<'_>) {
        if self.get(topic).is_some()
            && let Some(stamp) = self.stamp(topic)
        {
            self.put(self.find(topic), &Arc::new(Change::new(topic, None, stamp)));
        }
    }

    /// Forgets tombstones that are older than this time, a bounded number. True: there may be more.
    pub fn forget_tombstones(&mut self, before: u64) -> bool {
        for _ in 0..FORGOTTEN_AT_ONCE {
            match self.tombstones.front() {
                Some(tombstone) if tombstone.stamp.time < before => self.forget_oldest_tombstone(),
                _ => return false,
            }
        }
        true
    }

    pub fn get(&self, topic: TopicName<'_>) -> Option<&M> {
        self.latest(topic)?.message()
    }

    /// The stamp of the latest change of this topic, which stored or removed its message.
    pub fn stamp(&self, topic: TopicName<'_>) -> Option<Stamp> {
        Some(self.latest(topic)?.stamp)
    }

    /// Every topic with the stamp of its latest change, and its message if it has one.
    pub fn iter(&self) -> impl Iterator<Item = (TopicName<'_>, Stamp, Option<&M>)> {
        let each = self.kept.iter().map(|kept| &kept.change);
        each.map(|change| (change.topic(), change.stamp, change.message()))
    }

    /// The messages that count against limits, without tombstones.
    pub fn limited(&self) -> Tally {
        self.limited
    }

    pub fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Approximate memory of messages and tombstones, in bytes. The shards share nearly all of it.
    pub fn bytes(&self) -> usize {
        self.bytes + self.tombstone_bytes
    }

    /// Approximate memory of the messages that count against limits, in bytes, if this topic had a
    /// message of `message_bytes` bytes.
    pub fn bytes_with(&self, topic: TopicName<'_>, message_bytes: usize) -> usize {
        let former = self.get(topic).filter(|former| former.is_limited());
        let former = former.map_or(0, |former| weight(topic, former.bytes()));
        self.limited.bytes - former + weight(topic, message_bytes)
    }

    /// The number of the latest update. Updates are numbered from one.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Begins to read the messages that match and are stored now. The subscriber gets later ones
    /// live. [MQTT-3.3.1-9]
    pub fn open(&self, filter: TopicFilter<'_>) -> Cursor {
        Cursor::new(filter, self.sequence)
    }

    pub(super) fn find(&self, topic: TopicName<'_>) -> Result<Place, Place> {
        self.kept.find(|kept| kept.name().cmp(topic.as_str()))
    }

    fn latest(&self, topic: TopicName<'_>) -> Option<&Change<M>> {
        let place = self.find(topic).ok()?;
        Some(&self.kept.at(place).change)
    }

    /// Stores a message or a tombstone, in place of the earlier change if there is one.
    fn put(&mut self, place: Result<Place, Place>, change: &Arc<Change<M>>) {
        self.sequence += 1;
        if change.message.is_none() {
            self.tombstone_bytes += tombstone_weight(change.topic());
            self.tombstones.push_back(Arc::clone(change));
        }
        let kept = Kept { change: Arc::clone(change), sequence: self.sequence };
        match place {
            Ok(place) => {
                let former = self.kept.replace(place, kept);
                self.discount(&former.change);
            }
            Err(place) => self.kept.insert(place, kept),
        }
        self.count(change);
        self.limit_tombstones();
    }

    fn count(&mut self, change: &Arc<Change<M>>) {
        self.messages += usize::from(change.message.is_some());
        self.bytes += change.weight();
        let limited = change.limited();
        self.limited.messages += limited.messages;
        self.limited.bytes += limited.bytes;
        if change.expires_at().is_some()
            && let Err(place) = self.expiries.find(|other| by_expiry(other, change))
        {
            self.expiries.insert(place, Arc::clone(change));
        }
    }

    fn discount(&mut self, change: &Arc<Change<M>>) {
        self.messages -= usize::from(change.message.is_some());
        self.bytes -= change.weight();
        let limited = change.limited();
        self.limited.messages -= limited.messages;
        self.limited.bytes -= limited.bytes;
        if change.expires_at().is_some()
            && let Ok(place) = self.expiries.find(|other| by_expiry(other, change))
        {
            self.expiries.remove(place);
        }
    }

    fn limit_tombstones(&mut self) {
        while self.tombstone_bytes > TOMBSTONE_BYTES_MAX {
            self.forget_oldest_tombstone();
        }
    }

    fn forget_oldest_tombstone(&mut self) {
        let Some(tombstone) = self.tombstones.pop_front() else { return };
        self.tombstone_bytes -= tombstone_weight(tombstone.topic());
        if let Ok(place) = self.find(tombstone.topic())
            && Arc::ptr_eq(&self.kept.at(place).change, &tombstone)
        {
            self.kept.remove(place);
            self.discount(&tombstone);
        }
        if self.tombstones.capacity() > FORGOTTEN_AT_ONCE
            && self.tombstones.len() < self.tombstones.capacity() / 4
        {
            self.tombstones.shrink_to(self.tombstones.len() * 2);
        }
    }
}

impl<M> Kept<M> {
    pub(super) fn name(&self) -> &str {
        self.change.topic.as_name().as_str()
    }
}

impl<M: Retainable> Change<M> {
    /// Bytes of the entry.
    fn weight(&self) -> usize {
        weight(self.topic(), self.message.as_ref().map_or(0, M::bytes))
    }

    /// The part of the entry that counts against limits.
    fn limited(&self) -> Tally {
        let limited = self.message.as_ref().is_some_and(M::is_limited);
        if limited { Tally { messages: 1, bytes: self.weight() } } else { Tally::default() }
    }

    fn expires_at(&self) -> Option<Moment> {
        self.message.as_ref()?.expires_at()
    }
}

/// The order of the messages that expire. A shard has one message of each topic.
fn by_expiry<M: Retainable>(one: &Change<M>, other: &Change<M>) -> Ordering {
    let names = || one.topic().as_str().cmp(other.topic().as_str());
    one.expires_at().cmp(&other.expires_at()).then_with(names)
}

fn weight(topic: TopicName<'_>, message_bytes: usize) -> usize {
    topic.as_str().len() + ENTRY_BYTES + message_bytes
}

fn tombstone_weight(topic: TopicName<'_>) -> usize {
    topic.as_str().len() + TOMBSTONE_BYTES
}

/// Bytes of an entry besides its name and its message.
const ENTRY_BYTES: usize = 80;
/// Bytes of a tombstone that has been overwritten, besides its name.
const TOMBSTONE_BYTES: usize = 160;
/// Tombstones that are forgotten in one call.
const FORGOTTEN_AT_ONCE: usize = 64;
/// Above this many bytes, the oldest tombstones are forgotten early, so that clients that remove
/// messages that do not exist cannot fill the memory.
const TOMBSTONE_BYTES_MAX: usize = 32 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl RetainedStore<u32> {
        pub(in crate::routing) fn change(
            &mut self,
            topic: TopicName<'_>,
            message: Option<u32>,
            stamp: Stamp,
        ) -> bool {
            self.apply(&Arc::new(Change::new(topic, message, stamp)))
        }
    }

    /// A number from 100 on says when it expires, in nanoseconds. 0 counts in no limit.
    impl Retainable for u32 {
        fn bytes(&self) -> usize {
            4
        }

        fn expires_at(&self) -> Option<Moment> {
            (*self >= 100).then(|| Moment::from_nanos(u64::from(*self)))
        }

        fn is_limited(&self) -> bool {
            *self > 0
        }
    }

    fn expire(store: &mut RetainedStore<u32>, now: u64) -> usize {
        std::iter::from_fn(|| store.expire_next(Moment::from_nanos(now)).then_some(())).count()
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
        assert!(store.change(name("a"), Some(1), stamp(5, 0)));
        assert!(!store.change(name("a"), Some(2), stamp(5, 0)));
        assert!(!store.change(name("a"), Some(3), stamp(4, 1)));
        assert!(store.change(name("a"), Some(4), stamp(5, 1)));
        assert_eq!((store.get(name("a")), store.limited().messages), (Some(&4), 1));
        assert!(store.change(name("a"), None, stamp(6, 0)));
        assert!(!store.change(name("a"), Some(5), stamp(5, 3)));
        assert_eq!((store.get(name("a")), store.limited().messages), (None, 0));
    }

    #[test]
    fn a_removal_is_remembered_until_it_is_forgotten() {
        let mut store = RetainedStore::default();
        store.change(name("gone"), None, stamp(10, 0));
        store.change(name("back"), None, stamp(11, 0));
        store.change(name("back"), Some(1), stamp(12, 0));
        assert!(!store.forget_tombstones(10));
        assert_eq!(store.stamp(name("gone")), Some(stamp(10, 0)));
        assert!(!store.forget_tombstones(100));
        assert_eq!((store.stamp(name("gone")), store.get(name("back"))), (None, Some(&1)));
        store.change(name("back"), None, stamp(13, 0));
        while store.forget_tombstones(100) {}
        assert_eq!(store.bytes(), 0);
    }

    #[test]
    fn an_expired_message_is_removed_and_no_earlier_one_takes_its_place() {
        let mut store = RetainedStore::default();
        store.change(name("a"), Some(100), stamp(5, 0));
        store.change(name("b"), Some(200), stamp(6, 0));
        assert_eq!(expire(&mut store, 99), 0);
        assert_eq!(expire(&mut store, 100), 1);
        assert_eq!(
            (store.get(name("a")), store.get(name("b")), store.limited().messages),
            (None, Some(&200), 1)
        );
        // It comes late, from a shard that did not know of the other.
        assert!(!store.change(name("a"), Some(3), stamp(4, 1)));
        assert!(store.change(name("a"), Some(150), stamp(7, 1)));
        assert_eq!(expire(&mut store, 1000), 2);
        while store.forget_tombstones(100) {}
        assert_eq!((store.limited().messages, store.bytes()), (0, 0));
    }

    #[test]
    fn a_message_that_was_replaced_does_not_expire_and_is_forgotten() {
        let mut store = RetainedStore::default();
        for time in 1..10_000 {
            store.change(name("a"), Some(100), stamp(time, 0));
            assert_eq!(store.expiries.iter().count(), 1);
        }
        store.change(name("a"), Some(1), stamp(10_000, 0));
        assert_eq!((expire(&mut store, 1000), store.get(name("a"))), (0, Some(&1)));
    }

    #[test]
    fn what_a_message_would_take_is_what_it_takes() {
        let mut store = RetainedStore::default();
        store.change(name("gone"), None, stamp(1, 0));
        for (time, topic) in [(2, "a"), (3, "b"), (4, "a")] {
            let would = store.bytes_with(name(topic), 4);
            store.change(name(topic), Some(7), stamp(time, 0));
            assert_eq!(store.limited().bytes, would);
        }
        store.change(name("a"), None, stamp(5, 0));
        store.change(name("b"), None, stamp(6, 0));
        assert_eq!(store.limited(), Tally::default());
    }

    #[test]
    fn what_counts_in_no_limit_is_stored_all_the_same() {
        let mut store = RetainedStore::default();
        store.change(name("a"), Some(7), stamp(1, 0));
        let limited = store.limited();
        store.change(name("own"), Some(0), stamp(2, 0));
        assert_eq!((store.limited(), store.get(name("own"))), (limited, Some(&0)));
        assert_eq!(store.bytes_with(name("own"), 4), store.bytes_with(name("new"), 4));
        store.change(name("a"), None, stamp(3, 0));
        assert!(store.limited() == Tally::default() && !store.is_empty());
    }

    #[test]
    fn removals_of_nothing_take_bounded_memory() {
        let mut store: RetainedStore<u32> = RetainedStore::default();
        let long = "x".repeat(60_000);
        for time in 0..2_000 {
            store.change(name(&format!("{time}/{long}")), None, stamp(time, 0));
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
                store.change(name(["a", "b", "c"][*topic]), *message, stamp(*time, shard));
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
            prop_assert_eq!(one.limited(), other.limited());
        }
    }
}
