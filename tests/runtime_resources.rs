//! What the runtime holds on to: descriptors and memory. Alone in its process, as it counts both.

mod runtime_toy;
#[path = "support/websocket.rs"]
#[expect(dead_code, reason = "the tests of WebSockets use the rest of it")]
mod websocket;

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use runtime_toy::{Running, config, start};
use websocket::{PING, PONG, WebSocket, frame};

#[test]
fn neither_descriptors_nor_memory_leak() {
    let broker = start(config(2));
    let mut client = broker.connect();
    client.say("warm\n");
    assert_eq!(client.read(5), b"warm\n");
    drop(client);
    descriptors_come_back_after_resets(&broker);
    waiting_connections_cost_little(&broker);
    idle_websockets_cost_little(&broker);
    pings_of_a_deaf_client_cost_nothing(&broker);
    broker.stop().expect("it ends in order");
}

fn descriptors_come_back_after_resets(broker: &Running) {
    let before = open_descriptors();
    for round in 0..10_000 {
        let mut socket = TcpStream::connect(broker.address(0)).expect("it listens");
        match round % 4 {
            0 => socket.write_all(b"hello\n").expect("it reads"),
            1 => socket.write_all(b"!give 100000\n").expect("it reads"),
            2 => socket.write_all(b"!home 1\nhel").expect("it reads"),
            _ => {}
        }
        if round % 4 < 2 && round % 3 == 0 {
            // Closing with answers unread resets the connection.
            let _one = socket.read(&mut [0; 1]);
        }
    }
    settle(|| open_descriptors() <= before);
}

fn waiting_connections_cost_little(broker: &Running) {
    const CONNECTIONS: usize = 5_000;
    let mut sockets: Vec<TcpStream> = Vec::with_capacity(CONNECTIONS);
    let before = resident_bytes();
    for _ in 0..CONNECTIONS {
        let mut socket = TcpStream::connect(broker.address(0)).expect("it listens");
        socket.write_all(b"12345").expect("it reads");
        sockets.push(socket);
    }
    // Whoever is answered comes after all of them.
    assert_eq!(broker.connect().ask("done"), "done");
    let each = resident_bytes().saturating_sub(before) / CONNECTIONS;
    assert!(each < 2_000, "{each} bytes for each connection with an incomplete packet");
    for socket in &mut sockets {
        socket.write_all(b"6\n").expect("it reads");
    }
    for socket in &mut sockets {
        let mut echo = [0; 7];
        socket.read_exact(&mut echo).expect("it answers");
        assert_eq!(&echo, b"123456\n");
    }
    let each = resident_bytes().saturating_sub(before) / CONNECTIONS;
    assert!(each < 2_000, "{each} bytes for each connection that was answered");
}

fn idle_websockets_cost_little(broker: &Running) {
    const CONNECTIONS: usize = 5_000;
    let before = resident_bytes();
    let mut clients = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        // Without its own buffer for reading, which would be counted too.
        let WebSocket { mut socket, .. } = WebSocket::open(broker.address(1));
        socket.write_all(&frame(PING, b"idle")).expect("it reads");
        let mut pong = [0; 6];
        socket.read_exact(&mut pong).expect("it answers");
        assert_eq!(&pong, b"\x8A\x04idle");
        clients.push(socket);
    }
    let each = resident_bytes().saturating_sub(before) / CONNECTIONS;
    assert!(each < 2_000, "{each} bytes for each idle WebSocket");
}

/// It sends 20 MB of Pings and reads none of the answers, until the end.
fn pings_of_a_deaf_client_cost_nothing(broker: &Running) {
    let mut deaf = WebSocket::open(broker.address(1));
    let mut pings = Vec::new();
    for number in 0..1_000u32 {
        pings.extend(frame(PING, &[&number.to_be_bytes()[..], &[b'p'; 121]].concat()));
    }
    let before = resident_bytes();
    for _ in 0..160 {
        deaf.say(&pings);
    }
    deaf.send("last\n");
    let mut pongs = 0;
    loop {
        match deaf.next_frame().expect("it goes on") {
            (PONG, payload) => {
                assert_eq!(payload.len(), 125);
                pongs += 1;
            }
            (_, payload) => break assert_eq!(payload, b"last\n"),
        }
    }
    assert!((1..=160_000).contains(&pongs), "{pongs} Pongs");
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 4 << 20, "{grown} bytes for {pongs} Pongs");
}

/// Waits for what the broker does in its own time, though not for ever.
fn settle(is_so: impl Fn() -> bool) {
    let came = (0..2_000).any(|_| {
        thread::park_timeout(Duration::from_millis(10));
        is_so()
    });
    assert!(came, "it did not come to this");
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("it is there").count()
}

fn resident_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/statm").expect("it is there");
    let pages = status.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.expect("a number") * 4096
}
