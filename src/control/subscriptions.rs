//! The subscriptions of a client.

use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::{
    api::{Answered, Asked, Named, asked, json, limit, named},
    clients::{unknown, wrong_cursor},
    panel::Panel,
    problem::Problem,
};
use crate::shard::ask::{Answer, Question, SubscriptionPage, SubscriptionReport};

/// Which page is wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Debug, Serialize)]
struct Page {
    subscriptions: Vec<Entry>,
    /// Where the next page begins; `null` after the last one.
    cursor: Option<String>,
}

#[derive(Debug, Serialize)]
struct Entry {
    filter: String,
    qos: u8,
    no_local: bool,
    retain_as_published: bool,
    retain_handling: u8,
    subscription_id: Option<u32>,
}

impl From<SubscriptionReport> for Entry {
    fn from(report: SubscriptionReport) -> Entry {
        Entry {
            filter: report.filter,
            qos: report.options.qos as u8,
            no_local: report.options.no_local,
            retain_as_published: report.options.retain_as_published,
            retain_handling: report.options.retain_handling as u8,
            subscription_id: report.subscription_id,
        }
    }
}

/// A page of them, the latest ones first.
pub(super) async fn list(
    State(panel): State<Panel>,
    client_id: Named,
    wanted: Asked<Wanted>,
) -> Answered {
    let client_id = named(client_id)?;
    let Wanted { limit: count, cursor } = asked(wanted)?;
    let count = limit(count)?;
    let cursor = cursor.map(|text| text.parse().map_err(|_| wrong_cursor())).transpose()?;
    let mut page = some(&panel, &client_id, cursor, count).await?;
    let mut subscriptions = page.subscriptions;
    let mut questions = 1;
    while let Some(left) = page.left
        && subscriptions.len() < count
        && questions < QUESTIONS_MAX
    {
        page = some(&panel, &client_id, Some(left), count - subscriptions.len()).await?;
        subscriptions.append(&mut page.subscriptions);
        questions += 1;
    }
    let subscriptions = subscriptions.into_iter().map(Entry::from).collect();
    json(&Page { subscriptions, cursor: page.left.map(|left| left.to_string()) })
}

/// What one question finds.
async fn some(
    panel: &Panel,
    client_id: &str,
    first: Option<u32>,
    count: usize,
) -> Result<SubscriptionPage, Problem> {
    let question = Question::Subscriptions { client_id: client_id.to_owned(), first, count };
    let found = panel.ask_all(&question).await?.into_iter().find_map(|answer| match answer {
        Answer::Subscriptions(page) => Some(page),
        _ => None,
    });
    found.ok_or_else(|| unknown(client_id))
}

/// Questions for one page, which has fewer subscriptions if their filters are long.
const QUESTIONS_MAX: usize = 64;
