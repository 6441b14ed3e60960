//! Gives memory that is no longer needed back to the system.
//!
//! This happens once a second while the shard is active, and once more after a second of quiet:
//! pools free what was idle since the last time, and the allocator frees its empty pages. The last
//! time also frees the memory that a storm of connections has left behind.

use crate::base::time::{Moment, Span};

/// Decides when a shard gives memory back.
#[derive(Debug, Default)]
pub(super) struct Trimmer {
    due: Option<Moment>,
    active: bool,
}

/// How thoroughly to give back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TrimLevel {
    /// The shard is active: only memory that has been empty for a while.
    Some,
    /// The shard has been quiet for a second: all empty memory.
    All,
}

impl Trimmer {
    /// Notes that the shard is active.
    pub(super) fn note_activity(&mut self, now: Moment) {
        self.active = true;
        self.due.get_or_insert(now + INTERVAL);
    }

    pub(super) fn due(&self) -> Option<Moment> {
        self.due
    }

    /// How thoroughly to give memory back now, if it is time.
    pub(super) fn take(&mut self, now: Moment) -> Option<TrimLevel> {
        self.due.filter(|&due| due <= now)?;
        let measure = if self.active { TrimLevel::Some } else { TrimLevel::All };
        self.due = self.active.then_some(now + INTERVAL);
        self.active = false;
        Some(measure)
    }
}

/// Has the allocator give back the unused memory of this thread.
#[expect(unsafe_code, reason = "the allocator has no safe name for this")]
pub(super) fn collect(measure: TrimLevel) {
    // SAFETY: any thread may call it at any time. It touches no memory in use.
    unsafe { libmimalloc_sys::mi_collect(measure == TrimLevel::All) }
}

const INTERVAL: Span = Span::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_looks_once_a_second_and_once_more_when_it_is_quiet() {
        let start = Moment::from_nanos(1);
        let mut trimmer = Trimmer::default();
        assert_eq!(trimmer.due(), None);
        trimmer.note_activity(start);
        assert_eq!(trimmer.take(start), None);
        let later = start + INTERVAL;
        assert_eq!(trimmer.take(later), Some(TrimLevel::Some));
        assert_eq!(trimmer.take(later), None);
        assert_eq!(trimmer.take(later + INTERVAL), Some(TrimLevel::All));
        assert_eq!(trimmer.due(), None);
    }
}
