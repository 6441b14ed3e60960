use std::io::{Read, Write};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, pem::PemObject},
    version::{TLS12, TLS13},
};

use super::*;

const CHAIN: &[u8] = include_bytes!("../../../tests/tls/server.pem");
const KEY: &[u8] = include_bytes!("../../../tests/tls/server-key.pem");
const OTHER_KEY: &[u8] = include_bytes!("../../../tests/tls/other-key.pem");
const CA: &[u8] = include_bytes!("../../../tests/tls/ca.pem");

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

fn server() -> ServerTls {
    ServerTls::from_pem(CHAIN, KEY).unwrap()
}

fn client(version: &'static SupportedProtocolVersion, trusting: bool) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    if trusting {
        roots.add(CertificateDer::from_pem_slice(CA).unwrap()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap()
}

/// Both ends of a connection, and what the server has received.
struct Pair {
    client: ClientConnection,
    tls: Tls,
    received: Vec<u8>,
    /// In how many bytes at a time the server receives.
    step: usize,
    end: Option<TlsEnd>,
}

impl Pair {
    fn new(client: ClientConnection, step: usize) -> Pair {
        Pair { client, tls: Tls::new(&server()), received: Vec::new(), step, end: None }
    }

    /// Carries bytes until neither side has any. False: the client has given up.
    fn carry(&mut self) -> bool {
        let mut content = true;
        loop {
            let mut up = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut up).unwrap();
            }
            for part in up.chunks_mut(self.step) {
                let opened = self.tls.receive(part);
                self.received.extend(opened.mqtt);
                self.end = self.end.or(opened.end);
            }
            let down = self.tls.take_owed();
            content &= self.feed(&down);
            if down.is_empty() && !self.client.wants_write() {
                return content;
            }
        }
    }

    /// The client receives bytes of the server.
    fn feed(&mut self, mut down: &[u8]) -> bool {
        while !down.is_empty() {
            self.client.read_tls(&mut down).unwrap();
            if self.client.process_new_packets().is_err() {
                return false;
            }
        }
        true
    }

    fn send_down(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut got = Vec::new();
        for part in bytes.chunks(RECORD_BYTES_MAX) {
            let mut record = Vec::new();
            assert!(self.tls.seal(part, &mut record));
            assert!(self.feed(&record));
            let mut plain = vec![0; part.len()];
            self.client.reader().read_exact(&mut plain).unwrap();
            got.extend(plain);
        }
        got
    }
}

fn numbers(count: usize) -> Vec<u8> {
    (0..=250).cycle().take(count).collect()
}

#[test]
fn bytes_come_through_both_ways_however_they_are_split() {
    for (version, step) in
        VERSIONS.into_iter().flat_map(|version| [1, 7, 100_000].map(|n| (version, n)))
    {
        let mut pair = Pair::new(client(version, true), step);
        assert!(pair.carry());
        assert!(!pair.client.is_handshaking());
        let up = numbers(50_000);
        pair.client.writer().write_all(&up).unwrap();
        assert!(pair.carry());
        assert_eq!(pair.received, up);
        assert_eq!(pair.send_down(&numbers(1 << 20)), numbers(1 << 20));
        assert_eq!((pair.tls.held_bytes(), pair.tls.held.capacity()), (0, 0));
        assert_eq!(pair.end, None);
    }
}

#[test]
fn an_orderly_end_is_told_both_ways_once() {
    for version in VERSIONS {
        let mut pair = Pair::new(client(version, true), 1_000);
        assert!(pair.carry());
        pair.client.send_close_notify();
        pair.carry();
        assert_eq!(pair.end, Some(TlsEnd::Closed));
        let close = pair.tls.take_close();
        assert!(!close.is_empty() && pair.tls.take_close().is_empty());
        assert!(pair.feed(&close));
        assert_eq!(pair.client.reader().read(&mut [0; 1]).unwrap(), 0);
    }
}

#[test]
fn a_client_that_does_not_trust_the_certificate_is_named_so() {
    for version in VERSIONS {
        let mut pair = Pair::new(client(version, false), 1_000);
        assert!(!pair.carry());
        assert_eq!(pair.end, Some(TlsEnd::Failed(TlsFailure::Distrusted)));
    }
}

#[test]
fn what_is_not_tls_is_named() {
    let cases: [(&[u8], TlsFailure); 4] = [
        (b"\x10\x0c\x00\x04MQTT", TlsFailure::PlainMqtt),
        (b"GET / HTTP/1.1\r\n", TlsFailure::NotTls),
        (b"\x16\x03\x01\xff\xff", TlsFailure::Wrong),
        (b"\x16\x03\x01\x00\x02\x02\x00", TlsFailure::Wrong),
    ];
    for (bytes, failure) in cases {
        let mut tls = Tls::new(&server());
        let end = tls.receive(&mut bytes.to_vec()).end;
        // An incomplete message is wrong only once its head is.
        assert!(end.is_none_or(|end| end == TlsEnd::Failed(failure)), "{bytes:?}: {end:?}");
        assert_eq!(end.is_none(), bytes.starts_with(b"\x16\x03\x01\x00"), "{bytes:?}");
    }
}

#[test]
fn half_a_client_hello_is_held_and_can_be_forgotten() {
    let mut hello = Vec::new();
    client(&TLS13, true).write_tls(&mut hello).unwrap();
    let mut tls = Tls::new(&server());
    let half = hello.len() / 2;
    assert!(tls.receive(&mut hello[..half]).end.is_none());
    assert_eq!(tls.held_bytes(), half);
    assert!(!tls.owes());
    tls.forget_held();
    assert_eq!(tls.held_bytes(), 0);
}

#[test]
fn nothing_is_sealed_before_the_handshake() {
    let mut out = Vec::new();
    assert!(!Tls::new(&server()).seal(b"secret", &mut out));
    assert!(out.is_empty());
}

#[test]
fn what_is_wrong_with_the_files_is_said() {
    let fault = |chain, key| match ServerTls::from_pem(chain, key) {
        Ok(_) => panic!("they cannot be used"),
        Err(error) => error.to_string(),
    };
    assert!(fault(b"rubbish", KEY).starts_with("the certificate file holds no certificate"));
    assert!(fault(CHAIN, b"rubbish").starts_with("the key file holds no private key"));
    assert!(fault(CHAIN, CHAIN).starts_with("the key file holds no private key"));
    assert_eq!(fault(CHAIN, OTHER_KEY), "the key does not fit the certificate");
}
