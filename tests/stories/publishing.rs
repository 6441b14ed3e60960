//! Messages from publishers to subscribers.

use ringmq::mqtt::{Delivery, Packet, Publish, QoS, Version};

use crate::{
    everywhere, join_as,
    packets::{ack, bytes, id, publish as packet},
    publish, subscriber,
    world::World,
};

/// [MQTT-2.2.1-5] [MQTT-3.3.4-1] [MQTT-3.8.4-8] [MQTT-4.3.1-1] [MQTT-4.3.2-1] [MQTT-4.3.2-2]
/// [MQTT-4.3.2-4] [MQTT-4.3.3-1] [MQTT-4.3.3-2] [MQTT-2.3.1-6@3.1.1] [MQTT-3.3.4-1@3.1.1]
/// [MQTT-3.8.4-5@3.1.1] [MQTT-4.3.1-1@3.1.1] [MQTT-4.3.2-1@3.1.1] [MQTT-4.3.2-2@3.1.1]
#[test]
fn every_qos_arrives_at_the_lower_of_the_two() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        for (granted, name) in
            [(QoS::AtMostOnce, "s0"), (QoS::AtLeastOnce, "s1"), (QoS::ExactlyOnce, "s2")]
        {
            subscriber(&mut world, version, name, "a/+", granted);
        }
        let publisher = join_as(&mut world, version, "publisher");
        publish(&mut world, publisher, version, "a/b", Delivery::AtMostOnce, "0");
        publish(&mut world, publisher, version, "a/b", Delivery::AtLeastOnce(id(7)), "1");
        publish(&mut world, publisher, version, "a/b", Delivery::ExactlyOnce(id(8)), "2");
        assert_eq!(world.received(publisher), ["PUBACK 7", "PUBREC 8"]);
        assert_eq!(world.received(0), ["PUBLISH a/b '0'", "PUBLISH a/b '1'", "PUBLISH a/b '2'"]);
        assert_eq!(
            world.received(1),
            ["PUBLISH a/b '0'", "PUBLISH a/b qos1 #1 '1'", "PUBLISH a/b qos1 #2 '2'"]
        );
        assert_eq!(
            world.received(2),
            ["PUBLISH a/b '0'", "PUBLISH a/b qos1 #1 '1'", "PUBLISH a/b qos2 #2 '2'"]
        );
    });
}

/// [MQTT-2.2.1-5] [MQTT-3.3.4-1] [MQTT-4.3.3-4] [MQTT-4.3.3-8] [MQTT-4.3.3-10] [MQTT-4.3.3-11]
/// [MQTT-2.3.1-6@3.1.1] [MQTT-3.3.4-1@3.1.1] [MQTT-4.3.3-1@3.1.1] [MQTT-4.3.3-2@3.1.1]
#[test]
fn the_qos_2_handshake_is_kept_both_ways() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let reader = subscriber(&mut world, version, "reader", "t", QoS::ExactlyOnce);
        let writer = join_as(&mut world, version, "writer");
        for _ in 0..2 {
            publish(&mut world, writer, version, "t", Delivery::ExactlyOnce(id(5)), "once");
            assert_eq!(world.received(writer), ["PUBREC 5"]);
        }
        world.send(writer, &bytes(&Packet::Pubrel(ack(5)), version));
        assert_eq!(world.received(writer), ["PUBCOMP 5"]);

        assert_eq!(world.received(reader), ["PUBLISH t qos2 #1 'once'"]);
        world.send(reader, &bytes(&Packet::Pubrec(ack(1)), version));
        assert_eq!(world.received(reader), ["PUBREL 1"]);
        world.send(reader, &bytes(&Packet::Pubcomp(ack(1)), version));
        assert_eq!(world.received(reader), [""; 0]);
    });
}

/// [MQTT-4.6.0-5] [MQTT-4.6.0-6] [MQTT-4.6.0-5@3.1.1] [MQTT-4.6.0-6@3.1.1]
#[test]
fn order_holds_for_each_publisher_whatever_the_shards() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let readers: Vec<_> = ["r0", "r1", "r2", "r3"]
            .map(|name| subscriber(&mut world, version, name, "#", QoS::AtMostOnce))
            .into();
        let writer = join_as(&mut world, version, "writer");
        let expected: Vec<_> = (0..100).map(|n| format!("PUBLISH t '{n}'")).collect();
        let mut all = Vec::new();
        for n in 0..100 {
            let payload = n.to_string();
            let publish = packet("t", Delivery::AtMostOnce, &payload);
            all.extend(bytes(&Packet::Publish(publish), version));
        }
        world.send(writer, &all);
        for reader in readers {
            assert_eq!(world.received(reader), expected);
        }
    });
}

/// [MQTT-3.5.2-1] [MQTT-3.3.5-2@3.1.1]
#[test]
fn sys_belongs_to_the_broker() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let reader = subscriber(&mut world, version, "reader", "$SYS/#", QoS::AtLeastOnce);
        let writer = join_as(&mut world, version, "writer");
        publish(&mut world, writer, version, "$SYS/x", Delivery::AtLeastOnce(id(1)), "fake");
        publish(&mut world, writer, version, "$SYS/x", Delivery::ExactlyOnce(id(2)), "fake");
        let answers: &[&str] = if version == Version::V5 {
            &["PUBACK 1 NotAuthorized", "PUBREC 2 NotAuthorized"]
        } else {
            &["PUBACK 1", "PUBREC 2"]
        };
        assert_eq!(world.received(writer), answers);
        assert_eq!(world.received(reader), [""; 0]);
        assert_eq!(world.counters().refused_publish, 2);
    });
}

/// [MQTT-3.4.2-1]
#[test]
fn a_publisher_learns_when_nobody_listens() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let writer = join_as(&mut world, Version::V5, "writer");
        publish(&mut world, writer, Version::V5, "t", Delivery::AtLeastOnce(id(1)), "");
        assert_eq!(world.received(writer), ["PUBACK 1 NoMatchingSubscribers"]);
    }
}

/// [MQTT-3.3.2-17] [MQTT-3.3.2-18]
#[test]
fn properties_travel_unaltered_and_only_to_those_who_can_read_them() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let modern = subscriber(&mut world, Version::V5, "modern", "t", QoS::AtMostOnce);
        let old = subscriber(&mut world, Version::V311, "old", "t", QoS::AtMostOnce);
        let writer = join_as(&mut world, Version::V5, "writer");
        let mut publish = packet("t", Delivery::AtMostOnce, "x");
        let pairs = [("b", "2"), ("a", "1"), ("b", "3")];
        publish.properties.application.user_properties =
            ringmq::mqtt::UserProperties::Pairs(&pairs);
        publish.properties.message_expiry_interval = Some(60);
        world.send(writer, &bytes(&Packet::Publish(publish), Version::V5));
        assert_eq!(world.received(modern), ["PUBLISH t expires 60s b=2 a=1 b=3 'x'"]);
        assert_eq!(world.received(old), ["PUBLISH t 'x'"]);
    }
}

/// [MQTT-3.2.2-17] [MQTT-3.3.2-9]
#[test]
fn a_topic_alias_stands_for_its_topic() {
    let mut world = World::new(2);
    let reader = subscriber(&mut world, Version::V5, "reader", "#", QoS::AtMostOnce);
    let writer = join_as(&mut world, Version::V5, "writer");
    let send = |world: &mut World, topic: &str, alias: u16| {
        let mut publish = packet(topic, Delivery::AtMostOnce, "x");
        publish.properties.topic_alias = std::num::NonZeroU16::new(alias);
        world.send(writer, &bytes(&Packet::Publish(publish), Version::V5));
    };
    send(&mut world, "first", 3);
    send(&mut world, "", 3);
    send(&mut world, "second", 3);
    send(&mut world, "", 3);
    let expected = ["first", "first", "second", "second"].map(|t| format!("PUBLISH {t} 'x'"));
    assert_eq!(world.received(reader), expected);
    send(&mut world, "third", 17);
    assert_eq!(world.received(writer), ["DISCONNECT TopicAliasInvalid"]);
}

#[test]
fn large_payloads_arrive_whole() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let payload = "0123456789".repeat(10_000);
        let reader = subscriber(&mut world, version, "reader", "t", QoS::ExactlyOnce);
        let writer = join_as(&mut world, version, "writer");
        for delivery in [Delivery::AtMostOnce, Delivery::ExactlyOnce(id(1))] {
            publish(&mut world, writer, version, "t", delivery, &payload);
        }
        let received = world.received(reader);
        assert_eq!(received[0], format!("PUBLISH t '{payload}'"));
        assert_eq!(received[1], format!("PUBLISH t qos2 #1 '{payload}'"));
    });
}

#[test]
fn packets_may_arrive_in_pieces_of_any_size() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let reader = subscriber(&mut world, version, "reader", "t", QoS::AtMostOnce);
        let writer = join_as(&mut world, version, "writer");
        let mut all = Vec::new();
        for payload in ["one", "two", "three"] {
            let publish = Publish { ..packet("t", Delivery::AtMostOnce, payload) };
            all.extend(bytes(&Packet::Publish(publish), version));
        }
        for piece in 1..all.len() {
            for bytes in all.chunks(piece) {
                world.send(writer, bytes);
            }
            let expected = ["one", "two", "three"].map(|p| format!("PUBLISH t '{p}'"));
            assert_eq!(world.received(reader), expected);
        }
    });
}
