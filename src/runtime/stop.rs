//! How a broker is told to stop, and how its shards wait for each other at the start and the end.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use super::{bell::Bells, ring::system};
use crate::{
    base::time::{Moment, Span},
    shard::ports::Undelivered,
};

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
    /// Shards that are not ready for clients.
    unready: Arc<AtomicUsize>,
    /// Shards at which messages wait for connected clients, or that have not begun to drain.
    undrained: Arc<AtomicUsize>,
    /// Shards that still have connections, or have not begun to stop.
    shards_left: Arc<AtomicUsize>,
    told: Arc<Told>,
    bells: Bells,
}

/// What is known of a stop when it is over.
#[derive(Debug, Default)]
struct Told {
    /// When it was asked for, in nanoseconds; 0 for never.
    asked_at: AtomicU64,
    undelivered_connected: AtomicU64,
    undelivered_absent: AtomicU64,
}

/// How a stop went.
#[derive(Clone, Copy, Debug)]
pub struct StopReport {
    pub took: Span,
    /// What it left undelivered.
    pub undelivered: Undelivered,
}

impl Stop {
    pub(super) fn new(shards: usize, bells: Bells) -> Stop {
        let all = || Arc::new(AtomicUsize::new(shards));
        let (unready, undrained, shards_left) = (all(), all(), all());
        let (asked, told) = (Arc::default(), Arc::default());
        Stop { asked, unready, undrained, shards_left, told, bells }
    }

    pub(super) fn ask(&self) {
        // Relaxed, here and below: the flag guards no other memory, and the bell's system call
        // makes it visible.
        if !self.asked.swap(true, Ordering::Relaxed) {
            self.told.asked_at.store(system::now().as_nanos(), Ordering::Relaxed);
        }
        self.bells.ring_all();
    }

    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Notes what a shard leaves undelivered.
    pub(super) fn tell_undelivered(&self, undelivered: Undelivered) {
        let Undelivered { connected, absent } = undelivered;
        self.told.undelivered_connected.fetch_add(connected, Ordering::Relaxed);
        self.told.undelivered_absent.fetch_add(absent, Ordering::Relaxed);
    }

    /// How the stop went, which has just ended.
    pub(super) fn report(&self) -> StopReport {
        let asked_at = Moment::from_nanos(self.told.asked_at.load(Ordering::Relaxed));
        let connected = self.told.undelivered_connected.load(Ordering::Relaxed);
        let absent = self.told.undelivered_absent.load(Ordering::Relaxed);
        let undelivered = Undelivered { connected, absent };
        StopReport { took: system::now().since(asked_at), undelivered }
    }

    /// Notes that a shard is ready for clients.
    pub(super) fn tell_ready(&self) {
        self.count_down(&self.unready);
    }

    /// Whether all shards are ready for clients.
    pub(super) fn are_ready(&self) -> bool {
        // What the shards have told each other has come by letters.
        self.unready.load(Ordering::Relaxed) == 0
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
