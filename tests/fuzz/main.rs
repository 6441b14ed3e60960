//! Fuzz targets, over the inputs that fuzzers have found worth keeping.
//!
//! `scripts/fuzz.sh` hunts for more of them. A target is a function of bytes that panics when
//! something is wrong, so that any fuzzer can run it.

mod targets;

use std::{fs, path::Path};

/// The inputs of a target: a line of hexadecimal digits for each.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lines =
        fs::read_to_string(root.join("tests/fuzz/corpus").join(target).with_extension("hex"));
    lines.expect("every target has a corpus").lines().map(bytes).collect()
}

fn bytes(line: &str) -> Vec<u8> {
    let pairs = line.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("digits"));
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("digits")).collect()
}

fn replay(name: &str) {
    let (_, check) = targets::ALL.iter().find(|(known, _)| *known == name).expect("a target");
    let corpus = corpus(name);
    assert!(!corpus.is_empty());
    for input in &corpus {
        println!("{name}: {input:02x?}");
        check(input);
    }
}

#[test]
fn configurations() {
    replay("config");
}

#[test]
fn rights() {
    replay("acl");
}

#[test]
fn frames() {
    replay("frame");
}

#[test]
fn tokens() {
    replay("jwt");
}

#[test]
fn persistence_files_of_mosquitto() {
    replay("mosquitto");
}

#[test]
fn packets() {
    replay("packet");
}

#[test]
fn headers_of_proxies() {
    replay("proxy");
}

#[test]
fn stores() {
    replay("store");
}

#[test]
fn topics() {
    replay("topic");
}

#[test]
fn sessions() {
    replay("session");
}

#[test]
fn tries() {
    replay("trie");
}

#[test]
fn wheels() {
    replay("wheel");
}
