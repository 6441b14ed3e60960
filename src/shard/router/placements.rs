//! Which messages are on their way over several turns, and which subscriptions are too new for
//! them.
//!
//! Knows numbers and limits; does not know how a message is brought to anyone.

use std::collections::BTreeSet;

use crate::{
    base::{
        hash::{Map, Seed},
        ids::SubscriberId,
    },
    routing::{Entry, TargetId},
};

/// The placements of a shard: messages on their way. Usually there are none.
#[derive(Debug)]
pub(super) struct Placements {
    /// How many there have been, and how many there are.
    begun: u64,
    under_way: usize,
    /// Those that do not know yet who wants them.
    searching: BTreeSet<u64>,
    /// The latest placement before a session began to subscribe to a filter, for subscriptions that
    /// have begun since the oldest search.
    subscribed: Map<(TargetId, SubscriberId), u64>,
    /// How many subscriptions and share groups all placements keep.
    kept: usize,
}

/// Once so many subscriptions and share groups are kept, further placements wait: some 16 MiB.
const KEPT_MAX: usize = 1 << 20;

impl Placements {
    pub(super) fn new(seed: Seed) -> Placements {
        Placements {
            begun: 0,
            under_way: 0,
            searching: BTreeSet::new(),
            subscribed: Map::with_hasher(seed),
            kept: 0,
        }
    }

    pub(super) fn any_under_way(&self) -> bool {
        self.under_way > 0
    }

    /// Whether a placement may begin to keep those who want it.
    pub(super) fn has_room(&self) -> bool {
        self.kept < KEPT_MAX
    }

    /// How many subscriptions and share groups all of them keep.
    pub(super) fn kept(&self) -> usize {
        self.kept
    }

    /// A placement keeps so many more subscriptions and share groups.
    pub(super) fn keep(&mut self, more: usize) {
        self.kept += more;
    }

    /// Begins a placement, and returns its number.
    pub(super) fn begin(&mut self) -> u64 {
        self.begun += 1;
        self.under_way += 1;
        self.searching.insert(self.begun);
        self.begun
    }

    /// A placement knows now who wants it.
    pub(super) fn end_search(&mut self, number: u64) {
        self.searching.remove(&number);
        if self.searching.is_empty() && self.subscribed.capacity() > 0 {
            self.subscribed = Map::with_hasher(*self.subscribed.hasher());
        }
    }

    /// A placement that has kept so much is with all who want it.
    pub(super) fn end(&mut self, kept: usize) {
        self.kept -= kept;
        self.under_way -= 1;
    }

    /// A session has begun to subscribe to a filter.
    pub(super) fn note_subscription(
        &mut self,
        target: impl FnOnce() -> Option<TargetId>,
        subscriber: SubscriberId,
    ) {
        let Some(&oldest) = self.searching.first() else { return };
        let Some(target) = target() else { return };
        if self.subscribed.len() == self.subscribed.capacity() {
            self.subscribed.retain(|_, latest| *latest >= oldest);
        }
        self.subscribed.insert((target, subscriber), self.begun);
    }

    /// Whether a subscription is newer than a placement.
    pub(super) fn is_newer(&self, number: u64, target: TargetId, entry: &Entry) -> bool {
        let since = || self.subscribed.get(&(target, entry.subscriber));
        !self.subscribed.is_empty() && since().is_some_and(|&latest| latest >= number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        routing::{Options, Trie},
        topic::TopicFilter,
    };

    const ONE: SubscriberId = SubscriberId(1);

    #[test]
    fn a_subscription_is_too_new_for_the_searches_that_have_begun_before_it() {
        let mut trie = Trie::new(Seed::new(1));
        let filter = TopicFilter::parse("a").unwrap();
        let entry = Entry { subscriber: ONE, options: Options(0), subscription_id: 0 };
        trie.subscribe(filter, entry);
        let target = trie.target_of(filter).unwrap();
        let mut placements = Placements::new(Seed::new(1));
        placements.note_subscription(|| panic!("no placement asks for it"), ONE);
        let first = placements.begin();
        placements.note_subscription(|| Some(target), ONE);
        let second = placements.begin();
        let newer = |placements: &Placements| {
            [first, second].map(|number| placements.is_newer(number, target, &entry))
        };
        assert_eq!(newer(&placements), [true, false]);
        placements.end_search(second);
        assert_eq!(newer(&placements), [true, false]);
        placements.end_search(first);
        assert_eq!((newer(&placements), placements.subscribed.capacity()), ([false, false], 0));
    }

    #[test]
    fn further_placements_wait_once_much_is_kept() {
        let mut placements = Placements::new(Seed::new(1));
        placements.begin();
        placements.keep(KEPT_MAX);
        assert!(!placements.has_room() && placements.any_under_way());
        placements.end(KEPT_MAX);
        assert!(placements.has_room() && !placements.any_under_way());
    }
}
