//! Replays: retained messages that subscriptions have asked for and that have not been sent yet.

use std::collections::BTreeMap;

use hashbrown::HashTable;

use crate::{
    base::{
        hash::{Map, Seed},
        ids::SubscriberId,
    },
    mqtt::{QoS, SubscriptionOptions},
    routing::{Cursor, Missed},
};

/// Retained messages on their way to one subscription.
#[derive(Debug)]
pub(super) struct Replay {
    pub(super) cursor: Cursor,
    pub(super) qos: QoS,
    /// The Subscription Identifier; 0 for none.
    pub(super) subscription_id: u32,
    /// The client may read only some of the messages, as in [`Granted`](super::granted::Granted).
    pub(super) is_partly: bool,
}

/// The replays of all sessions. Most sessions have none.
#[derive(Debug)]
pub(super) struct Replays {
    sessions: Map<SubscriberId, SessionReplays>,
    /// The latest update whose message takes several turns. Until a session has got it or missed
    /// it, no range of missed updates may extend over it.
    split_at: u64,
}

impl Replays {
    pub(super) fn new(seed: Seed) -> Replays {
        Replays { sessions: Map::with_hasher(seed), split_at: 0 }
    }

    /// Adds a replay for a session, after its other ones. It replaces an earlier replay for the
    /// same filter.
    pub(super) fn begin(&mut self, subscriber: SubscriberId, replay: Replay) {
        let seed = *self.sessions.hasher();
        self.sessions.entry(subscriber).or_insert_with(|| SessionReplays::new(seed)).begin(replay);
    }

    pub(super) fn are_full(&self, subscriber: SubscriberId) -> bool {
        self.sessions.get(&subscriber).is_some_and(|replays| replays.waiting.len() >= REPLAYS_MAX)
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    pub(super) fn has_any(&self, subscriber: SubscriberId) -> bool {
        self.sessions.contains_key(&subscriber)
    }

    pub(super) fn of(&mut self, subscriber: SubscriberId) -> Option<&mut SessionReplays> {
        self.sessions.get_mut(&subscriber)
    }

    /// The message of the latest update comes to its receivers over several turns.
    pub(super) fn note_split(&mut self, update: u64) {
        self.split_at = update;
    }

    /// Notes whether a session with open replays has got the message of an update. `own`: the
    /// session has published it.
    pub(super) fn note(&mut self, subscriber: SubscriberId, update: u64, own: bool, got: bool) {
        let Some(replays) = self.sessions.get_mut(&subscriber) else { return };
        if replays.ranges_end < self.split_at {
            replays.ranges_end = self.split_at;
            replays.missed.end_ranges();
        }
        replays.missed.note(update, own, got);
    }

    /// A subscription of a session has ended.
    pub(super) fn end(&mut self, subscriber: SubscriberId, filter: &str) {
        let Some(replays) = self.sessions.get_mut(&subscriber) else { return };
        replays.end(filter);
        self.forget_if_over(subscriber);
    }

    /// Ends the oldest replay of a session.
    pub(super) fn end_oldest(&mut self, subscriber: SubscriberId) {
        let Some(replays) = self.sessions.get_mut(&subscriber) else { return };
        replays.end_oldest();
        self.forget_if_over(subscriber);
    }

    fn forget_if_over(&mut self, subscriber: SubscriberId) {
        if self.sessions.get(&subscriber).is_some_and(|replays| replays.waiting.is_empty()) {
            self.sessions.remove(&subscriber);
        }
    }

    /// The session has ended. Returns the rest of its replays, which the caller drops in slices.
    pub(super) fn take(&mut self, subscriber: SubscriberId) -> Option<SessionReplays> {
        if self.sessions.is_empty() { None } else { self.sessions.remove(&subscriber) }
    }
}

/// The replays of one session, oldest first: at most one for each Topic Filter.
#[derive(Debug)]
pub(super) struct SessionReplays {
    waiting: BTreeMap<u64, Replay>,
    by_filter: HashTable<u64>,
    /// The number of the next replay.
    next: u64,
    /// Retained messages that were published since, and that the session was not sent live.
    pub(super) missed: Missed,
    /// The latest split update when ranges of missed updates were ended for one.
    ranges_end: u64,
    seed: Seed,
}

/// Replays that may wait for one session. Further filters in SUBSCRIBE are answered Quota exceeded.
const REPLAYS_MAX: usize = 100_000;

impl SessionReplays {
    fn new(seed: Seed) -> SessionReplays {
        SessionReplays {
            waiting: BTreeMap::new(),
            by_filter: HashTable::new(),
            next: 0,
            missed: Missed::default(),
            ranges_end: 0,
            seed,
        }
    }

    fn begin(&mut self, replay: Replay) {
        let filter = replay.cursor.filter().as_str();
        self.end(filter);
        let hash = self.seed.hash(filter);
        let SessionReplays { waiting, by_filter, seed, .. } = self;
        waiting.insert(self.next, replay);
        let rehash = |number: &u64| seed.hash(filter_of(waiting, *number));
        by_filter.insert_unique(hash, self.next, rehash);
        self.next += 1;
    }

    /// The subscription has been replaced by one with these options and this identifier, after this
    /// update of the retained messages. The rest of the replay is sent with them. [MQTT-3.8.4-4]
    pub(super) fn replace(
        &mut self,
        filter: &str,
        options: SubscriptionOptions,
        subscription_id: u32,
        latest: u64,
    ) {
        let number = self.find(filter);
        if let Some(replay) = number.and_then(|number| self.waiting.get_mut(&number)) {
            (replay.qos, replay.subscription_id) = (options.qos, subscription_id);
            // Messages that No Local kept from the earlier subscription are not for the new one.
            replay.cursor.set_no_local(options.no_local, latest);
        }
    }

    fn end(&mut self, filter: &str) {
        let SessionReplays { waiting, by_filter, seed, .. } = self;
        let is_it = |number: &u64| filter_of(waiting, *number) == filter;
        if let Ok(found) = by_filter.find_entry(seed.hash(filter), is_it) {
            let (number, _) = found.remove();
            waiting.remove(&number);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Drops one replay of an ended session. False: none is left.
    pub(super) fn drop_one(&mut self) -> bool {
        self.waiting.pop_first().is_some()
    }

    /// The oldest replay, and what the session has missed.
    pub(super) fn oldest(&mut self) -> Option<(&mut Replay, &Missed)> {
        let oldest = self.waiting.first_entry()?;
        Some((oldest.into_mut(), &self.missed))
    }

    fn end_oldest(&mut self) {
        let SessionReplays { waiting, by_filter, seed, .. } = self;
        let Some((&number, replay)) = waiting.first_key_value() else { return };
        let hash = seed.hash(replay.cursor.filter().as_str());
        if let Ok(found) = by_filter.find_entry(hash, |&other| other == number) {
            found.remove();
        }
        waiting.pop_first();
    }

    fn find(&self, filter: &str) -> Option<u64> {
        let is_it = |number: &u64| filter_of(&self.waiting, *number) == filter;
        self.by_filter.find(self.seed.hash(filter), is_it).copied()
    }
}

fn filter_of(waiting: &BTreeMap<u64, Replay>, number: u64) -> &str {
    waiting[&number].cursor.filter().as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{routing::RetainedStore, session::message::Message, topic::TopicFilter};

    const ONE: SubscriberId = SubscriberId(1);
    const OTHER: SubscriberId = SubscriberId(2);

    fn replay(filter: &str, subscription_id: u32) -> Replay {
        let store: RetainedStore<Message> = RetainedStore::default();
        let cursor = store.open(TopicFilter::parse(filter).unwrap());
        Replay { cursor, qos: QoS::AtMostOnce, subscription_id, is_partly: false }
    }

    fn oldest(replays: &mut Replays, of: SubscriberId) -> Option<u32> {
        Some(replays.of(of)?.oldest()?.0.subscription_id)
    }

    #[test]
    fn the_replays_of_a_session_come_one_after_the_other() {
        let mut replays = Replays::new(Seed::new(1));
        replays.begin(ONE, replay("a", 1));
        replays.begin(ONE, replay("b", 2));
        replays.begin(OTHER, replay("a", 3));
        assert_eq!(oldest(&mut replays, ONE), Some(1));
        replays.end_oldest(ONE);
        assert_eq!(oldest(&mut replays, ONE), Some(2));
        replays.end_oldest(ONE);
        assert!(!replays.has_any(ONE) && replays.has_any(OTHER));
        assert!(replays.take(OTHER).is_some_and(|mut taken| taken.drop_one()));
        assert!(replays.is_empty());
    }

    #[test]
    fn a_filter_has_one_replay_and_the_others_keep_their_order() {
        let mut replays = Replays::new(Seed::new(1));
        for (filter, id) in [("a", 1), ("b", 2), ("c", 3), ("a", 4), ("d", 5)] {
            replays.begin(ONE, replay(filter, id));
        }
        let options = SubscriptionOptions::with_qos(QoS::AtMostOnce);
        replays.of(ONE).unwrap().replace("c", options, 6, 0);
        replays.of(ONE).unwrap().replace("none", options, 7, 0);
        replays.end(ONE, "d");
        replays.end(ONE, "none");
        for id in [2, 6, 4] {
            assert_eq!(oldest(&mut replays, ONE), Some(id));
            replays.end_oldest(ONE);
        }
        assert!(replays.is_empty());
    }

    #[test]
    fn a_session_has_so_many_replays_and_no_more() {
        let mut replays = Replays::new(Seed::new(1));
        (0..REPLAYS_MAX).for_each(|n| replays.begin(ONE, replay(&n.to_string(), 0)));
        assert!(replays.are_full(ONE) && !replays.are_full(OTHER));
    }
}
