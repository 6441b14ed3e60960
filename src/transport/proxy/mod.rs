//! The PROXY protocol, versions 1 and 2: the header by which a proxy says whose connection it is.
//!
//! Knows the header only. The listener says which peers may send one, and the layer below MQTT
//! begins behind it.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    str,
};

use super::tls::Certified;

/// What a header says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The address of the client; `None` if the connection is one of the proxy itself, or if the
    /// client has none.
    pub client: Option<SocketAddr>,
    /// Who the client is by the certificate that it has shown to the proxy.
    pub certified: Certified,
}

/// Why a connection is not taken that should begin with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyFailure {
    /// The peer is none of the proxies of the listener.
    Stranger,
    /// The first bytes are no header.
    Missing,
    Malformed,
    TooLong,
}

impl ProxyFailure {
    pub fn text(self) -> &'static str {
        match self {
            ProxyFailure::Stranger => "the peer is no proxy of this listener",
            ProxyFailure::Missing => "no PROXY header came: this listener is for proxies only",
            ProxyFailure::Malformed => "the PROXY header is wrong",
            ProxyFailure::TooLong => "the PROXY header is too long",
        }
    }
}

/// Reads the header at the front of `bytes` and says how many bytes it took. With `names_users` it
/// looks for the common name of the client's certificate.
///
/// `Ok(None)` means that the rest of it has not arrived yet.
pub fn parse(bytes: &[u8], names_users: bool) -> Result<Option<(Header, usize)>, ProxyFailure> {
    if begins_like(bytes, SIGNATURE) {
        parse_binary(bytes, names_users)
    } else if begins_like(bytes, b"PROXY ") {
        parse_line(bytes)
    } else {
        Err(ProxyFailure::Missing)
    }
}

/// Whether the bytes begin with the word, as far as they have come.
fn begins_like(bytes: &[u8], word: &[u8]) -> bool {
    bytes.iter().zip(word).all(|(byte, wanted)| byte == wanted)
}

/// Version 1: `PROXY TCP4 SOURCE DESTINATION SOURCE-PORT DESTINATION-PORT`, CR and LF.
fn parse_line(bytes: &[u8]) -> Result<Option<(Header, usize)>, ProxyFailure> {
    let begun = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = begun.iter().position(|&byte| byte == b'\n') else {
        let is_full = begun.len() == LINE_BYTES_MAX;
        return if is_full { Err(ProxyFailure::TooLong) } else { Ok(None) };
    };
    let line = begun[..end].strip_suffix(b"\r").and_then(|line| str::from_utf8(line).ok());
    let line = line.ok_or(ProxyFailure::Malformed)?;
    let fields: Vec<&str> = line.split(' ').collect();
    let client = match fields[..] {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", "TCP4", source, destination, port, to] => {
            let ips = (source.parse::<Ipv4Addr>(), destination.parse::<Ipv4Addr>());
            let (Ok(ip), Ok(_)) = ips else { return Err(ProxyFailure::Malformed) };
            Some(SocketAddr::from((ip, parse_ports(port, to)?)))
        }
        ["PROXY", "TCP6", source, destination, port, to] => {
            let ips = (source.parse::<Ipv6Addr>(), destination.parse::<Ipv6Addr>());
            let (Ok(ip), Ok(_)) = ips else { return Err(ProxyFailure::Malformed) };
            Some(SocketAddr::from((ip, parse_ports(port, to)?)))
        }
        _ => return Err(ProxyFailure::Malformed),
    };
    let header = Header { client: client.map(checked).transpose()?, ..Header::default() };
    Ok(Some((header, end + 1)))
}

/// The port of the client. Both ports have to be numbers without a sign and without zeros before.
fn parse_ports(from: &str, to: &str) -> Result<u16, ProxyFailure> {
    let port = |text: &str| {
        let is_plain = text == "0" || text.starts_with(|first: char| matches!(first, '1'..='9'));
        text.parse().ok().filter(|_| is_plain).ok_or(ProxyFailure::Malformed)
    };
    port(to).and_then(|_: u16| port(from))
}

/// Version 2: the signature, version and command, family and protocol, and the length of what
/// follows: addresses, then fields of type, length and value.
fn parse_binary(bytes: &[u8], names_users: bool) -> Result<Option<(Header, usize)>, ProxyFailure> {
    let Some((&[.., command, family, high, low], rest)) = bytes.split_first_chunk::<FIXED_BYTES>()
    else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if command >> 4 != VERSION_2 {
        return Err(ProxyFailure::Malformed);
    }
    if FIXED_BYTES + length > HEADER_BYTES_MAX {
        return Err(ProxyFailure::TooLong);
    }
    let Some(content) = rest.get(..length) else { return Ok(None) };
    let header = match command & 0xF {
        // A connection of the proxy itself, such as a check of health.
        LOCAL => Header::default(),
        PROXY => parse_content(family, content, names_users)?,
        _ => return Err(ProxyFailure::Malformed),
    };
    Ok(Some((header, FIXED_BYTES + length)))
}

/// Addresses and fields, of a client that came to the proxy by this family and protocol.
fn parse_content(family: u8, content: &[u8], names_users: bool) -> Result<Header, ProxyFailure> {
    let malformed = ProxyFailure::Malformed;
    if family & 0xF > DATAGRAM {
        return Err(malformed);
    }
    let (client, fields) = match family >> 4 {
        UNSPECIFIED => return Ok(Header::default()),
        INTERNET => {
            let (addresses, fields) = content.split_first_chunk::<12>().ok_or(malformed)?;
            let [a, b, c, d, .., high, low, _, _] = *addresses;
            let port = u16::from_be_bytes([high, low]);
            (Some(SocketAddr::from(([a, b, c, d], port))), fields)
        }
        INTERNET_6 => {
            let (addresses, fields) = content.split_first_chunk::<36>().ok_or(malformed)?;
            let (source, ports) = addresses.split_first_chunk::<16>().ok_or(malformed)?;
            let [.., high, low, _, _] = *ports else { return Err(malformed) };
            (Some(SocketAddr::from((*source, u16::from_be_bytes([high, low])))), fields)
        }
        UNIX => {
            let (_, fields) = content.split_first_chunk::<216>().ok_or(malformed)?;
            (None, fields)
        }
        _ => return Err(malformed),
    };
    let certified = if names_users { certified(fields)? } else { Certified::Nobody };
    Ok(Header { client: client.map(checked).transpose()?, certified })
}

/// The address as connections have it. No client has a multicast address.
fn checked(mut client: SocketAddr) -> Result<SocketAddr, ProxyFailure> {
    client.set_ip(client.ip().to_canonical());
    if client.ip().is_multicast() { Err(ProxyFailure::Malformed) } else { Ok(client) }
}

/// What the first field about TLS says of the client's certificate.
fn certified(fields: &[u8]) -> Result<Certified, ProxyFailure> {
    let Some(tls) = find_field(fields, FIELD_TLS)? else { return Ok(Certified::Nobody) };
    let (&[client, verify @ ..], fields) =
        tls.split_first_chunk::<5>().ok_or(ProxyFailure::Malformed)?;
    if client & HAS_CERTIFICATE == 0 || verify != VERIFIED {
        return Ok(Certified::Nobody);
    }
    let name = find_field(fields, FIELD_COMMON_NAME)?.and_then(|name| str::from_utf8(name).ok());
    let name = name.filter(|name| !name.is_empty() && !name.contains('\0'));
    Ok(name.map_or(Certified::Nameless, |name| Certified::User {
        name: name.into(),
        is_client_id: false,
    }))
}

/// The value of the first field of a type. All of them have to be whole.
fn find_field(mut fields: &[u8], wanted: u8) -> Result<Option<&[u8]>, ProxyFailure> {
    let mut found = None;
    while !fields.is_empty() {
        let (&[kind, high, low], rest) =
            fields.split_first_chunk::<3>().ok_or(ProxyFailure::Malformed)?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (value, rest) = rest.split_at_checked(length).ok_or(ProxyFailure::Malformed)?;
        if kind == wanted {
            found = found.or(Some(value));
        }
        fields = rest;
    }
    Ok(found)
}

/// The header of a connection while it comes.
#[derive(Debug, Default)]
pub struct HeaderReader {
    held: Vec<u8>,
    names_users: bool,
}

impl HeaderReader {
    /// With `names_users` the proxy says by the certificate of a client who it is.
    pub fn new(names_users: bool) -> HeaderReader {
        HeaderReader { held: Vec::new(), names_users }
    }

    /// Takes received bytes. Once the header is complete, says how many of them belong to it.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Option<(Header, usize)>, ProxyFailure> {
        let before = self.held.len();
        if before == 0 {
            let parsed = parse(bytes, self.names_users)?;
            if parsed.is_none() {
                self.held.extend_from_slice(bytes);
            }
            return Ok(parsed);
        }
        let room = HEADER_BYTES_MAX.saturating_sub(before);
        self.held.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let parsed = parse(&self.held, self.names_users)?;
        Ok(parsed.map(|(header, length)| (header, length - before)))
    }

    /// Bytes of the header that it holds.
    pub fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// Forgets the bytes that it holds: no more bytes are received.
    pub fn forget_held(&mut self) {
        self.held = Vec::new();
    }
}

/// How a header of version 2 begins.
pub const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and protocol, length.
const FIXED_BYTES: usize = 16;
const VERSION_2: u8 = 2;
const LOCAL: u8 = 0;
const PROXY: u8 = 1;
const UNSPECIFIED: u8 = 0;
const INTERNET: u8 = 1;
const INTERNET_6: u8 = 2;
const UNIX: u8 = 3;
/// The largest number of a protocol.
const DATAGRAM: u8 = 2;
const FIELD_TLS: u8 = 0x20;
const FIELD_COMMON_NAME: u8 = 0x22;
/// The client has shown a certificate on this connection, or earlier in the session of TLS.
const HAS_CERTIFICATE: u8 = 0x02 | 0x04;
/// The proxy has found the certificate valid.
const VERIFIED: [u8; 4] = [0; 4];
/// Bytes of a header of version 1, with CR and LF.
pub const LINE_BYTES_MAX: usize = 107;
/// Bytes of a header of version 2. Only whole certificates in its fields are longer.
pub const HEADER_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests;
