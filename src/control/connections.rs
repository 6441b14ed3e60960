//! The HTTP connections, and what each of them may take.
//!
//! | what | limit | what happens beyond it |
//! |---|---|---|
//! | connections of a socket | 64 | the oldest one is closed |
//! | time for the head of a request, or until the next one | 5 s | the connection is closed |
//! | head of a request | 16 KiB, 64 fields | 431 |
//! | time of a connection | 60 s | it takes no further request |
//!
//! A client that is slow or silent holds its own place only, and the next one that comes gets it.

use std::{
    cell::Cell, collections::VecDeque, convert::Infallible, pin::pin, rc::Rc, sync::Arc,
    time::Duration,
};

use axum::{Router, body::Body, http::Request, response::Response};
use hyper::{
    body::Incoming,
    rt::{Read, Write},
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    sync::oneshot,
    task::{self, AbortHandle},
    time,
};
use tracing::{debug, warn};

use super::{
    counts::{Counts, OpenConnection, Refusal},
    sockets::{Acceptor, Peer, Socket, Stream},
};

/// Answers requests until the other end of `stopped` is dropped.
pub(super) async fn serve_until(
    sockets: Vec<Socket>,
    router: Router,
    counts: Arc<Counts>,
    stopped: oneshot::Receiver<()>,
) {
    for socket in sockets {
        let address = socket.address().clone();
        match socket.into_acceptor() {
            Ok(acceptor) => {
                drop(task::spawn_local(accept(acceptor, router.clone(), Arc::clone(&counts))));
            }
            Err(error) => warn!(%address, %error, "the control thread cannot accept connections"),
        }
    }
    // Nothing is ever sent: the owner drops its end, and that is the error here.
    let _ended = stopped.await;
}

async fn accept(acceptor: Acceptor, router: Router, counts: Arc<Counts>) {
    let mut open = Open::default();
    loop {
        match acceptor.accept().await {
            Ok((stream, peer)) => {
                let served = serve(stream, peer, router.clone(), counts.open());
                if open.insert(task::spawn_local(served).abort_handle()) {
                    counts.note_refusal(Refusal::TooManyConnections);
                }
            }
            Err(error) => {
                debug!(%error, "cannot accept an HTTP connection, trying again soon");
                time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// The open connections, oldest first.
#[derive(Default)]
struct Open(VecDeque<AbortHandle>);

impl Open {
    /// Returns whether the oldest one was closed for it.
    fn insert(&mut self, connection: AbortHandle) -> bool {
        if self.0.len() == CONNECTIONS_MAX {
            self.0.retain(|connection| !connection.is_finished());
        }
        let oldest = (self.0.len() == CONNECTIONS_MAX).then(|| self.0.pop_front()).flatten();
        self.0.push_back(connection);
        oldest.inspect(AbortHandle::abort).is_some()
    }
}

async fn serve(stream: Stream, peer: Peer, router: Router, open: OpenConnection) {
    let inner = TowerToHyperService::new(router);
    let is_new = Rc::new(Cell::new(true));
    let first = Rc::clone(&is_new);
    let service = service_fn(move |mut request: Request<Incoming>| {
        first.set(false);
        request.extensions_mut().insert(peer);
        inner.call(request.map(Body::new))
    });
    let answered = match stream {
        Stream::Tcp(stream) => answer(TokioIo::new(stream), service).await,
        Stream::Unix(stream) => answer(TokioIo::new(stream), service).await,
    };
    if let Err(error) = answered {
        if let Some(refusal) = refusal_of(&error, is_new.get()) {
            open.counts().note_refusal(refusal);
        }
        debug!(%peer, %error, "an HTTP connection ended");
    }
}

/// What an error says about the other side. It may also have gone, or have no further request,
/// which is no refusal.
fn refusal_of(error: &hyper::Error, is_new: bool) -> Option<Refusal> {
    if error.is_parse() {
        return Some(Refusal::Malformed);
    }
    (error.is_timeout() && is_new).then_some(Refusal::Timeout)
}

async fn answer(
    stream: impl Read + Write + Unpin,
    service: impl Service<Request<Incoming>, Response = Response, Error = Infallible>,
) -> hyper::Result<()> {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(FIELDS_MAX)
        .serve_connection(stream, service);
    let mut connection = pin!(connection);
    let ended = time::timeout(CONNECTION_TIME_MAX, connection.as_mut()).await;
    if let Ok(ended) = ended {
        ended
    } else {
        connection.as_mut().graceful_shutdown();
        time::timeout(LAST_TIME_MAX, connection).await.unwrap_or(Ok(()))
    }
}

const CONNECTIONS_MAX: usize = 64;
const HEAD_TIME_MAX: Duration = Duration::from_secs(5);
const HEAD_BYTES_MAX: usize = 16 << 10;
const FIELDS_MAX: usize = 64;
const CONNECTION_TIME_MAX: Duration = Duration::from_mins(1);
/// For the request that is under way when the time of its connection is over.
const LAST_TIME_MAX: Duration = Duration::from_secs(10);
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
