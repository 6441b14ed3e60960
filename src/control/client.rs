//! A client of HTTP/1.1 for one server that the broker asks: one request at a time, and a limit to
//! all that comes back.
//!
//! Follows no redirect. Whoever sends limits the time.

use std::{
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    rc::Rc,
    time::Duration,
};

use axum::body::{self, Body, Bytes};
use hyper::{
    Request, Response, StatusCode, Uri,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    header,
    http::{request, uri::Authority},
    rt::{Read, Write},
};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::{
    net::TcpStream,
    task::{JoinHandle, spawn_blocking, spawn_local},
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;

use crate::transport::tls::{ClientTls, ClientTlsFault};

/// Where a server is.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    host: String,
    port: u16,
    authority: String,
    path: String,
    tls: Option<ClientTls>,
}

/// What is wrong with a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum UrlFault {
    #[error("the URL has to be http://HOST[:PORT]/PATH or https://HOST[:PORT]/PATH")]
    Form,
    #[error("the URL has a user or a password: put a header field Authorization in its place")]
    User,
    #[error(transparent)]
    Tls(#[from] ClientTlsFault),
}

impl Endpoint {
    /// `authorities` in PEM may prove who a server of https is.
    pub(super) fn new(url: &str, authorities: &[u8]) -> Result<Endpoint, UrlFault> {
        let uri: Uri = url.parse().map_err(|_| UrlFault::Form)?;
        let authority = uri.authority().ok_or(UrlFault::Form)?;
        let is_secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(UrlFault::Form),
        };
        if authority.as_str().contains('@') {
            return Err(UrlFault::User);
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err(UrlFault::Form);
        }
        let tls = is_secure.then(|| ClientTls::new(&host, authorities)).transpose()?;
        Ok(Endpoint {
            host,
            port: port_of(authority, is_secure)?,
            authority: authority.as_str().to_owned(),
            // `as_str` leaves out the slash before a query.
            path: uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
            tls,
        })
    }

    /// Host and port, as the URL has them. The rest of the URL may be a secret.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// A request to the path of the URL.
    pub(super) fn request(&self) -> request::Builder {
        Request::builder().uri(&self.path).header(header::HOST, &self.authority)
    }
}

/// The port that a URL names, or that of its scheme.
fn port_of(authority: &Authority, is_secure: bool) -> Result<u16, UrlFault> {
    match authority.as_str().strip_prefix(authority.host()).and_then(|it| it.strip_prefix(':')) {
        None => Ok(if is_secure { 443 } else { 80 }),
        Some(port) => port.parse().map_err(|_| UrlFault::Form),
    }
}

/// Why there is no answer that could be used.
#[derive(Debug, Error)]
pub(super) enum Silence {
    #[error("the name of its host cannot be found: {0}")]
    Unknown(io::Error),
    #[error("it cannot be reached: {0}")]
    Unreachable(io::Error),
    #[error("TLS with it has failed: {0}")]
    Tls(io::Error),
    #[error("it does not speak HTTP as it should: {0}")]
    Broken(#[from] hyper::Error),
    #[error("no answer came in time")]
    Late,
    #[error("it answered with a redirect ({}), which is not followed", .0.as_u16())]
    Redirect(StatusCode),
    #[error("it answered with status {0}")]
    Status(StatusCode),
    #[error("its answer is too long, or has not come to its end")]
    Body,
    #[error("its answer cannot be understood: {0}")]
    Nonsense(&'static str),
}

/// The end of the broker. It has one connection at a time, which lasts.
#[derive(Debug)]
pub(super) struct Client {
    endpoint: Rc<Endpoint>,
    connection: Option<Connection>,
    /// A search for the addresses of the host. It cannot be broken off, so the next request waits
    /// for the same one.
    lookup: Option<JoinHandle<io::Result<Vec<SocketAddr>>>>,
}

impl Client {
    pub(super) fn new(endpoint: Rc<Endpoint>) -> Client {
        Client { endpoint, connection: None, lookup: None }
    }

    /// Sends a request, and returns the answer if its status is a wanted one. If this is broken
    /// off, the connection ends.
    pub(super) async fn send(
        &mut self,
        request: impl Fn() -> Request<Body>,
        is_wanted: impl Fn(StatusCode) -> bool,
    ) -> Result<(StatusCode, Bytes), Silence> {
        // The server may have closed a connection that was idle. What has been asked on it is asked
        // once more.
        // A firewall on the way may have forgotten one that was idle for long.
        let idle = self.connection.take().filter(|it| it.since.elapsed() < IDLE_MAX);
        if let Some(mut connection) = idle
            && connection.sender.ready().await.is_ok()
            && let Ok(response) = connection.sender.send_request(request()).await
        {
            return self.read(connection, response, is_wanted).await;
        }
        let mut connection = self.connect().await?;
        let response = connection.sender.send_request(request()).await?;
        self.read(connection, response, is_wanted).await
    }

    async fn read(
        &mut self,
        mut connection: Connection,
        response: Response<Incoming>,
        is_wanted: impl Fn(StatusCode) -> bool,
    ) -> Result<(StatusCode, Bytes), Silence> {
        let status = response.status();
        if status.is_redirection() {
            return Err(Silence::Redirect(status));
        }
        if !is_wanted(status) {
            return Err(Silence::Status(status));
        }
        let content = body::to_bytes(Body::new(response.into_body()), BODY_BYTES_MAX).await;
        let content = content.map_err(|_| Silence::Body)?;
        connection.since = Instant::now();
        self.connection = Some(connection);
        Ok((status, content))
    }

    async fn connect(&mut self) -> Result<Connection, Silence> {
        let addresses = self.addresses().await.map_err(Silence::Unknown)?;
        let stream = reach(&addresses).await.map_err(Silence::Unreachable)?;
        stream.set_nodelay(true).map_err(Silence::Unreachable)?;
        match &self.endpoint.tls {
            None => Connection::open(TokioIo::new(stream)).await,
            Some(tls) => {
                let connector = TlsConnector::from(tls.config());
                let stream = connector.connect(tls.name(), stream).await.map_err(Silence::Tls)?;
                Connection::open(TokioIo::new(stream)).await
            }
        }
    }

    async fn addresses(&mut self) -> io::Result<Vec<SocketAddr>> {
        let (host, port) = (self.endpoint.host.clone(), self.endpoint.port);
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let find = move || (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
        let lookup = self.lookup.get_or_insert_with(|| spawn_blocking(find));
        let found = lookup.await;
        self.lookup = None;
        found.map_err(io::Error::other)?
    }
}

/// Connects to the first address that answers.
async fn reach(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut fault = io::ErrorKind::NotFound.into();
    for &address in addresses {
        fault = match timeout(REACH_PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(fault)) => fault,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
    }
    Err(fault)
}

/// A connection that has not been used for longer is not used again.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// How long one address may take, so that the next one is tried in time.
const REACH_PATIENCE: Duration = Duration::from_secs(1);

/// A connection to the server. It ends when this is dropped.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<Body>,
    driver: JoinHandle<()>,
    /// When it was used last.
    since: Instant,
}

impl Connection {
    async fn open(stream: impl Read + Write + Unpin + 'static) -> Result<Connection, Silence> {
        let (sender, driver) =
            http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(stream).await?;
        let driver = spawn_local(async move { drop(driver.await) });
        Ok(Connection { sender, driver, since: Instant::now() })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// The longest content of an answer, and the longest head.
const BODY_BYTES_MAX: usize = 64 << 10;
const HEAD_BYTES_MAX: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_host_and_perhaps_a_port_and_a_path() {
        let ca = include_bytes!("../../tests/tls/ca.pem");
        let parts = |url| {
            let endpoint = Endpoint::new(url, ca).unwrap();
            (endpoint.host, endpoint.port, endpoint.path, endpoint.tls.is_some())
        };
        for (url, host, port, path, is_secure) in [
            ("http://a.example", "a.example", 80, "/", false),
            ("http://[::1]:8080/b?c=d", "::1", 8080, "/b?c=d", false),
            ("http://a.example:81?c=d", "a.example", 81, "/?c=d", false),
            ("https://a.example/b", "a.example", 443, "/b", true),
            ("https://192.0.2.1:1/", "192.0.2.1", 1, "/", true),
        ] {
            assert_eq!(parts(url), (host.to_owned(), port, path.to_owned(), is_secure), "{url}");
        }
        let fault = |url, ca| Endpoint::new(url, ca).unwrap_err();
        let ports = ["http://a.example:65536/", "http://a.example:", "http://[::1]:x/"];
        for url in ports.into_iter().chain([
            "",
            "a.example",
            "ftp://a.example/",
            "/b",
            "http://",
            "http:///b",
        ]) {
            assert_eq!(fault(url, ca), UrlFault::Form, "{url}");
        }
        assert_eq!(fault("http://u:p@a.example/", ca), UrlFault::User);
        assert_eq!(fault("https://a.example/", b""), ClientTlsFault::NoAuthority.into());
    }
}
