//! The names that dashboards for other brokers read.

use super::{
    Sums, is_gauge,
    text::{Kind, Text},
};

/// As mosquitto's exporter names them: the topic of `$SYS`, with `_` for what a name cannot have.
pub(super) fn of_mosquitto(sums: &Sums) -> String {
    let mut text = Text::default();
    let mut tell = |topic: &str, kind, value| {
        let name = format!("broker_{}", topic.replace(['/', '-', ' ', '.'], "_"));
        text.single(&name, kind, &format!("$SYS/broker/{topic}"), value);
    };
    for (topic, value) in sums.counters.topics() {
        tell(topic, if is_gauge(topic) { Kind::Gauge } else { Kind::Counter }, value);
    }
    let (total, connected) = (sums.of_topic("clients/total"), sums.of_topic("clients/connected"));
    let absent = total.saturating_sub(connected);
    let retained = sums.retained.messages as u64;
    for (topic, value) in [
        ("clients/active", connected),
        ("clients/inactive", absent),
        ("clients/disconnected", absent),
        ("messages/stored", retained + sums.of_topic("messages/queued")),
        ("retained messages/count", retained),
        ("uptime", sums.uptime.as_secs()),
    ] {
        tell(topic, Kind::Gauge, value);
    }
    tell("publish/messages/dropped", Kind::Counter, sums.below("messages/dropped/"));
    text.into_string()
}

/// As EMQX names them.
pub(super) fn of_emqx(sums: &Sums) -> String {
    let mut text = Text::default();
    let gauges = [
        ("emqx_connections_count", "connections/open"),
        ("emqx_live_connections_count", "clients/connected"),
        ("emqx_sessions_count", "clients/total"),
        ("emqx_subscriptions_count", "subscriptions/count"),
    ];
    for (name, topic) in gauges {
        text.single(name, Kind::Gauge, &help(topic), sums.of_topic(topic));
    }
    let retained = sums.retained.messages;
    text.single("emqx_retained_count", Kind::Gauge, &help("retained/count"), retained);
    for (name, topic) in EMQX_COUNTERS {
        text.single(name, Kind::Counter, &help(topic), sums.of_topic(topic));
    }
    let dropped = sums.below("messages/dropped/");
    text.single("emqx_delivery_dropped", Kind::Counter, "All dropped messages.", dropped);
    text.into_string()
}

fn help(topic: &str) -> String {
    format!("$SYS/broker/{topic} of ringmq.")
}

const EMQX_COUNTERS: [(&str, &str); 11] = [
    ("emqx_bytes_received", "bytes/received"),
    ("emqx_bytes_sent", "bytes/sent"),
    ("emqx_packets_received", "messages/received"),
    ("emqx_packets_sent", "messages/sent"),
    ("emqx_messages_received", "publish/messages/received"),
    ("emqx_messages_sent", "publish/messages/sent"),
    ("emqx_packets_publish_received", "publish/messages/received"),
    ("emqx_packets_publish_sent", "publish/messages/sent"),
    ("emqx_client_connected", "clients/accepted"),
    ("emqx_delivery_dropped_queue_full", "messages/dropped/queue-full"),
    ("emqx_delivery_dropped_expired", "messages/dropped/expired"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{routing::Tally, shard::stats::Counters};

    #[test]
    fn other_names_have_the_same_values() {
        let counters = Counters {
            clients_connected: 2,
            clients_total: 5,
            publishes_received: 7,
            dropped_queue_full: 3,
            dropped_expired: 1,
            ..Counters::default()
        };
        let retained = Tally { messages: 4, bytes: 90 };
        let sums = Sums { counters, retained, ..Sums::default() };
        let has = |text: &str, line: &str| {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        };
        let mosquitto = of_mosquitto(&sums);
        has(&mosquitto, "broker_clients_connected 2");
        has(&mosquitto, "broker_clients_inactive 3");
        has(&mosquitto, "broker_retained_messages_count 4");
        has(&mosquitto, "broker_publish_messages_received 7");
        has(&mosquitto, "broker_publish_messages_dropped 4");
        has(&mosquitto, "broker_connections_ended_taken_over 0");
        let emqx = of_emqx(&sums);
        has(&emqx, "emqx_messages_received 7");
        has(&emqx, "emqx_sessions_count 5");
        has(&emqx, "emqx_delivery_dropped 4");
        has(&emqx, "emqx_delivery_dropped_queue_full 3");
    }

    /// A counter whose topic is misspelt would be 0 for ever.
    #[test]
    fn each_topic_exists() {
        for (name, topic) in EMQX_COUNTERS {
            assert!(Counters::default().topics().any(|(known, _)| known == topic), "{name}");
        }
    }
}
