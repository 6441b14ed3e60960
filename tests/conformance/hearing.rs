//! What the broker answers, read by a reader of its own and compared with what is expected.
//!
//! Shares nothing with the broker's decoder: what that takes for a packet is not evidence here.

use ringmq::mqtt::Version;

use crate::properties::{Property, Type, find};

/// One packet of the broker.
#[derive(Debug)]
pub(crate) struct Heard {
    /// The packet in the notation of the expectations, without its properties.
    said: String,
    /// Names of properties, each with the bytes of its value.
    properties: Vec<(String, Vec<u8>)>,
}

impl Heard {
    fn say(&mut self, word: &str) {
        self.said.push(' ');
        self.said.push_str(word);
    }
}

/// One packet that is expected: what it says, and what becomes of single properties.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    said: String,
    /// Properties that the packet has, with this value or with any.
    with: Vec<(String, Option<Vec<u8>>)>,
}

impl Answer {
    /// Reads `PUBACK 0001 10` or `CONNACK 00 with ServerKeepAlive=003c`. Reason Codes of
    /// acknowledgements are left out for versions that have none.
    pub(crate) fn parse(text: &str, version: Version) -> Result<Answer, String> {
        let (said, with) = text.split_once(" with ").unwrap_or((text, ""));
        let coded = ["PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "UNSUBACK"];
        let words: Vec<&str> = said.split(' ').collect();
        let kept = if version < Version::V5 && coded.contains(&words[0]) { 2 } else { words.len() };
        let with = with.split(' ').filter(|word| !word.is_empty()).map(|word| {
            let Some((name, value)) = word.split_once('=') else {
                return Ok((word.to_owned(), None));
            };
            let setting = crate::notation::Setting::new(version, 0);
            Ok((name.to_owned(), Some(crate::notation::encode(value, setting)?)))
        });
        let with = with.collect::<Result<_, String>>()?;
        Ok(Answer { said: words[..kept.min(words.len())].join(" "), with })
    }

    pub(crate) fn is(&self, said: &str) -> bool {
        self.said == said
    }

    fn fits(&self, heard: &Heard) -> bool {
        let has = |(name, value): &(String, Option<Vec<u8>>)| {
            let found = heard.properties.iter().find(|(heard, _)| heard == name);
            found.is_some_and(|(_, heard)| value.as_ref().is_none_or(|value| value == heard))
        };
        self.said == heard.said && self.with.iter().all(has)
    }
}

/// Compares all that was heard with all that was expected.
pub(crate) fn compare(
    bytes: &[u8],
    version: Version,
    known: &[Property],
    expected: &[Answer],
) -> Result<(), String> {
    let mut heard = Vec::new();
    let mut rest = bytes;
    while let Some(len) = packet_len(rest) {
        let packet = rest.get(..len).ok_or_else(|| format!("half a packet: {rest:02x?}"))?;
        heard.push(read(packet, version, known).ok_or_else(|| illegal(packet))?);
        rest = &rest[len..];
    }
    if !rest.is_empty() {
        return Err(illegal(rest));
    }
    let fits = heard.len() == expected.len()
        && expected.iter().zip(&heard).all(|(answer, heard)| answer.fits(heard));
    if fits {
        return Ok(());
    }
    let said: Vec<String> = heard.iter().map(tell).collect();
    let wanted: Vec<&str> = expected.iter().map(|answer| &*answer.said).collect();
    Err(format!("expected {wanted:?}, heard {said:?}"))
}

/// How many whole packets there are at the front.
pub(crate) fn count_packets(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    let mut count = 0;
    while let Some(after) = packet_len(rest).and_then(|len| rest.get(len..)) {
        rest = after;
        count += 1;
    }
    count
}

/// The bytes of the first property of this name in the first packet.
pub(crate) fn property_of(bytes: &[u8], name: &str, known: &[Property]) -> Option<Vec<u8>> {
    let packet = bytes.get(..packet_len(bytes)?)?;
    let heard = read(packet, Version::V5, known)?;
    heard.properties.into_iter().find(|(found, _)| found == name).map(|(_, value)| value)
}

fn illegal(packet: &[u8]) -> String {
    format!("not a packet that a server sends: {packet:02x?}")
}

fn tell(heard: &Heard) -> String {
    let names: Vec<&str> = heard.properties.iter().map(|(name, _)| &**name).collect();
    if names.is_empty() { heard.said.clone() } else { format!("{} {names:?}", heard.said) }
}

/// What the first packet says of its own length; `None` until that can be read.
fn packet_len(bytes: &[u8]) -> Option<usize> {
    let mut reader = Reader { rest: bytes };
    reader.u8()?;
    let remaining = reader.variable()?;
    Some(bytes.len() - reader.rest.len() + remaining)
}

/// Reads a packet that a server may send in this version.
fn read(packet: &[u8], version: Version, known: &[Property]) -> Option<Heard> {
    let mut reader = Reader { rest: packet };
    let first = reader.u8()?;
    reader.variable()?;
    let flags = first & 15;
    let v5 = version == Version::V5;
    let (name, expected_flags) = match first >> 4 {
        2 => ("CONNACK", 0),
        3 => ("PUBLISH", flags),
        4 => ("PUBACK", 0),
        5 => ("PUBREC", 0),
        6 => ("PUBREL", 2),
        7 => ("PUBCOMP", 0),
        9 => ("SUBACK", 0),
        11 => ("UNSUBACK", 0),
        13 => ("PINGRESP", 0),
        14 if v5 => ("DISCONNECT", 0),
        15 if v5 => ("AUTH", 0),
        _ => return None,
    };
    if flags != expected_flags {
        return None;
    }
    let mut heard = Heard { said: name.to_owned(), properties: Vec::new() };
    let body = Body { reader, v5, known, name };
    body.read(flags, &mut heard)?;
    Some(heard)
}

/// What stands behind the fixed header of a packet.
struct Body<'a> {
    reader: Reader<'a>,
    v5: bool,
    known: &'a [Property],
    name: &'a str,
}

impl Body<'_> {
    fn read(mut self, flags: u8, heard: &mut Heard) -> Option<()> {
        match self.name {
            "CONNACK" => self.connack(heard)?,
            "PUBLISH" => self.publish(flags, heard)?,
            "SUBACK" | "UNSUBACK" => self.suback(heard)?,
            "PINGRESP" => {}
            "DISCONNECT" | "AUTH" => self.reason(heard, true)?,
            _ => {
                self.packet_id(heard)?;
                if self.v5 {
                    self.reason(heard, false)?;
                }
            }
        }
        self.reader.rest.is_empty().then_some(())
    }

    fn connack(&mut self, heard: &mut Heard) -> Option<()> {
        let (flags, code) = (self.reader.u8()?, self.reader.u8()?);
        heard.say(&format!("{code:02x}"));
        match flags {
            0 => {}
            1 => heard.say("present"),
            _ => return None,
        }
        if self.v5 { self.properties(heard) } else { Some(()) }
    }

    fn publish(&mut self, flags: u8, heard: &mut Heard) -> Option<()> {
        let topic = String::from_utf8(self.reader.binary()?.to_vec()).ok()?;
        heard.say(&format!("{flags:x} {topic}"));
        if flags & 6 > 0 {
            self.packet_id(heard)?;
        }
        if self.v5 {
            self.properties(heard)?;
        }
        let payload = std::mem::take(&mut self.reader.rest);
        heard.say(&format!("'{}'", String::from_utf8_lossy(payload)));
        Some(())
    }

    fn suback(&mut self, heard: &mut Heard) -> Option<()> {
        self.packet_id(heard)?;
        if self.v5 {
            self.properties(heard)?;
        }
        for code in std::mem::take(&mut self.reader.rest) {
            heard.say(&format!("{code:02x}"));
        }
        Some(())
    }

    fn packet_id(&mut self, heard: &mut Heard) -> Option<()> {
        let id = self.reader.take(2)?;
        heard.say(&format!("{:02x}{:02x}", id[0], id[1]));
        (id != [0, 0]).then_some(())
    }

    /// A Reason Code and properties. An AUTH has both or neither; elsewhere the properties may be
    /// left out, or both, which means Success.
    fn reason(&mut self, heard: &mut Heard, may_be_empty: bool) -> Option<()> {
        if self.reader.rest.is_empty() {
            heard.say("00");
            return Some(());
        }
        let code = self.reader.u8()?;
        heard.say(&format!("{code:02x}"));
        if self.reader.rest.is_empty() && !(may_be_empty && self.name == "AUTH") {
            return Some(());
        }
        self.properties(heard)
    }

    fn properties(&mut self, heard: &mut Heard) -> Option<()> {
        let len = self.reader.variable()?;
        let mut block = Reader { rest: self.reader.take(len)? };
        while !block.rest.is_empty() {
            let property = find(self.known, block.u8()?)?;
            let value = block.value(property.kind)?;
            let twice = heard.properties.iter().any(|(name, _)| *name == property.name);
            let here = |places: &[String]| places.iter().any(|place| place == self.name);
            if !here(&property.places) || twice && !here(&property.repeats) {
                return None;
            }
            heard.properties.push((property.name.clone(), value.to_vec()));
        }
        Some(())
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn variable(&mut self) -> Option<usize> {
        let mut value = 0;
        for place in 0..4 {
            let byte = self.u8()?;
            value += usize::from(byte & 127) << (7 * place);
            if byte < 128 {
                return Some(value);
            }
        }
        None
    }

    fn binary(&mut self) -> Option<&'a [u8]> {
        let len = self.take(2)?;
        self.take(usize::from(u16::from_be_bytes([len[0], len[1]])))
    }

    /// The bytes of a property's value, the lengths in it included.
    fn value(&mut self, kind: Type) -> Option<&'a [u8]> {
        let before = self.rest;
        match kind {
            Type::Byte => drop(self.take(1)?),
            Type::TwoBytes => drop(self.take(2)?),
            Type::FourBytes => drop(self.take(4)?),
            Type::Variable => drop(self.variable()?),
            Type::Binary => drop(self.binary()?),
            Type::String => drop(std::str::from_utf8(self.binary()?).ok()?),
            Type::Pair => {
                std::str::from_utf8(self.binary()?).ok()?;
                std::str::from_utf8(self.binary()?).ok()?;
            }
        }
        before.get(..before.len() - self.rest.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::book::Book;

    fn hears(bytes: &[u8], version: Version, answers: &[&str]) -> bool {
        let book = Book::open().expect("the vectors are well-formed");
        let answers: Vec<Answer> = answers
            .iter()
            .map(|text| Answer::parse(text, version).expect("an expectation"))
            .collect();
        compare(bytes, version, &book.properties, &answers).is_ok()
    }

    #[test]
    fn what_is_heard_is_what_was_said() {
        let v5 = |bytes: &[u8], answers: &[&str]| hears(bytes, Version::V5, answers);
        assert!(v5(b"", &[]));
        assert!(v5(b"\xD0\0\x40\x03\0\x01\x10", &["PINGRESP", "PUBACK 0001 10"]));
        assert!(v5(b"\xE0\x06\x81\x04\x1F\0\x01x", &["DISCONNECT 81"]));
        assert!(v5(b"\x20\x06\0\0\x03\x21\0\x07", &["CONNACK 00 with ReceiveMaximum=0007"]));
        assert!(v5(b"\x32\x06\0\x01t\0\x09\0", &["PUBLISH 2 t 0009 ''"]));
        assert!(!v5(b"\xD0\0", &[]));
        assert!(!v5(b"", &["PINGRESP"]));
        assert!(!v5(b"\x40\x03\0\x01\x10", &["PUBACK 0001 00"]));
        assert!(!v5(b"\x20\x06\0\0\x03\x21\0\x07", &["CONNACK 00 with ReceiveMaximum=0008"]));
        assert!(!v5(b"\x20\x03\0\0\0", &["CONNACK 00 with ReceiveMaximum"]));
    }

    #[test]
    fn what_a_server_may_not_send_is_never_right() {
        for (bytes, answer) in [
            (&b"\x41\x02\0\x01"[..], "PUBACK 0001 00"),
            (b"\x40\x02\0\0", "PUBACK 0000 00"),
            (b"\x40\x03\0\x01", "PUBACK 0001 00"),
            (b"\xD0\x01\0", "PINGRESP"),
            (b"\xC0\0", "PINGREQ"),
            // A Session Expiry Interval is for CONNACK, not PUBACK; a Reason String stands once.
            (b"\x40\x09\0\x01\0\x05\x11\0\0\0\0", "PUBACK 0001 00"),
            (b"\xE0\x08\x81\x06\x1F\0\0\x1F\0\0", "DISCONNECT 81"),
        ] {
            assert!(!hears(bytes, Version::V5, &[answer]), "{bytes:02x?}");
        }
        assert!(!hears(b"\xE0\x01\x81", Version::V311, &["DISCONNECT 81"]));
        assert!(hears(b"\x40\x02\0\x01", Version::V311, &["PUBACK 0001 10"]));
    }
}
