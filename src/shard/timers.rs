//! What a shard does by itself when its time has come.
//!
//! A timer is a reminder to look, not an order: whoever it is for says whether anything is due.

use super::{Shard, connection::Stage, end::Cause, ports::Ports};
use crate::base::{
    ids::{ConnectionId, SubscriberId},
    time::{Moment, Span},
};

/// A reminder.
#[derive(Clone, Copy, Debug)]
pub(super) enum Timer {
    /// CONNECT should have come.
    Connect(ConnectionId),
    /// The client may have been silent for too long.
    KeepAlive(ConnectionId),
    /// The session of an absent client may end, or its Will be due.
    Absence(SubscriberId),
    /// Publishers may have waited long enough for this subscriber.
    Patience(SubscriberId),
    /// Members of share groups may inherit messages.
    Orphans,
    /// `$SYS` is to be published.
    Sys,
    /// Tombstones of retained messages may be forgotten.
    Tombstones,
    /// Retained messages may have expired.
    Sweep,
}

/// No reminder is set further ahead: what it is about may be long gone by then.
const HORIZON: Span = Span::from_secs(60);
/// How often some retained messages are looked at for whether they have expired.
const SWEEP_SPAN: Span = Span::from_secs(5);
/// A tombstone is kept for this long: every letter that is older has arrived by then.
const TOMBSTONE_SPAN: Span = Span::from_secs(60);

impl Shard {
    pub(super) fn start_timers(&mut self) {
        self.watch_sys();
        self.wheel.insert(self.now + TOMBSTONE_SPAN, Timer::Tombstones);
        self.wheel.insert(self.now + SWEEP_SPAN, Timer::Sweep);
    }

    /// Has `$SYS` published from now on, if it is to be. The first set comes at once, so that a new
    /// subscriber finds one.
    pub(super) fn watch_sys(&mut self) {
        let Some(interval) = self.rules.sys_interval.filter(|_| !self.sys_is_due) else { return };
        self.sys_is_due = true;
        self.wheel.insert(self.now + Span::from_millis(100).min(interval), Timer::Sys);
    }

    fn fire_sys(&mut self, ports: &mut impl Ports) {
        self.sys_is_due = self.rules.sys_interval.is_some();
        if let Some(interval) = self.rules.sys_interval {
            self.publish_sys(ports);
            self.wheel.insert(self.now + interval, Timer::Sys);
        }
    }

    /// Looks at a connection's silence when its Keep Alive may have passed, or earlier.
    pub(super) fn watch_silence(&mut self, id: ConnectionId, deadline: Moment) {
        self.wheel.insert(deadline.min(self.now + HORIZON), Timer::KeepAlive(id));
    }

    /// Looks at an absent session when something of it may be due, or earlier. One reminder is
    /// enough for each session, the soonest.
    pub(super) fn watch_absence(&mut self, subscriber: SubscriberId, due: Moment) {
        let Some(session) = self.sessions.get_mut(subscriber) else { return };
        let look_at = due.min(self.now + HORIZON);
        if session.look_at.is_none_or(|pending| look_at < pending) {
            session.look_at = Some(look_at);
            self.wheel.insert(look_at, Timer::Absence(subscriber));
        }
    }

    pub(super) fn fire_timers(&mut self, ports: &mut impl Ports) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.advance(self.now, &mut due);
        for timer in due.drain(..) {
            self.fire(timer, ports);
        }
        self.due = due;
    }

    fn fire(&mut self, timer: Timer, ports: &mut impl Ports) {
        match timer {
            Timer::Connect(connection) => self.look_at_connect(connection, ports),
            Timer::KeepAlive(connection) => self.look_at_keep_alive(connection, ports),
            Timer::Absence(subscriber) => self.look_at_absence(subscriber, ports),
            Timer::Patience(subscriber) => self.handle_patience(subscriber, ports),
            Timer::Orphans => self.redistribute(ports),
            Timer::Sys => self.fire_sys(ports),
            Timer::Sweep => {
                self.sweep_retained();
                self.wheel.insert(self.now + SWEEP_SPAN, Timer::Sweep);
            }
            Timer::Tombstones => {
                let before = self.now.as_nanos().saturating_sub(TOMBSTONE_SPAN.as_nanos());
                let more = self.retained.forget_tombstones(before);
                let next = if more { Span::from_millis(20) } else { TOMBSTONE_SPAN };
                self.wheel.insert(self.now + next, Timer::Tombstones);
            }
        }
    }

    /// [MQTT-3.1.4-1@3.1.1]
    fn look_at_connect(&mut self, id: ConnectionId, ports: &mut impl Ports) {
        let stage = self.connections.get(id).map(|connection| connection.stage);
        if stage.is_some_and(|stage| !matches!(stage, Stage::Connected(_))) {
            self.end(id, Cause::ConnectTimeout, ports);
        }
    }

    /// [MQTT-3.1.2-22] [MQTT-3.1.2-24@3.1.1]
    fn look_at_keep_alive(&mut self, id: ConnectionId, ports: &mut impl Ports) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.is_held() {
            // Nothing is read from it, so it cannot be blamed for its silence.
            connection.last_packet = self.now;
        }
        match connection.keep_alive_deadline() {
            Some(deadline) if deadline <= self.now => self.end(id, Cause::KeepAlive, ports),
            Some(deadline) => self.watch_silence(id, deadline),
            None => {}
        }
    }

    fn look_at_absence(&mut self, subscriber: SubscriberId, ports: &mut impl Ports) {
        let Some(session) = self.sessions.get_mut(subscriber) else { return };
        // An earlier reminder has taken this one's place, or it is for another session.
        if session.look_at.is_none_or(|look_at| look_at > self.now) {
            return;
        }
        session.look_at = None;
        if session.link.is_some() {
            return;
        }
        let will_due_at = session.will.as_ref().and_then(|will| will.due_at);
        if will_due_at.is_some_and(|due| due <= self.now) {
            self.publish_will(subscriber, ports);
        }
        let Some(session) = self.sessions.get(subscriber) else { return };
        if session.ends_at.is_some_and(|ends| ends <= self.now) {
            self.counters.clients_expired += 1;
            return self.end_session(subscriber, ports);
        }
        let will_due_at = session.will.as_ref().and_then(|will| will.due_at);
        if let Some(due) = [will_due_at, session.ends_at].into_iter().flatten().min() {
            self.watch_absence(subscriber, due);
        }
    }
}
