//! What a shard does at certain times, without an event from outside.
//!
//! A timer is only a reminder to check: the code that it is for decides whether anything is due.

use super::{
    Shard, connection::Stage, end::Cause, owed::Verdict, ports::Ports, retained::TOMBSTONE_SPAN,
};
use crate::base::{
    ids::{ConnectionId, SubscriberId},
    time::{Moment, Span},
    wheel::Wheel,
};

/// A reminder.
#[derive(Clone, Copy, Debug)]
pub(super) enum Timer {
    /// CONNECT should have come.
    Connect(ConnectionId),
    /// The password of the client should have been checked.
    Check(ConnectionId),
    /// A delay after failed logins is over.
    Delay(ConnectionId),
    /// The client may have been silent for too long.
    KeepAlive(ConnectionId),
    /// The token of the client may have expired.
    Token(ConnectionId),
    /// The session of an absent client may end, or its Will be due.
    Absence(SubscriberId),
    /// A CONNECT may have waited long enough for a place for its session.
    Place(ConnectionId),
    /// Publishers may have waited long enough for this subscriber.
    Patience(SubscriberId),
    /// This publisher may have waited long enough for subscribers that read slowly.
    Wait(ConnectionId),
    /// Orphaned messages may wait for members of share groups.
    Orphans,
    /// `$SYS` is to be published.
    Sys,
    /// Tombstones of retained messages may be forgotten.
    Tombstones,
    /// Retained messages may have expired.
    Sweep,
    /// Passwords may be forgotten.
    Passwords,
}

impl Timer {
    /// Whether a client is ended for what has not come from it.
    fn judges_silence(self) -> bool {
        matches!(self, Timer::Connect(_) | Timer::KeepAlive(_))
    }
}

/// The reminders of a shard.
#[derive(Debug)]
pub(super) struct Timers {
    wheel: Wheel<Timer>,
    /// Reminders that are due. The memory is reused.
    due: Vec<Timer>,
}

/// No reminder is set further ahead, because its subject may no longer exist by then.
pub(super) const HORIZON: Span = Span::from_secs(60);
/// Reminders that come later than this are late.
const LATE: Span = Span::from_secs(1);
/// The time for reading what has come while the process stood still.
const READING_SPAN: Span = Span::from_secs(1);
/// How often retained messages that have expired are removed.
const SWEEP_SPAN: Span = Span::from_secs(5);
/// How long to wait for a client that is held when its CONNECT should have been taken.
const HELD_SPAN: Span = Span::from_secs(1);
/// How often passwords that nobody has used are forgotten.
const PASSWORDS_SPAN: Span = Span::from_secs(60);
/// The time between two bounded steps of such a sweep.
const SWEEP_PAUSE: Span = Span::from_millis(20);
/// The time between two bounded steps of forgetting tombstones.
const TOMBSTONES_PAUSE: Span = Span::from_millis(20);

impl Timers {
    /// The reminders of a shard that starts.
    pub(super) fn new(now: Moment) -> Timers {
        let mut timers = Timers { wheel: Wheel::new(now), due: Vec::new() };
        timers.set(now + TOMBSTONE_SPAN, Timer::Tombstones);
        timers.set(now + SWEEP_SPAN, Timer::Sweep);
        timers.set(now + PASSWORDS_SPAN, Timer::Passwords);
        timers
    }

    pub(super) fn set(&mut self, due: Moment, timer: Timer) {
        self.wheel.insert(due, timer);
    }

    /// When to set a reminder for something that is due at `due`: then, or earlier if that is far
    /// ahead.
    pub(super) fn before(now: Moment, due: Moment) -> Moment {
        due.min(now + HORIZON)
    }

    /// Whether the first reminder should have come long ago.
    fn are_late(&self, now: Moment) -> bool {
        self.next_due().is_some_and(|due| due + LATE < now)
    }

    /// Takes the reminders that are due.
    pub(super) fn take_due(&mut self, now: Moment) -> Vec<Timer> {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.advance(now, &mut due);
        due
    }

    /// Takes their memory back.
    pub(super) fn give_back(&mut self, mut due: Vec<Timer>) {
        due.clear();
        self.due = due;
    }

    pub(super) fn next_due(&self) -> Option<Moment> {
        self.wheel.next_due()
    }

    pub(super) fn len(&self) -> usize {
        self.wheel.len()
    }
}

impl Shard {
    /// Handles the reminders that are due.
    ///
    /// When they are late, the process or the machine has stood still, and bytes of clients wait
    /// unread. Then the clients are judged by their silence once these bytes have been read.
    pub(super) fn fire_timers(&mut self, ports: &mut impl Ports) {
        let now = self.context.now;
        let stood_still = self.context.timers.are_late(now);
        let due = self.context.timers.take_due(now);
        for &timer in &due {
            self.context.counters.other_steps += 1;
            if stood_still && timer.judges_silence() {
                self.context.timers.set(now + READING_SPAN, timer);
            } else if let Some(pause) = self.fire(timer, ports) {
                self.context.timers.set(self.context.now + pause, timer);
            }
        }
        self.context.timers.give_back(due);
    }

    /// Handles a reminder. Returns the time until the same reminder comes again.
    fn fire(&mut self, timer: Timer, ports: &mut impl Ports) -> Option<Span> {
        match timer {
            Timer::Connect(connection) => self.look_at_connect(connection, ports),
            Timer::Check(connection) => self.look_at_check(connection),
            Timer::Delay(connection) => self.connections.note_delay_over(connection),
            Timer::KeepAlive(connection) => self.look_at_keep_alive(connection, ports),
            Timer::Token(connection) => self.look_at_token(connection, ports),
            Timer::Place(connection) => self.connections.note_place(connection),
            Timer::Absence(subscriber) => self.look_at_absence(subscriber, ports),
            Timer::Patience(subscriber) => {
                let clients = (&mut self.sessions, &mut self.connections);
                self.router.look_at_patience(subscriber, clients, &mut self.context, ports);
            }
            Timer::Wait(publisher) => {
                self.connections.look_at_wait(publisher, &mut self.context, ports);
            }
            Timer::Orphans => {
                return self.router.redistribute(&mut self.sessions, &mut self.context, ports);
            }
            Timer::Sys => {
                if self.sys.is_wanted(self.context.rules.sys_interval) {
                    self.publish_sys(ports);
                }
                return self.context.rules.sys_interval;
            }
            Timer::Sweep => {
                let more = self.router.sweep(&mut self.context);
                return Some(if more { SWEEP_PAUSE } else { SWEEP_SPAN });
            }
            Timer::Passwords => {
                self.authenticator.forget_unused(self.context.now);
                return Some(PASSWORDS_SPAN);
            }
            Timer::Tombstones => {
                let more = self.router.retained_mut().forget_tombstones(self.context.now);
                return Some(if more { TOMBSTONES_PAUSE } else { TOMBSTONE_SPAN });
            }
        }
        None
    }

    /// Begins to publish `$SYS`, if the rules say so.
    pub(super) fn watch_sys(&mut self) {
        if let Some(first) = self.sys.begin(self.context.rules.sys_interval) {
            self.context.timers.set(self.context.now + first, Timer::Sys);
        }
    }

    /// [MQTT-3.1.4-1@3.1.1]
    fn look_at_connect(&mut self, id: ConnectionId, ports: &mut impl Ports) {
        let Some(connection) = self.connections.get(id) else { return };
        // A password check has a time limit of its own.
        if matches!(connection.stage(), Stage::Waiting | Stage::Connected(_)) {
            return;
        }
        if connection.is_held() {
            // The client has sent its packet in time, and the broker has not taken it yet.
            self.context.timers.set(self.context.now + HELD_SPAN, Timer::Connect(id));
        } else {
            self.end(id, Cause::ConnectTimeout, ports);
        }
    }

    /// Sets a reminder to answer a client whose password waits to be checked.
    pub(super) fn watch_check(&mut self, id: ConnectionId) {
        let wait = self.context.rules.limits.answer_span();
        self.context.timers.set(self.context.now + wait, Timer::Check(id));
    }

    fn look_at_check(&mut self, id: ConnectionId) {
        let connection = self.connections.get(id);
        if let Some(connection) = connection.filter(|it| it.stage() == Stage::Waiting) {
            self.authenticator.forget_check(id, connection);
            self.connections.note_verdict(id, Verdict::Busy);
        }
    }

    /// Sets a reminder to check the Keep Alive of a connection at `deadline` or earlier.
    pub(super) fn watch_silence(&mut self, id: ConnectionId, deadline: Moment) {
        self.context.timers.set(Timers::before(self.context.now, deadline), Timer::KeepAlive(id));
    }

    /// [MQTT-3.1.2-22] [MQTT-3.1.2-24@3.1.1]
    fn look_at_keep_alive(&mut self, id: ConnectionId, ports: &mut impl Ports) {
        // The connection may have ended meanwhile.
        let connection = self.connections.get_mut(id);
        match connection.and_then(|connection| connection.silent_until(self.context.now)) {
            Some(until) if until <= self.context.now => self.end(id, Cause::KeepAlive, ports),
            Some(until) => self.watch_silence(id, until),
            None => {}
        }
    }

    /// Sets a reminder for the end of a client's token, if that means anything.
    pub(super) fn watch_token(&mut self, id: ConnectionId) {
        let principal = self.connections.connected(id).principal();
        let Some(ends_at) = principal.grant().and_then(|grant| grant.ends_at) else { return };
        let due = self.context.settings.wall_clock.moment_of(ends_at);
        self.context.timers.set(Timers::before(self.context.now, due), Timer::Token(id));
    }

    /// Ends the connection of a client whose token has expired, or the rights that the token gave.
    fn look_at_token(&mut self, id: ConnectionId, ports: &mut impl Ports) {
        let Some(connection) = self.connections.get(id) else { return };
        let Some(grant) = connection.principal().grant() else { return };
        if !grant.has_ended(self.context.wall_now()) {
            return self.watch_token(id);
        }
        if grant.ends_connection {
            return self.end(id, Cause::TokenEnded, ports);
        }
        if let Some(subscriber) = connection.subscriber() {
            let session = self.sessions.of_connected_mut(subscriber);
            self.context.rights.end_claims(session);
        }
    }

    fn look_at_absence(&mut self, subscriber: SubscriberId, ports: &mut impl Ports) {
        // The session may have ended meanwhile, or its client may be back.
        let is_absent = self.sessions.get_mut(subscriber).is_some_and(|session| {
            session.take_reminder(self.context.now) && session.link().is_none()
        });
        let event = self.ending(subscriber, "expired", ports).filter(|_| is_absent);
        if is_absent && self.look_at_absent(subscriber, ports) {
            self.context.counters.clients_expired += 1;
            self.tell(event, ports);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECTION: ConnectionId = ConnectionId { slot: 0, generation: 0 };

    #[test]
    fn a_reminder_comes_when_it_is_due_and_once() {
        let now = Moment::default();
        let mut timers = Timers::new(now);
        let always = timers.len();
        timers.set(now + Span::from_secs(1), Timer::Connect(CONNECTION));
        assert!(timers.take_due(now).is_empty());
        let due = timers.take_due(now + Span::from_secs(2));
        assert!(matches!(due[..], [Timer::Connect(CONNECTION)]));
        timers.give_back(due);
        assert!(timers.take_due(now + Span::from_secs(2)).is_empty());
        assert_eq!(timers.len(), always);
    }

    #[test]
    fn what_is_far_away_is_looked_at_earlier() {
        let now = Moment::default();
        assert_eq!(Timers::before(now, now + Span::from_secs(5)), now + Span::from_secs(5));
        assert_eq!(Timers::before(now, now + Span::from_secs(5_000)), now + HORIZON);
    }
}
