//! The order of the messages to a client whose session survives a restart.
//!
//! Each message has an ordinal, and the ordinal decides its Packet Identifier. So a message that
//! is sent again after a restart keeps its identifier, although nobody wrote down that it was sent.

use std::{collections::VecDeque, num::NonZeroU64};

use crate::mqtt::PacketId;

/// The place of a message in the order of its session; up to 2^48.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ordinal([u16; 3]);

impl Ordinal {
    /// The message is not written down.
    pub const NONE: Ordinal = Ordinal([0; 3]);
    /// The first one, which has the Packet Identifier 1.
    pub const FIRST: u64 = 65_535;

    pub fn new(value: u64) -> Ordinal {
        let part = |shift: u32| u16::try_from(value >> shift & 0xFFFF).expect("it is masked");
        Ordinal([0, 16, 32].map(part))
    }

    pub fn value(self) -> u64 {
        self.0.iter().rev().fold(0, |value, &part| value << 16 | u64::from(part))
    }

    #[inline]
    pub fn is_none(self) -> bool {
        self == Ordinal::NONE
    }

    /// The Packet Identifier of the message.
    pub fn packet_id(self) -> PacketId {
        let value = u16::try_from(self.value() % 65_535 + 1).ok();
        value.and_then(PacketId::new).expect("from 1 to 65,535")
    }
}

/// The ordinals of one session.
#[derive(Debug)]
pub struct Ordinals {
    /// The number of the session in the store.
    number: NonZeroU64,
    next: u64,
    /// Marks that are not known to be on disk, and the first ordinal of each.
    marks: VecDeque<(u64, u64)>,
}

impl Ordinals {
    /// Those of the session with this number in the store. The next message has this ordinal.
    pub fn of_session(number: NonZeroU64, next: u64) -> Ordinals {
        Ordinals { number, next, marks: VecDeque::new() }
    }

    /// The number of the session in the store.
    pub fn number(&self) -> NonZeroU64 {
        self.number
    }

    pub fn next(&self) -> Ordinal {
        Ordinal::new(self.next)
    }

    /// Takes the next ordinal for a message that is on disk with this mark.
    pub fn take(&mut self, mark: u64) {
        if self.marks.back().is_none_or(|&(latest, _)| latest < mark) {
            self.marks.push_back((mark, self.next));
        }
        self.next += 1;
    }

    /// Whether the message with this ordinal is on disk, when all is up to the mark `durable`.
    pub fn is_durable(&mut self, ordinal: Ordinal, durable: u64) -> bool {
        while self.marks.pop_front_if(|(mark, _)| *mark <= durable).is_some() {}
        self.marks.front().is_none_or(|&(_, first)| ordinal.value() < first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinal_keeps_its_value_and_identifiers_follow_each_other() {
        for value in [Ordinal::FIRST, 65_536, 131_069, 131_070, (1 << 48) - 1] {
            assert_eq!(Ordinal::new(value).value(), value);
        }
        let ids = [65_535, 65_536, 131_069, 131_070].map(|it| Ordinal::new(it).packet_id().value());
        assert_eq!(ids, [1, 2, 65_535, 1]);
    }

    #[test]
    fn a_message_is_durable_when_its_mark_is() {
        let mut ordinals = Ordinals::of_session(NonZeroU64::MIN, 10);
        for mark in [1, 1, 2] {
            ordinals.take(mark);
        }
        let durable = |ordinals: &mut Ordinals, upto| {
            [10, 11, 12].map(|value| ordinals.is_durable(Ordinal::new(value), upto))
        };
        assert_eq!(durable(&mut ordinals, 0), [false; 3]);
        assert_eq!(durable(&mut ordinals, 1), [true, true, false]);
        assert_eq!(durable(&mut ordinals, 2), [true; 3]);
    }
}
