//! Which characters a topic may have. [Section 1.5.4]

/// Whether a text has a Disallowed Unicode code point: U+0000, a control character or a
/// noncharacter. Surrogates are none of a text.
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
