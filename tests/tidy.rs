//! What no compiler checks: the floors of the rooms, and how the source reads.
//!
//! The floors are those of "Rooms" in the architecture. Each check is a function from a source to
//! its findings, and is itself tested on a planted sample.

#[path = "tidy/source.rs"]
mod source;

use std::{collections::BTreeSet, fs};

use source::{Named, Outline, Source, is_word, root};

/// Each room, and the rooms it may use besides itself. A room that is absent is out of reach.
const ROOMS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("topic", &["base"]),
    ("mqtt", &["base", "topic"]),
    ("access", &["base", "mqtt", "topic"]),
    ("routing", &["base", "mqtt", "topic"]),
    ("session", &["base", "mqtt", "topic", "access"]),
    ("transport", &["base", "mqtt", "topic"]),
    ("storage", &["base", "mqtt", "topic"]),
    ("shard", &["base", "mqtt", "topic", "access", "routing", "session", "transport", "storage"]),
    ("mesh", &["base"]),
    (
        "runtime",
        &[
            "base",
            "mqtt",
            "topic",
            "access",
            "routing",
            "session",
            "transport",
            "storage",
            "shard",
            "mesh",
        ],
    ),
    (
        "config",
        &["base", "mqtt", "topic", "access", "routing", "session", "transport", "storage", "shard"],
    ),
    ("control", &["base", "mqtt", "access", "routing", "transport", "shard", "runtime"]),
];

/// The files at the top, which may use every room.
const TOP: &[&str] = &["", "main", "server", "commands"];

/// The same for the load generator.
const LOADTEST_ROOMS: &[(&str, &[&str])] = &[
    ("machine", &[]),
    ("payload", &[]),
    ("request", &["machine", "payload"]),
    ("account", &["payload", "request"]),
    ("clients", &["machine", "payload", "request", "account"]),
    ("run", &["machine", "payload", "request", "account", "clients"]),
    ("report", &["request", "account"]),
    ("sink", &["machine", "clients"]),
    ("search", &["request", "account", "run", "report"]),
    ("arguments", &["request", "report", "sink"]),
];
const LOADTEST_TOP: &[&str] = &["", "main"];

/// The rooms of one crate.
struct Plan {
    /// Where its sources are, from the root of the repository.
    folder: &'static str,
    /// What it is called where another of its roots names it.
    crate_name: &'static str,
    rooms: &'static [(&'static str, &'static [&'static str])],
    top: &'static [&'static str],
}

const BROKER: Plan = Plan { folder: "src", crate_name: "ringmq", rooms: ROOMS, top: TOP };
const LOADTEST: Plan = Plan {
    folder: "loadtest/src",
    crate_name: "loadtest",
    rooms: LOADTEST_ROOMS,
    top: LOADTEST_TOP,
};

/// Crates, and the places that may name them.
const CAPTIVE: &[(&str, &[&str])] = &[
    ("glommio", &["src/runtime/"]),
    ("io_uring", &["src/runtime/ring/"]),
    ("mio", &["src/runtime/ring/"]),
    ("crossbeam_channel", &["src/mesh/", "src/runtime/"]),
    ("getrandom", &["src/runtime/", "src/server", "src/commands/"]),
    ("libc", &["src/runtime/ring/"]),
    ("rustix", &["src/runtime/ring/", "src/runtime/store/", "src/commands/prompt.rs"]),
    ("crc32c", &["src/storage/"]),
    ("signal_hook", &["src/runtime/", "src/server", "src/main.rs"]),
    ("clap", &["src/config/"]),
    ("clap_complete", &["src/config/"]),
    ("clap_mangen", &["src/config/"]),
    ("bytesize", &["src/config/"]),
    ("httparse", &["src/transport/"]),
    ("sha1", &["src/transport/"]),
    ("rustls", &["src/transport/tls/"]),
    ("argon2", &["src/access/memory_hard.rs"]),
    ("axum", &["src/control/"]),
    ("hyper", &["src/control/"]),
    ("hyper_util", &["src/control/"]),
    ("tokio", &["src/control/"]),
    ("tokio_rustls", &["src/control/"]),
    ("serde", &["src/control/"]),
    ("jsonwebtoken", &["src/access/jwt/"]),
    (
        "serde_json",
        &[
            "src/access/dynamic/",
            "src/access/jwt/",
            "src/control/",
            "src/commands/remote.rs",
            "src/commands/top.rs",
            "src/commands/trace.rs",
        ],
    ),
    ("anyhow", &["src/config/", "src/server", "src/main.rs", "src/commands/"]),
];

/// The rooms that turn input into effects and touch nothing.
const PURE: &[&str] =
    &["base", "topic", "mqtt", "access", "routing", "session", "transport", "storage", "shard"];

/// What a pure room does not name, and the room that may all the same.
const IMPURE: &[(&str, &str)] = &[
    ("std::thread", ""),
    ("std::fs", "access"),
    ("std::env", ""),
    ("std::os", ""),
    ("std::process", ""),
    ("std::net::*", ""),
    ("std::sync::mpsc", ""),
];

/// Types of the operating system, under whatever path a pure room could name them.
const IMPURE_TYPES: &[&str] = &[
    "Instant",
    "SystemTime",
    "TcpListener",
    "TcpStream",
    "ToSocketAddrs",
    "UdpSocket",
    "UnixListener",
    "UnixStream",
];

const UNSAFE_ROOMS: &[&str] = &["runtime", "mesh"];
const BANNED_WORDS: &[&str] = &["TODO", "FIXME", "XXX", "HACK"];
const COLUMNS_MAX: usize = 100;
const LINES_MAX: usize = 600;

#[test]
fn rooms_use_rooms_on_lower_floors_only() {
    for plan in [BROKER, LOADTEST] {
        assert_tidy(&[plan.folder], |source| check_floors(&plan, source));
    }
}

#[test]
fn each_room_comes_after_those_that_it_may_use() {
    for plan in [BROKER, LOADTEST] {
        assert_none(&check_order(plan.rooms));
    }
}

#[test]
fn captive_crates_stay_where_they_belong() {
    assert_tidy(&["src"], check_captives);
}

#[test]
fn pure_rooms_touch_nothing() {
    assert_tidy(&["src"], check_purity);
}

#[test]
fn unsafe_has_an_address() {
    assert_tidy(&["src"], check_unsafe);
}

#[test]
fn every_source_is_reached() {
    for plan in [BROKER, LOADTEST] {
        assert_none(&check_reach(&Source::all_under(plan.folder)));
    }
}

#[test]
fn lines_and_files_are_short() {
    assert_tidy(&["src", "tests", "benches", "loadtest/src", "models", "fuzz/src"], check_size);
}

#[test]
fn nothing_is_left_for_later() {
    assert_tidy(&["src", "tests", "benches", "loadtest/src", "models", "fuzz/src"], check_words);
}

#[test]
fn pages_of_the_dashboard_are_short_and_whole() {
    let pages = Source::pages_under("src/control/dashboard");
    assert!(pages.iter().any(|page| page.path.ends_with("/pages/overview.js")), "there are pages");
    let check = |page| [check_size(page), check_words(page)].concat();
    assert_none(&pages.iter().flat_map(check).collect::<Vec<_>>());
}

#[test]
fn no_test_is_ignored_and_nothing_waits_by_sleeping() {
    assert_tidy(&["src", "tests", "benches", "models"], check_waiting);
}

#[test]
fn every_cited_statement_exists() {
    let known = known_statements();
    assert_eq!(known.len(), 252 + 139);
    assert_tidy(&["src", "tests", "benches", "loadtest/src", "models", "fuzz/src"], |source| {
        check_citations(source, &known)
    });
}

fn check_floors(plan: &Plan, source: &Source) -> Vec<String> {
    let room = source.room();
    if plan.top.contains(&room.as_str()) {
        return Vec::new();
    }
    let Some((_, allowed)) = plan.rooms.iter().find(|(name, _)| *name == room) else {
        return vec![format!("{}: room `{room}` stands on no floor", source.path)];
    };
    let module_path = source.module_path();
    let climbs = |named: &&Named| {
        room_of(plan, named, &module_path).is_some_and(|other| {
            other != room && is_room(plan, &other) && !allowed.contains(&other.as_str())
        })
    };
    report(source, source.outline().paths.iter().filter(climbs), "is out of reach from here")
}

/// Rooms that may be used by one that comes before them: without any there is no circle.
fn check_order(rooms: &[(&str, &[&str])]) -> Vec<String> {
    let mut findings = Vec::new();
    for (place, (room, allowed)) in rooms.iter().enumerate() {
        let before = |other: &&str| rooms[..place].iter().any(|(name, _)| name == other);
        let late = allowed.iter().filter(|other| !before(other));
        findings
            .extend(late.map(|other| format!("{room} may use {other}, which is not before it")));
    }
    findings
}

/// The room that a path leads to, if it leads into the crate of this plan.
fn room_of(plan: &Plan, named: &Named, module_path: &[String]) -> Option<String> {
    let (first, rest) = named.segments.split_first()?;
    match first.as_str() {
        name if name == "crate" || name == plan.crate_name => rest.first().cloned(),
        "super" => {
            let supers = named.segments.iter().take_while(|segment| *segment == "super").count();
            let here: Vec<&String> = module_path.iter().chain(&named.inside).collect();
            let from = here.len().saturating_sub(supers);
            here[..from].first().copied().or_else(|| named.segments.get(supers)).cloned()
        }
        _ => None,
    }
}

fn is_room(plan: &Plan, name: &str) -> bool {
    plan.rooms.iter().any(|(room, _)| *room == name) || plan.top.contains(&name)
}

fn check_captives(source: &Source) -> Vec<String> {
    let escaped = |named: &&Named| {
        let captive = CAPTIVE.iter().find(|(name, _)| named.segments[0] == *name);
        captive.is_some_and(|(_, homes)| !homes.iter().any(|home| source.path.starts_with(home)))
    };
    report(source, source.outline().paths.iter().filter(escaped), "is captive elsewhere")
}

fn check_purity(source: &Source) -> Vec<String> {
    let room = source.room();
    if !PURE.contains(&room.as_str()) {
        return Vec::new();
    }
    let impure = |named: &&Named| {
        let path = format!("{}::", named.segments.join("::"));
        let outside =
            IMPURE.iter().any(|(name, may)| path.starts_with(&format!("{name}::")) && *may != room);
        outside || named.segments.iter().any(|segment| IMPURE_TYPES.contains(&segment.as_str()))
    };
    report(source, source.outline().paths.iter().filter(impure), "does not belong in a pure room")
}

fn check_unsafe(source: &Source) -> Vec<String> {
    if UNSAFE_ROOMS.contains(&source.room().as_str()) {
        return Vec::new();
    }
    let tokens = source.tokens();
    let unsafe_tokens = tokens.iter().filter(|token| token.text == "unsafe");
    unsafe_tokens.map(|token| format!("{}:{}: unsafe", source.path, token.line)).collect()
}

/// Follows `mod` from the roots, and reports what it does not come to.
fn check_reach(sources: &[Source]) -> Vec<String> {
    let mut reached: BTreeSet<Vec<String>> = BTreeSet::new();
    let mut open = vec![Vec::new(), vec!["main".to_owned()]];
    while let Some(module_path) = open.pop() {
        let Some(source) = sources.iter().find(|source| source.module_path() == module_path) else {
            continue;
        };
        let base = if module_path == ["main"] { Vec::new() } else { module_path.clone() };
        if reached.insert(module_path) {
            let Outline { submodules, .. } = source.outline();
            open.extend(submodules.into_iter().map(|submodule| [base.clone(), submodule].concat()));
        }
    }
    let lost = sources.iter().filter(|source| !reached.contains(&source.module_path()));
    lost.map(|source| format!("{}: no `mod` leads here", source.path)).collect()
}

fn check_size(source: &Source) -> Vec<String> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(source.prose.lines()) {
        if line.chars().count() > COLUMNS_MAX {
            findings.push(format!("{}:{number}: longer than {COLUMNS_MAX} columns", source.path));
        }
    }
    let lines = lines_without_tests(source);
    if lines > LINES_MAX {
        findings.push(format!("{}: {lines} lines are more than {LINES_MAX}", source.path));
    }
    findings
}

/// The lines before the test module at the end of a file; none in a file of tests.
fn lines_without_tests(source: &Source) -> usize {
    if source.path.starts_with("tests/") || source.path.ends_with("/tests.rs") {
        return 0;
    }
    let lines: Vec<&str> = source.code.lines().collect();
    let tests = lines.windows(2).rposition(|pair| {
        pair[0].trim() == "#[cfg(test)]" && pair[1].trim_start().starts_with("mod ")
    });
    tests.unwrap_or(lines.len())
}

fn check_words(source: &Source) -> Vec<String> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(source.prose.lines()) {
        for word in line.split(|c| !is_word(c)).filter(|word| BANNED_WORDS.contains(word)) {
            findings.push(format!("{}:{number}: {word}", source.path));
        }
    }
    findings
}

fn check_waiting(source: &Source) -> Vec<String> {
    let sleeps = |named: &&Named| named.segments.ends_with(&["thread".into(), "sleep".into()]);
    let mut findings = report(source, source.outline().paths.iter().filter(sleeps), "waits");
    for tokens in source.tokens().windows(3) {
        if (tokens[0].text, tokens[1].text, tokens[2].text) == ("#", "[", "ignore") {
            findings.push(format!("{}:{}: an ignored test", source.path, tokens[0].line));
        }
    }
    findings
}

fn check_citations(source: &Source, known: &BTreeSet<String>) -> Vec<String> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(source.prose.lines()) {
        for cited in line.split("[MQTT-").skip(1) {
            let id = format!("MQTT-{}", cited.split(']').next().unwrap_or_default());
            if !known.contains(&id) {
                findings.push(format!("{}:{number}: there is no [{id}]", source.path));
            }
        }
    }
    findings
}

/// The statements of 5.0 by their bare ids, those of 3.1.1 marked as such.
fn known_statements() -> BTreeSet<String> {
    let read = |version: &str| {
        let path = root().join(format!("docs/spec/ids-{version}.txt"));
        fs::read_to_string(path).expect("the lists of statements are in the repository")
    };
    let current = read("5.0").lines().map(str::to_owned).collect::<Vec<_>>();
    let older = read("3.1.1").lines().map(|id| format!("{id}@3.1.1")).collect::<Vec<_>>();
    current.into_iter().chain(older).collect()
}

fn report<'a>(
    source: &Source,
    paths: impl Iterator<Item = &'a Named>,
    complaint: &str,
) -> Vec<String> {
    let place = |named: &Named| format!("{}:{}", source.path, named.line);
    paths
        .map(|named| format!("{}: {} {complaint}", place(named), named.segments.join("::")))
        .collect()
}

fn assert_tidy(folders: &[&str], check: impl Fn(&Source) -> Vec<String>) {
    let sources: Vec<Source> =
        folders.iter().flat_map(|folder| Source::all_under(folder)).collect();
    assert!(!sources.is_empty(), "there are sources to check");
    assert_none(&sources.iter().flat_map(check).collect::<Vec<_>>());
}

fn assert_none(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

/// The checks on samples, each with the lines that must be found in it.
mod planted {
    use super::*;

    fn lines_found(findings: &[String]) -> Vec<usize> {
        let number = |finding: &String| finding.split(':').nth(1)?.parse().ok();
        findings.iter().filter_map(number).collect()
    }

    #[test]
    fn a_use_that_climbs_is_found() {
        let sample = "\
use crate::base::time::Moment;
use crate::{base::ids, shard::ports::{Ports as P, Load}};
use super::super::session;
use super::hash::Hash;
// use crate::runtime;
fn f() { let text = \"crate::runtime\"; crate::mesh::open() }
mod tests { use super::super::super::routing; use super::super::mqtt; use super::*; }
";
        let found = check_floors(&BROKER, &Source::new("src/access/hash.rs", sample));
        assert_eq!(lines_found(&found), [2, 2, 3, 6, 7]);
        assert_eq!(check_floors(&BROKER, &Source::new("src/cellar/mod.rs", "")).len(), 1);
        assert_none(&check_floors(&BROKER, &Source::new("src/server.rs", sample)));
        assert_none(&check_floors(
            &BROKER,
            &Source::new("src/access/mod.rs", "mod t { use super::topic; }"),
        ));
        assert_eq!(
            check_floors(&BROKER, &Source::new("src/base/mod.rs", "use super::topic::Name;")).len(),
            1
        );
    }

    #[test]
    fn a_use_that_climbs_in_the_load_generator_is_found() {
        let sample = "\
use crate::{account::tally::Tally, payload::Stamp};
use crate::report::summary::Summary;
use ringmq::session;
use super::super::search;
";
        let source = Source::new("loadtest/src/clients/publisher.rs", sample);
        assert_eq!(lines_found(&check_floors(&LOADTEST, &source)), [2, 4]);
        assert_none(&check_floors(&LOADTEST, &Source::new("loadtest/src/main.rs", sample)));
        let lost = Source::new("loadtest/src/attic.rs", "");
        assert_eq!(check_floors(&LOADTEST, &lost).len(), 1);
    }

    #[test]
    fn a_circle_of_rooms_is_found() {
        assert_none(&check_order(&[("a", &[]), ("b", &["a"])]));
        assert_eq!(check_order(&[("a", &["b"]), ("b", &["a"])]).len(), 1);
        assert_eq!(check_order(&[("a", &["a"]), ("b", &["cellar"])]).len(), 2);
    }

    #[test]
    fn an_escaped_crate_is_found() {
        let sample = "\
use crossbeam_channel::{Sender, bounded};
use std::{fmt, io};
fn f() -> anyhow::Result<()> { Ok(()) }
use clap;
extern crate libc;
fn g(clap: u8) -> u8 { clap }
";
        let found = check_captives(&Source::new("src/shard/mod.rs", sample));
        assert_eq!(lines_found(&found), [1, 1, 3, 4, 5]);
        let found = check_captives(&Source::new("src/mesh/mod.rs", sample));
        assert_eq!(lines_found(&found), [3, 4, 5]);
    }

    #[test]
    fn an_impure_name_is_found() {
        let sample = "\
use std::net::SocketAddr;
use std::{net::TcpStream, thread};
use std::time::{Duration, Instant as Now};
fn f() { std::fs::read(); net::UdpSocket::bind(); std::time::Duration::ZERO }
use std::net::*;
";
        let found = check_purity(&Source::new("src/routing/mod.rs", sample));
        assert_eq!(lines_found(&found), [2, 2, 3, 4, 4, 5]);
        let found = check_purity(&Source::new("src/access/mod.rs", sample));
        assert_eq!(lines_found(&found), [2, 2, 3, 4, 5]);
        assert_none(&check_purity(&Source::new("src/runtime/mod.rs", sample)));
    }

    #[test]
    fn unsafe_in_the_wrong_room_is_found() {
        let sample = "#![deny(unsafe_code)]\n// unsafe\nfn f() { unsafe { g() } }\n";
        let found = check_unsafe(&Source::new("src/shard/mod.rs", sample));
        assert_eq!(lines_found(&found), [3]);
        assert_none(&check_unsafe(&Source::new("src/runtime/ring.rs", sample)));
    }

    #[test]
    fn a_file_without_a_mod_is_found() {
        let sources = [
            Source::new("src/lib.rs", "pub mod base;\n// mod lost;\n"),
            Source::new("src/main.rs", "mod server;\n"),
            Source::new("src/server.rs", ""),
            Source::new("src/base/mod.rs", "mod ids;\nmod inline { mod deep; }\n"),
            Source::new("src/base/ids.rs", ""),
            Source::new("src/base/inline/deep.rs", ""),
            Source::new("src/lost.rs", "mod too;\n"),
            Source::new("src/lost/too.rs", ""),
        ];
        let found = check_reach(&sources);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().all(|finding| finding.starts_with("src/lost")), "{found:?}");
    }

    #[test]
    fn a_long_line_and_a_long_file_are_found() {
        let long = format!("\n// {}\n", "ü".repeat(98));
        assert_eq!(lines_found(&check_size(&Source::new("src/a.rs", &long))), [2]);
        let fits = format!("\n// {}\n", "ü".repeat(97));
        assert_none(&check_size(&Source::new("src/a.rs", &fits)));
        let file = "\n".repeat(601);
        assert_eq!(check_size(&Source::new("src/a.rs", &file)).len(), 1);
        let tested = format!("#[cfg(test)]\nmod tests {{{file}}}\n");
        assert_none(&check_size(&Source::new("src/a.rs", &tested)));
        assert_none(&check_size(&Source::new("src/a/tests.rs", &file)));
    }

    #[test]
    fn a_banned_word_is_found() {
        for word in BANNED_WORDS {
            let sample = format!("// {word}: more.\nlet {word}S = \"{word}\"; // {word}\n");
            assert_eq!(lines_found(&check_words(&Source::new("src/a.rs", &sample))), [1, 2]);
        }
    }

    #[test]
    fn an_ignored_test_and_a_sleep_are_found() {
        let sample = "\
#[test]
#[ignore]
fn f() { std::thread::sleep(TICK); }
use std::thread::{self, sleep};
fn g() { thread::sleep(TICK); glommio::timer::sleep(TICK) }
#[ignore = \"slow\"]
";
        let mut found = lines_found(&check_waiting(&Source::new("tests/a.rs", sample)));
        found.sort_unstable();
        assert_eq!(found, [2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_citation_of_nothing_is_found() {
        let sample = "\
/// [MQTT-3.1.2-22] and [MQTT-3.1.2-24@3.1.1]
/// [MQTT-3.1.2-99]
/// [MQTT-3.1.2-24@3.1] and [MQTT-4.7]
";
        let found = check_citations(&Source::new("src/a.rs", sample), &known_statements());
        assert_eq!(lines_found(&found), [2, 3, 3]);
    }

    #[test]
    fn literals_and_comments_are_told_from_code() {
        let sample = r##"a "b\"" c r#"d " "# e b'\'' f '"' g 'h i // j
/* k /* l */ m */ n '\u{1}' o br"p\" q r#type "r"##;
        let source = Source::new("src/a.rs", sample);
        let words: String = source.tokens().iter().map(|token| token.text).collect();
        assert_eq!(words, "acefg'hinoqr#type");
        assert_eq!(source.code.len(), source.prose.len());
        assert!(source.prose.contains("// j") && source.prose.contains("/* k /* l */ m */"));
    }
}
