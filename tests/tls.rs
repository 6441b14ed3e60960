//! MQTT over TLS, with the broker as its users start it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "foreign/broker.rs"]
#[expect(dead_code, reason = "the foreign clients' tests use the rest of it")]
mod broker;

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    process::Command,
    sync::Arc,
};

use broker::Broker;
use ringmq::mqtt::{
    Ack, Connect, Delivery, Packet, PacketId, Publish, PublishProperties, QoS, Subscribe,
    SubscribeFilters, SubscriptionOptions, UserProperties, Version,
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, pem::PemObject},
    version::{TLS12, TLS13},
};

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
    let mut broker = Broker::ringmq_with(2, &FLAGS);
    let line = broker.await_words("listening on mqtts://");
    let port = line.rsplit(':').next().unwrap().trim().parse().unwrap();
    (broker, port)
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

fn open(port: u16, version: &'static SupportedProtocolVersion) -> Stream {
    let mut roots = RootCertStore::empty();
    let ca = fs::read("tests/tls/ca.pem").unwrap();
    roots.add(CertificateDer::from_pem_slice(&ca).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connection = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap());
    StreamOwned::new(connection.unwrap(), TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap())
}

fn send(stream: &mut Stream, packet: &Packet<'_>) {
    let mut bytes = Vec::new();
    packet.encode(Version::V5, &mut bytes);
    stream.write_all(&bytes).unwrap();
    stream.flush().unwrap();
}

/// The next packet, with its fixed header.
fn packet(stream: &mut Stream) -> Vec<u8> {
    let mut packet = vec![0; 2];
    stream.read_exact(&mut packet).unwrap();
    while packet.last().unwrap() & 0x80 != 0 {
        packet.push(0);
        let last = packet.len() - 1;
        stream.read_exact(&mut packet[last..]).unwrap();
    }
    let digits = packet[1..].iter().enumerate();
    let rest: usize = digits.map(|(at, &digit)| usize::from(digit & 0x7F) << (7 * at)).sum();
    let head = packet.len();
    packet.resize(head + rest, 0);
    stream.read_exact(&mut packet[head..]).unwrap();
    packet
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
        let output = Command::new(env!("CARGO_BIN_EXE_ringmq"))
            .args(["--listen-tls", "127.0.0.1:0", "--tls-cert", certificate, "--tls-key", key])
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(words) && said.lines().count() == 1, "{said}");
    }
}
