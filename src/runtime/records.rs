//! The records of a shard's turn, on their way to the store.

use super::store::{Mark, StoreHandle};
use crate::storage::RecordBatch;

/// The records of the present turn, and where they go.
#[derive(Debug)]
pub(super) struct Records {
    pub(super) batch: RecordBatch,
    /// `None` if nothing survives a restart.
    store: Option<StoreHandle>,
    /// Up to which mark the brain was told that records are on disk.
    told: Mark,
}

impl Records {
    pub(super) fn new(store: Option<StoreHandle>) -> Records {
        Records { batch: RecordBatch::default(), store, told: Mark::default() }
    }

    /// Posts the records of the turn. False: the store takes none now.
    #[inline]
    pub(super) fn post(&mut self) -> bool {
        let Some(store) = self.store.as_mut().filter(|_| !self.batch.is_empty()) else {
            return true;
        };
        store.try_post(&mut self.batch).is_ok()
    }

    /// Whether records wait because the store takes none.
    pub(super) fn are_held_up(&self) -> bool {
        !self.batch.is_empty()
    }

    /// Whether so many records wait that publishers wait, too.
    pub(super) fn are_crowded(&self) -> bool {
        self.batch.len() >= RECORD_BYTES_MAX
    }

    /// The mark of the records of this turn.
    pub(super) fn mark(&self) -> u64 {
        self.store.as_ref().map_or(0, |store| store.posted().0 + 1)
    }

    /// Up to which mark all records are on disk, if that is news.
    #[inline]
    pub(super) fn take_durable(&mut self) -> Option<u64> {
        let durable = self.store.as_ref()?.durable();
        let is_news = durable > self.told;
        self.told = durable;
        is_news.then_some(durable.0)
    }
}

/// Bytes of records in one turn beyond which publishers wait until those are on disk.
const RECORD_BYTES_MAX: usize = 1 << 20;
