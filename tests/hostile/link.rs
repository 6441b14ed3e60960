//! A connection to the broker that may be refused or cut, which is not the end of the test.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, TcpStream},
    sync::{Condvar, PoisonError},
    time::{Duration, Instant},
};

use ringmq::mqtt::{Connect, Packet, ReasonCode, Version, frame};
use rustix::net::sockopt::set_socket_linger;

use crate::{client::encode, source::connect_from};

/// Where innocent clients come from.
pub(crate) const HOME: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// Where attackers come from.
pub(crate) const AWAY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// A read that takes longer fails with `WouldBlock`.
const PATIENCE: Duration = Duration::from_secs(20);

#[expect(clippy::disallowed_methods, reason = "this test measures time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_types, reason = "the threads of this test are no shards")]
type Mutex<T> = std::sync::Mutex<T>;

/// The end of something that other threads do.
#[derive(Debug, Default)]
pub(crate) struct End {
    has_come: Mutex<bool>,
    changed: Condvar,
}

impl End {
    pub(crate) fn declare(&self) {
        *self.has_come.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Waits for the end, for at most this time. Whether it has come.
    pub(crate) fn within(&self, time: Duration) -> bool {
        let has_come = self.has_come.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(has_come, time, |has_come| !*has_come);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// The broker that is attacked.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) port: u16,
    /// The end of the attack.
    pub(crate) end: End,
}

impl Target {
    pub(crate) fn is_over(&self) -> bool {
        self.end.within(Duration::ZERO)
    }

    /// Waits for this time, or until the attack is over.
    pub(crate) fn pause(&self, time: Duration) {
        self.end.within(time);
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) stream: TcpStream,
    version: Version,
    unread: Vec<u8>,
}

impl Link {
    /// A connection that has sent nothing, from this address.
    pub(crate) fn open(target: &Target, source: Ipv4Addr) -> io::Result<Link> {
        let stream = connect_from(source, target.port, PATIENCE)?;
        if source == AWAY {
            // Its port is free again at once: attackers come by the ten thousand.
            set_socket_linger(&stream, Some(Duration::ZERO))?;
        }
        Ok(Link { stream, version: Version::V5, unread: Vec::new() })
    }

    /// A client that is let in. A refusal is an error of the kind `PermissionDenied`.
    pub(crate) fn join(
        target: &Target,
        source: Ipv4Addr,
        connect: &Connect<'_>,
    ) -> io::Result<Link> {
        let mut link = Link::open(target, source)?;
        link.version = connect.version;
        link.send(&encode(&Packet::Connect(*connect), connect.version))?;
        match link.next(|packet| match packet {
            Packet::Connack(connack) => Some(connack.reason_code),
            _ => None,
        })? {
            Some(ReasonCode::Success) => Ok(link),
            _ => Err(ErrorKind::PermissionDenied.into()),
        }
    }

    /// An attacker with this Client Identifier that is let in.
    pub(crate) fn attacker(target: &Target, client_id: &str) -> io::Result<Link> {
        Link::join(target, AWAY, &Connect::new(Version::V5, client_id))
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Looks at the next packet. The end of the connection is an error.
    pub(crate) fn next<T>(&mut self, look: impl FnOnce(Packet<'_>) -> T) -> io::Result<T> {
        loop {
            let whole = frame::split(&self.unread, usize::MAX).map_err(io::Error::other)?;
            if let Some(frame) = whole {
                let len = frame.len;
                let packet = Packet::decode(frame, self.version).map_err(io::Error::other)?;
                let seen = look(packet);
                self.unread.drain(..len);
                return Ok(seen);
            }
            let mut bytes = [0; 16 << 10];
            let len = self.stream.read(&mut bytes)?;
            if len == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.unread.extend_from_slice(&bytes[..len]);
        }
    }

    /// Reads until all that was sent before has been handled.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        self.send(&encode(&Packet::Pingreq, self.version))?;
        while !self.next(|packet| matches!(packet, Packet::Pingresp))? {}
        Ok(())
    }
}
