//! MQTT over TLS, with the broker as its users start it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "foreign/broker.rs"]
#[expect(dead_code, reason = "the foreign clients' tests use the rest of it")]
mod broker;
#[path = "support/tls.rs"]
mod secure;

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    process::Command,
};

use broker::Broker;
use ringmq::mqtt::{
    Ack, Connect, Delivery, Packet, PacketId, Publish, PublishProperties, QoS, Subscribe,
    SubscribeFilters, SubscriptionOptions, UserProperties, Version,
};
use rustls::{
    SupportedProtocolVersion,
    version::{TLS12, TLS13},
};
use secure::{Stream, open, open_as, packet, send};

const FLAGS: [&str; 7] = [
    "--listen-tls",
    "127.0.0.1:0",
    "--tls-cert",
    "tests/tls/server.pem",
    "--tls-key",
    "tests/tls/server-key.pem",
    "--connect-timeout=1",
];

/// A broker of two shards, and the port of its listener for TLS.
fn broker() -> (Broker, u16) {
    broker_with(&[])
}

fn broker_with(more: &[&str]) -> (Broker, u16) {
    let mut broker = Broker::ringmq_with(2, &[&FLAGS, more].concat());
    let port = broker.await_port("mqtts");
    (broker, port)
}

#[test]
fn messages_come_back_over_both_versions() {
    let (broker, port) = broker();
    for (version, client_id) in [(&TLS12, "older"), (&TLS13, "newer")] {
        let mut stream = open(port, version);
        send(&mut stream, &Packet::Connect(Connect::new(Version::V5, client_id)));
        assert_eq!(packet(&mut stream)[0], 0x20);
        let filters = [(client_id, SubscriptionOptions::with_qos(QoS::AtLeastOnce))];
        send(
            &mut stream,
            &Packet::Subscribe(Subscribe {
                packet_id: PacketId::MIN,
                subscription_identifier: None,
                user_properties: UserProperties::default(),
                filters: SubscribeFilters::List(&filters[..]),
            }),
        );
        assert_eq!(packet(&mut stream)[0], 0x90);
        for length in [0, 5, 16 << 10, 1 << 20] {
            let payload: Vec<u8> = (0..=250).cycle().take(length).collect();
            send(
                &mut stream,
                &Packet::Publish(Publish {
                    dup: false,
                    retain: false,
                    delivery: Delivery::AtLeastOnce(PacketId::MIN),
                    topic: client_id,
                    properties: PublishProperties::default(),
                    payload: &payload,
                }),
            );
            let mut both = [packet(&mut stream), packet(&mut stream)];
            both.sort_by_key(|packet| packet[0] >> 4);
            let [message, acknowledgement] = both;
            assert_eq!((message[0], acknowledgement[0]), (0x32, 0x40));
            assert!(message.ends_with(&payload));
            let at = message.iter().skip(1).position(|byte| byte & 0x80 == 0).unwrap() + 4;
            let id = u16::from_be_bytes([
                message[at + client_id.len()],
                message[at + client_id.len() + 1],
            ]);
            let id = PacketId::new(id).unwrap();
            send(&mut stream, &Packet::Puback(Ack::success(id)));
        }
    }
    broker.stop();
}

/// The CONNACK for a client with this certificate and this Client Identifier.
fn connack(
    port: u16,
    version: &'static SupportedProtocolVersion,
    name: Option<&str>,
    client_id: &str,
) -> Vec<u8> {
    let mut stream = open_as(port, version, name);
    let mut connect = Connect::new(Version::V5, client_id);
    connect.user_name = Some("somebody");
    send(&mut stream, &Packet::Connect(connect));
    packet(&mut stream)
}

const SUCCESS: u8 = 0;
const CLIENT_IDENTIFIER_NOT_VALID: u8 = 0x85;
const NOT_AUTHORIZED: u8 = 0x87;

/// The place of the Reason Code in a short CONNACK.
const REASON: usize = 3;

#[test]
fn a_certificate_proves_the_user_and_others_are_refused() {
    let (mut broker, port) = broker_with(&[
        "--tls-client-ca=tests/tls/client-ca.pem",
        "--tls-crl=tests/tls/revoked.pem",
        "--tls-client-certs=optional",
        "--tls-user-from=cn",
    ]);
    for version in [&TLS12, &TLS13] {
        let answers = ["a", "b", "c", "d"].map(|id| connack(port, version, Some("ada"), id));
        assert!(answers.iter().all(|answer| answer[REASON] == SUCCESS), "{answers:?}");
        broker.await_words("user=\"ada\"");
        assert_eq!(connack(port, version, Some("odd"), "a")[REASON], NOT_AUTHORIZED);
        broker.await_words("the certificate of the client has no name");
        assert_eq!(connack(port, version, None, "a")[REASON], NOT_AUTHORIZED);
        broker.await_words("this listener requires authentication");
    }
    for (name, words) in [
        ("eve", "the client's certificate was revoked"),
        ("old", "the client's certificate has expired"),
        ("stranger", "the client's certificate is of no authority in --tls-client-ca"),
    ] {
        let mut stream = open_as(port, &TLS13, Some(name));
        stream.read(&mut [0; 1]).unwrap_err();
        broker.await_words(words);
    }
    broker.stop();
}

#[test]
fn the_user_of_a_certificate_can_be_held_to_its_client_identifier() {
    let (broker, port) = broker_with(&[
        "--tls-client-ca=tests/tls/client-ca.pem",
        "--tls-user-from=cn",
        "--tls-user-is-client-id",
    ]);
    assert_eq!(connack(port, &TLS13, Some("ada"), "ada")[REASON], SUCCESS);
    let assigned = connack(port, &TLS13, Some("ada"), "");
    assert_eq!(assigned[REASON], SUCCESS);
    assert!(assigned.windows(6).any(|bytes| bytes == b"\x12\x00\x03ada"));
    let other = connack(port, &TLS13, Some("ada"), "bob");
    assert_eq!(other[REASON], CLIENT_IDENTIFIER_NOT_VALID);
    broker.stop();
}

/// Sends one frame of a WebSocket client, with a mask of zeros.
fn send_frame(stream: &mut Stream, opcode: u8, payload: &[u8]) {
    let mut frame = vec![0x80 | opcode];
    if let Ok(short @ 0..=125) = u8::try_from(payload.len()) {
        frame.push(0x80 | short);
    } else {
        assert!(payload.len() > 0xFFFF, "the test has no frames of a medium length");
        frame.push(0x80 | 127);
        frame.extend((payload.len() as u64).to_be_bytes());
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    stream.write_all(&frame).unwrap();
    stream.flush().unwrap();
}

/// The opcode and the payload of the next frame of the server.
fn frame(stream: &mut Stream) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    stream.read_exact(&mut head).unwrap();
    let mut length = vec![head[1]];
    if head[1] > 125 {
        length = vec![0; if head[1] == 126 { 2 } else { 8 }];
        stream.read_exact(&mut length).unwrap();
    }
    let length = length.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).unwrap();
    (head[0], payload)
}

#[test]
fn mqtt_comes_over_websocket_over_tls() {
    let (mut broker, _) = broker_with(&["--listen-websocket-tls", "127.0.0.1:0"]);
    let port = broker.await_port("wss");
    for (version, client_id) in [(&TLS12, "older"), (&TLS13, "newer")] {
        let mut stream = open(port, version);
        let request = "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
            Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.extend(byte);
        }
        assert!(answer.starts_with(b"HTTP/1.1 101"));
        let mut up = Vec::new();
        Packet::Connect(Connect::new(Version::V5, client_id)).encode(Version::V5, &mut up);
        send_frame(&mut stream, 2, &up);
        assert_eq!(frame(&mut stream).1[0], 0x20);
        send_frame(&mut stream, 2, b"\x82\x07\x00\x01\x00\x00\x01t\x00");
        assert_eq!(frame(&mut stream).1[0], 0x90);
        let payload: Vec<u8> = (0..=250).cycle().take(100_000).collect();
        let mut publish = Vec::new();
        Packet::Publish(Publish {
            dup: false,
            retain: false,
            delivery: Delivery::AtMostOnce,
            topic: "t",
            properties: PublishProperties::default(),
            payload: &payload,
        })
        .encode(Version::V5, &mut publish);
        send_frame(&mut stream, 2, &publish);
        send_frame(&mut stream, 9, b"are you there");
        let (mut got, mut pongs) = (Vec::new(), 0);
        while got.len() < publish.len() || pongs == 0 {
            match frame(&mut stream) {
                (0x82, part) => got.extend(part),
                (opcode, part) => {
                    assert_eq!((opcode, &part[..]), (0x8A, &b"are you there"[..]));
                    pongs += 1;
                }
            }
        }
        assert_eq!(got, publish);
        send_frame(&mut stream, 8, b"\x03\xe8");
        assert_eq!(frame(&mut stream).0, 0x88);
        // TLS ends in an orderly way: without it, this would be an error.
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
    }
    broker.stop();
}

#[test]
fn plain_mqtt_on_a_tls_port_is_named_in_the_log() {
    let (mut broker, port) = broker();
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    socket.write_all(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01a").unwrap();
    assert_eq!(socket.read_to_end(&mut Vec::new()).unwrap(), 0);
    broker.await_words("plain MQTT on a TLS port");
    broker.stop();
}

#[test]
fn half_a_client_hello_is_closed_in_time() {
    let (mut broker, port) = broker();
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    socket.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").unwrap();
    assert_eq!(socket.read_to_end(&mut Vec::new()).unwrap(), 0);
    broker.await_words("no CONNECT came in time");
    broker.stop();
}

#[test]
fn files_that_cannot_be_used_refuse_the_start_in_one_line() {
    for (certificate, key, words) in [
        ("/nonexistent/a", "tests/tls/server-key.pem", "--tls-cert /nonexistent/a cannot be read"),
        ("tests/tls/server.pem", "/nonexistent/b", "--tls-key /nonexistent/b cannot be read"),
        ("Cargo.toml", "tests/tls/server-key.pem", "holds no certificate in PEM form"),
        ("tests/tls/server.pem", "Cargo.toml", "holds no private key in PEM form"),
        ("tests/tls/server.pem", "tests/tls/other-key.pem", "the key does not fit the certificate"),
    ] {
        assert_refused(&["--tls-cert", certificate, "--tls-key", key], words);
    }
    for (flags, words) in [
        (&["--tls-client-ca=/nonexistent"][..], "--tls-client-ca /nonexistent cannot be read"),
        (&["--tls-client-ca=Cargo.toml"], "--tls-client-ca holds no certificate in PEM form"),
        (
            &["--tls-client-ca=tests/tls/client-ca.pem", "--tls-crl=Cargo.toml"],
            "--tls-crl holds no revocation list in PEM form",
        ),
    ] {
        assert_refused(&[&FLAGS[2..6], flags].concat(), words);
    }
}

/// Asserts that a broker with these flags for TLS does not start, and says why in one line.
fn assert_refused(flags: &[&str], words: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_ringmq"))
        .args(["--listen-tls", "127.0.0.1:0"])
        .args(flags)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(words) && said.lines().count() == 1, "{said}");
}
