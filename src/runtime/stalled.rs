//! Clients that have bytes waiting for them and read none.
//!
//! The shard looks at such a client a few times in `stalled_timeout`. What counts is what the
//! client has acknowledged to the kernel, because the kernel holds some megabytes itself.

use std::{collections::VecDeque, mem};

use super::{driver::Driver, ring::system};
use crate::{
    base::{
        ids::ConnectionId,
        time::{Moment, Span},
    },
    shard::ports::{Brain, End},
};

/// The connections that are watched.
#[derive(Debug)]
pub(super) struct Stalls {
    timeout: Span,
    /// Connections that have had unsent bytes, and when to look at them again: soonest first.
    looks: VecDeque<(Moment, ConnectionId)>,
}

impl Stalls {
    pub(super) fn new(timeout: Span) -> Stalls {
        Stalls { timeout, looks: VecDeque::new() }
    }

    pub(super) fn look_later(&mut self, id: ConnectionId, now: Moment) {
        self.looks.push_back((now + self.pause(), id));
    }

    fn pause(&self) -> Span {
        Span::from_nanos(self.timeout.as_nanos() / LOOKS)
    }

    /// The next connection to look at, if it is time, and whether that time is long over.
    fn next_due(&mut self, now: Moment) -> Option<(ConnectionId, bool)> {
        let (due, id) = self.looks.pop_front_if(|(due, _)| *due <= now)?;
        Some((id, due + self.pause() < now))
    }

    pub(super) fn next_look(&self) -> Option<Moment> {
        self.looks.front().map(|&(due, _)| due)
    }
}

/// How a client reads what it is sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    /// Bytes that the kernel has taken.
    sent: u64,
    /// How many of them the client had acknowledged at the last look, and since when no more;
    /// `None` before the first look.
    acknowledged: Option<(u64, Moment)>,
    is_watched: bool,
}

impl Reading {
    #[inline]
    pub(super) fn note_sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// Begins to watch, because a send begins. False: it is watched already.
    #[inline]
    pub(super) fn begin_watch(&mut self) -> bool {
        !mem::replace(&mut self.is_watched, true)
    }

    fn end_watch(&mut self) {
        self.is_watched = false;
        self.acknowledged = None;
    }

    /// Looks at the client while the kernel holds so many bytes that it has not acknowledged.
    /// Returns how long the client has read nothing.
    fn look(&mut self, held_by_kernel: u64, now: Moment) -> Span {
        let acknowledged = self.sent.saturating_sub(held_by_kernel);
        let since = match self.acknowledged {
            Some((before, since)) if before == acknowledged => since,
            _ => now,
        };
        self.acknowledged = Some((acknowledged, since));
        now.since(since)
    }
}

impl Driver {
    /// Ends connections whose clients have read nothing for too long.
    pub(super) fn look_at_readers(&mut self, brain: &mut impl Brain) {
        while let Some((id, is_late)) = self.stalls.next_due(self.now) {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            if connection.unsent() == 0 || !connection.is_open() {
                connection.reading.end_watch();
                continue;
            }
            let held = system::unacknowledged(&connection.socket);
            let stalled = connection.reading.look(held, self.now);
            // When the process has stood still, its clients were not sent anything.
            if is_late {
                connection.reading.acknowledged = None;
            }
            self.stalls.look_later(id, self.now);
            if stalled >= self.stalls.timeout && !is_late {
                brain.handle_end(self.now, id, End::Stalled, self);
            }
        }
    }
}

/// How often a shard looks at a client in the time that the client may read nothing.
const LOOKS: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const ID: ConnectionId = ConnectionId { slot: 0, generation: 0 };

    fn at(seconds: u64) -> Moment {
        Moment::default() + Span::from_secs(seconds)
    }

    #[test]
    fn a_client_reads_when_the_kernel_gets_rid_of_bytes() {
        let mut reading = Reading::default();
        reading.note_sent(1_000);
        assert_eq!(reading.look(1_000, at(10)), Span::ZERO);
        assert_eq!(reading.look(1_000, at(15)), Span::from_secs(5));
        reading.note_sent(500);
        assert_eq!(reading.look(1_500, at(20)), Span::from_secs(10), "the kernel takes more");
        assert_eq!(reading.look(1_499, at(25)), Span::ZERO);
        assert_eq!(reading.look(1_499, at(30)), Span::from_secs(5));
        reading.end_watch();
        assert_eq!(reading.look(1_499, at(35)), Span::ZERO);
    }

    #[test]
    fn a_connection_is_looked_at_four_times_and_late_looks_are_told() {
        let mut stalls = Stalls::new(Span::from_secs(60));
        stalls.look_later(ID, at(0));
        assert_eq!((stalls.next_due(at(14)), stalls.next_look()), (None, Some(at(15))));
        assert_eq!(stalls.next_due(at(15)), Some((ID, false)));
        stalls.look_later(ID, at(15));
        assert_eq!(stalls.next_due(at(46)), Some((ID, true)));
    }

    #[test]
    fn a_connection_is_watched_once() {
        let mut reading = Reading::default();
        assert!(reading.begin_watch() && !reading.begin_watch());
        reading.end_watch();
        assert!(reading.begin_watch());
    }
}
