//! Messages whose Message Expiry Interval has passed take no room.

use ringmq::{
    access::Policy,
    base::time::Span,
    mqtt::{Connect, Delivery, Packet, Publish, QoS, Version},
    session::queue::QueueLimits,
    shard::rules::Limits,
};

use crate::{
    SHARDS, join, join_as,
    packets::{
        ack, at, bytes, connect, disconnect, id, publish as packet, receive_maximum, resume,
        subscribe,
    },
    publish,
    world::{World, limits},
};

const V5: Version = Version::V5;

/// Publishes one message that expires after a second.
fn publish_fleeting(world: &mut World, writer: usize, topic: &str, retain: bool) {
    let mut publish = Publish { retain, ..packet(topic, Delivery::AtLeastOnce(id(1)), "old") };
    publish.properties.message_expiry_interval = Some(1);
    world.send(writer, &bytes(&Packet::Publish(publish), V5));
}

fn world_with_queues_of(shards: usize, messages_max: usize) -> World {
    let queue = QueueLimits { messages_max, bytes_max: 1 << 20 };
    let limits = Limits { queue, patience: Span::ZERO, ..limits() };
    World::with(shards, &limits, &Policy::default())
}

#[test]
fn the_queue_of_an_absent_session_has_room_once_its_messages_have_expired() {
    for shards in SHARDS {
        let mut world = world_with_queues_of(shards, 3);
        let away = join(&mut world, &resume(V5, "away"));
        world.send(away, &subscribe(V5, 1, &[("t", at(QoS::AtLeastOnce))]));
        world.send(away, &disconnect(V5));
        let writer = join_as(&mut world, V5, "writer");
        publish(&mut world, writer, V5, "t", Delivery::AtLeastOnce(id(1)), "1");
        for _ in 0..3 {
            publish_fleeting(&mut world, writer, "t", false);
        }
        assert_eq!(world.counters().dropped_queue_full, 1);
        world.pass(Span::from_secs(1));
        for payload in ["2", "3"] {
            publish(&mut world, writer, V5, "t", Delivery::AtLeastOnce(id(1)), payload);
        }
        let counters = world.counters();
        assert_eq!((counters.dropped_queue_full, counters.dropped_expired), (1, 2));
        let back = world.open(V5);
        world.send(back, &bytes(&Packet::Connect(resume(V5, "away")), V5));
        let came = ["1", "2", "3"].into_iter().zip(1..);
        let lines: Vec<_> =
            came.map(|(payload, n)| format!("PUBLISH t qos1 #{n} '{payload}'")).collect();
        assert_eq!(world.received(back)[1..], lines);
    }
}

#[test]
fn a_message_that_has_expired_before_it_could_be_sent_is_not_queued() {
    for shards in SHARDS {
        let queue = QueueLimits { messages_max: 2, bytes_max: 1 << 20 };
        let mut world = World::with(shards, &Limits { queue, ..limits() }, &Policy::default());
        let properties = receive_maximum(1);
        let reader = join(&mut world, &Connect { properties, ..connect(V5, "reader") });
        world.send(reader, &subscribe(V5, 1, &[("t", at(QoS::AtLeastOnce))]));
        let writer = join_as(&mut world, V5, "writer");
        for payload in ["1", "2", "3"] {
            publish(&mut world, writer, V5, "t", Delivery::AtLeastOnce(id(1)), payload);
        }
        let mut expired = packet("t", Delivery::AtLeastOnce(id(1)), "old");
        expired.properties.message_expiry_interval = Some(0);
        world.send(writer, &bytes(&Packet::Publish(expired), V5));
        let counters = world.counters();
        assert_eq!((counters.queued, counters.dropped_expired), (2, 1));
        assert_eq!(counters.dropped_queue_full, 0);
    }
}

#[test]
fn a_client_is_held_to_the_messages_that_are_alive() {
    for shards in SHARDS {
        let mut world = world_with_queues_of(shards, 4);
        let properties = receive_maximum(1);
        let reader = join(&mut world, &Connect { properties, ..connect(V5, "reader") });
        world.send(reader, &subscribe(V5, 1, &[("t", at(QoS::AtLeastOnce))]));
        let writer = join_as(&mut world, V5, "writer");
        publish(&mut world, writer, V5, "t", Delivery::AtLeastOnce(id(1)), "1");
        for _ in 0..10 {
            for _ in 0..4 {
                publish_fleeting(&mut world, writer, "t", false);
            }
            world.pass(Span::from_secs(1));
        }
        publish(&mut world, writer, V5, "t", Delivery::AtLeastOnce(id(1)), "2");
        world.send(reader, &bytes(&Packet::Puback(ack(1)), V5));
        let lines = ["SUBACK 1 [01]", "PUBLISH t qos1 #1 '1'", "PUBLISH t qos1 #2 '2'"];
        assert_eq!(world.received(reader), lines);
        assert_eq!(world.counters().dropped_expired, 40);
    }
}

#[test]
fn retained_messages_that_have_expired_make_room_at_once() {
    for shards in SHARDS {
        let limits = Limits { retained_max: 3, ..limits() };
        let mut world = World::with(shards, &limits, &Policy::default());
        let writer = join_as(&mut world, V5, "writer");
        for topic in ["a", "b", "c"] {
            publish_fleeting(&mut world, writer, topic, true);
        }
        publish_fleeting(&mut world, writer, "d", true);
        assert_eq!(world.received(writer)[3], "PUBACK 1 QuotaExceeded");
        world.pass(Span::from_secs(1));
        for topic in ["d", "e", "f"] {
            publish_fleeting(&mut world, writer, topic, true);
        }
        let accepted = "PUBACK 1 NoMatchingSubscribers";
        assert_eq!(world.received(writer), [accepted; 3]);
        let counters = world.counters();
        assert_eq!((counters.refused_retained, counters.dropped_expired >= 3), (1, true));
    }
}
