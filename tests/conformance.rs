//! The ledger: for each statement of the specifications, where it is obeyed and where that is
//! shown, or the reason why it does not bind this broker.
//!
//! Each check is a function from ledgers and sources to its findings, and is itself tested on a
//! planted sample.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use toml::{Table, Value};

/// Each version's ledger, the list of its statements, and what follows their ids in citations.
const EDITIONS: [(&str, &str, &str); 2] = [
    ("docs/spec/mqtt5.toml", "docs/spec/ids-5.0.txt", ""),
    ("docs/spec/mqtt311.toml", "docs/spec/ids-3.1.1.txt", "@3.1.1"),
];

/// What a ledger says of one statement.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    Shown {
        /// A file under `src/` and an item in it.
        code: String,
        tests: Vec<String>,
    },
    /// It binds only clients, or cannot be observed at a server.
    Excused,
    Open,
}

type Ledger = BTreeMap<String, Standing>;

/// Test functions by their names, each with the statements that its doc comment cites.
type Tests = BTreeMap<String, BTreeSet<String>>;

#[test]
fn every_statement_has_one_entry_of_one_form() {
    for (ledger, ids, suffix) in EDITIONS {
        let (entries, malformed) = parse(&read(ledger));
        assert_none(&malformed);
        assert_none(&check_ids(&entries, &listed(ids, suffix)));
    }
}

#[test]
fn the_code_that_the_ledger_names_exists() {
    assert_none(&check_code(&ledger(), |path| fs::read_to_string(root().join(path)).ok()));
}

#[test]
fn ledger_and_tests_name_each_other() {
    let (tests, twice) = tests();
    assert_none(&twice);
    assert_none(&check_tests(&ledger(), &tests));
}

#[test]
fn no_statement_is_open() {
    let ledger = ledger();
    print_counts(&ledger);
    let open: Vec<_> = ledger.iter().filter(|(_, standing)| **standing == Standing::Open).collect();
    assert!(open.is_empty(), "{open:?}");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).expect("the repository is readable UTF-8")
}

/// The statements of both versions.
fn ledger() -> Ledger {
    EDITIONS.into_iter().flat_map(|(ledger, ..)| parse(&read(ledger)).0).collect()
}

fn listed(ids: &str, suffix: &str) -> BTreeSet<String> {
    read(ids).lines().map(|id| format!("{id}{suffix}")).collect()
}

/// The entries of a ledger, and what is wrong with the others.
fn parse(text: &str) -> (Ledger, Vec<String>) {
    let entries: Table = match text.parse() {
        Ok(entries) => entries,
        Err(error) => return (Ledger::new(), vec![error.to_string()]),
    };
    let (mut ledger, mut findings) = (Ledger::new(), Vec::new());
    for (id, entry) in entries {
        match entry.as_table().and_then(standing_of) {
            Some(standing) => drop(ledger.insert(id, standing)),
            None => findings.push(format!("{id}: neither code and test, nor a reason, nor open")),
        }
    }
    (ledger, findings)
}

fn standing_of(entry: &Table) -> Option<Standing> {
    let fields: Vec<(&str, &Value)> = entry.iter().map(|(key, value)| (&**key, value)).collect();
    match fields[..] {
        [("code", Value::String(code)), ("test", tests)] => {
            Some(Standing::Shown { code: code.clone(), tests: names_of(tests)? })
        }
        [("reason", Value::String(reason))] if !reason.is_empty() => Some(Standing::Excused),
        [("open", Value::Boolean(true))] => Some(Standing::Open),
        _ => None,
    }
}

/// One name, or a list of them.
fn names_of(tests: &Value) -> Option<Vec<String>> {
    let names = match tests {
        Value::String(name) => vec![name.clone()],
        Value::Array(names) => {
            names.iter().map(|name| name.as_str().map(str::to_owned)).collect::<Option<_>>()?
        }
        _ => return None,
    };
    (!names.is_empty()).then_some(names)
}

fn check_ids(ledger: &Ledger, listed: &BTreeSet<String>) -> Vec<String> {
    let entered: BTreeSet<String> = ledger.keys().cloned().collect();
    let unknown = entered.difference(listed).map(|id| format!("{id}: no such statement"));
    let missing = listed.difference(&entered).map(|id| format!("{id}: not in the ledger"));
    unknown.chain(missing).collect()
}

fn check_code(ledger: &Ledger, text_of: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let exists = |code: &str| {
        let (path, item) = code.split_once(": ")?;
        let text = text_of(path).filter(|_| path.starts_with("src/"))?;
        has_item(&text, item).then_some(())
    };
    let shown = ledger.iter().filter_map(|(id, standing)| match standing {
        Standing::Shown { code, .. } => Some((id, code)),
        Standing::Excused | Standing::Open => None,
    });
    let lost = shown.filter(|(_, code)| exists(code).is_none());
    lost.map(|(id, code)| format!("{id}: `{code}` does not exist")).collect()
}

/// Whether a file declares `item`, or `name` in an `impl` of `owner` for `owner::name`.
fn has_item(text: &str, item: &str) -> bool {
    let Some((owner, name)) = item.split_once("::") else {
        return text.lines().any(|line| declares(line, item));
    };
    let mut inside = false;
    text.lines().any(|line| {
        if line.starts_with("impl") {
            inside = words(line).any(|word| word == owner);
        } else if line == "}" {
            inside = false;
        }
        inside && declares(line, name)
    })
}

fn declares(line: &str, name: &str) -> bool {
    let line = line.split("//").next().unwrap_or_default();
    words(line).zip(words(line).skip(1)).any(|(keyword, word)| {
        word == name && ["fn", "struct", "enum", "trait", "type", "const"].contains(&keyword)
    })
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

fn check_tests(ledger: &Ledger, tests: &Tests) -> Vec<String> {
    let mut findings = Vec::new();
    let mut named: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (id, standing) in ledger {
        let Standing::Shown { tests: names, .. } = standing else { continue };
        for name in names {
            named.insert((name, id));
            match tests.get(name) {
                None => findings.push(format!("{id}: there is no test `{name}`")),
                Some(cited) if cited.contains(id) => {}
                Some(_) => findings.push(format!("{id}: `{name}` does not cite it")),
            }
        }
    }
    let citations = tests.iter().flat_map(|(name, ids)| ids.iter().map(move |id| (name, id)));
    let unlisted = citations.filter(|(name, id)| !named.contains(&(name, id)));
    findings.extend(unlisted.map(|(name, id)| format!("{id}: the ledger does not name `{name}`")));
    findings
}

/// All tests under `src/` and `tests/`, and the names that two of those that cite have.
fn tests() -> (Tests, Vec<String>) {
    let mut files = Vec::new();
    list(&root().join("src"), &mut files);
    list(&root().join("tests"), &mut files);
    let (mut tests, mut twice) = (Tests::new(), Vec::new());
    for file in files {
        let text = fs::read_to_string(file).expect("sources are readable UTF-8");
        for (name, cited) in tests_in(&text) {
            let earlier = tests.entry(name.clone()).or_default();
            if !earlier.is_empty() && !cited.is_empty() {
                twice.push(format!("{name}: two tests that cite have this name"));
            }
            earlier.extend(cited);
        }
    }
    (tests, twice)
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("folders are readable") {
        let path = entry.expect("folders are readable").path();
        if path.is_dir() {
            list(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The tests of one file, each with the statements that its doc comment cites.
fn tests_in(text: &str) -> Vec<(String, BTreeSet<String>)> {
    let mut found = Vec::new();
    let (mut cited, mut is_test) = (BTreeSet::new(), false);
    for line in text.lines().map(str::trim) {
        if let Some(comment) = line.strip_prefix("///") {
            cited.extend(citations(comment));
        } else if line.starts_with("#[") {
            is_test |= line == "#[test]";
        } else {
            let cited = std::mem::take(&mut cited);
            let mut words = words(line).skip_while(|word| *word != "fn").skip(1);
            if let Some(name) = words.next().filter(|_| std::mem::take(&mut is_test)) {
                found.push((name.to_owned(), cited));
            }
        }
    }
    found
}

/// The ids between brackets, the suffix of their version included.
fn citations(comment: &str) -> impl Iterator<Item = String> {
    let pieces = comment.split('[').skip(1).filter_map(|piece| piece.split_once(']'));
    pieces.map(|(id, _)| id).filter(|id| id.starts_with("MQTT-")).map(str::to_owned)
}

/// Prints how many statements of each section stand where.
fn print_counts(ledger: &Ledger) {
    let mut sections: BTreeMap<(bool, Vec<u32>), [usize; 3]> = BTreeMap::new();
    for (id, standing) in ledger {
        let counts = sections.entry(section_of(id)).or_default();
        counts[match standing {
            Standing::Shown { .. } => 0,
            Standing::Excused => 1,
            Standing::Open => 2,
        }] += 1;
    }
    println!("{:7} {:7} {:>5} {:>6} {:>4}", "version", "section", "shown", "reason", "open");
    for ((is_old, section), [shown, excused, open]) in &sections {
        let version = if *is_old { "3.1.1" } else { "5.0" };
        let section: Vec<String> = section.iter().map(u32::to_string).collect();
        println!("{version:7} {:7} {shown:5} {excused:6} {open:4}", section.join("."));
    }
    let sum = |at: usize| sections.values().map(|counts| counts[at]).sum::<usize>();
    println!("{:15} {:5} {:6} {:4}", "all", sum(0), sum(1), sum(2));
}

/// The version and the section of a statement, in an order that people expect.
fn section_of(id: &str) -> (bool, Vec<u32>) {
    let statement = id.trim_start_matches("MQTT-").trim_end_matches("@3.1.1");
    let (section, _) = statement.rsplit_once('-').unwrap_or((statement, ""));
    (id.ends_with("@3.1.1"), section.split('.').filter_map(|part| part.parse().ok()).collect())
}

fn assert_none(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

mod samples {
    //! What each check finds in a sample.

    use super::*;

    fn shown(code: &str, tests: &[&str]) -> Standing {
        let tests = tests.iter().map(|&name| name.to_owned()).collect();
        Standing::Shown { code: code.to_owned(), tests }
    }

    fn one(id: &str, standing: Standing) -> Ledger {
        Ledger::from([(id.to_owned(), standing)])
    }

    #[test]
    fn an_entry_has_exactly_one_form() {
        for (entry, standing) in [
            ("code = 'src/a.rs: f'\ntest = 'g'", Some(shown("src/a.rs: f", &["g"]))),
            ("code = 'src/a.rs: f'\ntest = ['g', 'h']", Some(shown("src/a.rs: f", &["g", "h"]))),
            ("reason = 'It binds clients.'", Some(Standing::Excused)),
            ("open = true", Some(Standing::Open)),
            ("", None),
            ("open = false", None),
            ("reason = ''", None),
            ("code = 'src/a.rs: f'", None),
            ("test = 'g'", None),
            ("code = 'src/a.rs: f'\ntest = []", None),
            ("open = true\nreason = 'It binds clients.'", None),
            ("code = 'src/a.rs: f'\ntest = 'g'\nopen = true", None),
            ("colour = 'red'", None),
        ] {
            let (ledger, findings) = parse(&format!("[MQTT-1]\n{entry}\n"));
            assert_eq!(ledger.into_values().next(), standing, "{entry}");
            assert_eq!(findings.is_empty(), standing.is_some(), "{entry}");
        }
        assert_eq!(parse("[MQTT-1]\nopen = true\n[MQTT-1]\nopen = true\n").1.len(), 1);
    }

    #[test]
    fn an_unknown_and_a_missing_id_are_found() {
        let listed = BTreeSet::from(["MQTT-1".to_owned()]);
        assert_none(&check_ids(&one("MQTT-1", Standing::Open), &listed));
        assert_eq!(check_ids(&one("MQTT-2", Standing::Open), &listed).len(), 2);
    }

    #[test]
    fn code_that_has_gone_is_found() {
        let text = "\
// fn lost() {}
const LIMIT: u8 = 1;
impl<'a> Reader<'a> {
    fn read(&self) {}
}
impl Writer {
    pub(crate) fn write(&self) {}
}
";
        let finds = |code: &str| {
            let text_of = |path: &str| (path == "src/a.rs").then(|| text.to_owned());
            !check_code(&one("MQTT-1", shown(code, &["t"])), text_of).is_empty()
        };
        for code in ["read", "LIMIT", "Reader::read", "Writer::write"] {
            assert!(!finds(&format!("src/a.rs: {code}")), "{code}");
        }
        for code in ["lost", "Writer::read", "LIMIT::read", "reads"] {
            assert!(finds(&format!("src/a.rs: {code}")), "{code}");
        }
        assert!(finds("src/b.rs: read") && finds("src/a.rs"));
    }

    #[test]
    fn citations_are_read_from_the_comments_of_tests() {
        // Angle brackets, so that this file cites nothing itself.
        let text = "\
/// <MQTT-1>
fn helper() {}
/// A test of <MQTT-2> and <Section 3>.
/// <MQTT-3@3.1.1>
#[test]
pub fn cites() {}
    #[test]
    fn cites_nothing() { let text = \"/// <MQTT-4>\"; }
";
        let cited = BTreeSet::from(["MQTT-2".to_owned(), "MQTT-3@3.1.1".to_owned()]);
        let expected = [("cites".to_owned(), cited), ("cites_nothing".to_owned(), BTreeSet::new())];
        let text = text.replace('<', "[").replace('>', "]");
        assert_eq!(tests_in(&text), expected);
    }

    #[test]
    fn a_one_sided_citation_is_found() {
        let tests = Tests::from([
            ("cites".to_owned(), BTreeSet::from(["MQTT-1".to_owned()])),
            ("silent".to_owned(), BTreeSet::new()),
        ]);
        let count = |names: &[&str]| check_tests(&one("MQTT-1", shown("", names)), &tests).len();
        assert_eq!(count(&["cites"]), 0);
        assert_eq!(count(&["cites", "silent"]), 1);
        assert_eq!(count(&["cites", "lost"]), 1);
        assert_eq!(count(&["silent"]), 2);
        assert_eq!(check_tests(&one("MQTT-1", Standing::Open), &tests).len(), 1);
    }

    #[test]
    fn sections_are_in_their_order() {
        assert_eq!(section_of("MQTT-3.10.4-2"), (false, vec![3, 10, 4]));
        assert_eq!(section_of("MQTT-4.2-1@3.1.1"), (true, vec![4, 2]));
        assert!(section_of("MQTT-3.9.2-1") < section_of("MQTT-3.10.1-1"));
    }
}
