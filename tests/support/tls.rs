//! A client of MQTT over TLS, by rustls, with the certificates of `tests/tls`.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    sync::Arc,
};

use ringmq::mqtt::{Packet, Version};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

pub(crate) type Stream = StreamOwned<ClientConnection, TcpStream>;

pub(crate) fn open(port: u16, version: &'static SupportedProtocolVersion) -> Stream {
    open_as(port, version, None)
}

/// A client that shows this certificate.
pub(crate) fn open_as(
    port: u16,
    version: &'static SupportedProtocolVersion,
    name: Option<&str>,
) -> Stream {
    open_with(port, &config(version, name))
}

/// A client that shows this certificate. Its connections resume the sessions of earlier ones.
pub(crate) fn config(
    version: &'static SupportedProtocolVersion,
    name: Option<&str>,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let ca = fs::read("tests/tls/ca.pem").unwrap();
    roots.add(CertificateDer::from_pem_slice(&ca).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    let file = |name: &str| fs::read(format!("tests/tls/{name}.pem")).unwrap();
    Arc::new(match name {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let certificate = CertificateDer::from_pem_slice(&file(name)).unwrap();
            let key = PrivateKeyDer::from_pem_slice(&file(&format!("{name}-key"))).unwrap();
            builder.with_client_auth_cert(vec![certificate], key).unwrap()
        }
    })
}

pub(crate) fn open_with(port: u16, config: &Arc<ClientConfig>) -> Stream {
    let connection = ClientConnection::new(Arc::clone(config), "localhost".try_into().unwrap());
    StreamOwned::new(connection.unwrap(), TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap())
}

pub(crate) fn send(stream: &mut Stream, packet: &Packet<'_>) {
    let mut bytes = Vec::new();
    packet.encode(Version::V5, &mut bytes);
    stream.write_all(&bytes).unwrap();
    stream.flush().unwrap();
}

/// The next packet, with its fixed header.
pub(crate) fn packet(stream: &mut Stream) -> Vec<u8> {
    let mut packet = vec![0; 2];
    stream.read_exact(&mut packet).unwrap();
    while packet.last().unwrap() & 0x80 != 0 {
        packet.push(0);
        let last = packet.len() - 1;
        stream.read_exact(&mut packet[last..]).unwrap();
    }
    let digits = packet[1..].iter().enumerate();
    let rest: usize = digits.map(|(at, &digit)| usize::from(digit & 0x7F) << (7 * at)).sum();
    let head = packet.len();
    packet.resize(head + rest, 0);
    stream.read_exact(&mut packet[head..]).unwrap();
    packet
}
