//! When a publisher may send its next message.
//!
//! Reads no clock: moments come in, and counts of messages go out.

use std::{str::FromStr, time::Duration};

use ringmq::base::time::{Moment, Span};

use crate::payload::SEQUENCES_MAX;

/// What decides when messages are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pacing {
    /// Nothing but TCP, which takes no more when the broker does not read.
    Flood,
    /// Each publisher sends `burst` messages; the next round begins when all have been delivered.
    Rounds { burst: u32 },
    /// Messages are due at fixed times, whatever the broker does.
    Rate { messages_per_second: u64 },
}

/// How long a phase lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Messages of each publisher.
    Messages(u32),
    Time(Span),
}

/// A number alone is messages; `2s`, `1.5s` and `500ms` are time.
impl FromStr for Extent {
    type Err = String;

    fn from_str(text: &str) -> Result<Extent, String> {
        if let Ok(messages) = text.parse() {
            return if messages <= SEQUENCES_MAX {
                Ok(Extent::Messages(messages))
            } else {
                Err(format!("at most {SEQUENCES_MAX} messages"))
            };
        }
        parse_span(text).map(Extent::Time)
    }
}

/// A length of time: seconds, unless the unit says otherwise.
pub fn parse_span(text: &str) -> Result<Span, String> {
    let (number, scale) = match text.strip_suffix("ms") {
        Some(number) => (number, 1e-3),
        None => (text.strip_suffix('s').unwrap_or(text), 1.0),
    };
    let value: f64 = number.parse().map_err(|_| format!("not a length of time: {text}"))?;
    let duration = Duration::try_from_secs_f64(value * scale).map_err(|error| error.to_string())?;
    Ok(duration.into())
}

/// Due times at a fixed rate, dealt out to the publishers in turn.
///
/// ```text
/// rate 2/s, 2 publishers:   0 s     0.5 s    1 s      1.5 s
///                           p0 #0   p1 #0    p0 #1    p1 #1
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    pub start: Moment,
    pub messages_per_second: u64,
    pub publishers: u32,
    /// The time in which the rate rises evenly from nothing; half as many messages are due in it.
    pub ramp: Span,
}

impl Schedule {
    /// When a publisher's message is due.
    pub fn due(&self, publisher: u32, sequence: u32) -> Moment {
        let tick = u128::from(sequence) * u128::from(self.publishers) + u128::from(publisher);
        let rate = u128::from(self.messages_per_second);
        let nanos = if tick < self.ramp_ticks() {
            root((2 * self.ramp_nanos() * tick * NANOS_PER_SECOND).div_ceil(rate))
        } else {
            (2 * tick * NANOS_PER_SECOND + self.ramp_nanos() * rate).div_ceil(2 * rate)
        };
        self.start + Span::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many messages of a publisher are due at `now`.
    pub fn due_count(&self, publisher: u32, now: Moment) -> u32 {
        if now < self.start {
            return 0;
        }
        let elapsed = u128::from((now - self.start).as_nanos());
        let ticks = self.ticks_within(elapsed);
        let publishers = u128::from(self.publishers);
        let due = (ticks + publishers - 1 - u128::from(publisher)) / publishers;
        u32::try_from(due).unwrap_or(u32::MAX)
    }

    /// Messages of all publishers that are due in so many nanoseconds.
    fn ticks_within(&self, elapsed: u128) -> u128 {
        let (rate, ramp) = (u128::from(self.messages_per_second), self.ramp_nanos());
        let steady =
            (2 * elapsed).checked_sub(ramp).map(|twice| twice * rate / NANOS_PER_SECOND / 2);
        match steady {
            Some(last) if last >= self.ramp_ticks() => last + 1,
            _ => (elapsed * elapsed * rate / (2 * ramp * NANOS_PER_SECOND) + 1)
                .min(self.ramp_ticks()),
        }
    }

    /// Messages that are due before the rate is at its height.
    fn ramp_ticks(&self) -> u128 {
        let twice = u128::from(self.messages_per_second) * self.ramp_nanos();
        twice.div_ceil(2 * NANOS_PER_SECOND)
    }

    fn ramp_nanos(&self) -> u128 {
        u128::from(self.ramp.as_nanos())
    }
}

/// The square root, rounded up.
fn root(square: u128) -> u128 {
    let root = square.isqrt();
    if root * root < square { root + 1 } else { root }
}

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// The highest rate in messages per second: one each nanosecond.
pub const RATE_MAX: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const START: Moment = Moment::from_nanos(1_000);

    fn schedule(messages_per_second: u64, publishers: u32, ramp: Span) -> Schedule {
        Schedule { start: START, messages_per_second, publishers, ramp }
    }

    fn after(nanos: u64) -> Moment {
        START + Span::from_nanos(nanos)
    }

    #[test]
    fn publishers_take_turns() {
        let schedule = schedule(2, 2, Span::ZERO);
        assert_eq!(schedule.due(0, 0), START);
        assert_eq!(schedule.due(1, 0), after(500_000_000));
        assert_eq!(schedule.due(0, 1), after(1_000_000_000));
        assert_eq!(schedule.due_count(0, Moment::default()), 0);
        assert_eq!(schedule.due_count(1, START), 0);
        assert_eq!(schedule.due_count(0, after(999_999_999)), 1);
    }

    #[test]
    fn a_message_counts_from_the_nanosecond_at_which_it_is_due() {
        let rates = [(1, 1), (3, 7), (7, 3), (999_983, 50)];
        let ramps = [0, 1, 999, 1_000_000_007, 10_000_000_000].map(Span::from_nanos);
        for ((rate, publishers), ramp) in
            rates.into_iter().flat_map(|rate| ramps.map(|ramp| (rate, ramp)))
        {
            let schedule = schedule(rate, publishers, ramp);
            for publisher in 0..publishers {
                for sequence in [0, 1, 2, 3, 17, 100_000, 1_000_003] {
                    let due = schedule.due(publisher, sequence);
                    assert_eq!(schedule.due_count(publisher, due), sequence + 1);
                    let before = Moment::from_nanos(due.as_nanos() - 1);
                    assert_eq!(schedule.due_count(publisher, before), sequence);
                }
            }
        }
    }

    #[test]
    fn a_rate_rises_evenly_to_its_height() {
        let schedule = schedule(100, 1, Span::from_secs(2));
        let seconds = |seconds| START + Span::from_secs(seconds);
        // 100/s after two seconds: 25 messages in the first, 75 in the second, and one at once.
        assert_eq!(schedule.due_count(0, seconds(1)), 26);
        assert_eq!(schedule.due_count(0, seconds(2)), 101);
        assert_eq!(schedule.due_count(0, seconds(5)), 401);
        assert_eq!(schedule.due(0, 25), seconds(1));
        assert_eq!(schedule.due(0, 200), seconds(3));
    }

    #[test]
    fn an_extent_is_messages_or_time() {
        assert_eq!("1000".parse(), Ok(Extent::Messages(1000)));
        assert_eq!("2s".parse(), Ok(Extent::Time(Span::from_secs(2))));
        assert_eq!("1.5s".parse(), Ok(Extent::Time(Span::from_millis(1500))));
        assert_eq!("250ms".parse(), Ok(Extent::Time(Span::from_millis(250))));
        for wrong in ["", "s", "-1s", "4294967295", "1h"] {
            assert!(wrong.parse::<Extent>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_length_of_time_without_a_unit_is_seconds() {
        assert_eq!(parse_span("5"), Ok(Span::from_secs(5)));
        assert_eq!(parse_span("5ms"), Ok(Span::from_millis(5)));
    }
}
