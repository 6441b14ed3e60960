//! What happens when something is full.

use std::collections::VecDeque;

use ringmq::{
    access::Policy,
    base::time::Span,
    mqtt::{Ack, Connect, Delivery, Packet, QoS, Version},
    session::queue::QueueLimits,
    shard::rules::Limits,
};

use crate::{
    everywhere, join, join_as,
    packets::{ack, at, bytes, connect, id, receive_maximum, resume, subscribe},
    publish, subscriber,
    world::{World, limits},
};

const PAYLOAD: &str = "0123456789012345678901234567890123456789";

mod messages;
mod patience;

fn narrow() -> Limits {
    Limits {
        outbox_bytes_max: 1000,
        queue: QueueLimits { messages_max: 10, bytes_max: 1 << 20 },
        inflight_max: 2,
        sessions_max: 3,
        subscriptions_max: 2,
        ..limits()
    }
}

/// The same with sessions for everybody.
fn roomy() -> Limits {
    Limits { sessions_max: 100, ..narrow() }
}

#[test]
fn a_reader_that_stops_reading_holds_its_publishers_back_for_a_while_only() {
    everywhere(|shards, version| {
        let mut world = World::with(shards, &roomy(), &Policy::default());
        let slow = subscriber(&mut world, version, "slow", "t", QoS::AtMostOnce);
        let fast = subscriber(&mut world, version, "fast", "t", QoS::AtMostOnce);
        let writer = join_as(&mut world, version, "writer");
        world.reads(slow, false);
        let mut sent = 0;
        while world.is_read_from(writer) {
            publish(&mut world, writer, version, "t", Delivery::AtMostOnce, PAYLOAD);
            sent += 1;
            assert!(sent < 1000, "the writer is held back");
        }
        assert_eq!(world.counters().dropped_outbox_full, 0);
        world.pass(Span::from_millis(300));
        assert!(world.is_read_from(writer));
        for _ in 0..100 {
            publish(&mut world, writer, version, "t", Delivery::AtMostOnce, PAYLOAD);
        }
        assert_eq!(world.received(fast).len(), sent + 100);
        assert!(world.counters().dropped_outbox_full > 0);
        world.reads(slow, true);
        let late = world.received(slow).len();
        let dropped = usize::try_from(world.counters().dropped_outbox_full).unwrap();
        assert_eq!(late + dropped, sent + 100);
        publish(&mut world, writer, version, "t", Delivery::AtMostOnce, PAYLOAD);
        assert_eq!(world.received(slow).len(), 1);
        assert_eq!(world.counters().patience_exhausted, 1);
    });
}

#[test]
fn a_reader_that_catches_up_lets_its_publishers_go_on_and_loses_nothing() {
    everywhere(|shards, version| {
        let mut world = World::with(shards, &roomy(), &Policy::default());
        let reader = subscriber(&mut world, version, "reader", "t", QoS::AtLeastOnce);
        let writer = join_as(&mut world, version, "writer");
        let mut all = Vec::new();
        for n in 1..=100 {
            let publish = crate::packets::publish("t", Delivery::AtLeastOnce(id(n)), PAYLOAD);
            all.extend(bytes(&Packet::Publish(publish), version));
        }
        world.send(writer, &all);
        if shards == 1 {
            assert!(!world.is_read_from(writer));
            assert!(world.received(writer).len() < 10, "acknowledgements wait");
        }
        let mut received = 0;
        for n in 1..=100 {
            received += world.received(reader).len();
            world.send(reader, &bytes(&Packet::Puback(ack(n)), version));
        }
        received += world.received(reader).len();
        assert_eq!(received, 100);
        assert_eq!(world.counters().dropped_queue_full, 0);
    });
}

/// A queue that empties fast stays short: 20 messages leave it every 100 µs, so 600 may wait for
/// 3 ms. Once it stands still, its publishers are not held back for long.
#[test]
fn messages_do_not_wait_for_long_in_the_queue_of_a_fast_reader() {
    everywhere(|shards, version| {
        let mut world = World::with(shards, &limits(), &Policy::default());
        let reader = subscriber(&mut world, version, "reader", "t", QoS::AtLeastOnce);
        let writer = join_as(&mut world, version, "writer");
        let (mut sent, mut received, mut longest) = (0, 0, 0);
        let mut unacknowledged = VecDeque::new();
        for round in 0..400 {
            sent += flood(&mut world, writer, version, 40, sent);
            let ids = world.received_ids(reader);
            received += ids.len();
            unacknowledged.extend(ids);
            for packet_id in unacknowledged.drain(..unacknowledged.len().min(20)) {
                world.send(reader, &bytes(&Packet::Puback(Ack::success(packet_id)), version));
            }
            world.pass(Span::from_micros(100));
            // The rate is not known at first.
            longest = if round < 100 { 0 } else { longest.max(sent - received) };
        }
        assert!((300..=700).contains(&longest), "{longest} messages have waited at once");
        while world.is_read_from(writer) && sent < 20_000 {
            sent += flood(&mut world, writer, version, 1, sent);
        }
        assert!(sent < 20_000, "the writer is held back");
        world.pass(Span::from_millis(50));
        assert!(world.is_read_from(writer), "patience is for slow readers");
        assert_eq!(world.counters().patience_exhausted, 0);
    });
}

/// Sends so many messages at QoS 1, or fewer if the broker stops reading. Says how many.
fn flood(world: &mut World, writer: usize, version: Version, most: usize, sent: usize) -> usize {
    let mut more = 0;
    while more < most && world.is_read_from(writer) {
        let packet_id = id(u16::try_from((sent + more) % 60_000 + 1).expect("it is below 60,001"));
        let packet = crate::packets::publish("t", Delivery::AtLeastOnce(packet_id), PAYLOAD);
        world.send(writer, &bytes(&Packet::Publish(packet), version));
        more += 1;
    }
    more
}

/// Whoever waits for acknowledgements of its own must have them read.
#[test]
fn two_clients_that_flood_each_other_do_not_block_each_other() {
    everywhere(|shards, version| {
        let mut world = World::with(shards, &roomy(), &Policy::default());
        let clients = ["one", "two"]
            .map(|name| subscriber(&mut world, version, name, name, QoS::AtLeastOnce));
        for n in 1..=40 {
            for (client, topic) in clients.into_iter().zip(["two", "one"]) {
                let packet = crate::packets::publish(topic, Delivery::AtLeastOnce(id(n)), PAYLOAD);
                world.send(client, &bytes(&Packet::Publish(packet), version));
            }
        }
        let (mut messages, mut acknowledged) = (0, 0);
        for _ in 0..200 {
            for client in clients {
                for line in world.received(client) {
                    acknowledged += usize::from(line.starts_with("PUBACK"));
                    let Some((_, rest)) = line.split_once('#') else { continue };
                    messages += 1;
                    let packet_id = rest.split(' ').next().unwrap().parse().unwrap();
                    world.send(client, &bytes(&Packet::Puback(ack(packet_id)), version));
                }
            }
        }
        assert_eq!((messages, acknowledged), (80, 80));
        assert_eq!(world.counters().patience_exhausted, 0);
    });
}

#[test]
fn a_reader_that_never_acknowledges_is_disconnected_at_its_limit() {
    everywhere(|shards, version| {
        let mut world = World::with(shards, &roomy(), &Policy::default());
        let stuck = subscriber(&mut world, version, "stuck", "t", QoS::AtLeastOnce);
        let writer = join_as(&mut world, version, "writer");
        for n in 1..=30 {
            publish(&mut world, writer, version, "t", Delivery::AtLeastOnce(id(n)), PAYLOAD);
            world.pass(Span::from_millis(100));
        }
        assert!(world.is_closed(stuck));
        assert_eq!(world.counters().ended_quota, 1);
        let received = world.received(stuck);
        assert_eq!(
            &received[..2],
            ["qos1 #1", "qos1 #2"].map(|m| format!("PUBLISH t {m} '{PAYLOAD}'"))
        );
        if version == Version::V5 {
            assert_eq!(received[2], "DISCONNECT QuotaExceeded");
        }
        assert_eq!(world.received(writer).len(), 30);
        assert!(world.is_read_from(writer));
    });
}

#[test]
fn the_queue_of_an_absent_client_keeps_the_oldest() {
    everywhere(|shards, version| {
        let mut world = World::with(shards, &narrow(), &Policy::default());
        let client = join(&mut world, &resume(version, "away"));
        world.send(client, &subscribe(version, 1, &[("t", at(QoS::AtLeastOnce))]));
        world.break_off(client);
        let writer = join_as(&mut world, version, "writer");
        for n in 1..=15 {
            publish(&mut world, writer, version, "t", Delivery::AtLeastOnce(id(n)), "x");
        }
        assert_eq!(world.received(writer).len(), 15);
        assert_eq!(world.counters().dropped_queue_full, 5);
    });
}

/// [MQTT-3.1.2-25]
#[test]
fn a_message_too_large_for_one_client_is_dropped_for_it_alone() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let mut connect = connect(Version::V5, "small");
        connect.properties.maximum_packet_size = std::num::NonZeroU32::new(30);
        let small = join(&mut world, &connect);
        let large = join_as(&mut world, Version::V5, "large");
        let filters = [("t", at(QoS::AtLeastOnce))];
        for reader in [small, large] {
            world.send(reader, &subscribe(Version::V5, 1, &filters));
            world.received(reader);
        }
        let writer = join_as(&mut world, Version::V5, "writer");
        for delivery in [Delivery::AtMostOnce, Delivery::AtLeastOnce(id(1))] {
            publish(&mut world, writer, Version::V5, "t", delivery, PAYLOAD);
        }
        publish(&mut world, writer, Version::V5, "t", Delivery::AtLeastOnce(id(2)), "x");
        assert_eq!(world.received(small), ["PUBLISH t qos1 #1 'x'"]);
        assert_eq!(world.received(large).len(), 3);
        assert_eq!(world.counters().dropped_too_large, 2);
    }
}

/// [MQTT-3.3.4-7]
#[test]
fn a_client_beyond_the_receive_maximum_is_disconnected() {
    let limits = Limits { receive_maximum: 2, ..limits() };
    let mut world = World::with(2, &limits, &Policy::default());
    let client =
        join(&mut world, &Connect { properties: receive_maximum(9), ..connect(Version::V5, "c") });
    for n in 1..=3 {
        publish(&mut world, client, Version::V5, "t", Delivery::ExactlyOnce(id(n)), "");
    }
    let received = world.received(client);
    assert_eq!(received[2], "DISCONNECT ReceiveMaximumExceeded");
}

/// [MQTT-3.8.4-5] [MQTT-3.8.4-6] [MQTT-3.8.4-7] [MQTT-3.9.3-2] [MQTT-3.8.4-4@3.1.1]
#[test]
fn sessions_and_subscriptions_have_limits() {
    let mut world = World::with(1, &narrow(), &Policy::default());
    let client = join_as(&mut world, Version::V5, "a");
    let filters = ["1", "2", "3", "2"].map(|filter| (filter, at(QoS::AtMostOnce)));
    world.send(client, &subscribe(Version::V5, 1, &filters));
    assert_eq!(world.received(client), ["SUBACK 1 [00, 00, 97, 00]"]);
    join_as(&mut world, Version::V5, "b");
    let last = join_as(&mut world, Version::V311, "c");
    let refused = world.open(Version::V5);
    world.send(refused, &bytes(&Packet::Connect(connect(Version::V5, "d")), Version::V5));
    assert_eq!(world.received(refused), ["CONNACK QuotaExceeded"]);
    world.break_off(last);
    join_as(&mut world, Version::V5, "d");
}
