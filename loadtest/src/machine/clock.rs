//! The one place that reads the clock.

use ringmq::base::time::Moment;
use rustix::time::{ClockId, clock_gettime};

/// The monotonic clock of this machine: the same for all threads.
#[inline]
pub fn now() -> Moment {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(time.tv_nsec).unwrap_or_default();
    Moment::from_nanos(seconds * 1_000_000_000 + nanos)
}
