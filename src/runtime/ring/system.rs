//! System calls that the standard library does not offer, each behind a safe function.
#![expect(unsafe_code, reason = "system calls are not known to the compiler")]

use std::{
    fs::File,
    io,
    mem::{self, MaybeUninit},
    net::{SocketAddr, TcpListener},
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};

use crate::base::time::Moment;

/// The monotonic clock.
pub fn now() -> Moment {
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: the pointer is to writable memory of the size of a timespec.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, time.as_mut_ptr()) };
    assert_eq!(result, 0, "every Linux has a monotonic clock");
    // SAFETY: all bytes were zeroed, and every pattern of bits is a timespec.
    let time = unsafe { time.assume_init() };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Moment::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// An event counter. Reading it waits for a write when it is zero.
pub(in crate::runtime) fn event_fd() -> io::Result<File> {
    // SAFETY: takes no pointer.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    owned(fd).map(File::from)
}

/// Takes a descriptor that an accept has returned.
pub(in crate::runtime) fn accepted(fd: RawFd) -> io::Result<OwnedFd> {
    owned(fd)
}

/// A stream socket bound to `address`, not yet listening. With `shared`, other such sockets may
/// be bound to the same address.
pub(in crate::runtime) fn bound_socket(address: SocketAddr, shared: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
    // SAFETY: takes no pointer.
    let fd = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    let socket = owned(fd)?;
    set_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR)?;
    if shared {
        set_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEPORT)?;
    }
    if address.is_ipv6() {
        set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY)?;
    }
    bind(&socket, address)?;
    Ok(socket)
}

/// Lets a bound socket accept. Connections inherit `TCP_NODELAY` from it.
pub(in crate::runtime) fn listen(socket: OwnedFd, backlog: i32) -> io::Result<TcpListener> {
    set_option(&socket, libc::IPPROTO_TCP, libc::TCP_NODELAY)?;
    // SAFETY: takes no pointer.
    check(unsafe { libc::listen(socket.as_raw_fd(), backlog) })?;
    Ok(TcpListener::from(socket))
}

/// Keeps the kernel from backing this process with huge pages. With them every few bytes of a new
/// kind cost two megabytes, and what is freed does not come back.
pub fn use_small_pages() -> io::Result<()> {
    // SAFETY: the call takes numbers only.
    let result = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How many of a resource this process may have now, and how many it may ask for.
pub(in crate::runtime) fn limit(resource: libc::__rlimit_resource_t) -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a writable rlimit.
    check(unsafe { libc::getrlimit(resource, &raw mut limit) })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Raises what this process may have to what it may ask for, and says how many that are.
pub(in crate::runtime) fn raise_limit(resource: libc::__rlimit_resource_t) -> io::Result<u64> {
    let (_, hard) = limit(resource)?;
    let raised = libc::rlimit { rlim_cur: hard, rlim_max: hard };
    // SAFETY: the pointer is to an rlimit that outlives the call.
    check(unsafe { libc::setrlimit(resource, &raw const raised) })?;
    Ok(hard)
}

fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    check(fd)?;
    // SAFETY: the kernel has just made this descriptor, and nobody else holds it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn set_option(socket: &OwnedFd, level: i32, name: i32) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the pointer and the length describe `on`, which outlives the call.
    check(unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const on).cast(), length_of(&on))
    })
}

fn bind(socket: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    match address {
        SocketAddr::V4(v4) => bind_to(
            socket,
            &libc::sockaddr_in {
                sin_family: family(libc::AF_INET),
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            },
        ),
        SocketAddr::V6(v6) => bind_to(
            socket,
            &libc::sockaddr_in6 {
                sin6_family: family(libc::AF_INET6),
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            },
        ),
    }
}

fn bind_to<A>(socket: &OwnedFd, address: &A) -> io::Result<()> {
    let pointer = ptr::from_ref(address).cast();
    // SAFETY: the pointer and the length describe a socket address that outlives the call.
    check(unsafe { libc::bind(socket.as_raw_fd(), pointer, length_of(address)) })
}

fn family(family: i32) -> libc::sa_family_t {
    libc::sa_family_t::try_from(family).expect("address families are small numbers")
}

fn length_of<T>(value: &T) -> libc::socklen_t {
    libc::socklen_t::try_from(mem::size_of_val(value)).expect("socket addresses are short")
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};

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
            let listener = listen(bound_socket(address, true).unwrap(), 16).unwrap();
            let address = listener.local_addr().unwrap();
            assert_eq!(address.ip(), ip);
            let client = TcpStream::connect(address).unwrap();
            let (server, peer) = listener.accept().unwrap();
            assert_eq!(peer, client.local_addr().unwrap());
            assert!(server.nodelay().unwrap(), "inherited from the listening socket");
        }
    }

    #[test]
    fn a_socket_that_does_not_share_finds_an_address_taken() {
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        let first = listen(bound_socket(address, true).unwrap(), 1).unwrap();
        let address = first.local_addr().unwrap();
        let refused = bound_socket(address, false).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        bound_socket(address, true).unwrap();
    }

    #[test]
    fn limits_can_be_read_and_raised() {
        let (_, hard) = limit(libc::RLIMIT_NOFILE).unwrap();
        assert_eq!(raise_limit(libc::RLIMIT_NOFILE).unwrap(), hard);
        assert_eq!(limit(libc::RLIMIT_NOFILE).unwrap(), (hard, hard));
    }
}
