//! What the control thread counts about HTTP, for `/metrics`. Does not know why something is so.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use axum::http::StatusCode;

/// Why a request reaches no route, or a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    WrongToken,
    NoToken,
    /// The token is of a role that may not do this.
    Role,
    /// So many tokens from this address were wrong that no further one is looked at yet.
    TooManyFailures,
    Host,
    Origin,
    /// The connection was the oldest one when a further one came.
    TooManyConnections,
    /// What came is not HTTP/1.1, or its head is too large.
    Malformed,
    /// No request came on a new connection in time.
    Timeout,
}

impl Refusal {
    /// All of them, in their order, with their words.
    const ALL: [(Refusal, &str); 9] = [
        (Refusal::WrongToken, "wrong-token"),
        (Refusal::NoToken, "no-token"),
        (Refusal::Role, "role"),
        (Refusal::TooManyFailures, "too-many-failures"),
        (Refusal::Host, "host"),
        (Refusal::Origin, "origin"),
        (Refusal::TooManyConnections, "too-many-connections"),
        (Refusal::Malformed, "malformed"),
        (Refusal::Timeout, "timeout"),
    ];
}

/// The counters. All clones of the pointer to them are the same.
#[derive(Debug, Default)]
pub(super) struct Counts {
    accepted: AtomicU64,
    open: AtomicU64,
    answered: [AtomicU64; CLASSES.len()],
    refused: [AtomicU64; Refusal::ALL.len()],
    events_lost: AtomicU64,
    traces: AtomicU64,
    trace_lines: AtomicU64,
    trace_lines_lost: AtomicU64,
}

// Relaxed, everywhere: the numbers guard no other memory.
impl Counts {
    /// Counts a connection as open until the returned value is dropped.
    pub(super) fn open(self: &Arc<Counts>) -> OpenConnection {
        self.accepted.fetch_add(1, Relaxed);
        self.open.fetch_add(1, Relaxed);
        OpenConnection(Arc::clone(self))
    }

    pub(super) fn note_answer(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).checked_sub(CLASS_FIRST);
        if let Some(count) = class.and_then(|class| self.answered.get(class)) {
            count.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn note_refusal(&self, refusal: Refusal) {
        self.refused[refusal as usize].fetch_add(1, Relaxed);
    }

    /// Counts events that no reader was told, because there was no room for them.
    pub(super) fn note_lost_events(&self, count: u64) {
        self.events_lost.fetch_add(count, Relaxed);
    }

    pub(super) fn events_lost(&self) -> u64 {
        self.events_lost.load(Relaxed)
    }

    /// So many traces run.
    pub(super) fn set_traces(&self, count: usize) {
        self.traces.store(count as u64, Relaxed);
    }

    pub(super) fn note_trace_lines(&self, count: u64) {
        self.trace_lines.fetch_add(count, Relaxed);
    }

    /// Counts lines of traces that there was no room for.
    pub(super) fn note_lost_trace_lines(&self, count: u64) {
        self.trace_lines_lost.fetch_add(count, Relaxed);
    }

    /// The traces that run, the lines that were told, and those that were lost.
    pub(super) fn traces(&self) -> [u64; 3] {
        [&self.traces, &self.trace_lines, &self.trace_lines_lost].map(|count| count.load(Relaxed))
    }

    pub(super) fn connections_accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    pub(super) fn connections_open(&self) -> u64 {
        self.open.load(Relaxed)
    }

    /// The answers by the class of their status.
    pub(super) fn answers(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CLASSES.into_iter().zip(self.answered.iter().map(|count| count.load(Relaxed)))
    }

    /// What was refused, by the reason.
    pub(super) fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let words = Refusal::ALL.into_iter().map(|(_, words)| words);
        words.zip(self.refused.iter().map(|count| count.load(Relaxed)))
    }
}

/// Counts while it is there.
#[derive(Debug)]
pub(super) struct OpenConnection(Arc<Counts>);

impl OpenConnection {
    pub(super) fn counts(&self) -> &Counts {
        &self.0
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];
const CLASS_FIRST: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_counts_under_its_own_words() {
        for (place, (refusal, words)) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, place);
            let counts = Counts::default();
            counts.note_refusal(refusal);
            let counted: Vec<_> = counts.refusals().filter(|(_, count)| *count > 0).collect();
            assert_eq!(counted, [(words, 1)]);
        }
    }

    #[test]
    fn answers_count_by_class_and_connections_while_they_are_open() {
        let counts = Arc::new(Counts::default());
        let open = [counts.open(), counts.open()];
        assert_eq!((counts.connections_accepted(), counts.connections_open()), (2, 2));
        drop(open);
        assert_eq!((counts.connections_accepted(), counts.connections_open()), (2, 0));
        for status in [100, 200, 204, 401, 429, 503, 999] {
            counts.note_answer(StatusCode::from_u16(status).unwrap());
        }
        let answers: Vec<_> = counts.answers().collect();
        assert_eq!(answers, [("2xx", 2), ("3xx", 0), ("4xx", 2), ("5xx", 1)]);
    }
}
