//! Packet vectors: what a client sends, in which state of its connection, and what the broker must
//! answer to it. They are data, in `tests/conformance/vectors/`; docs/vectors.md tells how they are
//! written.
//!
//! All of them are played to the broker's core in memory and to the broker over TCP, on one shard
//! and on two.

#[path = "conformance/book.rs"]
mod book;
#[path = "foreign/broker.rs"]
#[expect(dead_code, reason = "the foreign clients' tests use the rest of it")]
mod broker;
#[path = "conformance/entry.rs"]
mod entry;
#[path = "conformance/hearing.rs"]
mod hearing;
#[path = "stories/log.rs"]
#[expect(dead_code, reason = "the stories use the rest of it")]
mod log;
#[path = "conformance/memory.rs"]
mod memory;
#[path = "conformance/notation.rs"]
mod notation;
#[path = "conformance/play.rs"]
mod play;
#[path = "conformance/properties.rs"]
mod properties;
#[path = "conformance/rules.rs"]
mod rules;
#[path = "stories/scram.rs"]
#[expect(dead_code, reason = "the stories use the rest of it")]
mod scram;
#[path = "conformance/sockets.rs"]
mod sockets;
#[path = "support/source.rs"]
mod source;
#[path = "stories/story.rs"]
mod story;
#[path = "conformance/table.rs"]
mod table;
#[path = "stories/world.rs"]
#[expect(dead_code, reason = "the stories use the rest of it")]
mod world;

use std::{collections::BTreeSet, fs, path::Path};

use book::Book;

#[test]
fn the_core_answers_every_vector_on_1_shard() {
    assert_none(&memory::play(&open(), 1));
}

#[test]
fn the_core_answers_every_vector_on_2_shards() {
    assert_none(&memory::play(&open(), 2));
}

#[test]
fn the_core_answers_every_vector_on_4_shards() {
    assert_none(&memory::play(&open(), 4));
}

#[test]
fn the_broker_answers_every_vector_over_tcp_on_1_shard() {
    assert_none(&sockets::play(&open(), 1));
}

#[test]
fn the_broker_answers_every_vector_over_tcp_on_2_shards() {
    assert_none(&sockets::play(&open(), 2));
}

#[test]
fn the_broker_answers_every_vector_over_tcp_on_4_shards() {
    assert_none(&sockets::play(&open(), 4));
}

#[test]
fn every_statement_that_a_vector_cites_exists() {
    let known = known_statements();
    let book = open();
    let cited: BTreeSet<&String> = book.cases.iter().flat_map(|case| &case.ids).collect();
    let unknown = cited.iter().filter(|id| !known.contains(**id));
    assert_none(&unknown.map(|id| format!("there is no {id}")).collect::<Vec<_>>());
    assert!(cited.len() > 100, "{} statements are cited", cited.len());
}

#[test]
fn no_two_vectors_have_the_same_name() {
    let mut names = BTreeSet::new();
    let book = open();
    let twice = book.cases.iter().filter(|case| !names.insert(&case.name));
    assert_none(&twice.map(|case| case.name.clone()).collect::<Vec<_>>());
}

#[test]
fn the_vectors_are_counted_by_section() {
    let book = open();
    for in_short in [false, true] {
        println!("\n{}", table::lines(&book, in_short).join("\n"));
    }
    assert!(book.cases.len() > 5_000, "{} vectors", book.cases.len());
}

fn open() -> Book {
    Book::open().expect("the vectors are well-formed")
}

/// The statements of 5.0 by their bare ids, those of 3.1.1 marked as such.
fn known_statements() -> BTreeSet<String> {
    let read = |version: &str, suffix: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/spec");
        let text = fs::read_to_string(folder.join(format!("ids-{version}.txt")));
        let text = text.expect("the lists of statements are in the repository");
        text.lines().map(|id| format!("{id}{suffix}")).collect::<Vec<_>>()
    };
    read("5.0", "").into_iter().chain(read("3.1.1", "@3.1.1")).collect()
}

/// The first of what is wrong tells enough; the rest is counted.
fn assert_none(findings: &[String]) {
    let first: Vec<&str> = findings.iter().take(FINDINGS_TOLD).map(|finding| &**finding).collect();
    assert!(findings.is_empty(), "{} findings:\n{}\n", findings.len(), first.join("\n"));
}

const FINDINGS_TOLD: usize = 60;
