//! A client's end of a WebSocket, written from RFC 6455 and not from the broker.
//!
//! It says exactly what it is told to, and never waits for longer than [`PATIENCE`].

use std::{
    io::{BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const BINARY: u8 = 0x82;
pub(crate) const TEXT: u8 = 0x81;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8A;

/// The request that every client sends, but for the line ends.
pub(crate) const REQUEST: &[&str] = &[
    "GET /mqtt HTTP/1.1",
    "Host: localhost",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol: mqtt",
    "Sec-WebSocket-Version: 13",
];

pub(crate) struct WebSocket {
    pub(crate) socket: TcpStream,
    reader: BufReader<TcpStream>,
    /// Bytes of binary frames that nobody has asked for yet.
    unread: Vec<u8>,
}

impl WebSocket {
    /// A connection without a request.
    pub(crate) fn connect(address: SocketAddr) -> WebSocket {
        let socket = TcpStream::connect(address).expect("it listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        socket.set_nodelay(true).expect("an option");
        let reader = BufReader::new(socket.try_clone().expect("a descriptor"));
        WebSocket { socket, reader, unread: Vec::new() }
    }

    pub(crate) fn open(address: SocketAddr) -> WebSocket {
        let mut websocket = WebSocket::connect(address);
        websocket.say(request(REQUEST));
        websocket.is_accepted();
        websocket
    }

    /// The answer to the sample key of the RFC, and the subprotocol.
    pub(crate) fn is_accepted(&mut self) {
        let head = self.http_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let proof = "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
        assert!(head.contains(proof), "{head}");
        assert!(head.contains("\r\nSec-WebSocket-Protocol: mqtt\r\n"), "{head}");
    }

    /// The lines of an HTTP response up to the empty one.
    pub(crate) fn http_head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.reader.read_exact(&mut byte).expect("a response in time");
            head.push(byte[0]);
        }
        String::from_utf8(head).expect("HTTP is text")
    }

    /// All text that comes until the broker closes.
    pub(crate) fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.reader.read_to_string(&mut rest).expect("the broker closes in time");
        rest
    }

    pub(crate) fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).expect("the broker reads");
    }

    /// Sends MQTT bytes in one frame.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.say(frame(BINARY, bytes.as_ref()));
    }

    /// The next frame: its first byte and its payload. `None` at the end of the stream.
    pub(crate) fn next_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        match self.reader.read(&mut head[..1]).expect("a frame in time") {
            0 => return None,
            _ => self.reader.read_exact(&mut head[1..]).expect("a whole head"),
        }
        let longer: &mut [u8] = match head[1] {
            0..126 => &mut [],
            126 => &mut [0; 2],
            127 => &mut [0; 8],
            _ => unreachable!("a server does not mask"),
        };
        self.reader.read_exact(longer).expect("a whole head");
        let length = longer.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
        let length = if longer.is_empty() { usize::from(head[1]) } else { length };
        let least = [0, 126, 65_536][longer.len().min(3).div_ceil(2)];
        assert!(length >= least, "a length has its shortest form");
        let mut payload = vec![0; length];
        self.reader.read_exact(&mut payload).expect("a whole frame");
        Some((head[0], payload))
    }

    /// The next bytes of binary frames, `count` of them. Other frames fail the test.
    pub(crate) fn read(&mut self, count: usize) -> Vec<u8> {
        while self.unread.len() < count {
            let (first, payload) = self.next_frame().expect("the broker goes on");
            assert_eq!(first, BINARY, "{payload:x?}");
            assert!(!payload.is_empty(), "a frame carries something");
            self.unread.extend_from_slice(&payload);
        }
        self.unread.drain(..count).collect()
    }

    /// The next line, without its end.
    pub(crate) fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            line.extend(self.read(1));
        }
        String::from_utf8(line).expect("lines are text").trim_end().to_owned()
    }

    pub(crate) fn ask(&mut self, text: &str) -> String {
        self.send(format!("{text}\n"));
        self.line()
    }

    /// The broker closes with this code, and then the connection.
    pub(crate) fn is_closed_with(&mut self, code: u16) {
        assert_eq!(self.next_frame(), Some((CLOSE, code.to_be_bytes().to_vec())));
        assert_eq!(self.next_frame(), None);
    }
}

pub(crate) fn request(lines: &[&str]) -> String {
    lines.join("\r\n") + "\r\n\r\n"
}

/// A whole frame as a client sends it.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x5A, 0x01, 0xFF, 0x80];
    let length = payload.len();
    let mut bytes = vec![first];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..126), _) => bytes.push(0x80 | short),
        (_, Ok(two)) => {
            bytes.push(0xFE);
            bytes.extend(two.to_be_bytes());
        }
        _ => {
            bytes.push(0xFF);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}
