//! Subscriptions and retained messages.

use std::num::NonZeroU32;

use ringmq::mqtt::{
    Delivery, Packet, QoS, RetainHandling, Subscribe, SubscribeFilters, SubscriptionOptions,
    UserProperties, Version,
};

use crate::{
    everywhere, join, join_as,
    packets::{at, bytes, id, resume, subscribe, unsubscribe},
    publish, retain, subscriber,
    world::World,
};

/// [MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-7] [MQTT-3.3.1-9] [MQTT-3.3.1-12] [MQTT-3.3.1-5@3.1.1]
/// [MQTT-3.3.1-6@3.1.1] [MQTT-3.3.1-7@3.1.1] [MQTT-3.3.1-8@3.1.1] [MQTT-3.3.1-9@3.1.1]
/// [MQTT-3.3.1-10@3.1.1] [MQTT-3.3.1-11@3.1.1]
#[test]
fn a_retained_message_greets_new_subscribers() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let early = subscriber(&mut world, version, "early", "room/+", QoS::AtMostOnce);
        let writer = join_as(&mut world, version, "writer");
        retain(&mut world, writer, version, "room/1", "old");
        retain(&mut world, writer, version, "room/1", "new");
        retain(&mut world, writer, version, "room/2", "other");
        retain(&mut world, writer, version, "room/2", "");
        let live = ["1 'old'", "1 'new'", "2 'other'", "2 ''"].map(|m| format!("PUBLISH room/{m}"));
        assert_eq!(world.received(early), live);
        for (client_id, filter) in [("a", "room/+"), ("b", "#"), ("c", "room/1"), ("d", "+/1/#")] {
            let late = subscriber_lines(&mut world, version, client_id, filter);
            assert_eq!(late, ["SUBACK 1 [00]", "PUBLISH room/1 retain 'new'"], "{filter}");
        }
    });
}

fn subscriber_lines(
    world: &mut World,
    version: Version,
    client_id: &str,
    filter: &str,
) -> Vec<String> {
    let client = join_as(world, version, client_id);
    world.send(client, &subscribe(version, 1, &[(filter, at(QoS::AtMostOnce))]));
    world.received(client)
}

/// [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.8.4-3] [MQTT-3.8.4-4] [MQTT-3.8.4-1@3.1.1]
/// [MQTT-3.8.4-2@3.1.1] [MQTT-3.8.4-3@3.1.1]
#[test]
fn subscribing_again_replaces_and_replays() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let reader = subscriber(&mut world, version, "reader", "t", QoS::AtLeastOnce);
        let writer = join_as(&mut world, version, "writer");
        retain(&mut world, writer, version, "t", "kept");
        world.received(reader);
        world.send(reader, &subscribe(version, 2, &[("t", at(QoS::AtMostOnce))]));
        assert_eq!(world.received(reader), ["SUBACK 2 [00]", "PUBLISH t retain 'kept'"]);
        publish(&mut world, writer, version, "t", Delivery::AtLeastOnce(id(1)), "live");
        assert_eq!(world.received(reader), ["PUBLISH t 'live'"]);
        assert_eq!(world.counters().subscriptions, 1);
    });
}

/// [MQTT-3.3.4-2] [MQTT-3.8.4-5] [MQTT-3.9.3-1] [MQTT-3.3.5-1@3.1.1] [MQTT-3.8.4-4@3.1.1]
/// [MQTT-3.9.3-1@3.1.1]
#[test]
fn overlapping_subscriptions_deliver_once_at_the_highest_qos() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let reader = join_as(&mut world, version, "reader");
        let filters = [
            ("a/#", at(QoS::AtMostOnce)),
            ("a/+", at(QoS::ExactlyOnce)),
            ("a/b", at(QoS::AtLeastOnce)),
        ];
        world.send(reader, &subscribe(version, 1, &filters));
        assert_eq!(world.received(reader), ["SUBACK 1 [00, 02, 01]"]);
        let writer = join_as(&mut world, version, "writer");
        publish(&mut world, writer, version, "a/b", Delivery::ExactlyOnce(id(1)), "x");
        assert_eq!(world.received(reader), ["PUBLISH a/b qos2 #1 'x'"]);
    });
}

/// [MQTT-3.10.4-1] [MQTT-3.10.4-2] [MQTT-3.10.4-4] [MQTT-3.10.4-6] [MQTT-3.11.3-1] [MQTT-3.11.3-2]
/// [MQTT-3.10.4-1@3.1.1] [MQTT-3.10.4-2@3.1.1] [MQTT-3.10.4-4@3.1.1] [MQTT-3.10.4-6@3.1.1]
#[test]
fn nothing_comes_after_unsubscribe() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let reader = subscriber(&mut world, version, "reader", "t", QoS::AtMostOnce);
        let writer = join_as(&mut world, version, "writer");
        world.send(reader, &unsubscribe(version, 3, &["t", "u"]));
        let codes = if version == Version::V5 { "[00, 11]" } else { "[]" };
        assert_eq!(world.received(reader), [format!("UNSUBACK 3 {codes}")]);
        publish(&mut world, writer, version, "t", Delivery::AtMostOnce, "x");
        assert_eq!(world.received(reader), [""; 0]);
        assert_eq!(world.counters().subscriptions, 0);
    });
}

/// [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.1-2@3.1.1] [MQTT-4.7.1-3@3.1.1]
#[test]
fn a_filter_that_is_none_closes_the_connection() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        for (n, filter) in ["a/#/b", "a+", "#b", "$share/g"].into_iter().enumerate() {
            let client = join_as(&mut world, version, &n.to_string());
            world.send(client, &subscribe(version, 1, &[(filter, at(QoS::AtMostOnce))]));
            assert!(world.is_closed(client), "{filter}");
        }
        assert_eq!(world.counters().subscriptions, 0);
    });
}

/// [MQTT-3.3.2-3] [MQTT-4.7.2-1] [MQTT-3.3.2-3@3.1.1] [MQTT-4.7.2-1@3.1.1]
#[test]
fn wildcards_keep_to_their_levels() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let matching = |name: &str| -> &[&str] {
            match name {
                "a" => &["#", "+", "a/#"],
                "a/b" => &["#", "a/#", "a/+", "+/+", "+/b/#"],
                "/a" => &["#", "/+", "+/+"],
                "a/" => &["#", "a/#", "a/+", "+/+"],
                "$a/b" => &["$a/+", "$a/#"],
                _ => &[],
            }
        };
        let filters = ["#", "+", "a/#", "a/+", "+/+", "+/b/#", "/+", "$a/+", "$a/#", "A", "a/b/c"];
        let readers: Vec<_> = filters
            .iter()
            .map(|filter| subscriber(&mut world, version, filter, filter, QoS::AtMostOnce))
            .collect();
        let writer = join_as(&mut world, version, "writer");
        for name in ["a", "a/b", "/a", "a/", "$a/b"] {
            publish(&mut world, writer, version, name, Delivery::AtMostOnce, "");
            for (reader, filter) in readers.iter().zip(filters) {
                let got = !world.received(*reader).is_empty();
                assert_eq!(got, matching(name).contains(&filter), "{filter} and {name}");
            }
        }
    });
}

#[test]
fn sixty_five_thousand_slashes_are_a_topic_like_any_other() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let topic = "/".repeat(65_535);
        let exact = subscriber(&mut world, version, "exact", &topic, QoS::AtMostOnce);
        let every = subscriber(&mut world, version, "every", "/#", QoS::AtMostOnce);
        let deep = format!("{}#", "+/".repeat(32_767));
        subscriber(&mut world, version, "deep", &deep, QoS::AtMostOnce);
        let writer = join_as(&mut world, version, "writer");
        publish(&mut world, writer, version, &topic, Delivery::AtMostOnce, "x");
        for reader in [exact, every] {
            assert_eq!(world.received(reader), [format!("PUBLISH {topic} 'x'")]);
        }
    });
}

/// [MQTT-3.3.1-10] [MQTT-3.3.1-11] [MQTT-3.3.1-13] [MQTT-3.8.3-3]
#[test]
fn subscription_options_of_5_0_are_kept() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let version = Version::V5;
        let client = join_as(&mut world, version, "client");
        let options = SubscriptionOptions {
            no_local: true,
            retain_as_published: true,
            ..at(QoS::AtMostOnce)
        };
        world.send(client, &subscribe(version, 1, &[("t", options)]));
        world.received(client);
        retain(&mut world, client, version, "t", "own");
        assert_eq!(world.received(client), [""; 0]);
        let other = join_as(&mut world, version, "other");
        retain(&mut world, other, version, "t", "kept");
        assert_eq!(world.received(client), ["PUBLISH t retain 'kept'"]);

        let handling = |retain_handling| SubscriptionOptions { retain_handling, ..options };
        let never = handling(RetainHandling::DoNotSend);
        world.send(client, &subscribe(version, 2, &[("t", never), ("+", never)]));
        assert_eq!(world.received(client), ["SUBACK 2 [00, 00]"]);
        let if_new = handling(RetainHandling::SendIfNew);
        world.send(client, &subscribe(version, 3, &[("t", if_new)]));
        assert_eq!(world.received(client), ["SUBACK 3 [00]"]);
        world.send(client, &subscribe(version, 4, &[("#", if_new)]));
        assert_eq!(world.received(client), ["SUBACK 4 [00]", "PUBLISH t retain 'kept'"]);
    }
}

/// [MQTT-3.3.4-3] [MQTT-3.3.4-4]
#[test]
fn a_message_carries_the_identifiers_of_all_subscriptions_that_it_matched() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let client = join_as(&mut world, Version::V5, "client");
        for (number, filter) in [(10, "a/#"), (300, "a/+")] {
            let filters = [(filter, at(QoS::AtLeastOnce))];
            let packet = Subscribe {
                packet_id: id(1),
                subscription_identifier: NonZeroU32::new(number),
                user_properties: UserProperties::default(),
                filters: SubscribeFilters::List(&filters[..]),
            };
            world.send(client, &bytes(&Packet::Subscribe(packet), Version::V5));
        }
        world.received(client);
        let writer = join_as(&mut world, Version::V5, "writer");
        publish(&mut world, writer, Version::V5, "a", Delivery::AtMostOnce, "");
        publish(&mut world, writer, Version::V5, "a/b", Delivery::AtLeastOnce(id(1)), "");
        let received = world.received(client);
        assert_eq!(received[0], "PUBLISH a ids [10] ''");
        assert!(
            ["PUBLISH a/b qos1 #1 ids [10, 300] ''", "PUBLISH a/b qos1 #1 ids [300, 10] ''"]
                .contains(&&*received[1]),
            "{received:?}"
        );
    }
}

/// [MQTT-3.3.1-5@3.1.1] [MQTT-3.3.1-6@3.1.1]
#[test]
fn retained_messages_are_replayed_at_qos_1_as_the_window_opens() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let writer = join_as(&mut world, version, "writer");
        let count = 200;
        for n in 0..count {
            let topic = format!("r/{n:03}");
            let mut packet = crate::packets::publish(&topic, Delivery::AtLeastOnce(id(1)), "x");
            packet.retain = true;
            world.send(writer, &bytes(&Packet::Publish(packet), version));
        }
        let reader = join(&mut world, &resume(version, "reader"));
        world.send(reader, &subscribe(version, 1, &[("r/+", at(QoS::AtLeastOnce))]));
        let mut topics = Vec::new();
        for _ in 0..=count {
            for line in world.received(reader) {
                let mut words = line.split(' ');
                if words.next() == Some("PUBLISH") {
                    topics.push(words.next().unwrap().to_owned());
                    let packet_id = words.nth(1).unwrap()[1..].parse().unwrap();
                    let puback = Packet::Puback(crate::packets::ack(packet_id));
                    world.send(reader, &bytes(&puback, version));
                }
            }
        }
        let expected: Vec<_> = (0..count).map(|n| format!("r/{n:03}")).collect();
        assert_eq!(topics, expected);
    });
}

#[test]
fn a_malformed_topic_filter_ends_the_connection_that_asks_for_it_or_lets_go_of_it() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let farewell: &[&str] =
            if version == Version::V5 { &["DISCONNECT MalformedPacket"] } else { &[] };
        for filter in ["", "a/#/b", "a+", "$share//a", "$share/g/"] {
            let options = at(QoS::AtMostOnce);
            let asks = subscribe(version, 1, &[(filter, options)]);
            for request in [asks, unsubscribe(version, 1, &[filter])] {
                let client = join_as(&mut world, version, "client");
                world.send(client, &request);
                assert_eq!(world.received(client), farewell, "{filter}");
                assert!(world.is_closed(client), "{filter}");
            }
        }
    });
}
