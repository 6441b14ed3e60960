//! Moments on the monotonic clock, and the spans between them.
//!
//! A time that outlives the process is a [`WallTime`]; a [`WallClock`] converts between the two.
//!
//! This module does not read a clock. The runtime does, once in each turn.

use std::{
    ops::{Add, Sub},
    time::Duration,
};

/// A point on the monotonic clock of this machine, in nanoseconds; the same for all shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    pub const fn from_nanos(nanos: u64) -> Moment {
        Moment(nanos)
    }

    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The span from `earlier` to this moment; zero if this moment is not later.
    pub const fn since(self, earlier: Moment) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

/// A point on the wall clock, in nanoseconds since 1970. For times that outlive the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(u64);

impl WallTime {
    pub const fn from_nanos(nanos: u64) -> WallTime {
        WallTime(nanos)
    }

    pub const fn as_nanos(self) -> u64 {
        self.0
    }
}

/// The time of the wall clock at one moment. All other times are computed from it, so setting the
/// wall clock while the process runs changes nothing.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    moment: Moment,
    showed: WallTime,
}

impl WallClock {
    pub const fn new(moment: Moment, showed: WallTime) -> WallClock {
        WallClock { moment, showed }
    }

    /// The wall time of a moment.
    pub const fn time_of(self, moment: Moment) -> WallTime {
        let WallClock { moment: Moment(here), showed: WallTime(showed) } = self;
        match moment.0.checked_sub(here) {
            Some(later) => WallTime(showed.saturating_add(later)),
            None => WallTime(showed.saturating_sub(here - moment.0)),
        }
    }

    /// The moment of a wall time that an earlier process has stored.
    pub const fn moment_of(self, time: WallTime) -> Moment {
        let WallClock { moment: Moment(here), showed: WallTime(showed) } = self;
        match time.0.checked_sub(showed) {
            Some(later) => Moment(here.saturating_add(later)),
            None => Moment(here.saturating_sub(showed - time.0)),
        }
    }
}

/// A length of time, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(u64);

impl Span {
    pub const ZERO: Span = Span(0);

    pub const fn from_nanos(nanos: u64) -> Span {
        Span(nanos)
    }

    pub const fn from_micros(micros: u64) -> Span {
        Span(micros.saturating_mul(1_000))
    }

    pub const fn from_millis(millis: u64) -> Span {
        Span(millis.saturating_mul(1_000_000))
    }

    pub const fn from_secs(secs: u64) -> Span {
        Span(secs.saturating_mul(1_000_000_000))
    }

    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000_000
    }

    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// What is left when `other` is taken away; zero if that is more.
    #[must_use]
    pub const fn saturating_sub(self, other: Span) -> Span {
        Span(self.0.saturating_sub(other.0))
    }
}

impl Add<Span> for Moment {
    type Output = Moment;

    fn add(self, span: Span) -> Moment {
        Moment(self.0.saturating_add(span.0))
    }
}

impl Sub<Moment> for Moment {
    type Output = Span;

    fn sub(self, earlier: Moment) -> Span {
        self.since(earlier)
    }
}

impl Add for Span {
    type Output = Span;

    fn add(self, other: Span) -> Span {
        Span(self.0.saturating_add(other.0))
    }
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Span {
        Span(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Duration {
        Duration::from_nanos(span.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_leads_from_moments_to_times_and_back() {
        let clock = WallClock::new(Moment::from_nanos(1_000), WallTime::from_nanos(5_000_000));
        for (moment, time) in [(1_000, 5_000_000), (1_007, 5_000_007), (0, 4_999_000)] {
            let (moment, time) = (Moment::from_nanos(moment), WallTime::from_nanos(time));
            assert_eq!(clock.time_of(moment), time);
            assert_eq!(clock.moment_of(time), moment);
        }
        // What was over long before this process began is over at its beginning.
        assert_eq!(clock.moment_of(WallTime::from_nanos(7)), Moment::from_nanos(0));
    }

    #[test]
    fn a_wall_clock_may_begin_in_1970() {
        let clock = WallClock::new(Moment::from_nanos(1_000), WallTime::default());
        assert_eq!(clock.time_of(Moment::from_nanos(1)), WallTime::default());
        assert_eq!(clock.time_of(Moment::from_nanos(1_001)), WallTime::from_nanos(1));
        assert_eq!(clock.time_of(Moment::from_nanos(u64::MAX)).as_nanos(), u64::MAX - 1_000);
    }
}
