//! Memory that was needed once and is not needed now goes back to the system.
//!
//! Once a second while anything happens, and once more when it has stopped: pools give up what lay
//! idle since the last time, and the allocator gives up its empty pages. The second of quiet also
//! ends what a storm of connections has left behind.

use crate::base::time::{Moment, Span};

/// When a shard next looks at what it could give back.
#[derive(Debug, Default)]
pub(super) struct Trimmer {
    due: Option<Moment>,
    active: bool,
}

/// How thoroughly to give back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TrimLevel {
    /// The shard is at work: only what has been empty for a while.
    Some,
    /// The shard has been quiet for a second: all that is empty.
    All,
}

impl Trimmer {
    /// Something happens.
    pub(super) fn note_activity(&mut self, now: Moment) {
        self.active = true;
        self.due.get_or_insert(now + INTERVAL);
    }

    pub(super) fn due(&self) -> Option<Moment> {
        self.due
    }

    /// What is to be given back now, if it is time.
    pub(super) fn take(&mut self, now: Moment) -> Option<TrimLevel> {
        self.due.filter(|&due| due <= now)?;
        let measure = if self.active { TrimLevel::Some } else { TrimLevel::All };
        self.due = self.active.then_some(now + INTERVAL);
        self.active = false;
        Some(measure)
    }
}

/// Lets this thread's part of the allocator give back what it does not use.
#[expect(unsafe_code, reason = "the allocator has no safe name for this")]
pub(super) fn collect(measure: TrimLevel) {
    // SAFETY: it may be called at any time from any thread; it touches no memory in use.
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
