//! One entry of a file of vectors: fields are taken out, and none may be left.

use std::ops::RangeInclusive;

use ringmq::mqtt::Version;
use toml::{Table, Value};

pub(crate) struct Entry {
    fields: Table,
}

impl Entry {
    pub(crate) fn new(fields: Table) -> Entry {
        Entry { fields }
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name)
    }

    pub(crate) fn value(&mut self, name: &str) -> Result<Value, String> {
        self.take(name).ok_or_else(|| format!("no `{name}`"))
    }

    pub(crate) fn text(&mut self, name: &str) -> Result<String, String> {
        match self.value(name)? {
            Value::String(text) => Ok(text),
            _ => Err(format!("`{name}` is no text")),
        }
    }

    /// A list of texts, which may be absent.
    pub(crate) fn texts(&mut self, name: &str) -> Result<Vec<String>, String> {
        let Some(value) = self.take(name) else { return Ok(Vec::new()) };
        let texts = value.as_array().and_then(|values| {
            values.iter().map(|value| value.as_str().map(str::to_owned)).collect()
        });
        texts.ok_or_else(|| format!("`{name}` is no list of texts"))
    }

    /// True if it is there and true.
    pub(crate) fn flag(&mut self, name: &str) -> Result<bool, String> {
        let value = self.take(name).unwrap_or(Value::Boolean(false));
        value.as_bool().ok_or_else(|| format!("`{name}` is neither true nor false"))
    }

    /// Other expectations for single cases, by their keys.
    pub(crate) fn table(&mut self, name: &str) -> Result<Table, String> {
        match self.take(name) {
            None => Ok(Table::new()),
            Some(Value::Table(table)) => Ok(table),
            Some(_) => Err(format!("`{name}` is no table")),
        }
    }

    pub(crate) fn finish(self) -> Result<(), String> {
        let left: Vec<&String> = self.fields.keys().collect();
        if left.is_empty() { Ok(()) } else { Err(format!("nobody knows {left:?}")) }
    }
}

/// What holds in this version: a value may be one for all, or a table by versions.
pub(crate) fn pick(value: &Value, version: Version) -> Result<&Value, String> {
    let Value::Table(table) = value else { return Ok(value) };
    let older = table.get("3").filter(|_| version < Version::V5);
    let found = table.get(version_name(version)).or(older);
    found.ok_or_else(|| format!("nothing for {}", version_name(version)))
}

pub(crate) fn version_name(version: Version) -> &'static str {
    match version {
        Version::V31 => "3.1",
        Version::V311 => "3.1.1",
        Version::V5 => "5.0",
    }
}

pub(crate) fn parse_version(name: &str) -> Result<Version, String> {
    let found = Version::ALL.into_iter().find(|version| version_name(*version) == name);
    found.ok_or_else(|| format!("no version {name}"))
}

/// The value under the key that names this number, in a table whose keys are like `0 4-7`.
pub(crate) fn at(table: &Table, number: usize, radix: u32) -> Result<Option<&Value>, String> {
    for (key, value) in table {
        for word in key.split(' ') {
            if range(word, radix)?.contains(&number) {
                return Ok(Some(value));
            }
        }
    }
    Ok(None)
}

fn range(word: &str, radix: u32) -> Result<RangeInclusive<usize>, String> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    let number = |text| usize::from_str_radix(text, radix).map_err(|_| format!("`{word}`?"));
    Ok(number(first)?..=number(last)?)
}
