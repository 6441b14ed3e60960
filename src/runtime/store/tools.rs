//! What `ringmq store` does: looks at a store, checks it, copies it, repairs it.
//!
//! All but `backup` need the store for themselves.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::{
    Log,
    fault::StoreFault,
    fault_of,
    files::{Directory, Pin},
    layer::now,
    read,
};
pub use super::{import::import, measure::measure};
use crate::storage::{
    Record, Records, Restored,
    group::{GROUP_HEADER, Group, GroupHeader},
    log::{Damage, LogEnd, Placed, ReadFault, Segments, groups_from, origin_of, read_log},
    portrait,
    segment::{BLOCK, MINOR, SegmentHeader},
};

/// Says what a store has: its segments, its records by kind, and what of them counts.
pub fn inspect(data_dir: &Path, out: &mut impl Write) -> Result<(), StoreFault> {
    let directory = Directory::existing(data_dir)?;
    let Log { end, ledger, restored } = read(&directory, 0)?;
    let mut kinds = [0_u64; Record::KINDS.len()];
    let mut source = &directory;
    let counted = read_log(&mut source, |placed| {
        for record in Records::new(placed.group.records) {
            kinds[record?.kind_index()] += 1;
        }
        Ok(())
    });
    counted.map_err(|fault| fault_of(directory.path(), fault))?;
    let told = tell_inspection(&end, &kinds, &restored, out);
    let told = told.and_then(|()| writeln!(out, "{} bytes count", ledger.live_bytes()));
    told.map_err(|error| directory.fault(error))
}

fn tell_inspection(
    end: &LogEnd,
    kinds: &[u64],
    restored: &Restored,
    out: &mut impl Write,
) -> io::Result<()> {
    if let Some(SegmentHeader { epoch, shards, .. }) = end.last {
        writeln!(out, "epoch {epoch}, {shards} shards, next group {}", end.next_lsn)?;
    }
    for segment in &end.segments {
        writeln!(out, "segment {}: {} bytes used", segment.number, segment.end)?;
    }
    for (name, count) in Record::KINDS.iter().zip(kinds) {
        writeln!(out, "{count} {name}")?;
    }
    let (sessions, messages) = (restored.sessions.len(), restored.messages.len());
    let retained = restored.retained.iter().filter(|retain| retain.has_message()).count();
    writeln!(out, "{sessions} sessions, {messages} messages, {retained} of them retained")
}

/// Reads everything. An error says what is damaged.
pub fn verify(data_dir: &Path, out: &mut impl Write) -> Result<(), StoreFault> {
    let directory = Directory::existing(data_dir)?;
    let Log { end, .. } = read(&directory, 0)?;
    let (segments, groups) = (end.segments.len(), end.next_lsn - 1);
    let told = writeln!(out, "the store can be read: {segments} segments, up to group {groups}");
    let told = told.and_then(|()| match end.torn {
        None => Ok(()),
        Some(torn) => writeln!(
            out,
            "its end was cut at a write that had not ended: segment {}.seg, offset {}, group {}",
            torn.segment, torn.offset, torn.lsn
        ),
    });
    told.map_err(|error| directory.fault(error))
}

/// Writes what counts as lines of JSON.
pub fn export(data_dir: &Path, out: &mut impl Write) -> Result<(), StoreFault> {
    let (directory, restored) = restored(data_dir)?;
    let written = portrait::export(&restored, out);
    written.map_err(|error| directory.fault(error))
}

/// Writes a digest of what counts. Two stores with the same sessions, subscriptions, messages and
/// retained messages have the same, whatever number of shards wrote them.
pub fn digest(data_dir: &Path, out: &mut impl Write) -> Result<(), StoreFault> {
    let (directory, restored) = restored(data_dir)?;
    let written = writeln!(out, "{}", portrait::digest(&restored));
    written.map_err(|error| directory.fault(error))
}

fn restored(data_dir: &Path) -> Result<(Directory, Restored), StoreFault> {
    let directory = Directory::existing(data_dir)?;
    let Log { restored, .. } = read(&directory, 0)?;
    Ok((directory, restored))
}

/// Copies a store to a new data directory, also while a broker writes to it. The copy has all that
/// was acknowledged before it began.
pub fn backup(data_dir: &Path, to: &Path, out: &mut impl Write) -> Result<(), StoreFault> {
    let mut pin = Pin::take(data_dir)?;
    let target = Directory::create(to)?;
    let mut copy = Copy::to(&target);
    let mut failed = None;
    let read = read_log(&mut pin, |placed| {
        if failed.is_none() {
            failed = copy.add(&placed).err();
        }
        Ok(())
    });
    match read {
        Ok(_) => {}
        // The group has been written since its place was read.
        Err(ReadFault::Damage(Damage::Group { segment, offset, lsn }))
            if pin.has_group(segment, offset, lsn) => {}
        Err(fault) => return Err(fault_of(pin.path(), fault)),
    }
    let groups = copy.groups;
    let ended = failed.map_or_else(|| copy.end(), Err);
    ended.map_err(|error| target.fault(error))?;
    let told = writeln!(out, "{groups} groups were copied to {}", target.path().display());
    told.map_err(|error| target.fault(error))
}

/// Segments that are being copied, group by group.
pub(super) struct Copy<'a> {
    target: &'a Directory,
    file: Option<(u32, File)>,
    groups: u64,
}

impl<'a> Copy<'a> {
    pub(super) fn to(target: &'a Directory) -> Copy<'a> {
        Copy { target, file: None, groups: 0 }
    }

    fn add(&mut self, placed: &Placed<'_>) -> io::Result<()> {
        self.groups += 1;
        let Placed { segment, offset, group } = placed;
        self.put(segment, *offset, &group.header, group.records)
    }

    pub(super) fn put(
        &mut self,
        segment: &SegmentHeader,
        offset: usize,
        header: &GroupHeader,
        records: &[u8],
    ) -> io::Result<()> {
        if self.file.as_ref().is_none_or(|(number, _)| *number != segment.number) {
            self.end()?;
            let file = File::create_new(self.target.segment_path(segment.number))?;
            file.write_all_at(&segment.encode()[..], 0)?;
            self.file = Some((segment.number, file));
        }
        let Some((_, file)) = &self.file else { return Ok(()) };
        let mut bytes = vec![0; (GROUP_HEADER + records.len()).next_multiple_of(BLOCK)];
        bytes[GROUP_HEADER..][..records.len()].copy_from_slice(records);
        let header = GroupHeader { origin: segment.origin(), ..*header };
        header.seal(&mut bytes, records.len());
        file.write_all_at(&bytes, offset as u64)
    }

    pub(super) fn end(&mut self) -> io::Result<()> {
        if let Some((_, file)) = self.file.take() {
            file.sync_all()?;
        }
        self.target.sync()
    }
}

/// Makes a log of all groups that can be read, and moves the damaged one to a folder beside it.
/// Says which groups are lost.
pub fn repair(data_dir: &Path, out: &mut impl Write) -> Result<(), StoreFault> {
    let directory = Directory::existing(data_dir)?;
    let aside = directory.path().join(format!("aside-{}", now().as_nanos()));
    let repaired = repair_into(&directory, &aside, out);
    repaired.map_err(|error| directory.fault(error))
}

fn repair_into(directory: &Directory, aside: &Path, out: &mut impl Write) -> io::Result<()> {
    let numbers = { directory }.numbers().map_err(io::Error::other)?;
    fs::create_dir(aside)?;
    let moved = |number: &u32| aside.join(format!("{number}.seg"));
    for number in &numbers {
        fs::rename(directory.segment_path(*number), moved(number))?;
    }
    directory.sync()?;
    let oldest = oldest_of(&numbers, &moved)?;
    let copy = Copy::to(directory);
    let mut mending = Mending { copy, seen: None, lost: 0, former: None, number: 0 };
    for number in numbers.iter().filter(|number| **number >= oldest) {
        mending.take_segment(*number, &fs::read(moved(number))?, out)?;
    }
    mending.copy.end()?;
    let (kept, lost, aside) = (mending.copy.groups, mending.lost, aside.display());
    writeln!(out, "{kept} groups are kept, {lost} are lost; the former files are in {aside}")
}

/// The oldest segment that counts, as the newest group says.
fn oldest_of(numbers: &[u32], path: &impl Fn(&u32) -> PathBuf) -> io::Result<u32> {
    let mut newest: Option<GroupHeader> = None;
    for number in numbers {
        let bytes = fs::read(path(number))?;
        let headers =
            groups_from(&bytes, BLOCK, origin_of(&bytes, *number)).map(|(_, group)| group.header);
        newest = headers.chain(newest).max_by_key(|header| header.lsn);
    }
    Ok(newest.map_or(1, |header| header.oldest))
}

/// A log that is put together from what can be read.
struct Mending<'a> {
    copy: Copy<'a>,
    /// The latest group that was found.
    seen: Option<u64>,
    lost: u64,
    /// The header of the segment before.
    former: Option<SegmentHeader>,
    /// Segments of the new log.
    number: u32,
}

impl Mending<'_> {
    fn take_segment(&mut self, number: u32, bytes: &[u8], out: &mut impl Write) -> io::Result<()> {
        let header = SegmentHeader::decode(bytes).ok().filter(|header| header.number == number);
        // A segment whose header is damaged is of the process before, as far as anyone can tell.
        let Some(header) = header.or(self.former) else {
            return writeln!(out, "{number}.seg: its header cannot be read, and it is left out");
        };
        self.former = Some(header);
        let (mut from, mut to, origin) = (BLOCK, BLOCK, origin_of(bytes, number));
        while from < bytes.len() {
            let Some(group) = Group::read(&bytes[from..], origin) else {
                from += BLOCK;
                continue;
            };
            if self.seen.is_none_or(|seen| group.header.lsn > seen) {
                self.number += u32::from(to == BLOCK);
                self.tell_gap(group.header.lsn, out)?;
                self.take_group(&header, to, &group)?;
                to += group.bytes();
            }
            from += group.bytes();
        }
        Ok(())
    }

    fn tell_gap(&mut self, lsn: u64, out: &mut impl Write) -> io::Result<()> {
        let Some(seen) = self.seen.replace(lsn) else { return Ok(()) };
        self.lost += lsn - seen - 1;
        if lsn > seen + 1 {
            writeln!(out, "groups {} to {} are lost", seen + 1, lsn - 1)
        } else {
            Ok(())
        }
    }

    /// Groups and segments of the new log are counted anew: there are no gaps.
    fn take_group(
        &mut self,
        segment: &SegmentHeader,
        offset: usize,
        group: &Group<'_>,
    ) -> io::Result<()> {
        self.copy.groups += 1;
        let (number, lsn) = (self.number, self.copy.groups);
        let header = GroupHeader { lsn, oldest: 1, durable: lsn - 1, ..group.header };
        let segment = SegmentHeader { number, minor: MINOR, ..*segment };
        self.copy.put(&segment, offset, &header, group.records)
    }
}
