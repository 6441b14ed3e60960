//! The traces that there are: their limits, their lines, and their files.
//!
//! ```text
//!   shards --> TraceLane --> TraceBook::pass_on --> the lines of a trace --> its readers
//!                                                       +--> its file
//! ```
//! A trace keeps its latest lines. A reader that is slower misses the oldest ones and is told how
//! many; nothing waits for it.

use std::{
    collections::VecDeque,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::counts::Counts;
use crate::{
    base::{
        json::Object,
        time::{WallClock, WallTime},
    },
    runtime::{self, TraceLane},
    shard::trace::{Subject, TRACES_MAX, TraceOrder},
};

/// What somebody wants to have traced.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    client_id: Option<String>,
    topic: Option<String>,
    address: Option<String>,
    seconds: Option<u64>,
    bytes: Option<u64>,
    #[serde(default)]
    payload_bytes: usize,
    #[serde(default)]
    file: bool,
    /// It ends when its last reader goes.
    #[serde(default)]
    while_read: bool,
}

/// Why there is no such trace.
#[derive(Debug)]
pub(super) enum NotTraced {
    Wrong(String),
    Unwritten(io::Error),
}

/// A trace as it is told.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    id: u64,
    client_id: Option<String>,
    topic: Option<String>,
    address: Option<String>,
    by: String,
    /// In milliseconds since 1970, as `until`.
    since: u64,
    until: u64,
    bytes_max: u64,
    payload_bytes: usize,
    file: Option<String>,
    running: bool,
    /// Why it has ended: `time`, `bytes` or `unread`.
    ended: Option<&'static str>,
    lines: u64,
    bytes: u64,
    lost: u64,
    readers: usize,
    /// Connections that could not be watched.
    left_out: u64,
}

/// One trace.
#[derive(Debug)]
pub(super) struct Trace {
    pub(super) id: u64,
    order: TraceOrder,
    wanted: Wanted,
    by: String,
    since: WallTime,
    bytes_max: u64,
    path: Option<PathBuf>,
    told: Lock<Told>,
    readers: AtomicUsize,
    /// Changes when there is something new.
    news: watch::Sender<()>,
}

/// What a trace has told.
#[derive(Debug, Default)]
struct Told {
    /// The latest lines and losses, as they are sent.
    frames: VecDeque<Bytes>,
    /// The number of the first of them.
    first: u64,
    held_bytes: usize,
    lines: u64,
    bytes: u64,
    lost: u64,
    left_out: u64,
    was_read: bool,
    ended: Option<&'static str>,
    file: Option<File>,
}

/// What comes next for a reader.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Some frames, and where to go on.
    Frames(Bytes, u64),
    /// Nothing yet.
    Wait,
    /// Nothing more.
    End(Bytes),
}

/// All traces.
#[derive(Debug)]
pub(super) struct TraceBook {
    lane: TraceLane,
    clock: WallClock,
    directory: Option<PathBuf>,
    traces: Vec<Arc<Trace>>,
    next_id: u64,
    counts: Arc<Counts>,
}

impl TraceBook {
    pub(super) fn new(
        lane: TraceLane,
        clock: WallClock,
        directory: Option<PathBuf>,
        counts: Arc<Counts>,
    ) -> TraceBook {
        TraceBook { lane, clock, directory, traces: Vec::new(), next_id: 1, counts }
    }

    pub(super) fn traces(&self) -> &[Arc<Trace>] {
        &self.traces
    }

    pub(super) fn get(&self, id: u64) -> Option<&Arc<Trace>> {
        self.traces.iter().find(|trace| trace.id == id)
    }

    /// Those that run, as shards know them.
    pub(super) fn orders(&self) -> Arc<[TraceOrder]> {
        let running = self.traces.iter().filter(|trace| trace.runs());
        running.map(|trace| trace.order.clone()).collect()
    }

    /// Begins a trace. Shards have to be told.
    pub(super) fn add(&mut self, wanted: Wanted, by: String) -> Result<Arc<Trace>, NotTraced> {
        let subject = subject_of(&wanted)?;
        let seconds = wanted.seconds.unwrap_or(SECONDS_DEFAULT);
        let bytes_max = wanted.bytes.unwrap_or(BYTES_DEFAULT);
        check("seconds", seconds, SECONDS_MAX)?;
        check("bytes", bytes_max, BYTES_MAX)?;
        if wanted.payload_bytes > PAYLOAD_BYTES_MAX {
            return Err(wrong(format!(
                "`payload_bytes` is a number from 0 to {PAYLOAD_BYTES_MAX}"
            )));
        }
        let running = || self.traces.iter().filter(|trace| trace.runs());
        let is_free = |slot: &usize| running().all(|trace| trace.order.slot != *slot);
        let Some(slot) = (0..TRACES_MAX).find(is_free) else {
            return Err(wrong(format!("{TRACES_MAX} traces run already: end one")));
        };
        let (id, since) = (self.next_id, self.now());
        let (path, file) = self.open_file(&wanted, id, since)?.unzip();
        self.lane.take_lost(slot);
        self.next_id += 1;
        let until = WallTime::from_nanos(since.as_nanos().saturating_add(seconds * NANOS));
        let trace = Arc::new(Trace {
            id,
            order: TraceOrder { id, slot, subject, payload_bytes: wanted.payload_bytes, until },
            wanted,
            by,
            since,
            bytes_max,
            path,
            told: Lock::new(Told { file, ..Told::default() }),
            readers: AtomicUsize::new(0),
            news: watch::Sender::new(()),
        });
        self.traces.push(Arc::clone(&trace));
        self.forget_old();
        Ok(trace)
    }

    /// Forgets a trace. Shards have to be told if it ran.
    pub(super) fn remove(&mut self, id: u64) -> Option<Arc<Trace>> {
        let place = self.traces.iter().position(|trace| trace.id == id)?;
        let trace = self.traces.remove(place);
        trace.end("deleted");
        Some(trace)
    }

    /// Gives traces the lines that wait, a bounded number, and ends those whose time is over.
    /// Returns those that have ended now.
    pub(super) fn pass_on(&self) -> Vec<Arc<Trace>> {
        for line in (0..LINES_AT_ONCE).map_while(|_| self.lane.take()) {
            if let Some(trace) = self.get(line.trace).filter(|trace| trace.runs()) {
                trace.add(&line.text);
                self.counts.note_trace_lines(1);
            }
        }
        let running = self.traces.iter().filter(|trace| trace.runs());
        running.filter(|trace| self.look_at(trace)).map(Arc::clone).collect()
    }

    /// Counts what a trace has lost, and ends it if its time is over. True: it has ended.
    fn look_at(&self, trace: &Trace) -> bool {
        let lost = self.lane.take_lost(trace.order.slot);
        if lost > 0 {
            trace.lose(lost);
            self.counts.note_lost_trace_lines(lost);
        }
        let now = self.now();
        let waited = now.as_nanos().saturating_sub(trace.since.as_nanos());
        let is_read = trace.readers.load(Relaxed) > 0;
        let (bytes, was_read) = {
            let told = trace.told();
            (told.bytes, told.was_read)
        };
        let has_gone = was_read || waited > UNREAD_SECONDS_MAX * NANOS;
        let why = if trace.order.until <= now {
            "time"
        } else if bytes >= trace.bytes_max {
            "bytes"
        } else if trace.wanted.while_read && !is_read && has_gone {
            "unread"
        } else {
            return false;
        };
        trace.end(why);
        true
    }

    fn now(&self) -> WallTime {
        self.clock.time_of(runtime::now())
    }

    /// Of those that have ended, the latest ones stay.
    fn forget_old(&mut self) {
        let ended = self.traces.iter().filter(|trace| !trace.runs()).count();
        let mut surplus = ended.saturating_sub(ENDED_MAX);
        self.traces.retain(|trace| {
            let goes = surplus > 0 && !trace.runs();
            surplus -= usize::from(goes);
            !goes
        });
    }

    fn open_file(
        &self,
        wanted: &Wanted,
        id: u64,
        since: WallTime,
    ) -> Result<Option<(PathBuf, File)>, NotTraced> {
        if !wanted.file {
            return Ok(None);
        }
        let Some(directory) = &self.directory else {
            let detail = "there is no place for files: give --data-dir or --trace-dir";
            return Err(wrong(detail.to_owned()));
        };
        if count_files(directory)? >= FILES_MAX {
            let place = directory.display();
            return Err(wrong(format!("{FILES_MAX} files of traces are in {place}: delete some")));
        }
        let path = directory.join(format!("trace-{}-{id}.log", since.as_nanos() / 1_000_000));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Some((path, file)))
    }
}

/// Makes the directory if there is none.
fn count_files(directory: &Path) -> io::Result<usize> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let is_of_a_trace = |name: &[u8]| name.starts_with(b"trace-") && name.ends_with(b".log");
    let mut count = 0;
    for entry in fs::read_dir(directory)? {
        count += usize::from(is_of_a_trace(entry?.file_name().as_encoded_bytes()));
    }
    Ok(count)
}

impl Trace {
    pub(super) fn runs(&self) -> bool {
        self.told().ended.is_none()
    }

    pub(super) fn report(&self) -> Report {
        let (told, wanted) = (self.told(), &self.wanted);
        let millis = |time: WallTime| time.as_nanos() / 1_000_000;
        Report {
            id: self.id,
            client_id: wanted.client_id.clone(),
            topic: wanted.topic.clone(),
            address: wanted.address.clone(),
            by: self.by.clone(),
            since: millis(self.since),
            until: millis(self.order.until),
            bytes_max: self.bytes_max,
            payload_bytes: wanted.payload_bytes,
            file: self.path.as_ref().map(|path| path.display().to_string()),
            running: told.ended.is_none(),
            ended: told.ended,
            lines: told.lines,
            bytes: told.bytes,
            lost: told.lost,
            readers: self.readers.load(Relaxed),
            left_out: told.left_out,
        }
    }

    pub(super) fn reader_count(&self) -> usize {
        self.readers.load(Relaxed)
    }

    /// So many connections could not be watched.
    pub(super) fn note_left_out(&self, count: u64) {
        self.told().left_out = count;
    }

    /// Counts a reader for as long as the returned value is there.
    pub(super) fn join(self: &Arc<Trace>) -> Reader {
        self.readers.fetch_add(1, Relaxed);
        self.told().was_read = true;
        Reader { news: self.news.subscribe(), trace: Arc::clone(self) }
    }

    /// One more line.
    fn add(&self, text: &str) {
        let mut told = self.told();
        told.lines += 1;
        told.bytes += text.len() as u64 + 1;
        let number = told.first + told.frames.len() as u64;
        told.push(format!("id: {number}\nevent: line\ndata: {text}\n\n").into());
        told.write(text, self.path.as_deref());
        drop(told);
        self.news.send_replace(());
    }

    /// So many lines found no room on their way here.
    fn lose(&self, count: u64) {
        let mut told = self.told();
        told.lost += count;
        let number = told.first + told.frames.len() as u64;
        told.push(format!("id: {number}\n{}", lost(count)).into());
        told.write(&format!("{count} lines are missing here"), self.path.as_deref());
        drop(told);
        self.news.send_replace(());
    }

    fn end(&self, why: &'static str) {
        let mut told = self.told();
        told.ended.get_or_insert(why);
        told.file = None;
        drop(told);
        self.news.send_replace(());
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    /// Keeps a frame, and forgets the oldest ones beyond the limit.
    fn push(&mut self, frame: Bytes) {
        self.held_bytes += frame.len();
        self.frames.push_back(frame);
        while self.held_bytes > HELD_BYTES_MAX
            && let Some(oldest) = self.frames.pop_front()
        {
            self.held_bytes -= oldest.len();
            self.first += 1;
        }
    }

    /// Writes a line into the file, if there is one. After an error there is none any more.
    fn write(&mut self, text: &str, path: Option<&Path>) {
        let Some(file) = &mut self.file else { return };
        if let Err(error) = file.write_all(format!("{text}\n").as_bytes()) {
            let path = path.unwrap_or_else(|| Path::new("")).display();
            tracing::warn!(%path, %error, "the file of a trace cannot be written");
            self.file = None;
        }
    }
}

/// Someone who reads a trace.
#[derive(Debug)]
pub(super) struct Reader {
    trace: Arc<Trace>,
    pub(super) news: watch::Receiver<()>,
}

impl Reader {
    /// What comes from this number on.
    pub(super) fn next(&self, from: u64) -> Next {
        let told = self.trace.told();
        if from < told.first {
            return Next::Frames(lost(told.first - from).into(), told.first);
        }
        let skipped = usize::try_from(from - told.first).unwrap_or(usize::MAX);
        let mut frames = Vec::new();
        let mut count = 0;
        for frame in told.frames.iter().skip(skipped) {
            if !frames.is_empty() && frames.len() + frame.len() > SENT_BYTES_MAX {
                break;
            }
            frames.extend_from_slice(frame);
            count += 1;
        }
        match told.ended {
            _ if count > 0 => Next::Frames(frames.into(), from + count),
            Some(why) => {
                let data = Object::default().text("reason", why).finish();
                Next::End(format!("event: end\ndata: {data}\n\n").into())
            }
            None => Next::Wait,
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.trace.readers.fetch_sub(1, Relaxed);
    }
}

fn lost(count: u64) -> String {
    let data = Object::default().number("count", count).finish();
    format!("event: lost\ndata: {data}\n\n")
}

fn subject_of(wanted: &Wanted) -> Result<Subject, NotTraced> {
    let is_short = |text: &String| (1..=usize::from(u16::MAX)).contains(&text.len());
    let names = [&wanted.client_id, &wanted.topic, &wanted.address];
    if !names.into_iter().flatten().all(is_short) {
        return Err(wrong("a name has 1 to 65535 bytes".to_owned()));
    }
    match names {
        [Some(client_id), None, None] => Ok(Subject::Client(client_id.as_str().into())),
        [None, Some(topic), None] => {
            Subject::of_topics(topic).map_err(|why| wrong(format!("`topic`: {why}")))
        }
        [None, None, Some(address)] => {
            let network = address.parse().map_err(|_| {
                wrong(
                    "`address` is an address, such as 192.0.2.1, or a network, such as \
                     2001:db8::/48"
                        .to_owned(),
                )
            })?;
            Ok(Subject::Address(network))
        }
        _ => Err(wrong("name one of `client_id`, `topic` and `address`".to_owned())),
    }
}

fn check(name: &str, value: u64, max: u64) -> Result<(), NotTraced> {
    let words = || wrong(format!("`{name}` is a number from 1 to {max}"));
    (1..=max).contains(&value).then_some(()).ok_or_else(words)
}

fn wrong(detail: String) -> NotTraced {
    NotTraced::Wrong(detail)
}

impl From<io::Error> for NotTraced {
    fn from(error: io::Error) -> NotTraced {
        NotTraced::Unwritten(error)
    }
}

#[expect(clippy::disallowed_types, reason = "of the control thread alone, never of a shard")]
type Lock<T> = std::sync::Mutex<T>;

const NANOS: u64 = 1_000_000_000;
const SECONDS_DEFAULT: u64 = 300;
const SECONDS_MAX: u64 = 3600;
/// Bytes of all lines of a trace.
const BYTES_DEFAULT: u64 = 1 << 20;
const BYTES_MAX: u64 = 64 << 20;
/// Bytes of a payload that are shown.
const PAYLOAD_BYTES_MAX: usize = 1024;
/// Bytes of lines that a trace keeps for its readers.
const HELD_BYTES_MAX: usize = 256 << 10;
/// Bytes that a reader is sent at once.
const SENT_BYTES_MAX: usize = 16 << 10;
/// Ended traces that can still be read.
const ENDED_MAX: usize = 8;
/// Files of traces in the directory.
const FILES_MAX: usize = 64;
/// How long a trace that lasts while it is read waits for its first reader.
const UNREAD_SECONDS_MAX: u64 = 10;
/// Lines that are passed on before others have their turn.
const LINES_AT_ONCE: usize = 1024;

#[cfg(test)]
mod tests;
