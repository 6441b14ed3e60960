//! When slow readers read.
//!
//! Reads no clock and knows no sockets.

use ringmq::base::time::{Moment, Span};

/// The connections that are read from time to time only.
#[derive(Debug, Default)]
pub struct SlowReaders {
    indices: Vec<usize>,
    next: Moment,
}

impl SlowReaders {
    pub fn add(&mut self, index: usize) {
        self.indices.push(index);
    }

    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    pub fn next_moment(&self) -> Option<Moment> {
        (!self.indices.is_empty()).then_some(self.next)
    }

    /// True when it is time to read again; the next time is set then.
    pub fn is_due(&mut self, now: Moment) -> bool {
        let due = self.next_moment().is_some_and(|next| next <= now);
        if due {
            self.next = now + Span::from_nanos(1_000_000_000 / u64::from(SLOW_READS_PER_SECOND));
        }
        due
    }
}

/// How often each of them reads a part of what it may read in a second.
pub const SLOW_READS_PER_SECOND: u32 = 10;
