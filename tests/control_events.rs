//! Who comes and who goes, as those see it who read the stream of events over HTTP.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "foreign/broker.rs"]
#[expect(dead_code, reason = "the foreign clients' tests use the rest of it")]
mod broker;
#[path = "support/client.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod client;
#[path = "support/http.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod http;
#[path = "support/source.rs"]
mod source;

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
};

use client::{Client, encode};
use http::{controlled, get, open};
use ringmq::mqtt::{Connect, Packet, Version};
use serde_json::Value;

/// A reader of the stream.
struct Reader(BufReader<TcpStream>);

impl Reader {
    /// `Err` is the status of another answer.
    fn open(port: u16, query: &str) -> Result<Reader, u16> {
        let mut stream = open(port);
        let head = format!("GET /api/v1/events{query} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut reader = Reader(BufReader::new(stream));
        let status: u16 = reader.line().split(' ').nth(1).unwrap().parse().unwrap();
        if status != 200 {
            return Err(status);
        }
        while !reader.line().starts_with("retry: ") {}
        Ok(reader)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.0.read_line(&mut line).unwrap() > 0, "the stream ends");
        line.trim_end().to_owned()
    }

    /// The next event: its name, and what it says.
    fn next(&mut self) -> (String, Value) {
        loop {
            if let Some(name) = self.line().strip_prefix("event: ") {
                let data = self.line();
                let data = data.strip_prefix("data: ").unwrap_or_else(|| panic!("{data}"));
                let data: Value = serde_json::from_str(data).unwrap();
                return (name.to_owned(), data);
            }
        }
    }

    #[track_caller]
    fn expect(&mut self, event: &str, fields: &[(&str, Value)]) -> Value {
        let (name, data) = self.next();
        assert_eq!(name, event, "{data}");
        for (field, value) in fields {
            assert_eq!(data[*field], *value, "{field} of {data}");
        }
        data
    }
}

#[test]
fn a_reader_sees_who_comes_who_goes_and_why() {
    let (broker, port) = controlled(2, &[]);
    let mut reader = Reader::open(port, "").ok().unwrap();
    let name = "a/b \"<script>";
    let first = Client::connect(&broker, Version::V5, name);
    let told = reader.expect(
        "connected",
        &[
            ("client_id", name.into()),
            ("user", Value::Null),
            ("version", "5.0".into()),
            ("listener", "127.0.0.1:0".into()),
            ("clean_start", true.into()),
            ("session_present", false.into()),
        ],
    );
    let local = first.stream.local_addr().unwrap().to_string();
    assert_eq!(told["peer"], local.as_str());
    assert!(told["time"].as_u64().unwrap() > 1_700_000_000_000);
    let mut second = Client::connect(&broker, Version::V311, name);
    let new_peer = second.stream.local_addr().unwrap().to_string();
    reader.expect(
        "disconnected",
        &[
            ("cause", "taken-over".into()),
            ("new_peer", new_peer.as_str().into()),
            ("session", "ended".into()),
        ],
    );
    reader.expect("connected", &[("version", "3.1.1".into())]);
    second.send(&[0xE0, 0]);
    assert_eq!(second.next(|_| ()), None);
    let fields =
        [("cause", "disconnect".into()), ("reason", "the client has sent DISCONNECT".into())];
    reader.expect("disconnected", &fields);
    // A session that is kept, and then makes room for a clean start.
    let mut lasting = Connect::new(Version::V5, "lasting");
    lasting.properties.session_expiry_interval = Some(600);
    let mut client = Client::open(&broker, Version::V5);
    client.send(&encode(&Packet::Connect(lasting), Version::V5));
    assert_eq!(client.next(|packet| matches!(packet, Packet::Connack(_))), Some(true));
    reader.expect("connected", &[("client_id", "lasting".into())]);
    drop(client);
    reader.expect("disconnected", &[("cause", "abrupt".into()), ("session", "kept".into())]);
    let _again = Client::connect(&broker, Version::V5, "lasting");
    reader.expect("session-ended", &[("cause", "clean-start".into())]);
    reader.expect("connected", &[("session_present", false.into())]);
    broker.stop();
}

#[test]
fn a_refused_client_is_told_of_with_the_reason_and_others_are_left_out() {
    let (broker, port) = controlled(2, &["--disable=retain", "--max-connect-size=1KiB"]);
    let mut reader = Reader::open(port, "?prefix=b").ok().unwrap();
    let _other = Client::connect(&broker, Version::V5, "a");
    let mut client = Client::open(&broker, Version::V311);
    let refused = Connect { clean_start: false, ..Connect::new(Version::V311, "") };
    client.send(&encode(&Packet::Connect(refused), Version::V311));
    assert_eq!(client.next(|packet| matches!(packet, Packet::Connack(_))), Some(true));
    let _wanted = Client::connect(&broker, Version::V5, "b");
    reader.expect("connected", &[("client_id", "b".into())]);
    let mut all = Reader::open(port, "").ok().unwrap();
    let mut client = Client::open(&broker, Version::V311);
    client.send(&encode(&Packet::Connect(refused), Version::V311));
    let told = all.expect("refused", &[("client_id", "".into()), ("version", "3.1.1".into())]);
    assert!(told["reason"].as_str().unwrap().contains("Client Identifier is empty"), "{told}");
    broker.stop();
}

#[test]
fn readers_are_bounded_and_a_place_is_free_when_one_goes() {
    let (broker, port) = controlled(2, &[]);
    let mut readers: Vec<Reader> = (0..16).map(|_| Reader::open(port, "").ok().unwrap()).collect();
    assert_eq!(Reader::open(port, "").err(), Some(503));
    let count = |port| {
        let metrics = get(port, "/metrics").body;
        let mut lines = metrics.lines();
        let value = lines.find_map(|line| line.strip_prefix("ringmq_event_readers "));
        value.unwrap().to_owned()
    };
    assert_eq!(count(port), "16");
    readers.pop();
    // The broker learns of it in its own time.
    while Reader::open(port, "").err() == Some(503) {}
    assert_eq!(get(port, "/api/v1/events?colour=red").status, 400);
    let _client = Client::connect(&broker, Version::V5, "late");
    for reader in &mut readers {
        reader.expect("connected", &[("client_id", "late".into())]);
    }
    broker.stop();
}

#[test]
fn more_connections_than_there_may_be_close_no_stream() {
    let (broker, port) = controlled(2, &[]);
    let mut reader = Reader::open(port, "").ok().unwrap();
    let idle: Vec<TcpStream> = (0..70).map(|_| open(port)).collect();
    assert_eq!(get(port, "/healthz").status, 200);
    let _client = Client::connect(&broker, Version::V5, "here");
    reader.expect("connected", &[("client_id", "here".into())]);
    drop(idle);
    broker.stop();
}
