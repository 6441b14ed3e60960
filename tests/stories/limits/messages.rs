//! What is refused of a single packet for being too much of it.

use std::num::NonZeroU16;

use ringmq::{
    access::Policy,
    mqtt::{
        ApplicationProperties, Connect, Delivery, Packet, Publish, PublishProperties, QoS,
        UserProperties, Version, WillProperties,
    },
    shard::rules::Limits,
};

use crate::{
    everywhere, join_as,
    packets::{ack, at, bytes, connect, id, publish as packet, subscribe, will},
    publish,
    statements::send_publish,
    subscriber,
    world::{World, limits},
};

const V5: Version = Version::V5;

fn world(shards: usize, limits: &Limits) -> World {
    World::with(shards, limits, &Policy::default())
}

fn shallow(shards: usize) -> World {
    world(shards, &Limits { topic_levels_max: 3, ..limits() })
}

#[test]
fn a_topic_with_too_many_levels_is_refused() {
    everywhere(|shards, version| {
        let mut world = shallow(shards);
        let reader = subscriber(&mut world, version, "reader", "#", QoS::AtMostOnce);
        let writer = join_as(&mut world, version, "writer");
        for (packet_id, topic) in [(1, "a/b/c"), (2, "a/b/c/d"), (3, "////////")] {
            publish(&mut world, writer, version, topic, Delivery::AtLeastOnce(id(packet_id)), "x");
        }
        publish(&mut world, writer, version, "a/b/c/", Delivery::ExactlyOnce(id(4)), "x");
        let answers = match version {
            Version::V5 => [
                "PUBACK 1",
                "PUBACK 2 TopicNameInvalid",
                "PUBACK 3 TopicNameInvalid",
                "PUBREC 4 TopicNameInvalid",
            ],
            _ => ["PUBACK 1", "PUBACK 2", "PUBACK 3", "PUBREC 4"],
        };
        assert_eq!(world.received(writer), answers);
        assert_eq!(world.received(reader), ["PUBLISH a/b/c 'x'"]);
        assert_eq!(world.counters().refused_topic_levels, 3);
    });
}

#[test]
fn a_filter_with_too_many_levels_is_refused_and_others_beside_it_are_not() {
    everywhere(|shards, version| {
        let mut world = shallow(shards);
        let client = join_as(&mut world, version, "client");
        let filters =
            ["a/+/#", "a/+/c/#", "$share/g/a"].map(|filter| (filter, at(QoS::AtMostOnce)));
        world.send(client, &subscribe(version, 1, &filters));
        let refused = if version == Version::V5 { 0x8F } else { 0x80 };
        assert_eq!(world.received(client), [format!("SUBACK 1 [00, {refused:02x}, 00]")]);
        assert_eq!(world.counters().refused_topic_levels, 1);
    });
}

#[test]
fn a_will_topic_with_too_many_levels_is_refused_in_connack() {
    for shards in crate::SHARDS {
        let mut world = shallow(shards);
        let client = world.open(V5);
        let deep = Connect { will: Some(will("a/b/c/d", b"x")), ..connect(V5, "client") };
        world.send(client, &bytes(&Packet::Connect(deep), V5));
        assert_eq!(world.received(client), ["CONNACK TopicNameInvalid"]);
        assert!(world.is_closed(client));
        assert_eq!(world.counters().refused_topic_levels, 1);
    }
}

#[test]
fn aliases_for_more_topic_bytes_than_there_may_be_end_the_connection() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let writer = join_as(&mut world, V5, "writer");
        let longest = "x".repeat(65_535);
        let alias = |number, topic| {
            let topic_alias = NonZeroU16::new(number);
            let properties = PublishProperties { topic_alias, ..PublishProperties::default() };
            Publish { properties, ..packet(topic, Delivery::AtLeastOnce(id(number)), "") }
        };
        send_publish(&mut world, writer, alias(1, &longest));
        send_publish(&mut world, writer, alias(1, &longest));
        assert_eq!(world.received(writer), ["PUBACK 1 NoMatchingSubscribers"; 2]);
        send_publish(&mut world, writer, alias(2, "yy"));
        assert_eq!(world.received(writer), ["DISCONNECT QuotaExceeded"]);
        assert!(world.is_closed(writer));
        assert_eq!(world.counters().refused_alias_bytes, 1);
    }
}

fn labelled<'a>(pairs: &'a [(&'a str, &'a str)]) -> ApplicationProperties<'a> {
    ApplicationProperties {
        user_properties: UserProperties::Pairs(pairs),
        ..ApplicationProperties::default()
    }
}

fn message<'a>(delivery: Delivery, pairs: &'a [(&'a str, &'a str)]) -> Publish<'a> {
    let properties =
        PublishProperties { application: labelled(pairs), ..PublishProperties::default() };
    Publish { properties, ..packet("t", delivery, "x") }
}

/// Three of one byte each take 21 bytes of the packet.
const THREE: [(&str, &str); 3] = [("a", "1"), ("b", "2"), ("c", "3")];

#[test]
fn a_message_with_too_many_user_properties_or_bytes_of_them_is_refused() {
    for shards in crate::SHARDS {
        let narrow = Limits { user_properties_max: 3, user_property_bytes_max: 21, ..limits() };
        let mut world = world(shards, &narrow);
        let reader = subscriber(&mut world, V5, "reader", "t", QoS::AtMostOnce);
        let writer = join_as(&mut world, V5, "writer");
        let four = [("", ""); 4];
        let long = [("name", "a value of 13")];
        send_publish(&mut world, writer, message(Delivery::AtLeastOnce(id(1)), &THREE));
        send_publish(&mut world, writer, message(Delivery::AtLeastOnce(id(2)), &four));
        send_publish(&mut world, writer, message(Delivery::ExactlyOnce(id(3)), &long));
        let answers = ["PUBACK 1", "PUBACK 2 QuotaExceeded", "PUBREC 3 QuotaExceeded"];
        assert_eq!(world.received(writer), answers);
        // The Packet Identifier of the refused one is free again.
        send_publish(&mut world, writer, message(Delivery::ExactlyOnce(id(3)), &THREE));
        world.send(writer, &bytes(&Packet::Pubrel(ack(3)), V5));
        assert_eq!(world.received(writer), ["PUBREC 3", "PUBCOMP 3"]);
        send_publish(&mut world, writer, message(Delivery::AtMostOnce, &four));
        assert_eq!(world.received(writer), ["DISCONNECT QuotaExceeded"]);
        assert!(world.is_closed(writer));
        assert_eq!(world.received(reader).len(), 2);
        let sum = world.counters();
        assert_eq!((sum.refused_user_properties, sum.refused_publish), (3, 3));
    }
}

#[test]
fn a_will_with_too_many_user_properties_is_refused_in_connack() {
    for shards in crate::SHARDS {
        let mut world = world(shards, &Limits { user_properties_max: 2, ..limits() });
        let client = world.open(V5);
        let properties =
            WillProperties { application: labelled(&THREE), ..WillProperties::default() };
        let will = ringmq::mqtt::Will { properties, ..will("t", b"x") };
        let labelled = Connect { will: Some(will), ..connect(V5, "client") };
        world.send(client, &bytes(&Packet::Connect(labelled), V5));
        assert_eq!(world.received(client), ["CONNACK QuotaExceeded"]);
        assert!(world.is_closed(client));
        assert_eq!(world.counters().refused_user_properties, 1);
    }
}

#[test]
fn filters_beyond_those_of_one_subscribe_are_refused() {
    everywhere(|shards, version| {
        let mut world = world(shards, &Limits { subscribe_filters_max: 2, ..limits() });
        let client = join_as(&mut world, version, "client");
        let filters = ["a", "b", "c", "d"].map(|filter| (filter, at(QoS::AtMostOnce)));
        world.send(client, &subscribe(version, 1, &filters));
        let refused = if version == Version::V5 { 0x97 } else { 0x80 };
        let suback = format!("SUBACK 1 [00, 00, {refused:02x}, {refused:02x}]");
        assert_eq!(world.received(client), [suback]);
        world.send(client, &subscribe(version, 2, &filters[2..]));
        assert_eq!(world.received(client), ["SUBACK 2 [00, 00]"]);
        assert_eq!(world.counters().refused_subscribe_filters, 2);
    });
}

#[test]
fn the_filters_of_a_session_take_no_more_bytes_than_they_may() {
    everywhere(|shards, version| {
        let mut world = world(shards, &Limits { subscription_bytes_max: 10, ..limits() });
        let client = join_as(&mut world, version, "client");
        let filters = ["123456", "1234", "1", "123456"].map(|filter| (filter, at(QoS::AtMostOnce)));
        world.send(client, &subscribe(version, 1, &filters));
        let refused = if version == Version::V5 { 0x97 } else { 0x80 };
        assert_eq!(world.received(client), [format!("SUBACK 1 [00, 00, {refused:02x}, 00]")]);
        assert_eq!(world.counters().refused_session_filters, 1);
        world.send(client, &crate::packets::unsubscribe(version, 2, &["1234"]));
        world.send(client, &subscribe(version, 3, &filters[2..3]));
        assert_eq!(world.received(client).last().unwrap(), "SUBACK 3 [00]");
    });
}

#[test]
fn a_retained_message_without_room_is_refused_where_the_client_can_be_told() {
    everywhere(|shards, version| {
        let mut world = world(shards, &Limits { retained_max: 1, ..limits() });
        let reader = subscriber(&mut world, version, "reader", "r/#", QoS::AtMostOnce);
        let writer = join_as(&mut world, version, "writer");
        let mut retain = |topic, delivery, payload| {
            let publish = Publish { retain: true, ..packet(topic, delivery, payload) };
            world.send(writer, &bytes(&Packet::Publish(publish), version));
            world.received(writer)
        };
        retain("r/one", Delivery::AtLeastOnce(id(1)), "1");
        let two = retain("r/two", Delivery::AtLeastOnce(id(2)), "2");
        let again = retain("r/one", Delivery::AtLeastOnce(id(3)), "3");
        let none = retain("r/two", Delivery::AtLeastOnce(id(4)), "");
        retain("r/four", Delivery::AtMostOnce, "4");
        let modern = version == Version::V5;
        assert_eq!(two, [if modern { "PUBACK 2 QuotaExceeded" } else { "PUBACK 2" }]);
        assert_eq!((again, none), (vec!["PUBACK 3".into()], vec!["PUBACK 4".into()]));
        // Whoever cannot be told has the message delivered all the same.
        let live = world.received(reader);
        assert_eq!(live.iter().any(|line| line.contains("r/two '2'")), !modern, "{live:?}");
        assert!(live.last().is_some_and(|line| line.contains("r/four '4'")), "{live:?}");
        assert_eq!(world.counters().refused_retained, 2);
        let late = join_as(&mut world, version, "late");
        world.send(late, &subscribe(version, 1, &[("r/#", at(QoS::AtMostOnce))]));
        assert_eq!(world.received(late)[1..], ["PUBLISH r/one retain '3'"]);
    });
}
