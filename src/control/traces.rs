//! Traces: the list, a new one, its stream of lines, and its end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use bytes::Bytes;
use serde::Serialize;
use tokio::{
    sync::Mutex,
    task,
    time::{self, Instant},
};
use tracing::{info, warn};

use super::{
    api::{Actor, Answered, Named, body, done, json, named},
    panel::Panel,
    problem::Problem,
    streams::{self, BEAT, BEGIN, Frames, HEARTBEAT, give},
    trace_book::{Next, NotTraced, Reader, Report, TraceBook, Wanted},
};
use crate::shard::ask::{Answer, Question};

/// The traces. Whoever changes which of them run keeps them locked until all shards know.
#[derive(Debug)]
pub(super) struct Traces {
    book: Mutex<TraceBook>,
    is_pumping: AtomicBool,
}

#[derive(Debug, Serialize)]
struct List {
    traces: Vec<Report>,
}

impl Traces {
    pub(super) fn new(book: TraceBook) -> Arc<Traces> {
        Arc::new(Traces { book: Mutex::new(book), is_pumping: AtomicBool::new(false) })
    }
}

pub(super) async fn list(State(panel): State<Panel>) -> Answered {
    let book = panel.traces().book.lock().await;
    json(&List { traces: book.traces().iter().map(|trace| trace.report()).collect() })
}

/// Begins a trace. When the answer is given, all connections that it is about are watched.
pub(super) async fn create(State(panel): State<Panel>, actor: Actor, wanted: Body) -> Answered {
    let wanted: Wanted = body(wanted).await?;
    let mut book = panel.traces().book.lock().await;
    let trace = book.add(wanted, actor.to_string())?;
    let report = trace.report();
    let words = serde_json::to_string(&report).unwrap_or_default();
    info!(by = %actor, trace = trace.id, wanted = words, "a trace was begun over HTTP");
    let told = match put_in_force(&panel, &book).await {
        Ok(()) => mark_connections(&panel).await,
        Err(problem) => Err(problem),
    };
    match told {
        Ok(left_out) => trace.note_left_out(left_out),
        Err(problem) => {
            book.remove(trace.id);
            return Err(problem);
        }
    }
    if !panel.traces().is_pumping.swap(true, Relaxed) {
        drop(task::spawn(pump(panel.clone())));
    }
    json(&trace.report())
}

pub(super) async fn delete(State(panel): State<Panel>, actor: Actor, id: Named) -> Answered {
    let text = named(id)?;
    let mut book = panel.traces().book.lock().await;
    let trace = text.parse().ok().and_then(|id| book.remove(id)).ok_or_else(|| unknown(&text))?;
    info!(by = %actor, trace = trace.id, "a trace was ended over HTTP");
    put_in_force(&panel, &book).await?;
    Ok(done())
}

/// The lines of a trace, from the oldest one that is kept, or from behind the one that the reader
/// had last.
pub(super) async fn stream(State(panel): State<Panel>, id: Named, fields: HeaderMap) -> Answered {
    let text = named(id)?;
    let book = panel.traces().book.lock().await;
    let trace = text.parse().ok().and_then(|id| book.get(id)).ok_or_else(|| unknown(&text))?;
    let readers: usize = book.traces().iter().map(|trace| trace.reader_count()).sum();
    if readers >= READERS_MAX {
        let detail = format!("{READERS_MAX} readers of traces are there already: close one");
        return Err(Problem::unavailable(detail));
    }
    let last = fields.get("last-event-id").and_then(|last| last.to_str().ok()?.parse::<u64>().ok());
    let (reader, from) = (trace.join(), last.map_or(0, |last| last.saturating_add(1)));
    Ok(streams::stream(|frames| read(reader, from, frames)))
}

/// Gives a reader the lines as they come, until the trace has ended.
async fn read(mut reader: Reader, mut from: u64, frames: Frames) {
    if !give(&frames, Bytes::from_static(BEGIN)).await {
        return;
    }
    loop {
        let beat_at = Instant::now() + HEARTBEAT;
        // What comes from now on is news.
        reader.news.mark_unchanged();
        let frame = match reader.next(from) {
            Next::Frames(frame, next) => {
                from = next;
                frame
            }
            Next::End(frame) => {
                give(&frames, frame).await;
                return;
            }
            Next::Wait => match time::timeout_at(beat_at, reader.news.changed()).await {
                Ok(Ok(())) => continue,
                Ok(Err(_)) => return,
                Err(_) => Bytes::from_static(BEAT),
            },
        };
        if !give(&frames, frame).await {
            return;
        }
    }
}

/// Passes lines on for as long as a trace runs.
async fn pump(panel: Panel) {
    loop {
        time::sleep(PAUSE).await;
        let book = panel.traces().book.lock().await;
        let ended = book.pass_on();
        for trace in &ended {
            let told = serde_json::to_string(&trace.report()).unwrap_or_default();
            info!(trace = trace.id, told, "a trace has ended");
        }
        if !ended.is_empty()
            && let Err(problem) = put_in_force(&panel, &book).await
        {
            warn!(?problem, "shards go on with a trace until its time is over");
        }
        if book.orders().is_empty() {
            panel.traces().is_pumping.store(false, Relaxed);
            return;
        }
    }
}

/// Tells all shards what to trace.
async fn put_in_force(panel: &Panel, book: &TraceBook) -> Result<(), Problem> {
    let orders = book.orders();
    panel.counts().set_traces(orders.len());
    panel.ask_all(&Question::Traces(orders)).await.map(drop)
}

/// Has all shards mark the connections that traces are about. Returns how many cannot be watched.
async fn mark_connections(panel: &Panel) -> Result<u64, Problem> {
    let mut sum = 0;
    let take = |answer| {
        let Answer::Tapped { next, left_out } = answer else { return None };
        sum += if next.is_none() { left_out } else { 0 };
        next
    };
    panel.walk(Question::Tap, take).await?;
    Ok(sum)
}

fn unknown(id: &str) -> Problem {
    Problem::not_found(format!("there is no trace {id:?}"))
}

impl From<NotTraced> for Problem {
    fn from(why: NotTraced) -> Problem {
        match why {
            NotTraced::Wrong(words) => Problem::unprocessable(words),
            NotTraced::Unwritten(error) => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("the file of the trace cannot be made: {error}"),
            ),
        }
    }
}

/// Readers of all traces at the same time.
const READERS_MAX: usize = 16;
/// How long lines may wait for others.
const PAUSE: Duration = Duration::from_millis(20);
