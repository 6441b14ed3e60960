//! MQTT inside of a WebSocket, on the runtime with a toy brain, over real sockets.

#[expect(dead_code, reason = "the tests over plain TCP use the rest of it")]
mod runtime_toy;
#[path = "support/websocket.rs"]
mod websocket;

use std::{
    io::{Read, Write},
    net::Shutdown,
    time::Duration,
};

use ringmq::{
    base::time::Span,
    runtime::RuntimeConfig,
    transport::{Listener, websocket::HandshakePolicy},
};
use runtime_toy::{ANY_PORT, Running, config, start};
use websocket::{BINARY, CLOSE, PING, PONG, REQUEST, TEXT, WebSocket, frame, request};

fn open(broker: &Running) -> WebSocket {
    WebSocket::open(broker.address(1))
}

fn connect(broker: &Running) -> WebSocket {
    WebSocket::connect(broker.address(1))
}

#[test]
fn a_line_is_echoed_however_its_frames_are_split() {
    for shards in [1, 2] {
        let broker = start(config(shards));
        let mut client = connect(&broker);
        for byte in request(REQUEST).bytes() {
            client.say([byte]);
        }
        client.is_accepted();
        assert_eq!(client.ask("hello"), "hello");
        // Two lines in five frames, a byte at a time.
        let frames = [
            frame(BINARY, b"one"),
            frame(0x02, b"\ntw"),
            frame(0x00, b""),
            frame(PING, b"?"),
            frame(0x80, b"o\n"),
        ];
        for byte in frames.concat() {
            client.say([byte]);
        }
        let mut received = Vec::new();
        let mut pongs = 0;
        while received != b"one\ntwo\n" || pongs == 0 {
            match client.next_frame() {
                Some((BINARY, payload)) => received.extend(payload),
                Some((PONG, payload)) => {
                    assert_eq!(payload, b"?");
                    pongs += 1;
                }
                other => unreachable!("{other:?}"),
            }
        }
        assert_eq!(client.ask("after"), "after");
        broker.stop().unwrap();
    }
}

#[test]
fn lines_in_one_frame_are_answered_in_one_frame() {
    let broker = start(config(1));
    let mut client = open(&broker);
    client.send("one\ntwo\nthree\n");
    assert_eq!(client.next_frame(), Some((BINARY, b"one\ntwo\nthree\n".to_vec())));
}

#[test]
fn frames_that_do_not_wait_for_the_handshake_are_read() {
    let broker = start(config(2));
    for home in [0, 1] {
        let mut client = connect(&broker);
        let line = format!("!home {home}\nfirst\nsec");
        client.say([request(REQUEST).as_bytes(), &frame(BINARY, line.as_bytes())].concat());
        client.is_accepted();
        client.send("ond\n");
        assert_eq!(client.line(), format!("!home {home}"));
        assert_eq!(client.line(), "first");
        assert_eq!(client.line(), "second");
    }
}

#[test]
fn a_connection_moves_home_in_the_middle_of_a_frame() {
    let broker = start(config(2));
    for round in 0..200 {
        let home = round % 2;
        let mut client = open(&broker);
        let bytes = frame(BINARY, format!("!home {home}\nfirst\nsecond\n").as_bytes());
        let (before, after) = bytes.split_at(17 + round % 10);
        client.say(before);
        client.say(after);
        assert_eq!(client.line(), format!("!home {home}"));
        assert_eq!(client.line(), "first");
        assert_eq!(client.line(), "second");
        // A connection that has settled moves, too, and so does a Ping that was sent with it.
        let home = 1 - home;
        let line = format!("!home {home}\n");
        client.say([frame(PING, b"moving"), frame(BINARY, line.as_bytes())].concat());
        assert_eq!(client.next_frame(), Some((PONG, b"moving".to_vec())));
        assert_eq!(client.line(), format!("!home {home}"));
        assert_eq!(client.ask("there"), "there");
    }
}

#[test]
fn large_payloads_arrive_whole_both_ways() {
    let broker = start(config(1));
    let mut client = open(&broker);
    client.send("!give 3000000\n");
    let given = client.read(3_000_000);
    assert!(given.iter().copied().eq((0..=250).cycle().take(given.len())));
    let line = [vec![b'y'; 1_000_000], b"\n".to_vec()].concat();
    client.send(&line);
    assert_eq!(client.read(line.len()), line);
    for part in line.chunks(70_000) {
        client.send(part);
    }
    assert_eq!(client.read(line.len()), line);
    client.send([b"!block 1000000\n", &line[..1_000_000], b"behind\n"].concat());
    assert_eq!(client.read(1_000_000), line[..1_000_000]);
    assert_eq!(client.line(), "behind");
}

#[test]
fn a_ping_is_answered_although_the_outbox_is_full() {
    let broker = start(config(1));
    let mut slow = open(&broker);
    slow.send("!fill 20000\n");
    slow.say(frame(PING, b"still there?"));
    let mut quick = open(&broker);
    for round in 0..200 {
        assert_eq!(quick.ask(&format!("{round}")), format!("{round}"));
    }
    let (mut received, mut pongs) = (0, 0);
    while received < 20_000_000 {
        match slow.next_frame() {
            Some((BINARY, payload)) => {
                assert!(payload.iter().all(|&byte| byte == b'x'));
                received += payload.len();
            }
            Some((PONG, payload)) => {
                assert_eq!(payload, b"still there?");
                assert!(received < 10_000_000, "it did not wait for all the rest");
                pongs += 1;
            }
            other => unreachable!("{other:?}"),
        }
    }
    assert_eq!(pongs, 1);
    assert_eq!(slow.ask("after"), "after");
}

#[test]
fn a_client_that_does_not_read_its_answers_is_not_read_from() {
    let broker = start(config(1));
    let mut deaf = open(&broker);
    deaf.socket.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let line = [b"z".repeat(999), b"\n".to_vec()].concat();
    let framed = frame(BINARY, &line);
    let mut written = 0;
    while let Ok(count) = deaf.socket.write(&framed[written % framed.len()..]) {
        written += count;
        assert!(written < 200 << 20, "the broker would read for ever");
    }
    let whole = written / framed.len();
    assert!(deaf.read(whole * 1_000).chunks(1_000).all(|echo| echo == line));
    deaf.say(&framed[written % framed.len()..]);
    assert_eq!(deaf.read(1_000), line);
    assert_eq!(deaf.ask("better"), "better");
}

#[test]
fn a_farewell_ends_with_a_close_frame() {
    let broker = start(config(1));
    let mut client = open(&broker);
    client.send("!bye\n");
    assert_eq!(client.line(), "bye");
    client.is_closed_with(1000);
    // One that has only stopped sending gets what it is owed, and then that.
    let mut client = open(&broker);
    client.send("!give 100000\nhalf a line");
    client.socket.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read(100_000).len(), 100_000);
    client.is_closed_with(1000);
}

#[test]
fn a_close_is_answered_and_is_the_end() {
    let broker = start(config(1));
    let mut client = open(&broker);
    client.say([frame(BINARY, b"before\n"), frame(CLOSE, &4000u16.to_be_bytes())].concat());
    assert_eq!(client.line(), "before");
    client.is_closed_with(4000);
    // While the brain takes nothing, the end waits.
    let mut client = open(&broker);
    client.say([frame(BINARY, b"!pause\nlast\n"), frame(CLOSE, b"")].concat());
    assert_eq!(client.line(), "last");
    client.is_closed_with(1000);
    assert_eq!(broker.connect().ask("!tell"), "finished 2 broken 0 refused 0");
}

/// [MQTT-6.0.0-1] [MQTT-6.0.0-1@3.1.1]
#[test]
fn a_client_that_sends_text_is_told_and_closed() {
    for shards in [1, 2] {
        let broker = start(config(shards));
        let mut client = open(&broker);
        client.say([frame(BINARY, b"before\n"), frame(TEXT, b"text\n")].concat());
        assert_eq!(client.next_frame(), Some((BINARY, b"before\n".to_vec())));
        client.is_closed_with(1003);
    }
}

#[test]
fn frames_that_are_none_are_told_and_counted() {
    let broker = start(config(1));
    for bytes in [&b"\x82\x05hello"[..], b"\xF2\x80abcd", b"\x83\x80abcd", b"\x10\x0c\0\x04MQTT"] {
        let mut client = open(&broker);
        client.say(bytes);
        // It may go on: what the client sends later does not keep it from reading why.
        drop(client.socket.write(&[b'n'; 500]));
        client.is_closed_with(1002);
    }
    let mut witness = broker.connect();
    assert_eq!(witness.ask("!refused"), "handshakes 0 frames 4");
    assert_eq!(witness.ask("!tell"), "finished 0 broken 4 refused 0");
}

#[test]
fn an_incomplete_packet_that_takes_too_much_memory_is_too_big() {
    let broker = start(RuntimeConfig { partial_bytes_max: 100_000, ..config(1) });
    let mut greedy = open(&broker);
    // The broker may have ended the connection before all is written.
    drop(greedy.socket.write_all(&frame(BINARY, &vec![b'g'; 200_000])));
    greedy.is_closed_with(1009);
}

#[test]
fn what_asks_for_no_websocket_gets_an_http_error() {
    let rules = HandshakePolicy {
        path: Some("/mqtt".into()),
        origins: vec!["https://a.example".into()],
        ..HandshakePolicy::default()
    };
    let listeners = vec![Listener::tcp(ANY_PORT), Listener::websocket(ANY_PORT, rules)];
    let broker = start(RuntimeConfig { listeners, ..config(2) });
    let with = |place: usize, line: &'static str| {
        let mut lines = REQUEST.to_vec();
        lines[place] = line;
        request(&lines)
    };
    let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(9_000));
    for (bytes, status) in [
        (b"\x10\x0c\0\x04MQTT\x04\x02\0\0\0\0".to_vec(), "400 Bad Request"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "404 Not Found"),
        (with(0, "POST /mqtt HTTP/1.1").into(), "405 Method Not Allowed"),
        (with(0, "GET / HTTP/1.1").into(), "404 Not Found"),
        (with(2, "Accept: text/html").into(), "426 Upgrade Required"),
        (with(5, "Sec-WebSocket-Protocol: chat").into(), "400 Bad Request"),
        (with(6, "Sec-WebSocket-Version: 8").into(), "426 Upgrade Required"),
        (with(1, "Host: a\r\nOrigin: https://b.example").into(), "403 Forbidden"),
        (long.into_bytes(), "431 Request Header Fields Too Large"),
    ] {
        let mut client = connect(&broker);
        client.say(&bytes);
        let head = client.http_head();
        assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{head}");
        let body = client.rest();
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}{body}");
    }
    drop(open(&broker));
    let counted: usize = (0..2)
        .map(|shard| {
            let mut client = broker.connect();
            client.ask(&format!("!home {shard}"));
            let told = client.ask("!refused");
            let count = told.split(' ').nth(1).and_then(|count| count.parse::<usize>().ok());
            count.expect("handshakes N frames M")
        })
        .sum();
    assert_eq!(counted, 9);
}

#[test]
fn a_stopping_broker_goes_away() {
    let broker = start(RuntimeConfig { flush_time_max: Span::from_secs(10), ..config(2) });
    let mut clients: Vec<WebSocket> = (0..10).map(|_| open(&broker)).collect();
    for client in &mut clients {
        assert_eq!(client.ask("here"), "here");
    }
    let mut undecided = connect(&broker);
    undecided.say("GET /mqtt HT");
    broker.started.stop.stop();
    for client in &mut clients {
        client.is_closed_with(1001);
    }
    // The broker may not even have accepted it.
    assert_eq!(undecided.socket.read(&mut [0; 8]).unwrap_or(0), 0);
    drop((clients, undecided));
    broker.wait().unwrap();
}
