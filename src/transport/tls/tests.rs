use std::io::{Read, Write};

use rustls::{
    ClientConfig, ClientConnection, ConnectionTrafficSecrets, ContentType, ProtocolVersion,
    RootCertStore, SupportedCipherSuite, SupportedProtocolVersion,
    crypto::{
        aws_lc_rs::default_provider,
        cipher::{MessageEncrypter, OutboundPlainMessage},
    },
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    version::{TLS12, TLS13},
};

use super::*;

const CHAIN: &[u8] = include_bytes!("../../../tests/tls/server.pem");
const KEY: &[u8] = include_bytes!("../../../tests/tls/server-key.pem");
const OTHER_KEY: &[u8] = include_bytes!("../../../tests/tls/other-key.pem");
const CA: &[u8] = include_bytes!("../../../tests/tls/ca.pem");

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// Files of the tests by their names without `.pem`.
macro_rules! files {
    ($($name:literal)+) => {
        &[$(($name, include_bytes!(concat!("../../../tests/tls/", $name, ".pem"))),)+]
    };
}

const FILES: &[(&str, &[u8])] = files![
    "client-ca" "ada" "ada-key" "eve" "eve-key" "odd" "odd-key" "old" "old-key" "server-only"
    "server-only-key" "stranger" "stranger-key" "revoked" "revoked-old"
];

fn file(name: &str) -> Vec<u8> {
    FILES.iter().find(|(known, _)| *known == name).unwrap().1.to_vec()
}

fn certificate(chain: &[u8], key: &[u8]) -> CertificateSource {
    CertificateSource { chain: chain.into(), key: key.into() }
}

fn source() -> TlsSource {
    TlsSource { certificates: vec![certificate(CHAIN, KEY)], ..TlsSource::default() }
}

fn server() -> ServerTls {
    ServerTls::new(&source()).unwrap()
}

fn client(version: &'static SupportedProtocolVersion, trusting: bool) -> ClientConnection {
    client_as(version, trusting, None, &[])
}

/// A client that shows this certificate and offers these ALPN protocols.
fn client_as(
    version: &'static SupportedProtocolVersion,
    trusting: bool,
    name: Option<&str>,
    alpn: &[&str],
) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    if trusting {
        roots.add(CertificateDer::from_pem_slice(CA).unwrap()).unwrap();
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match name {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let certificate = CertificateDer::from_pem_slice(&file(name)).unwrap();
            let key = PrivateKeyDer::from_pem_slice(&file(&format!("{name}-key"))).unwrap();
            builder.with_client_auth_cert(vec![certificate], key).unwrap()
        }
    };
    config.enable_secret_extraction = true;
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
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
        Pair::with(client, &server(), step)
    }

    fn with(client: ClientConnection, server: &ServerTls, step: usize) -> Pair {
        Pair { client, tls: Tls::new(server), received: Vec::new(), step, end: None }
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
    let cases: [(&[u8], TlsFailure); 5] = [
        (b"\x10\x0c\x00\x04MQTT", TlsFailure::PlainMqtt),
        (b"GET / HTTP/1.1\r\n", TlsFailure::PlainHttp),
        (b"\x00\x00", TlsFailure::NotTls),
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
    let fault = |chain, key| {
        let certificates = vec![certificate(CHAIN, KEY), certificate(chain, key)];
        let error = ServerTls::new(&TlsSource { certificates, ..TlsSource::default() });
        let error = error.expect_err("it cannot be used");
        assert_eq!(error.certificate(), Some(1));
        error.to_string()
    };
    assert!(fault(b"rubbish", KEY).starts_with("the certificate file holds no certificate"));
    assert!(fault(CHAIN, b"rubbish").starts_with("the key file holds no private key"));
    assert!(fault(CHAIN, CHAIN).starts_with("the key file holds no private key"));
    assert_eq!(fault(CHAIN, OTHER_KEY), "the key does not fit the certificate");
}

/// A server that knows the authority of the clients.
fn asking(revoked: Option<&str>, required: bool, user_from: UserFrom) -> ServerTls {
    let clients =
        ClientSource { authorities: file("client-ca"), revoked: revoked.map(file), required };
    let naming = Some(Naming { user_from, fixes_client_id: false });
    let options = TlsOptions { naming, ..TlsOptions::default() };
    ServerTls::new(&TlsSource { clients: Some(clients), options, ..source() }).unwrap()
}

/// Who a client is with this certificate, or why it is not let in.
fn certified(server: &ServerTls, name: Option<&str>) -> Vec<Result<Certified, TlsFailure>> {
    let outcome = |version| {
        let mut pair = Pair::with(client_as(version, true, name, &[]), server, 1_000);
        pair.carry();
        match pair.end {
            Some(TlsEnd::Failed(failure)) => Err(failure),
            _ => Ok(pair.tls.certified()),
        }
    };
    VERSIONS.into_iter().map(outcome).collect()
}

#[test]
fn certificates_of_clients_are_refused_for_a_reason_that_is_named() {
    let open = asking(None, true, UserFrom::CommonName);
    let strict = asking(Some("revoked"), true, UserFrom::CommonName);
    let late = asking(Some("revoked-old"), true, UserFrom::CommonName);
    for (server, name, failure) in [
        (&open, None, TlsFailure::NoCertificate),
        (&open, Some("old"), TlsFailure::Expired),
        (&open, Some("stranger"), TlsFailure::UnknownIssuer),
        (&open, Some("server-only"), TlsFailure::WrongPurpose),
        (&strict, Some("eve"), TlsFailure::Revoked),
        (&late, Some("ada"), TlsFailure::ListExpired),
    ] {
        assert_eq!(certified(server, name), [Err(failure), Err(failure)], "{name:?}");
    }
}

#[test]
fn a_certificate_names_its_user() {
    let user = |name: &str| {
        let user = Certified::User { name: name.into(), is_client_id: false };
        [Ok(user.clone()), Ok(user)]
    };
    let nameless = [Ok(Certified::Nameless), Ok(Certified::Nameless)];
    let common = asking(Some("revoked"), true, UserFrom::CommonName);
    assert_eq!(certified(&common, Some("ada")), user("ada"));
    assert_eq!(certified(&common, Some("odd")), nameless);
    let subject = asking(None, true, UserFrom::Subject);
    // As `openssl x509 -subject -nameopt RFC2253` prints them.
    let ada = "CN=ada,UID=17+OU=Sensors,O=Acme\\, Inc.,C=DE";
    assert_eq!(certified(&subject, Some("ada")), user(ada));
    let odd = "emailAddress=odd@example.com,O=\\ #Zo\\C3\\AB \\\"x\\\",DC=org";
    assert_eq!(certified(&subject, Some("odd")), user(odd));
    let alternative = asking(None, false, UserFrom::AlternativeName);
    assert_eq!(certified(&alternative, Some("ada")), user("ada.example.com"));
    assert_eq!(certified(&alternative, Some("eve")), nameless);
    assert_eq!(certified(&alternative, None), [Ok(Certified::Nobody), Ok(Certified::Nobody)]);
}

#[test]
fn what_is_wrong_with_the_authorities_is_said() {
    let fault = |authorities: &[u8], revoked: Option<&[u8]>| {
        let (authorities, revoked) = (authorities.to_vec(), revoked.map(<[u8]>::to_vec));
        let clients = Some(ClientSource { authorities, revoked, required: true });
        let error = ServerTls::new(&TlsSource { clients, ..source() }).expect_err("it is wrong");
        assert_eq!(error.certificate(), None);
        error.to_string()
    };
    assert!(fault(b"rubbish", None).starts_with("--tls-client-ca holds no certificate"));
    let broken = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    let second = [&file("client-ca")[..], broken.as_bytes()].concat();
    assert!(fault(&second, None).starts_with("--tls-client-ca: certificate 2 in the file"));
    let cut = &file("client-ca")[..200];
    assert!(fault(cut, None).starts_with("--tls-client-ca"));
    assert!(fault(&file("client-ca"), Some(b"rubbish")).starts_with("--tls-crl holds no"));
    let list = broken.replace("CERTIFICATE", "X509 CRL");
    let said = fault(&file("client-ca"), Some(list.as_bytes()));
    assert!(said.starts_with("--tls-crl: a revocation list cannot be read"), "{said}");
}

#[test]
fn the_version_and_the_protocol_can_be_limited() {
    let with = |options| ServerTls::new(&TlsSource { options, ..source() }).unwrap();
    let newer = with(TlsOptions { version_min: TlsVersion::V13, ..TlsOptions::default() });
    let mqtt = with(TlsOptions { alpn: vec![b"mqtt".to_vec()], ..TlsOptions::default() });
    let failure = |server, version, alpn: &[&str]| {
        let mut pair = Pair::with(client_as(version, true, None, alpn), server, 1_000);
        pair.carry();
        match pair.end {
            Some(TlsEnd::Failed(failure)) => Some(failure),
            _ => None,
        }
    };
    assert_eq!(failure(&newer, &TLS12, &[]), Some(TlsFailure::VersionTooLow));
    assert_eq!(failure(&newer, &TLS13, &[]), None);
    assert_eq!(failure(&mqtt, &TLS13, &["h2", "mqtt"]), None);
    assert_eq!(failure(&mqtt, &TLS13, &["h2"]), Some(TlsFailure::NoProtocol));
    assert_eq!(failure(&mqtt, &TLS13, &[]), None);
    assert_eq!(failure(&server(), &TLS13, &["h2"]), None);
}

#[test]
fn a_client_is_shown_the_certificate_that_has_the_name_it_asks_for() {
    let certificates = vec![certificate(&file("ada"), &file("ada-key")), certificate(CHAIN, KEY)];
    let server = ServerTls::new(&TlsSource { certificates, ..TlsSource::default() }).unwrap();
    let mut pair = Pair::with(client(&TLS13, true), &server, 1_000);
    assert!(pair.carry());
}

#[test]
fn no_certificate_makes_the_reader_of_names_fail() {
    for name in ["ada", "odd", "client-ca"] {
        let whole = CertificateDer::from_pem_slice(&file(name)).unwrap().to_vec();
        for place in 0..whole.len() {
            let mut changed = whole.clone();
            changed[place] ^= 0xFF;
            for kind in [UserFrom::CommonName, UserFrom::Subject, UserFrom::AlternativeName] {
                names::user_name(&changed, kind);
                names::user_name(&whole[..place], kind);
            }
        }
    }
}

/// The keys of a client after its handshake, by which it can send what rustls never would.
struct RawClient {
    encrypter: Box<dyn MessageEncrypter>,
    sequence: u64,
}

impl RawClient {
    fn of(client: ClientConnection) -> RawClient {
        let Some(SupportedCipherSuite::Tls13(suite)) = client.negotiated_cipher_suite() else {
            panic!("the client speaks TLS 1.3");
        };
        let (sequence, secrets) = client.dangerous_extract_secrets().unwrap().tx;
        let (ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }) = secrets
        else {
            panic!("no other kind of keys is known");
        };
        RawClient { encrypter: suite.aead_alg.encrypter(key, iv), sequence }
    }

    fn record(&mut self, typ: ContentType, payload: &[u8]) -> Vec<u8> {
        let version = ProtocolVersion::TLSv1_3;
        let message = OutboundPlainMessage { typ, version, payload: payload.into() };
        self.sequence += 1;
        self.encrypter.encrypt(message, self.sequence - 1).unwrap().encode()
    }
}

/// A server, and the keys of its client, after the handshake.
fn raw_pair() -> (Tls, RawClient) {
    let mut pair = Pair::new(client(&TLS13, true), 1_000);
    assert!(pair.carry());
    (pair.tls, RawClient::of(pair.client))
}

const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 1];

#[test]
fn half_a_handshake_message_stops_nothing_that_is_sealed() {
    for forget in [false, true] {
        let (mut tls, mut raw) = raw_pair();
        let mut begun = raw.record(ContentType::Handshake, &KEY_UPDATE[..2]);
        assert!(tls.receive(&mut begun).end.is_none());
        assert!(tls.held_bytes() > 0);
        let mut out = Vec::new();
        if forget {
            tls.forget_held();
            assert_eq!(tls.held_bytes(), 0);
            assert!(!tls.seal(b"hello", &mut out), "rustls would panic");
            assert!(tls.take_close().is_empty());
            continue;
        }
        assert!(tls.seal(b"hello", &mut out) && !out.is_empty());
        let mut rest = raw.record(ContentType::Handshake, &KEY_UPDATE[2..]);
        let opened = tls.receive(&mut rest);
        assert_eq!((opened.end, tls.held_bytes()), (None, 0));
        assert!(tls.seal(b"hello", &mut out));
        assert!(!tls.take_close().is_empty());
    }
}

#[test]
fn what_follows_a_wrong_message_is_not_looked_at() {
    let (mut tls, mut raw) = raw_pair();
    // An unknown message, with the beginning of another one behind it.
    let mut bytes = raw.record(ContentType::Handshake, &[99, 0, 0, 0, 24, 0]);
    bytes.extend(raw.record(ContentType::ApplicationData, b"more"));
    let opened = tls.receive(&mut bytes);
    assert_eq!(opened.end, Some(TlsEnd::Failed(TlsFailure::Wrong)));
    assert!(opened.mqtt.is_empty() && tls.owes());
    assert!(!tls.seal(b"hello", &mut Vec::new()));
    assert!(tls.take_close().is_empty());
}

#[test]
fn a_flood_of_key_updates_ends_the_connection() {
    let (mut tls, mut raw) = raw_pair();
    let many = KEY_UPDATE.repeat(100);
    let mut flood = raw.record(ContentType::Handshake, &many);
    let end = tls.receive(&mut flood).end;
    assert!(matches!(end, Some(TlsEnd::Failed(_))), "{end:?}");
}
