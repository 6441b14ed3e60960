//! The lane of the lines of traces, from all shards to the thread that gives them to readers.
//!
//! Bounded: what it has no room for is dropped and counted, for each trace by itself.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::shard::trace::{Line, Lines, TRACES_MAX};

/// Both ends of the lane. All clones are the same.
#[derive(Clone)]
pub struct TraceLane(Arc<Shared>);

struct Shared {
    sender: Sender<Line>,
    receiver: Receiver<Line>,
    lost: [AtomicU64; TRACES_MAX],
}

impl fmt::Debug for TraceLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceLane").field("waiting", &self.0.receiver.len()).finish_non_exhaustive()
    }
}

impl Default for TraceLane {
    fn default() -> TraceLane {
        let (sender, receiver) = bounded(LINES_MAX);
        TraceLane(Arc::new(Shared { sender, receiver, lost: Default::default() }))
    }
}

// Relaxed, everywhere: the counts guard no other memory.
impl TraceLane {
    /// The oldest line that waits.
    pub fn take(&self) -> Option<Line> {
        self.0.receiver.try_recv().ok()
    }

    /// How many lines of the trace in this slot there was no room for since the last call.
    pub fn take_lost(&self, slot: usize) -> u64 {
        self.0.lost.get(slot).map_or(0, |lost| lost.swap(0, Relaxed))
    }
}

impl Lines for TraceLane {
    fn has_room(&self) -> bool {
        !self.0.sender.is_full()
    }

    fn tell(&self, line: Line) -> bool {
        self.0.sender.try_send(line).is_ok()
    }

    fn note_lost(&self, slot: usize) {
        if let Some(lost) = self.0.lost.get(slot) {
            lost.fetch_add(1, Relaxed);
        }
    }
}

/// Lines that may wait.
const LINES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_is_counted_for_its_trace() {
        let lane = TraceLane::default();
        let line = |n: usize| Line { trace: 7, text: n.to_string() };
        for n in 0..LINES_MAX + 3 {
            assert_eq!(lane.has_room(), n < LINES_MAX);
            if !lane.tell(line(n)) {
                lane.note_lost(2);
            }
        }
        lane.note_lost(TRACES_MAX);
        assert_eq!((lane.take_lost(2), lane.take_lost(2), lane.take_lost(1)), (3, 0, 0));
        assert_eq!(lane.take(), Some(line(0)));
        assert!(lane.has_room());
    }
}
