//! The names in a certificate of a client: common name, subject, alternative name.

use std::fmt::Write;

use super::der::{Element, Elements, Parts};

/// Which name in the certificate of a client is its user name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserFrom {
    /// The first common name of the subject.
    CommonName,
    /// The whole subject, as RFC 2253 writes it.
    Subject,
    /// The first DNS name, else the first e-mail address, else the first URI of subjectAltName.
    AlternativeName,
}

/// The user name; `None` if the certificate has no such name, or one that no User Name may be.
pub(super) fn user_name(certificate: &[u8], from: UserFrom) -> Option<Box<str>> {
    let Parts { subject, alternative_names, .. } = Parts::of(certificate)?;
    let name = match from {
        UserFrom::CommonName => common_name(subject)?,
        UserFrom::Subject => subject_text(subject)?,
        UserFrom::AlternativeName => alternative_name(&alternative_names)?,
    };
    let is_valid = !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.contains('\0');
    is_valid.then(|| name.into())
}

fn common_name(subject: Elements<'_>) -> Option<String> {
    let attribute = subject
        .flat_map(|set| Elements(set.content))
        .filter_map(Attribute::of)
        .find(|attribute| attribute.kind == COMMON_NAME)?;
    text_of(attribute.value)
}

fn alternative_name(names: &Elements<'_>) -> Option<String> {
    let of_kind = |tag| names.clone().find(|name| name.tag == tag);
    let name = ALTERNATIVES.iter().find_map(|&tag| of_kind(tag))?;
    let text = str::from_utf8(name.content).ok()?;
    text.is_ascii().then(|| text.to_owned())
}

/// The subject as `openssl x509 -subject -nameopt RFC2253` prints it, and as mosquitto takes it.
fn subject_text(subject: Elements<'_>) -> Option<String> {
    let mut sets: Vec<Element<'_>> = subject.collect();
    sets.reverse();
    let mut text = String::new();
    for set in sets {
        let mut attributes: Vec<_> = Elements(set.content).collect();
        attributes.reverse();
        for (place, element) in attributes.into_iter().enumerate() {
            if !text.is_empty() {
                text.push(if place == 0 { ',' } else { '+' });
            }
            write_attribute(Attribute::of(element)?, &mut text)?;
        }
    }
    Some(text)
}

/// One part of a distinguished name.
#[derive(Clone, Copy)]
struct Attribute<'a> {
    /// Its object identifier in DER, without tag and length.
    kind: &'a [u8],
    value: Element<'a>,
}

impl<'a> Attribute<'a> {
    fn of(element: Element<'a>) -> Option<Attribute<'a>> {
        let mut fields = Elements(element.content);
        Some(Attribute { kind: fields.next()?.content, value: fields.next()? })
    }
}

fn write_attribute(attribute: Attribute<'_>, text: &mut String) -> Option<()> {
    let known = SHORT_NAMES.iter().find(|(kind, _)| *kind == attribute.kind);
    match (known, text_of(attribute.value)) {
        (Some((_, name)), Some(value)) => {
            text.push_str(name);
            text.push('=');
            escape(&value, text);
        }
        (known, _) => {
            match known {
                Some((_, name)) => text.push_str(name),
                None => write_identifier(attribute.kind, text)?,
            }
            text.push_str("=#");
            for byte in attribute.value.whole {
                write!(text, "{byte:02X}").ok()?;
            }
        }
    }
    Some(())
}

/// Appends an object identifier as numbers with dots.
fn write_identifier(kind: &[u8], text: &mut String) -> Option<()> {
    let mut number = 0_u64;
    let mut is_first = true;
    for &byte in kind {
        number = number.checked_mul(128)? | u64::from(byte & 0x7F);
        if byte & 0x80 != 0 {
            continue;
        }
        if is_first {
            let top = (number / 40).min(2);
            write!(text, "{top}.{}", number - top * 40).ok()?;
        } else {
            write!(text, ".{number}").ok()?;
        }
        (number, is_first) = (0, false);
    }
    Some(())
}

/// Appends the value of an attribute with the escapes of RFC 2253. Bytes that are not printable
/// ASCII are written in hexadecimal.
fn escape(value: &str, text: &mut String) {
    let last = value.len().saturating_sub(1);
    for (place, byte) in value.bytes().enumerate() {
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => text.push('\\'),
            b'#' | b' ' if place == 0 => text.push('\\'),
            b' ' if place == last => text.push('\\'),
            0x20..=0x7E => {}
            _ => {
                // Writing to a string does not fail.
                let _ = write!(text, "\\{byte:02X}");
                continue;
            }
        }
        text.push(char::from(byte));
    }
}

/// A string of a certificate; `None` if it is no string, or not a valid one.
fn text_of(value: Element<'_>) -> Option<String> {
    let content = value.content;
    match value.tag {
        UTF8_STRING | NUMERIC_STRING | PRINTABLE_STRING | IA5_STRING | VISIBLE_STRING => {
            Some(str::from_utf8(content).ok()?.to_owned())
        }
        T61_STRING => Some(content.iter().map(|&byte| char::from(byte)).collect()),
        BMP_STRING => {
            let (pairs, rest) = content.as_chunks::<2>();
            let units = pairs.iter().map(|&pair| u16::from_be_bytes(pair));
            rest.is_empty().then(|| char::decode_utf16(units).collect::<Result<_, _>>().ok())?
        }
        UNIVERSAL_STRING => {
            let (quads, rest) = content.as_chunks::<4>();
            let characters = quads.iter().map(|&quad| char::from_u32(u32::from_be_bytes(quad)));
            rest.is_empty().then(|| characters.collect())?
        }
        _ => None,
    }
}

const UTF8_STRING: u8 = 12;
const NUMERIC_STRING: u8 = 18;
const PRINTABLE_STRING: u8 = 19;
const T61_STRING: u8 = 20;
const IA5_STRING: u8 = 22;
const VISIBLE_STRING: u8 = 26;
const UNIVERSAL_STRING: u8 = 28;
const BMP_STRING: u8 = 30;

/// The tags of a DNS name, an e-mail address and a URI among General Names.
const ALTERNATIVES: [u8; 3] = [0x82, 0x81, 0x86];

/// Bytes of a User Name, at most. [MQTT-1.5.4-1]
const NAME_BYTES_MAX: usize = 65_535;

const COMMON_NAME: &[u8] = &[0x55, 4, 3];

/// The names by which OpenSSL writes the kinds of attributes.
const SHORT_NAMES: &[(&[u8], &str)] = &[
    (COMMON_NAME, "CN"),
    (&[0x55, 4, 4], "SN"),
    (&[0x55, 4, 5], "serialNumber"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "street"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 12], "title"),
    (&[0x55, 4, 13], "description"),
    (&[0x55, 4, 15], "businessCategory"),
    (&[0x55, 4, 16], "postalAddress"),
    (&[0x55, 4, 17], "postalCode"),
    (&[0x55, 4, 20], "telephoneNumber"),
    (&[0x55, 4, 41], "name"),
    (&[0x55, 4, 42], "GN"),
    (&[0x55, 4, 43], "initials"),
    (&[0x55, 4, 44], "generationQualifier"),
    (&[0x55, 4, 46], "dnQualifier"),
    (&[0x55, 4, 65], "pseudonym"),
    (&[0x55, 4, 97], "organizationIdentifier"),
    (&[9, 0x92, 0x26, 0x89, 0x93, 0xF2, 0x2C, 0x64, 1, 1], "UID"),
    (&[9, 0x92, 0x26, 0x89, 0x93, 0xF2, 0x2C, 0x64, 1, 25], "DC"),
    (&[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 9, 1], "emailAddress"),
    (&[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 9, 2], "unstructuredName"),
];
