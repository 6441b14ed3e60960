//! Cleaning, a bounded part at a time: what still counts of the oldest segment goes into the group
//! that is being written.

use std::io;

use super::{
    fault::StoreFault,
    files::Aligned,
    layer::StoreFile,
    writer::{Used, Writer},
};
use crate::storage::{
    OldGroup, RACE, Record, Records, Rewriting,
    group::{GROUP_HEADER, Group, padded},
    log::origin_of,
    segment::{BLOCK, Origin},
};

/// How far the oldest segment has been cleaned.
#[derive(Debug)]
pub(super) struct Sweep {
    file: Box<dyn StoreFile>,
    segment: Used,
    origin: Origin,
    offset: usize,
    window: Aligned,
}

/// What cleaning has added to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Swept {
    Part,
    /// The segment is done: a group has to say so, even one without records.
    Segment,
    /// Nothing, because the active segment has no room for what may come.
    NoRoom,
}

/// What one part of cleaning has come to.
enum Part {
    /// Whole groups in the window, up to this many bytes.
    Groups(usize),
    /// The group at the offset is larger than the window.
    Larger,
    /// The active segment has no room for what may come of the next group.
    NoRoom,
}

impl Writer {
    /// Cleans a part of the oldest segment, if it has to be cleaned.
    pub(super) fn sweep_into_group(&mut self) -> Result<Swept, StoreFault> {
        let mut budget = SWEEP_BYTES.max(self.to_sweep);
        // A group that is small beside a segment finds room in most of them later.
        let records_max = self.records + self.group_bytes_max();
        while self.is_sweep_due() && budget > 0 && self.records < records_max {
            let mut sweep = match self.sweep.take() {
                Some(sweep) => sweep,
                None => self.begin_sweep()?,
            };
            let before = sweep.offset;
            let has_room = self.sweep_window(&mut sweep, records_max)?;
            let cleaned = sweep.offset - before + BLOCK;
            budget = budget.saturating_sub(cleaned);
            self.to_sweep = self.to_sweep.saturating_sub(cleaned);
            if sweep.offset >= sweep.segment.end {
                self.freed = Some(sweep.segment.number);
                return Ok(Swept::Segment);
            }
            self.sweep = Some(sweep);
            if !has_room {
                return Ok(if self.records == 0 { Swept::NoRoom } else { Swept::Part });
            }
        }
        Ok(Swept::Part)
    }

    fn begin_sweep(&self) -> Result<Sweep, StoreFault> {
        let segment = *self.used.front().ok_or(StoreFault::Lost)?;
        let file = self.directory.open_segment(segment.number);
        let file = file.map_err(|error| self.clean_fault(segment.number, 0, error))?;
        let mut window = Aligned::with_room(WINDOW);
        let header = &mut window.all_mut()[..BLOCK];
        let read = file.read(header, 0);
        read.map_err(|error| self.clean_fault(segment.number, 0, error))?;
        let origin = origin_of(header, segment.number);
        Ok(Sweep { file, segment, origin, offset: BLOCK, window })
    }

    /// Cleans the groups in one window. False: there is no room for more in this group.
    fn sweep_window(&mut self, sweep: &mut Sweep, records_max: usize) -> Result<bool, StoreFault> {
        let want = sweep.window.room().min(sweep.segment.end - sweep.offset);
        let read = sweep.file.read(&mut sweep.window.all_mut()[..want], sweep.offset);
        let number = sweep.segment.number;
        let read = read.map_err(|error| self.clean_fault(number, sweep.offset, error))?;
        let window = std::mem::replace(&mut sweep.window, Aligned::with_room(0));
        let (part, mut window) = self.sweep_groups(sweep, window, read, records_max)?;
        match part {
            Part::Groups(bytes) => sweep.offset += bytes,
            Part::NoRoom => {
                sweep.window = window;
                return Ok(false);
            }
            Part::Larger if read < want || sweep.offset + read >= sweep.segment.end => {
                let error = io::Error::new(io::ErrorKind::InvalidData, "the group is damaged");
                return Err(self.clean_fault(number, sweep.offset, error));
            }
            Part::Larger => window.grow(2 * window.room(), 0),
        }
        sweep.window = window;
        Ok(true)
    }

    fn sweep_groups(
        &mut self,
        sweep: &Sweep,
        mut window: Aligned,
        read: usize,
        records_max: usize,
    ) -> Result<(Part, Aligned), StoreFault> {
        let mut done = 0;
        let number = sweep.segment.number;
        while let Some(group) = Group::read(&window.all_mut()[done..read], sweep.origin) {
            let bytes = group.bytes();
            if !self.has_room_for(group.records) {
                let part = if done > 0 { Part::Groups(done) } else { Part::NoRoom };
                return Ok((part, window));
            }
            let offset = sweep.offset + done;
            let rewritten = self.sweep_group(&group, number, offset);
            rewritten.map_err(|error| self.clean_fault(number, offset, error))?;
            done += bytes;
            if self.records >= records_max {
                break;
            }
        }
        let part = if done > 0 { Part::Groups(done) } else { Part::Larger };
        Ok((part, window))
    }

    /// Whether all records of an old group fit into the group that is being written: they may grow,
    /// because the absence of a session follows its terms. An empty segment takes any group.
    fn has_room_for(&self, records: &[u8]) -> bool {
        let fits = |bytes| self.active.offset + padded(self.records + bytes) <= self.active.bytes;
        let is_session = |record: &_| matches!(record, Ok(Record::Session(_)));
        let growth = || ABSENCE * Records::new(records).filter(is_session).count();
        let is_first = self.records == 0 && self.active.offset == BLOCK;
        is_first || fits(2 * records.len()) || fits(records.len() + growth())
    }

    fn sweep_group(&mut self, group: &Group<'_>, segment: u32, offset: usize) -> io::Result<()> {
        let at = self.active.offset + GROUP_HEADER + self.records;
        let now = self.directory.layer().now();
        let race_over = group.header.written_at.as_nanos().saturating_add(RACE.as_nanos());
        let old = OldGroup {
            records: group.records,
            segment,
            offset: u32::try_from(offset + GROUP_HEADER).map_err(io::Error::other)?,
            is_recent: now.as_nanos() < race_over,
        };
        let mut to = Rewriting {
            batch: &mut self.rewritten,
            segment: self.active.number,
            offset: u32::try_from(at).map_err(io::Error::other)?,
            records: 0,
        };
        self.ledger.rewrite(old, now, &mut to).map_err(io::Error::other)?;
        self.tally.rewritten_records += to.records;
        let mut rewritten = std::mem::take(&mut self.rewritten);
        self.append_records(rewritten.as_bytes());
        rewritten.clear();
        self.rewritten = rewritten;
        Ok(())
    }

    fn clean_fault(&self, number: u32, offset: usize, error: io::Error) -> StoreFault {
        StoreFault::Clean { path: self.directory.segment_path(number), offset, error }
    }
}

/// Bytes of an old segment that one group cleans, at least.
const SWEEP_BYTES: usize = 512 << 10;
/// Bytes of a `Disconnected` record, at most.
const ABSENCE: usize = 32;
/// Bytes that are read at once.
const WINDOW: usize = 256 << 10;
