//! The HTTP connections, and what each of them may take.
//!
//! | what | limit | what happens beyond it |
//! |---|---|---|
//! | connections of a socket | 64 | the oldest one is closed |
//! | time for the head of a request, or until the next one | 5 s | the connection is closed |
//! | head of a request | 16 KiB, 64 fields | 431 |
//! | time of a connection | 60 s | it takes no further request |
//!
//! A stream of events lasts longer, and is not closed for another connection.
//!
//! A client that is slow or silent holds its own place only, and the next one that comes gets it.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    convert::Infallible,
    pin::pin,
    rc::Rc,
    sync::{Arc, Weak},
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
                let stay = Stay::default();
                let served = serve((stream, peer), router.clone(), counts.open(), stay.clone());
                if open.insert(task::spawn_local(served).abort_handle(), stay) {
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

/// Goes with an answer that lasts, and is alive for as long as the answer.
#[derive(Clone, Debug)]
pub(super) struct Lasting(pub(super) Weak<()>);

/// Whether a connection has an answer that lasts.
#[derive(Clone, Default)]
struct Stay(Rc<RefCell<Weak<()>>>);

impl Stay {
    fn note(&self, response: &mut Response) {
        if let Some(Lasting(alive)) = response.extensions_mut().remove() {
            *self.0.borrow_mut() = alive;
        }
    }

    fn lasts(&self) -> bool {
        self.0.borrow().strong_count() > 0
    }
}

/// The open connections, oldest first.
#[derive(Default)]
struct Open(VecDeque<(AbortHandle, Stay)>);

impl Open {
    /// Returns whether the oldest one was closed for it.
    fn insert(&mut self, connection: AbortHandle, stay: Stay) -> bool {
        if self.0.len() == CONNECTIONS_MAX {
            self.0.retain(|(connection, _)| !connection.is_finished());
        }
        let is_full = self.0.len() == CONNECTIONS_MAX;
        // There are fewer streams than connections.
        let oldest = self.0.iter().position(|(_, stay)| !stay.lasts()).filter(|_| is_full);
        let oldest = oldest.and_then(|place| self.0.remove(place));
        self.0.push_back((connection, stay));
        oldest.inspect(|(connection, _)| connection.abort()).is_some()
    }
}

async fn serve((stream, peer): (Stream, Peer), router: Router, open: OpenConnection, stay: Stay) {
    let inner = TowerToHyperService::new(router);
    let is_new = Rc::new(Cell::new(true));
    let (first, noted) = (Rc::clone(&is_new), stay.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        first.set(false);
        request.extensions_mut().insert(peer);
        let (answered, stay) = (inner.call(request.map(Body::new)), noted.clone());
        async move {
            let mut response = answered.await?;
            stay.note(&mut response);
            Ok(response)
        }
    });
    let answered = match stream {
        Stream::Tcp(stream) => answer(TokioIo::new(stream), service, &stay).await,
        Stream::Unix(stream) => answer(TokioIo::new(stream), service, &stay).await,
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
    stay: &Stay,
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
        return ended;
    }
    connection.as_mut().graceful_shutdown();
    loop {
        match time::timeout(LAST_TIME_MAX, connection.as_mut()).await {
            Ok(ended) => return ended,
            Err(_) if stay.lasts() => {}
            Err(_) => return Ok(()),
        }
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
