//! Limits to how much may come in a second: token buckets that hold what one second brings.
//!
//! A bucket is one moment: up to when all that has come is paid for. Does not read a clock.

use std::{
    num::NonZeroU64,
    sync::atomic::{AtomicU64, Ordering},
};

use super::time::{Moment, Span};

/// So many units in each second, and as many at once after a quiet second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(NonZeroU64);

impl Rate {
    /// `None`: there is no limit.
    pub fn new(per_second: u64) -> Option<Rate> {
        NonZeroU64::new(per_second).map(Rate)
    }

    pub fn per_second(self) -> u64 {
        self.0.get()
    }

    /// The time in which so many units may come.
    fn span_of(self, units: u64) -> Span {
        let nanos = u128::from(units) * u128::from(SECOND.as_nanos()) / u128::from(self.0.get());
        Span::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

const SECOND: Span = Span::from_secs(1);

/// What has come of one kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    paid_until: Moment,
}

impl Bucket {
    /// How long so many units have to wait. More than one second brings may come when nothing has
    /// come for a second, and are paid for afterwards.
    pub fn delay(self, units: u64, rate: Rate, now: Moment) -> Span {
        (self.paid_until + rate.span_of(units).min(SECOND)).since(now + SECOND)
    }

    /// So many units have come.
    pub fn take(&mut self, units: u64, rate: Rate, now: Moment) {
        self.paid_until = self.paid_until.max(now) + rate.span_of(units);
    }

    /// Whether at least half of what one second brings may come at once.
    pub fn is_half_full(self, now: Moment) -> bool {
        self.paid_until.since(now) <= Span::from_nanos(SECOND.as_nanos() / 2)
    }
}

/// A bucket that all shards share.
#[derive(Debug)]
pub struct SharedBucket {
    rate: Rate,
    paid_until: AtomicU64,
}

impl SharedBucket {
    pub fn new(rate: Rate) -> SharedBucket {
        SharedBucket { rate, paid_until: AtomicU64::new(0) }
    }

    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// One unit has come. Returns how long it has to wait, unless that is longer than `longest`:
    /// then it is as if it had not come.
    pub fn take(&self, now: Moment, longest: Span) -> Option<Span> {
        let before = |nanos| Bucket { paid_until: Moment::from_nanos(nanos) };
        let delay = |nanos| before(nanos).delay(1, self.rate, now);
        let take = |nanos| {
            let mut bucket = before(nanos);
            bucket.take(1, self.rate, now);
            (delay(nanos) <= longest).then(|| bucket.paid_until.as_nanos())
        };
        // Relaxed: the moment guards no other memory.
        let taken = self.paid_until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.ok().map(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(1 << 40) + Span::from_millis(millis)
    }

    fn rate(per_second: u64) -> Rate {
        Rate::new(per_second).unwrap()
    }

    /// How many of one unit may come between two moments, one after the other without a pause.
    fn count(bucket: &mut Bucket, rate: Rate, millis: std::ops::Range<u64>) -> u64 {
        let mut count = 0;
        for now in millis.map(at) {
            while bucket.delay(1, rate, now).is_zero() {
                bucket.take(1, rate, now);
                count += 1;
            }
        }
        count
    }

    #[test]
    fn what_one_second_brings_may_come_at_once_and_then_so_much_in_each_second() {
        for per_second in [1, 7, 100, 3_000] {
            let mut bucket = Bucket::default();
            assert_eq!(count(&mut bucket, rate(per_second), 0..1), per_second);
            let later = count(&mut bucket, rate(per_second), 1..10_001);
            assert_eq!(later, 10 * per_second);
            assert_eq!(count(&mut bucket, rate(per_second), 60_000..60_001), per_second);
        }
    }

    #[test]
    fn a_delay_is_the_time_until_a_unit_may_come() {
        let mut bucket = Bucket::default();
        bucket.take(10, rate(10), at(0));
        assert_eq!(bucket.delay(1, rate(10), at(0)).as_millis(), 100);
        assert_eq!(bucket.delay(5, rate(10), at(0)).as_millis(), 500);
        assert!(bucket.delay(5, rate(10), at(500)).is_zero() && bucket.is_half_full(at(500)));
        assert!(!bucket.is_half_full(at(499)));
    }

    #[test]
    fn more_than_a_second_brings_comes_after_a_quiet_second_and_is_paid_for_afterwards() {
        let mut bucket = Bucket::default();
        bucket.take(1, rate(10), at(0));
        assert_eq!(bucket.delay(50, rate(10), at(0)).as_millis(), 100);
        assert!(bucket.delay(50, rate(10), at(100)).is_zero());
        bucket.take(50, rate(10), at(100));
        assert_eq!(bucket.delay(1, rate(10), at(100)).as_millis(), 4_100);
        bucket.take(u64::MAX, rate(1), at(200));
        assert!(bucket.delay(1, rate(1), at(200)) > Span::from_secs(1 << 30));
    }

    #[test]
    fn who_shares_a_bucket_waits_in_turn_and_is_turned_away_beyond_the_longest_wait() {
        let bucket = SharedBucket::new(rate(2));
        let waits: Vec<_> = (0..6).map(|_| bucket.take(at(0), Span::from_secs(1))).collect();
        let waits: Vec<_> = waits.into_iter().map(|it| it.map(Span::as_millis)).collect();
        assert_eq!(waits, [Some(0), Some(0), Some(500), Some(1_000), None, None]);
        assert_eq!(bucket.take(at(500), Span::from_secs(1)).map(Span::as_millis), Some(1_000));
    }
}
