//! The opening handshake: the HTTP request for a WebSocket, and its answer.
//!
//! RFC 6455, section 4.2.

use std::net::{Ipv4Addr, Ipv6Addr};

use base64ct::{Base64, Encoding};
use sha1::{Digest, Sha1};
use thiserror::Error;

/// Which requests may open a WebSocket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandshakePolicy {
    /// The only path that is accepted; any path if `None`.
    pub path: Option<String>,
    /// The Origins whose web pages may connect. If there are none: on a loopback listener the pages
    /// of this machine, elsewhere all. Only browsers send an Origin.
    pub origins: Vec<String>,
    /// Only this machine reaches the listener. But a web page from anywhere runs in a browser of
    /// this machine, and the page's own host name may lead here (DNS rebinding). So the Origin and
    /// the Host must be of this machine, or be among the Origins.
    pub is_loopback: bool,
}

impl HandshakePolicy {
    /// No request may open a WebSocket.
    pub fn nobody() -> HandshakePolicy {
        HandshakePolicy { path: Some(String::new()), ..HandshakePolicy::default() }
    }
}

/// The result of reading a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Handshake {
    /// The request is incomplete.
    Incomplete,
    /// The first `taken` bytes were the request, and `answer` is to be sent.
    Accepted {
        taken: usize,
        answer: String,
    },
    Refused(Refusal),
}

/// Why a request does not open a WebSocket for MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("this is no HTTP request")]
    NotHttp,
    #[error("an HTTP/1.1 request is expected")]
    HttpVersion,
    #[error("the method of a WebSocket handshake is GET")]
    Method,
    #[error("there is nothing at this path")]
    Path,
    #[error("pages of this origin may not connect: --websocket-origin names those that may")]
    Origin,
    #[error("the Host header does not name this machine: --websocket-origin names other hosts")]
    ForeignHost,
    #[error("the Host header is missing")]
    Host,
    #[error("MQTT is spoken over WebSocket here: an Upgrade header is missing")]
    Upgrade,
    #[error("the Connection header does not say Upgrade")]
    Connection,
    #[error("the version of WebSocket is 13")]
    Version,
    #[error("Sec-WebSocket-Key is not one key of 16 bytes in Base64")]
    Key,
    #[error("the client has to offer mqtt in Sec-WebSocket-Protocol")]
    Subprotocol,
    #[error("the request is too long")]
    TooLong,
}

impl Refusal {
    fn status(self) -> &'static str {
        match self {
            Refusal::NotHttp
            | Refusal::HttpVersion
            | Refusal::Host
            | Refusal::Connection
            | Refusal::Key
            | Refusal::Subprotocol => "400 Bad Request",
            Refusal::Origin | Refusal::ForeignHost => "403 Forbidden",
            Refusal::Path => "404 Not Found",
            Refusal::Method => "405 Method Not Allowed",
            Refusal::Upgrade | Refusal::Version => "426 Upgrade Required",
            Refusal::TooLong => "431 Request Header Fields Too Large",
        }
    }

    /// The headers that tell a client what is supported.
    fn headers(self) -> &'static str {
        match self {
            Refusal::Method => "Allow: GET\r\n",
            Refusal::Upgrade | Refusal::Version => {
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            }
            _ => "",
        }
    }

    /// The whole HTTP response.
    pub fn answer(self) -> String {
        let (status, headers, body) = (self.status(), self.headers(), self.to_string());
        let length = body.len() + 1;
        let connection = if headers.starts_with("Upgrade") { "Upgrade, close" } else { "close" };
        format!(
            "HTTP/1.1 {status}\r\n{headers}Connection: {connection}\r\n\
             Content-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}\n"
        )
    }
}

/// Reads the request at the front of `bytes`. The first `searched` bytes were read before.
pub(super) fn read(bytes: &[u8], searched: usize, rules: &HandshakePolicy) -> Handshake {
    if bytes.first().is_some_and(|first| !first.is_ascii_uppercase()) {
        // A client that sends MQTT or TLS to this listener is refused at once.
        return Handshake::Refused(Refusal::NotHttp);
    }
    let from = searched.saturating_sub(END.len() - 1);
    let found = bytes[from..].windows(END.len()).position(|window| window == END);
    match found.map(|place| from + place + END.len()) {
        Some(end) if end <= REQUEST_BYTES_MAX => match parse(&bytes[..end], rules) {
            Ok((taken, answer)) if taken == end => Handshake::Accepted { taken, answer },
            // The request has ended earlier, with an empty line without CR.
            Ok(_) => Handshake::Refused(Refusal::NotHttp),
            Err(refusal) => Handshake::Refused(refusal),
        },
        None if bytes.len() < REQUEST_BYTES_MAX => Handshake::Incomplete,
        _ => Handshake::Refused(Refusal::TooLong),
    }
}

/// The length of a whole request, and its answer.
fn parse(bytes: &[u8], rules: &HandshakePolicy) -> Result<(usize, String), Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let taken = match request.parse(bytes) {
        Ok(httparse::Status::Complete(taken)) => taken,
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooLong),
        Err(httparse::Error::Version) => return Err(Refusal::HttpVersion),
        Ok(httparse::Status::Partial) | Err(_) => return Err(Refusal::NotHttp),
    };
    check_target(&request, rules)?;
    let headers = Headers(request.headers);
    check_upgrade(&headers)?;
    check_origin(&headers, rules)?;
    let accept = accept(&headers)?;
    let subprotocol = subprotocol(&headers)?;
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
    );
    Ok((taken, answer))
}

fn check_target(
    request: &httparse::Request<'_, '_>,
    rules: &HandshakePolicy,
) -> Result<(), Refusal> {
    if request.version != Some(1) {
        return Err(Refusal::HttpVersion);
    }
    if request.method != Some("GET") {
        return Err(Refusal::Method);
    }
    let path = request.path.and_then(|target| target.split('?').next());
    match &rules.path {
        Some(only) if path != Some(only) => Err(Refusal::Path),
        _ => Ok(()),
    }
}

fn check_upgrade(headers: &Headers<'_, '_>) -> Result<(), Refusal> {
    if headers.all("Host").next().is_none() {
        return Err(Refusal::Host);
    }
    if !headers.lists("Upgrade", "websocket") {
        return Err(Refusal::Upgrade);
    }
    if !headers.lists("Connection", "upgrade") {
        return Err(Refusal::Connection);
    }
    if !headers.all("Sec-WebSocket-Version").eq(["13"]) {
        return Err(Refusal::Version);
    }
    Ok(())
}

fn check_origin(headers: &Headers<'_, '_>, rules: &HandshakePolicy) -> Result<(), Refusal> {
    if !headers.all("Origin").all(|origin| rules.welcomes_origin(origin)) {
        return Err(Refusal::Origin);
    }
    if !headers.all("Host").all(|host| rules.welcomes_host(host)) {
        return Err(Refusal::ForeignHost);
    }
    Ok(())
}

impl HandshakePolicy {
    fn welcomes_origin(&self, origin: &str) -> bool {
        self.origins.iter().any(|known| known == origin)
            || if self.is_loopback { is_local(authority(origin)) } else { self.origins.is_empty() }
    }

    fn welcomes_host(&self, host: &str) -> bool {
        let is_known = |origin: &String| authority(origin).eq_ignore_ascii_case(host);
        !self.is_loopback || is_local(host) || self.origins.iter().any(is_known)
    }
}

/// What follows the scheme of an Origin. An Origin may also be `null`.
fn authority(origin: &str) -> &str {
    origin.split_once("://").map_or("", |(_, authority)| authority)
}

/// Whether a host, with a port or without, is this machine: `localhost`, 127.0.0.0/8 or `[::1]`.
fn is_local(authority: &str) -> bool {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (authority, ""),
    };
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_loopback = match inner {
        Some(inner) => inner.parse().is_ok_and(|address: Ipv6Addr| address.is_loopback()),
        None => host.parse().is_ok_and(|address: Ipv4Addr| address.is_loopback()),
    };
    let has_port = port.bytes().all(|byte| byte.is_ascii_digit());
    has_port && (is_loopback || host.eq_ignore_ascii_case("localhost"))
}

/// The answer to the client's key, which proves that the server supports WebSocket.
fn accept(headers: &Headers<'_, '_>) -> Result<String, Refusal> {
    let mut keys = headers.all("Sec-WebSocket-Key");
    let (Some(key), None) = (keys.next(), keys.next()) else { return Err(Refusal::Key) };
    let mut nonce = [0; NONCE_BYTES];
    match Base64::decode(key, &mut nonce) {
        Ok(whole) if whole.len() == NONCE_BYTES => {}
        _ => return Err(Refusal::Key),
    }
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    Ok(Base64::encode_string(&digest))
}

/// Chooses `mqtt` if it is offered. Clients of MQTT 3.1 offer only another name. [MQTT-6.0.0-4]
/// [MQTT-6.0.0-4@3.1.1]
fn subprotocol(headers: &Headers<'_, '_>) -> Result<&'static str, Refusal> {
    let offers = |name| headers.tokens("Sec-WebSocket-Protocol").any(|offered| offered == name);
    SUBPROTOCOLS.into_iter().find(|name| offers(*name)).ok_or(Refusal::Subprotocol)
}

/// The headers of a request. A value that is not UTF-8 is taken as empty.
struct Headers<'a, 'b>(&'a [httparse::Header<'b>]);

impl<'b> Headers<'_, 'b> {
    fn all(&self, name: &'static str) -> impl Iterator<Item = &'b str> {
        let named = self.0.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| str::from_utf8(header.value).unwrap_or_default().trim())
    }

    /// The items of all headers with this name, whose values are lists with commas.
    fn tokens(&self, name: &'static str) -> impl Iterator<Item = &'b str> {
        self.all(name).flat_map(|list| list.split(',')).map(str::trim)
    }

    fn lists(&self, name: &'static str, token: &str) -> bool {
        self.tokens(name).any(|item| item.eq_ignore_ascii_case(token))
    }
}

/// The end of a request without a body.
const END: &[u8] = b"\r\n\r\n";
/// Bytes of a request. A longer one is refused. Browsers send one or two KiB, mostly cookies.
pub(super) const REQUEST_BYTES_MAX: usize = 8 << 10;
const HEADERS_MAX: usize = 64;
const NONCE_BYTES: usize = 16;
/// From RFC 6455, section 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The best one first.
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: server.example.com\r\n\
        Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Protocol: mqttv3.1, mqtt\r\nSec-WebSocket-Version: 13\r\n\r\n";

    fn answer(request: &str, rules: &HandshakePolicy) -> Handshake {
        read(request.as_bytes(), 0, rules)
    }

    fn refused(request: &str) -> String {
        match answer(request, &HandshakePolicy::default()) {
            Handshake::Refused(refusal) => refusal.answer(),
            other => panic!("{request}: {other:?}"),
        }
    }

    /// The key and its answer are those of RFC 6455, section 1.3.
    ///
    /// [MQTT-6.0.0-4] [MQTT-6.0.0-4@3.1.1]
    #[test]
    fn the_subprotocol_is_mqtt_whenever_that_is_offered() {
        let expected = |subprotocol: &str| {
            format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
                 Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
            )
        };
        for (offered, chosen) in [
            ("mqttv3.1, mqtt", "mqtt"),
            ("mqtt", "mqtt"),
            ("amqp ,\tmqtt , other", "mqtt"),
            ("amqp\r\nsec-websocket-protocol: mqtt", "mqtt"),
            ("mqttv3.1", "mqttv3.1"),
        ] {
            let request = REQUEST.replace("mqttv3.1, mqtt", offered);
            assert_eq!(
                answer(&request, &HandshakePolicy::default()),
                Handshake::Accepted { taken: request.len(), answer: expected(chosen) },
                "{offered}"
            );
        }
    }

    #[test]
    fn a_request_is_read_however_it_is_split_and_no_further_than_its_end() {
        let rules = HandshakePolicy::default();
        let bytes = [REQUEST.as_bytes(), b"\x82\x80GET\r\n\r\n"].concat();
        for end in 1..REQUEST.len() {
            for searched in [0, end / 2, end - 1] {
                assert_eq!(read(&bytes[..end], searched, &rules), Handshake::Incomplete, "{end}");
            }
        }
        for searched in [0, 100, REQUEST.len() - 3, REQUEST.len() - 1] {
            let taken = match read(&bytes, searched, &rules) {
                Handshake::Accepted { taken, .. } => taken,
                other => panic!("{other:?}"),
            };
            assert_eq!(taken, REQUEST.len());
        }
    }

    #[test]
    fn what_opens_no_websocket_is_told_why() {
        let without = |header: &str| {
            let lines: Vec<&str> =
                REQUEST.split("\r\n").filter(|line| !line.starts_with(header)).collect();
            lines.join("\r\n")
        };
        let with = |from: &str, to: &str| {
            assert!(REQUEST.contains(from));
            REQUEST.replace(from, to)
        };
        for (request, status) in [
            ("\x10\x0c\0\x04MQTT".to_owned(), "400 Bad Request"),
            ("GET /\r\n\r\n".to_owned(), "400 Bad Request"),
            (with("HTTP/1.1", "HTTP/1.0"), "400 Bad Request"),
            (with("HTTP/1.1", "HTTP/2.0"), "400 Bad Request"),
            (with("GET", "POST"), "405 Method Not Allowed"),
            (with("GET", "HEAD"), "405 Method Not Allowed"),
            (without("Host"), "400 Bad Request"),
            (without("Upgrade"), "426 Upgrade Required"),
            (with("Upgrade: websocket", "Upgrade: h2c"), "426 Upgrade Required"),
            (without("Connection"), "400 Bad Request"),
            (without("Sec-WebSocket-Version"), "426 Upgrade Required"),
            (with("Version: 13", "Version: 8"), "426 Upgrade Required"),
            (
                with("Version: 13", "Version: 13\r\nSec-WebSocket-Version: 8"),
                "426 Upgrade Required",
            ),
            (without("Sec-WebSocket-Key"), "400 Bad Request"),
            (with("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), "400 Bad Request"),
            (with("dGhlIHNhbXBsZSBub25jZQ==", "not Base64 at all======="), "400 Bad Request"),
            (
                with(
                    "Sec-WebSocket-Key",
                    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
                      Sec-WebSocket-Key",
                ),
                "400 Bad Request",
            ),
            (without("Sec-WebSocket-Protocol"), "400 Bad Request"),
            (with("mqttv3.1, mqtt", "MQTT, amqp"), "400 Bad Request"),
            (with("\r\nHost", "\r\n Host"), "400 Bad Request"),
            (
                with("Host", &format!("{}Host", "a: b\r\n".repeat(64))),
                "431 Request Header Fields Too Large",
            ),
            (with("/mqtt", &"/".repeat(9_000)), "431 Request Header Fields Too Large"),
            (format!("GET /{}", "a".repeat(9_000)), "431 Request Header Fields Too Large"),
        ] {
            let answer = refused(&request);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request}: {answer}");
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("\r\nContent-Length: {}", body.len())), "{answer}");
            assert_eq!(head.contains("\r\nAllow: GET"), status.starts_with("405"), "{answer}");
            let helps = head.contains("\r\nSec-WebSocket-Version: 13");
            assert_eq!(helps, status.starts_with("426"), "{answer}");
        }
    }

    #[test]
    fn only_the_configured_path_and_origins_are_let_in() {
        let rules = HandshakePolicy {
            path: Some("/mqtt".into()),
            origins: vec!["https://a.example".into()],
            is_loopback: false,
        };
        let is_accepted = |request: &str| match answer(request, &rules) {
            Handshake::Accepted { .. } => true,
            Handshake::Refused(Refusal::Path | Refusal::Origin) => false,
            other => panic!("{other:?}"),
        };
        let target = |target: &str| REQUEST.replace("/mqtt", target);
        assert!(is_accepted(REQUEST) && is_accepted(&target("/mqtt?token=1")));
        assert!(!is_accepted(&target("/")) && !is_accepted(&target("/mqtt/")));
        let origin = |origin: &str| REQUEST.replace("Host", &format!("Origin: {origin}\r\nHost"));
        assert!(is_accepted(&origin("https://a.example")));
        for other in ["https://b.example", "http://a.example", "null", "", "\u{fffd}"] {
            assert!(!is_accepted(&origin(other)), "{other}");
        }
    }

    /// What a request with these headers gets from a loopback listener with these Origins.
    fn on_loopback(origins: &[&str], host: &str, origin: Option<&str>) -> Option<Refusal> {
        let origins = origins.iter().map(|&origin| origin.to_owned()).collect();
        let rules = HandshakePolicy { path: None, origins, is_loopback: true };
        let origin = origin.map_or(String::new(), |origin| format!("Origin: {origin}\r\n"));
        let request =
            REQUEST.replace("Host: server.example.com\r\n", &format!("Host: {host}\r\n{origin}"));
        match read(request.as_bytes(), 0, &rules) {
            Handshake::Refused(refusal) => Some(refusal),
            Handshake::Accepted { .. } => None,
            Handshake::Incomplete => panic!("the request is whole"),
        }
    }

    #[test]
    fn on_loopback_only_pages_of_this_machine_and_named_ones_are_let_in() {
        let from = |origin| on_loopback(&["https://a.example"], "localhost:8083", Some(origin));
        let local =
            ["http://localhost", "https://LOCALHOST:3000", "http://127.0.0.9:1", "http://[::1]:80"];
        for origin in local.into_iter().chain(["https://a.example"]) {
            assert_eq!(from(origin), None, "{origin}");
        }
        for origin in [
            "http://a.example",
            "https://b.example",
            "null",
            "http://localhost.b.example",
            "http://localhost:1@b.example",
            "http://127.0.0.1.b.example",
            "http://[::2]",
            "http://::1",
            "file://",
        ] {
            assert_eq!(from(origin), Some(Refusal::Origin), "{origin}");
        }
    }

    #[test]
    fn on_loopback_a_host_name_from_elsewhere_is_refused() {
        let to = |host| on_loopback(&["https://a.example:444"], host, None);
        for host in ["localhost", "127.0.0.1:8083", "[::1]:8083", "[::1]", "A.example:444"] {
            assert_eq!(to(host), None, "{host}");
        }
        for host in ["b.example:8083", "localhost.b.example", "10.0.0.1", ""] {
            assert_eq!(to(host), Some(Refusal::ForeignHost), "{host}");
        }
        assert!(Refusal::ForeignHost.answer().starts_with("HTTP/1.1 403 "));
    }
}
