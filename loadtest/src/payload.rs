//! What a payload carries: a stamp that names its message, and a filling that shows damage.
//!
//! Knows nothing of packets: a payload is bytes.

use std::str::FromStr;

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

/// The payload that all messages share, apart from the stamp at its front. Where sizes differ, each
/// message has the front part that belongs to its stamp.
#[derive(Clone, Debug)]
pub struct Filling {
    bytes: Vec<u8>,
    size_min: usize,
}

/// Bytes of payload, from and to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    pub min: usize,
    pub max: usize,
}

/// `64`, or a range such as `16-1024`, for which payloads need room for a stamp.
impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Sizes, String> {
        let (min, max) = text.split_once('-').unwrap_or((text, text));
        let parse = |text: &str| text.parse().map_err(|_| format!("not a size: {text:?}"));
        let (min, max) = (parse(min)?, parse(max)?);
        if max > PAYLOAD_BYTES_MAX {
            return Err(format!("at most {PAYLOAD_BYTES_MAX} bytes"));
        }
        match min {
            _ if min == max => Ok(Sizes { min, max }),
            STAMP_LEN.. if min < max => Ok(Sizes { min, max }),
            _ => Err(format!("a range begins at {STAMP_LEN} or above and goes up")),
        }
    }
}

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
    pub fn new(sizes: Sizes, seed: u64) -> Filling {
        let mut state = seed;
        let bytes = (0..sizes.max).map(|_| random(&mut state).to_le_bytes()[0]).collect();
        Filling { bytes, size_min: sizes.min }
    }

    /// The largest payload.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn is_stamped(&self) -> bool {
        self.bytes.len() >= STAMP_LEN
    }

    pub fn sizes(&self) -> Sizes {
        Sizes { min: self.size_min, max: self.bytes.len() }
    }

    /// The payload of one message, with whatever stands in place of the stamp.
    pub fn bytes_of(&self, stamp: Stamp) -> &[u8] {
        &self.bytes[..self.len_of(stamp)]
    }

    #[inline]
    fn len_of(&self, stamp: Stamp) -> usize {
        let Sizes { min, max } = self.sizes();
        if min == max {
            return max;
        }
        let number = u64::from(stamp.publisher) << 32 | u64::from(stamp.sequence);
        let choices = (max - min + 1) as u64;
        min + usize::try_from(mix(number) % choices).unwrap_or_default()
    }

    #[inline]
    pub fn read(&self, payload: &[u8]) -> Content {
        if !self.is_stamped() {
            let intact = payload == self.bytes;
            return if intact { Content::Unstamped } else { Content::Damaged };
        }
        let Some((stamp, rest)) = payload.split_first_chunk() else { return Content::Damaged };
        let stamp = Stamp::from_bytes(*stamp);
        let filling = &self.bytes[STAMP_LEN..self.len_of(stamp)];
        if rest == filling { Content::Stamped(stamp) } else { Content::Damaged }
    }
}

/// The next number of a splitmix64 sequence.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(STEP);
    scatter(*state)
}

/// A number that looks random, and is always the same for the same one.
#[inline]
pub fn mix(number: u64) -> u64 {
    scatter(number.wrapping_add(1).wrapping_mul(STEP))
}

#[inline]
fn scatter(mut mixed: u64) -> u64 {
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// Of splitmix64: odd, and as irregular as can be.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// Payloads stay well below the largest packet of MQTT, 256 MiB.
const PAYLOAD_BYTES_MAX: usize = 200 << 20;

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

    fn fixed(size: usize) -> Filling {
        Filling::new(Sizes { min: size, max: size }, 1)
    }

    fn payload(filling: &Filling, stamp: Stamp) -> Vec<u8> {
        let mut payload = filling.bytes_of(stamp).to_vec();
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
            let filling = fixed(size);
            assert_eq!(filling.read(&payload(&filling, STAMP)), Content::Stamped(STAMP));
        }
    }

    #[test]
    fn a_small_payload_has_no_stamp() {
        let filling = fixed(STAMP_LEN - 1);
        assert!(!filling.is_stamped());
        assert_eq!(filling.read(filling.bytes()), Content::Unstamped);
    }

    #[test]
    fn sizes_are_one_or_a_range() {
        assert_eq!("5".parse(), Ok(Sizes { min: 5, max: 5 }));
        assert_eq!("16-20".parse(), Ok(Sizes { min: 16, max: 20 }));
        for wrong in ["", "-", "15-20", "20-16", "16-", "a", "300000000"] {
            assert!(wrong.parse::<Sizes>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn in_a_range_each_message_has_a_size_of_its_own() {
        let filling = Filling::new(Sizes { min: 16, max: 19 }, 1);
        let mut counts = [0; 4];
        for sequence in 0..4000 {
            let stamp = Stamp { sequence, ..STAMP };
            let sent = payload(&filling, stamp);
            assert_eq!(filling.read(&sent), Content::Stamped(stamp));
            assert_eq!(filling.read(&[&sent[..], &[0]].concat()), Content::Damaged);
            counts[sent.len() - 16] += 1;
        }
        assert!(counts.iter().all(|count| (900..1100).contains(count)), "{counts:?}");
    }

    #[test]
    fn damage_is_seen() {
        let filling = fixed(64);
        let sent = payload(&filling, STAMP);
        assert_eq!(filling.read(&sent[..63]), Content::Damaged);
        let mut flipped = sent;
        flipped[63] ^= 1;
        assert_eq!(filling.read(&flipped), Content::Damaged);
        assert_eq!(fixed(4).read(&[0; 4]), Content::Damaged);
    }
}
