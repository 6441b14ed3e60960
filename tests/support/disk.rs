//! A store in memory: the log that all shards write, and how much of it is on disk.

use ringmq::{
    base::{hash::Seed, ids::ShardId, time::WallTime},
    shard::restore::redo,
    storage::{RecordBatch, Recovery, Restored},
};

/// One log, by batches.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    log: Vec<Batch>,
    /// How many batches are on disk.
    synced: usize,
    epoch: u64,
}

#[derive(Clone, Debug)]
struct Batch {
    epoch: u64,
    shard: usize,
    mark: u64,
    records: RecordBatch,
}

impl Disk {
    /// Appends the records of a turn of a shard, and empties the batch.
    pub(crate) fn post(&mut self, shard: usize, mark: u64, records: &mut RecordBatch) {
        let records = std::mem::take(records);
        self.log.push(Batch { epoch: self.epoch, shard, mark, records });
    }

    /// How many batches are not on disk.
    pub(crate) fn unsynced(&self) -> usize {
        self.log.len() - self.synced
    }

    /// So many batches more are on disk. Returns the latest mark of each shard that has any.
    pub(crate) fn sync(&mut self, batches: usize) -> Vec<(usize, u64)> {
        let upto = (self.synced + batches).min(self.log.len());
        let new = &self.log[self.synced..upto];
        let shards = new.iter().map(|batch| batch.shard).max().map_or(0, |last| last + 1);
        let latest = |shard| new.iter().rev().find(|batch| batch.shard == shard);
        let marks = (0..shards).filter_map(|shard| Some((shard, latest(shard)?.mark))).collect();
        self.synced = upto;
        marks
    }

    /// The process ends: of what is not on disk, only so many batches come to be.
    pub(crate) fn crash(&mut self, survives: usize) {
        self.log.truncate(self.synced + survives);
        self.synced = self.log.len();
    }

    /// What the next process begins with, which has so many shards.
    pub(crate) fn restore(&mut self, shards: usize, seed: Seed, now: WallTime) -> Restored {
        let mut recovery = Recovery::new(seed);
        for batch in &self.log {
            recovery.apply_all(batch.records.as_bytes(), batch.epoch).expect("whole records");
        }
        let mut restored = recovery.finish();
        let count = u8::try_from(shards).expect("few shards");
        let mut begin = redo(&mut restored, count, seed, now);
        self.epoch = restored.epoch;
        self.post(ShardId::FIRST.index(), 0, &mut begin);
        self.synced = self.log.len();
        restored
    }
}
