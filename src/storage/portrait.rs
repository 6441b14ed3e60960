//! What a store holds, in words: lines of JSON for people and programs, and a digest that does not
//! depend on how many shards wrote it.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use base64ct::{Base64, Encoding};
use sha2::{Digest, Sha256};

use super::{
    Kept, MessageId, MessageRecord, Record, RefRecord, Restored, RestoredSession, RetainRecord,
    SessionRecord,
};

/// Writes one line of JSON for each session, each message of a session and each retained message.
pub fn export(restored: &Restored, out: &mut impl Write) -> io::Result<()> {
    for line in lines(restored) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// The SHA-256 of all lines, sorted.
pub fn digest(restored: &Restored) -> String {
    let mut lines = lines(restored);
    lines.sort_unstable();
    let mut digest = Sha256::new();
    for line in &lines {
        digest.update(line.as_bytes());
        digest.update(b"\n");
    }
    digest.finalize().iter().fold(String::new(), |mut hex, byte| {
        // A String takes all that is written to it.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Nothing in these lines is a number that a process has given: they say the same after any start.
fn lines(restored: &Restored) -> Vec<String> {
    let mut lines = Vec::new();
    for session in &restored.sessions {
        let Record::Session(terms) = session.terms.record() else { continue };
        lines.push(session_line(&terms, session));
        let messages = session.refs.iter().enumerate();
        lines.extend(messages.filter_map(|(place, kept)| {
            ref_line(restored, terms.client_id, place, &kept.record())
        }));
    }
    lines.extend(restored.retained.iter().filter_map(|retain| match retain.record.record() {
        Record::Retain(RetainRecord { topic, message: Some(id), .. }) => {
            let message = message_fields(restored, id)?;
            Some(format!("{{\"retained\":{},{message}}}", quoted(topic)))
        }
        _ => None,
    }));
    lines
}

fn session_line(terms: &SessionRecord<'_>, session: &RestoredSession) -> String {
    let (client_id, expiry) = (quoted(terms.client_id), terms.expiry_interval);
    let user = quoted_or_null(terms.user);
    let mut subscriptions: Vec<String> =
        session.subscriptions.iter().filter_map(subscription_words).collect();
    subscriptions.sort_unstable();
    let (subscriptions, holds) = (subscriptions.join(","), &session.holds);
    let will = quoted_or_null(terms.will.map(|will| will.topic));
    format!(
        "{{\"session\":{client_id},\"user\":{user},\"expiry\":{expiry},\"will\":{will},\
         \"subscriptions\":[{subscriptions}],\"held\":{holds:?}}}"
    )
}

fn subscription_words(kept: &Kept) -> Option<String> {
    let Record::Subscription { filter, options, subscription_id, .. } = kept.record() else {
        return None;
    };
    let (filter, id) = (quoted(filter), subscription_id.unwrap_or(0));
    Some(format!("{{\"filter\":{filter},\"options\":{options},\"id\":{id}}}"))
}

fn ref_line(
    restored: &Restored,
    client_id: &str,
    place: usize,
    record: &Record<'_>,
) -> Option<String> {
    let to = quoted(client_id);
    match record {
        Record::Released { .. } => {
            Some(format!("{{\"to\":{to},\"place\":{place},\"released\":true}}"))
        }
        Record::Ref(RefRecord { message, qos, retain, group, .. }) => {
            let (message, qos) = (message_fields(restored, *message)?, *qos as u8);
            let group = quoted_or_null(*group);
            Some(format!(
                "{{\"to\":{to},\"place\":{place},\"granted\":{qos},\"retain\":{retain},\
                 \"group\":{group},{message}}}"
            ))
        }
        _ => None,
    }
}

fn message_fields(restored: &Restored, id: MessageId) -> Option<String> {
    let MessageRecord { topic, application, payload, qos, .. } = restored.message(id)?;
    let (topic, qos) = (quoted(topic), qos as u8);
    let (application, payload) =
        (Base64::encode_string(application), Base64::encode_string(payload));
    Some(format!(
        "\"topic\":{topic},\"qos\":{qos},\"properties\":\"{application}\",\"payload\":\"{payload}\""
    ))
}

fn quoted_or_null(text: Option<&str>) -> String {
    text.map_or_else(|| "null".to_owned(), quoted)
}

/// A string of JSON.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            control if control < ' ' => {
                // A String takes all that is written to it.
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}
