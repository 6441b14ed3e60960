//! The data types of the wire: integers, strings, binary data, Variable Byte Integers.

use super::{
    delivery::PacketId,
    error::{DecodeError, Malformed, ProtocolError},
};
use crate::base::text::{has_disallowed, is_plain};

/// The largest value of a Variable Byte Integer.
pub(super) const VARIABLE_MAX: usize = 268_435_455;

/// The longest form of a Variable Byte Integer, in bytes.
const VARIABLE_BYTES_MAX: usize = 4;

/// Takes one field after the other from the front of a packet's bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    pub(super) const fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// All that has not been taken.
    #[inline]
    pub(super) const fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Fails if anything has not been taken.
    #[inline]
    pub(super) const fn finish(self) -> Result<(), Malformed> {
        if self.is_empty() { Ok(()) } else { Err(Malformed::Trailing) }
    }

    #[inline]
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(|[byte]| byte)
    }

    #[inline]
    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    pub(super) fn variable(&mut self) -> Result<u32, Malformed> {
        let (value, taken) = decode_variable(self.rest)?.ok_or(Malformed::Truncated)?;
        self.take(taken)?;
        Ok(value)
    }

    #[inline]
    pub(super) fn binary(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    #[inline]
    pub(super) fn string(&mut self) -> Result<&'a str, Malformed> {
        let bytes = self.binary()?;
        // [MQTT-1.5.4-2]
        if any(bytes, |byte| byte == 0) {
            return Err(Malformed::NullCharacter);
        }
        well_formed(bytes)
    }

    /// A Topic Name. It may be empty, because the packet may have a Topic Alias instead.
    #[inline]
    pub(super) fn topic(&mut self) -> Result<&'a str, DecodeError> {
        well_formed_topic(self.binary()?)
    }

    /// As [`Reader::topic`], but faster if the topic is equal to `known`, which is valid.
    #[inline]
    pub(super) fn topic_like(&mut self, known: &'a str) -> Result<&'a str, DecodeError> {
        let bytes = self.binary()?;
        if bytes == known.as_bytes() { Ok(known) } else { well_formed_topic(bytes) }
    }

    #[inline]
    pub(super) fn packet_id(&mut self) -> Result<PacketId, DecodeError> {
        Ok(PacketId::new(self.u16()?).ok_or(ProtocolError::PacketIdZero)?)
    }
}

/// [MQTT-1.5.4-1]
#[inline]
fn well_formed(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed::Utf8)
}

#[inline]
fn well_formed_topic(bytes: &[u8]) -> Result<&str, DecodeError> {
    if is_plain(bytes) { Ok(well_formed(bytes)?) } else { unusual_topic(bytes) }
}

/// Checks all bytes without stopping early, so that the compiler can check several at once.
#[inline]
fn any(bytes: &[u8], is_bad: impl Fn(u8) -> bool) -> bool {
    bytes.iter().fold(false, |found, &byte| found | is_bad(byte))
}

/// Checks a topic that has other than plain ASCII characters.
#[cold]
fn unusual_topic(bytes: &[u8]) -> Result<&str, DecodeError> {
    if bytes.contains(&0) {
        return Err(Malformed::NullCharacter.into());
    }
    let topic = well_formed(bytes)?;
    if has_disallowed(topic) {
        return Err(Malformed::DisallowedCodePoint.into());
    }
    // [MQTT-3.3.2-2]
    if topic.contains(['+', '#']) { Err(Malformed::TopicName.into()) } else { Ok(topic) }
}

/// Reads the Variable Byte Integer at the front of `bytes`, and returns how many bytes it has.
///
/// `Ok(None)` means that the rest of it has not arrived yet.
#[inline]
pub(super) fn decode_variable(bytes: &[u8]) -> Result<Option<(u32, usize)>, Malformed> {
    match bytes {
        [] => Ok(None),
        [low, ..] if *low < 0x80 => Ok(Some((u32::from(*low), 1))),
        [low, high, ..] if *high < 0x80 && *high != 0 => {
            Ok(Some((u32::from(*low & 0x7F) | u32::from(*high) << 7, 2)))
        }
        _ => decode_long_variable(bytes),
    }
}

fn decode_long_variable(bytes: &[u8]) -> Result<Option<(u32, usize)>, Malformed> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(VARIABLE_BYTES_MAX).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * index);
        let last = byte & 0x80 == 0;
        // A final zero byte adds nothing, so a shorter form exists. [MQTT-1.5.5-1]
        if last && byte == 0 && index > 0 {
            return Err(Malformed::VariableByteInteger);
        }
        if last {
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() < VARIABLE_BYTES_MAX { Ok(None) } else { Err(Malformed::VariableByteInteger) }
}

/// How many bytes a Variable Byte Integer takes.
#[inline]
pub(super) const fn variable_len(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

#[inline]
pub(super) fn put_variable(out: &mut Vec<u8>, value: usize) {
    debug_assert!(value <= VARIABLE_MAX, "the length of a packet fits into four bytes");
    let mut rest = value;
    while rest >= 0x80 {
        out.push(low_bits(rest) | 0x80);
        rest >>= 7;
    }
    out.push(low_bits(rest));
}

#[inline]
const fn low_bits(value: usize) -> u8 {
    value.to_le_bytes()[0] & 0x7F
}

#[inline]
pub(super) fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

#[inline]
pub(super) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

#[inline]
pub(super) fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u16::try_from(bytes.len()).expect("a field with a length has at most 65,535 bytes");
    put_u16(out, len);
    out.extend_from_slice(bytes);
}

#[inline]
pub(super) fn put_string(out: &mut Vec<u8>, string: &str) {
    put_binary(out, string.as_bytes());
}

/// Appends what `write` writes, behind its length as a Variable Byte Integer. `more` bytes that
/// the caller appends afterwards are counted in.
pub(super) fn put_with_length(out: &mut Vec<u8>, more: usize, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    // Nearly all lengths fit into the one byte that is kept free for them.
    out.push(0);
    write(out);
    let end = out.len();
    let length = end - start - 1 + more;
    put_variable(out, length);
    let length_len = out.len() - end;
    if length_len == 1 {
        out[start] = low_bits(length);
        out.truncate(end);
    } else {
        out[start..].rotate_right(length_len);
        out.remove(start + length_len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(value: usize) -> Vec<u8> {
        let mut out = Vec::new();
        put_variable(&mut out, value);
        out
    }

    /// [MQTT-1.5.5-1]
    #[test]
    fn a_length_takes_as_many_bytes_as_it_needs() {
        let limits: [(usize, &[u8]); 8] = [
            (0, &[0x00]),
            (127, &[0x7F]),
            (128, &[0x80, 0x01]),
            (16_383, &[0xFF, 0x7F]),
            (16_384, &[0x80, 0x80, 0x01]),
            (2_097_151, &[0xFF, 0xFF, 0x7F]),
            (2_097_152, &[0x80, 0x80, 0x80, 0x01]),
            (VARIABLE_MAX, &[0xFF, 0xFF, 0xFF, 0x7F]),
        ];
        for (value, bytes) in limits {
            assert_eq!(encoded(value), bytes);
            assert_eq!(variable_len(value), bytes.len());
            assert_eq!(
                decode_variable(bytes),
                Ok(Some((u32::try_from(value).unwrap(), bytes.len())))
            );
            assert_eq!(decode_variable(&bytes[..bytes.len() - 1]), Ok(None));
        }
    }

    /// [MQTT-1.5.5-1]
    #[test]
    fn a_length_longer_than_needed_or_than_four_bytes_is_malformed() {
        let malformed: [&[u8]; 5] = [
            &[0x80, 0x00],
            &[0x80, 0x80, 0x00],
            &[0xFF, 0xFF, 0x80, 0x00],
            &[0xFF, 0xFF, 0xFF, 0xFF],
            &[0x80, 0x80, 0x80, 0x80, 0x01],
        ];
        for bytes in malformed {
            assert_eq!(decode_variable(bytes), Err(Malformed::VariableByteInteger), "{bytes:x?}");
        }
    }

    #[test]
    fn a_length_is_written_before_what_it_counts() {
        for len in [0, 1, 127, 128, 300, 16_384] {
            let mut out = vec![0xAA];
            put_with_length(&mut out, 5, |out| out.extend((0..len).map(low_bits)));
            let mut expected = vec![0xAA];
            put_variable(&mut expected, len + 5);
            expected.extend((0..len).map(low_bits));
            assert_eq!(out, expected);
        }
    }

    /// [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-1.5.4-3] [MQTT-1.5.3-1@3.1.1] [MQTT-1.5.3-2@3.1.1]
    #[test]
    fn strings_are_well_formed_and_lose_nothing() {
        let read = |bytes| Reader::new(bytes).string();
        assert_eq!(read(b"\x00\x03\xEF\xBB\xBF"), Ok("\u{FEFF}"));
        assert_eq!(read(b"\x00\x05A\xF0\xAA\x9B\x94"), Ok("A\u{2A6D4}"));
        assert_eq!(read(b"\x00\x03\xED\xA0\x80"), Err(Malformed::Utf8));
        assert_eq!(read(b"\x00\x02\xC0\x80"), Err(Malformed::Utf8));
        assert_eq!(read(b"\x00\x01\x00"), Err(Malformed::NullCharacter));
        assert_eq!(read(b"\x00\x03ab"), Err(Malformed::Truncated));
        assert_eq!(read(b"\x00"), Err(Malformed::Truncated));
    }

    /// [MQTT-3.3.2-1] [MQTT-3.3.2-1@3.1.1]
    #[test]
    fn a_topic_with_a_wildcard_is_invalid_and_ill_formed_bytes_are_malformed() {
        let read = |bytes| Reader::new(bytes).topic();
        assert_eq!(read(b"\x00\x03a/b"), Ok("a/b"));
        assert_eq!(read("\0\u{5}20°C".as_bytes()), Ok("20°C"));
        assert_eq!(read(b"\x00\x03a/+"), Err(Malformed::TopicName.into()));
        assert_eq!(read(b"\x00\x01#"), Err(Malformed::TopicName.into()));
        assert_eq!(read(b"\x00\x02#\xFF"), Err(Malformed::Utf8.into()));
        assert_eq!(read(b"\x00\x02#\x00"), Err(Malformed::NullCharacter.into()));
        for disallowed in [b"\x00\x02a\x1F", b"\x00\x02a\x7F", b"\x00\x02\xC2\x80"] {
            assert_eq!(read(disallowed), Err(Malformed::DisallowedCodePoint.into()));
        }
    }

    #[test]
    fn a_topic_is_checked_unless_it_is_the_known_one() {
        let read = |bytes| Reader::new(bytes).topic_like("a/b");
        assert_eq!(read(b"\x00\x03a/b"), Ok("a/b"));
        assert_eq!(read(b"\x00\x03a/c"), Ok("a/c"));
        assert_eq!(read(b"\x00\x02a/b"), Ok("a/"));
        assert_eq!(read(b"\x00\x00"), Ok(""));
        assert_eq!(read(b"\x00\x04a/b+"), Err(Malformed::TopicName.into()));
        assert_eq!(read(b"\x00\x03a/\xFF"), Err(Malformed::Utf8.into()));
        assert_eq!(read(b"\x00\x03a/"), Err(Malformed::Truncated.into()));
    }
}
