//! The storage thread: takes all batches that wait, writes them as one group, makes it durable, and
//! tells the shards.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use super::{
    Durability,
    fault::StoreFault,
    files::{Aligned, Directory},
    handle::{Mark, Post, Posts, Waited},
    layer::StoreFile,
    room::Room,
    supply::{Ready, Supply},
    sweep::{Sweep, Swept},
};
use crate::{
    base::{ids::ShardId, time::Moment},
    runtime::ring::system,
    shard::store_figures::StoreFigures,
    storage::{
        RecordBatch,
        group::{GROUP_HEADER, GroupHeader, padded},
        ledger::{Ledger, Position},
        segment::{BLOCK, Origin},
    },
};

/// The segment that is being written.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) file: Box<dyn StoreFile>,
    pub(super) number: u32,
    pub(super) origin: Origin,
    /// Where the next group begins.
    pub(super) offset: usize,
    /// Bytes of the file.
    pub(super) bytes: usize,
}

impl From<Ready> for Active {
    fn from(Ready { number, origin, file, bytes, .. }: Ready) -> Active {
        Active { file, number, origin, offset: BLOCK, bytes }
    }
}

/// A segment with groups that count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Used {
    pub(super) number: u32,
    /// Where its groups end, once it is not written any more.
    pub(super) end: usize,
    /// Bytes of the file.
    pub(super) bytes: usize,
}

/// What an opened store hands to its thread.
pub(super) struct Writer {
    pub(super) directory: Arc<Directory>,
    pub(super) ledger: Ledger<Position>,
    pub(super) supply: Supply,
    pub(super) active: Active,
    /// The segments before the active one, oldest first.
    pub(super) used: VecDeque<Used>,
    pub(super) epoch: u64,
    pub(super) next_lsn: u64,
    /// The latest group that is surely on disk.
    pub(super) durable: u64,
    pub(super) durability: Durability,
    /// The group that is being put together: room for its header, then its records.
    pub(super) group: Aligned,
    pub(super) records: usize,
    /// The latest post of each shard in the group.
    pub(super) marks: Vec<Option<Mark>>,
    pub(super) rewritten: RecordBatch,
    pub(super) sweep: Option<Sweep>,
    /// Bytes of old segments to be cleaned for what came last.
    pub(super) to_sweep: usize,
    /// A segment that is free once the latest group is durable.
    pub(super) freed: Option<u32>,
    /// Since when there is a written group that is not durable.
    pub(super) unsafe_since: Option<Moment>,
    pub(super) room: Room,
    /// What has been counted since the start.
    pub(super) tally: StoreFigures,
    /// Cleaning waits for a segment to write to.
    pub(super) is_stuck: bool,
}

impl Writer {
    /// Runs until the store is told to end, or cannot be written.
    pub(super) fn run(mut self, posts: &mut Posts) -> Result<(), StoreFault> {
        while self.turn(posts)? {}
        self.finish()
    }

    /// Waits for posts, and writes them. False: all have come.
    pub(super) fn turn(&mut self, posts: &mut Posts) -> Result<bool, StoreFault> {
        self.order_segments()?;
        self.judge_room(posts);
        self.tell_figures(posts);
        let waited = if self.takes_posts() || posts.is_closing() {
            posts.wait(self.patience())
        } else {
            self.supply.collect(self.patience());
            Waited::Nothing
        };
        match waited {
            Waited::Post(post) => self.gather(post, posts),
            Waited::Nothing => {}
            Waited::End => return Ok(false),
        }
        self.write_group(posts)?;
        self.clean_ahead(posts)?;
        Ok(true)
    }

    /// While room is short, cleaning goes before what comes next.
    fn clean_ahead(&mut self, posts: &Posts) -> Result<(), StoreFault> {
        while self.to_sweep > 0 && self.is_short_ahead() && self.may_sweep() && !self.is_stuck {
            self.order_segments()?;
            self.write_group(posts)?;
        }
        self.to_sweep = 0;
        Ok(())
    }

    /// How long to wait for posts.
    fn patience(&self) -> Duration {
        if self.is_sweep_due() && (!self.is_stuck || self.may_open()) {
            return Duration::ZERO;
        }
        let sync_in = self.unsafe_since.zip(self.durability.interval());
        let sync_in = sync_in
            .map(|(since, interval)| interval.saturating_sub(system::now().since(since)).into());
        let look_in = if self.supply.ready() < self.enough_ready() { FULL_PATIENCE } else { IDLE };
        sync_in.map_or(look_in, |sync_in: Duration| sync_in.min(look_in))
    }

    /// Puts a post and all that wait behind it into the group, up to a bound.
    fn gather(&mut self, first: Post, posts: &mut Posts) {
        let bound = self.group_bytes_max();
        let mut next = Some(first);
        while let Some(post) = next {
            self.append_records(post.batch.as_bytes());
            self.marks[post.shard.index()] = Some(post.mark);
            posts.give_back(post);
            next = if self.records < bound { posts.next() } else { None };
        }
        self.to_sweep = self.sweep_pace() * self.records;
    }

    /// Bytes of records beyond which nothing more is added to a group.
    pub(super) fn group_bytes_max(&self) -> usize {
        GROUP_BYTES_MAX.min(self.active.bytes / 4)
    }

    pub(super) fn append_records(&mut self, bytes: &[u8]) {
        let from = GROUP_HEADER + self.records;
        self.group.grow(padded(self.records + bytes.len()), from);
        self.group.all_mut()[from..from + bytes.len()].copy_from_slice(bytes);
        self.records += bytes.len();
    }

    /// Writes the group, if it has anything, and what cleaning adds to it.
    pub(super) fn write_group(&mut self, posts: &Posts) -> Result<(), StoreFault> {
        self.place_group(posts)?;
        self.account()?;
        let swept = self.sweep_into_group()?;
        self.is_stuck = swept == Swept::NoRoom && !self.may_open();
        match swept {
            Swept::NoRoom if !self.is_stuck => self.open_next(posts)?,
            Swept::Segment => self.write_last_of_sweep()?,
            Swept::Part if self.records > 0 => self.write_records()?,
            Swept::NoRoom | Swept::Part => {}
        }
        let must_sync = self.freed.is_some() || self.is_sync_due();
        if must_sync {
            self.sync()?;
        }
        self.tell_figures(posts);
        self.tell(posts);
        Ok(())
    }

    /// Writes the group that says that a segment does not count any more. All groups before it are
    /// on disk by then: it may be there after a power cut while they are not.
    fn write_last_of_sweep(&mut self) -> Result<(), StoreFault> {
        let freed = self.freed.take();
        if self.unsafe_since.is_some() {
            self.sync()?;
        }
        self.freed = freed;
        self.write_records()
    }

    /// Goes on to the next segment if the active one has no room for the records.
    fn place_group(&mut self, posts: &Posts) -> Result<(), StoreFault> {
        let fits = self.active.offset + padded(self.records) <= self.active.bytes;
        if self.records == 0 || fits || self.active.offset == BLOCK {
            return Ok(());
        }
        self.open_next(posts)
    }

    /// Waits until a segment may be taken: then publishers are held back.
    fn open_next(&mut self, posts: &Posts) -> Result<(), StoreFault> {
        if self.unsafe_since.is_some() {
            self.sync()?;
        }
        while !self.may_open() {
            self.order_segments()?;
            self.supply.collect(FULL_PATIENCE);
            self.judge_room(posts);
            self.tell_figures(posts);
            if posts.is_closing() && self.room.is_full && self.supply.ready() == 0 {
                let error = self.supply.take_shortage();
                let error = error.unwrap_or_else(|| io::ErrorKind::StorageFull.into());
                return Err(StoreFault::NoRoom { path: self.directory.path().into(), error });
            }
        }
        let Some(ready) = self.supply.take() else { return Err(StoreFault::Lost) };
        let former = std::mem::replace(&mut self.active, ready.into());
        let bytes = former.bytes.max(former.offset);
        self.used.push_back(Used { number: former.number, end: former.offset, bytes });
        Ok(())
    }

    /// Tells the ledger of the records, now that their place is known.
    fn account(&mut self) -> Result<(), StoreFault> {
        let (number, offset) = (self.active.number, self.active.offset + GROUP_HEADER);
        let offset32 = u32::try_from(offset).unwrap_or(u32::MAX);
        let records = &self.group.all_mut()[GROUP_HEADER..GROUP_HEADER + self.records];
        let applied = self.ledger.apply_batch(records, self.epoch, number, offset32);
        let count =
            applied.map_err(|error| self.write_fault("encoding", io::Error::other(error)))?;
        self.tally.records += count;
        Ok(())
    }

    fn write_records(&mut self) -> Result<(), StoreFault> {
        let bytes = padded(self.records);
        self.group.grow(bytes, GROUP_HEADER + self.records);
        let header = GroupHeader {
            lsn: self.next_lsn,
            origin: self.active.origin,
            oldest: self.oldest(),
            durable: self.durable,
            written_at: self.directory.layer().now(),
        };
        let group = &mut self.group.all_mut()[..bytes];
        group[GROUP_HEADER + self.records..].fill(0);
        header.seal(group, self.records);
        let wrote = self.active.file.write(group, self.active.offset);
        wrote.map_err(|error| self.write_fault("a write", error))?;
        self.tally.groups += 1;
        self.tally.written_bytes += bytes as u64;
        self.next_lsn += 1;
        self.active.offset += bytes;
        self.records = 0;
        self.group.shrink(GROUP_BYTES_MAX);
        self.unsafe_since.get_or_insert_with(system::now);
        Ok(())
    }

    /// The oldest segment that counts, once the group that says so is durable.
    fn oldest(&self) -> u32 {
        let first = self.used.iter().map(|used| used.number).find(|n| Some(*n) != self.freed);
        first.unwrap_or(self.active.number)
    }

    fn is_sync_due(&self) -> bool {
        let Some(since) = self.unsafe_since else { return false };
        match self.durability {
            Durability::Always => true,
            Durability::Interval(interval) => system::now().since(since) >= interval,
            Durability::None => false,
        }
    }

    fn sync(&mut self) -> Result<(), StoreFault> {
        let began = system::now();
        let synced = self.active.file.sync();
        synced.map_err(|error| self.write_fault("fdatasync", error))?;
        self.tally.count_sync(system::now().since(began));
        self.durable = self.next_lsn - 1;
        self.unsafe_since = None;
        if let Some(number) = self.freed.take() {
            self.tally.cleaned_segments += 1;
            self.used.retain(|used| used.number != number);
            self.supply.recycle(number);
            self.count_swept();
        }
        Ok(())
    }

    /// What has been written is safe against the end of the process. In the mode that waits for
    /// the disk it is safe against the end of the machine as well.
    fn tell(&mut self, posts: &Posts) {
        for (index, mark) in self.marks.iter_mut().enumerate() {
            if let Some((shard, mark)) = ShardId::new(index).zip(mark.take()) {
                posts.tell(shard, mark);
            }
        }
    }

    pub(super) fn finish(mut self) -> Result<(), StoreFault> {
        if self.unsafe_since.is_some() { self.sync() } else { Ok(()) }
    }

    pub(super) fn write_fault(&self, action: &'static str, error: io::Error) -> StoreFault {
        StoreFault::Write { action, path: self.directory.segment_path(self.active.number), error }
    }
}

/// Bytes of records in a group beyond which no further post is added to it.
pub(super) const GROUP_BYTES_MAX: usize = 4 << 20;
/// How long to wait before looking for room again.
pub(super) const FULL_PATIENCE: Duration = Duration::from_millis(100);
const IDLE: Duration = Duration::from_hours(1);
