//! The store of the broker: opened before the shards start, so that they begin with what an
//! earlier process has left.

use std::sync::Arc;

use anyhow::{Context, Result};

use crate::{
    base::{
        hash::Seed,
        time::{Moment, WallClock},
    },
    config::{DurabilityMode, StoreOptions},
    runtime::store::{self, Durability, Opened, Store, StoreConfig},
    shard::{
        restore::{Restoration, redo},
        settings::StoreSettings,
    },
    storage::RecordBatch,
};

/// What an earlier process has left, and where the next records go.
pub(super) struct Begun {
    /// The seed of the hash that finds the homes of sessions.
    pub(super) seed: Seed,
    pub(super) settings: StoreSettings,
    pub(super) restoration: Arc<Restoration>,
    /// The store, and the records that it is to get first.
    pub(super) store: (Store, RecordBatch),
}

/// Opens the store, and reads it. `new_seed` is for a store that does not exist yet.
pub(super) fn begin(
    options: &StoreOptions,
    shards: usize,
    new_seed: u64,
    (now, clock): (Moment, WallClock),
) -> Result<Begun> {
    let count = u8::try_from(shards).context("too many shards for a store")?;
    let config = StoreConfig {
        data_dir: options.data_dir.clone(),
        durability: match options.durability {
            DurabilityMode::Always => Durability::Always,
            DurabilityMode::Interval(interval) => Durability::Interval(interval),
            DurabilityMode::None => Durability::None,
        },
        segment_bytes: options.segment_bytes,
        bytes_max: options.bytes_max,
        shards: count,
    };
    let Opened { mut restored, seed, store, .. } = store::open(&config, new_seed)?;
    let seed = Seed::new(seed);
    let first = redo(&mut restored, count, seed, clock.time_of(now));
    Ok(Begun {
        seed,
        settings: StoreSettings::new(&restored, shards, options.will_grace),
        restoration: Arc::new(Restoration::new(restored, clock)),
        store: (store, first),
    })
}
