//! Reading a whole log: in which order, where it ends, and whether its end is a torn write or
//! damage.
//!
//! A write that was never reported as safe may be there, be missing or be torn. So where a group
//! cannot be read, the log has ended, unless a later group proves that it was once on disk. Then it
//! is damage, and reading on would lose what was acknowledged.

use thiserror::Error;

use super::{
    Unreadable,
    group::{Group, GroupHeader},
    segment::{BLOCK, NoSegment, Origin, SegmentHeader},
};

/// Where the segments of a store are.
pub trait Segments {
    type Error;

    /// The numbers of all segments, in ascending order.
    fn numbers(&mut self) -> Result<Vec<u32>, Self::Error>;

    /// Replaces `bytes` by the whole segment.
    fn read(&mut self, number: u32, bytes: &mut Vec<u8>) -> Result<(), Self::Error>;
}

/// Why a log cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Damage {
    #[error("segment {segment}.seg: {reason}")]
    Segment { segment: u32, reason: NoSegment },
    #[error("segment {segment}.seg is missing")]
    Missing { segment: u32 },
    #[error("segment {segment}.seg says that it is segment {says}")]
    Misnamed { segment: u32, says: u32 },
    #[error(
        "segment {segment}.seg is damaged at offset {offset}: group {lsn} cannot be read, and \
         later groups show that it was once on disk"
    )]
    Group { segment: u32, offset: usize, lsn: u64 },
    #[error("segment {segment}.seg, offset {offset}, group {lsn}: {reason}")]
    Record { segment: u32, offset: usize, lsn: u64, reason: Unreadable },
}

/// Why reading has failed.
#[derive(Debug)]
pub enum ReadFault<E> {
    Damage(Damage),
    Source(E),
}

/// What is known of a log that has been read to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogEnd {
    /// The segments with groups that count, each with its end, in order.
    pub segments: Vec<SegmentEnd>,
    /// What the last of them says. `None`: the log is empty.
    pub last: Option<SegmentHeader>,
    /// The group that comes next.
    pub next_lsn: u64,
    /// The log was cut here, because a group was torn or missing.
    pub torn: Option<Torn>,
}

/// How far a segment is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentEnd {
    pub number: u32,
    /// Bytes.
    pub end: usize,
}

/// A group that was being written when the machine stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn {
    pub segment: u32,
    pub offset: usize,
    pub lsn: u64,
}

/// A group, and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Placed<'a> {
    pub segment: &'a SegmentHeader,
    pub offset: usize,
    pub group: Group<'a>,
}

/// Reads a log from its oldest group that counts to its end.
pub fn read_log<S: Segments>(
    source: &mut S,
    mut each: impl FnMut(Placed<'_>) -> Result<(), Unreadable>,
) -> Result<LogEnd, ReadFault<S::Error>> {
    let mut log = LogEnd { next_lsn: 1, ..LogEnd::default() };
    let numbers = source.numbers().map_err(ReadFault::Source)?;
    let mut bytes = Vec::new();
    let Some(newest) = find_newest(source, &numbers, &mut bytes)? else { return Ok(log) };
    let last = newest.origin.segment;
    for number in newest.oldest..=last {
        if !numbers.contains(&number) {
            return Err(ReadFault::Damage(Damage::Missing { segment: number }));
        }
        source.read(number, &mut bytes).map_err(ReadFault::Source)?;
        let header = header_of(&bytes, number).map_err(ReadFault::Damage)?;
        let first = group_at(&bytes, BLOCK, header.origin()).map(|group| group.header.lsn);
        let follows = |lsn: &u64| log.last.is_none() || *lsn == log.next_lsn;
        let Some(lsn) = first.filter(follows) else { break };
        log.next_lsn = lsn;
        read_segment(&header, &bytes, &mut log, &mut each).map_err(ReadFault::Damage)?;
    }
    let at = log.segments.last().copied();
    let at = at.unwrap_or(SegmentEnd { number: newest.oldest, end: BLOCK });
    log.torn = judge_end(source, at, last, log.next_lsn, &mut bytes)?;
    Ok(log)
}

/// The newest group of all. Its segment is the last one that has any.
fn find_newest<S: Segments>(
    source: &mut S,
    numbers: &[u32],
    bytes: &mut Vec<u8>,
) -> Result<Option<GroupHeader>, ReadFault<S::Error>> {
    for &number in numbers.iter().rev() {
        source.read(number, bytes).map_err(ReadFault::Source)?;
        if let Err(reason @ NoSegment::Version { .. }) = SegmentHeader::decode(bytes) {
            return Err(ReadFault::Damage(Damage::Segment { segment: number, reason }));
        }
        let origin = origin_of(bytes, number);
        let headers = groups_from(bytes, BLOCK, origin).map(|(_, group)| group.header);
        if let Some(newest) = headers.max_by_key(|header| header.lsn) {
            return Ok(Some(newest));
        }
    }
    Ok(None)
}

fn header_of(bytes: &[u8], number: u32) -> Result<SegmentHeader, Damage> {
    let header = SegmentHeader::decode(bytes)
        .map_err(|reason| Damage::Segment { segment: number, reason })?;
    if header.number != number {
        return Err(Damage::Misnamed { segment: number, says: header.number });
    }
    Ok(header)
}

/// Reads groups while each is the one that comes next.
fn read_segment(
    header: &SegmentHeader,
    bytes: &[u8],
    log: &mut LogEnd,
    each: &mut impl FnMut(Placed<'_>) -> Result<(), Unreadable>,
) -> Result<(), Damage> {
    let (mut offset, origin) = (BLOCK, header.origin());
    while let Some(group) = group_at(bytes, offset, origin)
        && group.header.lsn == log.next_lsn
    {
        let (segment, lsn) = (header.number, log.next_lsn);
        each(Placed { segment: header, offset, group }).map_err(|reason| Damage::Record {
            segment,
            offset,
            lsn,
            reason,
        })?;
        offset += group.bytes();
        log.next_lsn += 1;
    }
    log.segments.push(SegmentEnd { number: header.number, end: offset });
    log.last = Some(*header);
    Ok(())
}

/// Whether the log has ended where group `lsn` cannot be read. If a later group shows that it was
/// once on disk, it is damaged.
fn judge_end<S: Segments>(
    source: &mut S,
    at: SegmentEnd,
    last: u32,
    lsn: u64,
    bytes: &mut Vec<u8>,
) -> Result<Option<Torn>, ReadFault<S::Error>> {
    let (segment, offset) = (at.number, at.end);
    let mut torn = None;
    for number in segment..=last {
        source.read(number, bytes).map_err(ReadFault::Source)?;
        let from = if number == segment { offset } else { BLOCK };
        let origin = origin_of(bytes, number);
        let begun = bytes.get(from..).is_some_and(|bytes| Group::is_begun(bytes, origin));
        for (_, group) in groups_from(bytes, from, origin) {
            if group.header.durable >= lsn {
                let at = blame(at, bytes, number);
                let damage = Damage::Group { segment: at.number, offset: at.end, lsn };
                return Err(ReadFault::Damage(damage));
            }
            torn = Some(Torn { segment, offset, lsn });
        }
        if begun {
            torn = Some(Torn { segment, offset, lsn });
        }
    }
    Ok(torn)
}

/// Where a missing group was: at the start of the segment with the proof if no group is there,
/// otherwise where the reader has stopped.
fn blame(stopped: SegmentEnd, bytes: &[u8], number: u32) -> SegmentEnd {
    let origin = origin_of(bytes, number);
    let is_there = number > stopped.number && group_at(bytes, BLOCK, origin).is_none();
    if is_there { SegmentEnd { number, end: BLOCK } } else { stopped }
}

/// All whole groups of a segment from an offset on, wherever they begin.
pub fn groups_from(
    bytes: &[u8],
    from: usize,
    origin: Origin,
) -> impl Iterator<Item = (usize, Group<'_>)> {
    let offsets = (from..bytes.len()).step_by(BLOCK);
    offsets.filter_map(move |offset| Some((offset, group_at(bytes, offset, origin)?)))
}

fn group_at(bytes: &[u8], offset: usize, origin: Origin) -> Option<Group<'_>> {
    Group::read(bytes.get(offset..)?, origin)
}

/// What the groups of a segment show. If its header cannot be read, its groups are looked for all
/// the same, so that it is told that the segment is damaged.
pub fn origin_of(bytes: &[u8], number: u32) -> Origin {
    let header = SegmentHeader::decode(bytes).ok().filter(|header| header.number == number);
    header.map_or_else(|| Origin::unknown(number), |header| header.origin())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::WallTime;

    const CAPACITY: usize = 12 * BLOCK;

    /// Segments in memory, and the log that is being written to them.
    #[derive(Clone, Default)]
    struct Disk {
        segments: Vec<(u32, Vec<u8>)>,
        lsn: u64,
        durable: u64,
        oldest: u32,
        epoch: u64,
    }

    impl Segments for Disk {
        type Error = ();

        fn numbers(&mut self) -> Result<Vec<u32>, ()> {
            Ok(self.segments.iter().map(|(number, _)| *number).collect())
        }

        fn read(&mut self, number: u32, bytes: &mut Vec<u8>) -> Result<(), ()> {
            let (_, segment) = self.segments.iter().find(|(known, _)| *known == number).ok_or(())?;
            bytes.clone_from(segment);
            Ok(())
        }
    }

    impl Disk {
        fn open(&mut self, number: u32, former: &[u8]) {
            self.epoch += 1;
            let made_at = WallTime::default();
            let (epoch, minor) = (self.epoch, super::super::segment::MINOR);
            let header = SegmentHeader { number, epoch, seed: 5, shards: 2, made_at, minor };
            let mut bytes = former.to_vec();
            bytes.resize(CAPACITY, 0);
            bytes[..BLOCK].copy_from_slice(&header.encode()[..]);
            self.segments.push((number, bytes));
        }

        /// Writes a group into the last segment. Returns where it stands.
        fn write(&mut self, records: &[u8], offset: usize) -> usize {
            self.lsn += 1;
            let (lsn, durable, oldest) = (self.lsn, self.durable, self.oldest.max(1));
            let (segment, bytes) = self.segments.last_mut().expect("one was opened");
            let written_at = WallTime::from_nanos(lsn);
            let origin = origin_of(bytes, *segment);
            let header = GroupHeader { lsn, origin, oldest, durable, written_at };
            let end = offset + super::super::group::padded(records.len());
            let group = &mut bytes[offset..end];
            group.fill(0);
            group[super::super::group::GROUP_HEADER..][..records.len()].copy_from_slice(records);
            header.seal(group, records.len());
            end
        }

        fn read_all(&self) -> Result<(Vec<u8>, LogEnd), Damage> {
            let mut all = Vec::new();
            let end = read_log(&mut self.clone(), |placed| {
                all.extend_from_slice(placed.group.records);
                Ok(())
            });
            match end {
                Ok(end) => Ok((all, end)),
                Err(ReadFault::Damage(damage)) => Err(damage),
                Err(ReadFault::Source(())) => panic!("a segment that was listed is there"),
            }
        }
    }

    /// Two segments with three groups in the first and two in the second, all of them safe.
    fn disk() -> Disk {
        let mut disk = Disk::default();
        for (number, groups) in
            [(1, [&b"ab"[..], &[b'c'; 5000], b"d"].as_slice()), (2, &[b"e", b"f"])]
        {
            disk.open(number, &[]);
            let mut offset = BLOCK;
            for records in groups {
                offset = disk.write(records, offset);
                disk.durable = disk.lsn;
            }
        }
        disk
    }

    fn all() -> Vec<u8> {
        [&b"ab"[..], &[b'c'; 5000], b"def"].concat()
    }

    #[test]
    fn an_empty_store_is_an_empty_log() {
        let (read, end) = Disk::default().read_all().unwrap();
        assert_eq!((read, end.next_lsn, end.last), (Vec::new(), 1, None));
        let mut opened = Disk::default();
        opened.open(1, &[]);
        assert_eq!(opened.read_all().unwrap().1, end);
    }

    #[test]
    fn a_log_is_read_in_order_to_its_end() {
        let (read, end) = disk().read_all().unwrap();
        assert_eq!(read, all());
        assert_eq!((end.next_lsn, end.torn), (6, None));
        assert_eq!(end.last.map(|last| (last.number, last.epoch)), Some((2, 2)));
        let ends = [(1, 5 * BLOCK), (2, 3 * BLOCK)];
        assert_eq!(end.segments, ends.map(|(number, end)| SegmentEnd { number, end }));
    }

    /// Every write that was not reported as safe may be torn at any sector, or be there in part.
    #[test]
    fn a_torn_last_group_is_cut() {
        const SECTOR: usize = 512;
        let before = disk();
        let mut after = before.clone();
        let records = [b'g'; 3000];
        let from = 3 * BLOCK;
        let end = after.write(&records, from);
        let sectors = (end - from) / SECTOR;
        let with = (GROUP_BYTES_OF_3000).div_ceil(SECTOR);
        for subset in 0..1_u32 << sectors {
            let mut disk = before.clone();
            for sector in (0..sectors).filter(|sector| subset >> sector & 1 == 1) {
                let at = from + sector * SECTOR;
                disk.segments[1].1[at..at + SECTOR]
                    .copy_from_slice(&after.segments[1].1[at..at + SECTOR]);
            }
            let (read, end) = disk.read_all().unwrap();
            let whole = subset & ((1 << with) - 1) == (1 << with) - 1;
            assert_eq!(read.len(), all().len() + if whole { 3000 } else { 0 });
            let at = Torn { segment: 2, offset: from, lsn: 6 };
            assert_eq!(end.torn, (!whole && subset & 1 == 1).then_some(at), "{subset:b}");
        }
    }

    const GROUP_BYTES_OF_3000: usize = 3000 + super::super::group::GROUP_HEADER;

    /// A bit that flips in what counts is damage, except in the last group, which may be torn.
    #[test]
    fn a_flipped_bit_is_told_apart_from_a_torn_write() {
        let disk = disk();
        let lens = [(1, BLOCK, 2), (1, 2 * BLOCK, 5000), (1, 4 * BLOCK, 1), (2, BLOCK, 1)];
        for (lsn, &(segment, offset, records)) in (1..).zip(&lens) {
            for byte in 0..super::super::group::GROUP_HEADER + records {
                let mut disk = disk.clone();
                let index = usize::try_from(segment - 1).unwrap();
                disk.segments[index].1[offset + byte] ^= 1 << (byte % 8);
                let found = disk.read_all().unwrap_err();
                assert_eq!(found, Damage::Group { segment, offset, lsn }, "{byte}");
            }
        }
        let mut last = disk;
        last.segments[1].1[2 * BLOCK + 64] ^= 1;
        let (read, end) = last.read_all().unwrap();
        assert_eq!(read, all()[..all().len() - 1]);
        assert_eq!(end.torn, Some(Torn { segment: 2, offset: 2 * BLOCK, lsn: 5 }));
    }

    #[test]
    fn a_header_that_is_damaged_and_a_segment_that_is_missing_are_named() {
        for segment in [1, 2] {
            let mut damaged = disk();
            let index = usize::try_from(segment - 1).unwrap();
            damaged.segments[index].1[20] ^= 1;
            let expected = Damage::Segment { segment, reason: NoSegment::Damaged };
            assert_eq!(damaged.read_all().unwrap_err(), expected);
        }
        let mut missing = disk();
        missing.segments.remove(0);
        assert_eq!(missing.read_all().unwrap_err(), Damage::Missing { segment: 1 });
    }

    /// In the modes that do not wait for the disk, a later write may be there without an earlier
    /// one.
    #[test]
    fn a_group_that_was_never_safe_may_be_missing_before_others() {
        let mut disk = disk();
        let offset = disk.write(b"lost", 3 * BLOCK);
        disk.write(b"later", offset);
        disk.segments[1].1[3 * BLOCK] ^= 1;
        let (read, end) = disk.read_all().unwrap();
        assert_eq!((read, end.next_lsn), (all(), 6));
        assert!(end.torn.is_some());
        // The same with the later group in a segment of its own.
        disk.lsn = 6;
        disk.open(3, &[]);
        disk.write(b"later", BLOCK);
        assert_eq!(disk.read_all().unwrap().1.next_lsn, 6);
        disk.durable = 6;
        disk.write(b"proof", 2 * BLOCK);
        let damage = Damage::Group { segment: 2, offset: 3 * BLOCK, lsn: 6 };
        assert_eq!(disk.read_all().unwrap_err(), damage);
    }

    #[test]
    fn what_is_left_of_a_cut_end_is_not_read_after_the_next_process_has_written() {
        let mut disk = disk();
        let offset = disk.write(b"torn", 3 * BLOCK);
        disk.write(b"stale", offset);
        disk.segments[1].1[3 * BLOCK + 64] ^= 1;
        assert_eq!(disk.read_all().unwrap().1.next_lsn, 6);
        disk.lsn = 5;
        disk.open(3, &[]);
        disk.write(b"g", BLOCK);
        let (read, end) = disk.read_all().unwrap();
        assert_eq!((read, end.next_lsn), ([&all()[..], b"g"].concat(), 7));
    }

    /// The next process gives the number of a segment that was cut to a file that had it before.
    #[test]
    fn a_segment_that_gets_the_same_number_again_does_not_show_what_it_had() {
        let mut disk = disk();
        disk.open(3, &[]);
        disk.write(b"lost", BLOCK);
        disk.write(b"stale", 2 * BLOCK);
        let (_, mut former) = disk.segments.pop().unwrap();
        former[BLOCK] ^= 1;
        disk.lsn = 5;
        disk.open(3, &former);
        disk.write(b"g", BLOCK);
        let (read, end) = disk.read_all().unwrap();
        assert_eq!((read, end.next_lsn, end.torn), ([&all()[..], b"g"].concat(), 7, None));
    }

    /// A client sends groups as its payload, one for each number that segments and groups may have.
    #[test]
    fn a_payload_does_not_pass_for_a_group() {
        let mut disk = disk();
        let mut payload = vec![0; 5 * BLOCK];
        for (segment, lsn) in [(2, 7), (3, 7), (4, 8)] {
            let group = &mut payload[BLOCK * (segment - 1) - 64..][..BLOCK];
            let segment = u32::try_from(segment).unwrap();
            let (origin, written_at) = (Origin::unknown(segment), WallTime::default());
            GroupHeader { lsn, origin, oldest: segment, durable: 90, written_at }.seal(group, 9);
        }
        disk.write(&payload, 3 * BLOCK);
        let (read, end) = disk.read_all().unwrap();
        assert_eq!((read, end.next_lsn, end.torn), ([&all()[..], &payload].concat(), 7, None));
        // The file is used again, and the payload stands behind what is written then.
        disk.oldest = 3;
        let (_, former) = disk.segments.pop().unwrap();
        disk.open(3, &former);
        disk.write(b"h", BLOCK);
        let (read, end) = disk.read_all().unwrap();
        assert_eq!((read, end.next_lsn, end.torn), (b"h".to_vec(), 8, None));
    }

    #[test]
    fn a_segment_that_is_used_again_does_not_show_what_it_had() {
        let mut disk = disk();
        disk.oldest = 2;
        let (_, former) = disk.segments.remove(0);
        disk.open(3, &former);
        let read = disk.read_all();
        assert_eq!(read.unwrap_err(), Damage::Missing { segment: 1 });
        disk.write(b"g", BLOCK);
        let (read, end) = disk.read_all().unwrap();
        assert_eq!((read, end.next_lsn), (b"efg".to_vec(), 7));
    }
}
