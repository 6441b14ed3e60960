//! System calls that the standard library does not offer, each behind a function of ours.
#![expect(unsafe_code, reason = "two calls have no safe name")]

use std::{
    fs::File,
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    time::{Duration, SystemTime},
};

use rustix::{
    event::{EventfdFlags, eventfd},
    io::{Errno, ioctl_fionread},
    net::{
        AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, bind, ipproto, recv,
        socket_with, sockopt,
    },
    process::{Rlimit, getrlimit, setpriority_process, setrlimit},
    thread::{CpuSet, disable_transparent_huge_pages, sched_setaffinity},
    time::{ClockId, clock_gettime},
};

pub(in crate::runtime) use rustix::process::Resource;

use crate::base::{
    local::Credentials,
    time::{Moment, Span, WallClock, WallTime},
};

/// Connections that may wait to be accepted; the system may allow fewer.
const BACKLOG: i32 = 4096;

/// The monotonic clock.
pub fn now() -> Moment {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Moment::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// The wall clock. A time before 1970 is taken as 1970.
pub fn wall_clock() -> WallClock {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    WallClock::new(now(), WallTime::from_nanos(Span::from(since_1970).as_nanos()))
}

/// An event counter. Reading it waits for a write when it is zero.
pub(super) fn event_fd() -> io::Result<File> {
    Ok(File::from(eventfd(0, EventfdFlags::CLOEXEC)?))
}

/// Which versions of IP a socket takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runtime) enum Stack {
    /// That of its address.
    Single,
    /// IPv6 and IPv4.
    Dual,
}

/// Whether other sockets may be bound to the same address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runtime) enum Sharing {
    Alone,
    /// Other sockets that share it as well.
    Shared,
}

/// A stream socket bound to `address`, not yet listening.
pub(in crate::runtime) fn bound_socket(
    address: SocketAddr,
    stack: Stack,
    sharing: Sharing,
) -> io::Result<OwnedFd> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, sharing == Sharing::Shared)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, stack == Stack::Single)?;
    }
    bind(&socket, &address)?;
    Ok(socket)
}

/// Lets a bound socket accept. Connections inherit its options: no delay of small writes, and
/// probes that detect a peer that has gone silently, even if nothing is sent to it.
pub(in crate::runtime) fn listen(socket: OwnedFd) -> io::Result<TcpListener> {
    sockopt::set_tcp_nodelay(&socket, true)?;
    sockopt::set_socket_keepalive(&socket, true)?;
    sockopt::set_tcp_keepidle(&socket, PROBE_AFTER)?;
    sockopt::set_tcp_keepintvl(&socket, PROBE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(&socket, PROBES)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// A Unix socket bound to `path`, not yet listening.
pub(in crate::runtime) fn bound_unix_socket(path: &Path) -> io::Result<OwnedFd> {
    let kind = SocketType::STREAM;
    let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// Lets a bound Unix socket accept.
pub(in crate::runtime) fn listen_unix(socket: OwnedFd) -> io::Result<OwnedFd> {
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Who is at the other end of a Unix socket; `None` for any other socket.
pub(in crate::runtime) fn credentials(socket: &TcpStream) -> Option<Credentials> {
    if sockopt::socket_domain(socket).ok()? != AddressFamily::UNIX {
        return None;
    }
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = libc::socklen_t::try_from(size_of::<libc::ucred>()).ok()?;
    // SAFETY: the kernel writes at most `length` bytes to `peer`, which is as long and takes any.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    // A process outside of our namespace has no number here: 0.
    let pid = u32::try_from(peer.pid).unwrap_or(0);
    (result == 0).then_some(Credentials { uid: peer.uid, gid: peer.gid, pid })
}

/// Whether bytes have come that were not received.
pub(in crate::runtime) fn has_unread(socket: &TcpStream) -> bool {
    ioctl_fionread(socket).is_ok_and(|bytes| bytes > 0)
}

/// Bytes that the kernel has taken and that the peer has not acknowledged.
pub(in crate::runtime) fn unacknowledged(socket: &TcpStream) -> u64 {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the call writes one integer to where the pointer points.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    // The call fails only for a descriptor that is not a socket.
    if result == 0 { u64::try_from(bytes).unwrap_or(0) } else { 0 }
}

/// Whether the other side has closed the connection, and all that it sent has been received.
pub(in crate::runtime) fn has_ended(socket: &TcpStream) -> bool {
    match recv(socket, &mut [0], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((_, bytes)) => bytes == 0,
        Err(error) => error != Errno::AGAIN && error != Errno::INTR,
    }
}

/// Makes this thread yield to threads of normal priority that want its CPU.
pub(in crate::runtime) fn lower_priority(nice: i32) -> io::Result<()> {
    // On Linux this is about the calling thread, and not about all of its process.
    Ok(setpriority_process(None, nice)?)
}

/// Keeps this thread on one CPU.
pub(in crate::runtime) fn pin_thread(cpu: usize) -> io::Result<()> {
    if cpu >= CpuSet::MAX_CPU {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    Ok(sched_setaffinity(None, &cpus)?)
}

/// Has the socket reset its connection when it is closed, even if bytes are unsent.
pub(in crate::runtime) fn reset_when_closed(socket: &TcpStream) {
    // The call fails only for a descriptor that is not a socket.
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

/// Disables huge pages for this process. With them a few bytes of a new kind can take two
/// megabytes, and freed memory does not go back to the system.
pub fn use_small_pages() -> io::Result<()> {
    Ok(disable_transparent_huge_pages(true)?)
}

/// The soft and the hard limit of a resource.
pub(in crate::runtime) fn limit(resource: Resource) -> (u64, u64) {
    let Rlimit { current, maximum } = getrlimit(resource);
    (current.unwrap_or(u64::MAX), maximum.unwrap_or(u64::MAX))
}

/// Raises the soft limit of a resource to its hard limit, and returns the new limit.
pub(in crate::runtime) fn raise_limit(resource: Resource) -> io::Result<u64> {
    let Rlimit { maximum, .. } = getrlimit(resource);
    setrlimit(resource, Rlimit { current: maximum, maximum })?;
    Ok(maximum.unwrap_or(u64::MAX))
}

/// A peer that is silent for a minute is probed, and given up a minute later.
const PROBE_AFTER: Duration = Duration::from_mins(1);
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
const PROBES: u32 = 6;

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn the_clock_does_not_go_back() {
        let first = now();
        assert!(first <= now());
        assert!(first > Moment::default());
    }

    #[test]
    fn a_socket_listens_where_it_was_bound() {
        for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
            let address = SocketAddr::new(ip, 0);
            let listener =
                listen(bound_socket(address, Stack::Single, Sharing::Shared).unwrap()).unwrap();
            let address = listener.local_addr().unwrap();
            assert_eq!(address.ip(), ip);
            let client = TcpStream::connect(address).unwrap();
            let (server, peer) = listener.accept().unwrap();
            assert_eq!(peer, client.local_addr().unwrap());
            assert!(server.nodelay().unwrap(), "inherited from the listening socket");
            assert!(sockopt::socket_keepalive(&server).unwrap());
            assert_eq!(sockopt::tcp_keepidle(&server).unwrap(), PROBE_AFTER);
        }
    }

    #[test]
    fn a_socket_that_does_not_share_finds_an_address_taken() {
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        let first = listen(bound_socket(address, Stack::Single, Sharing::Shared).unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let refused = bound_socket(address, Stack::Single, Sharing::Alone).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        bound_socket(address, Stack::Single, Sharing::Shared).unwrap();
    }

    #[test]
    fn what_a_peer_has_not_taken_is_unacknowledged() {
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        let listener =
            listen(bound_socket(address, Stack::Single, Sharing::Shared).unwrap()).unwrap();
        let mut reader = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut writer, _) = listener.accept().unwrap();
        assert_eq!(unacknowledged(&writer), 0);
        writer.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while let Ok(bytes) = writer.write(&[0; 8 << 10]) {
            sent += bytes;
        }
        let before = unacknowledged(&writer);
        assert!(before > 0 && before <= sent as u64);
        reader.read_exact(&mut vec![0; sent]).unwrap();
        while unacknowledged(&writer) > 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn limits_can_be_read_and_raised() {
        let (_, hard) = limit(Resource::Nofile);
        assert_eq!(raise_limit(Resource::Nofile).unwrap(), hard);
        assert_eq!(limit(Resource::Nofile), (hard, hard));
    }
}
