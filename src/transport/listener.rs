//! What a listener is, from the flags to the shards.

use std::net::SocketAddr;

use super::websocket::HandshakePolicy;

/// One place where clients connect, with everything that holds for all of its connections.
///
/// Connections name their listener by its place in the list of all listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Port 0 has the system pick a port.
    pub address: SocketAddr,
    pub protocol: Protocol,
}

/// What clients of a listener speak below MQTT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    WebSocket(HandshakePolicy),
}

impl Listener {
    /// A listener for MQTT directly over TCP.
    pub fn tcp(address: SocketAddr) -> Listener {
        Listener { address, protocol: Protocol::Tcp }
    }

    pub fn websocket(address: SocketAddr, policy: HandshakePolicy) -> Listener {
        Listener { address, protocol: Protocol::WebSocket(policy) }
    }

    /// Whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        self.address.ip().is_loopback()
    }
}
