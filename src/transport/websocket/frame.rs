//! The frames of a WebSocket: their heads, their masks, and the codes with which it closes.
//!
//! RFC 6455, section 5.2:
//!
//! ```text
//!  FIN RSV opcode | MASK length | length, longer        | mask      | payload
//!   1   3    4    |  1     7    | 0, 16 or 64 bits      | 32 bits   |
//! ```
//! A client masks the payload of its frames; a server does not.

use thiserror::Error;

/// Room for the head of any frame that is sent. A server's frame has no mask.
pub const HEAD_ROOM: usize = 10;
/// The longest head of a frame that is received.
pub(super) const HEAD_BYTES_MAX: usize = 14;
/// The payload of a control frame.
pub(super) const CONTROL_BYTES_MAX: usize = 125;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0F;
const MASKED: u8 = 0x80;
const MASK_BYTES: usize = 4;
/// Values of the short length that mean a longer one.
const TWO_BYTES: u8 = 126;
const EIGHT_BYTES: u8 = 127;

/// The kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    /// Continues the data of the frame before.
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn decode(first: u8) -> Result<Opcode, Failure> {
        Ok(match first & OPCODE {
            0x0 => Opcode::Continuation,
            0x1 => Opcode::Text,
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xA => Opcode::Pong,
            _ => return Err(Failure::Opcode),
        })
    }

    /// The first byte of an unfragmented frame.
    pub(super) const fn first_byte(self) -> u8 {
        let opcode = match self {
            Opcode::Continuation => 0x0,
            Opcode::Text => 0x1,
            Opcode::Binary => 0x2,
            Opcode::Close => 0x8,
            Opcode::Ping => 0x9,
            Opcode::Pong => 0xA,
        };
        FIN | opcode
    }

    pub(super) fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }
}

/// The first two bytes of a client's frame, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) opcode: Opcode,
    /// The message ends with this frame.
    pub(super) last: bool,
    short_length: u8,
}

impl Start {
    pub(super) fn decode([first, second]: [u8; 2]) -> Result<Start, Failure> {
        if first & RESERVED != 0 {
            // The bits have no meaning, because no extension is negotiated.
            return Err(Failure::ReservedBits);
        }
        if second & MASKED == 0 {
            return Err(Failure::Unmasked);
        }
        let short_length = second & !MASKED;
        let start = Start { opcode: Opcode::decode(first)?, last: first & FIN != 0, short_length };
        if start.opcode.is_control() && !start.last {
            return Err(Failure::ControlFragmented);
        }
        if start.opcode.is_control() && usize::from(short_length) > CONTROL_BYTES_MAX {
            return Err(Failure::ControlTooLong);
        }
        Ok(start)
    }

    /// The length of the whole head, in bytes.
    pub(super) fn head_bytes(self) -> usize {
        let longer = match self.short_length {
            TWO_BYTES => 2,
            EIGHT_BYTES => 8,
            _ => 0,
        };
        2 + longer + MASK_BYTES
    }
}

/// The rest of the head: the length of the payload, and its mask. `bytes` begin with the third
/// byte.
pub(super) fn decode_rest(start: Start, bytes: &[u8]) -> Result<(u64, [u8; MASK_BYTES]), Failure> {
    let (longer, mask) = bytes.split_at(bytes.len() - MASK_BYTES);
    let mask = mask.try_into().expect("it was split off with this length");
    let length = longer.iter().fold(0, |length: u64, &byte| length << 8 | u64::from(byte));
    let (length, least) = match start.short_length {
        TWO_BYTES => (length, u64::from(TWO_BYTES)),
        EIGHT_BYTES => (length, u64::from(u16::MAX) + 1),
        short => (u64::from(short), 0),
    };
    if length < least || length > LENGTH_MAX {
        return Err(Failure::Length);
    }
    Ok((length, mask))
}

/// Writes the head of a binary frame into the end of `room`, and returns where it begins.
pub fn write_head(room: &mut [u8; HEAD_ROOM], payload_bytes: usize) -> usize {
    let first = Opcode::Binary.first_byte();
    match (u8::try_from(payload_bytes), u16::try_from(payload_bytes)) {
        (Ok(short @ ..TWO_BYTES), _) => {
            room[8..].copy_from_slice(&[first, short]);
            8
        }
        (_, Ok(two)) => {
            room[6..8].copy_from_slice(&[first, TWO_BYTES]);
            room[8..].copy_from_slice(&two.to_be_bytes());
            6
        }
        _ => {
            room[..2].copy_from_slice(&[first, EIGHT_BYTES]);
            room[2..].copy_from_slice(&(payload_bytes as u64).to_be_bytes());
            0
        }
    }
}

/// Masks or unmasks bytes. `mask` begins with the byte for the first of `bytes`.
pub(super) fn unmask(bytes: &mut [u8], mask: [u8; MASK_BYTES]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= mask;
    }
}

/// Why a WebSocket is closed. [RFC 6455, section 7.4]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseCode(u16);

impl CloseCode {
    pub const NORMAL: CloseCode = CloseCode(1000);
    /// The server is stopping.
    pub const GOING_AWAY: CloseCode = CloseCode(1001);
    pub const PROTOCOL_ERROR: CloseCode = CloseCode(1002);
    /// A kind of data that is not accepted.
    pub const UNSUPPORTED_DATA: CloseCode = CloseCode(1003);
    /// Text that is not UTF-8.
    pub const INVALID_DATA: CloseCode = CloseCode(1007);
    pub const TOO_BIG: CloseCode = CloseCode(1009);

    /// The code of a client's Close frame, if a client may use it.
    pub(super) fn decode(code: u16) -> Option<CloseCode> {
        let used = [1000..=1003, 1007..=1014, 3000..=4999];
        used.iter().any(|range| range.contains(&code)).then_some(CloseCode(code))
    }

    /// A whole Close frame.
    pub(super) fn frame(self) -> [u8; 4] {
        let [high, low] = self.0.to_be_bytes();
        [Opcode::Close.first_byte(), 2, high, low]
    }
}

/// What is wrong with a frame of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Failure {
    #[error("reserved bits are set")]
    ReservedBits,
    #[error("there is no such opcode")]
    Opcode,
    #[error("a client has to mask its frames")]
    Unmasked,
    #[error("a control frame has more than 125 bytes")]
    ControlTooLong,
    #[error("a control frame is in fragments")]
    ControlFragmented,
    #[error("a length is not in its shortest form, or above 2^63")]
    Length,
    #[error("a continuation of nothing")]
    NothingToContinue,
    #[error("a new message before the end of the one before")]
    MessageInMessage,
    #[error("text: MQTT comes in binary frames")]
    Text,
    #[error("half a code in a Close frame, or one that may not be used")]
    CloseCode,
    #[error("the reason in a Close frame is not UTF-8")]
    CloseReason,
}

impl Failure {
    /// The code that tells the client.
    pub fn close_code(self) -> CloseCode {
        match self {
            Failure::Text => CloseCode::UNSUPPORTED_DATA,
            Failure::CloseReason => CloseCode::INVALID_DATA,
            Failure::ReservedBits
            | Failure::Opcode
            | Failure::Unmasked
            | Failure::ControlTooLong
            | Failure::ControlFragmented
            | Failure::Length
            | Failure::NothingToContinue
            | Failure::MessageInMessage
            | Failure::CloseCode => CloseCode::PROTOCOL_ERROR,
        }
    }
}

/// The highest bit of a length stays clear.
const LENGTH_MAX: u64 = u64::MAX >> 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_has_the_shortest_form_of_its_length() {
        for (length, expected) in [
            (1, &[0x82, 1][..]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (65_535, &[0x82, 126, 0xFF, 0xFF]),
            (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let mut room = [0xEE; HEAD_ROOM];
            let begin = write_head(&mut room, length);
            assert_eq!(&room[begin..], expected, "{length}");
            assert!(room[..begin].iter().all(|&byte| byte == 0xEE), "{length}");
        }
    }

    #[test]
    fn a_mask_comes_off_as_it_went_on_at_any_length() {
        let mask = [0x12, 0x00, 0xFF, 0x5A];
        for length in 0..40u8 {
            let plain: Vec<u8> = (0..length).map(|byte| byte.wrapping_mul(7)).collect();
            let masked: Vec<u8> =
                plain.iter().enumerate().map(|(place, byte)| byte ^ mask[place % 4]).collect();
            let mut bytes = masked;
            unmask(&mut bytes, mask);
            assert_eq!(bytes, plain);
        }
    }
}
