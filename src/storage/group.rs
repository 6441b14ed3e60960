//! A group: the batches that one write brings to disk. It is there as a whole or not at all.

use super::segment::{BLOCK, Origin, u32_at, u64_at};
use crate::base::time::WallTime;

/// Bytes before the records of a group.
pub const GROUP_HEADER: usize = 64;

/// What a group says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupHeader {
    /// Counts the groups of the log.
    pub lsn: u64,
    /// The segment that it is in, and who has written it.
    pub origin: Origin,
    /// The oldest segment that still counts.
    pub oldest: u32,
    /// The latest group that was surely on disk when this one was written.
    pub durable: u64,
    pub written_at: WallTime,
}

/// A group that has been read, and is whole.
#[derive(Clone, Copy, Debug)]
pub struct Group<'a> {
    pub header: GroupHeader,
    pub records: &'a [u8],
}

impl GroupHeader {
    /// Completes a group: `bytes` has room for the header, then the records, then zeros.
    pub fn seal(&self, bytes: &mut [u8], records: usize) {
        let length = u32::try_from(records).expect("a group is far smaller than 4 GiB");
        bytes[..4].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&length.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.origin.segment.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.lsn.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.durable.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.written_at.as_nanos().to_le_bytes());
        bytes[40..44].copy_from_slice(&self.oldest.to_le_bytes());
        bytes[44..52].copy_from_slice(&self.origin.secret().to_le_bytes());
        bytes[52..GROUP_HEADER].fill(0);
        let crc = crc32c::crc32c(&bytes[CHECKED_FROM..GROUP_HEADER + records]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    }
}

impl<'a> Group<'a> {
    /// The group of this segment at the front of `bytes`. `None`: there is none, or it is torn.
    pub fn read(bytes: &'a [u8], origin: Origin) -> Option<Group<'a>> {
        if !Group::is_begun(bytes, origin) {
            return None;
        }
        let (head, rest) = bytes.split_at_checked(GROUP_HEADER)?;
        let records = rest.get(..usize::try_from(u32_at(head, 8)).ok()?)?;
        let checked = &bytes[CHECKED_FROM..GROUP_HEADER + records.len()];
        if crc32c::crc32c(checked) != u32_at(head, 4) {
            return None;
        }
        let header = GroupHeader {
            lsn: u64_at(head, 16),
            origin,
            oldest: u32_at(head, 40),
            durable: u64_at(head, 24),
            written_at: WallTime::from_nanos(u64_at(head, 32)),
        };
        Some(Group { header, records })
    }

    /// Whether a group of this segment was begun here, be it whole or torn.
    pub fn is_begun(bytes: &[u8], origin: Origin) -> bool {
        let is_of = |head: &[u8]| origin.is_of(u32_at(head, 12), u64_at(head, 44));
        bytes.get(..GROUP_HEADER).is_some_and(|head| head.starts_with(MAGIC) && is_of(head))
    }

    /// Bytes that the group takes in its segment.
    pub fn bytes(&self) -> usize {
        padded(self.records.len())
    }
}

/// Bytes that a group with so many bytes of records takes in its segment.
pub fn padded(records: usize) -> usize {
    (GROUP_HEADER + records).next_multiple_of(BLOCK)
}

const MAGIC: &[u8; 4] = b"RMQg";
/// The first byte that the checksum covers.
const CHECKED_FROM: usize = 8;
