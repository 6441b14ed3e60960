//! One operation, so many times, for a counter of instructions to watch.
//!
//! ```text
//! instructions --list                the names of the operations
//! instructions --run NAME ROUNDS     one of them
//! instructions                       each of them once
//! ```
//! Two runs of one operation differ by their rounds alone, so that preparing drops out.

#[path = "support/forest.rs"]
mod forest;
#[path = "support/forwarding.rs"]
mod forwarding;
#[path = "../tests/support/workbench.rs"]
mod workbench;

use std::{env, hint::black_box};

use forest::{Forest, SHAPES};
use forwarding::{PAYLOAD, TOPIC, VERSION};
use mimalloc::MiMalloc;
use ringmq::mqtt::{Delivery, Packet, frame};
use workbench::publish;

/// The broker's own.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Prepares an operation that can be repeated.
type Prepare = fn() -> Box<dyn FnMut()>;

const OPERATIONS: &[(&str, Prepare)] = &[
    ("decode PUBLISH QoS 0", || Box::new(decode_publish())),
    ("match among 1,000 exact", || Box::new(match_next("exact"))),
    ("match among 1,000 with one +", || Box::new(match_next("one +"))),
    ("match among 1,000 with #", || Box::new(match_next("#"))),
    ("match among 1,000 of eight levels", || Box::new(match_next("eight levels"))),
    ("forward QoS 0 to 1", || Box::new(forwarding::qos_0(1))),
    ("forward QoS 0 to 101", || Box::new(forwarding::qos_0(101))),
    ("forward QoS 1 to 1, with PUBACK", || Box::new(forwarding::qos_1())),
];

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--list"] => OPERATIONS.iter().for_each(|(name, _)| println!("{name}")),
        ["--run", name, rounds] => run(prepare(name), rounds.parse().expect("a number of rounds")),
        _ => OPERATIONS.iter().for_each(|(_, prepare)| run(*prepare, 1)),
    }
}

fn prepare(name: &str) -> Prepare {
    let operation = OPERATIONS.iter().find(|(known, _)| *known == name);
    operation.expect("--list names the operations").1
}

fn run(prepare: Prepare, rounds: u64) {
    let mut operation = prepare();
    for _ in 0..rounds {
        operation();
    }
}

fn decode_publish() -> impl FnMut() {
    let bytes = publish(VERSION, Delivery::AtMostOnce, TOPIC, &PAYLOAD);
    move || {
        let frame = frame::split(black_box(&bytes), frame::PACKET_SIZE_MAX);
        let frame = frame.expect("the frame is well formed").expect("the frame is whole");
        let packet = Packet::decode(frame, VERSION).expect("the packet is well formed");
        black_box(packet);
    }
}

fn match_next(shape: &str) -> impl FnMut() + use<> {
    let shape = SHAPES.iter().find(|known| known.name == shape).expect("the shape has this name");
    let mut forest = Forest::new(shape, 1_000);
    move || forest.match_next()
}
