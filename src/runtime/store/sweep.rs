//! Cleaning, a bounded part at a time: what still counts of the oldest segment goes into the group
//! that is being written.

use std::{fs::File, io};

use super::{
    fault::StoreFault,
    files::{Aligned, read_at},
    writer::{Used, Writer, now},
};
use crate::storage::{
    OldGroup, RACE, Record, Records, Rewriting,
    group::{GROUP_HEADER, Group, padded},
    segment::BLOCK,
};

/// How far the oldest segment has been cleaned.
#[derive(Debug)]
pub(super) struct Sweep {
    file: File,
    segment: Used,
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
    /// Whether the oldest segment has to be cleaned, even if nothing comes.
    pub(super) fn is_sweep_due(&self) -> bool {
        let (bytes, live) = (self.bytes(), self.ledger.live_bytes());
        let is_long = bytes > FACTOR * live + SLACK.min(self.limits.bytes_max / 4);
        let is_scarce = self.was_full && self.gain() > 2 * self.segment_bytes();
        self.can_sweep() && (is_long || is_scarce)
    }

    /// Whether cleaning has to be ahead of what comes, so that the store does not become full: room
    /// is short, and so much can be freed that it is worth the writes.
    pub(super) fn is_sweep_worth(&self) -> bool {
        let (live, segment) = (self.ledger.live_bytes(), self.segment_bytes());
        // What comes and goes may lie behind all that stays, which is then read first.
        let is_short = self.room_left() < HEADROOM * segment + live / WORTH;
        self.can_sweep() && is_short && self.gain() > (live / WORTH).max(2 * segment)
    }

    fn can_sweep(&self) -> bool {
        !self.used.is_empty() && self.freed.is_none()
    }

    /// Bytes of groups beyond what counts. The rest of a segment that had no room for one group
    /// more is no gain: the next pass leaves such rests, too.
    fn gain(&self) -> usize {
        let before = self.used.iter().map(|used| used.end).sum::<usize>();
        let headers = (self.used.len() + 1) * BLOCK;
        (before + self.active.offset).saturating_sub(headers + self.ledger.live_bytes())
    }

    /// Cleans a part of the oldest segment, if it has to be cleaned.
    pub(super) fn sweep_into_group(&mut self) -> Result<Swept, StoreFault> {
        // Cleaning frees room at least as fast as records take it.
        let times = if self.is_sweep_worth() { WORTH + 2 } else { FACTOR };
        let mut budget = SWEEP_BYTES.max(times * self.records);
        while (self.is_sweep_due() || self.is_sweep_worth()) && budget > 0 {
            let mut sweep = match self.sweep.take() {
                Some(sweep) => sweep,
                None => self.begin_sweep()?,
            };
            let before = sweep.offset;
            let has_room = self.sweep_window(&mut sweep)?;
            budget = budget.saturating_sub(sweep.offset - before + BLOCK);
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
        Ok(Sweep { file, segment, offset: BLOCK, window: Aligned::with_room(WINDOW) })
    }

    /// Cleans the groups in one window. False: there is no room for more in this group.
    fn sweep_window(&mut self, sweep: &mut Sweep) -> Result<bool, StoreFault> {
        let want = sweep.window.room().min(sweep.segment.end - sweep.offset);
        let read = read_at(&sweep.file, &mut sweep.window.all_mut()[..want], sweep.offset);
        let number = sweep.segment.number;
        let read = read.map_err(|error| self.clean_fault(number, sweep.offset, error))?;
        let window = std::mem::replace(&mut sweep.window, Aligned::with_room(0));
        let (part, mut window) = self.sweep_groups(sweep, window, read)?;
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
    ) -> Result<(Part, Aligned), StoreFault> {
        let mut done = 0;
        let number = sweep.segment.number;
        while let Some(group) = Group::read(&window.all_mut()[done..read], number) {
            let bytes = group.bytes();
            if !self.has_room_for(group.records) {
                let part = if done > 0 { Part::Groups(done) } else { Part::NoRoom };
                return Ok((part, window));
            }
            let offset = sweep.offset + done;
            let rewritten = self.sweep_group(&group, number, offset);
            rewritten.map_err(|error| self.clean_fault(number, offset, error))?;
            done += bytes;
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
        let now = now();
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

/// The log may take this many times what counts, and as much more.
const FACTOR: usize = 2;
const SLACK: usize = 64 << 20;
/// Cleaning begins when there is room for so many segments and a fourth of what counts, so that the
/// store does not become full meanwhile.
const HEADROOM: usize = 4;
/// It is worth the writes if more than a fourth of what counts can be freed: then one byte in five
/// that is read is free.
const WORTH: usize = 4;
/// Bytes of an old segment that one group cleans, at least.
const SWEEP_BYTES: usize = 512 << 10;
/// Bytes of a `Disconnected` record, at most.
const ABSENCE: usize = 32;
/// Bytes that are read at once.
const WINDOW: usize = 256 << 10;
