//! The sockets that clients connect to: one per address and shard, so that the kernel spreads the
//! connections over the shards.

use std::{
    collections::BTreeMap,
    io, mem,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread,
};

use tracing::info;

use super::{
    fault::Fault,
    ring::{
        Ring,
        operation::Operation,
        system::{self, Sharing, Stack},
    },
    unix::{self, SocketFile},
};
use crate::{
    base::time::{Moment, Span},
    transport::{Address, Listener, Listeners},
};

/// Binds `shards` sockets to each listener's address. Returns the listeners with their actual
/// addresses: the system picks a port for port 0.
pub(super) fn bind_all(
    listeners: &[Listener],
    shards: usize,
) -> Result<(Vec<Listener>, Vec<Vec<Listening>>), Fault> {
    let mut bound = Vec::with_capacity(listeners.len());
    let mut by_shard: Vec<Vec<Listening>> = (0..shards).map(|_| Vec::new()).collect();
    for listener in listeners {
        let (address, sockets) = bind_listener(listener, listeners.iter(), false, shards)?;
        for (of_shard, socket) in by_shard.iter_mut().zip(sockets) {
            of_shard.push(socket);
        }
        bound.push(Listener { address, ..listener.clone() });
    }
    Ok((bound, by_shard))
}

/// Binds the sockets of the listeners that are open now and were not before. `ports` has those of
/// the listeners that were. Returns the sockets of each shard, with the places of their listeners,
/// and the added ports.
pub(super) fn bind_added(
    before: &Listeners,
    ports: &Ports,
    now: &Listeners,
    shards: usize,
) -> Result<(Vec<Vec<Added>>, Ports), Fault> {
    let mut by_shard: Vec<Vec<_>> = (0..shards).map(|_| Vec::new()).collect();
    let mut added = Ports::new();
    for (place, listener) in now.open().filter(|&(place, _)| !before.is_open(place)) {
        let all = now.open().map(|(_, listener)| listener);
        let port = listener.address.ip().map(|address| address.port());
        let is_ours =
            before.open().any(|(held, _)| port.is_some_and(|it| ports.get(&held) == Some(&it)));
        let (address, sockets) = bind_listener(listener, all, is_ours, shards)?;
        info!(%address, "listening on a further address");
        added.extend(address.ip().map(|address| (place, address.port())));
        for (of_shard, socket) in by_shard.iter_mut().zip(sockets) {
            of_shard.push((place, socket));
        }
    }
    Ok((by_shard, added))
}

/// A socket with the place of its listener.
type Added = (u16, Listening);

/// The ports that listeners have, by their places.
pub(super) type Ports = BTreeMap<u16, u16>;

/// The ports of listeners that are bound, in the order of their places.
pub(super) fn ports_of(bound: &[Listener]) -> Ports {
    let port = |(place, listener): (u16, &Listener)| Some((place, listener.address.ip()?.port()));
    (0..).zip(bound).filter_map(port).collect()
}

/// One socket for each shard, and the address that they share. `is_ours`: this broker has the port
/// already, at this address or at another one.
fn bind_listener<'a>(
    listener: &Listener,
    all: impl Iterator<Item = &'a Listener>,
    is_ours: bool,
    shards: usize,
) -> Result<(Address, Vec<Listening>), Fault> {
    let bound = match &listener.address {
        Address::Ip(address) => {
            let stack = stack(*address, all);
            // What a socket that does not share would find then is our own.
            let free = if is_ours { Ok(()) } else { await_free(*address, stack) };
            free.and_then(|()| bind_each(*address, stack, shards))
        }
        Address::Unix(path) => unix::bind(path, listener.file, shards)
            .map(|sockets| (listener.address.clone(), sockets)),
    };
    bound.map_err(|error| Fault::Listen { address: listener.address.clone(), error })
}

fn bind_each(
    asked: SocketAddr,
    stack: Stack,
    shards: usize,
) -> io::Result<(Address, Vec<Listening>)> {
    let mut address = asked;
    let mut sockets = Vec::with_capacity(shards);
    for _ in 0..shards {
        let socket = bind(address, stack)?;
        address = socket.local_addr()?;
        sockets.push(Listening { socket, file: None });
    }
    Ok((address.into(), sockets))
}

/// A listening socket of one shard. Of a Unix socket only the descriptor is used, which is the same
/// for both kinds.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) socket: TcpListener,
    #[expect(dead_code, reason = "the file is removed when the last shard drops it")]
    file: Option<Arc<SocketFile>>,
}

impl Listening {
    pub(super) fn unix(socket: TcpListener, file: Arc<SocketFile>) -> Listening {
        Listening { socket, file: Some(file) }
    }
}

/// `[::]` takes IPv4, too, unless another listener has the same port for IPv4.
fn stack<'a>(address: SocketAddr, mut listeners: impl Iterator<Item = &'a Listener>) -> Stack {
    let any = address.ip().is_unspecified() && address.is_ipv6();
    let takes_ipv4 = |other: &Listener| {
        let same_port = |it: SocketAddr| it.port() == address.port() && address.port() != 0;
        other.address.ip().is_some_and(|it| it.is_ipv4() && same_port(it))
    };
    if any && !listeners.any(takes_ipv4) { Stack::Dual } else { Stack::Single }
}

/// Waits until an address is free. The shards' sockets share their address, so a second broker of
/// the same user could bind it as well and get half of the clients. A socket that does not share
/// finds out. The system takes a moment to close the sockets of a broker that was killed.
fn await_free(address: SocketAddr, stack: Stack) -> io::Result<()> {
    let give_up = system::now() + FREE_WITHIN;
    loop {
        match system::bound_socket(address, stack, Sharing::Alone).map(drop) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && system::now() < give_up => {
                thread::park_timeout(LOOK_AGAIN.into());
            }
            other => return other,
        }
    }
}

fn bind(address: SocketAddr, stack: Stack) -> io::Result<TcpListener> {
    system::listen(system::bound_socket(address, stack, Sharing::Shared)?)
}

/// The listening sockets of one shard, by the places of their listeners.
#[derive(Debug)]
pub(super) struct ListeningSockets {
    all: Vec<ListeningSocket>,
}

/// ```text
///            accept        removed              accept ended
///   (socket) ------> armed -------> closing ------------------> (no socket)
///       ^                              | added again                 |
///       +------------------------------+-----------------------------+
/// ```
#[derive(Debug)]
struct ListeningSocket {
    listener: Listener,
    socket: Option<Listening>,
    /// An accept is under way.
    armed: bool,
    /// The socket is closed when its accept has ended.
    closing: bool,
    /// The socket that comes after one that is closing.
    next: Option<Listening>,
    /// When to accept again after the system had no descriptor left.
    retry: Option<Moment>,
}

impl ListeningSockets {
    pub(super) fn new(listeners: Vec<Listener>, sockets: Vec<Listening>) -> ListeningSockets {
        let sockets = sockets.into_iter().map(Some);
        let new = |(listener, socket)| ListeningSocket { socket, ..ListeningSocket::new(listener) };
        ListeningSockets { all: listeners.into_iter().zip(sockets).map(new).collect() }
    }

    /// Whether there has been a listener in this place.
    pub(super) fn has(&self, number: u16) -> bool {
        usize::from(number) < self.all.len()
    }

    /// Takes these listeners, and closes those that are not open among them.
    pub(super) fn renew(&mut self, listeners: &Listeners, ring: &mut Ring) {
        for (number, listener) in listeners.all() {
            match self.all.get_mut(usize::from(number)) {
                // The place keeps its address: the system may have picked the port.
                Some(known) => {
                    let address = known.listener.address.clone();
                    known.listener = Listener { address, ..listener.clone() };
                }
                None => self.all.push(ListeningSocket::new(listener.clone())),
            }
            if !listeners.is_open(number) {
                self.all[usize::from(number)].close(number, ring);
            }
        }
    }

    /// Accepts on the sockets of added listeners.
    pub(super) fn add(&mut self, sockets: Vec<(u16, Listening)>, ring: &mut Ring) {
        for (number, socket) in sockets {
            self.all[usize::from(number)].open(number, socket, ring);
        }
    }

    /// The listener with this number.
    pub(super) fn listener(&self, number: u16) -> &Listener {
        &self.all[usize::from(number)].listener
    }

    pub(super) fn accept_on_all(&mut self, ring: &mut Ring) {
        for (number, socket) in (0..).zip(&mut self.all) {
            socket.arm(number, ring);
        }
    }

    /// Begins to accept again after an accept has ended, unless a retry is due later.
    pub(super) fn accept_again(&mut self, number: u16, ring: &mut Ring) {
        let socket = &mut self.all[usize::from(number)];
        if !socket.armed && socket.retry.is_none() {
            socket.arm(number, ring);
        }
    }

    pub(super) fn handle_ended(&mut self, number: u16) {
        let socket = &mut self.all[usize::from(number)];
        socket.armed = false;
        if mem::take(&mut socket.closing) {
            socket.socket = socket.next.take();
        }
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
    fn new(listener: Listener) -> ListeningSocket {
        let (socket, next, retry) = (None, None, None);
        ListeningSocket { listener, socket, armed: false, closing: false, next, retry }
    }

    fn arm(&mut self, number: u16, ring: &mut Ring) {
        if let Some(socket) = self.socket.as_ref().filter(|_| !self.armed) {
            self.armed = true;
            ring.accept(number, &socket.socket);
        }
    }

    fn open(&mut self, number: u16, socket: Listening, ring: &mut Ring) {
        if self.closing {
            self.next = Some(socket);
        } else {
            self.socket = Some(socket);
            self.arm(number, ring);
        }
    }

    fn close(&mut self, number: u16, ring: &mut Ring) {
        (self.retry, self.next) = (None, None);
        if !self.armed {
            self.socket = None;
        } else if !mem::replace(&mut self.closing, true) {
            ring.cancel(Operation::Accept(number));
        }
    }
}

/// How long an address may take to become free.
const FREE_WITHIN: Span = Span::from_secs(2);
const LOOK_AGAIN: Span = Span::from_millis(10);

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream};

    use super::*;

    fn listener(ip: impl Into<IpAddr>) -> Listener {
        Listener::tcp(SocketAddr::new(ip.into(), 0))
    }

    #[test]
    fn all_shards_share_the_port_that_the_system_picks() {
        let asked = [listener(Ipv4Addr::LOCALHOST), listener(Ipv6Addr::LOCALHOST)];
        let (bound, by_shard) = bind_all(&asked, 3).unwrap();
        assert_eq!(by_shard.len(), 3);
        let bound: Vec<_> = bound.iter().map(|it| it.address.ip().unwrap()).collect();
        for sockets in by_shard {
            let addresses: Vec<_> =
                sockets.iter().map(|it| it.socket.local_addr().unwrap()).collect();
            assert_eq!(addresses, bound);
        }
    }

    /// Whether a client of this machine gets through to the first of the listeners.
    fn takes(listeners: &[Listener], ip: impl Into<IpAddr>) -> bool {
        let (bound, by_shard) = bind_all(listeners, 1).unwrap();
        let to = SocketAddr::new(ip.into(), bound[0].address.ip().unwrap().port());
        let Ok(client) = TcpStream::connect(to) else { return false };
        let (_, peer) = by_shard[0][0].socket.accept().unwrap();
        peer.ip().to_canonical() == client.local_addr().unwrap().ip()
    }

    #[test]
    fn the_unspecified_ipv6_address_takes_ipv4_too() {
        let any = || listener(Ipv6Addr::UNSPECIFIED);
        assert!(takes(&[any()], Ipv6Addr::LOCALHOST));
        assert!(takes(&[any()], Ipv4Addr::LOCALHOST));
        assert!(!takes(&[listener(Ipv6Addr::LOCALHOST)], Ipv4Addr::LOCALHOST));
        let at = |ip: IpAddr, port| Listener::tcp(SocketAddr::new(ip, port));
        let (v6, v4) = (IpAddr::from(Ipv6Addr::UNSPECIFIED), IpAddr::from(Ipv4Addr::UNSPECIFIED));
        let both = [at(v6, 1883), at(v4, 1883)];
        assert_eq!(stack(both[0].address.ip().unwrap(), both.iter()), Stack::Single);
        assert_eq!(stack(both[0].address.ip().unwrap(), both[..1].iter()), Stack::Dual);
    }

    #[test]
    fn an_address_in_use_is_refused_in_one_line() {
        let (bound, _sockets) = bind_all(&[listener(Ipv4Addr::LOCALHOST)], 2).unwrap();
        let refused = bind_all(&bound, 1).unwrap_err().to_string();
        assert_eq!(
            refused,
            format!(
                "cannot listen on {}: another program is listening on this address",
                bound[0].address
            )
        );
    }
}
