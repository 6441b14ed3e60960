//! A timer that epoll watches, which goes off to the nanosecond.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use mio::{Interest, Registry, Token, unix::SourceFd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::base::time::Moment;

/// It is never read: epoll tells each time that it goes off.
#[derive(Debug)]
pub(super) struct Timer(OwnedFd);

impl Timer {
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Timer> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
        registry.register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Timer(timer))
    }

    /// Goes off at this moment, and not at that which was set before.
    pub(super) fn set(&self, at: Moment) {
        // The very first nanosecond would switch the timer off.
        let nanos = i64::try_from(at.as_nanos().max(1)).unwrap_or(i64::MAX);
        let second = 1_000_000_000;
        let it_value = Timespec { tv_sec: nanos / second, tv_nsec: nanos % second };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        let at = Itimerspec { it_interval, it_value };
        timerfd_settime(&self.0, TimerfdTimerFlags::ABSTIME, &at)
            .expect("a time on the monotonic clock can be set");
    }
}
