//! Sockets that never block, and waiting for them.

use std::{
    fmt,
    io::{self, IoSlice},
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
};

use ringmq::base::time::Span;
use rustix::{
    buffer::spare_capacity,
    event::{
        EventfdFlags, Timespec,
        epoll::{self, EventData, EventFlags},
        eventfd,
    },
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType,
        accept_with, bind, connect, getsockname, ipproto, recv, sendmsg, socket_with, sockopt,
    },
};

/// Begins to connect. Whether that worked shows when the socket first becomes writable.
pub fn begin_connect(to: SocketAddr, from: Option<IpAddr>) -> io::Result<OwnedFd> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    if let Some(from) = from {
        bind(&socket, &SocketAddr::new(from, 0))?;
    }
    match connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno.into()),
    }
}

/// Listens on an address that others may listen on in this way, too: the kernel spreads connections
/// over them. Returns the address with its port.
pub fn listen(at: SocketAddr) -> io::Result<(OwnedFd, SocketAddr)> {
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    bind(&socket, &at)?;
    rustix::net::listen(&socket, BACKLOG)?;
    let address = getsockname(&socket)?.try_into()?;
    Ok((socket, address))
}

/// The next connection that waits, if there is one.
pub fn accept(listener: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    match accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
        Ok(socket) => {
            sockopt::set_tcp_nodelay(&socket, true)?;
            Ok(Some(socket))
        }
        Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Limits the unsent bytes that the kernel holds for a socket.
pub fn bound_send_buffer(socket: &OwnedFd, bytes: usize) -> io::Result<()> {
    Ok(sockopt::set_socket_send_buffer_size(socket, bytes)?)
}

/// Limits the unread bytes that the kernel holds for a socket. If it is set soon after
/// `begin_connect`, the peer learns of it.
pub fn bound_receive_buffer(socket: &OwnedFd, bytes: usize) -> io::Result<()> {
    Ok(sockopt::set_socket_recv_buffer_size(socket, bytes)?)
}

/// Reads what is there: `None` when that is nothing, zero bytes at the end of the stream.
#[inline]
pub fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match recv(socket, buffer, RecvFlags::empty()) {
        Ok((_, len)) => Ok(Some(len)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Sends what the socket takes, and says how much that is: `None` when it takes nothing now.
pub fn send(socket: &OwnedFd, bytes: &[u8]) -> io::Result<Option<usize>> {
    sent(rustix::net::send(socket, bytes, SendFlags::NOSIGNAL))
}

/// The same for bytes in many pieces.
pub fn send_vectored(socket: &OwnedFd, pieces: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
    sent(sendmsg(socket, pieces, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL))
}

fn sent(result: rustix::io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(len) => Ok(Some(len)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// The sockets of one thread, and its doorbell, waited for together.
///
/// Each change is reported once (edge-triggered): readers read until there is no more, writers
/// write until the socket is full.
pub struct Poll {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl fmt::Debug for Poll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poll").field("epoll", &self.epoll).finish_non_exhaustive()
    }
}

/// What happened to the socket that was added with this token.
#[derive(Clone, Copy, Debug)]
pub struct Readiness {
    pub token: u64,
    pub readable: bool,
    pub writable: bool,
    /// The broker sends no more: the end of the stream is to be read, too.
    pub ended: bool,
}

impl Poll {
    pub fn new() -> io::Result<Poll> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Poll { epoll, events: Vec::with_capacity(EVENTS_MAX) })
    }

    pub fn add(&self, socket: &OwnedFd, token: u64) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(token), flags)?)
    }

    pub fn remove(&self, socket: &OwnedFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, socket)?)
    }

    /// Waits until something happens, or for `patience`, or for ever.
    pub fn wait(&mut self, patience: Option<Span>) -> io::Result<()> {
        self.events.clear();
        let timeout = patience.map(to_timespec);
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    pub fn count(&self) -> usize {
        self.events.len()
    }

    pub fn readiness(&self, index: usize) -> Readiness {
        let event = self.events[index];
        let (flags, data) = (event.flags, event.data);
        let ended = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        Readiness {
            token: data.u64(),
            readable: ended || flags.contains(EventFlags::IN),
            writable: flags.contains(EventFlags::OUT),
            ended,
        }
    }
}

fn to_timespec(span: Span) -> Timespec {
    let nanos = span.as_nanos() % 1_000_000_000;
    Timespec {
        tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(nanos).unwrap_or_default(),
    }
}

/// Wakes a thread out of [`Poll::wait`].
#[derive(Debug)]
pub struct Doorbell(OwnedFd);

impl Doorbell {
    pub fn new() -> io::Result<Doorbell> {
        Ok(Doorbell(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?))
    }

    pub fn fd(&self) -> &OwnedFd {
        &self.0
    }

    /// A bell that rings already need not be rung: its only failure is to be full.
    pub fn ring(&self) {
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    pub fn silence(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

const EVENTS_MAX: usize = 1024;

/// Connections that wait to be accepted; the kernel may allow fewer.
const BACKLOG: i32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doorbell_wakes_and_is_silenced() {
        let (mut poll, bell) = (Poll::new().unwrap(), Doorbell::new().unwrap());
        poll.add(bell.fd(), 7).unwrap();
        // The bell takes rings at any time: it is writable from the start.
        poll.wait(Some(Span::ZERO)).unwrap();
        bell.ring();
        poll.wait(Some(Span::from_secs(5))).unwrap();
        assert_eq!((poll.count(), poll.readiness(0).token), (1, 7));
        assert!(poll.readiness(0).readable);
        bell.silence();
        poll.wait(Some(Span::from_millis(1))).unwrap();
        assert!((0..poll.count()).all(|index| !poll.readiness(index).readable));
    }
}
