//! Topic Aliases towards clients: what stands for topics that come again.

use std::{
    collections::BTreeMap,
    num::{NonZeroU16, NonZeroU32},
};

use ringmq::{
    access::Policy,
    mqtt::{
        Connect, ConnectProperties, Delivery, Packet, Publish, QoS, ReasonCode, Subscribe,
        SubscribeFilters, UserProperties, Version,
    },
    shard::rules::Limits,
};

use crate::{
    SHARDS, join, join_as,
    packets::{ack, at, bytes, connect, id, resume, subscribe},
    publish, retain,
    world::{World, limits},
};

const V5: Version = Version::V5;
const TOPIC: &str = "site/7/temperature";

/// A CONNECT of a client that takes so many aliases, and whose session stays.
fn taking(topic_alias_maximum: u16, client_id: &str) -> Connect<'_> {
    let resume = resume(V5, client_id);
    let properties = ConnectProperties { topic_alias_maximum, ..resume.properties };
    Connect { properties, ..resume }
}

/// A client that takes so many aliases and has subscribed.
fn reader(world: &mut World, topic_alias_maximum: u16, filter: &str, qos: QoS) -> usize {
    let client = join(world, &taking(topic_alias_maximum, "reader"));
    world.send(client, &subscribe(V5, 1, &[(filter, at(qos))]));
    world.received(client);
    client
}

/// Sends messages at QoS 0.
fn send(world: &mut World, writer: usize, topic: &str, payloads: &[&str]) {
    for payload in payloads {
        publish(world, writer, V5, topic, Delivery::AtMostOnce, payload);
    }
}

/// What a client makes of the topics that it is sent, by what it has been told on its connection.
#[derive(Default)]
struct Names(BTreeMap<NonZeroU16, String>);

impl Names {
    fn resolve(&mut self, publish: &Publish<'_>) -> String {
        match publish.properties.topic_alias {
            Some(alias) if publish.topic.is_empty() => self.0[&alias].clone(),
            Some(alias) => {
                self.0.insert(alias, publish.topic.to_owned());
                publish.topic.to_owned()
            }
            None => publish.topic.to_owned(),
        }
    }
}

/// [MQTT-3.3.2-11]
#[test]
fn a_topic_that_comes_again_gets_an_alias() {
    for shards in SHARDS {
        for topics in [1, 4] {
            let mut world = World::new(shards);
            let reader = reader(&mut world, topics, "site/#", QoS::AtMostOnce);
            let plain = join_as(&mut world, V5, "plain");
            world.send(plain, &subscribe(V5, 1, &[("site/#", at(QoS::AtMostOnce))]));
            world.received(plain);
            let writer = join_as(&mut world, V5, "writer");
            send(&mut world, writer, TOPIC, &["1", "2", "3", "4"]);
            assert_eq!(
                world.received(reader),
                [
                    "PUBLISH site/7/temperature '1'",
                    "PUBLISH site/7/temperature alias 1 '2'",
                    "PUBLISH alias 1 '3'",
                    "PUBLISH alias 1 '4'",
                ]
            );
            let in_full = ["1", "2", "3", "4"].map(|n| format!("PUBLISH {TOPIC} '{n}'"));
            assert_eq!(world.received(plain), in_full);
        }
    }
}

/// A hundred messages of 64 bytes to a topic of 100 cost less than half of the bytes.
#[test]
fn a_long_topic_is_sent_twice_and_no_more() {
    let topic = "t".repeat(100);
    let payload = "x".repeat(64);
    let mut sizes = Vec::new();
    for maximum in [0, 8] {
        let mut world = World::new(2);
        let reader = reader(&mut world, maximum, "#", QoS::AtMostOnce);
        let writer = join_as(&mut world, V5, "writer");
        send(&mut world, writer, &topic, &[&*payload; 100]);
        sizes.push(world.received_bytes(reader).len());
    }
    assert_eq!(sizes, [100 * 170, 170 + 173 + 98 * 72]);
}

/// [MQTT-3.1.2-26] [MQTT-3.1.2-27]
#[test]
fn clients_without_aliases_and_brokers_without_them_name_topics_in_full() {
    for shards in SHARDS {
        for (maximum, allowed) in [(0, 32), (5, 0)] {
            let limits = Limits { topic_aliases_max: allowed, ..limits() };
            let mut world = World::with(shards, &limits, &Policy::default());
            let reader = reader(&mut world, maximum, "site/#", QoS::AtMostOnce);
            let writer = join_as(&mut world, V5, "writer");
            send(&mut world, writer, TOPIC, &["1", "2", "3"]);
            let in_full = ["1", "2", "3"].map(|n| format!("PUBLISH {TOPIC} '{n}'"));
            assert_eq!(world.received(reader), in_full);
        }
    }
}

#[test]
fn the_broker_uses_no_more_than_it_wants_to() {
    let limits = Limits { topic_aliases_max: 3, ..limits() };
    let mut world = World::with(2, &limits, &Policy::default());
    let reader = reader(&mut world, u16::MAX, "site/#", QoS::AtMostOnce);
    let writer = join_as(&mut world, V5, "writer");
    let mut highest = 0;
    for n in 0..200 {
        send(&mut world, writer, &format!("site/{}/temperature", n % 7), &["x"]);
        world.look(reader, |packet| {
            let Ok(Packet::Publish(publish)) = packet else { panic!("{packet:?}") };
            let alias = publish.properties.topic_alias.map_or(0, NonZeroU16::get);
            highest = highest.max(alias);
        });
    }
    assert_eq!(highest, 3);
}

#[test]
fn an_alias_out_of_use_is_given_to_another_topic() {
    for shards in SHARDS {
        let mut world = World::new(shards);
        let reader = reader(&mut world, 1, "site/#", QoS::AtMostOnce);
        let writer = join_as(&mut world, V5, "writer");
        send(&mut world, writer, TOPIC, &["1", "2", "3"]);
        world.received(reader);
        send(&mut world, writer, "site/8/humidity", &["1", "2", "3", "4"]);
        assert_eq!(
            world.received(reader),
            [
                "PUBLISH site/8/humidity '1'",
                "PUBLISH site/8/humidity '2'",
                "PUBLISH site/8/humidity alias 1 '3'",
                "PUBLISH alias 1 '4'",
            ]
        );
        send(&mut world, writer, TOPIC, &["4"]);
        assert_eq!(world.received(reader), ["PUBLISH site/7/temperature '4'"]);
    }
}

#[test]
fn messages_at_every_qos_use_the_same_aliases() {
    for shards in SHARDS {
        let mut world = World::new(shards);
        let reader = reader(&mut world, 9, "site/#", QoS::ExactlyOnce);
        let writer = join_as(&mut world, V5, "writer");
        let deliveries = [
            Delivery::AtLeastOnce(id(1)),
            Delivery::ExactlyOnce(id(2)),
            Delivery::AtMostOnce,
            Delivery::AtLeastOnce(id(3)),
        ];
        for delivery in deliveries {
            publish(&mut world, writer, V5, TOPIC, delivery, "x");
        }
        assert_eq!(
            world.received(reader),
            [
                "PUBLISH site/7/temperature qos1 #1 'x'",
                "PUBLISH site/7/temperature alias 1 qos2 #2 'x'",
                "PUBLISH alias 1 'x'",
                "PUBLISH alias 1 qos1 #3 'x'",
            ]
        );
    }
}

#[test]
fn large_payloads_and_properties_come_along() {
    for shards in SHARDS {
        let mut world = World::new(shards);
        let reader = reader(&mut world, 9, "site/#", QoS::AtLeastOnce);
        let writer = join_as(&mut world, V5, "writer");
        let payload = "x".repeat(20_000);
        let mut message = crate::packets::publish(TOPIC, Delivery::AtMostOnce, &payload);
        message.properties.message_expiry_interval = Some(7);
        message.properties.application.content_type = Some("text");
        for _ in 0..3 {
            world.send(writer, &bytes(&Packet::Publish(message), V5));
        }
        let mut seen = Vec::new();
        let mut names = Names::default();
        world.look(reader, |packet| {
            let Ok(Packet::Publish(publish)) = packet else { panic!("{packet:?}") };
            assert_eq!(names.resolve(&publish), TOPIC);
            assert_eq!(publish.properties.message_expiry_interval, Some(7));
            assert_eq!(publish.properties.application.content_type, Some("text"));
            assert_eq!(publish.payload, payload.as_bytes());
            seen.push(publish.topic.len());
        });
        assert_eq!(seen, [TOPIC.len(), TOPIC.len(), 0]);
    }
}

#[test]
fn subscription_identifiers_and_aliases_go_together() {
    for shards in SHARDS {
        let mut world = World::new(shards);
        let client = join(&mut world, &taking(4, "reader"));
        let by = |identifier, filter| {
            let subscribe = Subscribe {
                packet_id: id(1),
                subscription_identifier: NonZeroU32::new(identifier),
                user_properties: UserProperties::default(),
                filters: SubscribeFilters::List(&[(filter, at(QoS::AtMostOnce))]),
            };
            bytes(&Packet::Subscribe(subscribe), V5)
        };
        world.send(client, &by(7, "site/#"));
        world.send(client, &by(300, "site/+/temperature"));
        world.received(client);
        let writer = join_as(&mut world, V5, "writer");
        send(&mut world, writer, TOPIC, &["1", "2", "3"]);
        let lines = world.received(client);
        let ids = |line: &String| line.contains("ids [7, 300]") || line.contains("ids [300, 7]");
        assert!(lines.iter().all(ids), "{lines:?}");
        assert!(lines[1].starts_with("PUBLISH site/7/temperature alias 1 "), "{lines:?}");
        assert!(lines[2].starts_with("PUBLISH alias 1 ids"), "{lines:?}");
    }
}

/// [MQTT-3.3.2-7]
#[test]
fn no_alias_outlives_its_connection_and_what_is_sent_again_has_its_topic() {
    for shards in SHARDS {
        for taken_over in [false, true] {
            let mut world = World::new(shards);
            let first = reader(&mut world, 4, "site/#", QoS::AtLeastOnce);
            let writer = join_as(&mut world, V5, "writer");
            for n in 1..=3 {
                publish(&mut world, writer, V5, TOPIC, Delivery::AtLeastOnce(id(n)), "x");
            }
            let sent = world.received(first);
            assert_eq!(sent[2], "PUBLISH alias 1 qos1 #3 'x'");
            if !taken_over {
                world.break_off(first);
            }
            let second = world.open(V5);
            world.send(second, &bytes(&Packet::Connect(taking(4, "reader")), V5));
            let again = [1, 2, 3].map(|n| format!("PUBLISH {TOPIC} qos1 #{n} dup 'x'"));
            let received = world.received(second);
            assert_eq!(received[0], "CONNACK Success session present");
            assert_eq!(received[1..], again);
            publish(&mut world, writer, V5, TOPIC, Delivery::AtLeastOnce(id(4)), "x");
            assert_eq!(world.received(second), [format!("PUBLISH {TOPIC} qos1 #4 'x'")]);
            // One that takes none has none left over either.
            let third = join(&mut world, &taking(0, "reader"));
            world.received(third);
            publish(&mut world, writer, V5, TOPIC, Delivery::AtMostOnce, "x");
            assert_eq!(world.received(third), [format!("PUBLISH {TOPIC} 'x'")]);
        }
    }
}

#[test]
fn what_waited_in_the_queue_uses_aliases_when_it_is_sent() {
    let limits = Limits { inflight_max: 1, ..limits() };
    for shards in SHARDS {
        let mut world = World::with(shards, &limits, &Policy::default());
        let reader = reader(&mut world, 4, "site/#", QoS::AtLeastOnce);
        let writer = join_as(&mut world, V5, "writer");
        for n in 1..=4 {
            publish(&mut world, writer, V5, TOPIC, Delivery::AtLeastOnce(id(n)), "x");
        }
        for n in 1..=4 {
            world.send(reader, &bytes(&Packet::Puback(ack(n)), V5));
        }
        assert_eq!(
            world.received(reader),
            [
                "PUBLISH site/7/temperature qos1 #1 'x'",
                "PUBLISH site/7/temperature alias 1 qos1 #2 'x'",
                "PUBLISH alias 1 qos1 #3 'x'",
                "PUBLISH alias 1 qos1 #4 'x'",
            ]
        );
    }
}

#[test]
fn retained_messages_use_aliases_when_they_are_replayed_again() {
    for shards in SHARDS {
        let mut world = World::new(shards);
        let writer = join_as(&mut world, V5, "writer");
        retain(&mut world, writer, V5, TOPIC, "20.5");
        let reader = join(&mut world, &taking(4, "reader"));
        let mut seen = Vec::new();
        for packet_id in 1..=4 {
            world.send(reader, &subscribe(V5, packet_id, &[("site/#", at(QoS::AtMostOnce))]));
            let lines = world.received(reader);
            seen.extend(lines.into_iter().filter(|line| line.starts_with("PUBLISH")));
        }
        assert_eq!(
            seen,
            [
                "PUBLISH site/7/temperature retain '20.5'",
                "PUBLISH site/7/temperature alias 1 retain '20.5'",
                "PUBLISH alias 1 retain '20.5'",
                "PUBLISH alias 1 retain '20.5'",
            ]
        );
    }
}

/// The PUBLISH that would tell an alias is dropped at a full outbox: the alias means nothing.
#[test]
fn an_alias_is_not_used_before_the_client_has_been_told() {
    for shards in SHARDS {
        let limits =
            Limits { outbox_bytes_max: 60, patience: ringmq::base::time::Span::ZERO, ..limits() };
        let mut world = World::with(shards, &limits, &Policy::default());
        let reader = reader(&mut world, 4, "site/#", QoS::AtMostOnce);
        let writer = join_as(&mut world, V5, "writer");
        send(&mut world, writer, TOPIC, &["1"]);
        world.received(reader);
        world.reads(reader, false);
        send(&mut world, writer, "site/8/humidity", &["a", "b", "c", "d"]);
        send(&mut world, writer, TOPIC, &["2", "3"]);
        assert!(world.counters().dropped_outbox_full > 0);
        world.reads(reader, true);
        let read = world.received(reader);
        assert!(!read.iter().any(|line| line.contains("'2'")), "{read:?}");
        send(&mut world, writer, TOPIC, &["4", "5"]);
        let read = world.received(reader);
        let told = read[0].strip_prefix("PUBLISH site/7/temperature alias ").expect("in full");
        let alias = told.strip_suffix(" '4'").expect("the payload");
        assert_eq!(read[1], format!("PUBLISH alias {alias} '5'"));
    }
}

/// What counts is the packet as it is sent: with an alias alone it may be small enough, and with
/// an alias besides the topic too large by three bytes. [MQTT-3.1.2-25]
#[test]
fn the_size_of_a_packet_is_that_with_its_alias() {
    let in_full = 2 + 2 + TOPIC.len() + 1;
    for (room, payload, expected) in [
        // Room for the topic, the alias and this payload.
        (3 + 4, "abcd", vec!["alone", "both", "alias", "alias"]),
        // Room for the topic and this payload, or the alias and this payload.
        (6, "abcd", vec!["alone", "alone", "alone", "alone"]),
        // Room for this payload without the topic only.
        (3, "abcd", vec![]),
    ] {
        let mut world = World::new(1);
        let mut connect = taking(4, "reader");
        connect.properties.maximum_packet_size =
            NonZeroU32::new(u32::try_from(in_full + room).expect("small"));
        let reader = world.open(V5);
        world.send(reader, &bytes(&Packet::Connect(connect), V5));
        world.send(reader, &subscribe(V5, 1, &[("site/#", at(QoS::AtMostOnce))]));
        world.received(reader);
        let writer = join_as(&mut world, V5, "writer");
        send(&mut world, writer, TOPIC, &[payload; 4]);
        let mut seen = Vec::new();
        world.look(reader, |packet| {
            let Ok(Packet::Publish(publish)) = packet else { panic!("{packet:?}") };
            let alias = publish.properties.topic_alias.is_some();
            seen.push(match (publish.topic.is_empty(), alias) {
                (false, false) => "alone",
                (false, true) => "both",
                (true, _) => "alias",
            });
        });
        assert_eq!(seen, expected, "{room}");
        if room == 3 {
            // Told with a smaller payload, the alias makes the large one small enough.
            send(&mut world, writer, TOPIC, &["", "", "abcd"]);
            world.look(reader, |packet| {
                let Ok(Packet::Publish(publish)) = packet else { panic!("{packet:?}") };
                seen.push(if publish.payload.is_empty() { "told" } else { "large" });
            });
            assert_eq!(seen.last(), Some(&"large"));
        }
    }
}

/// Whatever comes, however slowly it is read: each payload says the topic that it was sent to.
#[test]
fn a_client_that_reads_now_and_then_understands_every_topic() {
    for shards in SHARDS {
        let limits = Limits {
            outbox_bytes_max: 400,
            patience: ringmq::base::time::Span::from_millis(1),
            ..limits()
        };
        let mut world = World::with(shards, &limits, &Policy::default());
        let client = reader(&mut world, 3, "site/#", QoS::AtLeastOnce);
        let writer = join_as(&mut world, V5, "writer");
        let (mut names, mut random) = (Names::default(), 7_u64);
        let (mut by_alias, mut packet_id) = (0, 0);
        for round in 0..3_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let which = random >> 60;
            let topic = format!("site/{}/temperature", which * which / 16);
            packet_id = packet_id % 60_000 + 1;
            let delivery = match random >> 33 & 3 {
                0 => Delivery::AtLeastOnce(id(packet_id)),
                _ => Delivery::AtMostOnce,
            };
            publish(&mut world, writer, V5, &topic, delivery, &topic);
            world.pass(ringmq::base::time::Span::from_millis(2));
            world.reads(client, round / 16 % 3 > 0);
            let mut acknowledge = Vec::new();
            world.look(client, |packet| {
                let Ok(Packet::Publish(publish)) = packet else { panic!("{packet:?}") };
                by_alias += usize::from(publish.topic.is_empty());
                assert_eq!(names.resolve(&publish).as_bytes(), publish.payload);
                acknowledge.extend(publish.delivery.packet_id());
            });
            for packet_id in acknowledge {
                let puback = ringmq::mqtt::Ack::with_reason(packet_id, ReasonCode::Success);
                world.send(client, &bytes(&Packet::Puback(puback), V5));
            }
        }
        assert!(by_alias > 500, "{by_alias}");
        assert!(world.counters().dropped_outbox_full > 0);
    }
}

/// Clients of all kinds side by side: each gets its own form of the same message.
#[test]
fn one_message_goes_out_in_many_forms() {
    for shards in SHARDS {
        let mut world = World::new(shards);
        let mut clients = Vec::new();
        for n in 0..12 {
            let name = format!("client {n}");
            let version = if n % 4 == 3 { Version::V311 } else { V5 };
            let topic_alias_maximum = if version == V5 { n % 3 } else { 0 };
            let plain = connect(version, &name);
            let properties = ConnectProperties { topic_alias_maximum, ..plain.properties };
            let client = join(&mut world, &Connect { properties, ..plain });
            let qos = QoS::ALL[usize::from(n) % 3];
            world.send(client, &subscribe(version, 1, &[("site/#", at(qos))]));
            // Those that came before have aliases already.
            let writer = join_as(&mut world, V5, "warm up");
            send(&mut world, writer, TOPIC, &["x"]);
            world.received(client);
            clients.push((client, Names::default()));
        }
        for (client, _) in &clients {
            world.received(*client);
        }
        let writer = join_as(&mut world, V5, "writer");
        for n in 1..=3 {
            publish(&mut world, writer, V5, "site/1/humidity", Delivery::ExactlyOnce(id(n)), "x");
        }
        for (client, names) in &mut clients {
            let mut seen = 0;
            world.look(*client, |packet| {
                let Ok(Packet::Publish(publish)) = packet else { panic!("{packet:?}") };
                assert_eq!(names.resolve(&publish), "site/1/humidity");
                assert_eq!(publish.payload, b"x");
                seen += 1;
            });
            assert_eq!(seen, 3);
        }
    }
}
