//! One operation, so many times, for a counter of instructions to watch.
//!
//! ```text
//! instructions --list                the names of the operations
//! instructions --run NAME ROUNDS     one of them
//! instructions --growth NAME SHARDS ROUNDS
//!                                    a workload of a broker of so many shards; prints what it has
//!                                    counted: PUBLISH packets to clients, letters, batches,
//!                                    doorbells and bytes of letters
//! instructions                       each of them once
//! ```
//! Two runs of one operation differ by their rounds alone, so that preparing drops out.

#[path = "support/broker.rs"]
mod broker;
#[path = "support/flushing.rs"]
mod flushing;
#[path = "support/forest.rs"]
mod forest;
#[path = "support/forwarding.rs"]
mod forwarding;
#[path = "support/growth.rs"]
mod growth;
#[path = "support/samples.rs"]
mod samples;
#[path = "../tests/support/workbench.rs"]
mod workbench;

use std::{env, hint::black_box};

use forest::{Forest, SHAPES, Shape, entry, filter};
use forwarding::{AT_LEAST_ONCE, EXACTLY_ONCE};
use ringmq::{mqtt::Delivery, runtime::Allocator};
use samples::{heads, received};

/// The broker's own.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// One operation, prepared, that can be repeated.
type Operation = Box<dyn FnMut()>;

/// Prepares an operation.
type Prepare = Box<dyn Fn() -> Operation>;

/// All operations by their names. Preparing is put off until it is known which one is wanted.
fn operations() -> Vec<(String, Prepare)> {
    let mut operations: Vec<(String, Prepare)> = Vec::new();
    for (nth, (name, ..)) in received().into_iter().enumerate() {
        operations.push((format!("decode {name}"), Box::new(move || Box::new(decode_nth(nth)))));
    }
    for (nth, (name, ..)) in heads(&[]).into_iter().enumerate() {
        operations.push((format!("encode {name}"), Box::new(move || Box::new(encode_nth(nth)))));
    }
    for filters in [1, 1_000, 1_000_000] {
        for shape in &SHAPES {
            let name = format!("match {} among {filters}", shape.name);
            let operation = move || -> Operation {
                let mut forest = Forest::new(shape, filters);
                Box::new(move || forest.match_next())
            };
            operations.push((name, Box::new(operation)));
        }
    }
    for shape in &SHAPES {
        let name = format!("subscribe and unsubscribe {} among 1000", shape.name);
        operations.push((name, Box::new(|| Box::new(come_and_go(shape)))));
        let name = format!("unsubscribe {} of {GOING}", shape.name);
        operations.push((name, Box::new(|| Box::new(go(shape)))));
    }
    for shape in &flushing::SHAPES {
        let name = format!("flush an outbox, {}", shape.name);
        operations.push((name, Box::new(|| Box::new(shape.flush()))));
    }
    for (name, prepare) in FORWARDING {
        operations.push(((*name).to_owned(), Box::new(prepare)));
    }
    operations
}

type PrepareNow = fn() -> Operation;

const FORWARDING: &[(&str, PrepareNow)] = &[
    ("forward QoS 0 to 1", || Box::new(forwarding::qos_0(1, 1))),
    ("forward QoS 0 to 101", || Box::new(forwarding::qos_0(1, 101))),
    ("forward QoS 0 to 1, ten in a run", || Box::new(forwarding::qos_0(10, 1))),
    ("forward QoS 0 to one member of 8", || Box::new(forwarding::shared(8))),
    ("forward QoS 1 to 1, acknowledged", || Box::new(forwarding::acknowledged(AT_LEAST_ONCE))),
    ("forward QoS 2 to 1, acknowledged", || Box::new(forwarding::acknowledged(EXACTLY_ONCE))),
    ("long topic QoS 0 to 101, 5.0", || Box::new(forwarding::long_topic(0))),
    ("long topic QoS 0 to 101, by alias", || Box::new(forwarding::long_topic(8))),
    ("across shards QoS 0 to 1", || Box::new(forwarding::across(Delivery::AtMostOnce))),
    ("across shards QoS 1 to 1", || Box::new(forwarding::across(AT_LEAST_ONCE))),
    ("across shards QoS 2 to 1", || Box::new(forwarding::across(EXACTLY_ONCE))),
];

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--list"] => operations().iter().for_each(|(name, _)| println!("{name}")),
        ["--run", name, rounds] => run(name, rounds.parse().expect("a number of rounds")),
        ["--growth", name, shards, rounds] => {
            let number = |text: &str| text.parse().expect("a number");
            let found = growth::WORKLOADS.iter().find(|workload| workload.name == name);
            let workload = found.expect("scripts/growth.sh names the workloads");
            println!("{}", growth::run(workload, number(shards), number(rounds)));
        }
        _ => {
            for (_, prepare) in operations() {
                prepare()();
            }
            growth::WORKLOADS.iter().for_each(check_growth);
        }
    }
}

/// The same broker delivers as much with one shard as with four, in rounds that are as large.
fn check_growth(workload: &growth::Workload) {
    let one = growth::run(workload, 1, 4).delivered;
    let four = growth::run(workload, 4, 4).delivered;
    let (name, grown) = (workload.name, workload.publishers(4) / workload.publishers(1));
    assert_eq!(four, one * grown as u64, "{name}");
}

fn run(name: &str, rounds: u64) {
    let operations = operations();
    let found = operations.iter().find(|(known, _)| known == name);
    let mut operation = found.expect("--list names the operations").1();
    for _ in 0..rounds {
        operation();
    }
}

fn decode_nth(nth: usize) -> impl FnMut() {
    let (_, version, bytes) = received().swap_remove(nth);
    move || {
        black_box(samples::decode(black_box(&bytes), version));
    }
}

fn encode_nth(nth: usize) -> impl FnMut() {
    let (application, mut out) = (samples::application(), Vec::new());
    move || {
        let (_, version, head) = black_box(heads(&application))[nth];
        out.clear();
        head.encode(version, &mut out);
        black_box(out.as_slice());
    }
}

/// One filter among many, and again.
fn come_and_go(shape: &'static Shape) -> impl FnMut() {
    let mut trie = Forest::new(shape, 1_000).trie;
    let (filter, entry) = (filter("site/new/+/temperature"), entry(1_000));
    move || {
        trie.subscribe(filter, entry);
        black_box(trie.unsubscribe(filter, entry.subscriber));
    }
}

/// One filter after the other, until there is none.
fn go(shape: &'static Shape) -> impl FnMut() {
    let mut trie = Forest::new(shape, GOING).trie;
    let filters: Vec<_> = shape.filters(GOING).collect();
    let mut going = (0..).zip(filters);
    move || {
        let (number, filter) = going.next().expect("there are more of them than rounds");
        black_box(trie.unsubscribe(filter.as_filter(), entry(number).subscriber));
    }
}

/// More than the rounds of scripts/instructions.sh.
const GOING: u32 = 10_000;
