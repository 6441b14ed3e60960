//! The sockets that the control thread listens on, and who comes through them.

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixListener,
};

use axum::extract::Request;
use tokio::net::{self, TcpStream, UnixStream};

use crate::{
    base::local::{self, Credentials},
    runtime::{SocketFile, listen_unix},
    transport::{Address, listener::FileAccess},
};

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    /// For a client of a Unix socket the address that stands for it.
    pub(super) address: SocketAddr,
    pub(super) way: Way,
}

/// What is known of a peer by the socket that it came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Other machines reach the socket.
    Network,
    /// Only this machine reaches it.
    Machine,
    /// The peer owns the Unix socket, or is root: whoever is may read the file of tokens as well.
    Owner,
}

impl Peer {
    pub(super) fn of(request: &Request) -> Peer {
        *request.extensions().get().expect("each connection tells its requests the peer")
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        local::Peer(self.address).fmt(f)
    }
}

/// A socket that listens. Connections wait until they are accepted.
#[derive(Debug)]
pub(super) struct Socket {
    address: Address,
    kind: Kind<TcpListener, UnixListener>,
}

#[derive(Debug)]
enum Kind<T, U> {
    Tcp(T, Way),
    /// With the user that owns the file, which is removed when it is dropped.
    Unix(U, u32, SocketFile),
}

/// A connection.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    pub(super) fn bind(address: &Address) -> io::Result<Socket> {
        match address {
            Address::Ip(asked) => {
                let listener = TcpListener::bind(asked)?;
                listener.set_nonblocking(true)?;
                let address = listener.local_addr()?;
                let way = if address.ip().is_loopback() { Way::Machine } else { Way::Network };
                Ok(Socket { address: address.into(), kind: Kind::Tcp(listener, way) })
            }
            Address::Unix(path) => {
                let (listener, file) = listen_unix(path, FileAccess { mode: MODE, owner: None })?;
                listener.set_nonblocking(true)?;
                let kind = Kind::Unix(listener, file.owner()?, file);
                Ok(Socket { address: address.clone(), kind })
            }
        }
    }

    /// The address, with the port that the system has picked.
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// On the thread that accepts.
    pub(super) fn into_acceptor(self) -> io::Result<Acceptor> {
        Ok(Acceptor(match self.kind {
            Kind::Tcp(listener, way) => Kind::Tcp(net::TcpListener::from_std(listener)?, way),
            Kind::Unix(listener, owner, file) => {
                Kind::Unix(net::UnixListener::from_std(listener)?, owner, file)
            }
        }))
    }
}

/// Accepts the connections of a socket.
#[derive(Debug)]
pub(super) struct Acceptor(Kind<net::TcpListener, net::UnixListener>);

impl Acceptor {
    pub(super) async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match &self.0 {
            Kind::Tcp(listener, way) => {
                let (stream, address) = listener.accept().await?;
                Ok((Stream::Tcp(stream), Peer { address, way: *way }))
            }
            Kind::Unix(listener, owner, _) => {
                let (stream, _) = listener.accept().await?;
                let credentials = stream.peer_cred()?;
                let (uid, gid) = (credentials.uid(), credentials.gid());
                // A process of another namespace has no number here.
                let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok());
                let address = Credentials { uid, gid, pid: pid.unwrap_or(0) }.as_address();
                Ok((Stream::Unix(stream), Peer { address, way: way_of(uid, *owner) }))
            }
        }
    }
}

fn way_of(uid: u32, owner: u32) -> Way {
    if uid == owner || uid == ROOT { Way::Owner } else { Way::Machine }
}

/// Nobody but the owner may connect.
const MODE: u32 = 0o600;
const ROOT: u32 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_and_root_are_told_from_others() {
        for (uid, owner, way) in [
            (1000, 1000, Way::Owner),
            (0, 1000, Way::Owner),
            (1001, 1000, Way::Machine),
            (1000, 0, Way::Machine),
            (u32::MAX, 1000, Way::Machine),
        ] {
            assert_eq!(way_of(uid, owner), way, "{uid} {owner}");
        }
    }
}
