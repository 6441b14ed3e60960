//! What bad input gets over TLS: an end, a line of the log, a count, and no memory.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "foreign/broker.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod broker;
#[path = "support/client.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod client;
#[path = "support/counts.rs"]
mod counts;
#[path = "support/tls.rs"]
mod secure;
#[path = "support/source.rs"]
mod source;

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, TcpStream},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use broker::Broker;
use client::{Client, resident};
use ringmq::mqtt::{Connect, Delivery, Packet, PacketId, Publish, PublishProperties, Version};
use rustls::{
    HandshakeKind,
    version::{TLS12, TLS13},
};
use secure::{Stream, config, open, open_as, open_with, packet, send};

const FLAGS: [&str; 5] = [
    "--listen-tls=127.0.0.1:0",
    "--tls-cert=tests/tls/server.pem",
    "--tls-key=tests/tls/server-key.pem",
    "--connect-timeout=1",
    "--sys-interval=1",
];
/// The beginning of a `ClientHello` of 508 bytes.
const HALF_A_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03half of it";

/// A broker of two shards, and the port of its listener for TLS.
fn broker(more: &[&str]) -> (Broker, u16) {
    let mut broker = Broker::ringmq_with(2, &[&FLAGS, more].concat());
    let port = broker.await_port("mqtts");
    (broker, port)
}

fn connect(port: u16) -> TcpStream {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "this test measures time")]
fn now() -> Instant {
    Instant::now()
}

/// What this counter below `$SYS/broker` is when it has reached the value.
fn await_count(broker: &Broker, topic: &str, value: u64) -> u64 {
    let watcher = Client::connect(broker, Version::V5, &format!("watcher of {topic}"));
    counts::await_count(watcher, topic, value)
}

/// A client with a session and this Keep Alive, in seconds; 0 for none.
fn join(port: u16, client_id: &str, keep_alive: u16) -> Stream {
    let mut stream = open(port, &TLS13);
    log_in(&mut stream, client_id, keep_alive);
    stream
}

fn log_in(stream: &mut Stream, client_id: &str, keep_alive: u16) {
    let connect = Connect { keep_alive, ..Connect::new(Version::V5, client_id) };
    send(stream, &Packet::Connect(connect));
    assert_eq!(packet(stream)[0], 0x20);
}

#[test]
fn handshakes_that_stop_are_closed_in_time_and_leave_memory_flat() {
    const CLIENTS: usize = 500;
    /// Of the allocator, in KiB.
    const SLACK: u64 = 2 << 10;
    let (broker, port) = broker(&[]);
    let mut after = Vec::new();
    for time in 1..=4 {
        let mut sockets: Vec<TcpStream> = (0..CLIENTS).map(|_| connect(port)).collect();
        for socket in &mut sockets {
            socket.write_all(HALF_A_HELLO).unwrap();
        }
        for mut socket in sockets {
            assert_eq!(socket.read(&mut [0; 1]).unwrap(), 0);
        }
        let wanted = time * CLIENTS as u64;
        assert_eq!(await_count(&broker, "tls/handshakes/failed", wanted), wanted);
        assert_eq!(await_count(&broker, "connections/ended/connect-timeout", wanted), wanted);
        after.push(resident(&broker));
    }
    println!("resident after {CLIENTS} at a time: {after:?} KiB");
    assert!(after[3] <= after[0] + SLACK, "{after:?}");
    broker.stop();
}

/// A connection that says nothing has begun no handshake; one that ends has one.
#[test]
fn handshakes_are_counted_by_how_they_end() {
    let (broker, port) = broker(&[]);
    drop(connect(port));
    let mut plain = connect(port);
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(plain.read(&mut [0; 1]).unwrap(), 0);
    for client_id in ["first", "second"] {
        join(port, client_id, 60);
    }
    assert_eq!(await_count(&broker, "tls/handshakes/full", 2), 2);
    assert_eq!(await_count(&broker, "tls/handshakes/failed", 1), 1);
    broker.stop();
}

/// On whichever of the two shards a client comes again. After SIGHUP no earlier ticket counts.
#[test]
fn handshakes_that_resume_are_counted_as_such() {
    const AGAIN: usize = 6;
    let (mut broker, port) = broker(&[]);
    let configs = [&TLS12, &TLS13].map(|version| config(version, None));
    let (mut full, mut resumed) = (0, 0);
    let mut visit = |expected: HandshakeKind| {
        for (number, config) in configs.iter().enumerate() {
            let mut stream = open_with(port, config);
            log_in(&mut stream, &format!("client {number}"), 60);
            assert_eq!(stream.conn.handshake_kind(), Some(expected), "config {number}");
        }
        let count = configs.len() as u64;
        if expected == HandshakeKind::Full {
            full += count;
        } else {
            resumed += count;
        }
        (full, resumed)
    };
    visit(HandshakeKind::Full);
    let counts = (0..AGAIN).map(|_| visit(HandshakeKind::Resumed)).last().unwrap();
    assert_eq!(counts, (2, 12));
    assert_eq!(await_count(&broker, "tls/handshakes/resumed", 12), 12);
    assert_eq!(await_count(&broker, "tls/handshakes/full", 2), 2);
    broker.signal("HUP");
    broker.await_words("SIGHUP: the configuration was read again");
    // Each shard takes the new certificates in one of its next turns.
    let is_full = |_| {
        let mut stream = open_with(port, &configs[1]);
        log_in(&mut stream, "after the reload", 60);
        stream.conn.handshake_kind() == Some(HandshakeKind::Full)
    };
    let before = (0..100).position(is_full).unwrap() as u64;
    assert_eq!(await_count(&broker, "tls/handshakes/full", 3), 3);
    assert_eq!(await_count(&broker, "tls/handshakes/resumed", 12 + before), 12 + before);
    assert_eq!(await_count(&broker, "tls/handshakes/failed", 0), 0);
    broker.stop();
}

#[test]
fn records_that_are_too_large_end_the_connection() {
    let (mut broker, port) = broker(&[]);
    // 16 KiB and 2 KiB are the most that a record may have, before its header.
    for length in [(18_u16 << 10) + 1, u16::MAX] {
        let mut socket = connect(port);
        let [high, low] = length.to_be_bytes();
        socket.write_all(&[0x16, 3, 1, high, low, 1, 0, 1, 0xFC]).unwrap();
        assert!(matches!(ends(&mut socket), Ok(0)));
        broker.await_words("the TLS records of the client are wrong");
    }
    // The same from a client that was let in.
    let mut stream = join(port, "large", 60);
    stream.sock.write_all(&[0x17, 3, 3, 0xFF, 0xFF, 0]).unwrap();
    assert!(matches!(ends(&mut stream.sock), Ok(0)));
    broker.await_words("the TLS records of the client are wrong");
    broker.stop();
}

/// Reads to the end, and says how it came.
fn ends(socket: &mut TcpStream) -> Result<usize, ErrorKind> {
    let mut bytes = [0; 1 << 10];
    loop {
        match socket.read(&mut bytes) {
            Ok(0) => return Ok(0),
            Ok(_) => {}
            Err(error) => return Err(error.kind()),
        }
    }
}

#[test]
fn certificates_that_do_not_count_are_told_apart_in_the_log() {
    let (mut broker, port) =
        broker(&["--tls-client-ca=tests/tls/client-ca.pem", "--tls-crl=tests/tls/revoked.pem"]);
    let mut failed = 0;
    for version in [&TLS12, &TLS13] {
        for (name, words) in [
            (None, "the client has no certificate, and this listener requires one"),
            (Some("eve"), "the client's certificate was revoked"),
            (Some("old"), "the client's certificate has expired"),
            (Some("stranger"), "the client's certificate is of no authority in --tls-client-ca"),
            (Some("server-only"), "the client's certificate is not for clients"),
        ] {
            let mut stream = open_as(port, version, name);
            stream.read(&mut [0; 1]).unwrap_err();
            broker.await_words(words);
            failed += 1;
        }
    }
    assert_eq!(await_count(&broker, "tls/handshakes/failed", failed), failed);
    assert_eq!(await_count(&broker, "connections/ended/tls", failed), failed);
    broker.stop();
}

/// `cargo test --test hostile_tls handshakes_do_not -- --nocapture` prints the figures.
#[test]
fn handshakes_do_not_keep_other_clients_waiting() {
    const PINGS: usize = 1_000;
    let mut broker = Broker::ringmq_with(1, &FLAGS);
    let port = broker.await_port("mqtts");
    let is_over = AtomicBool::new(false);
    let handshakes = AtomicUsize::new(0);
    let mut delays = Vec::new();
    let start = now();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let mut stream = open(port, &TLS13);
                    stream.conn.complete_io(&mut stream.sock).unwrap();
                    handshakes.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut client = Client::connect(&broker, Version::V5, "beside handshakes");
        for _ in 0..PINGS {
            let sent = now();
            client.ping();
            delays.push(sent.elapsed());
        }
        is_over.store(true, Ordering::Relaxed);
    });
    delays.sort_unstable();
    let [p50, p99] = [delays[PINGS / 2], delays[PINGS * 99 / 100]];
    let handshakes = handshakes.into_inner();
    println!("{handshakes} handshakes in {:?}: p50 {p50:?}, p99 {p99:?}", start.elapsed());
    // The clients of the test share the processors with the broker.
    assert!(p50 < Duration::from_millis(20), "p50 {p50:?}, p99 {p99:?}");
    broker.stop();
}

/// Without Keep Alive, nothing else would end it.
#[test]
fn a_record_that_stays_incomplete_takes_too_long() {
    let (broker, port) = broker(&["--packet-timeout=1"]);
    let mut stream = join(port, "half a record", 0);
    stream.sock.write_all(&[0x17, 3, 3, 0x40, 0, 1, 2, 3]).unwrap();
    assert!(matches!(ends(&mut stream.sock), Ok(0)));
    assert_eq!(await_count(&broker, "connections/ended/packet-timeout", 1), 1);
    broker.stop();
}

/// At most looks a packet and a record are incomplete, but never the same ones for long.
#[test]
fn a_client_that_sends_without_a_pause_is_not_taken_for_a_slow_one() {
    let (broker, port) = broker(&["--packet-timeout=1"]);
    let mut stream = join(port, "busy", 0);
    let payload = vec![b'x'; 3_000];
    let delivery = Delivery::AtMostOnce;
    let (topic, properties) = ("busy", PublishProperties::default());
    let message =
        Publish { dup: false, retain: false, delivery, topic, properties, payload: &payload };
    let mut bytes = Vec::new();
    for _ in 0..10 {
        Packet::Publish(message).encode(Version::V5, &mut bytes);
    }
    let end = now() + Duration::from_secs(3);
    while now() < end {
        stream.write_all(&bytes).unwrap();
    }
    let delivery = Delivery::AtLeastOnce(PacketId::MIN);
    send(&mut stream, &Packet::Publish(Publish { delivery, ..message }));
    assert_eq!(packet(&mut stream)[0], 0x40);
    broker.stop();
}
