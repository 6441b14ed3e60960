//! The disk of a simulated broker: the log of all shards as the bytes of its segments, and how much
//! of it is on disk.
//!
//! ```text
//!   post --> queue --write--> a group in a segment --sync--> on disk: marks are told
//!              |                     |
//!            lost              torn by sectors, if the power fails
//! ```
//! Groups and segments are encoded and read by the code of the store. There are no files here, and
//! no cleaning.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
};

use ringmq::{
    base::{hash::Seed, time::WallTime},
    storage::{
        RecordBatch, Recovery, Restored,
        group::{GROUP_HEADER, GroupHeader, padded},
        log::{Segments, read_log},
        segment::{BLOCK, MINOR, SegmentHeader},
    },
};

use crate::{
    random::{Random, purpose},
    violation::Violation,
};

/// What a seed decides about the disk.
#[derive(Clone, Debug)]
pub(crate) struct DiskPlan {
    /// Answers wait until the disk has confirmed the write, as in the mode `always`. Otherwise they
    /// wait for the write alone, and the process is killed, but the power does not fail.
    pub(crate) waits_for_sync: bool,
    /// In how many of a hundred steps the disk does something.
    pub(crate) haste: usize,
    /// In how many of ten thousand steps the broker crashes.
    pub(crate) crashes: usize,
    /// Bytes of records that wait to be written, at most.
    pub(crate) queue_bytes_max: usize,
    pub(crate) segment_bytes: usize,
}

#[derive(Debug)]
pub(crate) struct Disk {
    plan: DiskPlan,
    random: Random,
    segments: BTreeMap<u32, Vec<u8>>,
    header: SegmentHeader,
    /// Where the next group goes in the last segment.
    offset: usize,
    next_lsn: u64,
    /// All groups up to this one are on disk.
    durable: u64,
    queue: VecDeque<Post>,
    queued_bytes: usize,
    /// Groups that were written and are not on disk.
    unsafe_groups: Vec<Written>,
    /// How many batches were ever posted.
    posted: u64,
    /// Each group, and how many batches had been posted when its last one was.
    ends: Vec<(u64, u64)>,
}

#[derive(Debug)]
struct Post {
    number: u64,
    shard: usize,
    mark: u64,
    records: RecordBatch,
}

#[derive(Debug)]
struct Written {
    segment: u32,
    offset: usize,
    bytes: usize,
    marks: Vec<(usize, u64)>,
}

/// What a start has read.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) restored: Restored,
    /// How many of all batches that were ever posted have survived the crash, and those before.
    pub(crate) kept: u64,
}

impl Disk {
    pub(crate) fn new(seed: u64, plan: &DiskPlan) -> Disk {
        let header = SegmentHeader {
            number: 0,
            epoch: 0,
            seed,
            shards: 1,
            made_at: WallTime::default(),
            minor: MINOR,
        };
        Disk {
            plan: plan.clone(),
            random: Random::new(seed, purpose::DISK),
            segments: BTreeMap::new(),
            header,
            offset: 0,
            next_lsn: 1,
            durable: 0,
            queue: VecDeque::new(),
            queued_bytes: 0,
            unsafe_groups: Vec::new(),
            posted: 0,
            ends: Vec::new(),
        }
    }

    /// Whether the queue has room for so many bytes of records.
    pub(crate) fn takes(&self, bytes: usize) -> bool {
        self.queued_bytes == 0 || self.queued_bytes + bytes <= self.plan.queue_bytes_max
    }

    /// Takes the records of a turn of a shard.
    pub(crate) fn post(&mut self, shard: usize, mark: u64, records: RecordBatch) {
        self.posted += 1;
        self.queued_bytes += records.len();
        self.queue.push_back(Post { number: self.posted, shard, mark, records });
    }

    /// How many batches were ever posted.
    pub(crate) fn posted(&self) -> u64 {
        self.posted
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.unsafe_groups.is_empty()
    }

    /// The disk does one thing: it confirms what was written, or something is written. Returns the
    /// shards that are told a mark.
    pub(crate) fn advance(&mut self) -> Vec<(usize, u64)> {
        let writes_on = !self.plan.waits_for_sync && self.random.chance(70);
        if !self.unsafe_groups.is_empty() && (self.queue.is_empty() || !writes_on) {
            return self.sync();
        }
        if self.queue.is_empty() {
            return Vec::new();
        }
        let count = self.random.between(1, self.queue.len());
        self.write(count)
    }

    fn sync(&mut self) -> Vec<(usize, u64)> {
        self.durable = self.next_lsn - 1;
        let groups = std::mem::take(&mut self.unsafe_groups);
        if !self.plan.waits_for_sync {
            return Vec::new();
        }
        groups.into_iter().flat_map(|group| group.marks).collect()
    }

    /// Writes so many batches as one group.
    fn write(&mut self, count: usize) -> Vec<(usize, u64)> {
        let posts: Vec<Post> = self.queue.drain(..count).collect();
        let mut bytes = vec![0; GROUP_HEADER];
        for post in &posts {
            bytes.extend_from_slice(post.records.as_bytes());
        }
        let records = bytes.len() - GROUP_HEADER;
        self.queued_bytes -= records;
        bytes.resize(padded(records), 0);
        if self.offset + bytes.len() > self.plan.segment_bytes.max(BLOCK + bytes.len()) {
            self.begin_segment();
        }
        let header = GroupHeader {
            lsn: self.next_lsn,
            origin: self.header.origin(),
            oldest: 1,
            durable: self.durable,
            written_at: WallTime::default(),
        };
        header.seal(&mut bytes, records);
        let segment = self.segments.get_mut(&self.header.number).expect("it was begun");
        segment.resize(self.offset, 0);
        segment.extend_from_slice(&bytes);
        let marks: Vec<(usize, u64)> = posts.iter().map(|it| (it.shard, it.mark)).collect();
        self.ends.push((self.next_lsn, posts.last().map_or(0, |last| last.number)));
        self.unsafe_groups.push(Written {
            segment: self.header.number,
            offset: self.offset,
            bytes: bytes.len(),
            marks: marks.clone(),
        });
        self.offset += bytes.len();
        self.next_lsn += 1;
        if self.plan.waits_for_sync { Vec::new() } else { marks }
    }

    fn begin_segment(&mut self) {
        self.header.number += 1;
        self.segments.insert(self.header.number, self.header.encode().to_vec());
        self.offset = BLOCK;
    }

    /// The process ends. What was not written is lost. If the power fails, any sectors of the
    /// groups that are not on disk are lost, too.
    pub(crate) fn crash(&mut self) {
        self.queue.clear();
        self.queued_bytes = 0;
        let groups = std::mem::take(&mut self.unsafe_groups);
        if !self.plan.waits_for_sync {
            return;
        }
        let survivors = self.random.pick(&[0, 50, 90, 100]);
        for group in groups {
            let bytes = self.segments.get_mut(&group.segment).expect("it has a group");
            for sector in bytes[group.offset..group.offset + group.bytes].chunks_mut(SECTOR) {
                if !self.random.chance(survivors) {
                    sector.fill(0);
                }
            }
        }
    }

    /// What the next process begins with, which has so many shards. It writes into a new segment.
    pub(crate) fn recover(&mut self, shards: usize) -> Result<Reading, Violation> {
        let mut recovery = Recovery::new(Seed::new(self.header.seed));
        let end = read_log(&mut Source(&self.segments), |placed| {
            recovery.apply_all(placed.group.records, placed.segment.epoch)
        });
        let end = end.map_err(|fault| Violation::new("the log is read", format!("{fault:?}")))?;
        let last = end.segments.last().map_or(0, |last| last.number);
        self.segments.retain(|&number, _| number <= last);
        let epoch = end.last.map_or(1, |last| last.epoch + 1);
        let shards = u8::try_from(shards).expect("few shards");
        self.header = SegmentHeader { number: last, epoch, shards, ..self.header };
        self.next_lsn = end.next_lsn;
        self.durable = end.next_lsn - 1;
        self.begin_segment();
        self.ends.retain(|&(lsn, _)| lsn < end.next_lsn);
        let kept = self.ends.last().map_or(0, |&(_, kept)| kept);
        Ok(Reading { restored: recovery.finish(), kept })
    }
}

/// The segments, as the store reads them.
struct Source<'a>(&'a BTreeMap<u32, Vec<u8>>);

impl Segments for Source<'_> {
    type Error = Infallible;

    fn numbers(&mut self) -> Result<Vec<u32>, Infallible> {
        Ok(self.0.keys().copied().collect())
    }

    fn read(&mut self, number: u32, bytes: &mut Vec<u8>) -> Result<(), Infallible> {
        bytes.clone_from(&self.0[&number]);
        Ok(())
    }
}

/// What a disk writes as a whole, in bytes.
const SECTOR: usize = 512;
