//! The subscriptions of a client, and those of all.

use std::num::ParseIntError;

use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::{
    api::{Answered, Asked, Named, asked, json, limit, named},
    clients::{unknown, wrong_cursor},
    panel::Panel,
    problem::Problem,
};
use crate::{
    base::ids::ShardId,
    shard::ask::{Answer, ClientPage, Question, Sought, SubscriptionPage, SubscriptionReport},
};

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

/// Which subscriptions of all sessions are wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listing {
    limit: Option<usize>,
    cursor: Option<String>,
    /// What the Topic Filters begin with.
    #[serde(default)]
    prefix: String,
}

#[derive(Debug, Serialize)]
struct PageOfAll {
    subscriptions: Vec<OwnedEntry>,
    /// Where the next page begins; `null` after the last one.
    cursor: Option<String>,
}

#[derive(Debug, Serialize)]
struct OwnedEntry {
    client_id: String,
    #[serde(flatten)]
    subscription: Entry,
}

/// A page of the subscriptions of all sessions, those of one session after those of the other.
pub(super) async fn list_all(State(panel): State<Panel>, listing: Asked<Listing>) -> Answered {
    let Listing { limit: count, cursor, prefix } = asked(listing)?;
    let count = limit(count)?;
    let mut next = Some(match cursor {
        Some(text) => Spot::parse(&text, &panel).ok_or_else(wrong_cursor)?,
        None => Spot { shard: ShardId::FIRST, place: Some(0), within: None },
    });
    let (mut subscriptions, mut questions) = (Vec::new(), 0);
    while let Some(spot) = next.take_if(|_| subscriptions.len() < count) {
        if questions == QUESTIONS_OF_ALL_MAX {
            next = Some(spot);
            break;
        }
        questions += 1;
        let (found, following) = spot.ask(&panel, count - subscriptions.len()).await?;
        let has = |it: &OwnedEntry| it.subscription.filter.starts_with(&prefix);
        subscriptions.extend(found.into_iter().filter(has));
        next = following;
    }
    json(&PageOfAll { subscriptions, cursor: next.map(Spot::into_text) })
}

/// A place on the way through all subscriptions.
#[derive(Debug)]
struct Spot {
    shard: ShardId,
    /// Where the sessions go on; `None` behind the last one of the shard.
    place: Option<u32>,
    /// The session before that, and how many of its first subscriptions are left; `None`: all.
    within: Option<(String, Option<u32>)>,
}

impl Spot {
    fn parse(text: &str, panel: &Panel) -> Option<Spot> {
        let mut parts = text.splitn(4, '.');
        let shard = panel.shard(parts.next()?.parse().ok()?)?;
        let place = number(parts.next()?).ok()?;
        let within = match (parts.next(), parts.next()) {
            (Some(left), Some(client_id)) => Some((client_id.to_owned(), number(left).ok()?)),
            (None, _) => None,
            (Some(_), None) => return None,
        };
        Some(Spot { shard, place, within })
    }

    fn into_text(self) -> String {
        let text = |number: Option<u32>| number.map_or_else(|| "-".to_owned(), |it| it.to_string());
        let start = format!("{}.{}", self.shard, text(self.place));
        match self.within {
            Some((client_id, left)) => format!("{start}.{}.{client_id}", text(left)),
            None => start,
        }
    }

    /// What one question finds here, and where to go on.
    async fn ask(
        self,
        panel: &Panel,
        count: usize,
    ) -> Result<(Vec<OwnedEntry>, Option<Spot>), Problem> {
        let Spot { shard, place, within } = self;
        if let Some((client_id, first)) = within {
            let question = Question::Subscriptions { client_id: client_id.clone(), first, count };
            let page = match panel.ask(shard, &question).await? {
                Answer::Subscriptions(page) => page,
                // The session has ended.
                _ => SubscriptionPage::default(),
            };
            let owned = |report| OwnedEntry {
                client_id: client_id.clone(),
                subscription: Entry::from(report),
            };
            let found = page.subscriptions.into_iter().map(owned).collect();
            let within = page.left.map(|left| (client_id.clone(), Some(left)));
            return Ok((found, Some(Spot { shard, place, within })));
        }
        let Some(from) = place else {
            let next = panel.after(shard);
            let begin = |shard| Spot { shard, place: Some(0), within: None };
            return Ok((Vec::new(), next.map(begin)));
        };
        let question = Question::Clients { from, sought: Sought::default(), count: 1 };
        let page = match panel.ask(shard, &question).await? {
            Answer::Clients(page) => page,
            _ => ClientPage::default(),
        };
        let client = page.clients.into_iter().next().filter(|client| client.subscriptions > 0);
        let within = client.map(|client| (client.client_id, None));
        Ok((Vec::new(), Some(Spot { shard, place: page.next, within })))
    }
}

/// A number, or `-` for none.
fn number(text: &str) -> Result<Option<u32>, ParseIntError> {
    if text == "-" { Ok(None) } else { text.parse().map(Some) }
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
/// Questions for one page of all subscriptions, two for each session.
const QUESTIONS_OF_ALL_MAX: usize = 1024;
