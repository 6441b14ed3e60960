//! Who a client is.

use std::net::{IpAddr, SocketAddr};

/// Who a client is, from its CONNECT to the end of its session: a Will is published after its
/// connection has gone, and messages are kept for a client that is away.
///
/// What a client may do follows from it alone. A certificate, or rights that were looked up once
/// for the client, are further fields of it.
#[derive(Clone, Debug)]
pub struct Principal {
    /// Empty until CONNECT has been taken.
    client_id: Box<str>,
    /// As it was proven; `None` for an anonymous client, whatever it calls itself.
    user_name: Option<Box<str>>,
    /// Which of the configured listeners accepted its connection, counted from zero.
    listener: u16,
    /// Where it comes from. Kept apart, because a `SocketAddr` takes more for what IPv6 may add.
    peer_ip: IpAddr,
    peer_port: u16,
}

impl Principal {
    /// Whoever has connected here, before CONNECT says more.
    pub fn stranger(listener: u16, peer: SocketAddr) -> Principal {
        let (peer_ip, peer_port) = (peer.ip(), peer.port());
        Principal { client_id: Box::default(), user_name: None, listener, peer_ip, peer_port }
    }

    /// The same once CONNECT has been taken.
    #[must_use]
    pub fn named(&self, client_id: &str, user_name: Option<&str>) -> Principal {
        let user_name = user_name.map(Box::from);
        Principal { client_id: client_id.into(), user_name, ..self.clone() }
    }

    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The User Name that the client has proven to be; `None` for an anonymous one.
    pub fn user_name(&self) -> Option<&str> {
        self.user_name.as_deref()
    }

    /// Which of the configured listeners accepted its connection, counted from zero.
    pub fn listener(&self) -> u16 {
        self.listener
    }

    pub fn peer(&self) -> SocketAddr {
        SocketAddr::new(self.peer_ip, self.peer_port)
    }
}
