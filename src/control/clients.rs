//! Clients and their sessions: who there is, and their end.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use tracing::info;

use super::{
    api::{Actor, Answered, Asked, Named, asked, done, json, limit, named},
    panel::Panel,
    problem::Problem,
};
use crate::{
    base::{ids::ShardId, local::Peer},
    shard::ask::{Answer, ClientReport, ConnectionReport, Question, Sought},
};

/// Which clients are wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listing {
    limit: Option<usize>,
    cursor: Option<String>,
    #[serde(default)]
    prefix: String,
    user: Option<String>,
    connected: Option<bool>,
}

#[derive(Debug, Serialize)]
struct Page {
    clients: Vec<Entry>,
    /// Where the next page begins; `null` after the last one.
    cursor: Option<String>,
}

#[derive(Debug, Serialize)]
struct Entry {
    client_id: String,
    user: Option<String>,
    peer: String,
    connected: bool,
    connection: Option<Connection>,
    /// Seconds; `null` is for ever.
    session_expiry: Option<u32>,
    subscriptions: usize,
    in_flight: usize,
    unreleased: usize,
    queued: usize,
    queued_bytes: usize,
    holds_publishers: bool,
    stored: bool,
}

#[derive(Debug, Serialize)]
struct Connection {
    listener: String,
    version: &'static str,
    keep_alive: u16,
    held_back: bool,
}

impl From<ClientReport> for Entry {
    fn from(report: ClientReport) -> Entry {
        Entry {
            client_id: report.client_id,
            user: report.user,
            peer: Peer(report.peer).to_string(),
            connected: report.connection.is_some(),
            connection: report.connection.map(Connection::from),
            session_expiry: Some(report.session_expiry).filter(|&seconds| seconds < u32::MAX),
            subscriptions: report.subscriptions,
            in_flight: report.in_flight,
            unreleased: report.unreleased,
            queued: report.queued,
            queued_bytes: report.queued_bytes,
            holds_publishers: report.presses,
            stored: report.is_stored,
        }
    }
}

impl From<ConnectionReport> for Connection {
    fn from(report: ConnectionReport) -> Connection {
        Connection {
            listener: report.listener.to_string(),
            version: report.version.words(),
            keep_alive: report.keep_alive,
            held_back: report.is_held_back,
        }
    }
}

/// A page of clients: those of one shard after those of the other.
pub(super) async fn list(State(panel): State<Panel>, listing: Asked<Listing>) -> Answered {
    let Listing { limit: count, cursor, prefix, user, connected } = asked(listing)?;
    let count = limit(count)?;
    let sought = Sought { prefix, user, connected };
    let first = Cursor { shard: ShardId::FIRST, place: 0 };
    let mut cursor = Some(match cursor {
        Some(text) => Cursor::parse(&text, &panel).ok_or_else(wrong_cursor)?,
        None => first,
    });
    let mut clients = Vec::new();
    let mut questions = 0;
    while let Some(at) = cursor
        && clients.len() < count
        && questions < QUESTIONS_MAX
    {
        let (from, count) = (at.place, count - clients.len());
        let question = Question::Clients { from, sought: sought.clone(), count };
        let Answer::Clients(page) = panel.ask(at.shard, &question).await? else { break };
        clients.extend(page.clients.into_iter().map(Entry::from));
        cursor = match page.next {
            Some(place) => Some(Cursor { place, ..at }),
            None => panel.after(at.shard).map(|shard| Cursor { shard, place: 0 }),
        };
        questions += 1;
    }
    json(&Page { clients, cursor: cursor.map(Cursor::into_text) })
}

pub(super) async fn get(State(panel): State<Panel>, client_id: Named) -> Answered {
    let client_id = named(client_id)?;
    let answers = panel.ask_all(&Question::Client(client_id.clone())).await?;
    let found = answers.into_iter().find_map(|answer| match answer {
        Answer::Client(report) => Some(*report),
        _ => None,
    });
    json(&Entry::from(found.ok_or_else(|| unknown(&client_id))?))
}

/// Disconnects a client.
pub(super) async fn kick(State(panel): State<Panel>, actor: Actor, client_id: Named) -> Answered {
    let client = named(client_id)?;
    if !panel.change(&Question::Kick(client.clone())).await? {
        return Err(Problem::not_found(format!("no client {client:?} is connected")));
    }
    info!(by = %actor, client, "a client was disconnected over HTTP");
    Ok(done())
}

/// Ends a session, and disconnects its client.
pub(super) async fn end_session(
    State(panel): State<Panel>,
    actor: Actor,
    client_id: Named,
) -> Answered {
    let client = named(client_id)?;
    if !panel.change(&Question::EndSession(client.clone())).await? {
        return Err(unknown(&client));
    }
    info!(by = %actor, client, "a session was ended over HTTP");
    Ok(done())
}

pub(super) fn unknown(client_id: &str) -> Problem {
    Problem::not_found(format!("no client has a session with the Client Identifier {client_id:?}"))
}

pub(super) fn wrong_cursor() -> Problem {
    Problem::bad_request("`cursor` is not one of an earlier page")
}

/// Where a page begins.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    shard: ShardId,
    place: u32,
}

impl Cursor {
    fn parse(text: &str, panel: &Panel) -> Option<Cursor> {
        let (shard, place) = text.split_once('.')?;
        let shard = panel.shard(shard.parse().ok()?)?;
        Some(Cursor { shard, place: place.parse().ok()? })
    }

    fn into_text(self) -> String {
        format!("{}.{}", self.shard, self.place)
    }
}

/// Questions for one page. One that finds too few clients is told with a cursor all the same.
const QUESTIONS_MAX: usize = 256;
