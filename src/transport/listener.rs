//! A listener: one value that flags make, and that runtime and shards use.

use std::net::SocketAddr;

use super::{tls::ServerTls, websocket::HandshakePolicy};

/// One place where clients connect, with everything that holds for all of its connections.
///
/// A connection refers to its listener by the place in the list of all listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// With port 0 the system picks a port.
    pub address: SocketAddr,
    pub protocol: Protocol,
}

/// What clients of a listener speak below MQTT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    WebSocket(HandshakePolicy),
    Tls(ServerTls),
}

impl Listener {
    /// A listener for MQTT directly over TCP.
    pub fn tcp(address: SocketAddr) -> Listener {
        Listener { address, protocol: Protocol::Tcp }
    }

    /// A listener for MQTT over TLS.
    pub fn tls(address: SocketAddr, server: ServerTls) -> Listener {
        Listener { address, protocol: Protocol::Tls(server) }
    }

    pub fn websocket(address: SocketAddr, policy: HandshakePolicy) -> Listener {
        let policy = HandshakePolicy { is_loopback: address.ip().is_loopback(), ..policy };
        Listener { address, protocol: Protocol::WebSocket(policy) }
    }

    /// Whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        self.address.ip().is_loopback()
    }
}
