//! The subcommands that ask a running broker over HTTP.

use std::{
    fmt::Write as _,
    fs,
    io::{IsTerminal, Write},
    ops::ControlFlow,
};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};

use super::{place, top::top, trace::trace};
use crate::{
    config::{Remote, RemoteOrder, Whom},
    transport::Address,
};

/// Does it, and writes what comes of it.
pub fn ask_remote(order: &RemoteOrder, out: &mut (impl Write + IsTerminal)) -> Result<()> {
    let text = match order {
        RemoteOrder::Top(order) => return top(order, out),
        RemoteOrder::Trace(order) => return trace(order, out),
        RemoteOrder::Status(remote) => status(remote)?,
        RemoteOrder::Clients { remote, prefix } => clients(remote, prefix)?,
        RemoteOrder::Ban { remote, whom, seconds, reason } => {
            ban(remote, whom, (*seconds, reason.as_deref()))?
        }
        RemoteOrder::Bans(remote) => bans(remote)?,
        RemoteOrder::Unban { remote, id } => {
            request(remote, "DELETE", &format!("/api/v1/bans/{id}"))?;
            format!("ended ban {id}\n")
        }
        RemoteOrder::Kick { remote, client_id } => {
            request(remote, "DELETE", &format!("/api/v1/clients/{}", encoded(client_id)))?;
            format!("disconnected {client_id}\n")
        }
    };
    Ok(out.write_all(text.as_bytes())?)
}

fn status(remote: &Remote) -> Result<String> {
    let metrics = request(remote, "GET", "/metrics")?;
    let mut out = String::new();
    for (words, metric) in STATUS {
        let values = metrics.lines().filter_map(|line| value_of(line, metric));
        let sum: f64 = values.sum();
        writeln!(out, "{words:<24}{sum:>16}")?;
    }
    writeln!(out, "{:<24}{:>16}", "store", store_condition(&metrics))?;
    Ok(out)
}

/// What the store can do, in a word; `none` if there is no store.
fn store_condition(metrics: &str) -> &str {
    let mut lines = metrics.lines();
    let condition = lines.find_map(|line| {
        line.strip_prefix("ringmq_store_condition{condition=\"")?.strip_suffix("\"} 1")
    });
    condition.unwrap_or("none")
}

/// The value of a line, if it is a sample of this metric.
fn value_of(line: &str, metric: &str) -> Option<f64> {
    let rest = line.strip_prefix(metric)?;
    let is_it = rest.starts_with(' ') || rest.starts_with('{');
    rest.rsplit_once(' ').filter(|_| is_it)?.1.parse().ok()
}

fn clients(remote: &Remote, prefix: &str) -> Result<String> {
    let query = format!("/api/v1/clients?limit=1000&prefix={}", encoded(prefix));
    lines(remote, &query, "clients", line_of)
}

/// All pages of a listing, with a line for each entry.
fn lines(
    remote: &Remote,
    query: &str,
    entries: &str,
    line_of: impl Fn(&Value) -> String,
) -> Result<String> {
    let mut out = String::new();
    let mut cursor = String::new();
    loop {
        let page = request(remote, "GET", &format!("{query}{cursor}"))?;
        let page: Value = serde_json::from_str(&page).context("the answer is not JSON")?;
        for entry in page[entries].as_array().into_iter().flatten() {
            writeln!(out, "{}", line_of(entry))?;
        }
        match page["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(out),
        }
    }
}

fn ban(
    remote: &Remote,
    whom: &Whom,
    (seconds, reason): (Option<u64>, Option<&str>),
) -> Result<String> {
    let Whom { client, user, address } = whom;
    let wanted = json!({
        "client_id": client, "user": user, "address": address, "seconds": seconds, "reason": reason
    });
    let made = request_with(remote, "POST", "/api/v1/bans", &wanted.to_string())?;
    let made: Value = serde_json::from_str(&made).context("the answer is not JSON")?;
    Ok(format!("ban {}: {} clients disconnected\n", made["id"], made["disconnected"]))
}

fn bans(remote: &Remote) -> Result<String> {
    lines(remote, "/api/v1/bans?limit=1000", "bans", line_of_ban)
}

/// A ban in one line: its number, whom it is about, until when, who has made it, and why.
fn line_of_ban(ban: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").escape_debug().to_string();
    let kinds = [("client", "client_id"), ("user", "user"), ("address", "address")];
    let whom = kinds.into_iter().find(|(_, field)| !ban[*field].is_null());
    let whom = whom.map(|(word, field)| format!("{word} {}", text(&ban[field])));
    let until = ban["until"].as_u64();
    let until = until.map(|until| format!("until {} s after 1970", until / 1_000));
    let fields = [
        ban["id"].to_string(),
        whom.unwrap_or_default(),
        until.unwrap_or_else(|| "for ever".to_owned()),
        text(&ban["by"]),
        text(&ban["reason"]),
    ];
    fields.join("\t")
}

/// A client in one line, with tabs between its fields. What a client has chosen is escaped.
fn line_of(client: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").escape_debug().to_string();
    let state = if client["connected"] == true { "connected" } else { "away" };
    let fields = [
        text(&client["client_id"]),
        text(&client["user"]),
        text(&client["peer"]),
        state.to_owned(),
        format!("{} subscriptions", client["subscriptions"]),
        format!("{} queued", client["queued"]),
    ];
    fields.join("\t")
}

/// The body of the answer. An error says what the broker says.
pub(super) fn request(remote: &Remote, method: &str, path: &str) -> Result<String> {
    request_with(remote, method, path, "")
}

pub(super) fn request_with(
    remote: &Remote,
    method: &str,
    path: &str,
    body: &str,
) -> Result<String> {
    let token = token(remote)?;
    let place = place::of(remote)?;
    let answer = place::send(&place, &format!("{method} {path}"), token.as_deref(), body);
    let answer = answer.with_context(|| silent(&place))?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status.starts_with('2') {
        return Ok(body.to_owned());
    }
    let problem: Value = serde_json::from_str(body).unwrap_or_default();
    Err(anyhow!("{}", problem["detail"].as_str().unwrap_or(status).to_owned()))
}

/// Reads an answer that goes on line by line, until the broker or `take` ends it.
pub(super) fn follow(
    remote: &Remote,
    path: &str,
    mut take: impl FnMut(&str) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let token = token(remote)?;
    let place = place::of(remote)?;
    let lines = place::follow(&place, &format!("GET {path}"), token.as_deref());
    for line in lines.with_context(|| silent(&place))? {
        if take(&line?)?.is_break() {
            break;
        }
    }
    Ok(())
}

fn silent(place: &Address) -> String {
    format!("no broker answers HTTP at {place} (--at)")
}

/// The first token of an admin, or else the first one.
fn token(remote: &Remote) -> Result<Option<String>> {
    let Some(path) = &remote.http_token_file else { return Ok(None) };
    let text = fs::read_to_string(path);
    let text = text.with_context(|| format!("token file {}", path.display()))?;
    let lines: Vec<(&str, &str)> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(char::is_whitespace))
        .collect();
    let admin = lines.iter().find(|(role, _)| *role == "admin");
    match admin.or_else(|| lines.first()) {
        Some((_, token)) => Ok(Some(token.trim().to_owned())),
        None => bail!("token file {}: it has no token", path.display()),
    }
}

/// Percent-encoded, as a part of a path.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("a String takes all that is written to it");
        }
    }
    out
}

/// The lines of `ringmq status`: words, and the metric whose samples are summed up.
const STATUS: [(&str, &str); 13] = [
    ("uptime in seconds", "ringmq_uptime_seconds"),
    ("shards", "ringmq_shards"),
    ("seconds of work", "ringmq_shard_busy_seconds_total"),
    ("connections", "ringmq_connections"),
    ("clients connected", "ringmq_clients_connected"),
    ("sessions", "ringmq_sessions"),
    ("subscriptions", "ringmq_subscriptions"),
    ("retained messages", "ringmq_retained_messages"),
    ("messages queued", "ringmq_messages_queued"),
    ("messages received", "ringmq_publish_received_total"),
    ("messages sent", "ringmq_publish_sent_total"),
    ("messages dropped", "ringmq_messages_dropped_total"),
    ("bytes of memory", "ringmq_memory_bytes"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_one_metric_are_told_from_those_of_longer_names() {
        assert_eq!(value_of("ringmq_shards 2", "ringmq_shards"), Some(2.0));
        assert_eq!(value_of("ringmq_m{kind=\"a b\"} 1.5", "ringmq_m"), Some(1.5));
        assert_eq!(value_of("ringmq_shards_x 2", "ringmq_shards"), None);
        assert_eq!(value_of("# HELP ringmq_shards Number 2", "ringmq_shards"), None);
    }

    #[test]
    fn the_store_is_told_in_a_word() {
        let sample = |condition: &str, value| {
            format!("ringmq_store_condition{{condition=\"{condition}\"}} {value}\n")
        };
        let metrics = [sample("ok", 0), sample("full", 1), sample("failed", 0)].concat();
        assert_eq!(store_condition(&metrics), "full");
        assert_eq!(store_condition("ringmq_shards 1"), "none");
    }

    #[test]
    fn identifiers_travel_in_a_path_and_names_do_no_harm_to_a_terminal() {
        assert_eq!(encoded("a/b c%ä"), "a%2Fb%20c%25%C3%A4");
        let client = serde_json::json!({ "client_id": "\u{1b}[2J", "connected": true });
        assert!(line_of(&client).starts_with("\\u{1b}[2J\t-\t-\tconnected\t"));
    }
}
