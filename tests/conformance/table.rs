//! How many statements, tests and vectors there are for each section of the specifications.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use ringmq::mqtt::Version;
use toml::{Table, Value};

use crate::book::Book;

/// One table for each specification: all sections, or chapters and packets only.
pub(crate) fn lines(book: &Book, in_short: bool) -> Vec<String> {
    let v5 = Edition { ledger: "docs/spec/mqtt5.toml", version: Version::V5 };
    let v311 = Edition { ledger: "docs/spec/mqtt311.toml", version: Version::V311 };
    let mut lines = v5.lines(book, in_short);
    lines.push(String::new());
    lines.extend(v311.lines(book, in_short));
    lines
}

/// One specification.
struct Edition {
    ledger: &'static str,
    version: Version,
}

#[derive(Default)]
struct Counts {
    statements: usize,
    tests: BTreeSet<String>,
    vectors: usize,
    /// Vectors of 3.1, which has no ledger.
    oldest: usize,
}

impl Edition {
    fn lines(&self, book: &Book, in_short: bool) -> Vec<String> {
        let sections = self.count(book, if in_short { 2 } else { usize::MAX });
        let mut all = Counts::default();
        for counts in sections.values() {
            all.statements += counts.statements;
            all.tests.extend(counts.tests.iter().cloned());
            all.vectors += counts.vectors;
            all.oldest += counts.oldest;
        }
        let v5 = self.version == Version::V5;
        let (name, oldest) = if v5 { ("5.0", "") } else { ("3.1.1", " vectors of 3.1 |") };
        let rule = if v5 { "|---|---|---|---|" } else { "|---|---|---|---|---|" };
        let head = format!("| section of {name} | statements | tests | vectors |{oldest}");
        let body = sections.iter().map(|(section, counts)| {
            let section: Vec<String> = section.iter().map(u32::to_string).collect();
            self.line(&section.join("."), counts)
        });
        [head, rule.to_owned()].into_iter().chain(body).chain([self.line("all", &all)]).collect()
    }

    fn line(&self, section: &str, counts: &Counts) -> String {
        let Counts { statements, tests, vectors, oldest } = counts;
        let line = format!("| {section} | {statements} | {} | {vectors} |", tests.len());
        if self.version == Version::V5 { line } else { format!("{line} {oldest} |") }
    }

    /// By sections, of which only so many numbers are looked at.
    fn count(&self, book: &Book, depth: usize) -> BTreeMap<Vec<u32>, Counts> {
        let mut sections: BTreeMap<Vec<u32>, Counts> = BTreeMap::new();
        for case in &book.cases {
            let same = (case.version == Version::V5) == (self.version == Version::V5);
            if !same {
                continue;
            }
            let counts = sections.entry(numbers(self.section(&case.section), depth)).or_default();
            let oldest = case.version == Version::V31;
            *(if oldest { &mut counts.oldest } else { &mut counts.vectors }) += 1;
        }
        for (id, tests) in self.statements() {
            let (section, _) = id.trim_start_matches("MQTT-").rsplit_once('-').unwrap_or_default();
            let section = section.trim_end_matches(".0");
            let counts = sections.entry(numbers(section, depth)).or_default();
            counts.statements += 1;
            counts.tests.extend(tests);
        }
        sections
    }

    /// The section in this specification: the vectors' are those of 5.0.
    fn section<'a>(&self, section: &'a str) -> &'a str {
        let moved = MOVED.iter().find(|(v5, _)| *v5 == section && self.version < Version::V5);
        moved.map_or(section, |(_, older)| *older)
    }

    /// The statements of the ledger, each with the tests that show it.
    fn statements(&self) -> impl Iterator<Item = (String, Vec<String>)> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(self.ledger);
        let text = fs::read_to_string(path).expect("the ledger is readable UTF-8");
        let entries: Table = text.parse().expect("the ledger is TOML");
        entries.into_iter().map(|(id, entry)| (id, tests_of(&entry)))
    }
}

fn tests_of(entry: &Value) -> Vec<String> {
    match entry.get("test") {
        Some(Value::String(test)) => vec![test.clone()],
        Some(Value::Array(tests)) => {
            tests.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

fn numbers(section: &str, depth: usize) -> Vec<u32> {
    section.split('.').take(depth).filter_map(|part| part.parse().ok()).collect()
}

/// Sections of 5.0 that have other numbers in 3.1.1.
const MOVED: [(&str, &str); 6] = [
    ("1.5.4", "1.5.3"),
    ("2.1.3", "2.2.2"),
    ("2.1.4", "2.2.3"),
    ("2.2", "2.2.1"),
    ("2.2.1", "2.3.1"),
    ("3.8.2", "3.8.3"),
];
