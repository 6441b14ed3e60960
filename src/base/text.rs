//! Which characters a topic may have. [Section 1.5.4]

/// Whether all bytes are ASCII characters that any Topic Name may have: no control character, no
/// wildcard. This is true for most names.
#[inline]
pub fn is_plain(bytes: &[u8]) -> bool {
    let (words, _) = bytes.as_chunks::<WORD>();
    let Some(end) = bytes.last_chunk::<WORD>() else {
        return bytes.iter().fold(true, |plain, &byte| plain & is_plain_byte(byte));
    };
    // Checks some bytes twice, and does not stop early: that is faster.
    let unusual = |word: &[u8; WORD]| unusual_bytes(u64::from_ne_bytes(*word));
    words.iter().fold(unusual(end), |found, word| found | unusual(word)) == 0
}

const fn is_plain_byte(byte: u8) -> bool {
    !matches!(byte, ..0x20 | 0x7F.. | b'+' | b'#')
}

/// The high bit of each byte that is not plain. By a carry, the byte after it may be marked, too.
const fn unusual_bytes(word: u64) -> u64 {
    let control = word.wrapping_sub(SPACE) & !word;
    let delete = word.wrapping_add(EACH);
    let wildcard = (word | DIFFERENCE) ^ PLUS;
    let wildcard = wildcard.wrapping_sub(EACH) & !wildcard;
    (word | control | delete | wildcard) & HIGH
}

const WORD: usize = size_of::<u64>();
/// A one in each byte.
const EACH: u64 = u64::MAX / 0xFF;
const HIGH: u64 = EACH * 0x80;
const SPACE: u64 = EACH * b' ' as u64;
const PLUS: u64 = EACH * b'+' as u64;
/// The one bit in which the two wildcards differ.
const DIFFERENCE: u64 = EACH * (b'+' ^ b'#') as u64;

/// Whether a text has a Disallowed Unicode code point: U+0000, a control character or a
/// noncharacter. A `str` cannot contain surrogates.
pub fn has_disallowed(text: &str) -> bool {
    text.chars().any(is_disallowed)
}

fn is_disallowed(character: char) -> bool {
    character.is_control() || is_noncharacter(character)
}

/// The last two code points of each plane, and 32 in the middle of the first.
const fn is_noncharacter(character: char) -> bool {
    let point = character as u32;
    point & 0xFFFE == 0xFFFE || matches!(point, 0xFDD0..=0xFDEF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_that_is_not_plain_is_found_wherever_it_is() {
        for len in 1..=2 * WORD + 1 {
            for at in 0..len {
                for byte in 0..=u8::MAX {
                    let mut bytes = vec![b'~'; len];
                    bytes[at] = byte;
                    assert_eq!(is_plain(&bytes), is_plain_byte(byte), "{byte} at {at} of {len}");
                }
            }
        }
        assert!(is_plain(b""));
    }

    #[test]
    fn control_characters_and_noncharacters_are_disallowed() {
        let control = ('\0'..='\x1F').chain('\x7F'..='\u{9F}');
        let planes = (0..=16).flat_map(|plane| [plane << 16 | 0xFFFE, plane << 16 | 0xFFFF]);
        let others = planes.filter_map(char::from_u32).chain('\u{FDD0}'..='\u{FDEF}');
        let disallowed: Vec<char> = control.chain(others).collect();
        let all = '\0'..=char::MAX;
        let found: Vec<char> =
            all.filter(|letter| has_disallowed(letter.encode_utf8(&mut [0; 4]))).collect();
        assert_eq!(found.len(), 32 + 33 + 34 + 32);
        assert!(disallowed.iter().all(|letter| found.contains(letter)));
    }
}
