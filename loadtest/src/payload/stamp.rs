//! The stamp: publisher, sequence number and time, at the front of each payload.

use ringmq::base::time::Moment;

/// What a payload says about its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The publisher's number in the whole run.
    pub publisher: u32,
    pub phase: Phase,
    /// The number of the message among those of this publisher and phase, from zero.
    pub sequence: u32,
    /// When the message was sent; when it was due, if there is a schedule.
    pub moment: Moment,
}

/// Part of a run. What one phase left behind is not counted in the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    WarmUp,
    Measured,
    /// What the measured part has left at the broker is removed.
    CleanUp,
}

impl Stamp {
    #[inline]
    pub fn to_bytes(self) -> [u8; STAMP_LEN] {
        let phase = if self.phase == Phase::Measured { MEASURED } else { 0 };
        let mut bytes = [0; STAMP_LEN];
        bytes[..4].copy_from_slice(&self.publisher.to_le_bytes());
        bytes[4..8].copy_from_slice(&(self.sequence | phase).to_le_bytes());
        bytes[8..].copy_from_slice(&self.moment.as_nanos().to_le_bytes());
        bytes
    }

    #[inline]
    pub fn from_bytes(bytes: [u8; STAMP_LEN]) -> Stamp {
        let [p0, p1, p2, p3, s0, s1, s2, s3, moment @ ..] = bytes;
        let sequence = u32::from_le_bytes([s0, s1, s2, s3]);
        Stamp {
            publisher: u32::from_le_bytes([p0, p1, p2, p3]),
            phase: if sequence & MEASURED == 0 { Phase::WarmUp } else { Phase::Measured },
            sequence: sequence & !MEASURED,
            moment: Moment::from_nanos(u64::from_le_bytes(moment)),
        }
    }
}

/// The smallest payload that can tell its message from others.
pub const STAMP_LEN: usize = 16;

/// The most messages that one publisher sends in one phase.
pub const SEQUENCES_MAX: u32 = MEASURED;

/// Marks the sequences of the measured phase.
const MEASURED: u32 = 1 << 31;

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp {
        publisher: 7,
        phase: Phase::Measured,
        sequence: SEQUENCES_MAX - 1,
        moment: Moment::from_nanos(123_456_789_012),
    };

    #[test]
    fn a_stamp_survives_its_bytes_in_either_phase() {
        for stamp in [STAMP, Stamp { phase: Phase::WarmUp, sequence: 0, ..STAMP }] {
            assert_eq!(Stamp::from_bytes(stamp.to_bytes()), stamp);
        }
    }
}
