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
//! wait long for a slow one, so the patience is limited: see [`super::patience`]. When it has run
//! out, the publishers go on, and the limits of the subscriber take effect: messages are dropped,
//! or it is disconnected if the rules say so.
//!
//! Knows which subscriber presses which publishers, and since when. Does not know what is done to a
//! publisher.

use super::{
    patience::{Accounts, Patience, Standing, Taken, Terms},
    ports::Backlog,
};
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

/// Publishers that wait, or have waited, for a subscriber with this patience.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) patience: Patience,
    pub(super) publishers: Set<Publisher>,
}

/// The subscribers that press, each with the publishers that wait for it.
#[derive(Debug)]
pub(super) struct Pressure {
    seed: Seed,
    pressing: Map<SubscriberId, Pressing>,
    accounts: Accounts,
}

/// A subscriber that cannot keep up.
#[derive(Debug)]
struct Pressing {
    account: u64,
    since: Moment,
    standing: Standing,
    /// The publishers that wait; nobody while patience has run out.
    publishers: Set<Publisher>,
    /// Bytes that may still go beyond the limits.
    grace: usize,
    /// What had left the queue, and what waited in it, at the last look.
    queue: QueueSeen,
    /// When the subscriber has last been seen to take anything.
    moved: Moment,
    /// When it is to be checked next, and when all that wait may go on for one packet.
    look_at: Moment,
    let_go_at: Moment,
}

/// What can be seen of how a subscriber takes what it is sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) outbox: Backlog,
    pub(super) queue: QueueSeen,
}

/// The queue of a subscriber.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct QueueSeen {
    /// Since when there have been messages in it.
    pub(super) since: Option<Moment>,
    /// How many have left since then.
    pub(super) taken: u64,
    pub(super) waiting: usize,
}

/// The result of checking a subscriber that presses.
#[derive(Debug)]
pub(super) struct Looked {
    /// When to check it once more.
    pub(super) again: Moment,
    pub(super) change: Change,
}

#[derive(Debug)]
pub(super) enum Change {
    Nothing,
    /// Those that wait for it do so with another patience than this one.
    Patience(Patience),
    /// These publishers have waited for long enough at a time, and go on until their next message
    /// presses them again.
    LetGo(Held),
    /// Patience is over: these publishers go on without it.
    Over(Held),
}

/// When a subscriber is checked for the first time, because a fast queue may have stopped.
pub(super) const FIRST_LOOK: Span = Span::from_millis(20);
/// How long publishers wait for one subscriber at a time.
const HOLD_MAX: Span = Span::from_millis(200);

/// Bytes by which a session may exceed its limits while its publishers are held back: more than
/// the mailboxes of a few shards hold.
const GRACE_BYTES: usize = 16 << 20;
/// The part of them for granted patience: publishers send on before it is over.
const GRANTED_GRACE_BYTES: usize = 4 << 20;

impl Seen {
    /// Since when the subscriber has been behind.
    fn since(&self) -> Option<Moment> {
        [self.outbox.since, self.queue.since].into_iter().flatten().min()
    }
}

impl QueueSeen {
    /// How many messages have left since an earlier look. A queue that was empty counts anew.
    fn taken_since(self, earlier: QueueSeen) -> u64 {
        let more = self.taken.checked_sub(earlier.taken).filter(|_| self.since == earlier.since);
        more.unwrap_or(earlier.waiting as u64)
    }
}

impl Pressure {
    pub(super) fn new(seed: Seed) -> Pressure {
        let accounts = Accounts::new(seed);
        Pressure { seed, pressing: Map::with_hasher(seed), accounts }
    }

    /// A subscriber of this account begins to press. Returns when to check it.
    pub(super) fn begin(
        &mut self,
        subscriber: SubscriberId,
        (account, seen): (u64, Seen),
        terms: &Terms,
        now: Moment,
    ) -> Moment {
        let taken = Taken { bytes: seen.outbox.taken, messages: 0 };
        let since = seen.since().unwrap_or(now);
        let moved = if taken.bytes > 0 { now } else { seen.outbox.moved.unwrap_or(now) };
        let standing = self.accounts.begin(account, (since, moved, taken), terms, now);
        let look_at = now + FIRST_LOOK.min(terms.granted);
        let pressing = Pressing {
            account,
            since: now,
            standing,
            publishers: Set::with_hasher(self.seed),
            grace: GRACE_BYTES,
            queue: seen.queue,
            moved,
            look_at,
            let_go_at: now + HOLD_MAX,
        };
        self.pressing.insert(subscriber, pressing);
        look_at
    }

    /// Makes a publisher wait for a subscriber that presses. Returns the patience with it, if the
    /// publisher waits from now on.
    pub(super) fn hold(
        &mut self,
        subscriber: SubscriberId,
        publisher: Publisher,
    ) -> Option<Patience> {
        let pressing = self.pressing.get_mut(&subscriber)?;
        let patience = pressing.standing.patience()?;
        pressing.publishers.insert(publisher).then_some(patience)
    }

    /// Whether a subscriber presses, so that the caller has to check whether it has caught up.
    #[inline]
    pub(super) fn is_pressing(&self, subscriber: SubscriberId) -> bool {
        !self.pressing.is_empty() && self.pressing.contains_key(&subscriber)
    }

    /// The publishers that wait for a subscriber, and the patience with it.
    pub(super) fn held(&self, subscriber: SubscriberId) -> Option<(Patience, &Set<Publisher>)> {
        let pressing = self.pressing.get(&subscriber)?;
        Some((pressing.standing.patience()?, &pressing.publishers))
    }

    /// Takes `bytes` from those by which a subscriber may exceed its limits. False: too few are
    /// left.
    pub(super) fn spend_grace(&mut self, subscriber: SubscriberId, bytes: usize) -> bool {
        let Some(pressing) = self.pressing.get_mut(&subscriber) else { return false };
        let kept = match pressing.standing.patience() {
            Some(Patience::Earned) => 0,
            Some(Patience::Granted) => GRACE_BYTES - GRANTED_GRACE_BYTES,
            None => return false,
        };
        let left = pressing.grace.checked_sub(bytes).filter(|left| *left >= kept);
        pressing.grace = left.unwrap_or_else(|| pressing.grace.min(kept));
        left.is_some()
    }

    /// The subscriber has caught up, or its connection has ended. Returns the publishers that may
    /// go on.
    pub(super) fn end(
        &mut self,
        subscriber: SubscriberId,
        seen: Option<Seen>,
        terms: &Terms,
        now: Moment,
    ) -> Option<Held> {
        let mut pressing = self.pressing.remove(&subscriber)?;
        if let Some(seen) = seen {
            pressing.note(seen, &mut self.accounts, terms, now);
        }
        self.accounts.end(pressing.account, pressing.standing, terms, now);
        let patience = pressing.standing.patience()?;
        Some(Held { patience, publishers: pressing.publishers })
    }

    /// Checks whether the patience with a subscriber that has not caught up is over. `None`: it is
    /// not time yet, as when a reminder of an earlier press finds a later one.
    pub(super) fn look(
        &mut self,
        subscriber: SubscriberId,
        seen: Seen,
        terms: &Terms,
        now: Moment,
    ) -> Option<Looked> {
        let pressing = self.pressing.get_mut(&subscriber)?;
        if now < pressing.look_at {
            return None;
        }
        pressing.note(seen, &mut self.accounts, terms, now);
        let (account, before) = (pressing.account, pressing.standing);
        let idle = now.since(pressing.moved);
        let standing = self.accounts.choose(account, (before, idle), terms, now);
        pressing.standing = standing;
        let change = pressing.change(before, self.seed, now);
        pressing.look_later(self.accounts.lasts(account, standing, terms), now);
        Some(Looked { again: pressing.look_at, change })
    }
}

impl Pressing {
    /// Notes what the subscriber has taken, and what its account earns by that.
    fn note(&mut self, seen: Seen, accounts: &mut Accounts, terms: &Terms, now: Moment) {
        let messages = seen.queue.taken_since(self.queue);
        self.queue = seen.queue;
        let taken = Taken { bytes: seen.outbox.taken, messages };
        if taken != Taken::default() {
            self.moved = now;
            accounts.earn(self.account, taken, terms, now);
        }
    }

    /// Has the subscriber checked when its standing may end, and meanwhile after twice the time
    /// that it has pressed.
    fn look_later(&mut self, lasts: Span, now: Moment) {
        let doubled = now + now.since(self.since);
        let next = doubled.min(now + lasts).min(self.let_go_at);
        self.look_at = next.max(now + LOOK_PAUSE);
    }

    /// What becomes of those that wait, now that the standing is another one, or has lasted.
    fn change(&mut self, before: Standing, seed: Seed, now: Moment) -> Change {
        let is_long = self.let_go_at <= now;
        if is_long {
            self.let_go_at = now + HOLD_MAX;
        }
        let after = self.standing.patience();
        let Some(patience) = before.patience() else { return Change::Nothing };
        if after.is_none() || is_long {
            let publishers = std::mem::replace(&mut self.publishers, Set::with_hasher(seed));
            let held = Held { patience, publishers };
            return if after.is_none() { Change::Over(held) } else { Change::LetGo(held) };
        }
        if after == Some(patience) { Change::Nothing } else { Change::Patience(patience) }
    }
}

/// The time between two looks at least.
const LOOK_PAUSE: Span = Span::from_millis(16);

#[cfg(test)]
mod tests {
    use super::{super::rules::tests::rules, *};

    const SLOW: SubscriberId = SubscriberId(3);
    const ACCOUNT: u64 = 7;

    /// A broker with a patience of half a second.
    fn pressure() -> (Pressure, Terms) {
        let limits = super::super::rules::Limits {
            patience: Span::from_millis(500),
            outbox_bytes_max: 1 << 20,
            ..rules().limits
        };
        (Pressure::new(Seed::new(1)), Terms::of(&limits))
    }

    fn publisher(slot: u32) -> Publisher {
        let shard = ShardId::new(0).unwrap();
        Publisher { shard, connection: ConnectionId { slot, generation: 0 } }
    }

    fn at(millis: u64) -> Moment {
        Moment::default() + Span::from_millis(millis)
    }

    /// A subscriber that has taken so many kilobytes more.
    fn taken(kilobytes: u64) -> Seen {
        let outbox = Backlog { since: Some(at(0)), moved: Some(at(0)), taken: kilobytes << 10 };
        Seen { outbox, ..Seen::default() }
    }

    fn begin(pressure: &mut Pressure, terms: &Terms, millis: u64) -> Moment {
        pressure.begin(SLOW, (ACCOUNT, taken(0)), terms, at(millis))
    }

    #[test]
    fn each_publisher_waits_once_and_goes_on_when_the_subscriber_has_caught_up() {
        let (mut pressure, terms) = pressure();
        assert_eq!(pressure.hold(SLOW, publisher(1)), None);
        assert_eq!(begin(&mut pressure, &terms, 0), at(20));
        assert_eq!(pressure.hold(SLOW, publisher(1)), Some(Patience::Granted));
        assert_eq!(pressure.hold(SLOW, publisher(1)), None);
        assert_eq!(pressure.hold(SLOW, publisher(2)), Some(Patience::Granted));
        let held = pressure.end(SLOW, Some(taken(256)), &terms, at(3)).unwrap();
        assert_eq!((held.publishers.len(), held.patience), (2, Patience::Granted));
        assert!(!pressure.is_pressing(SLOW));
        assert!(pressure.end(SLOW, None, &terms, at(3)).is_none());
        begin(&mut pressure, &terms, 4);
        assert_eq!(pressure.hold(SLOW, publisher(1)), Some(Patience::Earned));
    }

    /// Looks whenever it is asked to, until this time. Says when, and what it has seen.
    fn looks(each_kilobytes: u64, until: u64) -> Vec<(u64, &'static str)> {
        let (mut pressure, terms) = pressure();
        let mut looks = Vec::new();
        let mut next = begin(&mut pressure, &terms, 0);
        while next <= at(until) {
            let looked = pressure.look(SLOW, taken(each_kilobytes), &terms, next).unwrap();
            let word = match looked.change {
                Change::Nothing => "nothing",
                Change::Patience(Patience::Granted) => "earned",
                Change::Patience(Patience::Earned) => "granted",
                Change::LetGo(_) => "let go",
                Change::Over(_) => "over",
            };
            looks.push((next.as_nanos() / 1_000_000, word));
            next = looked.again;
        }
        looks
    }

    #[test]
    fn who_stalls_is_looked_at_seldom_and_until_patience_is_over() {
        let looked = looks(0, 520);
        let (first, last) = looked.split_at(5);
        let waits = [(20, "nothing"), (40, "nothing"), (80, "nothing"), (160, "nothing")];
        assert_eq!(first, [&waits[..], &[(200, "let go")]].concat());
        assert!(matches!(last, [.., (400, "let go"), (484..=510, "over")]), "{last:?}");
    }

    #[test]
    fn who_takes_much_is_waited_for_and_let_go_five_times_in_a_second() {
        let looked = looks(4_096, 1_010);
        assert_eq!(looked[0], (20, "earned"));
        assert_eq!(looked.iter().filter(|(_, word)| *word == "let go").count(), 5);
        assert!(looked.iter().all(|(_, word)| !["over", "granted"].contains(word)));
    }

    #[test]
    fn who_stops_is_granted_patience_once_more_and_waited_for_again_when_it_goes_on() {
        let (mut pressure, terms) = pressure();
        begin(&mut pressure, &terms, 0);
        let mut look = |kilobytes, millis| {
            let change = pressure.look(SLOW, taken(kilobytes), &terms, at(millis)).unwrap().change;
            (format!("{change:?}"), pressure.hold(SLOW, publisher(u32::try_from(millis).unwrap())))
        };
        assert_eq!(look(2_048, 20), ("Patience(Granted)".into(), Some(Patience::Earned)));
        assert!(
            matches!(look(0, 220), (change, Some(Patience::Granted)) if change.starts_with("LetGo"))
        );
        assert!(matches!(look(0, 750), (change, None) if change.starts_with("Over")));
        assert_eq!(look(256, 1_000), ("Nothing".into(), None), "it has been late for longer");
        assert_eq!(look(4_096, 1_250), ("Nothing".into(), Some(Patience::Earned)));
    }

    #[test]
    fn the_reminder_of_an_earlier_press_does_nothing() {
        let (mut pressure, terms) = pressure();
        begin(&mut pressure, &terms, 0);
        assert!(pressure.look(SLOW, taken(9), &terms, at(19)).is_none());
        assert!(pressure.look(SLOW, taken(9), &terms, at(20)).is_some());
    }

    #[test]
    fn messages_of_a_queue_that_became_empty_meanwhile_count() {
        let seen = |since, taken, waiting| QueueSeen { since, taken, waiting };
        let earlier = seen(Some(at(1)), 10, 7);
        assert_eq!(seen(Some(at(1)), 12, 5).taken_since(earlier), 2);
        assert_eq!(seen(Some(at(2)), 20, 5).taken_since(earlier), 7);
        assert_eq!(seen(None, 0, 0).taken_since(earlier), 7);
    }

    #[test]
    fn so_many_bytes_go_beyond_the_limits_and_no_more() {
        let (mut pressure, terms) = pressure();
        assert!(!pressure.spend_grace(SLOW, 1));
        begin(&mut pressure, &terms, 0);
        assert!(pressure.spend_grace(SLOW, GRANTED_GRACE_BYTES));
        assert!(!pressure.spend_grace(SLOW, 1));
        pressure.look(SLOW, taken(4_096), &terms, at(20));
        assert!(pressure.spend_grace(SLOW, GRACE_BYTES - GRANTED_GRACE_BYTES));
        assert!(!pressure.spend_grace(SLOW, 1));
    }
}
