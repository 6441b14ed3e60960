//! Retained messages that subscriptions have asked for and that have not been sent yet.

use std::collections::VecDeque;

use crate::{
    base::{
        hash::{Map, Seed},
        ids::SubscriberId,
    },
    mqtt::QoS,
    routing::Cursor,
};

/// Retained messages on their way to one subscription.
#[derive(Debug)]
pub(super) struct Replay {
    pub(super) cursor: Cursor,
    pub(super) qos: QoS,
    /// 0 for none.
    pub(super) subscription_id: u32,
    /// Its client may not read all of it, as in [`Granted`](super::granted::Granted).
    pub(super) is_partly: bool,
}

/// The replays of all sessions. Most sessions have none.
#[derive(Debug)]
pub(super) struct Replays(Map<SubscriberId, VecDeque<Replay>>);

/// Replays that wait for one session; a SUBSCRIBE beyond them is answered Quota exceeded.
const REPLAYS_MAX: usize = 100_000;

impl Replays {
    pub(super) fn new(seed: Seed) -> Replays {
        Replays(Map::with_hasher(seed))
    }

    /// Begins one more for a session, after those that it has.
    pub(super) fn begin(&mut self, subscriber: SubscriberId, replay: Replay) {
        self.0.entry(subscriber).or_default().push_back(replay);
    }

    pub(super) fn are_full(&self, subscriber: SubscriberId) -> bool {
        self.0.get(&subscriber).is_some_and(|replays| replays.len() >= REPLAYS_MAX)
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has_any(&self, subscriber: SubscriberId) -> bool {
        self.0.contains_key(&subscriber)
    }

    /// The oldest replay of a session: the others wait for it.
    pub(super) fn oldest(&mut self, subscriber: SubscriberId) -> Option<&mut Replay> {
        self.0.get_mut(&subscriber)?.front_mut()
    }

    /// Ends the oldest replay of a session.
    pub(super) fn end_oldest(&mut self, subscriber: SubscriberId) {
        if let Some(replays) = self.0.get_mut(&subscriber) {
            replays.pop_front();
            if replays.is_empty() {
                self.0.remove(&subscriber);
            }
        }
    }

    /// The session has ended.
    pub(super) fn forget(&mut self, subscriber: SubscriberId) {
        self.0.remove(&subscriber);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{routing::RetainedStore, session::message::Message, topic::TopicFilter};

    const ONE: SubscriberId = SubscriberId(1);
    const OTHER: SubscriberId = SubscriberId(2);

    fn replay(subscription_id: u32) -> Replay {
        let store: RetainedStore<std::rc::Rc<Message>> = RetainedStore::default();
        let cursor = store.open(TopicFilter::parse("#").unwrap());
        Replay { cursor, qos: QoS::AtMostOnce, subscription_id, is_partly: false }
    }

    #[test]
    fn the_replays_of_a_session_come_one_after_the_other() {
        let mut replays = Replays::new(Seed::new(1));
        replays.begin(ONE, replay(1));
        replays.begin(ONE, replay(2));
        replays.begin(OTHER, replay(3));
        let oldest = |replays: &mut Replays, of| replays.oldest(of).map(|it| it.subscription_id);
        assert_eq!(oldest(&mut replays, ONE), Some(1));
        replays.end_oldest(ONE);
        assert_eq!(oldest(&mut replays, ONE), Some(2));
        replays.end_oldest(ONE);
        assert!(!replays.has_any(ONE) && replays.has_any(OTHER));
        replays.forget(OTHER);
        assert!(replays.is_empty());
    }

    #[test]
    fn a_session_has_so_many_replays_and_no_more() {
        let mut replays = Replays::new(Seed::new(1));
        (0..REPLAYS_MAX).for_each(|_| replays.begin(ONE, replay(0)));
        assert!(replays.are_full(ONE) && !replays.are_full(OTHER));
    }
}
