//! Traces of a running broker, and its slowest subscribers.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "foreign/broker.rs"]
#[expect(dead_code, reason = "the foreign clients' tests use the rest of it")]
mod broker;
#[path = "support/client.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod client;
#[path = "support/folder.rs"]
mod folder;
#[path = "support/http.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod http;
#[path = "support/source.rs"]
mod source;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Stdio},
};

use client::{Client, encode};
use folder::{ADMIN, Folder, READER};
use http::{Answer, get, open, request};
use ringmq::mqtt::{
    Connect, Delivery, Packet, PacketId, Publish, PublishProperties, QoS, ReasonCode, Version,
};
use serde_json::Value;

fn begin(port: u16, body: &str) -> Value {
    let answer = request(port, "POST /api/v1/traces", &[ADMIN], body);
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str(&answer.body).unwrap()
}

fn end(port: u16, trace: &Value) -> u16 {
    request(port, &format!("DELETE /api/v1/traces/{}", trace["id"]), &[ADMIN], "").status
}

fn traces(port: u16) -> Vec<Value> {
    let list: Value = serde_json::from_str(&get(port, "/api/v1/traces").body).unwrap();
    list["traces"].as_array().unwrap().clone()
}

#[track_caller]
fn assert_problem(answer: &Answer, status: u16, words: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert!(answer.body.contains(words), "{answer:?}");
}

/// A reader of the lines of a trace.
struct Reader(BufReader<TcpStream>);

impl Reader {
    fn open(port: u16, trace: &Value) -> Reader {
        let mut stream = open(port);
        let path = format!("/api/v1/traces/{}/stream", trace["id"]);
        let head = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut reader = Reader(BufReader::new(stream));
        let status = reader.line();
        assert!(status.contains(" 200 "), "{status}");
        reader
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.0.read_line(&mut line).unwrap() > 0, "the stream ends");
        line.trim_end().to_owned()
    }

    /// The next event: its name, and what it says.
    fn next(&mut self) -> (String, String) {
        loop {
            if let Some(name) = self.line().strip_prefix("event: ") {
                let data = self.line();
                let data = data.strip_prefix("data: ").unwrap_or_else(|| panic!("{data}"));
                return (name.to_owned(), data.to_owned());
            }
        }
    }

    /// The next lines have these words behind their time.
    #[track_caller]
    fn expect(&mut self, lines: &[&str]) {
        for expected in lines {
            let (name, data) = self.next();
            let (time, words) = data.split_once(' ').unwrap();
            assert!(time.len() == 24 && time.ends_with('Z'), "{data}");
            assert_eq!((name.as_str(), words), ("line", *expected));
        }
    }
}

fn publish<'a>(topic: &'a str, qos: QoS, payload: &'a [u8]) -> Packet<'a> {
    let id = PacketId::new(7).unwrap();
    let delivery = match qos {
        QoS::AtMostOnce => Delivery::AtMostOnce,
        QoS::AtLeastOnce => Delivery::AtLeastOnce(id),
        QoS::ExactlyOnce => Delivery::ExactlyOnce(id),
    };
    let properties = PublishProperties::default();
    Packet::Publish(Publish { dup: false, retain: false, delivery, topic, properties, payload })
}

fn send(client: &mut Client, version: Version, packet: &Packet<'_>) {
    client.send(&encode(packet, version));
}

#[test]
fn the_packets_of_a_client_come_as_lines_from_connect_to_the_end() {
    let folder = Folder::new("trace-client");
    let (mut broker, port) = folder.broker(&[]);
    let trace = begin(port, r#"{"client_id":"sensor 7","payload_bytes":5}"#);
    let said = broker.await_words("a trace was begun over HTTP");
    assert!(said.contains("the token in line 2 from 127.0.0.1:"), "{said}");
    let mut reader = Reader::open(port, &trace);
    let _other = Client::connect(&broker, Version::V5, "other");
    let mut client = Client::open(&broker, Version::V5);
    let mut connect = Connect::new(Version::V5, "sensor 7");
    connect.user_name = Some("alice");
    connect.password = Some(b"open sesame");
    send(&mut client, Version::V5, &Packet::Connect(connect));
    client.next(|packet| assert!(matches!(packet, Packet::Connack(_)))).unwrap();
    client.subscribe("room/#", QoS::AtLeastOnce);
    send(&mut client, Version::V5, &publish("room/t", QoS::AtLeastOnce, b"20.5 degrees"));
    let mut met = Vec::new();
    while met.len() < 2 {
        met.push(client.next(|packet| format!("{packet:?}")).unwrap());
    }
    client.ping();
    client.send(&[0xE0, 0]);
    assert_eq!(client.next(|_| ()), None);
    let (_, line) = reader.next();
    let begin = "\"sensor 7\" → CONNECT 5.0 clean-start keep-alive 0 s user alice \
                 password (hidden) from 127.0.0.1:";
    assert!(line.split_once(' ').unwrap().1.starts_with(begin), "{line}");
    assert!(line.ends_with(" at 127.0.0.1:0"), "{line}");
    let (_, line) = reader.next();
    assert!(line.contains("\"sensor 7\" ← CONNACK reason 0x00 Success"), "{line}");
    let (_, line) = reader.next();
    assert!(line.ends_with("room/# qos 1") && line.contains("→ SUBSCRIBE id "), "{line}");
    let (_, line) = reader.next();
    assert!(line.ends_with(" qos 1") && line.contains("← SUBACK id "), "{line}");
    reader.expect(&["\"sensor 7\" → PUBLISH room/t qos 1 id 7 12 bytes payload \"20.5 \"…"]);
    let mut both = [reader.next().1, reader.next().1];
    both.sort_by_key(|line| line.contains("PUBLISH"));
    assert!(both[0].ends_with("\"sensor 7\" ← PUBACK id 7"), "{both:?}");
    let sent = "\"sensor 7\" ← PUBLISH room/t qos 1 id 1 12 bytes payload \"20.5 \"…";
    assert!(both[1].ends_with(sent), "{both:?}");
    reader.expect(&[
        "\"sensor 7\" → PINGREQ",
        "\"sensor 7\" ← PINGRESP",
        "\"sensor 7\" → DISCONNECT reason 0x00 Success",
        "\"sensor 7\" * ended: the client has sent DISCONNECT, session ended",
    ]);
    assert_eq!(end(port, &trace), 204);
    assert_eq!(reader.next(), ("end".to_owned(), r#"{"reason":"deleted"}"#.to_owned()));
    assert_eq!(end(port, &trace), 404);
    assert!(broker.await_words("a trace was ended over HTTP").contains("the token in line 2"));
    broker.stop();
}

#[test]
fn a_client_that_is_connected_already_is_watched_when_the_answer_comes() {
    let folder = Folder::new("trace-connected");
    let (broker, port) = folder.broker(&[]);
    let mut clients: Vec<Client> = ["a", "b", "c", "d"]
        .into_iter()
        .map(|name| Client::connect(&broker, Version::V311, name))
        .collect();
    let by_client = begin(port, r#"{"client_id":"c"}"#);
    let by_topic = begin(port, r#"{"topic":"t/+"}"#);
    let by_address = begin(port, r#"{"address":"127.0.0.0/8"}"#);
    let elsewhere = begin(port, r#"{"address":"192.0.2.1"}"#);
    for client in &mut clients {
        client.ping();
    }
    clients[0].subscribe("#", QoS::AtMostOnce);
    for topic in ["t/x", "t/x/y"] {
        send(&mut clients[1], Version::V311, &publish(topic, QoS::AtMostOnce, b""));
        clients[0].next(|packet| assert!(matches!(packet, Packet::Publish(_)))).unwrap();
    }
    Reader::open(port, &by_client).expect(&["c → PINGREQ", "c ← PINGRESP"]);
    let mut reader = Reader::open(port, &by_topic);
    reader.expect(&["b → PUBLISH t/x qos 0 0 bytes", "a ← PUBLISH t/x qos 0 0 bytes"]);
    let mut all = Reader::open(port, &by_address);
    let pings: Vec<String> = (0..8).map(|_| all.next().1).collect();
    let count = |words: &str| pings.iter().filter(|line| line.contains(words)).count();
    assert_eq!((count("→ PINGREQ"), count("← PINGRESP")), (4, 4), "{pings:?}");
    let told: Vec<u64> = traces(port).iter().map(|it| it["lines"].as_u64().unwrap()).collect();
    assert_eq!((told[0], told[1], told[3]), (2, 2, 0));
    assert_eq!(end(port, &elsewhere), 204);
    broker.stop();
}

#[test]
fn a_refused_client_is_told_of_with_the_reason() {
    let folder = Folder::new("trace-refused");
    let (broker, port) = folder.broker(&["--disable=retain"]);
    let trace = begin(port, r#"{"address":"127.0.0.1"}"#);
    let mut reader = Reader::open(port, &trace);
    let mut client = Client::open(&broker, Version::V311);
    let refused = Connect { clean_start: false, ..Connect::new(Version::V311, "") };
    send(&mut client, Version::V311, &Packet::Connect(refused));
    let code = client.next(|packet| match packet {
        Packet::Connack(connack) => connack.reason_code,
        other => panic!("{other:?}"),
    });
    assert_eq!(code, Some(ReasonCode::ClientIdentifierNotValid));
    for words in [
        " * connection at 127.0.0.1:0",
        " → CONNECT 3.1.1 keep-alive",
        " ← CONNACK",
        " * refused at ",
    ] {
        let (_, line) = reader.next();
        assert!(line.contains(words), "{line}");
    }
    broker.stop();
}

#[test]
fn hostile_names_stay_in_one_line() {
    let folder = Folder::new("trace-hostile");
    let (broker, port) = folder.broker(&[]);
    let trace = begin(port, r##"{"topic":"#"}"##);
    let name = "<script>\u{202e}\"";
    let mut client = Client::connect(&broker, Version::V311, name);
    send(&mut client, Version::V311, &publish("x \u{202e} → DISCONNECT", QoS::AtMostOnce, b""));
    let mut reader = Reader::open(port, &trace);
    let line = r#""<script>\u{202e}\"" → PUBLISH "x \u{202e} → DISCONNECT" qos 0 0 bytes"#;
    reader.expect(&[line]);
    broker.stop();
}

#[test]
fn what_is_too_much_is_dropped_and_counted_and_a_trace_ends_by_itself() {
    let folder = Folder::new("trace-limits");
    let data = folder.path("data");
    let (mut broker, port) = folder.broker(&["--data-dir", &data]);
    let many = begin(port, r#"{"client_id":"flood","bytes":67108864,"file":true}"#);
    let narrow = begin(port, r#"{"client_id":"flood","bytes":1000}"#);
    let short = begin(port, r#"{"client_id":"nobody","seconds":1}"#);
    let mut slow = Reader::open(port, &many);
    let mut client = Client::connect(&broker, Version::V311, "flood");
    let ping = [0xC0, 0].repeat(50_000);
    let mut stream = client.stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || stream.write_all(&ping).unwrap());
    for _ in 0..50_000 {
        client.next(|packet| assert!(matches!(packet, Packet::Pingresp))).unwrap();
    }
    writing.join().unwrap();
    let said = broker.await_words("a trace has ended");
    assert!(said.contains("bytes") || said.contains("time"), "{said}");
    let reason = |trace: &Value| {
        let mut reader = Reader::open(port, trace);
        loop {
            let (name, data) = reader.next();
            if name == "end" {
                return data;
            }
        }
    };
    assert_eq!(reason(&narrow), r#"{"reason":"bytes"}"#);
    assert_eq!(reason(&short), r#"{"reason":"time"}"#);
    // The rest of the lines is on its way.
    assert_eq!(end(port, &many), 204);
    let (mut lines, mut lost) = (0, 0);
    loop {
        let (name, data) = slow.next();
        match name.as_str() {
            "line" => lines += 1,
            "lost" => {
                let count: Value = serde_json::from_str(&data).unwrap();
                lost += count["count"].as_u64().unwrap();
            }
            _ => break,
        }
    }
    assert!(lines > 0 && lost > 0, "{lines} {lost}");
    let metrics = get(port, "/metrics").body;
    let value = |name: &str| {
        let mut found = metrics.lines().filter_map(|line| line.strip_prefix(name));
        found.next().unwrap().trim().parse::<u64>().unwrap()
    };
    assert!(value("ringmq_trace_lines_lost_total ") > 0);
    assert_eq!(value("ringmq_traces "), 0);
    let path = PathBuf::from(many["file"].as_str().unwrap());
    assert!(path.starts_with(folder.path("data/traces")), "{path:?}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.lines().next().unwrap().contains("flood → CONNECT 3.1.1"), "{text}");
    assert!(text.contains(" lines are missing here\n"));
    broker.stop();
}

#[test]
fn who_may_and_what_is_wrong() {
    let folder = Folder::new("trace-wrong");
    let (broker, port) = folder.broker(&[]);
    let post = |field: &str, body: &str| request(port, "POST /api/v1/traces", &[field], body);
    let body = r#"{"client_id":"a"}"#;
    assert_eq!(request(port, "POST /api/v1/traces", &[], body).status, 401);
    assert_problem(&post(READER, body), 403, "this token is of a reader");
    assert_problem(&post(ADMIN, "{\"client_id\":\n7}"), 400, "at line 2 column 1");
    assert_problem(&post(ADMIN, r#"{"client":"a"}"#), 400, "unknown field `client`");
    assert_problem(&post(ADMIN, "{"), 400, "at line 1 column 1");
    assert_problem(&post(ADMIN, "{}"), 422, "name one of");
    assert_problem(&post(ADMIN, r#"{"topic":"a#"}"#), 422, "`topic`: ");
    assert_problem(&post(ADMIN, r#"{"client_id":"a","file":true}"#), 422, "--trace-dir");
    for path in ["/api/v1/traces/7/stream", "/api/v1/traces/x/stream"] {
        assert_problem(&get(port, path), 404, "there is no trace");
    }
    assert_problem(&request(port, "DELETE /api/v1/traces/7", &[ADMIN], ""), 404, "no trace");
    for _ in 0..8 {
        begin(port, body);
    }
    assert_problem(&post(ADMIN, body), 422, "8 traces run already");
    assert_eq!(traces(port).len(), 8);
    assert_problem(&get(port, "/api/v1/slow-subscribers?by=name"), 400, "unknown variant");
    assert_problem(&get(port, "/api/v1/slow-subscribers?limit=0"), 400, "`limit`");
    broker.stop();
}

#[test]
fn the_subcommand_prints_lines_and_its_end_ends_the_trace() {
    let folder = Folder::new("trace-command");
    let (data, traces_at) = (folder.path("data"), folder.path("traces"));
    let (mut broker, port) = folder.broker(&["--data-dir", &data, "--trace-dir", &traces_at]);
    let mut client = Client::connect(&broker, Version::V311, "watched");
    let at = format!("unix:{data}/ringmq.sock");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmq"));
    command.args(["trace", "watched", "--at", &at, "--file"]).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut line = || lines.next().unwrap().unwrap();
    let first = line();
    assert!(first.starts_with(&format!("* the broker writes to {traces_at}/trace-")), "{first}");
    client.ping();
    assert!(line().ends_with("Z watched → PINGREQ"));
    assert!(line().ends_with("Z watched ← PINGRESP"));
    child.kill().unwrap();
    child.wait().unwrap();
    let said = broker.await_words("a trace has ended");
    assert!(said.contains("unread"), "{said}");
    assert!(traces(port).iter().all(|trace| trace["running"] == false));
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmq"));
    command.args(["trace", "--topic", "#", "--at", &at, "--for", "1"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, "* the trace has ended: its time is over\n");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmq"));
    let output = command.args(["trace", "--at", &at]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    broker.stop();
}

#[test]
fn the_slowest_subscribers_are_told_by_delay_and_by_drops() {
    let folder = Folder::new("trace-slow");
    let flags = ["--max-queued=10", "--max-inflight=1", "--patience=0"];
    let (broker, port) = folder.broker(&flags);
    let list = |query: &str| {
        let answer = get(port, &format!("/api/v1/slow-subscribers{query}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        let list: Value = serde_json::from_str(&answer.body).unwrap();
        list["subscribers"].as_array().unwrap().clone()
    };
    assert!(list("").is_empty());
    let mut slow = Client::connect(&broker, Version::V5, "slow");
    slow.subscribe("t", QoS::AtLeastOnce);
    let mut fast = Client::connect(&broker, Version::V5, "fast");
    fast.subscribe("other", QoS::AtLeastOnce);
    let mut publisher = Client::connect(&broker, Version::V5, "publisher");
    for _ in 0..40 {
        send(&mut publisher, Version::V5, &publish("t", QoS::AtLeastOnce, b"x"));
        publisher.next(|packet| assert!(matches!(packet, Packet::Puback(_)))).unwrap();
    }
    // It is in the list for what was dropped before anything has waited for long.
    let mut found = list("?by=delay");
    while found.first().is_none_or(|slow| slow["delay_ms"].as_u64() < Some(10)) {
        found = list("?by=delay");
    }
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((&found[0]["client_id"], &found[0]["queued"]), (&"slow".into(), &10.into()));
    assert!(found[0]["delay_ms"].as_u64().unwrap() >= 10, "{found:?}");
    let found = list("?by=drops&limit=1");
    assert_eq!((&found[0]["client_id"], &found[0]["dropped"]), (&"slow".into(), &29.into()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmq"));
    let at = format!("127.0.0.1:{port}");
    let child = command.args(["top", "--once", "--at", &at]).stdout(Stdio::piped());
    let mut child = child.spawn().unwrap();
    let mut frame = String::new();
    child.stdout.take().unwrap().read_to_string(&mut frame).unwrap();
    child.wait().unwrap();
    let line = frame.lines().skip_while(|line| !line.contains("slowest subscribers")).nth(1);
    assert!(line.unwrap().trim_start().starts_with("slow "), "{frame}");
    broker.stop();
}
