//! TCP connections from one of the many loopback addresses, for what the broker does by address.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    time::Duration,
};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

/// A connection from this address to a port of 127.0.0.1. A read or write that takes longer than
/// `patience` fails.
///
/// Connections from 127.0.0.1 bind no port: they would take ports there that other tests have asked
/// the kernel for and are about to listen on.
pub(crate) fn connect_from(
    source: Ipv4Addr,
    port: u16,
    patience: Duration,
) -> io::Result<TcpStream> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    if source != Ipv4Addr::LOCALHOST {
        bind(&socket, &SocketAddrV4::new(source, 0))?;
    }
    connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
