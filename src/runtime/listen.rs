//! The sockets that clients connect to: one per address and shard, so that the kernel spreads the
//! connections over the shards.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::AsFd,
};

use super::{
    fault::Fault,
    ring::{Ring, operation::Operation, system},
};
use crate::{base::time::Moment, transport::websocket::HandshakePolicy};

/// Binds `shards` sockets to each address, and says which addresses these are: the system picks
/// a port where none is given.
pub(super) fn bind_all(
    addresses: &[SocketAddr],
    shards: usize,
) -> Result<(Vec<SocketAddr>, Vec<Vec<TcpListener>>), Fault> {
    let mut bound = Vec::with_capacity(addresses.len());
    let mut by_shard: Vec<Vec<TcpListener>> = (0..shards).map(|_| Vec::new()).collect();
    for &asked in addresses {
        let mut address = asked;
        let fault = |error| Fault::Listen { address: asked, error };
        check_free(asked).map_err(fault)?;
        for listeners in &mut by_shard {
            let listener = bind(address).map_err(fault)?;
            address = listener.local_addr().map_err(fault)?;
            listeners.push(listener);
        }
        bound.push(address);
    }
    Ok((bound, by_shard))
}

/// Sockets that share their address would let a second broker of the same user share it, too, and
/// get half of the clients. One that does not share tells whether the address is free.
fn check_free(address: SocketAddr) -> io::Result<()> {
    system::bound_socket(address, false).map(drop)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    system::listen(system::bound_socket(address, true)?, BACKLOG)
}

/// The listening sockets of one shard: those for TCP, then those for WebSocket.
#[derive(Debug)]
pub(super) struct Listeners {
    all: Vec<Listener>,
    /// The first one for WebSocket.
    websocket_from: usize,
    /// Who may open a WebSocket.
    rules: HandshakePolicy,
}

#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    /// An accept is under way.
    armed: bool,
    /// When to accept again after the system had nothing left to accept with.
    retry: Option<Moment>,
}

impl Listeners {
    /// The last `websockets` of the sockets are for WebSocket.
    pub(super) fn new(
        sockets: Vec<TcpListener>,
        websockets: usize,
        rules: HandshakePolicy,
    ) -> Listeners {
        let websocket_from = sockets.len() - websockets;
        let new = |socket| Listener { socket, armed: false, retry: None };
        Listeners { all: sockets.into_iter().map(new).collect(), websocket_from, rules }
    }

    pub(super) fn is_for_websocket(&self, number: u16) -> bool {
        usize::from(number) >= self.websocket_from
    }

    pub(super) fn rules(&self) -> &HandshakePolicy {
        &self.rules
    }

    pub(super) fn accept_on_all(&mut self, ring: &mut Ring) {
        for (number, listener) in (0..).zip(&mut self.all) {
            listener.arm(number, ring);
        }
    }

    /// Accepts on after an accept has ended, unless it is to be retried later.
    pub(super) fn accept_again(&mut self, number: u16, ring: &mut Ring) {
        let listener = &mut self.all[usize::from(number)];
        if !listener.armed && listener.retry.is_none() {
            listener.arm(number, ring);
        }
    }

    pub(super) fn handle_ended(&mut self, number: u16) {
        self.all[usize::from(number)].armed = false;
    }

    pub(super) fn retry_later(&mut self, number: u16, at: Moment) {
        self.all[usize::from(number)].retry = Some(at);
    }

    pub(super) fn next_retry(&self) -> Option<Moment> {
        self.all.iter().filter_map(|listener| listener.retry).min()
    }

    pub(super) fn handle_time(&mut self, now: Moment, ring: &mut Ring) {
        for (number, listener) in (0..).zip(&mut self.all) {
            if listener.retry.is_some_and(|at| at <= now) {
                listener.retry = None;
                listener.arm(number, ring);
            }
        }
    }

    /// Accepts no more.
    pub(super) fn end_all(&mut self, ring: &mut Ring) {
        for (number, listener) in (0..).zip(&mut self.all) {
            listener.retry = None;
            if listener.armed {
                ring.cancel(Operation::Accept(number));
            }
        }
    }

    pub(super) fn have_ended(&self) -> bool {
        self.all.iter().all(|listener| !listener.armed)
    }
}

impl Listener {
    fn arm(&mut self, number: u16, ring: &mut Ring) {
        if !self.armed {
            self.armed = true;
            ring.accept(number, self.socket.as_fd());
        }
    }
}

/// Connections that may wait to be accepted; the system may allow fewer.
const BACKLOG: i32 = 4096;

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn local(port: u16) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)
    }

    #[test]
    fn all_shards_share_the_port_that_the_system_picks() {
        let asked = [local(0), SocketAddr::new(Ipv6Addr::LOCALHOST.into(), 0)];
        let (bound, by_shard) = bind_all(&asked, 3).unwrap();
        assert_eq!(by_shard.len(), 3);
        for listeners in by_shard {
            let addresses: Vec<_> =
                listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
            assert_eq!(addresses, bound);
        }
    }

    #[test]
    fn an_address_in_use_is_refused_in_one_line() {
        let (bound, _listeners) = bind_all(&[local(0)], 2).unwrap();
        let refused = bind_all(&bound, 1).unwrap_err().to_string();
        assert_eq!(
            refused,
            format!("cannot listen on {}: another program listens there", bound[0])
        );
    }
}
