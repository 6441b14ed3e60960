//! What a payload carries: a stamp that names its message, and a filling that shows damage.
//!
//! Knows nothing of packets: a payload is bytes.

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

/// The payload that all messages share, apart from the stamp at its front.
#[derive(Clone, Debug)]
pub struct Filling(Vec<u8>);

/// What a received payload turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    Stamped(Stamp),
    /// As it was sent, but too small for a stamp.
    Unstamped,
    /// Of another size, or with other bytes than were sent.
    Damaged,
}

impl Filling {
    pub fn new(size: usize, seed: u64) -> Filling {
        let mut state = seed;
        Filling((0..size).map(|_| random(&mut state).to_le_bytes()[0]).collect())
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn is_stamped(&self) -> bool {
        self.0.len() >= STAMP_LEN
    }

    #[inline]
    pub fn read(&self, payload: &[u8]) -> Content {
        if payload.len() != self.0.len() {
            return Content::Damaged;
        }
        match (payload.split_first_chunk(), self.0.split_first_chunk::<STAMP_LEN>()) {
            (Some((stamp, rest)), Some((_, filling))) if rest == filling => {
                Content::Stamped(Stamp::from_bytes(*stamp))
            }
            (None, None) if payload == self.0 => Content::Unstamped,
            _ => Content::Damaged,
        }
    }
}

/// The next number of a splitmix64 sequence.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
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

    fn payload(filling: &Filling, stamp: Stamp) -> Vec<u8> {
        let mut payload = filling.bytes().to_vec();
        payload[..STAMP_LEN].copy_from_slice(&stamp.to_bytes());
        payload
    }

    #[test]
    fn a_stamp_survives_its_bytes_in_either_phase() {
        for stamp in [STAMP, Stamp { phase: Phase::WarmUp, sequence: 0, ..STAMP }] {
            assert_eq!(Stamp::from_bytes(stamp.to_bytes()), stamp);
        }
    }

    #[test]
    fn a_payload_is_read_as_it_was_filled() {
        for size in [STAMP_LEN, 64] {
            let filling = Filling::new(size, 1);
            assert_eq!(filling.read(&payload(&filling, STAMP)), Content::Stamped(STAMP));
        }
    }

    #[test]
    fn a_small_payload_has_no_stamp() {
        let filling = Filling::new(STAMP_LEN - 1, 1);
        assert!(!filling.is_stamped());
        assert_eq!(filling.read(filling.bytes()), Content::Unstamped);
    }

    #[test]
    fn damage_is_seen() {
        let filling = Filling::new(64, 1);
        let sent = payload(&filling, STAMP);
        assert_eq!(filling.read(&sent[..63]), Content::Damaged);
        let mut flipped = sent;
        flipped[63] ^= 1;
        assert_eq!(filling.read(&flipped), Content::Damaged);
        assert_eq!(Filling::new(4, 1).read(&[0; 4]), Content::Damaged);
    }
}
