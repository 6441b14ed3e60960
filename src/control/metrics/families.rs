//! Our own names: base units, `_total` for what only grows, a label where a topic has a word for
//! each way or kind.

use super::{
    Sums,
    http::tell_http,
    is_gauge, store,
    text::{Kind, Text},
};
use crate::{
    base::{ids::ShardId, time::Span},
    control::counts::Counts,
    shard::{
        ask::Figures,
        ports::{Load, TURN_BOUNDS},
        stats::Counters,
    },
};

/// A family whose samples are the topics with one beginning. What follows it is the label's value.
struct Family {
    prefix: &'static str,
    name: &'static str,
    label: &'static str,
    help: &'static str,
}

/// What is told of each shard by itself.
type OfShard = (&'static str, Kind, &'static str, fn(&Figures) -> String);

pub(super) fn text_of(figures: &[Figures], sums: &Sums, http: (&Counts, u64)) -> String {
    let mut text = Text::default();
    tell_broker(&mut text, sums);
    tell_single(&mut text, &sums.counters);
    tell_families(&mut text, &sums.counters);
    tell_shards(&mut text, figures);
    tell_turns(&mut text, figures);
    tell_http(&mut text, http.0, http.1);
    if let Some(figures) = &sums.store {
        store::tell(&mut text, figures);
    }
    text.into_string()
}

fn tell_broker(text: &mut Text, sums: &Sums) {
    text.family("ringmq_build_info", Kind::Gauge, "The version of the broker.");
    text.labelled("ringmq_build_info", ("version", env!("CARGO_PKG_VERSION")), 1);
    let gauges = [
        ("ringmq_uptime_seconds", "Time since the start.", sums.uptime.as_secs()),
        ("ringmq_shards", "Number of shards.", sums.shards as u64),
        ("ringmq_retained_messages", "Retained messages.", sums.retained.messages as u64),
        (
            "ringmq_retained_bytes",
            "Bytes that the retained messages take on each shard.",
            sums.retained.bytes as u64,
        ),
    ];
    for (name, help, value) in gauges {
        text.single(name, Kind::Gauge, help, value);
    }
}

/// The topics that are a family each.
fn tell_single(text: &mut Text, counters: &Counters) {
    for ((topic, value), meaning) in counters.topics().zip(Counters::meanings()) {
        if family_of(topic).is_none() && !SUMS.contains(&topic) {
            let (name, kind) = (name_of(topic), kind_of(topic));
            text.single(&name, kind, meaning.trim(), value);
        }
    }
}

fn tell_families(text: &mut Text, counters: &Counters) {
    for Family { prefix, name, label, help } in FAMILIES {
        let is_gauge = is_gauge(&format!("{prefix}total"));
        text.family(name, if is_gauge { Kind::Gauge } else { Kind::Counter }, help);
        let within = counters.topics().filter(|(topic, _)| family_of(topic) == Some(prefix));
        for (topic, value) in within.filter(|(topic, _)| !SUMS.contains(topic)) {
            text.labelled(name, (label, &topic[prefix.len()..]), value);
        }
    }
}

/// The beginning of the family that a topic belongs to.
fn family_of(topic: &str) -> Option<&'static str> {
    let is_of = |family: &&Family| topic.starts_with(family.prefix) && topic != "memory/refused";
    FAMILIES.iter().find(is_of).map(|family| family.prefix)
}

fn kind_of(topic: &str) -> Kind {
    if is_gauge(topic) { Kind::Gauge } else { Kind::Counter }
}

fn name_of(topic: &str) -> String {
    if let Some((_, name)) = RENAMED.iter().find(|(renamed, _)| *renamed == topic) {
        return (*name).to_owned();
    }
    let total = if is_gauge(topic) { "" } else { "_total" };
    format!("ringmq_{}{total}", topic.replace(['/', '-'], "_"))
}

fn tell_shards(text: &mut Text, figures: &[Figures]) {
    for (name, kind, help, value) in OF_SHARDS {
        text.family(name, kind, help);
        for (shard, figures) in of_each(figures) {
            text.labelled(name, ("shard", &shard), value(figures));
        }
    }
}

fn tell_turns(text: &mut Text, figures: &[Figures]) {
    let name = "ringmq_shard_turn_seconds";
    text.family(name, Kind::Histogram, "How long the turns of a shard took.");
    for (shard, Figures { load, .. }) in of_each(figures) {
        for (bound, count) in TURN_BOUNDS.iter().zip(load.turns_within) {
            let bound = seconds(Span::from_micros(*bound));
            text.line(format_args!("{name}_bucket{{shard=\"{shard}\",le=\"{bound}\"}} {count}"));
        }
        text.line(format_args!("{name}_bucket{{shard=\"{shard}\",le=\"+Inf\"}} {}", load.turns));
        text.labelled(&format!("{name}_sum"), ("shard", &shard), seconds(load.busy));
        text.labelled(&format!("{name}_count"), ("shard", &shard), load.turns);
    }
}

fn of_each(figures: &[Figures]) -> impl Iterator<Item = (String, &Figures)> {
    let shards = ShardId::all(figures.len()).map(|shard| shard.to_string());
    shards.zip(figures)
}

/// Seconds as a decimal number, without what a floating point number would lose.
pub(super) fn seconds(span: Span) -> String {
    let nanos = span.as_nanos();
    let text = format!("{}.{:09}", nanos / NANOS, nanos % NANOS);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn shown(value: u64) -> String {
    value.to_string()
}

const NANOS: u64 = 1_000_000_000;

const OF_SHARDS: [OfShard; 5] = [
    ("ringmq_shard_connections", Kind::Gauge, "Open connections of a shard.", |it| {
        shown(it.counters.connections)
    }),
    ("ringmq_shard_sessions", Kind::Gauge, "Sessions of a shard, connected or not.", |it| {
        shown(it.counters.clients_total)
    }),
    ("ringmq_shard_busy_seconds_total", Kind::Counter, "Time that a shard has worked.", |it| {
        seconds(it.load.busy)
    }),
    (
        "ringmq_shard_long_turns_total",
        Kind::Counter,
        "Turns of a shard that took longer than 10 ms.",
        |&Figures { load: Load { long_turns, .. }, .. }| shown(long_turns),
    ),
    (
        "ringmq_shard_publish_received_total",
        Kind::Counter,
        "PUBLISH packets from the clients of a shard.",
        |it| shown(it.counters.publishes_received),
    ),
];

const FAMILIES: [Family; 6] = [
    Family {
        prefix: "connections/ended/",
        name: "ringmq_connections_ended_total",
        label: "reason",
        help: "Connections that ended, by the reason.",
    },
    Family {
        prefix: "connections/refused/",
        name: "ringmq_connections_refused_total",
        label: "reason",
        help: "Connections that were refused, by the reason.",
    },
    Family {
        prefix: "messages/dropped/",
        name: "ringmq_messages_dropped_total",
        label: "reason",
        help: "Messages that were dropped, by the reason.",
    },
    Family {
        prefix: "rights/denied/",
        name: "ringmq_rights_denied_total",
        label: "action",
        help: "What clients had no right to do, by the action.",
    },
    Family {
        prefix: "refused/",
        name: "ringmq_limit_refusals_total",
        label: "limit",
        help: "What a limit of packets has refused, by the limit.",
    },
    Family {
        prefix: "memory/",
        name: "ringmq_memory_bytes",
        label: "kind",
        help: "Bytes that clients have caused the broker to take, by their kind.",
    },
];

/// Topics whose value is the sum of others that are told.
const SUMS: [&str; 1] = ["memory/total"];

/// Topics whose name by the rule would have the wrong unit, or a word too many.
const RENAMED: [(&str, &str); 9] = [
    ("messages/received", "ringmq_packets_received_total"),
    ("messages/sent", "ringmq_packets_sent_total"),
    ("publish/messages/received", "ringmq_publish_received_total"),
    ("publish/messages/sent", "ringmq_publish_sent_total"),
    ("bytes/received", "ringmq_received_bytes_total"),
    ("bytes/sent", "ringmq_sent_bytes_total"),
    ("subscriptions/count", "ringmq_subscriptions"),
    ("connections/open", "ringmq_connections"),
    ("clients/total", "ringmq_sessions"),
];

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::shard::store_figures::{StoreCondition, StoreFigures};

    fn told() -> String {
        let counters = Counters { publishes_received: 7, connections: 2, ..Counters::default() };
        let load = Load {
            busy: Span::from_micros(1_500),
            turns: 12,
            turns_within: [1, 2, 3, 4, 5, 6, 7, 8, 9],
            ..Load::default()
        };
        let figures = [
            Figures {
                counters: counters.clone(),
                load,
                store: Some(store()),
                ..Figures::default()
            },
            Figures { counters, load, uptime: Span::from_secs(9), ..Figures::default() },
        ];
        text_of(&figures, &Sums::of(&figures), (&Counts::default(), 0))
    }

    fn store() -> StoreFigures {
        let mut store = StoreFigures {
            condition: StoreCondition::Full,
            bytes: 4096,
            records: 8,
            ..StoreFigures::default()
        };
        store.count_sync(Span::from_micros(150));
        store.count_sync(Span::from_micros(700));
        store
    }

    #[test]
    fn values_are_sums_and_those_of_each_shard() {
        let text = told();
        for line in [
            "ringmq_publish_received_total 14",
            "ringmq_connections 4",
            "ringmq_shard_connections{shard=\"1\"} 2",
            "ringmq_shard_busy_seconds_total{shard=\"0\"} 0.0015",
            "ringmq_shard_turn_seconds_bucket{shard=\"0\",le=\"0.000005\"} 1",
            "ringmq_shard_turn_seconds_bucket{shard=\"0\",le=\"0.1\"} 9",
            "ringmq_shard_turn_seconds_bucket{shard=\"0\",le=\"+Inf\"} 12",
            "ringmq_shard_turn_seconds_count{shard=\"0\"} 12",
            "ringmq_connections_ended_total{reason=\"taken-over\"} 0",
            "ringmq_memory_bytes{kind=\"retained\"} 0",
            "ringmq_memory_refused_total 0",
            "ringmq_store_condition{condition=\"ok\"} 0",
            "ringmq_store_condition{condition=\"full\"} 1",
            "ringmq_store_bytes 4096",
            "ringmq_store_records_total 8",
            "ringmq_store_sync_seconds_bucket{le=\"0.0002\"} 1",
            "ringmq_store_sync_seconds_bucket{le=\"+Inf\"} 2",
            "ringmq_store_sync_seconds_sum 0.00085",
            "ringmq_store_sync_seconds_count 2",
            "ringmq_store_sync_max_seconds 0.0007",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }

    /// What `promtool check metrics` asks for.
    #[test]
    fn families_are_as_the_conventions_want_them() {
        let text = told();
        let mut kinds = BTreeMap::new();
        let mut helped = BTreeSet::new();
        let mut samples = BTreeSet::new();
        for line in text.lines() {
            let words: Vec<&str> = line.splitn(4, ' ').collect();
            match words[..] {
                ["#", "HELP", name, help] => {
                    assert!(helped.insert(name), "{name} is told twice");
                    assert!(help.ends_with('.'), "{line}");
                }
                ["#", "TYPE", name, kind] => drop(kinds.insert(name, kind)),
                [sample, value] => {
                    assert!(samples.insert(sample), "{sample} is told twice");
                    assert!(value.parse::<f64>().is_ok(), "{line}");
                    let name = sample.split('{').next().unwrap();
                    let ends = ["_bucket", "_sum", "_count"];
                    let base = ends.iter().find_map(|end| name.strip_suffix(end));
                    let base = base.filter(|base| kinds.get(base) == Some(&"histogram"));
                    let name = base.unwrap_or(name);
                    assert!(name.bytes().all(|it| it.is_ascii_lowercase() || it == b'_'), "{line}");
                    let kind = kinds[name];
                    assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
                    assert!(helped.contains(name) && name.starts_with("ringmq_"), "{line}");
                }
                _ => panic!("{line}"),
            }
        }
        // Each topic of $SYS is a sample.
        let topics = Counters::default().topics().count();
        assert!(samples.len() >= topics - SUMS.len(), "{} of {topics}", samples.len());
        assert_eq!(kinds.len(), helped.len());
    }
}
