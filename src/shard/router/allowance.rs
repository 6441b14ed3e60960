//! How many steps the messages of a batch of letters may take at once.
//!
//! ```text
//!   a cheap message                          at once
//!   a dear one, while the batch has steps    at once, and the batch has fewer steps
//!   a dear one, later                        in slices, in the row of its publisher
//! ```
//! So the letters behind dear ones do not wait for them, except those of the same publisher. Knows
//! numbers of steps; does not know what takes them.

use super::super::{rules::Limits, unfinished::SLICES_PER_TURN};

/// The steps that are left to the batch that is being read.
#[derive(Debug)]
pub(super) struct Allowance {
    left: usize,
    /// At most so many for one message.
    slice: usize,
    /// A message that takes no more is cheap.
    cheap: usize,
}

/// Cheap messages of a whole batch take a few tens of milliseconds together.
const CHEAP_IN_SLICE: usize = 128;

impl Allowance {
    /// What a batch may take of which nothing was read.
    pub(super) fn of_batch(limits: &Limits) -> Allowance {
        let slice = limits.slice_steps;
        Allowance { left: SLICES_PER_TURN * slice, slice, cheap: slice / CHEAP_IN_SLICE }
    }

    /// What the next message may take at once.
    #[inline]
    pub(super) fn of_message(&self) -> usize {
        self.left.min(self.slice).max(self.cheap)
    }

    /// A message has taken so much.
    #[inline]
    pub(super) fn note(&mut self, steps: usize) {
        if steps > self.cheap {
            self.left = self.left.saturating_sub(steps);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::rules::tests::rules;

    #[test]
    fn dear_messages_are_handled_at_once_until_their_batch_has_no_steps_left() {
        let limits = Limits { slice_steps: 12_800, ..rules().limits };
        let mut allowance = Allowance::of_batch(&limits);
        for _ in 0..1000 {
            allowance.note(100);
        }
        assert_eq!(allowance.of_message(), 12_800);
        allowance.note(12_800);
        assert_eq!(allowance.of_message(), 12_800);
        allowance.note(12_799);
        assert_eq!(allowance.of_message(), 100);
        allowance.note(101);
        assert_eq!(allowance.of_message(), 100);
    }
}
