//! How a broker is told to stop, and how its shards wait for each other.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use super::bell::Bells;
use crate::base::time::{Moment, Span};

/// Stops a running broker in order, from any thread.
#[derive(Clone, Debug)]
pub struct StopHandle(Stop);

impl StopHandle {
    pub(super) fn new(stop: Stop) -> StopHandle {
        StopHandle(stop)
    }

    /// Asks for the stop and returns at once; `run` returns when it is done.
    pub fn stop(&self) {
        self.0.ask();
    }
}

/// What all shards know of the stop.
#[derive(Clone, Debug)]
pub(super) struct Stop {
    asked: Arc<AtomicBool>,
    /// Shards at which messages wait for connected clients, or that have not begun to drain.
    undrained: Arc<AtomicUsize>,
    /// Shards that still have connections, or have not begun to stop.
    shards_left: Arc<AtomicUsize>,
    bells: Bells,
}

impl Stop {
    pub(super) fn new(shards: usize, bells: Bells) -> Stop {
        let all = || Arc::new(AtomicUsize::new(shards));
        Stop { asked: Arc::default(), undrained: all(), shards_left: all(), bells }
    }

    pub(super) fn ask(&self) {
        // Relaxed, here and below: the flag guards no other memory, and the bell's system call
        // makes it visible.
        self.asked.store(true, Ordering::Relaxed);
        self.bells.ring_all();
    }

    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Notes that a shard has sent what waited for its clients, and all its letters.
    pub(super) fn tell_drained(&self) {
        self.count_down(&self.undrained);
    }

    pub(super) fn is_drained(&self) -> bool {
        self.undrained.load(Ordering::Relaxed) == 0
    }

    /// Notes that a shard has closed its last connection. Letters and connections may still come to
    /// it until all shards have.
    pub(super) fn tell_done(&self) {
        self.count_down(&self.shards_left);
    }

    pub(super) fn is_over(&self) -> bool {
        self.shards_left.load(Ordering::Relaxed) == 0
    }

    /// One shard fewer. The last one wakes all.
    fn count_down(&self, shards: &AtomicUsize) {
        if shards.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.bells.ring_all();
        }
    }
}

/// How long a stop may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct StopTimes {
    pub(super) stop_time_max: Span,
    pub(super) flush_time_max: Span,
}

/// The first part of a stop, in which messages that wait for clients are still sent.
#[derive(Debug)]
pub(super) struct Draining {
    pub(super) next_look: Moment,
    /// The other shards know that nothing waits here any more.
    pub(super) told: bool,
    /// When the connections are closed in any case.
    pub(super) until: Moment,
    /// When the whole stop must be over.
    pub(super) over: Moment,
}

impl Draining {
    /// A fifth of the time is for closing the connections.
    pub(super) fn new(now: Moment, times: StopTimes) -> Draining {
        let until = now + Span::from_nanos(times.stop_time_max.as_nanos() / 5 * 4);
        Draining { next_look: now, told: false, until, over: now + times.stop_time_max }
    }
}
