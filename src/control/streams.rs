//! Answers that go on until one side ends them: server-sent events.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::Response,
};
use bytes::Bytes;
use hyper::body::Frame;
use tokio::{
    sync::mpsc,
    task::{self, AbortHandle},
    time,
};

use super::connections::Lasting;

/// What is written to a reader.
pub(super) type Frames = mpsc::Sender<Bytes>;

/// The answer whose frames `read` gives, until it ends or the reader goes.
pub(super) fn stream<F>(read: impl FnOnce(Frames) -> F) -> Response
where
    F: Future<Output = ()> + Send + 'static,
{
    let (frames, body) = mpsc::channel(FRAMES_MAX);
    let alive = Arc::new(());
    let lasting = Lasting(Arc::downgrade(&alive));
    let reading = read(frames);
    let reading = task::spawn(async move {
        reading.await;
        drop(alive);
    });
    let body = Reading { frames: body, reading: reading.abort_handle() };
    let mut response = Response::new(Body::new(body));
    let kind = HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response.extensions_mut().insert(lasting);
    response
}

/// Gives a reader a frame. False: it has gone, or has taken nothing for a long time.
pub(super) async fn give(frames: &Frames, frame: Bytes) -> bool {
    matches!(time::timeout(STALLED, frames.send(frame)).await, Ok(Ok(())))
}

/// The body of an answer that goes on.
struct Reading {
    frames: mpsc::Receiver<Bytes>,
    reading: AbortHandle,
}

impl hyper::body::Body for Reading {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.frames.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

/// Frames on their way into one connection.
const FRAMES_MAX: usize = 16;
/// How long a reader may take nothing.
const STALLED: Duration = Duration::from_mins(1);
/// After this time without a frame a reader hears that the stream goes on.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);
/// How soon a browser tries again.
pub(super) const BEGIN: &[u8] = b"retry: 2000\n\n";
pub(super) const BEAT: &[u8] = b":\n\n";
