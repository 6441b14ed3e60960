//! All vectors, read from their files and expanded to single cases.

use std::{collections::BTreeMap, fs, path::Path};

use ringmq::mqtt::Version;
use toml::{Table, Value};

use crate::{
    entry::{Entry, parse_version, pick, version_name},
    hearing::Answer,
    notation::{Setting, encode},
    properties::{self, Property},
    rules,
};

/// One thing that a client sends, in one state of its connection, and what it is answered.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// The section of the specification.
    pub(crate) section: String,
    pub(crate) ids: Vec<String>,
    pub(crate) version: Version,
    pub(crate) state: String,
    pub(crate) sends: Sends,
    pub(crate) expect: Expectation,
    /// Its subscriptions would get what other cases publish.
    pub(crate) alone: bool,
    /// Different for each case.
    pub(crate) number: usize,
}

#[derive(Debug)]
pub(crate) enum Sends {
    /// One part after the other, and the end of the stream where it is to be seen.
    Parts { parts: Vec<Vec<u8>>, finish: bool },
    /// The AUTH packet that proves who the client is.
    Proof,
}

#[derive(Clone, Debug)]
pub(crate) struct Expectation {
    pub(crate) answers: Vec<Answer>,
    /// The broker closes the connection; if not, it lives on.
    pub(crate) closes: bool,
    /// The version that the broker answers in.
    pub(crate) version: Version,
}

/// How a connection comes to a state.
#[derive(Debug)]
pub(crate) struct State {
    name: String,
    pub(crate) send: Option<String>,
    pub(crate) answer: Option<String>,
    /// Sent together with the case.
    pub(crate) before: Option<String>,
    /// It needs a broker with a SCRAM file.
    pub(crate) scram: bool,
}

/// A text that is or is not well-formed UTF-8.
pub(crate) struct Form {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) valid: bool,
    /// Whether no topic may have it, though other texts may.
    pub(crate) disallowed: bool,
}

#[derive(Default)]
pub(crate) struct Book {
    pub(crate) cases: Vec<Case>,
    pub(crate) properties: Vec<Property>,
    pub(crate) states: Vec<State>,
    pub(crate) forms: Vec<Form>,
    numbers: usize,
}

/// What all entries have that send something.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) name: String,
    pub(crate) section: String,
    pub(crate) ids: Vec<String>,
    pub(crate) versions: Vec<Version>,
    pub(crate) state: String,
    pub(crate) alone: bool,
    pub(crate) send: Value,
    pub(crate) expect: Value,
}

impl Common {
    pub(crate) fn take(entry: &mut Entry) -> Result<Common, String> {
        let expect = entry.value("expect")?;
        Common::take_without_expectation(entry, expect)
    }

    pub(crate) fn take_without_expectation(
        entry: &mut Entry,
        expect: Value,
    ) -> Result<Common, String> {
        let versions = entry.texts("versions")?;
        let state = entry.take("state").unwrap_or_else(|| "connected".into());
        Ok(Common {
            name: entry.text("name")?,
            section: entry.text("section")?,
            ids: entry.texts("ids")?,
            versions: if versions.is_empty() {
                Version::ALL.to_vec()
            } else {
                versions.iter().map(|name| parse_version(name)).collect::<Result<_, _>>()?
            },
            state: state.as_str().ok_or("`state` is no text")?.to_owned(),
            alone: entry.flag("alone")?,
            send: entry.value("send")?,
            expect,
        })
    }

    /// What is sent in this version, in the notation.
    pub(crate) fn text(&self, version: Version) -> Result<&str, String> {
        pick(&self.send, version)?.as_str().ok_or_else(|| "`send` is no text".to_owned())
    }
}

/// What one case adds to what its entry says.
pub(crate) struct Particular<'a> {
    pub(crate) name: &'a str,
    pub(crate) version: Version,
    pub(crate) number: usize,
    pub(crate) sends: Sends,
    pub(crate) expect: &'a Value,
}

impl Book {
    /// Reads all files.
    pub(crate) fn open() -> Result<Book, String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/vectors");
        let mut kinds: BTreeMap<String, Vec<(String, Table)>> = BTreeMap::new();
        for file in fs::read_dir(folder).map_err(|error| error.to_string())? {
            let path = file.map_err(|error| error.to_string())?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).map_err(|error| format!("{name}: {error}"))?;
            let file: Table = text.parse().map_err(|error| format!("{name}: {error}"))?;
            for (kind, entries) in file {
                let Value::Array(entries) = entries else { return Err(format!("{name}: {kind}")) };
                let tables = entries.into_iter().filter_map(|entry| match entry {
                    Value::Table(table) => Some((name.clone(), table)),
                    _ => None,
                });
                kinds.entry(kind).or_default().extend(tables);
            }
        }
        let mut book = Book::default();
        // What others are made of comes first.
        for kind in
            ["state", "property", "form", "vector", "example", "byte", "text", "place", "packet"]
        {
            for (file, table) in kinds.remove(kind).unwrap_or_default() {
                let name = table.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
                book.read(kind, Entry::new(table))
                    .map_err(|error| format!("{file}: {kind} {name}: {error}"))?;
            }
        }
        if kinds.is_empty() { Ok(book) } else { Err(format!("unknown: {:?}", kinds.keys())) }
    }

    fn read(&mut self, kind: &str, mut entry: Entry) -> Result<(), String> {
        match kind {
            "state" => self.states.push(State::take(&mut entry)?),
            "property" => self.properties.push(Property::parse(&mut entry)?),
            "form" => self.forms.push(Form::take(&mut entry)?),
            "vector" => return rules::expand_vector(entry, self),
            "example" => return rules::expand_example(entry, self),
            "byte" => return rules::expand_byte(entry, self),
            "text" => return rules::expand_text(entry, self),
            "place" => return properties::expand(entry, self),
            _ => return rules::expand_packet(entry, self),
        }
        entry.finish()
    }

    pub(crate) fn state(&self, name: &str) -> Result<&State, String> {
        let found = self.states.iter().find(|state| state.name == name);
        found.ok_or_else(|| format!("no state {name}"))
    }

    pub(crate) fn next_number(&mut self) -> usize {
        self.numbers += 1;
        self.numbers
    }

    /// Adds a case to each version of its entry, with these bytes in the hole.
    pub(crate) fn add_filled(
        &mut self,
        common: &Common,
        name: &str,
        hole: &[u8],
        expect: &Value,
    ) -> Result<(), String> {
        for &version in &common.versions {
            let number = self.next_number();
            let setting = Setting { hole, ..Setting::new(version, number) };
            let bytes = encode(common.text(version)?, setting)?;
            let sends = Sends::Parts { parts: vec![bytes], finish: false };
            self.add(common, Particular { name, version, number, sends, expect })?;
        }
        Ok(())
    }

    pub(crate) fn add(&mut self, common: &Common, case: Particular<'_>) -> Result<(), String> {
        let Particular { name, version, number, sends, expect } = case;
        self.state(&common.state)?;
        let told = format!("{} {name}", common.name);
        let expect = Expectation::parse(expect, version, &common.state)
            .map_err(|error| format!("{told}: {error}"))?;
        self.cases.push(Case {
            name: format!("{} {} [{}]", version_name(version), told.trim_end(), common.state),
            section: common.section.clone(),
            ids: common.ids.clone(),
            version,
            state: common.state.clone(),
            sends,
            expect,
            alone: common.alone,
            number,
        });
        Ok(())
    }
}

impl State {
    fn take(entry: &mut Entry) -> Result<State, String> {
        let mut text = |name| entry.take(name).and_then(|it| it.as_str().map(str::to_owned));
        let (send, answer, before) = (text("send"), text("answer"), text("before"));
        Ok(State { name: entry.text("name")?, send, answer, before, scram: entry.flag("scram")? })
    }
}

impl Form {
    fn take(entry: &mut Entry) -> Result<Form, String> {
        let bytes = encode(&entry.text("bytes")?, Setting::new(Version::V5, 0))?;
        let (valid, disallowed) = (entry.flag("valid")?, entry.flag("disallowed")?);
        Ok(Form { name: entry.text("name")?, bytes, valid, disallowed })
    }
}

impl Expectation {
    /// Reads one text or a list of them: answers, `close` as the last, `lives` alone, or
    /// `error 81`, which is whatever says so in this version and state. A version comes first where
    /// the broker answers in another one.
    fn parse(value: &Value, version: Version, state: &str) -> Result<Expectation, String> {
        let value = pick(value, version)?;
        let texts: Vec<&str> = match value {
            Value::String(text) => vec![text],
            Value::Array(values) => values.iter().filter_map(Value::as_str).collect(),
            _ => return Err("`expect` is neither a text nor a list".to_owned()),
        };
        let mut expectation = Expectation { answers: Vec::new(), closes: false, version };
        for text in texts {
            if expectation.closes {
                return Err("something after `close`".to_owned());
            }
            if let Ok(version) = parse_version(text) {
                expectation.version = version;
            } else if let Some(code) = text.strip_prefix("error ") {
                expectation.closes = true;
                if version == Version::V5 {
                    // [MQTT-4.13.1-1]: before CONNACK nothing but CONNACK may say why.
                    let packet = if state == "connected" { "DISCONNECT" } else { "CONNACK" };
                    let said = format!("{packet} {code}");
                    expectation.answers.push(Answer::parse(&said, version)?);
                }
            } else if text == "close" {
                expectation.closes = true;
            } else if text != "lives" {
                expectation.answers.push(Answer::parse(text, expectation.version)?);
            }
        }
        Ok(expectation)
    }
}
