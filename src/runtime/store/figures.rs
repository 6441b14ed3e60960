//! How the storage thread lets the shards see its figures.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{handle::Posts, writer::Writer};
use crate::shard::store_figures::{SYNC_BOUNDS, StoreCondition, StoreFigures};

macro_rules! shared_figures {
    ($($field:ident,)*) => {
        /// The latest figures. The storage thread writes them, and any shard may read them.
        #[derive(Debug, Default)]
        pub(super) struct SharedFigures {
            $($field: AtomicU64,)*
            syncs_within: [AtomicU64; SYNC_BOUNDS.len()],
        }

        impl SharedFigures {
            /// Replaces the figures, all but those that only the queue knows.
            fn set(&self, figures: &StoreFigures) {
                $(self.$field.store(figures.$field, Ordering::Relaxed);)*
                for (shared, count) in self.syncs_within.iter().zip(figures.syncs_within) {
                    shared.store(count, Ordering::Relaxed);
                }
            }

            /// The figures, with what only the queue knows.
            pub(super) fn get(
                &self,
                condition: StoreCondition,
                queued_bytes: u64,
            ) -> StoreFigures {
                let within = |index: usize| self.syncs_within[index].load(Ordering::Relaxed);
                StoreFigures {
                    condition,
                    queued_bytes,
                    $($field: self.$field.load(Ordering::Relaxed),)*
                    syncs_within: std::array::from_fn(within),
                }
            }
        }
    };
}

shared_figures! {
    bytes,
    live_bytes,
    live_records,
    segments,
    ready_segments,
    cleaned_segments,
    records,
    rewritten_records,
    groups,
    written_bytes,
    filled,
    syncs,
    slow_syncs,
    sync_nanos,
    sync_nanos_max,
}

impl Writer {
    /// Lets the shards see the figures of this moment.
    pub(super) fn tell_figures(&self, posts: &Posts) {
        posts.figures().set(&StoreFigures {
            bytes: (self.bytes() + self.supply.bytes()) as u64,
            live_bytes: self.ledger.live_bytes() as u64,
            live_records: self.ledger.live_records() as u64,
            segments: self.used.len() as u64 + 1,
            ready_segments: self.supply.ready() as u64,
            ..self.tally
        });
    }
}
