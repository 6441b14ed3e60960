//! The slowest subscribers: those for which something has waited longest, or that have lost most.

use std::cmp::Reverse;

use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::{
    api::{Answered, Asked, asked, json, limit},
    panel::Panel,
    problem::Problem,
};
use crate::{
    base::local::Peer,
    shard::ask::{Answer, Question, SlowReport},
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listing {
    limit: Option<usize>,
    #[serde(default)]
    by: By,
}

/// What counts.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum By {
    #[default]
    Delay,
    Drops,
}

#[derive(Debug, Serialize)]
struct List {
    subscribers: Vec<Subscriber>,
}

#[derive(Debug, Serialize)]
struct Subscriber {
    client_id: String,
    user: Option<String>,
    peer: String,
    connected: bool,
    delay_ms: u64,
    dropped: u64,
    queued: usize,
    queued_bytes: usize,
    in_flight: usize,
    holds_publishers: bool,
}

pub(super) async fn list(State(panel): State<Panel>, listing: Asked<Listing>) -> Answered {
    let Listing { limit: count, by } = asked(listing)?;
    let count = limit(count)?;
    let slowest = slowest(&panel, count, by).await?;
    json(&List { subscribers: slowest.into_iter().map(Subscriber::of).collect() })
}

/// Walks through the sessions of all shards, and keeps those that come first.
async fn slowest(panel: &Panel, count: usize, by: By) -> Result<Vec<SlowReport>, Problem> {
    let mut found: Vec<SlowReport> = Vec::new();
    let take = |answer| {
        let Answer::Slow(page) = answer else { return None };
        found.extend(page.subscribers.into_iter().filter(|it| by.weight(it) > 0));
        if found.len() >= KEPT_MAX {
            by.keep_first(&mut found, count);
        }
        page.next
    };
    panel.walk(|from| Question::Slow { from, count: usize::MAX }, take).await?;
    by.keep_first(&mut found, count);
    Ok(found)
}

impl By {
    fn weight(self, report: &SlowReport) -> u64 {
        match self {
            By::Delay => report.delay.as_nanos(),
            By::Drops => report.dropped,
        }
    }

    fn keep_first(self, found: &mut Vec<SlowReport>, count: usize) {
        let rest = |report: &SlowReport| report.delay.as_nanos().saturating_add(report.dropped);
        found.sort_by_cached_key(|it| (Reverse((self.weight(it), rest(it))), it.client_id.clone()));
        found.truncate(count);
    }
}

impl Subscriber {
    fn of(report: SlowReport) -> Subscriber {
        Subscriber {
            peer: Peer(report.peer).to_string(),
            client_id: report.client_id,
            user: report.user,
            connected: report.connected,
            delay_ms: report.delay.as_millis(),
            dropped: report.dropped,
            queued: report.queued,
            queued_bytes: report.queued_bytes,
            in_flight: report.in_flight,
            holds_publishers: report.presses,
        }
    }
}

/// Subscribers that are held before the last ones go: more than a list may have.
const KEPT_MAX: usize = 4096;
