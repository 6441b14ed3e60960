//! Measures how fast a queue empties, and so how many messages may wait in it without waiting long.

use crate::base::time::{Moment, Span};

/// A fast queue is too long when its last message would wait for longer than this.
const WAIT_MAX: Span = Span::from_millis(3);
/// The shortest time over which the rate of a queue is measured.
const MEASURED_MIN: Span = Span::from_millis(1);
/// A queue from which fewer messages leave within [`WAIT_MAX`] is slow, and only its limits apply:
/// otherwise publishers would be held back for it most of the time.
const BACKLOG_MIN: u64 = 128;

/// The rate at which messages leave a queue, measured from the time at which the last message of
/// the queue came until that message left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// The measurement that goes on: when it began, how many messages waited then, and how many
    /// have left since.
    since: Moment,
    waited: u64,
    left: u64,
    /// How many messages left within [`WAIT_MAX`] by the last whole measurement.
    measured: Option<u64>,
}

impl Pace {
    /// The first message waits from now on.
    pub(super) fn new(now: Moment) -> Pace {
        Pace { since: now, waited: 1, left: 0, measured: None }
    }

    /// So many messages have left, and so many still wait.
    pub(super) fn note_left(&mut self, messages: usize, waiting: usize, now: Moment) {
        self.left += messages as u64;
        let elapsed = now.since(self.since);
        if self.left >= self.waited && elapsed >= MEASURED_MIN {
            let measured = Some(within_wait_max(self.left, elapsed));
            *self = Pace { since: now, waited: waiting.max(1) as u64, left: 0, measured };
        }
    }

    /// How many messages may wait such that none waits for long. `None`: the queue is slow, or its
    /// rate is not known yet.
    pub(super) fn backlog_max(&self, now: Moment) -> Option<usize> {
        let last = self.measured?;
        // A queue that has come to a standstill is slower than it was.
        let now_at_most = within_wait_max(self.waited, now.since(self.since));
        let backlog = last.min(now_at_most);
        (backlog >= BACKLOG_MIN).then(|| usize::try_from(backlog).unwrap_or(usize::MAX))
    }
}

/// How many messages leave within [`WAIT_MAX`] if so many leave within a span.
fn within_wait_max(messages: u64, span: Span) -> u64 {
    messages * WAIT_MAX.as_nanos() / span.as_nanos().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Moment {
        Moment::from_nanos(micros * 1_000)
    }

    /// A queue in which a thousand wait, and from which so many leave every 100 µs.
    fn measured(each: usize) -> (Pace, u64) {
        let mut pace = Pace::new(at(0));
        let mut micros = 0;
        while pace.measured.is_none() || micros < 50_000 {
            micros += 100;
            pace.note_left(each, 1_000, at(micros));
        }
        (pace, micros)
    }

    #[test]
    fn a_fast_queue_holds_what_leaves_it_in_three_milliseconds() {
        let (pace, micros) = measured(20);
        assert_eq!(pace.backlog_max(at(micros)), Some(600));
    }

    #[test]
    fn a_slow_queue_is_bound_by_its_limits_alone() {
        let (pace, micros) = measured(4);
        assert_eq!(pace.backlog_max(at(micros)), None);
        assert_eq!(Pace::new(at(0)).backlog_max(at(1)), None);
    }

    #[test]
    fn a_fast_queue_that_stands_still_becomes_a_slow_one() {
        let (pace, micros) = measured(20);
        let within = |millis: u64| pace.backlog_max(at(micros + 1_000 * millis));
        assert_eq!(within(1), Some(600));
        assert!(within(10).is_some_and(|backlog| backlog < 600));
        assert_eq!(within(30), None);
    }
}
