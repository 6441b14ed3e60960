//! The bytes after the stamp, which show whether a payload was damaged on its way.

use std::str::FromStr;

use super::{
    scatter::{next_random, scatter},
    stamp::{STAMP_LEN, Stamp},
};

/// The payload of all messages, apart from the stamp at its front. Where sizes differ, each message
/// has the front part of it, of a length that follows from its stamp.
#[derive(Clone, Debug)]
pub struct Filling {
    bytes: Vec<u8>,
    size_min: usize,
}

/// The smallest and the largest payload, in bytes.
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
        let bytes = (0..sizes.max).map(|_| next_random(&mut state).to_le_bytes()[0]).collect();
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
        min + usize::try_from(scatter(number) % choices).unwrap_or_default()
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

/// Payloads stay well below the largest packet of MQTT, 256 MiB.
const PAYLOAD_BYTES_MAX: usize = 200 << 20;

#[cfg(test)]
mod tests {
    use ringmq::base::time::Moment;

    use super::*;
    use crate::payload::{Phase, SEQUENCES_MAX};

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
