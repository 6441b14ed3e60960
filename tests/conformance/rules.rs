//! The rules by which one entry stands for many cases.

use ringmq::mqtt::Version;
use toml::{Table, Value};

use crate::{
    book::{Book, Common, Particular, Sends},
    entry::{Entry, at},
    notation::{Change, Setting, Tweak, count_lengths, encode, variable},
};

fn malformed() -> Value {
    "error 81".into()
}

fn close() -> Value {
    "close".into()
}

/// A vector is one case in each version.
pub(crate) fn expand_vector(mut entry: Entry, book: &mut Book) -> Result<(), String> {
    let proof = entry.flag("proof")?;
    let common = Common::take(&mut entry)?;
    entry.finish()?;
    if !proof {
        return book.add_filled(&common, "", &[], &common.expect);
    }
    for &version in &common.versions {
        let number = book.next_number();
        let particular =
            Particular { name: "", version, number, sends: Sends::Proof, expect: &common.expect };
        book.add(&common, particular)?;
    }
    Ok(())
}

/// All values of one byte. Those that are not named have the one expectation of the `others`.
pub(crate) fn expand_byte(mut entry: Entry, book: &mut Book) -> Result<(), String> {
    let values = entry.table("values")?;
    let others = entry.value("others")?;
    let common = Common::take_without_expectation(&mut entry, others)?;
    entry.finish()?;
    for byte in 0..=u8::MAX {
        let expect = at(&values, usize::from(byte), 16)?.unwrap_or(&common.expect);
        book.add_filled(&common, &format!("{byte:02x}"), &[byte], expect)?;
    }
    Ok(())
}

/// A text in all forms that a UTF-8 Encoded String may have and may not have.
pub(crate) fn expand_text(mut entry: Entry, book: &mut Book) -> Result<(), String> {
    let is_topic = entry.flag("topic")?;
    let common = Common::take(&mut entry)?;
    entry.finish()?;
    let forms = std::mem::take(&mut book.forms);
    let added = forms.iter().try_for_each(|form| {
        let fits = form.valid && !(is_topic && form.disallowed);
        let expect = if fits { &common.expect } else { &malformed() };
        book.add_filled(&common, &format!("with {}", form.name), &form.bytes, expect)
    });
    book.forms = forms;
    added
}

/// One packet in every state of a connection.
pub(crate) fn expand_packet(mut entry: Entry, book: &mut Book) -> Result<(), String> {
    let expectations = [
        ("new", entry.value("new")?),
        ("connected", entry.value("connected")?),
        ("auth", entry.take("auth").unwrap_or(Value::Boolean(false))),
        // What follows a DISCONNECT is not for anyone. [MQTT-3.14.4-1]
        ("closed", close()),
    ];
    let common = Common::take_without_expectation(&mut entry, close())?;
    entry.finish()?;
    for (state, expect) in expectations {
        let versions = common.versions.iter().copied();
        // Only 5.0 has AUTH.
        let versions = versions.filter(|&version| state != "auth" || version == Version::V5);
        let common =
            Common { state: state.to_owned(), versions: versions.collect(), ..common.clone() };
        book.add_filled(&common, "", &[], &expect)?;
    }
    Ok(())
}

/// A full packet and what is wrong with it in single places: its flags, its length, the lengths
/// inside it, and how it arrives.
struct Example {
    common: Common,
    /// What the statements about its flags are.
    header_ids: Vec<String>,
    /// Flags that the packet may have besides its own, by hexadecimal digits.
    flags: Table,
    /// What becomes of it where it is cut to this many bytes behind the fixed header.
    shorter: Table,
    /// What becomes of it with one byte more.
    longer: Value,
    /// What becomes of it with a wrong length inside: `0+`, `0-` and `0^` are the first length
    /// one up, one down and the highest.
    lengths: Table,
}

pub(crate) fn expand_example(mut entry: Entry, book: &mut Book) -> Result<(), String> {
    let example = Example {
        header_ids: entry.texts("header_ids")?,
        flags: entry.table("flags")?,
        shorter: entry.table("shorter")?,
        longer: entry.take("longer").unwrap_or_else(malformed),
        lengths: entry.table("lengths")?,
        common: Common::take(&mut entry)?,
    };
    entry.finish()?;
    book.add_filled(&example.common, "in one piece", &[], &example.common.expect)?;
    for &version in &example.common.versions {
        example.add_flags(version, book)?;
        example.add_arrivals(version, book)?;
        example.add_shorter(version, book)?;
        example.add_longer(version, book)?;
        example.add_lengths(version, book)?;
    }
    Ok(())
}

impl Example {
    fn bytes(&self, version: Version, number: usize) -> Result<Vec<u8>, String> {
        encode(self.common.text(version)?, Setting::new(version, number))
    }

    /// What stands behind the fixed header.
    fn body(&self, version: Version, number: usize) -> Result<(u8, Vec<u8>), String> {
        let bytes = self.bytes(version, number)?;
        let header = 1 + bytes[1..].iter().take_while(|&&byte| byte >= 128).count() + 1;
        Ok((bytes[0], bytes[header..].to_vec()))
    }

    fn add(
        &self,
        book: &mut Book,
        version: Version,
        told: (&str, &Value),
        make: impl FnOnce(usize) -> Result<Sends, String>,
    ) -> Result<(), String> {
        let (name, expect) = told;
        let number = book.next_number();
        let particular = Particular { name, version, number, sends: make(number)?, expect };
        book.add(&self.common, particular)
    }

    fn add_flags(&self, version: Version, book: &mut Book) -> Result<(), String> {
        // Each packet's first section is on its fixed header.
        let packet: Vec<&str> = self.common.section.split('.').take(2).collect();
        let section = format!("{}.1", packet.join("."));
        let ids = [&self.common.ids[..], &self.header_ids].concat();
        let common = Common { section, ids, ..self.common.clone() };
        // Who does not know the version yet cannot say what is wrong.
        let wrong = if self.common.state == "new" { close() } else { malformed() };
        let own = self.bytes(version, 0)?[0] & 15;
        for flags in (0..16).filter(|&flags| flags != own) {
            let expect = at(&self.flags, usize::from(flags), 16)?.unwrap_or(&wrong);
            let name = format!("with the flags {flags:04b}");
            let number = book.next_number();
            let mut bytes = self.bytes(version, number)?;
            bytes[0] = bytes[0] & 0xF0 | flags;
            let particular =
                Particular { name: &name, version, number, sends: whole(bytes), expect };
            book.add(&common, particular)?;
        }
        Ok(())
    }

    /// Cut anywhere on its way: with the rest later it is the same packet, and without it is none.
    fn add_arrivals(&self, version: Version, book: &mut Book) -> Result<(), String> {
        for cut in 1..self.bytes(version, 0)?.len() {
            let name = format!("in two parts, the first of {cut}");
            self.add(book, version, (&name, &self.common.expect), |number| {
                let bytes = self.bytes(version, number)?;
                let parts = vec![bytes[..cut].to_vec(), bytes[cut..].to_vec()];
                Ok(Sends::Parts { parts, finish: false })
            })?;
            let name = format!("that ends after {cut}");
            self.add(book, version, (&name, &close()), |number| {
                let parts = vec![self.bytes(version, number)?[..cut].to_vec()];
                Ok(Sends::Parts { parts, finish: true })
            })?;
        }
        Ok(())
    }

    /// Cut with a Remaining Length that says so: mostly a field is missing then.
    fn add_shorter(&self, version: Version, book: &mut Book) -> Result<(), String> {
        for len in 0..self.body(version, 0)?.1.len() {
            let wrong = malformed();
            let expect = at(&self.shorter, len, 10)?.unwrap_or(&wrong);
            let name = format!("cut to a Remaining Length of {len}");
            self.add(book, version, (&name, expect), |number| {
                let (first, body) = self.body(version, number)?;
                Ok(whole([&[first], &variable(len)[..], &body[..len]].concat()))
            })?;
        }
        Ok(())
    }

    fn add_longer(&self, version: Version, book: &mut Book) -> Result<(), String> {
        self.add(book, version, ("with a byte too many", &self.longer), |number| {
            let (first, body) = self.body(version, number)?;
            Ok(whole([&[first], &variable(body.len() + 1)[..], &body, &[0]].concat()))
        })
    }

    fn add_lengths(&self, version: Version, book: &mut Book) -> Result<(), String> {
        let text = self.common.text(version)?;
        let fields = count_lengths(text, Setting::new(version, 0))?;
        let changes = [("+", Change::More), ("-", Change::Less), ("^", Change::Most)];
        for (field, (sign, change)) in
            (0..fields).flat_map(|field| changes.map(|change| (field, change)))
        {
            let tweak = Some(Tweak { field, change });
            let plain = Setting::new(version, 0);
            // An empty field cannot be told shorter.
            if encode(text, plain)? == encode(text, Setting { tweak, ..plain })? {
                continue;
            }
            let wrong = malformed();
            let expect = self.lengths.get(&format!("{field}{sign}")).unwrap_or(&wrong);
            let name = format!("with a wrong length {field}{sign}");
            self.add(book, version, (&name, expect), |number| {
                encode(text, Setting { tweak, ..Setting::new(version, number) }).map(whole)
            })?;
        }
        Ok(())
    }
}

fn whole(bytes: Vec<u8>) -> Sends {
    Sends::Parts { parts: vec![bytes], finish: false }
}
