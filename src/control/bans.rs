//! Bans: who there are, a new one, and the end of one.

use axum::{body::Body, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::MutexGuard;
use tracing::info;

use super::{
    api::{Actor, Answered, Asked, Named, asked, body, done, json, limit, named},
    ban_book::{Ban, BanBook, NotBanned, Wanted},
    clients::wrong_cursor,
    panel::Panel,
    problem::Problem,
};
use crate::shard::ask::{Answer, Question};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listing {
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Debug, Serialize)]
struct Page {
    bans: Vec<Ban>,
    /// Where the next page begins; `null` after the last one.
    cursor: Option<String>,
}

#[derive(Debug, Serialize)]
struct Made {
    #[serde(flatten)]
    ban: Ban,
    /// Clients that were disconnected.
    disconnected: usize,
}

/// A page of bans, oldest first.
pub(super) async fn list(State(panel): State<Panel>, listing: Asked<Listing>) -> Answered {
    let Listing { limit: count, cursor } = asked(listing)?;
    let count = limit(count)?;
    let after = cursor.map_or(Ok(0), |text| text.parse::<u64>().map_err(|_| wrong_cursor()))?;
    let book = panel.bans().lock().await;
    let mut bans: Vec<Ban> =
        book.entries().filter(|ban| ban.id > after).take(count + 1).cloned().collect();
    let has_more = bans.len() > count;
    bans.truncate(count);
    let last = bans.last().map(|ban| ban.id.to_string());
    json(&Page { bans, cursor: last.filter(|_| has_more) })
}

/// Makes a ban, and disconnects those whom it is about.
pub(super) async fn create(State(panel): State<Panel>, actor: Actor, wanted: Body) -> Answered {
    let wanted: Wanted = body(wanted).await?;
    let mut book = panel.bans().lock().await;
    let ban = book.add(wanted, actor.to_string())?;
    info!(
        by = %actor,
        ban = ban.id,
        client = ban.client_id,
        user = ban.user,
        address = ban.address,
        until = ban.until,
        reason = ban.reason,
        "a ban was made over HTTP"
    );
    put_in_force(&panel, &book).await?;
    let disconnected = end_banned(&panel).await?;
    json(&Made { ban, disconnected })
}

pub(super) async fn delete(State(panel): State<Panel>, actor: Actor, id: Named) -> Answered {
    let text = named(id)?;
    let id = text.parse().map_err(|_| unknown(&text))?;
    let mut book = panel.bans().lock().await;
    let ban = book.remove(id)?.ok_or_else(|| unknown(&text))?;
    info!(
        by = %actor,
        ban = ban.id,
        client = ban.client_id,
        user = ban.user,
        address = ban.address,
        "a ban was ended over HTTP"
    );
    put_in_force(&panel, &book).await?;
    Ok(done())
}

async fn put_in_force(panel: &Panel, book: &MutexGuard<'_, BanBook>) -> Result<(), Problem> {
    panel.ask_all(&Question::Bans(book.bans())).await.map(drop)
}

/// Disconnects the banned clients of all shards. Returns how many there were.
async fn end_banned(panel: &Panel) -> Result<usize, Problem> {
    let mut sum = 0;
    let take = |answer| {
        let Answer::Ended { count, next } = answer else { return None };
        sum += count;
        next
    };
    panel.walk(Question::EndBanned, take).await?;
    Ok(sum)
}

fn unknown(id: &str) -> Problem {
    Problem::not_found(format!("there is no ban {id:?}"))
}

impl From<NotBanned> for Problem {
    fn from(why: NotBanned) -> Problem {
        let status = match why {
            NotBanned::Wrong(_) => StatusCode::UNPROCESSABLE_ENTITY,
            NotBanned::Unwritten(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Problem::new(status, why.to_string())
    }
}
