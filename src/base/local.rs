//! Clients of this machine that come over a Unix socket, as addresses.
//!
//! Accounts, logins and logs know clients by an address. A Unix socket has none, so that the user
//! of the process becomes one: an IPv6 address that no network has, in which each user has a /64.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

/// Who runs the process at the other end of a Unix socket, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    pub uid: u32,
    pub gid: u32,
    pub pid: u32,
}

/// Multicast addresses are never those of a peer.
const PREFIX: u32 = 0xFF00_0000;

impl Credentials {
    /// The address that stands for this client.
    pub fn as_address(self) -> SocketAddr {
        let parts = [PREFIX, self.uid, self.gid, self.pid];
        let bits = parts.into_iter().fold(0, |bits, part| bits << 32 | u128::from(part));
        SocketAddr::new(Ipv6Addr::from_bits(bits).into(), 0)
    }

    /// The client that this address stands for, if it is one of a Unix socket.
    pub fn of_address(ip: IpAddr) -> Option<Credentials> {
        let IpAddr::V6(ip) = ip else { return None };
        let (bits, last) = (ip.to_bits(), u128::from(u32::MAX));
        let parts = [96, 64, 32, 0].map(|shift| u32::try_from(bits >> shift & last));
        let [Ok(PREFIX), Ok(uid), Ok(gid), Ok(pid)] = parts else { return None };
        Some(Credentials { uid, gid, pid })
    }
}

impl fmt::Display for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix(uid {}, gid {}, pid {})", self.uid, self.gid, self.pid)
    }
}

/// A peer address in words: for a client of a Unix socket its credentials.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Credentials::of_address(self.0.ip()) {
            Some(credentials) => credentials.fmt(f),
            None => self.0.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_come_back_from_their_address() {
        for (uid, gid, pid) in [(0, 0, 0), (1000, 100, 4_194_304), (u32::MAX, 1, u32::MAX)] {
            let credentials = Credentials { uid, gid, pid };
            let address = credentials.as_address();
            assert_eq!(Credentials::of_address(address.ip()), Some(credentials));
            assert_eq!(Peer(address).to_string(), format!("unix(uid {uid}, gid {gid}, pid {pid})"));
        }
        for address in ["127.0.0.1:1", "[::1]:1", "[fe80::1]:1"] {
            assert_eq!(Peer(address.parse().unwrap()).to_string(), address);
        }
    }
}
