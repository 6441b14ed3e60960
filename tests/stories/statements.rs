//! Statements of the specification that no other story comes by.

use std::num::{NonZeroU16, NonZeroU32};

use ringmq::{
    access::Policy,
    mqtt::{
        ApplicationProperties, Connect, ConnectProperties, DecodeError, Delivery, Malformed,
        Packet, ProtocolError, Publish, QoS, Subscribe, SubscribeFilters, SubscriptionIdentifiers,
        UserProperties, Version, Will, WillProperties,
    },
    shard::rules::Limits,
};

use crate::{
    everywhere, join, join_as,
    packets::{
        at, bytes, connect, disconnect, id, publish as packet, resume, subscribe, unsubscribe, will,
    },
    publish, retain, subscriber,
    world::{SECRET_END, World, limits},
};

const V5: Version = Version::V5;

/// What a CONNECT is answered, and by whom it was sent.
pub(crate) fn knock(world: &mut World, connect: &Connect<'_>) -> (usize, Vec<String>) {
    let client = world.open(connect.version);
    world.send(client, &bytes(&Packet::Connect(*connect), connect.version));
    let received = world.received(client);
    (client, received)
}

pub(crate) fn farewell(version: Version, text: &str) -> Vec<String> {
    if version == V5 { vec![format!("DISCONNECT {text}")] } else { Vec::new() }
}

pub(crate) fn send_publish(world: &mut World, client: usize, publish: Publish<'_>) {
    world.send(client, &bytes(&Packet::Publish(publish), V5));
}

/// [MQTT-3.1.3-5] [MQTT-3.1.3-5@3.1.1]
#[test]
fn client_identifiers_of_1_to_23_letters_and_digits_are_allowed() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let names =
            ["0123456789abcdefghijklm", "nopqrstuvwxyzABCDEFGHIJ", "KLMNOPQRSTUVWXYZ", "0", "z"];
        let clients = names.map(|name| join_as(&mut world, version, name));
        assert!(clients.into_iter().all(|client| !world.is_closed(client)));
        assert_eq!(world.counters().clients_connected, 5);
    });
}

/// [MQTT-3.1.3-7] [MQTT-3.2.2-16]
#[test]
fn an_assigned_client_identifier_is_told_and_is_as_good_as_any() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let mut assigned = Vec::new();
        for _ in 0..8 {
            let client = world.open(V5);
            world.send(client, &bytes(&Packet::Connect(resume(V5, "")), V5));
            world.look(client, |packet| {
                let Ok(Packet::Connack(connack)) = packet else { return };
                assigned.extend(connack.properties.assigned_client_identifier.map(str::to_owned));
            });
            world.break_off(client);
        }
        let mut different = assigned.clone();
        different.sort();
        different.dedup();
        assert_eq!((assigned.len(), different.len()), (8, 8));
        // It is made of a secret: with one of them nobody can tell the next.
        assert!(assigned.iter().all(|it| it.len() == 29 && it.ends_with(SECRET_END)));
        for client_id in &assigned {
            let (_, received) = knock(&mut world, &resume(V5, client_id));
            assert_eq!(received, ["CONNACK Success session present"]);
        }
    }
}

/// [MQTT-3.1.3-8] [MQTT-3.2.2-7] [MQTT-4.13.2-1] [MQTT-3.1.3-8@3.1.1] [MQTT-3.1.3-9@3.1.1]
/// [MQTT-3.2.2-5@3.1.1] [MQTT-4.8.0-2@3.1.1]
#[test]
fn a_refused_client_is_told_why_and_its_connection_is_closed() {
    everywhere(|shards, version| {
        let full = Limits { sessions_max: 0, ..limits() };
        let mut world = World::with(shards, &full, &Policy::default());
        let reason = if version == V5 { "QuotaExceeded" } else { "ServerUnavailable" };
        let (client, received) = knock(&mut world, &connect(version, "one too many"));
        assert_eq!(received, [format!("CONNACK {reason}")]);
        assert!(world.is_closed(client));
        if version < V5 {
            let empty = Connect { clean_start: version == Version::V31, ..connect(version, "") };
            let (client, received) = knock(&mut world, &empty);
            assert_eq!(received, ["CONNACK ClientIdentifierNotValid"]);
            assert!(world.is_closed(client));
        }
    });
}

/// [MQTT-3.2.2-6] [MQTT-3.2.2-4@3.1.1]
#[test]
fn a_refusal_says_nothing_of_the_session_and_leaves_it_alone() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let client = join(&mut world, &resume(version, "sleeper"));
        world.send(client, &disconnect(version));
        let forbidden = Connect { will: Some(will("$SYS/x", b"")), ..resume(version, "sleeper") };
        let (client, received) = knock(&mut world, &forbidden);
        assert_eq!(received, ["CONNACK NotAuthorized"]);
        assert!(world.is_closed(client));
        let present = if version > Version::V31 { " session present" } else { "" };
        let (_, received) = knock(&mut world, &resume(version, "sleeper"));
        assert_eq!(received, [format!("CONNACK Success{present}")]);
    });
}

/// [MQTT-3.1.4-6] [MQTT-3.1.4-5@3.1.1]
#[test]
fn nothing_that_follows_a_refused_connect_is_handled() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let reader = subscriber(&mut world, version, "reader", "#", QoS::AtMostOnce);
        let client = world.open(version);
        let forbidden = Connect { will: Some(will("$SYS/x", b"")), ..connect(version, "writer") };
        let mut all = bytes(&Packet::Connect(forbidden), version);
        let publish = packet("t", Delivery::AtLeastOnce(id(1)), "x");
        all.extend(bytes(&Packet::Publish(publish), version));
        world.send(client, &all);
        assert_eq!(world.received(client), ["CONNACK NotAuthorized"]);
        assert_eq!(world.received(reader), [""; 0]);
    });
}

/// [MQTT-3.1.2-3] [MQTT-3.1.4-1] [MQTT-3.1.2-1@3.1.1] [MQTT-3.1.2-3@3.1.1] [MQTT-3.1.4-1@3.1.1]
/// [MQTT-3.2.2-6@3.1.1]
#[test]
fn a_malformed_connect_closes_the_connection_and_only_5_0_is_told_why() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        for level in [4, 5] {
            let client = world.open(if level == 5 { V5 } else { Version::V311 });
            // The reserved flag is set.
            world.send(client, &[0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', level, 3, 0, 0, 0, 0]);
            let answer: &[&str] = if level == 5 { &["CONNACK MalformedPacket"] } else { &[] };
            assert_eq!(world.received(client), answer);
            assert!(world.is_closed(client));
        }
        let client = world.open(V5);
        world.send(client, b"\x10\x07\x00\x04mqtt\x05");
        assert!(world.is_closed(client));
        assert_eq!(world.counters().clients_total, 0);
    }
}

/// [MQTT-3.2.0-2]
#[test]
fn there_is_one_connack_in_a_connection() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let client = join_as(&mut world, version, "twice");
        world.send(client, &bytes(&Packet::Connect(connect(version, "twice")), version));
        assert_eq!(world.received(client), farewell(version, "ProtocolError"));
        assert!(world.is_closed(client));
    });
}

/// [MQTT-4.12.0-1]
#[test]
fn an_unknown_authentication_method_is_refused() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let properties = ConnectProperties {
            authentication_method: Some("NO-SUCH-METHOD"),
            ..ConnectProperties::default()
        };
        let (client, received) =
            knock(&mut world, &Connect { properties, ..connect(V5, "client") });
        assert_eq!(received, ["CONNACK BadAuthenticationMethod"]);
        assert!(world.is_closed(client));
    }
}

/// [MQTT-4.12.0-6] [MQTT-4.12.0-7]
#[test]
fn without_an_authentication_method_there_is_no_auth() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let client = world.open(V5);
        world.send(client, &bytes(&Packet::Connect(connect(V5, "client")), V5));
        let mut methods = Vec::new();
        world.look(client, |packet| {
            let Ok(Packet::Connack(connack)) = packet else { panic!("{packet:?}") };
            methods.push(connack.properties.authentication_method.map(str::to_owned));
        });
        assert_eq!(methods, [None]);
        world.send(client, &[0xF0, 0]);
        assert_eq!(world.received(client), ["DISCONNECT ProtocolError"]);
        assert!(world.is_closed(client));
    }
}

/// [MQTT-3.3.1-4] [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-3.14.1-1] [MQTT-3.15.1-1]
/// [MQTT-2.2.2-2@3.1.1] [MQTT-3.3.1-4@3.1.1] [MQTT-3.6.1-1@3.1.1] [MQTT-3.8.1-1@3.1.1]
/// [MQTT-3.10.1-1@3.1.1] [MQTT-3.14.1-1@3.1.1]
#[test]
fn reserved_flags_of_a_fixed_header_close_the_connection() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        // PUBLISH with both bits of the QoS, PUBREL, SUBSCRIBE, UNSUBSCRIBE, DISCONNECT, AUTH.
        for first in [0x36, 0x60, 0x64, 0x80, 0x83, 0xA0, 0xA3, 0xC1, 0xE1, 0xE2, 0xF1] {
            let client = join_as(&mut world, version, "client");
            world.send(client, &[first, 2, 0, 1]);
            assert_eq!(world.received(client), farewell(version, "MalformedPacket"), "{first:x}");
            assert!(world.is_closed(client), "{first:x}");
        }
    });
}

/// [MQTT-3.1.2-14] [MQTT-3.3.1-8] [MQTT-3.1.2-16@3.1.1] [MQTT-3.3.1-12@3.1.1]
#[test]
fn a_message_that_is_not_to_be_retained_changes_nothing_that_is() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let writer = join_as(&mut world, version, "writer");
        retain(&mut world, writer, version, "a", "kept");
        for (topic, payload) in [("a", "passing"), ("a", ""), ("b", "passing")] {
            publish(&mut world, writer, version, topic, Delivery::AtMostOnce, payload);
        }
        let client =
            join(&mut world, &Connect { will: Some(will("c", b"x")), ..connect(version, "c") });
        world.break_off(client);
        let reader = join_as(&mut world, version, "reader");
        world.send(reader, &subscribe(version, 1, &[("#", at(QoS::AtMostOnce))]));
        assert_eq!(world.received(reader), ["SUBACK 1 [00]", "PUBLISH a retain 'kept'"]);
    });
}

/// All that a publisher or a Will may say of a message besides its payload.
fn application<'a>(pairs: &'a [(&'a str, &'a str)]) -> ApplicationProperties<'a> {
    ApplicationProperties {
        payload_format_indicator: Some(1),
        content_type: Some("text/plain"),
        response_topic: Some("reply/to"),
        correlation_data: Some(&[0, 255, 7]),
        user_properties: UserProperties::Pairs(pairs),
    }
}

/// [MQTT-3.1.3-10] [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18]
/// [MQTT-3.3.2-20]
#[test]
fn what_is_said_of_a_message_reaches_its_subscribers_unaltered() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let pairs = [("b", "2"), ("a", ""), ("b", "2"), ("", "1")];
        let expected = application(&pairs);
        let reader = subscriber(&mut world, V5, "reader", "#", QoS::AtLeastOnce);
        let writer = join_as(&mut world, V5, "writer");
        let mut message = packet("t", Delivery::AtLeastOnce(id(1)), "x");
        message.properties.application = expected;
        send_publish(&mut world, writer, message);
        let properties = WillProperties { application: expected, ..WillProperties::default() };
        let will = Will { properties, ..will("will", b"x") };
        let client = join(&mut world, &Connect { will: Some(will), ..connect(V5, "client") });
        world.break_off(client);
        let mut seen = 0;
        world.look(reader, |packet| {
            let Ok(Packet::Publish(publish)) = packet else { panic!("{packet:?}") };
            assert_eq!(publish.properties.application, expected);
            seen += 1;
        });
        assert_eq!(seen, 2);
    }
}

/// [MQTT-3.1.2-26] [MQTT-3.1.2-27] [MQTT-3.3.2-11]
#[test]
fn no_topic_alias_is_sent_beyond_what_the_client_takes() {
    for shards in crate::SHARDS {
        for topic_alias_maximum in [0, 2] {
            let mut world = World::new(shards);
            let properties =
                ConnectProperties { topic_alias_maximum, ..ConnectProperties::default() };
            let client = join(&mut world, &Connect { properties, ..connect(V5, "client") });
            world.send(client, &subscribe(V5, 1, &[("#", at(QoS::AtMostOnce))]));
            world.received(client);
            let writer = join_as(&mut world, V5, "writer");
            for topic in ["room/a/t", "room/b/t", "room/c/t"].into_iter().cycle().take(30) {
                publish(&mut world, writer, V5, topic, Delivery::AtMostOnce, "x");
            }
            let (mut seen, mut highest) = (0, 0);
            world.look(client, |packet| {
                let Ok(Packet::Publish(publish)) = packet else { panic!("{packet:?}") };
                let alias = publish.properties.topic_alias.map_or(0, NonZeroU16::get);
                highest = highest.max(alias);
                seen += 1;
            });
            assert_eq!(seen, 30);
            assert_eq!(highest, topic_alias_maximum);
        }
    }
}

/// [MQTT-3.3.2-7] [MQTT-3.3.2-12]
#[test]
fn every_topic_alias_up_to_the_maximum_is_taken_and_none_outlives_its_connection() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let reader = subscriber(&mut world, V5, "reader", "#", QoS::AtMostOnce);
        let writer = join(&mut world, &resume(V5, "writer"));
        let send = |world: &mut World, writer, topic, alias| {
            let mut publish = packet(topic, Delivery::AtMostOnce, "x");
            publish.properties.topic_alias = NonZeroU16::new(alias);
            send_publish(world, writer, publish);
        };
        for alias in 1..=16 {
            send(&mut world, writer, "t", alias);
            send(&mut world, writer, "", alias);
        }
        assert_eq!(world.received(reader).len(), 32);
        world.break_off(writer);
        let writer = join(&mut world, &resume(V5, "writer"));
        send(&mut world, writer, "", 1);
        assert_eq!(world.received(writer), ["DISCONNECT ProtocolError"]);
        assert_eq!(world.received(reader), [""; 0]);
    }
}

fn subscribe_as(world: &mut World, client: usize, filter: &str, identifier: u32) {
    let filters = [(filter, at(QoS::AtMostOnce))];
    let subscribe = Subscribe {
        packet_id: id(1),
        subscription_identifier: NonZeroU32::new(identifier),
        user_properties: UserProperties::default(),
        filters: SubscribeFilters::List(&filters),
    };
    world.send(client, &bytes(&Packet::Subscribe(subscribe), V5));
    assert_eq!(world.received(client), ["SUBACK 1 [00]"]);
}

/// [MQTT-3.3.4-5]
#[test]
fn each_copy_of_a_message_has_the_identifier_of_its_own_subscription() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let client = join_as(&mut world, V5, "client");
        subscribe_as(&mut world, client, "t", 1);
        subscribe_as(&mut world, client, "$share/g/t", 2);
        let writer = join_as(&mut world, V5, "writer");
        publish(&mut world, writer, V5, "t", Delivery::AtMostOnce, "x");
        let mut received = world.received(client);
        received.sort();
        assert_eq!(received, ["PUBLISH t ids [1] 'x'", "PUBLISH t ids [2] 'x'"]);
    }
}

/// [MQTT-3.3.4-6]
#[test]
fn a_client_sends_no_subscription_identifier() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let reader = subscriber(&mut world, V5, "reader", "t", QoS::AtMostOnce);
        let writer = join_as(&mut world, V5, "writer");
        let mut publish = packet("t", Delivery::AtMostOnce, "x");
        publish.properties.subscription_identifiers = SubscriptionIdentifiers::List(&[1]);
        send_publish(&mut world, writer, publish);
        assert_eq!(world.received(writer), ["DISCONNECT ProtocolError"]);
        assert!(world.is_closed(writer));
        assert_eq!(world.received(reader), [""; 0]);
    }
}

/// [MQTT-2.2.1-6] [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-2.3.1-7@3.1.1] [MQTT-3.8.4-1@3.1.1]
/// [MQTT-3.8.4-2@3.1.1] [MQTT-3.8.4-6@3.1.1] [MQTT-3.9.3-2@3.1.1]
#[test]
fn a_refused_subscription_of_an_old_client_is_a_failure() {
    for shards in crate::SHARDS {
        let limits = Limits { subscriptions_max: 1, ..limits() };
        let mut world = World::with(shards, &limits, &Policy::default());
        let client = join_as(&mut world, Version::V311, "client");
        let filters = [("a", at(QoS::ExactlyOnce)), ("b", at(QoS::ExactlyOnce))];
        world.send(client, &subscribe(Version::V311, 7, &filters));
        assert_eq!(world.received(client), ["SUBACK 7 [02, 80]"]);
    }
}

/// [MQTT-2.2.1-6] [MQTT-3.10.4-1] [MQTT-3.10.4-5] [MQTT-2.3.1-7@3.1.1] [MQTT-3.10.4-1@3.1.1]
/// [MQTT-3.10.4-5@3.1.1]
#[test]
fn unsubscribe_is_answered_even_if_nothing_ends() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let client = subscriber(&mut world, version, "client", "a/+", QoS::AtMostOnce);
        world.send(client, &unsubscribe(version, 9, &["a/b", "A/+"]));
        let codes = if version == V5 { "[11, 11]" } else { "[]" };
        assert_eq!(world.received(client), [format!("UNSUBACK 9 {codes}")]);
        assert_eq!(world.counters().subscriptions, 1);
    });
}

/// Bytes of all kinds that are no packets, and what a 5.0 client is told of them.
/// [MQTT-3.3.2-2] [MQTT-4.13.1-1] [MQTT-3.3.2-2@3.1.1] [MQTT-4.8.0-1@3.1.1]
#[test]
fn errors_end_the_connection_that_made_them_and_no_other() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let witness = subscriber(&mut world, version, "witness", "t", QoS::AtMostOnce);
        let errors: [(&[u8], DecodeError); 3] = [
            (b"\x00\x00", Malformed::PacketType.into()),
            (b"\xD0\x00", ProtocolError::ServerPacket.into()),
            (b"\x30\x03\x00\x01#", Malformed::TopicName.into()),
        ];
        for (bytes, error) in errors {
            let client = join_as(&mut world, version, "client");
            world.send(client, bytes);
            let told = format!("{:?}", error.reason_code());
            assert_eq!(world.received(client), farewell(version, &told));
            assert!(world.is_closed(client));
        }
        let writer = join_as(&mut world, version, "writer");
        publish(&mut world, writer, version, "t", Delivery::AtMostOnce, "x");
        assert_eq!(world.received(witness), ["PUBLISH t 'x'"]);
    });
}
