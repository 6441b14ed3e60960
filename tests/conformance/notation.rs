//! The notation of the vectors: bytes as people read and write them.
//!
//! Pieces stand one after the other, mostly with spaces in between:
//!
//! ```text
//! 0a ff       bytes
//! "text"      a UTF-8 Encoded String: two bytes of length, then the text
//! `text`      the text alone
//! [ .. ]      what is inside, behind its length as a Variable Byte Integer
//! < .. >      the same where there are properties, which is in 5.0; nothing before
//! { .. }      what is inside, behind its length in two bytes
//! PROTOCOL    Protocol Name and Protocol Version of the version
//! @           what a rule puts there
//! x*3         a piece three times
//! ```
//!
//! `~` in a text stands for six digits that are different in each case.

use ringmq::mqtt::Version;

/// What the pieces mean that are not the same everywhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting<'a> {
    pub(crate) version: Version,
    /// The number of the case.
    pub(crate) number: usize,
    pub(crate) hole: &'a [u8],
    pub(crate) tweak: Option<Tweak>,
}

/// A length inside a packet that is not that of the field behind it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tweak {
    /// Which of the lengths, counted from 0; the Remaining Length is none of them.
    pub(crate) field: usize,
    pub(crate) change: Change,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    More,
    Less,
    Most,
}

/// The form of a length.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Variable,
    TwoBytes,
}

impl<'a> Setting<'a> {
    pub(crate) fn new(version: Version, number: usize) -> Setting<'a> {
        Setting { version, number, hole: &[], tweak: None }
    }
}

/// The bytes that a text stands for.
pub(crate) fn encode(text: &str, setting: Setting<'_>) -> Result<Vec<u8>, String> {
    Writer::write(text, setting).map(|writer| writer.out)
}

/// How many lengths there are inside the packet.
pub(crate) fn count_lengths(text: &str, setting: Setting<'_>) -> Result<usize, String> {
    Writer::write(text, setting).map(|writer| writer.lengths)
}

/// A Variable Byte Integer in its shortest form. [Section 1.5.5]
pub(crate) fn variable(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(value % 128).expect("a remainder of 128");
        value /= 128;
        bytes.push(if value > 0 { low | 128 } else { low });
        if value == 0 {
            return bytes;
        }
    }
}

struct Writer<'a> {
    rest: &'a str,
    setting: Setting<'a>,
    out: Vec<u8>,
    lengths: usize,
    depth: usize,
}

impl<'a> Writer<'a> {
    fn write(text: &'a str, setting: Setting<'a>) -> Result<Writer<'a>, String> {
        let mut writer = Writer { rest: text, setting, out: Vec::new(), lengths: 0, depth: 0 };
        writer.pieces().map_err(|error| format!("{error} before `{}` in `{text}`", writer.rest))?;
        if writer.rest.is_empty() { Ok(writer) } else { Err(format!("unbalanced: `{text}`")) }
    }

    /// Writes pieces up to the end of the text or a closing bracket.
    fn pieces(&mut self) -> Result<(), String> {
        loop {
            self.rest = self.rest.trim_start();
            if self.rest.is_empty() || self.rest.starts_with([']', '>', '}']) {
                return Ok(());
            }
            let begin = self.out.len();
            self.piece()?;
            self.repeat(begin)?;
        }
    }

    fn piece(&mut self) -> Result<(), String> {
        if let Some(rest) = self.rest.strip_prefix("PROTOCOL") {
            self.rest = rest;
            return self.protocol();
        }
        let first = self.rest.chars().next().unwrap_or_default();
        match first {
            '[' => self.block(']', Form::Variable),
            '{' => self.block('}', Form::TwoBytes),
            '<' => self.properties(),
            '"' => {
                let text = self.quoted('"')?;
                self.field(Form::TwoBytes, |writer| {
                    writer.out.extend(text.into_bytes());
                    Ok(())
                })
            }
            '`' => self.quoted('`').map(|text| self.out.extend(text.into_bytes())),
            '@' => {
                self.rest = &self.rest[1..];
                self.out.extend(self.setting.hole);
                Ok(())
            }
            _ => self.hex(),
        }
    }

    /// Repeats what has been written since `begin` as often as a `*` says.
    fn repeat(&mut self, begin: usize) -> Result<(), String> {
        let Some(rest) = self.rest.strip_prefix('*') else { return Ok(()) };
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let times: usize = rest[..end].parse().map_err(|_| "no number".to_owned())?;
        self.rest = &rest[end..];
        let piece = self.out.split_off(begin);
        self.out.extend(piece.repeat(times));
        Ok(())
    }

    fn block(&mut self, close: char, form: Form) -> Result<(), String> {
        self.rest = &self.rest[1..];
        self.field(form, |writer| {
            writer.pieces()?;
            let rest = writer.rest.strip_prefix(close);
            writer.rest = rest.ok_or_else(|| format!("no {close}"))?;
            Ok(())
        })
    }

    fn properties(&mut self) -> Result<(), String> {
        let (len, lengths) = (self.out.len(), self.lengths);
        self.block('>', Form::Variable)?;
        if self.setting.version < Version::V5 {
            self.out.truncate(len);
            self.lengths = lengths;
        }
        Ok(())
    }

    fn protocol(&mut self) -> Result<(), String> {
        let (name, level) = match self.setting.version {
            Version::V31 => ("MQIsdp", 3),
            Version::V311 => ("MQTT", 4),
            Version::V5 => ("MQTT", 5),
        };
        self.field(Form::TwoBytes, |writer| {
            writer.out.extend(name.bytes());
            Ok(())
        })?;
        self.out.push(level);
        Ok(())
    }

    /// Writes a field behind its length, which is wrong where the setting says so.
    fn field(
        &mut self,
        form: Form,
        write: impl FnOnce(&mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
        let change = (self.depth > 0).then(|| {
            self.lengths += 1;
            let tweak = self.setting.tweak.filter(|tweak| tweak.field == self.lengths - 1);
            tweak.map(|tweak| tweak.change)
        });
        let before = std::mem::take(&mut self.out);
        self.depth += 1;
        let written = write(self);
        self.depth -= 1;
        let field = std::mem::replace(&mut self.out, before);
        written?;
        self.out.extend(length(form, field.len(), change.flatten())?);
        self.out.extend(field);
        Ok(())
    }

    /// The text up to the same mark again.
    fn quoted(&mut self, mark: char) -> Result<String, String> {
        let (text, rest) = self.rest[1..].split_once(mark).ok_or("no end of a text")?;
        self.rest = rest;
        Ok(text.replace('~', &format!("{:06}", self.setting.number)))
    }

    fn hex(&mut self) -> Result<(), String> {
        let end = self.rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        if digits.is_empty() || digits.len() % 2 == 1 {
            return Err("no piece".to_owned());
        }
        for at in (0..digits.len()).step_by(2) {
            self.out.push(u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal"));
        }
        self.rest = rest;
        Ok(())
    }
}

fn length(form: Form, length: usize, change: Option<Change>) -> Result<Vec<u8>, String> {
    let told = match (change, form) {
        (None, _) => length,
        (Some(Change::More), _) => length + 1,
        (Some(Change::Less), _) => length.saturating_sub(1),
        (Some(Change::Most), Form::Variable) => 268_435_455,
        (Some(Change::Most), Form::TwoBytes) => 65_535,
    };
    if form == Form::Variable {
        return Ok(variable(told));
    }
    let told = u16::try_from(told).map_err(|_| "more than 65,535 bytes".to_owned())?;
    Ok(told.to_be_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTING: Setting<'_> =
        Setting { version: Version::V5, number: 42, hole: &[0xEE], tweak: None };

    #[test]
    fn each_piece_stands_for_its_bytes() {
        for (text, bytes) in [
            ("", &[][..]),
            ("00ff A0", &[0, 255, 0xA0]),
            ("\"a b\"", &[0, 3, b'a', b' ', b'b']),
            ("`a~`", b"a000042"),
            ("30[ 01 [02] < 03 > @ ]", &[0x30, 6, 1, 1, 2, 1, 3, 0xEE]),
            ("{`x`*300}*2", &[&[1, 44][..], &[b'x'; 300], &[1, 44], &[b'x'; 300]].concat()),
            ("[`x`*300]", &[&[0xAC, 2][..], &[b'x'; 300]].concat()),
            ("PROTOCOL", b"\0\x04MQTT\x05"),
        ] {
            assert_eq!(encode(text, SETTING).as_deref(), Ok(bytes), "{text}");
        }
        let old = Setting { version: Version::V31, ..SETTING };
        assert_eq!(encode("[ PROTOCOL <0102> ]", old).as_deref(), Ok(&b"\x09\0\x06MQIsdp\x03"[..]));
        for text in ["[", "]", "\"a", "0", "0g", "x", "{`x`*65536}", "[>", "@*"] {
            assert!(encode(text, SETTING).is_err(), "{text}");
        }
    }

    #[test]
    fn a_length_inside_a_packet_is_told_wrong_and_the_remaining_length_is_right() {
        let text = "30 [ \"ab\" <01> `c` ]";
        assert_eq!(count_lengths(text, SETTING), Ok(2));
        for (field, change, bytes) in [
            (0, Change::More, &b"\x30\x07\0\x03ab\x01\x01c"[..]),
            (0, Change::Less, b"\x30\x07\0\x01ab\x01\x01c"),
            (0, Change::Most, b"\x30\x07\xFF\xFFab\x01\x01c"),
            (1, Change::Most, b"\x30\x0a\0\x02ab\xFF\xFF\xFF\x7F\x01c"),
        ] {
            let tweak = Some(Tweak { field, change });
            assert_eq!(encode(text, Setting { tweak, ..SETTING }).as_deref(), Ok(bytes));
        }
    }
}
