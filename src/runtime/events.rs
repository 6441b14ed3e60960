//! The lane from all shards to the thread that tells people what happens to clients.
//!
//! Bounded: what it has no room for is dropped and counted. While nobody watches, a shard looks at
//! one flag for each client that comes or goes.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::shard::events::{Event, Watcher};

/// Both ends of the lane. All clones are the same.
#[derive(Clone)]
pub struct EventLane(Arc<Shared>);

struct Shared {
    sender: Sender<Event>,
    receiver: Receiver<Event>,
    is_watched: AtomicBool,
    lost: AtomicU64,
}

impl fmt::Debug for EventLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLane").field("waiting", &self.0.receiver.len()).finish_non_exhaustive()
    }
}

impl Default for EventLane {
    fn default() -> EventLane {
        let (sender, receiver) = bounded(EVENTS_MAX);
        let (is_watched, lost) = (AtomicBool::new(false), AtomicU64::new(0));
        EventLane(Arc::new(Shared { sender, receiver, is_watched, lost }))
    }
}

// Relaxed, everywhere: the flag and the count guard no other memory.
impl EventLane {
    /// From now on shards tell what happens, or do not any more. What waits is forgotten.
    pub fn watch(&self, is_watched: bool) {
        self.0.is_watched.store(is_watched, Relaxed);
        while self.take().is_some() {}
        self.take_lost();
    }

    /// The oldest event that waits.
    pub fn take(&self) -> Option<Event> {
        self.0.receiver.try_recv().ok()
    }

    /// How many events there was no room for since the last call.
    pub fn take_lost(&self) -> u64 {
        self.0.lost.swap(0, Relaxed)
    }

    /// The lane, if anyone watches.
    pub(super) fn watcher(&self) -> Option<&dyn Watcher> {
        self.0.is_watched.load(Relaxed).then_some(self as &dyn Watcher)
    }
}

impl Watcher for EventLane {
    fn tell(&self, event: Event) {
        if self.0.sender.try_send(event).is_err() {
            self.0.lost.fetch_add(1, Relaxed);
        }
    }
}

/// Events that may wait.
const EVENTS_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::events::sample;

    #[test]
    fn what_has_no_room_is_dropped_and_counted() {
        let lane = EventLane::default();
        assert!(lane.watcher().is_none());
        lane.watch(true);
        for n in 0..EVENTS_MAX + 3 {
            lane.watcher().expect("someone watches").tell(sample(&n.to_string()));
        }
        assert_eq!((lane.take_lost(), lane.take_lost()), (3, 0));
        assert_eq!(lane.take(), Some(sample("0")));
        lane.watch(false);
        assert!(lane.watcher().is_none() && lane.take().is_none());
    }
}
