//! The header of a segment, the file that has a part of the log.
//!
//! ```text
//!   0        4096                                     multiples of 4096
//!   | header | group | group | ... | group | what was there before, or zeros |
//! ```

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::base::{hash::Seed, time::WallTime};

/// All writes begin and end at multiples of this, in bytes: no written block is written again.
pub const BLOCK: usize = 4096;

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Segments are numbered in the order of the log, without gaps.
    pub number: u32,
    /// The process that writes it. Each start has a larger one.
    pub epoch: u64,
    /// The seed of the hash that finds the homes of sessions; never changes.
    pub seed: u64,
    pub shards: u8,
    pub made_at: WallTime,
    /// The minor version of its format.
    pub minor: u16,
}

/// By what a group shows that the process that writes a segment has written it. No client knows
/// the secret, so no payload passes for a group, and neither does what the file had before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    pub segment: u32,
    /// `None`: the header of the segment cannot be read, and any group may be its own.
    secret: Option<u64>,
}

impl Origin {
    /// Of groups in a segment whose header cannot be read.
    pub fn unknown(segment: u32) -> Origin {
        Origin { segment, secret: None }
    }

    /// What stands in the groups of the segment.
    pub(super) fn secret(self) -> u64 {
        self.secret.unwrap_or(0)
    }

    /// Whether a group in which this stands is of the segment.
    pub(super) fn is_of(self, segment: u32, secret: u64) -> bool {
        segment == self.segment && self.secret.is_none_or(|own| own == secret)
    }
}

/// Why a file is no segment that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoSegment {
    #[error("it has no header of a ringmq store")]
    Foreign,
    #[error("its format is {major}.{minor}, and this ringmq reads format {MAJOR}")]
    Version { major: u16, minor: u16 },
    #[error("its header is damaged")]
    Damaged,
}

impl SegmentHeader {
    pub fn encode(&self) -> Box<[u8; BLOCK]> {
        let mut block = Box::new([0; BLOCK]);
        let mut fields = Vec::with_capacity(FIELDS);
        fields.extend_from_slice(MAGIC);
        fields.extend_from_slice(&MAJOR.to_le_bytes());
        fields.extend_from_slice(&self.minor.to_le_bytes());
        fields.extend_from_slice(&self.number.to_le_bytes());
        fields.extend_from_slice(&self.epoch.to_le_bytes());
        fields.extend_from_slice(&self.seed.to_le_bytes());
        fields.extend_from_slice(&self.made_at.as_nanos().to_le_bytes());
        fields.extend_from_slice(&u32::from(self.shards).to_le_bytes());
        block[..FIELDS].copy_from_slice(&fields);
        block[FIELDS..FIELDS + 4].copy_from_slice(&crc32c::crc32c(&fields).to_le_bytes());
        block
    }

    pub fn decode(block: &[u8]) -> Result<SegmentHeader, NoSegment> {
        let (fields, rest) = block.split_at_checked(FIELDS).ok_or(NoSegment::Foreign)?;
        if !fields.starts_with(MAGIC) {
            return Err(NoSegment::Foreign);
        }
        let (major, minor) = (u16_at(fields, 8), u16_at(fields, 10));
        if major != MAJOR {
            return Err(NoSegment::Version { major, minor });
        }
        let crc = rest.get(..4).map(|bytes| u32_at(bytes, 0));
        if crc != Some(crc32c::crc32c(fields)) {
            return Err(NoSegment::Damaged);
        }
        Ok(SegmentHeader {
            number: u32_at(fields, 12),
            epoch: u64_at(fields, 16),
            seed: u64_at(fields, 24),
            made_at: WallTime::from_nanos(u64_at(fields, 32)),
            shards: u8::try_from(u32_at(fields, 40)).map_err(|_| NoSegment::Damaged)?,
            minor,
        })
    }

    pub fn seed(&self) -> Seed {
        Seed::new(self.seed)
    }

    /// What the groups of this segment show. Those of format 1.0 have no secret.
    pub fn origin(&self) -> Origin {
        let secret = if self.minor == 0 { 0 } else { self.secret() };
        Origin { segment: self.number, secret: Some(secret) }
    }

    fn secret(&self) -> u64 {
        let mut digest = Sha256::new();
        digest.update(self.seed.to_le_bytes());
        digest.update(self.epoch.to_le_bytes());
        digest.update(self.number.to_le_bytes());
        u64_at(&digest.finalize(), 0)
    }
}

pub(super) fn u16_at(bytes: &[u8], place: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, place))
}

pub(super) fn u32_at(bytes: &[u8], place: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, place))
}

pub(super) fn u64_at(bytes: &[u8], place: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, place))
}

fn array_at<const N: usize>(bytes: &[u8], place: usize) -> [u8; N] {
    bytes[place..place + N].try_into().expect("the slice has as many bytes")
}

const MAGIC: &[u8; 8] = b"ringmq\0S";
/// The format. A reader takes any minor version of its major version.
const MAJOR: u16 = 1;
pub const MINOR: u16 = 1;
/// Bytes of all fields before their checksum.
const FIELDS: usize = 44;

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: SegmentHeader = SegmentHeader {
        number: 7,
        epoch: 3,
        seed: 0x0123_4567_89AB_CDEF,
        shards: 4,
        made_at: WallTime::from_nanos(1_700_000_000_000_000_000),
        minor: MINOR,
    };

    #[test]
    fn a_header_is_read_as_it_was_written_unless_a_bit_is_wrong() {
        let block = HEADER.encode();
        assert_eq!(SegmentHeader::decode(&block[..]), Ok(HEADER));
        for bit in 0..8 * (FIELDS + 4) {
            let mut block = block.clone();
            block[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&block[..]).is_err(), "{bit}");
        }
        assert_eq!(SegmentHeader::decode(&[]), Err(NoSegment::Foreign));
        assert_eq!(SegmentHeader::decode(&block[..FIELDS]), Err(NoSegment::Damaged));
    }

    #[test]
    fn each_segment_of_each_process_has_a_secret_of_its_own() {
        let others = [
            SegmentHeader { number: 8, ..HEADER },
            SegmentHeader { epoch: 4, ..HEADER },
            SegmentHeader { seed: 9, ..HEADER },
            SegmentHeader { minor: 0, ..HEADER },
        ];
        for other in others {
            assert_ne!(other.origin().secret, HEADER.origin().secret);
        }
        let made_at = WallTime::default();
        assert_eq!(SegmentHeader { made_at, ..HEADER }.origin(), HEADER.origin());
        assert_eq!(HEADER.origin().secret, Some(SECRET), "it is a part of the format");
    }

    const SECRET: u64 = 0x267E_DDAF_17C3_1097;

    #[test]
    fn a_newer_minor_version_is_read_and_another_major_one_is_not() {
        let mut block = HEADER.encode();
        block[10] = 9;
        let crc = crc32c::crc32c(&block[..FIELDS]).to_le_bytes();
        block[FIELDS..FIELDS + 4].copy_from_slice(&crc);
        assert_eq!(SegmentHeader::decode(&block[..]), Ok(SegmentHeader { minor: 9, ..HEADER }));
        block[8] = 2;
        let refused = SegmentHeader::decode(&block[..]);
        assert_eq!(refused, Err(NoSegment::Version { major: 2, minor: 9 }));
    }
}
