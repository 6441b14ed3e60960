//! What lies between the socket of a connection and its MQTT.
//!
//! ```text
//!   socket -- received bytes --> Transport::receive --> MQTT bytes, in place
//!   socket <-- Head, Transport::write_owed <----------- MQTT bytes
//! ```
//! Pure: received bytes come in, MQTT bytes and what the transport has to say go out. Knows no
//! packets and no sockets.
//!
//! TLS, WebSocket within TLS and the PROXY protocol are further variants of [`Transport`]: the
//! runtime asks for nothing but what is here.

#![forbid(unsafe_code)]

pub mod listener;
pub mod websocket;

use std::ops::Range;

pub use self::listener::{Listener, Protocol};
use self::websocket::{CloseCode, Failure, Refusal, WebSocket};

/// The server's end of what one connection speaks below MQTT.
#[derive(Debug)]
pub enum Transport {
    /// The bytes of the socket are MQTT.
    Tcp,
    WebSocket(Box<WebSocket>),
}

// Each connection has one, and most are idle.
const _: () = assert!(size_of::<Transport>() == size_of::<usize>(), "TCP has no state");

/// What received bytes have come to.
#[derive(Debug, Default)]
pub struct Received {
    /// Where the MQTT bytes lie together now, among those that were received.
    pub mqtt: Range<usize>,
    /// Bytes of a handshake, to be sent as they are before anything else; empty as a rule.
    pub answer: String,
    /// [`Transport::write_owed`] has something to write.
    pub owes: bool,
    /// Nothing more is read, and why.
    pub end: Option<TransportEnd>,
}

/// Why nothing more of what a client sends is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportEnd {
    /// The client has closed, as it may.
    Closed,
    /// The client has not asked for what is spoken here. The answer says so.
    Refused(Refusal),
    /// The client has sent what may not come.
    Failed(Failure),
}

/// Why the broker closes a connection whose transport can say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCause {
    Stopping,
    /// An incomplete packet takes more memory than there is.
    TooLarge,
}

impl Transport {
    /// That of a new connection.
    pub fn new(protocol: &Protocol) -> Transport {
        match protocol {
            Protocol::Tcp => Transport::Tcp,
            Protocol::WebSocket(_) => Transport::WebSocket(Box::default()),
        }
    }

    /// Takes all received bytes, and moves the MQTT bytes among them together. `protocol` is that
    /// of the listener.
    #[inline]
    pub fn receive(&mut self, bytes: &mut [u8], protocol: &Protocol) -> Received {
        match (self, protocol) {
            (Transport::WebSocket(websocket), Protocol::WebSocket(policy)) => {
                websocket.receive(bytes, policy)
            }
            _ => Received { mqtt: 0..bytes.len(), ..Received::default() },
        }
    }

    /// Whether received bytes are MQTT as they come, so that the kernel may put them where they
    /// stay.
    #[inline]
    pub fn is_transparent(&self) -> bool {
        matches!(self, Transport::Tcp)
    }

    /// What is written before the MQTT bytes of each send, if anything is.
    #[inline]
    pub fn head(&self) -> Option<Head> {
        match self {
            Transport::Tcp => None,
            Transport::WebSocket(_) => Some(Head::WebSocket),
        }
    }

    /// Says why the broker is about to close. False: this transport has no way to tell.
    pub fn set_close(&mut self, cause: CloseCause) -> bool {
        let Transport::WebSocket(websocket) = self else { return false };
        websocket.set_close(match cause {
            CloseCause::Stopping => CloseCode::GOING_AWAY,
            CloseCause::TooLarge => CloseCode::TOO_BIG,
        });
        true
    }

    /// Hands what the transport itself has to send to `write`, each item whole. With `closing` its
    /// last word is among it, and nothing may be sent later.
    pub fn write_owed(&mut self, closing: bool, mut write: impl FnMut(&[u8])) {
        let Transport::WebSocket(websocket) = self else { return };
        if let Some(pong) = websocket.take_pong() {
            write(pong.frame());
        }
        if closing && let Some(close) = websocket.take_close() {
            write(&close);
        }
    }

    /// Received bytes that it holds because it has not made anything of them yet.
    #[inline]
    pub fn held_bytes(&self) -> usize {
        match self {
            Transport::Tcp => 0,
            Transport::WebSocket(websocket) => websocket.held_bytes(),
        }
    }

    /// Forgets them: nothing more is handed in.
    pub fn forget_held(&mut self) {
        if let Transport::WebSocket(websocket) = self {
            websocket.forget_held();
        }
    }
}

/// What is written before the MQTT bytes of one send, once their number is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// The head of a binary frame.
    WebSocket,
}

impl Head {
    /// The room that is left for it.
    pub fn room(self) -> usize {
        match self {
            Head::WebSocket => websocket::HEAD_ROOM,
        }
    }

    /// Writes it into the end of `room`, and says where it begins.
    pub fn write(self, room: &mut [u8], payload_bytes: usize) -> usize {
        match self {
            Head::WebSocket => {
                let room = room.first_chunk_mut().expect("as much room was left as it asks for");
                websocket::write_head(room, payload_bytes)
            }
        }
    }
}
