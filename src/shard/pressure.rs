//! Holding publishers back for a subscriber that cannot keep up, for a limited time.
//!
//! A subscriber whose outbox or queue is more than half full presses its publishers until it has
//! caught up: their messages at QoS 1 and 2 are not acknowledged, which stops a client that keeps
//! to a window, and after some sixty of them, or before one at QoS 0, nothing more is read. What
//! they send besides, their own acknowledgements first of all, is read on: two clients that flood
//! each other do not block each other.
//!
//! That keeps a fast subscriber lossless at any load. It may not cost the others anything for
//! long, so the patience with it is limited: when it has not caught up in time, its publishers go
//! on without it, and its limits take effect (drop at QoS 0, disconnect at QoS 1 and 2). It gets
//! new patience only after it has caught up.

use super::{Shard, letter::Letter, ports::Ports, timers::Timer};
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

/// Who waits for one subscriber.
#[derive(Debug)]
pub(super) struct Pressure {
    since: Moment,
    held: Waiting,
    /// Bytes that may still go beyond the limits.
    grace: usize,
}

/// What may go beyond a session's limits while its publishers are held back: more than what the
/// mailboxes of a few shards hold.
const GRACE_BYTES: usize = 16 << 20;

#[derive(Debug)]
enum Waiting {
    Publishers(Set<Publisher>),
    Exhausted,
}

impl Pressure {
    /// Takes `bytes` from what may go beyond the limits. False: no more may.
    pub(super) fn spend_grace(&mut self, bytes: usize) -> bool {
        let left = self.grace.checked_sub(bytes).filter(|_| !self.exhausted());
        self.grace = left.unwrap_or(0);
        left.is_some()
    }

    /// Whether patience with the subscriber has run out.
    pub(super) fn exhausted(&self) -> bool {
        matches!(self.held, Waiting::Exhausted)
    }
}

/// Client Identifiers whose last connections ended while publishers waited for them.
#[derive(Debug)]
pub(super) struct Offenders {
    until: Map<u64, Moment>,
    seed: Seed,
}

/// How long nobody waits for such a client.
const OFFENCE_SPAN: Span = Span::from_secs(60);
/// How many are known at once; beyond it those whose time has passed are forgotten, or all.
const OFFENDERS_MAX: usize = 4096;

impl Offenders {
    pub(super) fn new(seed: Seed) -> Offenders {
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

impl Shard {
    /// Makes a publisher wait for all subscribers that its last message crowded.
    pub(super) fn hold_for_crowded(
        &mut self,
        publisher: Option<Publisher>,
        ports: &mut impl Ports,
    ) {
        let mut crowded = std::mem::take(&mut self.buffers.crowded);
        if let Some(publisher) = publisher.filter(|_| !self.rules.limits.patience.is_zero()) {
            for subscriber in &crowded {
                self.hold_for(*subscriber, publisher, ports);
            }
        }
        crowded.clear();
        self.buffers.crowded = crowded;
    }

    fn hold_for(&mut self, subscriber: SubscriberId, publisher: Publisher, ports: &mut impl Ports) {
        let Some(session) = self.sessions.get_mut(subscriber) else { return };
        let Some(link) = session.link else { return };
        // A client that publishes to itself reads its own answers: it must not wait for itself.
        if publisher.shard == self.settings.shard && publisher.connection == link.connection {
            return;
        }
        let pressure = session.pressure.get_or_insert_with(|| {
            self.wheel.insert(self.now + self.rules.limits.patience, Timer::Patience(subscriber));
            ports.notify_drained(link.connection);
            let held = if self.offenders.is_noted(&session.client_id, self.now) {
                Waiting::Exhausted
            } else {
                Waiting::Publishers(Set::with_hasher(self.settings.seed))
            };
            Box::new(Pressure { since: self.now, held, grace: GRACE_BYTES })
        });
        let Waiting::Publishers(held) = &mut pressure.held else { return };
        if !held.insert(publisher) {
            return;
        }
        self.counters.holds += 1;
        if publisher.shard == self.settings.shard {
            self.press(publisher.connection);
        } else {
            let letter = Letter::Press { publisher: publisher.connection };
            ports.letters(publisher.shard).push(letter);
        }
    }

    /// Lets the publishers go on once the subscriber has caught up.
    pub(super) fn ease(&mut self, subscriber: SubscriberId, ports: &mut impl Ports) {
        let limits = &self.rules.limits;
        let Some(session) = self.sessions.get_mut(subscriber) else { return };
        if session.pressure.is_none() {
            return;
        }
        if let Some(link) = session.link {
            if ports.outbox_room(link.connection) < limits.outbox_bytes_max / 4 * 3 {
                ports.notify_drained(link.connection);
                return;
            }
            if session.outbound.queue.is_above(25, &limits.queue) {
                return;
            }
        }
        self.relieve(subscriber, ports);
    }

    /// The connection of a subscriber has ended. One that leaves while others wait for it does not
    /// get new patience by coming back.
    pub(super) fn give_up(&mut self, subscriber: SubscriberId, ports: &mut impl Ports) {
        if let Some(session) = self.sessions.get(subscriber)
            && session.pressure.is_some()
        {
            self.offenders.note(&session.client_id, self.now);
        }
        self.relieve(subscriber, ports);
    }

    /// Lets the publishers go on because the subscriber is no longer waited for at all.
    pub(super) fn relieve(&mut self, subscriber: SubscriberId, ports: &mut impl Ports) {
        let session = self.sessions.get_mut(subscriber);
        if let Some(pressure) = session.and_then(|session| session.pressure.take()) {
            self.release_all(pressure.held, ports);
        }
    }

    /// Patience may be at its end.
    pub(super) fn handle_patience(&mut self, subscriber: SubscriberId, ports: &mut impl Ports) {
        self.ease(subscriber, ports);
        let Some(session) = self.sessions.get_mut(subscriber) else { return };
        let Some(pressure) = &mut session.pressure else { return };
        if pressure.exhausted() || pressure.since + self.rules.limits.patience > self.now {
            return;
        }
        let held = std::mem::replace(&mut pressure.held, Waiting::Exhausted);
        self.counters.patience_exhausted += 1;
        self.release_all(held, ports);
    }

    fn release_all(&mut self, held: Waiting, ports: &mut impl Ports) {
        let Waiting::Publishers(held) = held else { return };
        for publisher in held {
            if publisher.shard == self.settings.shard {
                self.unpress(publisher.connection, ports);
            } else {
                let letter = Letter::Ease { publisher: publisher.connection };
                ports.letters(publisher.shard).push(letter);
            }
        }
    }

    /// One more subscriber cannot keep up with this publisher. One that has gone meanwhile has
    /// nothing to wait for.
    pub(super) fn press(&mut self, connection: ConnectionId) {
        if let Some(publisher) = self.connections.get_mut(connection) {
            publisher.press();
        }
    }

    /// One subscriber less presses this publisher.
    pub(super) fn unpress(&mut self, connection: ConnectionId, ports: &mut impl Ports) {
        let Some(publisher) = self.connections.get_mut(connection) else { return };
        let was_held = publisher.is_held();
        let deferred = publisher.unpress();
        if !deferred.is_empty() {
            ports.send(connection, &deferred);
        }
        if was_held {
            self.read_on(connection, ports);
        }
    }

    /// Stops reading from a connection for one more reason.
    pub(super) fn hold(&mut self, connection: ConnectionId, ports: &mut impl Ports) {
        if let Some(held) = self.connections.get_mut(connection) {
            held.hold();
            ports.pause(connection);
        }
    }

    /// Takes one reason back, and reads on when there is none left.
    pub(super) fn release(&mut self, connection: ConnectionId, ports: &mut impl Ports) {
        if let Some(held) = self.connections.get_mut(connection) {
            held.release();
            self.read_on(connection, ports);
        }
    }

    fn read_on(&mut self, connection: ConnectionId, ports: &mut impl Ports) {
        let Some(held) = self.connections.get_mut(connection) else { return };
        if !held.is_held() {
            // Silence was ours, not the client's.
            held.last_packet = self.now;
            ports.resume(connection);
        }
    }
}
