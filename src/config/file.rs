//! The configuration file: TOML to values of flags. Knows which keys there are, and nothing about
//! their values.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    keys::{Key, Takes, nearest},
    listener::LISTENER,
};

/// The values of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its place in the list of keys.
    pub(super) key: usize,
    pub(super) values: Vec<String>,
    pub(super) line: usize,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFault {
    /// Counted from one.
    pub line: usize,
    pub problem: String,
}

/// What a file has.
#[derive(Debug, Default)]
pub(super) struct Entries {
    /// Those of tables, in the order of their lines.
    pub(super) keys: Vec<Entry>,
    pub(super) listeners: Vec<ListenerTable>,
}

/// One `[[listener]]`.
#[derive(Debug)]
pub(super) struct ListenerTable {
    pub(super) line: usize,
    /// Their places are those in the list of the keys of listeners.
    pub(super) keys: Vec<Entry>,
}

/// Reads all keys, or says all that is wrong with the file. `listener_keys` are those of a
/// `[[listener]]`.
pub(super) fn parse(
    text: &str,
    keys: &[Key],
    listener_keys: &[Key],
) -> Result<Entries, Vec<FileFault>> {
    let root = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(text, &span));
        vec![FileFault { line, problem: error.message().to_owned() }]
    })?;
    let mut reader = Reader { text, keys, entries: Vec::new(), faults: Vec::new() };
    let mut listeners = Vec::new();
    for (name, value) in root.get_ref() {
        if name.get_ref() == LISTENER {
            let (tables, faults) = read_listeners(text, listener_keys, name, value);
            listeners = tables;
            reader.faults.extend(faults);
        } else {
            reader.read_section(name, value);
        }
    }
    reader.entries.sort_by_key(|entry| entry.line);
    reader.faults.sort_by_key(|fault| fault.line);
    let entries = Entries { keys: reader.entries, listeners };
    if reader.faults.is_empty() { Ok(entries) } else { Err(reader.faults) }
}

fn read_listeners(
    text: &str,
    keys: &[Key],
    name: &Word<'_>,
    value: &Value<'_>,
) -> (Vec<ListenerTable>, Vec<FileFault>) {
    let mut reader = Reader { text, keys, entries: Vec::new(), faults: Vec::new() };
    let mut tables = Vec::new();
    let DeValue::Array(array) = value.get_ref() else {
        reader.refuse(&name.span(), "`listener` is an array of tables: write [[listener]]".into());
        return (tables, reader.faults);
    };
    for table in array {
        let DeValue::Table(pairs) = table.get_ref() else {
            reader.refuse(&table.span(), "a listener is a table: write [[listener]]".into());
            continue;
        };
        for (name, value) in pairs {
            reader.read_key(LISTENER, name, value);
        }
        let keys = std::mem::take(&mut reader.entries);
        tables.push(ListenerTable { line: line_of(text, &table.span()), keys });
    }
    (tables, reader.faults)
}

struct Reader<'a> {
    text: &'a str,
    keys: &'a [Key],
    entries: Vec<Entry>,
    faults: Vec<FileFault>,
}

impl Reader<'_> {
    fn read_section(&mut self, name: &Word<'_>, value: &Value<'_>) {
        let section = name.get_ref().as_ref();
        let is_known = self.keys.iter().any(|key| key.section == section);
        match value.get_ref() {
            DeValue::Table(table) if is_known => {
                for (name, value) in table {
                    self.read_key(section, name, value);
                }
            }
            _ if is_known => {
                self.refuse(&name.span(), format!("`{section}` is a table: write [{section}]"));
            }
            _ => self.refuse(&name.span(), self.unknown_section(section)),
        }
    }

    fn read_key(&mut self, section: &str, name: &Word<'_>, value: &Value<'_>) {
        let word = name.get_ref().as_ref();
        let is_it = |key: &Key| key.flag == word && key.section == section;
        let Some(key) = self.keys.iter().position(is_it) else {
            return self.refuse(&name.span(), self.unknown_key(section, word));
        };
        match values(value.get_ref(), self.keys[key].takes) {
            Ok(values) => {
                self.entries.push(Entry { key, values, line: line_of(self.text, &name.span()) });
            }
            Err(problem) => self.refuse(&name.span(), format!("`{word}` {problem}")),
        }
    }

    fn unknown_section(&self, section: &str) -> String {
        if let Some(key) = self.keys.iter().find(|key| key.flag == section) {
            return format!("the key `{section}` belongs into [{}]", key.section);
        }
        let sections = self.keys.iter().map(|key| key.section.as_str()).chain([LISTENER]);
        let known = nearest(section, sections).map(|near| format!("[{near}]"));
        let key = || nearest(section, self.flags()).map(|near| format!("`{near}`"));
        with_hint(format!("unknown table [{section}]"), known.or_else(key).as_deref())
    }

    fn unknown_key(&self, section: &str, word: &str) -> String {
        if let Some(key) = self.keys.iter().find(|key| key.flag == word) {
            return format!("the key `{word}` belongs into [{}], not [{section}]", key.section);
        }
        let near = nearest(word, self.flags());
        let near = near.and_then(|near| self.keys.iter().find(|key| key.flag == near));
        let near = near.map(|key| format!("`{}` in [{}]", key.flag, key.section));
        with_hint(format!("unknown key `{word}` in [{section}]"), near.as_deref())
    }

    fn flags(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| key.flag.as_str())
    }

    fn refuse(&mut self, span: &Range<usize>, problem: String) {
        self.faults.push(FileFault { line: line_of(self.text, span), problem });
    }
}

type Word<'i> = Spanned<std::borrow::Cow<'i, str>>;
type Value<'i> = Spanned<DeValue<'i>>;

fn with_hint(problem: String, near: Option<&str>) -> String {
    match near {
        Some(near) => format!("{problem}: did you mean {near}?"),
        None => problem,
    }
}

/// The values as a command line would have them.
fn values(value: &DeValue<'_>, takes: Takes) -> Result<Vec<String>, &'static str> {
    match (value, takes) {
        (DeValue::Boolean(on), Takes::Switch) => Ok(vec![on.to_string()]),
        (_, Takes::Switch) => Err("is true or false"),
        (DeValue::Array(array), Takes::Values) => {
            array.iter().map(|value| one_value(value.get_ref())).collect()
        }
        (value, _) => one_value(value).map(|value| vec![value]),
    }
}

fn one_value(value: &DeValue<'_>) -> Result<String, &'static str> {
    match value {
        DeValue::String(text) if text.contains('\0') => Err("contains a zero byte"),
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().to_owned()),
        DeValue::Array(_) => Err("takes one value, not an array"),
        _ => Err("takes a string or a decimal number"),
    }
}

/// The line of a place in the text, counted from one.
fn line_of(text: &str, span: &Range<usize>) -> usize {
    1 + text.bytes().take(span.start).filter(|&byte| byte == b'\n').count()
}
