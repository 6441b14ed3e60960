//! Holding publishers back for a subscriber that cannot keep up, for a limited time.
//!
//! A subscriber begins to press its publishers when its outbox or its queue is more than half full,
//! or when messages wait in its fast queue for longer than some milliseconds. It presses them until
//! it has caught up. Their PUBACK and PUBREC packets are kept back, which stops a client with a
//! window. After about sixty of them, or before a PUBLISH at QoS 0, nothing more is read from a
//! publisher. Its packets before that are still read, its own acknowledgements first of all: so two
//! clients that flood each other do not block each other.
//!
//! So a subscriber that is fast enough loses nothing at any load. The other subscribers must not
//! wait long for a slow one, so the patience is limited. If a subscriber has not caught up in time,
//! its publishers go on, and its limits take effect: messages are dropped, or it is disconnected if
//! the rules say so. It gets new patience only after it has caught up.
//!
//! Knows which subscriber presses which publishers, and since when. Does not know what is done to a
//! publisher.

use crate::base::{
    hash::{Map, Seed, Set},
    ids::{ConnectionId, ShardId, SubscriberId},
    time::{Moment, Span},
};

/// A connection that publishes, on whichever shard it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Publisher {
    pub(super) shard: ShardId,
    pub(super) connection: ConnectionId,
}

/// The subscribers that press, each with the publishers that wait for it.
#[derive(Debug)]
pub(super) struct Pressure {
    seed: Seed,
    pressing: Map<SubscriberId, Pressing>,
    offenders: Offenders,
}

/// A subscriber that cannot keep up.
#[derive(Debug)]
struct Pressing {
    since: Moment,
    /// `None`: patience has run out.
    held: Option<Set<Publisher>>,
    /// Bytes that may still go beyond the limits.
    grace: usize,
    /// Whether the subscriber has been checked for the first time.
    looked: bool,
}

/// What a message for a crowded subscriber has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pressed {
    /// The subscriber has begun to press. The caller checks it again when its outbox drains, and
    /// when the patience is over.
    pub(super) begins: bool,
    /// The publisher waits for the subscriber from now on.
    pub(super) holds: bool,
}

/// The result of checking a subscriber that presses.
#[derive(Debug)]
pub(super) enum Looked {
    Nothing,
    /// Check it once more at this moment, when the patience is over.
    Again(Moment),
    /// Patience is over: these publishers go on without it.
    Over(Set<Publisher>),
}

/// When a subscriber is checked for the first time, because a fast queue may have stopped.
pub(super) const FIRST_LOOK: Span = Span::from_millis(20);

/// Bytes by which a session may exceed its limits while its publishers are held back: more than
/// the mailboxes of a few shards hold.
const GRACE_BYTES: usize = 16 << 20;

impl Pressure {
    pub(super) fn new(seed: Seed) -> Pressure {
        Pressure { seed, pressing: Map::with_hasher(seed), offenders: Offenders::new(seed) }
    }

    /// Makes a publisher wait for a subscriber that its message has crowded.
    pub(super) fn press(
        &mut self,
        subscriber: SubscriberId,
        client_id: &str,
        publisher: Publisher,
        now: Moment,
    ) -> Pressed {
        let begins = !self.pressing.contains_key(&subscriber);
        let pressing = self.pressing.entry(subscriber).or_insert_with(|| {
            let is_waited_for = !self.offenders.is_noted(client_id, now);
            let held = is_waited_for.then(|| Set::with_hasher(self.seed));
            Pressing { since: now, held, grace: GRACE_BYTES, looked: false }
        });
        let holds = pressing.held.as_mut().is_some_and(|held| held.insert(publisher));
        Pressed { begins, holds }
    }

    /// Whether a subscriber presses, so that the caller has to check whether it has caught up.
    #[inline]
    pub(super) fn is_pressing(&self, subscriber: SubscriberId) -> bool {
        !self.pressing.is_empty() && self.pressing.contains_key(&subscriber)
    }

    /// Takes `bytes` from those by which a subscriber may exceed its limits. False: too few are
    /// left.
    pub(super) fn spend_grace(&mut self, subscriber: SubscriberId, bytes: usize) -> bool {
        let Some(pressing) = self.pressing.get_mut(&subscriber) else { return false };
        let left = pressing.grace.checked_sub(bytes).filter(|_| pressing.held.is_some());
        pressing.grace = left.unwrap_or(0);
        left.is_some()
    }

    /// The subscriber has caught up. Returns the publishers that may go on.
    pub(super) fn ease(&mut self, subscriber: SubscriberId) -> Set<Publisher> {
        let pressing = self.pressing.remove(&subscriber);
        self.or_nobody(pressing.and_then(|pressing| pressing.held))
    }

    /// The subscriber's connection has ended. If publishers waited for it, it gets no new patience
    /// by reconnecting. Returns the publishers that may go on.
    pub(super) fn give_up(
        &mut self,
        subscriber: SubscriberId,
        client_id: &str,
        now: Moment,
    ) -> Set<Publisher> {
        if self.is_pressing(subscriber) {
            self.offenders.note(client_id, now);
        }
        self.ease(subscriber)
    }

    /// Checks whether the patience with a subscriber that has not caught up is over.
    pub(super) fn look(&mut self, subscriber: SubscriberId, patience: Span, now: Moment) -> Looked {
        let Some(pressing) = self.pressing.get_mut(&subscriber) else { return Looked::Nothing };
        let over = pressing.since + patience;
        // A timer of an earlier press may find a later one.
        let is_first = !pressing.looked && pressing.since + FIRST_LOOK <= now;
        if over <= now {
            return pressing.held.take().map_or(Looked::Nothing, Looked::Over);
        }
        pressing.looked |= is_first;
        if is_first && pressing.held.is_some() { Looked::Again(over) } else { Looked::Nothing }
    }

    fn or_nobody(&self, held: Option<Set<Publisher>>) -> Set<Publisher> {
        held.unwrap_or_else(|| Set::with_hasher(self.seed))
    }
}

/// Client Identifiers whose last connections ended while publishers waited for them.
#[derive(Debug)]
struct Offenders {
    until: Map<u64, Moment>,
    seed: Seed,
}

/// How long no publisher waits for such a client.
const OFFENCE_SPAN: Span = Span::from_secs(60);
/// How many of them are remembered. Beyond it, those whose time has passed are forgotten, or all.
const OFFENDERS_MAX: usize = 4096;

impl Offenders {
    fn new(seed: Seed) -> Offenders {
        Offenders { until: Map::with_hasher(seed), seed }
    }

    fn note(&mut self, client_id: &str, now: Moment) {
        if self.until.len() >= OFFENDERS_MAX {
            self.until.retain(|_, until| *until > now);
        }
        if self.until.len() >= OFFENDERS_MAX {
            self.until.clear();
        }
        self.until.insert(self.seed.hash(client_id), now + OFFENCE_SPAN);
    }

    fn is_noted(&self, client_id: &str, now: Moment) -> bool {
        !self.until.is_empty()
            && self.until.get(&self.seed.hash(client_id)).is_some_and(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: SubscriberId = SubscriberId(3);
    const PATIENCE: Span = Span::from_secs(10);

    fn pressure() -> Pressure {
        Pressure::new(Seed::new(1))
    }

    fn publisher(slot: u32) -> Publisher {
        let shard = ShardId::new(0).unwrap();
        Publisher { shard, connection: ConnectionId { slot, generation: 0 } }
    }

    fn at(seconds: u64) -> Moment {
        Moment::from_nanos(Span::from_secs(seconds).as_nanos())
    }

    #[test]
    fn each_publisher_waits_once_and_goes_on_when_the_subscriber_has_caught_up() {
        let mut pressure = pressure();
        let mut press = |slot| pressure.press(SLOW, "slow", publisher(slot), at(0));
        assert_eq!(press(1), Pressed { begins: true, holds: true });
        assert_eq!(press(1), Pressed { begins: false, holds: false });
        assert_eq!(press(2), Pressed { begins: false, holds: true });
        assert!(pressure.is_pressing(SLOW));
        assert_eq!(pressure.ease(SLOW).len(), 2);
        assert!(!pressure.is_pressing(SLOW) && pressure.ease(SLOW).is_empty());
    }

    fn over(looked: Looked) -> Option<usize> {
        match looked {
            Looked::Over(held) => Some(held.len()),
            Looked::Nothing | Looked::Again(_) => None,
        }
    }

    #[test]
    fn patience_runs_out_once_and_comes_back_when_the_subscriber_has_caught_up() {
        let mut pressure = pressure();
        pressure.press(SLOW, "slow", publisher(1), at(0));
        assert_eq!(over(pressure.look(SLOW, PATIENCE, at(9))), None);
        assert_eq!(over(pressure.look(SLOW, PATIENCE, at(10))), Some(1));
        assert_eq!(over(pressure.look(SLOW, PATIENCE, at(20))), None);
        let later = pressure.press(SLOW, "slow", publisher(2), at(20));
        assert_eq!(later, Pressed { begins: false, holds: false });
        assert!(!pressure.spend_grace(SLOW, 1));
        assert!(pressure.ease(SLOW).is_empty());
        let anew = pressure.press(SLOW, "slow", publisher(2), at(21));
        assert_eq!(anew, Pressed { begins: true, holds: true });
    }

    #[test]
    fn the_first_look_at_a_press_asks_for_one_more_at_the_end_of_patience() {
        let mut pressure = pressure();
        let ms = |millis| at(0) + Span::from_millis(millis);
        pressure.press(SLOW, "slow", publisher(1), ms(0));
        let mut look = |millis| pressure.look(SLOW, PATIENCE, ms(millis));
        assert!(matches!(look(19), Looked::Nothing), "the timer of an earlier press");
        assert!(matches!(look(20), Looked::Again(due) if due == at(10)));
        assert!(matches!(look(21), Looked::Nothing));
    }

    #[test]
    fn who_leaves_while_others_wait_is_not_waited_for_within_a_minute() {
        let mut pressure = pressure();
        pressure.press(SLOW, "slow", publisher(1), at(0));
        assert_eq!(pressure.give_up(SLOW, "slow", at(5)).len(), 1);
        let mut press = |seconds| pressure.press(SLOW, "slow", publisher(1), at(seconds));
        assert_eq!(press(64), Pressed { begins: true, holds: false });
        pressure.ease(SLOW);
        let mut press = |seconds| pressure.press(SLOW, "slow", publisher(1), at(seconds));
        assert_eq!(press(65), Pressed { begins: true, holds: true });
    }

    #[test]
    fn so_many_bytes_go_beyond_the_limits_and_no_more() {
        let mut pressure = pressure();
        assert!(!pressure.spend_grace(SLOW, 1));
        pressure.press(SLOW, "slow", publisher(1), at(0));
        assert!(pressure.spend_grace(SLOW, GRACE_BYTES));
        assert!(!pressure.spend_grace(SLOW, 1));
    }

    #[test]
    fn the_offenders_that_are_known_stay_within_their_limit() {
        let mut offenders = Offenders::new(Seed::new(1));
        for number in 0..OFFENDERS_MAX {
            offenders.note(&number.to_string(), at(0));
        }
        offenders.note("late", at(60));
        assert_eq!(offenders.until.len(), 1);
        assert!(offenders.is_noted("late", at(60)) && !offenders.is_noted("0", at(1)));
    }
}
