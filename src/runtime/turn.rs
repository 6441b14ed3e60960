//! What a turn has been spent on, so that a long one can be told.
//!
//! The clock is read once in a turn, at its end. In between, the brain counts its steps: they tell
//! which phase, and which connection, has had the most of them.

use tracing::debug;

use super::event_loop::EventLoop;
use crate::{
    base::{
        ids::ConnectionId,
        time::{Moment, Span},
    },
    shard::ports::Brain,
};

/// A part of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// What connections have sent, or can be sent again.
    Connections,
    Letters,
    /// Password checks, new rules, reminders, and work that goes on from earlier turns.
    Time,
}

const PHASES: [&str; 3] = ["connections", "letters", "timers and unfinished work"];

/// The steps of the turn that is taken.
#[derive(Debug, Default)]
pub(super) struct TurnSteps {
    /// What the brain had counted when the present phase began.
    counted: u64,
    of_phases: [u64; PHASES.len()],
    dearest: Option<(ConnectionId, u64)>,
    /// When the log last told of a long turn.
    told: Option<Moment>,
}

/// A turn that takes longer is told.
const LONG: Span = Span::from_millis(10);
/// How often the log tells of one.
const TOLD_EVERY: Span = Span::from_secs(1);

impl TurnSteps {
    /// A turn begins, and the brain has counted so many steps until now.
    pub(super) fn begin(&mut self, steps: u64) {
        *self = TurnSteps { counted: steps, told: self.told, ..TurnSteps::default() };
    }

    /// A phase ends.
    pub(super) fn end_phase(&mut self, phase: Phase, steps: u64) {
        self.of_phases[phase as usize] += steps - self.counted;
        self.counted = steps;
    }

    /// The bytes of a connection were handled in so many steps.
    pub(super) fn note(&mut self, connection: ConnectionId, steps: u64) {
        if self.dearest.is_none_or(|(_, most)| steps > most) {
            self.dearest = Some((connection, steps));
        }
    }

    /// Whether a turn of this length is to be told now.
    fn is_told(&mut self, span: Span, now: Moment) -> bool {
        let is_told = span > LONG && self.told.is_none_or(|told| told + TOLD_EVERY <= now);
        if is_told {
            self.told = Some(now);
        }
        is_told
    }

    /// The phase with the most steps. Without any, the time went to the system: to sends and
    /// receives, or to other processes.
    fn longest(&self) -> &'static str {
        let phases = self.of_phases.iter().zip(PHASES).filter(|(steps, _)| **steps > 0);
        phases.max_by_key(|(steps, _)| **steps).map_or("flush, or not running", |(_, name)| name)
    }
}

impl<B: Brain> EventLoop<B> {
    /// The turn that began at `start` has ended.
    pub(super) fn end_turn(&mut self, start: Moment, now: Moment) {
        self.driver.counters.count_turn(start, now);
        let span = now.since(start);
        if self.steps.is_told(span, now) {
            let dearest = self.steps.dearest.filter(|(_, steps)| *steps > 0);
            let client = dearest.and_then(|(connection, _)| self.brain.client_id(connection));
            let (phase, millis) = (self.steps.longest(), span.as_millis());
            let steps: u64 = self.steps.of_phases.iter().sum();
            debug!(millis, phase, steps, client, "a turn was long");
        }
    }
}

/// Whether a turn was long.
pub(super) fn is_long(span: Span) -> bool {
    span > LONG
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phase_and_the_connection_with_the_most_steps_are_told() {
        let connection = |slot| ConnectionId { slot, generation: 0 };
        let mut steps = TurnSteps::default();
        steps.begin(100);
        assert_eq!(steps.longest(), "flush, or not running");
        steps.note(connection(1), 7);
        steps.note(connection(2), 9);
        steps.note(connection(3), 9);
        steps.end_phase(Phase::Connections, 120);
        steps.end_phase(Phase::Letters, 170);
        steps.end_phase(Phase::Time, 175);
        assert_eq!(steps.longest(), "letters");
        assert_eq!(steps.dearest, Some((connection(2), 9)));
        steps.begin(175);
        assert!(steps.dearest.is_none() && steps.of_phases == [0; 3]);
    }

    #[test]
    fn long_turns_are_told_once_in_a_second() {
        let at = |millis| Moment::default() + Span::from_millis(millis);
        let mut steps = TurnSteps::default();
        assert!(!steps.is_told(Span::from_millis(10), at(100)));
        assert!(steps.is_told(Span::from_millis(11), at(200)));
        steps.begin(0);
        assert!(!steps.is_told(Span::from_millis(500), at(1_100)));
        assert!(steps.is_told(Span::from_millis(11), at(1_200)));
    }
}
