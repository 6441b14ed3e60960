//! The transport: the layer between the socket of a connection and its MQTT bytes.
//!
//! ```text
//!   socket -- received bytes --> Transport::receive --> MQTT bytes, in place
//!   socket <-- Head, Transport::write_owed <----------- MQTT bytes
//! ```
//! Pure: received bytes come in; MQTT bytes, and bytes that the transport itself has to send, go
//! out. Knows no packets and no sockets.
//!
//! The runtime calls only the functions of this file.

#![forbid(unsafe_code)]

pub mod listener;
pub mod proxy;
pub mod tls;
pub mod websocket;

use std::ops::Range;

pub use self::listener::{Address, Listener, Listeners, Protocol, Proxies};
use self::proxy::{Header, HeaderReader, ProxyFailure};
use self::tls::{Certified, Handshake, Tls, TlsEnd, TlsFailure};
use self::websocket::{CloseCode, Failure, HandshakePolicy, Refusal, WebSocket};

/// The server's end of the transport of one connection.
#[derive(Debug)]
pub enum Transport {
    /// The bytes of the socket are MQTT.
    Tcp,
    WebSocket(Box<WebSocket>),
    Tls(Box<Tls>),
    /// WebSocket within TLS.
    SecureWebSocket(Box<(Tls, WebSocket)>),
    /// The header of a proxy comes first. The transport of the protocol begins behind it.
    Proxied(Box<HeaderReader>),
}

// Each connection has one, and most are idle.
const _: () = assert!(size_of::<Transport>() <= 2 * size_of::<usize>(), "state is boxed");

/// The result of received bytes.
#[derive(Debug, Default)]
pub struct Received {
    /// Where the MQTT bytes are now, in one piece, among the received bytes, or in `opened`.
    pub mqtt: Range<usize>,
    /// What TLS has opened. Empty where there is no TLS.
    pub opened: Vec<u8>,
    /// The answer to a handshake, sent as it is before anything else. Usually empty.
    pub answer: String,
    /// [`Transport::write_owed`] has something to write.
    pub owes: bool,
    /// The TLS handshake that these bytes have completed.
    pub handshake: Option<Handshake>,
    /// Why the input has ended, if it has.
    pub end: Option<TransportEnd>,
}

/// Why the input of a connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportEnd {
    /// The client has closed the transport in an orderly way.
    Closed,
    /// The client's request is not one for this transport. The answer says so.
    Refused(Refusal),
    /// The client has sent bytes that the transport forbids.
    Failed(Failure),
    /// The same for TLS.
    TlsFailed(TlsFailure),
}

/// Why the broker closes a connection, for transports that can tell the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCause {
    Stopping,
    /// The incomplete packets of the shard take too much memory.
    TooLarge,
}

impl Transport {
    /// The transport of a new connection to this listener.
    pub fn of(listener: &Listener) -> Transport {
        match &listener.proxies {
            Some(proxies) => Transport::Proxied(Box::new(HeaderReader::new(proxies.name_users))),
            None => Transport::new(&listener.protocol),
        }
    }

    /// The transport of a new connection whose first bytes are those of the protocol.
    pub fn new(protocol: &Protocol) -> Transport {
        match protocol {
            Protocol::Tcp => Transport::Tcp,
            Protocol::WebSocket(_) => Transport::WebSocket(Box::default()),
            Protocol::Tls(server) => Transport::Tls(Box::new(Tls::new(server))),
            Protocol::SecureWebSocket(server, _) => {
                Transport::SecureWebSocket(Box::new((Tls::new(server), WebSocket::default())))
            }
        }
    }

    /// Whether the header of a proxy has to come, which [`Transport::receive_header`] takes.
    pub fn awaits_header(&self) -> bool {
        matches!(self, Transport::Proxied(_))
    }

    /// Takes received bytes of the header of a proxy. Once it is complete, says how many of them
    /// belong to it, and goes on as a transport of this protocol.
    pub fn receive_header(
        &mut self,
        bytes: &[u8],
        protocol: &Protocol,
    ) -> Result<Option<(Header, usize)>, ProxyFailure> {
        let Transport::Proxied(reader) = self else { return Ok(None) };
        let read = reader.receive(bytes)?;
        if read.is_some() {
            *self = Transport::new(protocol);
        }
        Ok(read)
    }

    /// Takes all received bytes, and moves the MQTT bytes among them together. `protocol` is the
    /// protocol of the listener.
    #[inline]
    pub fn receive(&mut self, bytes: &mut [u8], protocol: &Protocol) -> Received {
        match (self, protocol) {
            (Transport::WebSocket(websocket), Protocol::WebSocket(policy)) => {
                websocket.receive(bytes, policy)
            }
            // The listener has got another protocol meanwhile.
            (Transport::WebSocket(websocket), _) => {
                websocket.receive(bytes, &HandshakePolicy::nobody())
            }
            (Transport::Tls(tls), _) => receive_tls(tls, bytes),
            (Transport::SecureWebSocket(both), Protocol::SecureWebSocket(_, policy)) => {
                receive_both(both, bytes, policy)
            }
            (Transport::SecureWebSocket(both), _) => {
                receive_both(both, bytes, &HandshakePolicy::nobody())
            }
            // The header is taken by another function.
            (Transport::Proxied(_), _) => Received::default(),
            _ => Received { mqtt: 0..bytes.len(), ..Received::default() },
        }
    }

    /// Whether received bytes are MQTT bytes as they are, so that the kernel may receive into a
    /// reassembly buffer.
    #[inline]
    pub fn is_transparent(&self) -> bool {
        matches!(self, Transport::Tcp)
    }

    /// Keeps received bytes that belong to a TLS handshake, for [`Transport::receive`] without
    /// further ones: a step of a handshake takes so long that it waits for its turn. False: they do
    /// not, and are not kept.
    #[must_use]
    pub fn hold_handshake(&mut self, bytes: &[u8]) -> bool {
        self.sealer().is_some_and(|tls| tls.hold_handshake(bytes))
    }

    /// Whether the client has begun a TLS handshake that is not complete.
    pub fn is_shaking_hands(&self) -> bool {
        self.tls().is_some_and(Tls::is_shaking_hands)
    }

    /// The head that is written before the MQTT bytes of each send, if there is one.
    #[inline]
    pub fn head(&self) -> Option<Head> {
        match self {
            Transport::Tcp | Transport::Tls(_) | Transport::Proxied(_) => None,
            Transport::WebSocket(_) | Transport::SecureWebSocket(_) => Some(Head::WebSocket),
        }
    }

    /// The TLS that seals the bytes of each send, if there is one.
    pub fn sealer(&mut self) -> Option<&mut Tls> {
        match self {
            Transport::Tcp | Transport::WebSocket(_) | Transport::Proxied(_) => None,
            Transport::Tls(tls) => Some(tls),
            Transport::SecureWebSocket(both) => Some(&mut both.0),
        }
    }

    /// Who the client is by its certificate.
    pub fn certified(&self) -> Certified {
        self.tls().map(Tls::certified).unwrap_or_default()
    }

    /// Sets why the broker is about to close. False: this transport cannot tell the client.
    pub fn set_close(&mut self, cause: CloseCause) -> bool {
        let Some(websocket) = self.websocket() else { return false };
        websocket.set_close(match cause {
            CloseCause::Stopping => CloseCode::GOING_AWAY,
            CloseCause::TooLarge => CloseCode::TOO_BIG,
        });
        true
    }

    /// Passes each item that the transport itself has to send to `write`. With `closing` the last
    /// one is the end of its frames, after which nothing may be sent but [`Transport::take_end`].
    pub fn write_owed(&mut self, closing: bool, mut write: impl FnMut(&[u8])) {
        let Some(websocket) = self.websocket() else { return };
        if let Some(pong) = websocket.take_pong() {
            write(pong.frame());
        }
        if closing && let Some(close) = websocket.take_close() {
            write(&close);
        }
    }

    /// The end of TLS, which is sent as it is after all that is sealed; empty if there is none.
    pub fn take_end(&mut self) -> Vec<u8> {
        self.sealer().map(Tls::take_close).unwrap_or_default()
    }

    /// Received bytes that the transport holds because they are incomplete.
    #[inline]
    pub fn held_bytes(&self) -> usize {
        match self {
            Transport::Tcp => 0,
            Transport::WebSocket(websocket) => websocket.held_bytes(),
            Transport::Tls(tls) => tls.held_bytes(),
            Transport::SecureWebSocket(both) => both.0.held_bytes() + both.1.held_bytes(),
            Transport::Proxied(reader) => reader.held_bytes(),
        }
    }

    /// Bytes of an incomplete TLS record.
    pub fn record_bytes(&self) -> usize {
        self.tls().map_or(0, Tls::record_bytes)
    }

    /// Memory that the transport takes on an idle connection, in bytes.
    pub fn state_bytes(&self) -> usize {
        match self {
            Transport::Tcp => 0,
            Transport::WebSocket(_) => size_of::<WebSocket>(),
            Transport::Tls(_) => tls::STATE_BYTES,
            Transport::SecureWebSocket(_) => tls::STATE_BYTES + size_of::<WebSocket>(),
            Transport::Proxied(_) => size_of::<HeaderReader>(),
        }
    }

    /// Forgets the bytes that it holds: no more bytes are received.
    pub fn forget_held(&mut self) {
        if let Some(tls) = self.sealer() {
            tls.forget_held();
        }
        if let Some(websocket) = self.websocket() {
            websocket.forget_held();
        }
        if let Transport::Proxied(reader) = self {
            reader.forget_held();
        }
    }

    fn tls(&self) -> Option<&Tls> {
        match self {
            Transport::Tcp | Transport::WebSocket(_) | Transport::Proxied(_) => None,
            Transport::Tls(tls) => Some(tls),
            Transport::SecureWebSocket(both) => Some(&both.0),
        }
    }

    fn websocket(&mut self) -> Option<&mut WebSocket> {
        match self {
            Transport::Tcp | Transport::Tls(_) | Transport::Proxied(_) => None,
            Transport::WebSocket(websocket) => Some(websocket),
            Transport::SecureWebSocket(both) => Some(&mut both.1),
        }
    }
}

fn receive_tls(tls: &mut Tls, bytes: &mut [u8]) -> Received {
    let opened = tls.receive(bytes);
    let end = opened.end.map(|end| match end {
        TlsEnd::Closed => TransportEnd::Closed,
        TlsEnd::Failed(failure) => TransportEnd::TlsFailed(failure),
    });
    let (mqtt, handshake) = (0..opened.mqtt.len(), opened.handshake);
    Received { mqtt, opened: opened.mqtt, owes: tls.owes(), handshake, end, ..Received::default() }
}

/// WebSocket takes what TLS has opened.
fn receive_both(
    (tls, websocket): &mut (Tls, WebSocket),
    bytes: &mut [u8],
    policy: &HandshakePolicy,
) -> Received {
    let below = receive_tls(tls, bytes);
    let mut opened = below.opened;
    if opened.is_empty() {
        return Received { opened, ..below };
    }
    let received = websocket.receive(&mut opened, policy);
    let (owes, end) = (below.owes || received.owes, received.end.or(below.end));
    Received { opened, owes, handshake: below.handshake, end, ..received }
}

/// The head before the MQTT bytes of one send. It is written once their number is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// The head of a binary frame.
    WebSocket,
}

impl Head {
    /// The room to leave for the head, in bytes.
    pub fn room(self) -> usize {
        match self {
            Head::WebSocket => websocket::HEAD_ROOM,
        }
    }

    /// Writes the head into the end of `room`, and returns where it begins.
    pub fn write(self, room: &mut [u8], payload_bytes: usize) -> usize {
        match self {
            Head::WebSocket => {
                let room = room.first_chunk_mut().expect("as much room was left as it asks for");
                websocket::write_head(room, payload_bytes)
            }
        }
    }
}
