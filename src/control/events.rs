//! What happens to clients, as a stream of server-sent events for each reader.
//!
//! ```text
//!   shards --> EventLane --> pump: JSON, once --> a queue of each reader --> its connection
//! ```
//! Nothing runs while nobody reads. A reader that is too slow misses events, and is told how many.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::extract::State;
use bytes::Bytes;
use serde::Deserialize;
use tokio::{
    sync::broadcast::{self, error::RecvError},
    task,
    time::{self, Instant},
};

use super::{
    api::{Answered, Asked, asked},
    counts::Counts,
    panel::Panel,
    problem::Problem,
    streams::{self, BEAT, BEGIN, Frames, HEARTBEAT, give},
};
use crate::{base::json::Object, runtime::EventLane, shard::events::Event};

/// The events of all shards, for all readers.
#[derive(Debug)]
pub(super) struct Feed {
    lane: EventLane,
    readers: broadcast::Sender<Arc<Told>>,
    is_pumping: AtomicBool,
    counts: Arc<Counts>,
}

/// What readers are told, as it is sent.
#[derive(Debug)]
struct Told {
    /// `None` for what every reader gets.
    client: Option<Client>,
    frame: Bytes,
}

#[derive(Debug)]
struct Client {
    id: Option<String>,
    user: Option<String>,
}

/// Whose events a reader wants.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    #[serde(default)]
    prefix: String,
    user: Option<String>,
}

pub(super) async fn stream(State(panel): State<Panel>, wanted: Asked<Wanted>) -> Answered {
    let wanted = asked(wanted)?;
    let events = panel.feed().join()?;
    Ok(streams::stream(|frames| read(events, wanted, frames)))
}

impl Feed {
    pub(super) fn new(lane: EventLane, counts: Arc<Counts>) -> Arc<Feed> {
        let (readers, _) = broadcast::channel(EVENTS_MAX);
        Arc::new(Feed { lane, readers, is_pumping: AtomicBool::new(false), counts })
    }

    /// One more reader, from now on.
    fn join(self: &Arc<Feed>) -> Result<broadcast::Receiver<Arc<Told>>, Problem> {
        if self.readers.receiver_count() >= READERS_MAX {
            let detail = format!("{READERS_MAX} readers of events are there already: close one");
            return Err(Problem::unavailable(detail));
        }
        let reader = self.readers.subscribe();
        // Nothing else runs on this thread until the pump waits.
        if !self.is_pumping.swap(true, Relaxed) {
            self.lane.watch(true);
            drop(task::spawn(pump(Arc::clone(self))));
        }
        Ok(reader)
    }

    pub(super) fn reader_count(&self) -> usize {
        self.readers.receiver_count()
    }

    /// Passes on what waits, a bounded number.
    fn pass_on(&self) {
        for event in (0..EVENTS_AT_ONCE).map_while(|_| self.lane.take()) {
            self.tell(Told::of(event));
        }
        let lost = self.lane.take_lost();
        if lost > 0 {
            self.counts.note_lost_events(lost);
            self.tell(Told::lost(lost));
        }
    }

    fn tell(&self, told: Told) {
        // The last reader may have gone.
        drop(self.readers.send(Arc::new(told)));
    }
}

/// Passes events on for as long as anyone reads.
async fn pump(feed: Arc<Feed>) {
    while feed.readers.receiver_count() > 0 {
        feed.pass_on();
        time::sleep(PAUSE).await;
    }
    feed.lane.watch(false);
    feed.is_pumping.store(false, Relaxed);
}

/// Gives a reader what it wants, until it has gone or takes nothing for a long time.
async fn read(mut events: broadcast::Receiver<Arc<Told>>, wanted: Wanted, frames: Frames) {
    let mut next = Some(Bytes::from_static(BEGIN));
    let mut beat_at = Instant::now() + HEARTBEAT;
    loop {
        if let Some(frame) = next.take() {
            if !give(&frames, frame).await {
                return;
            }
            beat_at = Instant::now() + HEARTBEAT;
        }
        next = match time::timeout_at(beat_at, events.recv()).await {
            Ok(Ok(told)) => wanted.has(&told).then(|| told.frame.clone()),
            Ok(Err(RecvError::Lagged(missed))) => Some(Told::lost(missed).frame),
            Ok(Err(RecvError::Closed)) => return,
            Err(_) => Some(Bytes::from_static(BEAT)),
        };
    }
}

impl Wanted {
    fn has(&self, told: &Told) -> bool {
        let Some(Client { id, user }) = &told.client else { return true };
        id.as_deref().unwrap_or_default().starts_with(&self.prefix)
            && (self.user.is_none() || self.user == *user)
    }
}

impl Told {
    fn of(event: Event) -> Told {
        let frame = format!("event: {}\ndata: {}\n\n", event.name(), event.json()).into();
        Told { client: Some(Client { id: event.client_id, user: event.user }), frame }
    }

    fn lost(count: u64) -> Told {
        let data = Object::default().number("count", count).finish();
        Told { client: None, frame: format!("event: lost\ndata: {data}\n\n").into() }
    }
}

/// Readers at the same time.
const READERS_MAX: usize = 16;
/// Events that a reader may be behind.
const EVENTS_MAX: usize = 4096;
/// Events that are passed on before others have their turn.
const EVENTS_AT_ONCE: usize = 1024;
/// How long events may wait for others.
const PAUSE: Duration = Duration::from_millis(20);
#[cfg(test)]
mod tests {
    use tokio::{runtime::Builder, sync::mpsc};

    use super::*;
    use crate::shard::events::sample;

    /// What a reader gets of the events of these clients, which come before it takes any.
    fn read_by(wanted: Wanted, events: &[Event], room: usize) -> Vec<String> {
        let (sender, receiver) = broadcast::channel(room);
        for event in events {
            sender.send(Arc::new(Told::of(event.clone()))).unwrap();
        }
        drop(sender);
        let (frames, mut body) = mpsc::channel(events.len() + 2);
        let executor = Builder::new_current_thread().enable_time().build().unwrap();
        executor.block_on(read(receiver, wanted, frames));
        let mut found = Vec::new();
        while let Ok(frame) = body.try_recv() {
            found.push(String::from_utf8(frame.to_vec()).unwrap());
        }
        assert_eq!(found.remove(0).as_bytes(), BEGIN);
        found
    }

    #[test]
    fn a_slow_reader_is_told_how_many_events_it_has_missed() {
        let events: Vec<Event> = (0..10).map(|n| sample(&n.to_string())).collect();
        let found = read_by(Wanted::default(), &events, 4);
        assert_eq!(found.len(), 5, "{found:?}");
        assert_eq!(found[0], "event: lost\ndata: {\"count\":6}\n\n");
        assert!(found[1].contains("\"client_id\":\"6\""), "{found:?}");
    }

    #[test]
    fn a_reader_gets_the_events_of_those_whom_it_wants() {
        let events = ["ab", "b", "ac"].map(sample);
        let wanted = Wanted { prefix: "a".to_owned(), user: None };
        assert_eq!(read_by(wanted, &events, 4).len(), 2);
        let wanted = Wanted { user: Some("nobody".to_owned()), ..Wanted::default() };
        assert_eq!(read_by(wanted, &events, 4), [""; 0]);
    }

    #[test]
    fn an_event_is_one_line_of_json_whatever_a_client_is_called() {
        for name in ["\n\ndata: x", "\"}", "\u{2028}<script>", "\\"] {
            let frame = Told::of(sample(name)).frame;
            let text = std::str::from_utf8(&frame).unwrap();
            assert_eq!(text.lines().count(), 3, "{text}");
            let data = text.lines().nth(1).unwrap().strip_prefix("data: ").unwrap();
            let value: serde_json::Value = serde_json::from_str(data).unwrap();
            assert_eq!(value["client_id"], name);
        }
    }
}
