//! What a certificate says about its owner, read from DER.
//!
//! Trusts nobody: an element that does not fit into what is there ends the reading.

/// One element of DER.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
    /// The element with its tag and its length.
    pub(super) whole: &'a [u8],
}

/// The elements one after the other. It ends at the first one that is incomplete.
#[derive(Clone, Debug)]
pub(super) struct Elements<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        let &[tag, first, ref rest @ ..] = self.0 else { return None };
        let digits = usize::from(first & 0x7F);
        let (length, head) = match first {
            0..=0x7F => (usize::from(first), 2),
            0x81..=0x84 => (number(rest.get(..digits)?), 2 + digits),
            _ => return None,
        };
        let (whole, rest) = self.0.split_at_checked(head.checked_add(length)?)?;
        self.0 = rest;
        Some(Element { tag, content: &whole[head..], whole })
    }
}

/// A big-endian number of at most four bytes.
fn number(digits: &[u8]) -> usize {
    digits.iter().fold(0, |number, &digit| number << 8 | usize::from(digit))
}

/// The parts of a certificate that say who its owner is.
#[derive(Clone, Debug)]
pub(super) struct Parts<'a> {
    /// The Relative Distinguished Names of the subject.
    pub(super) subject: Elements<'a>,
    /// The General Names of its subjectAltName; none if it has no such extension.
    pub(super) alternative_names: Elements<'a>,
    /// When its time ends.
    not_after: Element<'a>,
}

impl<'a> Parts<'a> {
    pub(super) fn of(certificate: &'a [u8]) -> Option<Parts<'a>> {
        let mut signed = Elements(Elements(certificate).next()?.content);
        let mut fields = Elements(signed.next()?.content);
        if Elements(fields.0).next()?.tag == VERSION {
            fields.next();
        }
        let [_serial, _algorithm, _issuer, validity, subject, _key] =
            [(); 6].map(|()| fields.next());
        let extensions = fields.find(|field| field.tag == EXTENSIONS);
        Some(Parts {
            subject: Elements(subject?.content),
            alternative_names: extensions.and_then(alternative_names).unwrap_or(Elements(&[])),
            not_after: Elements(validity?.content).nth(1)?,
        })
    }
}

impl Parts<'_> {
    /// When the certificate expires, in seconds since the epoch of Unix; `None` if that cannot be
    /// read.
    pub(super) fn expires_at(&self) -> Option<u64> {
        let text = str::from_utf8(self.not_after.content).ok()?;
        let (year, rest) = match self.not_after.tag {
            // Two digits, of the years 1950 to 2049.
            UTC_TIME => text.split_at_checked(2)?,
            _ => text.split_at_checked(4)?,
        };
        let year: u64 = year.parse().ok()?;
        let year = if self.not_after.tag == UTC_TIME { (year + 50) % 100 + 1950 } else { year };
        let field = |place: usize| rest.get(2 * place..2 * place + 2)?.parse::<u64>().ok();
        let (month, day) = (field(0)?, field(1)?);
        let seconds = field(2)? * 3_600 + field(3)? * 60 + field(4)?;
        Some(days(year, month, day)? * 86_400 + seconds)
    }
}

/// The days from 1970 to this one.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    // Years that begin in March have their leap day at their end.
    let (year, month) =
        if month < 3 { (year.checked_sub(1)?, month + 9) } else { (year, month - 3) };
    let leaps = year / 4 - year / 100 + year / 400;
    (year * 365 + leaps + (month * 153 + 2) / 5 + day).checked_sub(719_469)
}

fn alternative_names(extensions: Element<'_>) -> Option<Elements<'_>> {
    let list = Elements(extensions.content).next()?;
    let of_name = |extension: &Element<'_>| {
        Elements(extension.content).next().is_some_and(|id| id.content == ALTERNATIVE_NAME)
    };
    let extension = Elements(list.content).find(of_name)?;
    // The identifier, a flag that may be absent, and the value in an octet string.
    let value = Elements(extension.content).last()?;
    Some(Elements(Elements(value.content).next()?.content))
}

const UTC_TIME: u8 = 23;
const VERSION: u8 = 0xA0;
const EXTENSIONS: u8 = 0xA3;
/// The object identifier 2.5.29.17.
const ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1D, 0x11];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_expiry_is_read_in_both_forms() {
        for (tag, text, expected) in [
            (UTC_TIME, "700101000000Z", Some(0)),
            (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
            (UTC_TIME, "000229120000Z", Some(951_825_600)),
            (24, "21261105013659Z", Some(4_949_516_219)),
            (24, "2126", None),
            (24, "rubbish", None),
        ] {
            let not_after = Element { tag, content: text.as_bytes(), whole: &[] };
            let none = || Elements(&[]);
            let parts = Parts { subject: none(), alternative_names: none(), not_after };
            assert_eq!(parts.expires_at(), expected, "{text}");
        }
    }

    #[test]
    fn an_element_that_does_not_fit_ends_the_reading() {
        for bytes in [&[0x30][..], &[0x30, 5, 1], &[0x30, 0x80], &[0x30, 0x84, 255, 255, 255, 255]]
        {
            assert!(Elements(bytes).next().is_none(), "{bytes:?}");
        }
        let long = [&[0x30, 0x82, 1, 0][..], &[7; 256]].concat();
        assert_eq!(Elements(&long).next().map(|it| it.content.len()), Some(256));
    }
}
