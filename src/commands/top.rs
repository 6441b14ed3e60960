//! `ringmq top`: how a running broker does, drawn anew each second.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{IsTerminal, Write},
    sync::mpsc,
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::Value;

use super::remote::request;
use crate::{
    base::time::{Moment, Span},
    config::{Remote, Top},
    runtime,
};

/// Draws frames until the terminal or the broker is gone, or one of them.
pub(super) fn top(order: &Top, out: &mut (impl Write + IsTerminal)) -> Result<()> {
    let clears = out.is_terminal() && !order.once;
    let pause = Duration::from_nanos(order.every.as_nanos());
    // Nobody sends anything: waiting for it is the pause.
    let (_sender, nothing) = mpsc::channel::<()>();
    let mut before = Reading::take(&order.remote)?;
    loop {
        let _ = nothing.recv_timeout(pause);
        let after = Reading::take(&order.remote)?;
        let mut frame = frame(&before.figures, &after.figures, after.at.since(before.at));
        frame.push_str(&slowest(&after.slowest));
        out.write_all(if clears { CLEAR } else { b"" })?;
        out.write_all(frame.as_bytes())?;
        out.flush()?;
        if order.once {
            return Ok(());
        }
        before = after;
    }
}

/// What the broker counted at a moment.
struct Reading {
    at: Moment,
    figures: Figures,
    slowest: Value,
}

impl Reading {
    fn take(remote: &Remote) -> Result<Reading> {
        let metrics = request(remote, "GET", "/metrics")?;
        let (at, figures) = (runtime::now(), Figures::of(&metrics));
        let path = format!("/api/v1/slow-subscribers?limit={SLOWEST_SHOWN}");
        let slowest = serde_json::from_str(&request(remote, "GET", &path)?);
        Ok(Reading { at, figures, slowest: slowest.context("the answer is not JSON")? })
    }
}

/// The samples of `/metrics`, by name and labels.
struct Figures(BTreeMap<String, f64>);

impl Figures {
    fn of(metrics: &str) -> Figures {
        let samples = metrics.lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Figures(samples.filter_map(sample).collect())
    }

    /// The value of a metric, summed up over its labels.
    fn sum(&self, metric: &str) -> f64 {
        let alone = self.0.get(metric).copied().unwrap_or(0.0);
        alone + self.by_label(metric).map(|(_, value)| value).sum::<f64>()
    }

    /// The values of a metric with what stands between the braces.
    fn by_label(&self, metric: &str) -> impl Iterator<Item = (&str, f64)> {
        let begin = format!("{metric}{{");
        let samples = self.0.range(begin.clone()..);
        samples.map_while(move |(name, value)| Some((name.strip_prefix(&begin)?, *value)))
    }

    /// The same with the value of the only label.
    fn by_value(&self, metric: &str) -> impl Iterator<Item = (&str, f64)> {
        let samples = self.by_label(metric);
        samples.filter_map(|(labels, number)| Some((labels.split('"').nth(1)?, number)))
    }

    fn of_shard(&self, metric: &str, shard: &str) -> f64 {
        self.0.get(&format!("{metric}{{shard=\"{shard}\"}}")).copied().unwrap_or(0.0)
    }
}

fn frame(before: &Figures, after: &Figures, elapsed: Span) -> String {
    let seconds = Duration::from_nanos(elapsed.as_nanos()).as_secs_f64().max(0.001);
    let mut out = String::new();
    let told = tell_state(&mut out, after)
        .and_then(|()| tell_rates(&mut out, before, after, seconds))
        .and_then(|()| tell_drops(&mut out, before, after, seconds))
        .and_then(|()| tell_shards(&mut out, before, after, seconds));
    told.expect("a String takes all that is written to it");
    out
}

fn tell_state(out: &mut String, figures: &Figures) -> std::fmt::Result {
    let version = figures.by_value("ringmq_build_info").next().map_or("", |(version, _)| version);
    let stores = figures.by_value("ringmq_store_condition");
    let store = stores.filter(|(_, holds)| *holds > 0.0).map(|(condition, _)| condition).next();
    let count = |metric| grouped(figures.sum(metric));
    writeln!(
        out,
        "ringmq {version}   up {}   {} shards   store: {}",
        time(figures.sum("ringmq_uptime_seconds")),
        count("ringmq_shards"),
        store.unwrap_or("none"),
    )?;
    writeln!(
        out,
        "clients   {} connected, {} sessions, {} subscriptions",
        count("ringmq_clients_connected"),
        count("ringmq_sessions"),
        count("ringmq_subscriptions"),
    )?;
    writeln!(
        out,
        "messages  {} queued, {} retained",
        count("ringmq_messages_queued"),
        count("ringmq_retained_messages"),
    )?;
    let mut kinds: Vec<(&str, f64)> = figures.by_value("ringmq_memory_bytes").collect();
    kinds.retain(|(_, bytes)| *bytes > 0.0);
    kinds.sort_by(|one, other| other.1.total_cmp(&one.1));
    let kinds: Vec<String> =
        kinds.iter().map(|(kind, taken)| format!("{kind} {}", bytes(*taken))).collect();
    writeln!(out, "memory    {}   {}", bytes(figures.sum("ringmq_memory_bytes")), kinds.join(", "))
}

fn tell_rates(
    out: &mut String,
    before: &Figures,
    after: &Figures,
    seconds: f64,
) -> std::fmt::Result {
    writeln!(out, "\n{:<24}{:>14}{:>20}", "", "per second", "total")?;
    for (words, metric) in RATES {
        let total = after.sum(metric);
        let grown = per_second(before.sum(metric), total, seconds);
        writeln!(out, "{words:<24}{:>14}{:>20}", rate(grown), grouped(total))?;
    }
    Ok(())
}

/// Why messages were dropped: the reasons that there are, those that drop most first.
fn tell_drops(
    out: &mut String,
    before: &Figures,
    after: &Figures,
    seconds: f64,
) -> std::fmt::Result {
    let metric = "ringmq_messages_dropped_total";
    let mut reasons: Vec<(&str, f64, f64)> = Vec::new();
    for (reason, total) in after.by_value(metric).filter(|(_, total)| *total > 0.0) {
        let earlier = before.by_value(metric).find(|(other, _)| *other == reason);
        let grown = per_second(earlier.map_or(0.0, |(_, total)| total), total, seconds);
        reasons.push((reason, grown, total));
    }
    reasons.sort_by(|one, other| (other.1, other.2).partial_cmp(&(one.1, one.2)).expect("counts"));
    for (reason, grown, total) in reasons {
        writeln!(out, "  {reason:<22}{:>14}{:>20}", rate(grown), grouped(total))?;
    }
    Ok(())
}

fn tell_shards(
    out: &mut String,
    before: &Figures,
    after: &Figures,
    seconds: f64,
) -> std::fmt::Result {
    let heads = ["shard", "load", "connections", "sessions", "messages in/s", "turns, 99 %"];
    let [shard, load, connections, sessions, messages, turns] = heads;
    writeln!(out, "\n{shard:>5}{load:>8}{connections:>14}{sessions:>12}{messages:>16}{turns:>14}")?;
    let mut shards: Vec<&str> =
        after.by_value("ringmq_shard_connections").map(|(shard, _)| shard).collect();
    shards.sort_by_key(|shard| shard.parse::<u32>().unwrap_or(u32::MAX));
    for shard in shards.iter().take(SHARDS_SHOWN) {
        let now = |metric| after.of_shard(metric, shard);
        let grown = |metric| per_second(before.of_shard(metric, shard), now(metric), seconds);
        writeln!(
            out,
            "{shard:>5}{:>7.1}%{:>14}{:>12}{:>16}{:>14}",
            100.0 * grown("ringmq_shard_busy_seconds_total"),
            grouped(now("ringmq_shard_connections")),
            grouped(now("ringmq_shard_sessions")),
            rate(grown("ringmq_shard_publish_received_total")),
            turns_within(before, after, shard),
        )?;
    }
    match shards.len().saturating_sub(SHARDS_SHOWN) {
        0 => Ok(()),
        more => writeln!(out, "  and {more} more"),
    }
}

/// The least bound that 99 % of the turns between two readings kept.
fn turns_within(before: &Figures, after: &Figures, shard: &str) -> String {
    let metric = "ringmq_shard_turn_seconds_bucket";
    let grown = |bound: &str| {
        let name = format!("{metric}{{shard=\"{shard}\",le=\"{bound}\"}}");
        let of = |figures: &Figures| figures.0.get(&name).copied().unwrap_or(0.0);
        of(after) - of(before)
    };
    let all = grown("+Inf");
    let begin = format!("shard=\"{shard}\",le=\"");
    let bounds = after.by_label(metric).filter_map(|(labels, _)| {
        let bound = labels.strip_prefix(&begin)?.strip_suffix("\"}")?;
        Some((bound, bound.parse::<f64>().ok()?))
    });
    let kept = bounds.filter(|(bound, _)| grown(bound) >= 0.99 * all);
    match kept.map(|(_, value)| value).min_by(f64::total_cmp) {
        _ if all <= 0.0 => "-".to_owned(),
        Some(bound) if bound.is_finite() => format!("< {} ms", bound * 1e3),
        _ => "longer".to_owned(),
    }
}

/// The subscribers for which something waits, those first for which it has waited longest.
fn slowest(answer: &Value) -> String {
    let subscribers = answer["subscribers"].as_array().map_or(&[][..], Vec::as_slice);
    let heads = ["slowest subscribers", "delay", "queued", "in flight", "dropped"];
    let [name, delay, queued, in_flight, dropped] = heads;
    let mut out = format!("\n{name:<32}{delay:>12}{queued:>12}{in_flight:>12}{dropped:>12}\n");
    if subscribers.is_empty() {
        out.push_str("  nothing waits\n");
    }
    for it in subscribers {
        let count = |field: &str| grouped(it[field].as_f64().unwrap_or(0.0));
        let name = it["client_id"].as_str().unwrap_or("-").escape_debug().to_string();
        let name: String = name.chars().take(NAME_SHOWN).collect();
        let delay = format!("{:.2} s", it["delay_ms"].as_f64().unwrap_or(0.0) / 1e3);
        let (queued, in_flight, dropped) = (count("queued"), count("in_flight"), count("dropped"));
        let line = format!("  {name:<30}{delay:>12}{queued:>12}{in_flight:>12}{dropped:>12}\n");
        out.push_str(&line);
    }
    out
}

/// A counter that is smaller than before belongs to a broker that was started again.
fn per_second(before: f64, after: f64, seconds: f64) -> f64 {
    (after - before).max(0.0) / seconds
}

fn rate(value: f64) -> String {
    if value > 0.0 && value < 100.0 { format!("{value:.1}") } else { grouped(value) }
}

/// A whole number with commas.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn bytes(value: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = value;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{value:.0} B") } else { format!("{value:.1} {}", units[unit]) }
}

fn time(seconds: f64) -> String {
    let all = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs();
    let (days, rest) = (all / 86_400, all % 86_400);
    let clock = format!("{:02}:{:02}:{:02}", rest / 3600, rest % 3600 / 60, rest % 60);
    if days > 0 { format!("{days} d {clock}") } else { clock }
}

/// The cursor goes home, and all after it is erased.
const CLEAR: &[u8] = b"\x1b[H\x1b[J";

const SHARDS_SHOWN: usize = 32;
const SLOWEST_SHOWN: usize = 5;
const NAME_SHOWN: usize = 29;

const RATES: [(&str, &str); 9] = [
    ("messages received", "ringmq_publish_received_total"),
    ("messages sent", "ringmq_publish_sent_total"),
    ("packets received", "ringmq_packets_received_total"),
    ("packets sent", "ringmq_packets_sent_total"),
    ("bytes received", "ringmq_received_bytes_total"),
    ("bytes sent", "ringmq_sent_bytes_total"),
    ("connections accepted", "ringmq_connections_accepted_total"),
    ("connections refused", "ringmq_connections_refused_total"),
    ("messages dropped", "ringmq_messages_dropped_total"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_are_told_and_their_names_do_no_harm() {
        let answer = serde_json::json!({ "subscribers": [
            { "client_id": "\u{1b}[2J", "delay_ms": 1_250, "queued": 1_000, "in_flight": 20,
              "dropped": 7 },
        ] });
        let told = slowest(&answer);
        let line =
            "  \\u{1b}[2J                           1.25 s       1,000          20           7";
        assert_eq!(told.lines().nth(2).unwrap(), line, "{told}");
        assert!(slowest(&Value::Null).ends_with("  nothing waits\n"));
    }

    const BEFORE: &str = "\
# HELP ringmq_shards Number of shards.
ringmq_build_info{version=\"1.2.3\"} 1
ringmq_uptime_seconds 93784
ringmq_shards 2
ringmq_clients_connected 1024
ringmq_publish_received_total 1000000
ringmq_messages_dropped_total{reason=\"queue-full\"} 5
ringmq_messages_dropped_total{reason=\"expired\"} 0
ringmq_memory_bytes{kind=\"queues\"} 0
ringmq_memory_bytes{kind=\"retained\"} 3145728
ringmq_store_condition{condition=\"ok\"} 0
ringmq_store_condition{condition=\"full\"} 1
ringmq_shard_connections{shard=\"0\"} 7
ringmq_shard_connections{shard=\"1\"} 8
ringmq_shard_busy_seconds_total{shard=\"0\"} 10
ringmq_shard_turn_seconds_bucket{shard=\"0\",le=\"0.0001\"} 10
ringmq_shard_turn_seconds_bucket{shard=\"0\",le=\"0.001\"} 20
ringmq_shard_turn_seconds_bucket{shard=\"0\",le=\"+Inf\"} 20
";
    const GROWN: [(&str, &str); 6] = [
        ("received_total 1000000", "received_total 1002500"),
        ("\"queue-full\"} 5", "\"queue-full\"} 6"),
        ("busy_seconds_total{shard=\"0\"} 10", "busy_seconds_total{shard=\"0\"} 10.5"),
        ("le=\"0.0001\"} 10", "le=\"0.0001\"} 11"),
        ("le=\"0.001\"} 20", "le=\"0.001\"} 120"),
        ("le=\"+Inf\"} 20", "le=\"+Inf\"} 121"),
    ];

    #[test]
    fn a_frame_has_what_is_there_and_what_has_grown() {
        let mut after = BEFORE.to_owned();
        for (old, new) in GROWN {
            after = after.replace(old, new);
        }
        let frame = frame(&Figures::of(BEFORE), &Figures::of(&after), Span::from_secs(2));
        let squeezed: Vec<String> = frame
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        for line in [
            "ringmq 1.2.3 up 1 d 02:03:04 2 shards store: full",
            "clients 1,024 connected, 0 sessions, 0 subscriptions",
            "memory 3.0 MiB retained 3.0 MiB",
            "messages received 1,250 1,002,500",
            "messages dropped 0.5 6",
            "queue-full 0.5 6",
            "0 25.0% 7 0 0 < 1 ms",
            "1 0.0% 8 0 0 -",
        ] {
            assert!(squeezed.iter().any(|found| found == line), "{line}\n{frame}");
        }
        assert!(!frame.contains("expired"), "{frame}");
    }

    #[test]
    fn a_broker_that_was_started_again_has_no_rate_below_zero() {
        assert_eq!(rate(per_second(1000.0, 3.0, 1.0)), "0");
    }

    #[test]
    fn numbers_are_easy_to_read() {
        assert_eq!(
            [0.0, 999.0, 1000.0, 1_234_567.0].map(grouped),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!([0.4, 99.96, 250.0].map(rate), ["0.4", "100.0", "250"]);
        assert_eq!([512.0, 1536.0].map(bytes), ["512 B", "1.5 KiB"]);
        assert_eq!([59.0, 90_061.0].map(time), ["00:00:59", "1 d 01:01:01"]);
    }
}
