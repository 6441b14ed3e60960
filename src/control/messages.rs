//! Messages: publishing one, and those that are retained.

use axum::{body::Body, extract::State, response::Response};
use base64ct::{Base64, Encoding};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tracing::info;

use super::{
    api::{Actor, Answered, Asked, Named, asked, body, done, json, limit, named},
    panel::Panel,
    problem::Problem,
};
use crate::{
    base::{ids::ShardId, text},
    mqtt::{ApplicationProperties, QoS},
    shard::ask::{Answer, Outgoing, Question, RetainedMessage, RetainedReport},
};

/// A message in JSON.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    topic: String,
    payload: Option<String>,
    payload_base64: Option<String>,
    #[serde(default)]
    qos: u8,
    #[serde(default)]
    retain: bool,
    /// Seconds.
    message_expiry: Option<u32>,
    content_type: Option<String>,
}

#[derive(Debug, Serialize)]
struct Published {
    /// Somebody subscribes to the topic, as far as this shard knows.
    matched: bool,
}

/// Publishes a message in the name of the broker.
pub(super) async fn publish(State(panel): State<Panel>, actor: Actor, message: Body) -> Answered {
    let message: Wanted = body(message).await?;
    let topic = message.topic.clone();
    let question = Question::Publish(message.into_outgoing()?);
    let matched = match panel.ask(ShardId::FIRST, &question).await? {
        Answer::Refused(why) => return Err(Problem::unprocessable(why)),
        answer => matches!(answer, Answer::Done),
    };
    info!(by = %actor, topic, "a message was published over HTTP");
    json(&Published { matched })
}

impl Wanted {
    fn into_outgoing(self) -> Result<Outgoing, Problem> {
        let payload = match (self.payload, self.payload_base64) {
            (Some(_), Some(_)) => {
                let twice = "`payload` and `payload_base64` are both given";
                return Err(Problem::bad_request(twice));
            }
            (None, Some(text)) => Base64::decode_vec(&text)
                .map_err(|_| Problem::bad_request("`payload_base64` is no base64"))?,
            (text, None) => text.unwrap_or_default().into_bytes(),
        };
        let wrong = || Problem::bad_request("`qos` is 0, 1 or 2");
        Ok(Outgoing {
            topic: self.topic,
            application: application(self.content_type.as_deref())?,
            payload: payload.into(),
            qos: QoS::from_bits(self.qos).ok_or_else(wrong)?,
            retain: self.retain,
            expiry: self.message_expiry,
        })
    }
}

fn application(content_type: Option<&str>) -> Result<Bytes, Problem> {
    let is_text = |it: &str| u16::try_from(it.len()).is_ok() && !text::has_disallowed(it);
    if content_type.is_some_and(|it| !is_text(it)) {
        let wrong = "`content_type` is too long, or has a control character";
        return Err(Problem::bad_request(wrong));
    }
    let mut encoded = Vec::new();
    ApplicationProperties { content_type, ..ApplicationProperties::default() }.encode(&mut encoded);
    Ok(encoded.into())
}

/// Which retained messages are wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listing {
    limit: Option<usize>,
    cursor: Option<String>,
    filter: Option<String>,
}

#[derive(Debug, Serialize)]
struct Page {
    messages: Vec<Entry>,
    /// Where the next page begins; `null` after the last one.
    cursor: Option<String>,
}

#[derive(Debug, Serialize)]
struct Entry {
    topic: String,
    qos: u8,
    payload_bytes: usize,
    /// Seconds until the message expires; `null` is never.
    expires_in: Option<u64>,
}

impl From<RetainedReport> for Entry {
    fn from(report: RetainedReport) -> Entry {
        Entry {
            topic: report.topic,
            qos: report.qos as u8,
            payload_bytes: report.payload_bytes,
            expires_in: report.expires_in,
        }
    }
}

#[derive(Debug, Serialize)]
struct Whole {
    #[serde(flatten)]
    entry: Entry,
    /// `null` if the payload is no text.
    payload: Option<String>,
    payload_base64: String,
    content_type: Option<String>,
}

impl From<RetainedMessage> for Whole {
    fn from(message: RetainedMessage) -> Whole {
        Whole {
            entry: Entry::from(message.report),
            payload: std::str::from_utf8(&message.payload).ok().map(str::to_owned),
            payload_base64: Base64::encode_string(&message.payload),
            content_type: message.content_type,
        }
    }
}

/// A page of retained messages, in the order of their topics. Every shard has all of them.
pub(super) async fn list_retained(State(panel): State<Panel>, listing: Asked<Listing>) -> Answered {
    let Listing { limit: count, cursor, filter } = asked(listing)?;
    let count = limit(count)?;
    let filter = filter.unwrap_or_else(|| "#".to_owned());
    let mut page = Page { messages: Vec::new(), cursor };
    for _ in 0..QUESTIONS_MAX {
        let (after, left) = (page.cursor.take(), count - page.messages.len());
        let question = Question::Retained { filter: filter.clone(), after, count: left };
        let found = match panel.ask(ShardId::FIRST, &question).await? {
            Answer::Retained(found) => found,
            Answer::Refused(why) => return Err(Problem::bad_request(why)),
            _ => break,
        };
        page.messages.extend(found.messages.into_iter().map(Entry::from));
        page.cursor = found.next;
        if page.cursor.is_none() || page.messages.len() >= count {
            break;
        }
    }
    json(&page)
}

pub(super) async fn get_retained(State(panel): State<Panel>, topic: Named) -> Answered {
    let topic = named(topic)?;
    match panel.ask(ShardId::FIRST, &Question::RetainedMessage(topic.clone())).await? {
        Answer::Message(message) => json(&Whole::from(*message)),
        _ => Err(nothing_retained(&topic)),
    }
}

/// Deletes a retained message, as a client does: by an empty one.
pub(super) async fn delete_retained(
    State(panel): State<Panel>,
    actor: Actor,
    topic: Named,
) -> Result<Response, Problem> {
    let topic = named(topic)?;
    let question = Question::RetainedMessage(topic.clone());
    let Answer::Message(_) = panel.ask(ShardId::FIRST, &question).await? else {
        return Err(nothing_retained(&topic));
    };
    let empty = Outgoing {
        topic: topic.clone(),
        application: Bytes::new(),
        payload: Bytes::new(),
        qos: QoS::AtMostOnce,
        retain: true,
        expiry: None,
    };
    if let Answer::Refused(why) = panel.ask(ShardId::FIRST, &Question::Publish(empty)).await? {
        return Err(Problem::unprocessable(why));
    }
    info!(by = %actor, topic, "a retained message was deleted over HTTP");
    Ok(done())
}

fn nothing_retained(topic: &str) -> Problem {
    Problem::not_found(format!("no message is retained for the topic {topic:?}"))
}

/// Questions for one page.
const QUESTIONS_MAX: usize = 256;
