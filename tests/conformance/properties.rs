//! Table 2-4 as the vectors' file has it, and what follows from it for each place.

use toml::Table;

use crate::{
    book::{Book, Common},
    entry::{Entry, pick},
    notation::{Setting, encode},
};
use ringmq::mqtt::Version;

/// One property.
#[derive(Debug)]
pub(crate) struct Property {
    id: u8,
    pub(crate) name: String,
    pub(crate) kind: Type,
    /// The packets that it belongs to.
    pub(crate) places: Vec<String>,
    /// Those of them in which it may stand more than once.
    pub(crate) repeats: Vec<String>,
    /// Identifier and a value that is right everywhere.
    bytes: Vec<u8>,
    /// Values that are wrong everywhere, each with what is expected.
    wrong: Table,
}

/// The type of a property's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Byte,
    TwoBytes,
    FourBytes,
    Variable,
    String,
    Binary,
    Pair,
}

pub(crate) fn find(known: &[Property], id: u8) -> Option<&Property> {
    known.iter().find(|property| property.id == id)
}

impl Property {
    pub(crate) fn parse(entry: &mut Entry) -> Result<Property, String> {
        let plain = Setting::new(Version::V5, 0);
        let id = encode(&entry.text("id")?, plain)?;
        let [id] = id[..] else { return Err("an identifier is one byte".to_owned()) };
        let kind = match &*entry.text("type")? {
            "byte" => Type::Byte,
            "two bytes" => Type::TwoBytes,
            "four bytes" => Type::FourBytes,
            "variable" => Type::Variable,
            "string" => Type::String,
            "binary" => Type::Binary,
            "pair" => Type::Pair,
            other => return Err(format!("no type `{other}`")),
        };
        Ok(Property {
            id,
            name: entry.text("name")?,
            kind,
            places: entry.texts("places")?,
            repeats: entry.texts("repeats")?,
            bytes: [vec![id], encode(&entry.text("value")?, plain)?].concat(),
            wrong: entry.table("wrong")?,
        })
    }

    fn belongs_to(&self, place: &str) -> bool {
        self.places.iter().any(|name| name == place)
    }

    /// Forms that the type does not have: its last byte is missing, or its text is not UTF-8.
    fn broken(&self) -> Vec<(String, Vec<u8>)> {
        let mut forms = vec![("cut short".to_owned(), self.bytes[..self.bytes.len() - 1].to_vec())];
        let texts: &[&str] = match self.kind {
            Type::String => &["{@}"],
            Type::Pair => &["{@} \"\"", "\"\" {@}"],
            _ => &[],
        };
        let bad: [(&str, &[u8]); 3] =
            [("U+0000", &[0]), ("U+D800", &[0xED, 0xA0, 0x80]), ("a lone 80", &[0x80])];
        for (place, text) in texts.iter().enumerate() {
            for (name, hole) in bad {
                let setting = Setting { hole, ..Setting::new(Version::V5, 0) };
                let value = encode(text, setting).expect("a string of a few bytes");
                forms.push((format!("with {name} in {place}"), [vec![self.id], value].concat()));
            }
        }
        forms
    }
}

/// Every property in one place: where it does not belong, once, twice, and with wrong values;
/// and every identifier that no property has.
pub(crate) fn expand(mut entry: Entry, book: &mut Book) -> Result<(), String> {
    let place = entry.text("place")?;
    let instead = entry.table("instead")?;
    let common = Common::take(&mut entry)?;
    entry.finish()?;
    let known = std::mem::take(&mut book.properties);
    let added = expand_known(&place, &instead, &common, &known, book)
        .and_then(|()| expand_unknown(&common, &known, book));
    book.properties = known;
    added
}

fn expand_known(
    place: &str,
    instead: &Table,
    common: &Common,
    known: &[Property],
    book: &mut Book,
) -> Result<(), String> {
    let malformed = "error 81".into();
    let twice = "error 82".into();
    for property in known {
        let Property { name, bytes, .. } = property;
        if !property.belongs_to(place) {
            book.add_filled(common, &format!("with {name}"), bytes, &malformed)?;
            continue;
        }
        let once = instead.get(name).unwrap_or(&common.expect);
        book.add_filled(common, &format!("with {name}"), bytes, once)?;
        let may_repeat = property.repeats.iter().any(|name| name == place);
        let again = if may_repeat { once } else { &twice };
        let both = bytes.repeat(2);
        book.add_filled(common, &format!("with {name} twice"), &both, again)?;
        for (form, bytes) in property.broken() {
            book.add_filled(common, &format!("with {name} {form}"), &bytes, &malformed)?;
        }
        for (value, expect) in &property.wrong {
            let value_bytes = encode(value, Setting::new(Version::V5, 0))?;
            let bytes = [&[property.id], &value_bytes[..]].concat();
            book.add_filled(common, &format!("with {name} = {value}"), &bytes, expect)?;
        }
    }
    Ok(())
}

fn expand_unknown(common: &Common, known: &[Property], book: &mut Book) -> Result<(), String> {
    let malformed = "error 81".into();
    for id in (0..128).filter(|&id| find(known, id).is_none()) {
        let name = format!("with the unknown identifier {id:02x}");
        book.add_filled(common, &name, &[id, 0], &malformed)?;
    }
    for (name, bytes) in [
        ("with an identifier of two bytes", &[0x80, 0x01, 0][..]),
        ("with an identifier in a form that is too long", &[0xA6, 0x00, 0, 0, 0, 0]),
        ("with an identifier that does not end", &[0xA6]),
    ] {
        book.add_filled(common, name, bytes, &malformed)?;
    }
    pick(&common.expect, Version::V5).map(|_| ())
}
