//! The PROXY protocol, with the broker as its users start it.
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
#[path = "support/websocket.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod websocket;

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process,
    time::Duration,
};

use broker::Broker;
use client::{Client, connect};
use ringmq::mqtt::{Connect, Packet, ReasonCode, Version};
use rustix::net::sockopt::set_socket_linger;
use rustls::version::TLS13;
use websocket::{REQUEST, WebSocket, request};

const LINE: &[u8] = b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 1883\r\n";
const FROM_LINE: &str = "peer=192.0.2.7:40000 ";
const FLAGS: [&str; 3] = ["--proxy-protocol", "--proxy-from=127.0.0.1", "--sys-interval=1"];

/// A header of version 2.
fn binary(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[command, family], &length, content].concat()
}

/// Of a client at `198.51.100.9:4369`, with these fields behind the addresses.
fn ipv4(fields: &[u8]) -> Vec<u8> {
    binary(0x21, 0x11, &[&[198, 51, 100, 9, 10, 0, 0, 1, 0x11, 0x11, 7, 0x5B], fields].concat())
}

/// Of a client at `[2001:db8::9]:4369`.
fn ipv6() -> Vec<u8> {
    let mut content = [0; 36];
    content[..4].copy_from_slice(&[0x20, 1, 0x0D, 0xB8]);
    content[15] = 9;
    content[32..34].copy_from_slice(&[0x11, 0x11]);
    binary(0x21, 0x21, &content)
}

fn broker(more: &[&str]) -> Broker {
    Broker::ringmq_with(2, &[&FLAGS, more].concat())
}

/// A client whose connection begins with these bytes.
fn open(broker: &Broker, header: &[u8]) -> Client {
    let mut client = Client::open(broker, Version::V5);
    client.send(header);
    client
}

/// The answer to CONNECT.
fn answer(client: &mut Client, client_id: &str) -> Option<ReasonCode> {
    client.send(&connect(Version::V5, client_id));
    client.next(|packet| match packet {
        Packet::Connack(connack) => connack.reason_code,
        other => panic!("{other:?}"),
    })
}

fn join(broker: &Broker, header: &[u8], client_id: &str) -> Client {
    let mut client = open(broker, header);
    assert_eq!(answer(&mut client, client_id), Some(ReasonCode::Success));
    client
}

/// What this counter below `$SYS/broker` is when it has reached the value.
fn await_count(broker: &Broker, topic: &str, value: u64) -> u64 {
    let watcher = join(broker, LINE, &format!("watcher of {topic}"));
    counts::await_count(watcher, topic, value)
}

/// Whether the broker ends the connection and has sent nothing.
fn is_closed(stream: &mut impl Read) -> bool {
    match stream.read(&mut [0; 1]) {
        Ok(length) => length == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn the_header_says_who_a_client_is_on_whichever_shard_it_is() {
    let mut broker = broker(&["--allow-anonymous"]);
    let own = "peer=127.0.0.1:";
    for (header, peer) in [
        (LINE.to_vec(), FROM_LINE),
        (b"PROXY TCP6 2001:db8::7 ::1 40000 1883\r\n".to_vec(), "peer=[2001:db8::7]:40000 "),
        (ipv4(b""), "peer=198.51.100.9:4369 "),
        (ipv4(b"\x04\x00\x02??\x20\x00\x05\0\0\0\0\0"), "peer=198.51.100.9:4369 "),
        (ipv6(), "peer=[2001:db8::9]:4369 "),
        (b"PROXY UNKNOWN\r\n".to_vec(), own),
        (binary(0x20, 0, b""), own),
        (binary(0x21, 0x31, &[0; 216]), own),
    ] {
        for number in 0..6 {
            let client_id = format!("client {number}");
            let mut client = open(&broker, b"");
            let packet = connect(Version::V5, &client_id);
            // In one piece, the header alone, and byte by byte.
            match number % 3 {
                0 => client.send(&[header.as_slice(), &packet].concat()),
                1 => [&header, &packet].into_iter().for_each(|part| client.send(part)),
                _ => header.iter().chain(&packet).for_each(|&byte| client.send(&[byte])),
            }
            let is_let_in = client.next(|packet| matches!(packet, Packet::Connack(_)));
            assert_eq!(is_let_in, Some(true));
            client.ping();
            let line = broker.await_words("client connected");
            assert!(line.contains(peer) && line.contains(&client_id), "{line}");
            drop(client);
            let line = broker.await_words("client disconnected");
            assert!(line.contains(peer), "{line}");
        }
    }
    broker.stop();
}

/// By the address of the proxy, the second user would have to wait as well.
#[test]
fn failed_logins_count_for_the_address_in_the_header() {
    let passwords = file("passwords", "");
    let mut broker = broker(&["--password-file", passwords.to_str().unwrap()]);
    let mut refused = |header: &[u8]| {
        let mut client = open(&broker, header);
        let name = Some("ada");
        let packet = Connect { user_name: name, ..Connect::new(Version::V5, "ada") };
        client.send(&client::encode(&Packet::Connect(packet), Version::V5));
        assert!(client.next(|packet| matches!(packet, Packet::Connack(_))).is_some());
        broker.await_words("client refused")
    };
    assert!(refused(LINE).contains(FROM_LINE));
    assert!(refused(&ipv4(b"")).contains("peer=198.51.100.9:4369 "));
    broker.stop();
    fs::remove_file(passwords).unwrap();
}

/// No header is taken from just anyone.
#[test]
fn a_stranger_is_closed_whatever_it_says() {
    let mut broker = broker(&["--allow-anonymous"]);
    for number in 1..=3 {
        let mut stranger = Client::open_from(broker.port(), Version::V5, [127, 0, 0, 9]);
        // The broker may have closed already.
        drop(stranger.stream.write_all(LINE));
        assert!(is_closed(&mut stranger.stream));
        let line = broker.await_words("the peer is no proxy of this listener");
        assert!(line.contains("peer=127.0.0.9:") && line.contains("--proxy-from"), "{line}");
        assert_eq!(await_count(&broker, "connections/refused/proxy-header", number), number);
    }
    broker.stop();
}

/// As load balancers do that look whether the port is open.
#[test]
fn a_proxy_that_resets_its_connection_at_once_is_no_stranger() {
    const CHECKS: u64 = 50;
    let broker = broker(&["--allow-anonymous"]);
    for _ in 0..CHECKS {
        let check = Client::open(&broker, Version::V5);
        // Closing it then resets it.
        set_socket_linger(&check.stream, Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(await_count(&broker, "connections/ended/abrupt", CHECKS), CHECKS);
    assert_eq!(await_count(&broker, "connections/refused/proxy-header", 0), 0);
    broker.stop();
}

#[test]
fn what_is_no_header_is_closed_counted_and_told() {
    let mut broker = broker(&["--allow-anonymous"]);
    let (missing, wrong) = ("no PROXY header came", "the PROXY header is wrong");
    let too_long = "the PROXY header is too long";
    let long_line = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat();
    let long = &binary(0x21, 0x11, &[0; 5000])[..16];
    let cases: &[(&[u8], &str)] = &[
        (&connect(Version::V5, "no header"), missing),
        (b"GET / HTTP/1.1\r\n\r\n", missing),
        (b"\x16\x03\x01\x02\x00", missing),
        (b"PROXY TCP4 192.0.2.7\r\n", wrong),
        (&binary(0x22, 0x11, &[0; 12]), wrong),
        (&binary(0x21, 0x11, &[0; 11]), wrong),
        (&long_line, too_long),
        (long, too_long),
    ];
    for (number, (bytes, words)) in (1..).zip(cases) {
        let mut client = open(&broker, bytes);
        assert!(is_closed(&mut client.stream), "{bytes:?}");
        let line = broker.await_words("connection ended before CONNECT");
        assert!(line.contains(words) && line.contains("peer=127.0.0.1:"), "{line}");
        if number == cases.len() as u64 {
            assert_eq!(await_count(&broker, "connections/refused/proxy-header", number), number);
        }
    }
    // A header may be the last thing that comes.
    let mut client = open(&broker, LINE);
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert!(is_closed(&mut client.stream));
    broker.stop();
}

#[test]
fn a_header_that_comes_late_or_never_ends_the_connection_in_time() {
    let mut broker = broker(&["--allow-anonymous", "--connect-timeout=1"]);
    for bytes in [b"".as_slice(), b"PROXY TCP4", &ipv4(b"")[..20], LINE] {
        let mut client = open(&broker, bytes);
        assert!(is_closed(&mut client.stream), "{bytes:?}");
        let line = broker.await_words("no CONNECT came in time");
        let peer = if bytes == LINE { FROM_LINE } else { "peer=127.0.0.1:" };
        assert!(line.contains(peer) && line.contains("--connect-timeout"), "{line}");
    }
    assert_eq!(await_count(&broker, "connections/ended/connect-timeout", 4), 4);
    broker.stop();
}

#[test]
fn tls_and_websocket_begin_behind_the_header() {
    let mut broker = broker(&[
        "--allow-anonymous",
        "--listen-tls=127.0.0.1:0",
        "--tls-cert=tests/tls/server.pem",
        "--tls-key=tests/tls/server-key.pem",
        "--listen-websocket=127.0.0.1:0",
        "--listen-websocket-tls=127.0.0.1:0",
    ]);
    let [websocket, tls, secure_websocket] =
        ["ws", "mqtts", "wss"].map(|scheme| broker.await_port(scheme));
    for number in 0..4 {
        let mut stream = secure::open(tls, &TLS13);
        stream.sock.write_all(&ipv6()).unwrap();
        let client_id = format!("tls {number}");
        secure::send(&mut stream, &Packet::Connect(Connect::new(Version::V5, &client_id)));
        assert_eq!(secure::packet(&mut stream)[0], 0x20);
        let line = broker.await_words("client connected");
        assert!(line.contains("peer=[2001:db8::9]:4369 ") && line.contains(&client_id), "{line}");
    }
    let mut client = WebSocket::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, websocket)));
    // The clients of a proxy need not be on this machine.
    let elsewhere = REQUEST.iter().map(|line| line.replace("localhost", "broker.example"));
    let elsewhere: Vec<String> = elsewhere.collect();
    let lines: Vec<&str> = elsewhere.iter().map(String::as_str).collect();
    client.say([LINE, request(&lines).as_bytes()].concat());
    client.is_accepted();
    client.send(connect(Version::V5, "websocket"));
    let line = broker.await_words("client connected");
    assert!(line.contains(FROM_LINE) && line.contains("websocket"), "{line}");
    let mut stream = secure::open(secure_websocket, &TLS13);
    stream.sock.write_all(LINE).unwrap();
    stream.write_all(request(REQUEST).as_bytes()).unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 101");
    // Without a header, TLS does not begin.
    let mut stream = secure::open(tls, &TLS13);
    assert!(stream.conn.complete_io(&mut stream.sock).is_err());
    broker.await_words("no PROXY header came");
    broker.stop();
}

#[test]
fn the_certificate_that_a_proxy_has_found_valid_names_the_user() {
    let mut broker = broker(&["--proxy-user-from-cn"]);
    // That the client has shown one, whether it is valid, and the common name.
    let field = |client: u8, verify: u8| {
        [&[0x20, 0, 11, client, 0, 0, 0, verify], b"\x22\0\x03ada".as_slice()].concat()
    };
    for number in 0..4 {
        join(&broker, &ipv4(&field(3, 0)), &format!("certified {number}")).ping();
        let line = broker.await_words("client connected");
        assert!(line.contains("user=\"ada\"") && line.contains("198.51.100.9"), "{line}");
    }
    for header in [ipv4(&field(1, 0)), ipv4(&field(3, 1)), ipv4(b""), LINE.to_vec()] {
        let mut client = open(&broker, &header);
        assert_eq!(answer(&mut client, "nobody"), Some(ReasonCode::NotAuthorized));
    }
    let nameless = ipv4(&[0x20, 0, 5, 3, 0, 0, 0, 0]);
    assert_eq!(answer(&mut open(&broker, &nameless), "nameless"), Some(ReasonCode::NotAuthorized));
    broker.await_words("the certificate of the client has no name");
    broker.stop();
}

/// A file for one test.
fn file(name: &str, text: &str) -> PathBuf {
    let name = format!("proxy-{name}-{}", process::id());
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_proxy_may_come_over_a_unix_socket() {
    let path = file("socket", "");
    fs::remove_file(&path).unwrap();
    let flag = format!("--listen-unix={}", path.display());
    let mut broker = broker(&["--allow-anonymous", &flag]);
    broker.await_words("listening on unix:");
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(&[LINE, &connect(Version::V311, "unix")].concat()).unwrap();
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).unwrap();
    assert_eq!(connack, *b"\x20\x02\0\0");
    let line = broker.await_words("client connected");
    assert!(line.contains(FROM_LINE) && line.contains("listener=unix:"), "{line}");
    broker.stop();
}

/// Connections that are there stay, and need no header.
#[test]
fn a_reload_can_put_a_listener_behind_proxies() {
    let text = |more: &str| {
        format!(
            "[network]\nproxy-from = \"127.0.0.0/8\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n\
             allow-anonymous = true\n{more}[[listener]]\naddress = \"127.0.0.2:0\"\n\
             allow-anonymous = true\nproxy-protocol = true\n"
        )
    };
    let file = file("reload.toml", &text(""));
    let mut broker = Broker::ringmq_configured(file.to_str().unwrap());
    let mut early = join(&broker, b"", "early");
    fs::write(&file, text("proxy-protocol = true\n")).unwrap();
    broker.signal("HUP");
    broker.await_words("SIGHUP: the configuration was read again");
    // Each shard takes the rules in one of its next turns.
    let refuses = |_| answer(&mut open(&broker, b""), "no header").is_none();
    assert!((0..1_000).any(refuses));
    early.ping();
    let is_let_in = |_| answer(&mut open(&broker, LINE), "late") == Some(ReasonCode::Success);
    assert!((0..1_000).any(is_let_in));
    while !broker.await_words("client connected").contains(FROM_LINE) {}
    broker.stop();
    fs::remove_file(file).unwrap();
}
