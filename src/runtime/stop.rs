//! How a broker is told to stop, and how its shards wait for each other.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use super::bell::Bells;

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
    /// Shards that still have connections, or have not begun to stop.
    shards_left: Arc<AtomicUsize>,
    bells: Bells,
}

impl Stop {
    pub(super) fn new(shards: usize, bells: Bells) -> Stop {
        Stop { asked: Arc::default(), shards_left: Arc::new(AtomicUsize::new(shards)), bells }
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

    /// Notes that a shard has closed its last connection. Letters and connections may still come to
    /// it until all shards have.
    pub(super) fn tell_done(&self) {
        if self.shards_left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.bells.ring_all();
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.shards_left.load(Ordering::Relaxed) == 0
    }
}
