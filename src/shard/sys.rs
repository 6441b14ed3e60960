//! `$SYS/broker/`: what the broker says of itself, as retained messages on an interval.
//!
//! Every shard tells the first one what it has counted; the first one publishes the sums.

use std::fmt::Write;

use super::{Shard, letter::Letter, ports::Ports, stats::Counters};
use crate::{
    mqtt::QoS,
    session::message::{MessageView, Payload},
    topic::TopicName,
};

impl Shard {
    /// Publishes this shard's load, and hands its counters to the first shard, which publishes the
    /// sums of all.
    pub(super) fn publish_sys(&mut self, ports: &mut impl Ports) {
        let load = ports.load();
        let own = Counters {
            bytes_received: load.bytes_received,
            bytes_sent: load.bytes_sent,
            connections_refused: load.connections_refused,
            ended_partial_overflow: load.partial_overflows,
            accept_errors: load.accept_errors,
            refused_handshake: load.handshakes_refused,
            ended_websocket: load.frames_refused,
            ..self.counters()
        };
        let shard = self.settings.shard;
        let uptime = self.now.since(self.settings.started_at);
        let busy = load.busy.as_nanos() * 100 / uptime.as_nanos().max(1);
        let mut topic = String::new();
        for (name, value) in [
            ("connections", own.connections),
            ("load/busy-percent", busy),
            ("load/turns", load.turns),
            ("load/turn-p50-ns", load.turn_p50.as_nanos()),
            ("load/turn-p99-ns", load.turn_p99.as_nanos()),
        ] {
            topic.clear();
            // Writing to a String cannot fail.
            let _ = write!(topic, "$SYS/broker/shards/{shard}/{name}");
            self.publish_value(&topic, &value.to_string(), ports);
        }
        self.heard_counters[shard.index()] = own;
        match self.settings.peers().next() {
            // Every other shard's first peer is the first shard.
            Some(first) if shard.index() > 0 => {
                let counters = Box::new(self.heard_counters[shard.index()].clone());
                ports.letters(first).push(Letter::Counters(counters));
            }
            _ => self.publish_sums(ports),
        }
    }

    fn publish_sums(&mut self, ports: &mut impl Ports) {
        let mut sums = Counters::default();
        self.heard_counters.iter().for_each(|counters| sums.add(counters));
        let uptime = self.now.since(self.settings.started_at).as_secs();
        let version = concat!("ringmq ", env!("CARGO_PKG_VERSION"));
        self.publish_value("$SYS/broker/version", version, ports);
        self.publish_value("$SYS/broker/uptime", &uptime.to_string(), ports);
        let shards = self.settings.shards.to_string();
        self.publish_value("$SYS/broker/shards", &shards, ports);
        // Every shard has all retained messages: they are counted once.
        let retained = self.retained.len().to_string();
        self.publish_value("$SYS/broker/retained/count", &retained, ports);
        let retained_bytes = self.retained.bytes().to_string();
        self.publish_value("$SYS/broker/retained/bytes", &retained_bytes, ports);
        let mut topic = String::new();
        for (name, value) in sums.topics() {
            topic.clear();
            topic.push_str("$SYS/broker/");
            topic.push_str(name);
            self.publish_value(&topic, &value.to_string(), ports);
        }
    }

    fn publish_value(&mut self, topic: &str, value: &str, ports: &mut impl Ports) {
        let view = MessageView {
            topic: TopicName::from_valid(topic),
            application: &[],
            payload: Payload::Small(value.as_bytes()),
            qos: QoS::AtMostOnce,
            retain: self.rules.offer.retain,
            expires_at: None,
            publisher: None,
            publisher_hash: 0,
        };
        self.route(&view, None, ports);
    }
}
