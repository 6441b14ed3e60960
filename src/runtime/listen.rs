//! The sockets that clients connect to: one per address and shard, so that the kernel spreads the
//! connections over the shards.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use super::{
    fault::Fault,
    ring::{Ring, operation::Operation, system},
};
use crate::{base::time::Moment, transport::Listener};

/// Binds `shards` sockets to each listener's address. The listeners come back with the addresses
/// that these are: the system picks a port where none is given.
pub(super) fn bind_all(
    listeners: &[Listener],
    shards: usize,
) -> Result<(Vec<Listener>, Vec<Vec<TcpListener>>), Fault> {
    let mut bound = Vec::with_capacity(listeners.len());
    let mut by_shard: Vec<Vec<TcpListener>> = (0..shards).map(|_| Vec::new()).collect();
    for listener in listeners {
        let asked = listener.address;
        let mut address = asked;
        let fault = |error| Fault::Listen { address: asked, error };
        check_free(asked).map_err(fault)?;
        for sockets in &mut by_shard {
            let socket = bind(address).map_err(fault)?;
            address = socket.local_addr().map_err(fault)?;
            sockets.push(socket);
        }
        bound.push(Listener { address, ..listener.clone() });
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

/// The listening sockets of one shard, one for each listener.
#[derive(Debug)]
pub(super) struct ListeningSockets {
    all: Vec<ListeningSocket>,
}

#[derive(Debug)]
struct ListeningSocket {
    listener: Listener,
    socket: TcpListener,
    /// An accept is under way.
    armed: bool,
    /// When to accept again after the system had nothing left to accept with.
    retry: Option<Moment>,
}

impl ListeningSockets {
    pub(super) fn new(listeners: Vec<Listener>, sockets: Vec<TcpListener>) -> ListeningSockets {
        let new =
            |(listener, socket)| ListeningSocket { listener, socket, armed: false, retry: None };
        ListeningSockets { all: listeners.into_iter().zip(sockets).map(new).collect() }
    }

    /// What connections of this listener have in common.
    pub(super) fn listener(&self, number: u16) -> &Listener {
        &self.all[usize::from(number)].listener
    }

    pub(super) fn accept_on_all(&mut self, ring: &mut Ring) {
        for (number, socket) in (0..).zip(&mut self.all) {
            socket.arm(number, ring);
        }
    }

    /// Accepts on after an accept has ended, unless it is to be retried later.
    pub(super) fn accept_again(&mut self, number: u16, ring: &mut Ring) {
        let socket = &mut self.all[usize::from(number)];
        if !socket.armed && socket.retry.is_none() {
            socket.arm(number, ring);
        }
    }

    pub(super) fn handle_ended(&mut self, number: u16) {
        self.all[usize::from(number)].armed = false;
    }

    pub(super) fn retry_later(&mut self, number: u16, at: Moment) {
        self.all[usize::from(number)].retry = Some(at);
    }

    pub(super) fn next_retry(&self) -> Option<Moment> {
        self.all.iter().filter_map(|socket| socket.retry).min()
    }

    pub(super) fn handle_time(&mut self, now: Moment, ring: &mut Ring) {
        for (number, socket) in (0..).zip(&mut self.all) {
            if socket.retry.is_some_and(|at| at <= now) {
                socket.retry = None;
                socket.arm(number, ring);
            }
        }
    }

    /// Accepts no more.
    pub(super) fn end_all(&mut self, ring: &mut Ring) {
        for (number, socket) in (0..).zip(&mut self.all) {
            socket.retry = None;
            if socket.armed {
                ring.cancel(Operation::Accept(number));
            }
        }
    }

    pub(super) fn have_ended(&self) -> bool {
        self.all.iter().all(|socket| !socket.armed)
    }
}

impl ListeningSocket {
    fn arm(&mut self, number: u16, ring: &mut Ring) {
        if !self.armed {
            self.armed = true;
            ring.accept(number, &self.socket);
        }
    }
}

/// Connections that may wait to be accepted; the system may allow fewer.
const BACKLOG: i32 = 4096;

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::*;

    fn listener(ip: impl Into<IpAddr>) -> Listener {
        Listener::tcp(SocketAddr::new(ip.into(), 0))
    }

    #[test]
    fn all_shards_share_the_port_that_the_system_picks() {
        let asked = [listener(Ipv4Addr::LOCALHOST), listener(Ipv6Addr::LOCALHOST)];
        let (bound, by_shard) = bind_all(&asked, 3).unwrap();
        assert_eq!(by_shard.len(), 3);
        let bound: Vec<_> = bound.iter().map(|listener| listener.address).collect();
        for sockets in by_shard {
            let addresses: Vec<_> =
                sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
            assert_eq!(addresses, bound);
        }
    }

    #[test]
    fn an_address_in_use_is_refused_in_one_line() {
        let (bound, _sockets) = bind_all(&[listener(Ipv4Addr::LOCALHOST)], 2).unwrap();
        let refused = bind_all(&bound, 1).unwrap_err().to_string();
        assert_eq!(
            refused,
            format!("cannot listen on {}: another program listens there", bound[0].address)
        );
    }
}
