//! How busy a shard is.

use hdrhistogram::Histogram;

use super::turn;
use crate::{
    base::time::{Moment, Span},
    shard::ports::{Load, TURN_BOUNDS},
    transport::tls::Handshake,
};

/// What a shard counts about itself.
pub(super) struct LoadCounters {
    turns: Histogram<u32>,
    busy: Span,
    long_turns: u64,
    pub(super) bytes_received: u64,
    pub(super) bytes_sent: u64,
    pub(super) connections_refused: u64,
    /// Connections that ended on their way to another shard.
    pub(super) ended_moving: u64,
    pub(super) accept_errors: u64,
    handshakes_full: u64,
    handshakes_resumed: u64,
    /// TLS handshakes that had begun when their connection ended.
    pub(super) handshakes_failed: u64,
}

impl Default for LoadCounters {
    fn default() -> LoadCounters {
        let turns = Histogram::new_with_bounds(1, TURN_TICKS_MAX, 2).expect("the bounds are sound");
        LoadCounters {
            turns,
            busy: Span::ZERO,
            long_turns: 0,
            bytes_received: 0,
            bytes_sent: 0,
            connections_refused: 0,
            ended_moving: 0,
            accept_errors: 0,
            handshakes_full: 0,
            handshakes_resumed: 0,
            handshakes_failed: 0,
        }
    }
}

impl LoadCounters {
    /// A turn that began at `start` has ended.
    pub(super) fn count_turn(&mut self, start: Moment, end: Moment) {
        let span = end.since(start);
        self.busy = self.busy + span;
        self.long_turns += u64::from(turn::is_long(span));
        self.turns.saturating_record((span.as_nanos() / TICK_NANOS).max(1));
    }

    pub(super) fn count_handshake(&mut self, handshake: Option<Handshake>) {
        match handshake {
            Some(Handshake::Full) => self.handshakes_full += 1,
            Some(Handshake::Resumed) => self.handshakes_resumed += 1,
            None => {}
        }
    }

    pub(super) fn load(&self) -> Load {
        Load {
            busy: self.busy,
            turns: self.turns.len(),
            long_turns: self.long_turns,
            turn_p50: self.turn_at(0.5),
            turn_p99: self.turn_at(0.99),
            turns_within: self.turns_within(),
            bytes_received: self.bytes_received,
            bytes_sent: self.bytes_sent,
            connections_refused: self.connections_refused,
            ended_moving: self.ended_moving,
            accept_errors: self.accept_errors,
            handshakes_full: self.handshakes_full,
            handshakes_resumed: self.handshakes_resumed,
            handshakes_failed: self.handshakes_failed,
        }
    }

    fn turns_within(&self) -> [u64; TURN_BOUNDS.len()] {
        let (mut from, mut sum) = (0, 0);
        TURN_BOUNDS.map(|micros| {
            let until = micros * TICKS_PER_MICROSECOND;
            sum += self.turns.count_between(from, until);
            // What is as long as a bound by the histogram's precision was counted with it.
            from = self.turns.highest_equivalent(until) + 1;
            sum
        })
    }

    fn turn_at(&self, quantile: f64) -> Span {
        Span::from_nanos(self.turns.value_at_quantile(quantile) * TICK_NANOS)
    }
}

/// Turns are measured in steps of 100 ns.
const TICK_NANOS: u64 = 100;
const TICKS_PER_MICROSECOND: u64 = 1_000 / TICK_NANOS;
/// Longer turns are counted as turns of ten seconds.
const TURN_TICKS_MAX: u64 = 100_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_told_apart_by_their_length() {
        let mut counters = LoadCounters::default();
        let turn = |counters: &mut LoadCounters, micros| {
            let start = Moment::from_nanos(5);
            counters.count_turn(start, start + Span::from_micros(micros));
        };
        (0..98).for_each(|_| turn(&mut counters, 10));
        (0..2).for_each(|_| turn(&mut counters, 5_000));
        turn(&mut counters, 10_001);
        let load = counters.load();
        assert_eq!((load.turns, load.long_turns), (101, 1));
        assert_eq!(load.busy, Span::from_micros(98 * 10 + 2 * 5_000 + 10_001));
        assert_eq!(load.turn_p50.as_nanos() / 1_000, 10);
        assert_eq!(load.turn_p99.as_millis(), 5);
        assert_eq!(load.turns_within, [0, 98, 98, 98, 98, 98, 100, 101, 101]);
    }
}
