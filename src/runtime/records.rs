//! The records of a shard's turn, on their way to the store.

use super::store::{Mark, StoreHandle};
use crate::{
    shard::store_figures::{StoreCondition, StoreFigures},
    storage::RecordBatch,
};

/// The records of the present turn, and where they go.
#[derive(Debug)]
pub(super) struct Records {
    pub(super) batch: RecordBatch,
    /// `None` if nothing survives a restart.
    store: Option<StoreHandle>,
    /// Up to which mark the brain was told that records are on disk.
    told: Mark,
    /// What the brain was told that the store can do.
    condition: StoreCondition,
}

/// What a shard has to hear of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// All records up to this mark are on disk.
    pub(super) durable: Option<u64>,
    pub(super) condition: Option<StoreCondition>,
}

impl Records {
    pub(super) fn new(store: Option<StoreHandle>) -> Records {
        Records {
            batch: RecordBatch::default(),
            store,
            told: Mark::default(),
            condition: StoreCondition::Running,
        }
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

    /// What the store says of itself.
    pub(super) fn store_figures(&self) -> Option<StoreFigures> {
        self.store.as_ref().map(StoreHandle::figures)
    }

    /// What is new in the store.
    #[inline]
    pub(super) fn take_news(&mut self) -> Option<News> {
        let store = self.store.as_ref()?;
        let (durable, condition) = (store.durable(), store.condition());
        let has_grown = durable > self.told;
        let has_changed = condition != self.condition;
        (self.told, self.condition) = (durable, condition);
        (has_grown || has_changed).then_some(News {
            durable: has_grown.then_some(durable.0),
            condition: has_changed.then_some(condition),
        })
    }
}

/// Bytes of records in one turn beyond which publishers wait until those are on disk.
const RECORD_BYTES_MAX: usize = 1 << 20;
