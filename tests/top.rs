//! `ringmq top` beside a running broker.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "foreign/broker.rs"]
#[expect(dead_code, reason = "the foreign clients' tests use the rest of it")]
mod broker;
#[path = "support/client.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod client;
#[path = "support/source.rs"]
mod source;

use std::process::{Command, Output};

use broker::Broker;
use client::Client;
use ringmq::mqtt::{QoS, Version};

fn top(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmq"));
    command.arg("top").args(arguments).output().unwrap()
}

#[test]
fn once_draws_one_frame_of_the_broker_and_ends() {
    let mut broker = Broker::ringmq_with(2, &["--listen-http", "127.0.0.1:0"]);
    let port = broker.await_port("http");
    let mut client = Client::connect(&broker, Version::V5, "watched");
    client.subscribe("a/b", QoS::AtMostOnce);
    let output = top(&["--once", "--at", &format!("127.0.0.1:{port}")]);
    let frame = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{frame}");
    assert!(frame.contains("clients   1 connected, 1 sessions, 1 subscriptions\n"), "{frame}");
    assert!(frame.contains("store: none\n"), "{frame}");
    assert_eq!(frame.matches("per second").count(), 1, "{frame}");
    let shards = frame.lines().skip_while(|line| !line.contains("load")).skip(1);
    assert_eq!(shards.take_while(|line| !line.is_empty()).count(), 2, "{frame}");
    assert!(frame.contains("slowest subscribers"), "{frame}");
    assert!(!frame.contains('\u{1b}'), "{frame}");
}

#[test]
fn without_a_broker_it_says_where_it_has_looked() {
    let output = top(&["--once", "--at", "unix:/nowhere/ringmq.sock"]);
    assert_eq!(output.status.code(), Some(1));
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("/nowhere/ringmq.sock"), "{words}");
}
