//! Writes JSON objects of texts, numbers and truth values.

use std::fmt::Write;

/// One object, which is written field by field. Names are texts that need no escape.
#[derive(Debug)]
pub struct Object(String);

impl Default for Object {
    fn default() -> Object {
        Object("{".to_owned())
    }
}

impl Object {
    /// A text, or `null`.
    #[must_use]
    pub fn text<'a>(mut self, name: &str, value: impl Into<Option<&'a str>>) -> Object {
        self.name(name);
        match value.into() {
            Some(value) => push_text(value, &mut self.0),
            None => self.0.push_str("null"),
        }
        self
    }

    #[must_use]
    pub fn number(mut self, name: &str, value: impl Into<u64>) -> Object {
        self.name(name);
        self.0.push_str(&value.into().to_string());
        self
    }

    #[must_use]
    pub fn truth(mut self, name: &str, value: bool) -> Object {
        self.name(name);
        self.0.push_str(if value { "true" } else { "false" });
        self
    }

    pub fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }

    fn name(&mut self, name: &str) {
        let comma = if self.0.len() > 1 { "," } else { "" };
        self.0.extend([comma, "\"", name, "\":"]);
    }
}

/// A line break or another control character never stands for itself.
fn push_text(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            _ if character.is_control() => {
                write!(out, "\\u{:04x}", u32::from(character)).expect("a String takes all text");
            }
            _ => out.push(character),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_has_its_fields_in_their_order() {
        let object = Object::default().text("a", "b").text("c", None).number("d", 7u8);
        assert_eq!(object.truth("e", true).finish(), r#"{"a":"b","c":null,"d":7,"e":true}"#);
        assert_eq!(Object::default().finish(), "{}");
    }

    #[test]
    fn what_would_end_a_text_or_a_line_is_escaped() {
        let object = Object::default().text("a", "\"\\\n\r\u{1b}\u{85}ä<😀");
        assert_eq!(object.finish(), r#"{"a":"\"\\\u000a\u000d\u001b\u0085ä<😀"}"#);
    }
}
