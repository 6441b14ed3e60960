//! Reason Strings: what a person reads who wonders why.

use std::{num::NonZeroU32, sync::Arc};

use ringmq::{
    access::{Anonymous, Policy, scram::ScramUsers},
    base::time::Span,
    mqtt::{Connect, ConnectProperties, Delivery, Packet, QoS, ReasonProperties, Version, frame},
    session::queue::QueueLimits,
    shard::rules::Limits,
};

use crate::{
    join, join_as,
    packets::{ack, at, bytes, connect, id, publish as packet, subscribe, unsubscribe, will},
    publish,
    scram::{SHA_256, Scram},
    world::{World, limits},
};

const V5: Version = Version::V5;
const ADA: Scram<'_> = Scram { method: SHA_256, user: "ada", password: "pencil" };

/// One packet that a client has received.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    name: &'static str,
    bytes: usize,
    reason_string: Option<String>,
}

/// What a client has received since the last look.
fn answers(world: &mut World, client: usize) -> Vec<Answer> {
    let received = world.received_bytes(client);
    let mut rest = &received[..];
    let mut answers = Vec::new();
    while let Ok(Some(frame)) = frame::split(rest, 1 << 20) {
        let packet = Packet::decode(frame, V5).expect("a packet of the broker");
        let (name, properties) = told(&packet);
        assert!(properties.user_properties.is_empty(), "{packet:?}");
        let reason_string = properties.reason_string.map(str::to_owned);
        answers.push(Answer { name, bytes: frame.len, reason_string });
        rest = &rest[frame.len..];
    }
    assert!(rest.is_empty(), "the broker sends whole packets");
    answers
}

/// The name of a packet, and what it says of its reason.
fn told<'a>(packet: &Packet<'a>) -> (&'static str, ReasonProperties<'a>) {
    match packet {
        Packet::Connack(connack) => {
            assert_eq!(connack.properties.response_information, None);
            let properties = ReasonProperties {
                reason_string: connack.properties.reason_string,
                user_properties: connack.properties.user_properties,
            };
            ("CONNACK", properties)
        }
        Packet::Puback(ack) => ("PUBACK", ack.properties),
        Packet::Pubrec(ack) => ("PUBREC", ack.properties),
        Packet::Pubrel(ack) => ("PUBREL", ack.properties),
        Packet::Pubcomp(ack) => ("PUBCOMP", ack.properties),
        Packet::Suback(suback) => ("SUBACK", suback.properties),
        Packet::Unsuback(unsuback) => ("UNSUBACK", unsuback.properties),
        Packet::Disconnect(disconnect) => {
            assert_eq!(disconnect.session_expiry_interval, None);
            ("DISCONNECT", disconnect.properties)
        }
        Packet::Auth(auth) => ("AUTH", auth.properties),
        _ => ("another", ReasonProperties::default()),
    }
}

/// A client that is refused all that can be refused in one connection, the connection at the end.
fn annoy(shards: usize, properties: ConnectProperties<'_>) -> Vec<Answer> {
    let limits = Limits { subscriptions_max: 1, ..limits() };
    let mut world = World::with(shards, &limits, &Policy::default());
    let client = world.open(V5);
    let connect = Connect { properties, ..connect(V5, "client") };
    world.send(client, &bytes(&Packet::Connect(connect), V5));
    let filters = [("t", at(QoS::ExactlyOnce)), ("u", at(QoS::AtMostOnce))];
    world.send(client, &subscribe(V5, 1, &filters));
    for answer in [Packet::Pubrec(ack(9)), Packet::Pubrel(ack(9))] {
        world.send(client, &bytes(&answer, V5));
    }
    for delivery in [Delivery::AtLeastOnce(id(2)), Delivery::ExactlyOnce(id(3))] {
        publish(&mut world, client, V5, "$SYS/x", delivery, "x");
    }
    world.send(client, &unsubscribe(V5, 2, &["t", "u"]));
    world.send(client, &[0x82, 0]);
    assert!(world.is_closed(client));
    answers(&mut world, client)
}

/// One that is not let in for its Will.
fn knock(shards: usize, properties: ConnectProperties<'_>) -> Vec<Answer> {
    let mut world = World::new(shards);
    let client = world.open(V5);
    let forbidden =
        Connect { will: Some(will("$SYS/x", b"")), properties, ..connect(V5, "client") };
    world.send(client, &bytes(&Packet::Connect(forbidden), V5));
    assert!(world.is_closed(client));
    answers(&mut world, client)
}

/// One that is asked for the first message of its Authentication Method.
fn hesitate(shards: usize, properties: ConnectProperties<'_>) -> Vec<Answer> {
    let users = ScramUsers::parse(&ADA.line()).expect("a SCRAM file");
    let policy = Policy { scram: Some(Arc::new(users)), ..Policy::default() };
    let mut world = World::with(shards, &limits(), &policy);
    let client = world.open(V5);
    let properties = ConnectProperties { authentication_method: Some(SHA_256), ..properties };
    let connect = Connect { properties, ..connect(V5, "client") };
    world.send(client, &bytes(&Packet::Connect(connect), V5));
    answers(&mut world, client)
}

const TALES: [fn(usize, ConnectProperties<'_>) -> Vec<Answer>; 3] = [annoy, knock, hesitate];

#[test]
fn whatever_is_refused_says_why_and_what_would_help() {
    for shards in crate::SHARDS {
        let told: Vec<(&str, Option<String>)> = TALES
            .iter()
            .flat_map(|tale| tale(shards, ConnectProperties::default()))
            .map(|answer| (answer.name, answer.reason_string))
            .collect();
        let expected = [
            ("CONNACK", None),
            (
                "SUBACK",
                Some(
                    "the session has reached its limit of subscriptions: \
                     unsubscribe, or use a wildcard",
                ),
            ),
            (
                "PUBREL",
                Some("no QoS 2 message to the client is in flight with this Packet Identifier"),
            ),
            (
                "PUBCOMP",
                Some(
                    "no QoS 2 message from the client waits for release \
                     with this Packet Identifier",
                ),
            ),
            ("PUBACK", Some(FORBIDDEN)),
            ("PUBREC", Some(FORBIDDEN)),
            ("UNSUBACK", Some("the session has no subscription with exactly this Topic Filter")),
            ("DISCONNECT", Some("a field is missing, or runs past the end of the packet")),
            ("CONNACK", Some(WILL_FORBIDDEN)),
            (
                "AUTH",
                Some(
                    "CONNECT had no Authentication Data: \
                     send the first message of the method in AUTH",
                ),
            ),
        ];
        let expected = expected.map(|(name, text)| (name, text.map(str::to_owned)));
        assert_eq!(told, expected);
    }
}

const WILL_FORBIDDEN: &str =
    "the client may not publish to the Will Topic: $SYS, $share and $CONTROL are reserved";
const FORBIDDEN: &str =
    "the client may not publish here: $SYS, $share and $CONTROL are reserved for the server";

/// [MQTT-3.1.2-28] [MQTT-3.1.2-29]
#[test]
fn a_client_that_asks_for_no_problem_information_is_told_codes_only() {
    for shards in crate::SHARDS {
        for tale in TALES {
            let properties = ConnectProperties {
                request_problem_information: false,
                ..ConnectProperties::default()
            };
            let all = tale(shards, ConnectProperties::default());
            let plain = tale(shards, properties);
            let names = |answers: &[Answer]| answers.iter().map(|it| it.name).collect::<Vec<_>>();
            assert_eq!(names(&plain), names(&all));
            assert!(plain.iter().all(|answer| answer.reason_string.is_none()), "{plain:?}");
        }
    }
}

/// For each packet there is a Maximum Packet Size that it fits in just so, and with one byte less
/// it does not.
/// [MQTT-3.2.2-19] [MQTT-3.2.2-20] [MQTT-3.4.2-2] [MQTT-3.4.2-3] [MQTT-3.5.2-2] [MQTT-3.5.2-3]
/// [MQTT-3.6.2-2] [MQTT-3.6.2-3] [MQTT-3.7.2-2] [MQTT-3.7.2-3] [MQTT-3.9.2-1] [MQTT-3.9.2-2]
/// [MQTT-3.11.2-1] [MQTT-3.11.2-2] [MQTT-3.14.2-2] [MQTT-3.14.2-3] [MQTT-3.14.2-4]
/// [MQTT-3.15.2-2] [MQTT-3.15.2-3]
#[test]
fn a_reason_string_that_would_make_a_packet_too_large_is_left_out() {
    for shards in [1, 2] {
        for tale in TALES {
            let all = tale(shards, ConnectProperties::default());
            for bytes in 30..=160 {
                let properties = ConnectProperties {
                    maximum_packet_size: NonZeroU32::new(bytes),
                    ..ConnectProperties::default()
                };
                let answers = tale(shards, properties);
                assert_eq!(answers.len(), all.len());
                for (answer, full) in answers.iter().zip(&all) {
                    let fits = full.bytes <= bytes as usize;
                    assert_eq!(answer.name, full.name);
                    assert!(answer.bytes <= bytes as usize, "{bytes}: {answer:?}");
                    let expected = full.reason_string.as_ref().filter(|_| fits);
                    assert_eq!(answer.reason_string.as_ref(), expected, "{bytes}: {answer:?}");
                }
            }
        }
    }
}

/// The one packet that ends a connection, and what it says.
fn last_words(world: &mut World, client: usize) -> String {
    let last = answers(world, client).pop().expect("something is said");
    assert!(world.is_closed(client));
    format!("{}: {}", last.name, last.reason_string.unwrap_or_default())
}

#[test]
fn the_end_of_a_connection_is_explained() {
    let narrow = Limits {
        inflight_max: 1,
        queue: QueueLimits { messages_max: 1, bytes_max: 1 << 20 },
        patience: Span::ZERO,
        ..limits()
    };
    let mut world = World::with(2, &narrow, &Policy::default());

    let first = join_as(&mut world, V5, "same");
    let second = join_as(&mut world, V5, "same");
    assert_eq!(
        last_words(&mut world, first),
        "DISCONNECT: another client connected with this Client Identifier: \
         each client needs its own"
    );

    world.send(second, &subscribe(V5, 1, &[("t", at(QoS::AtLeastOnce))]));
    let writer = join_as(&mut world, V5, "writer");
    for n in 1..=3 {
        publish(&mut world, writer, V5, "t", Delivery::AtLeastOnce(id(n)), "x");
    }
    assert_eq!(
        last_words(&mut world, second),
        "DISCONNECT: too many messages are queued for this client: \
         acknowledge sooner, or subscribe to less"
    );

    let silent = join(&mut world, &Connect { keep_alive: 1, ..connect(V5, "silent") });
    world.pass(Span::from_secs(2));
    assert_eq!(
        last_words(&mut world, silent),
        "DISCONNECT: no packet arrived within one and a half times the Keep Alive: \
         send PINGREQ when idle"
    );

    let small = ConnectProperties {
        maximum_packet_size: NonZeroU32::new(90),
        ..ConnectProperties::default()
    };
    let small = join(&mut world, &Connect { properties: small, ..connect(V5, "small") });
    let filters: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let filters: Vec<_> = filters.iter().map(|text| (&**text, at(QoS::AtMostOnce))).collect();
    world.send(small, &subscribe(V5, 1, &filters));
    assert_eq!(
        last_words(&mut world, small),
        "DISCONNECT: the response is larger than the Maximum Packet Size in CONNECT"
    );

    world.stop();
    assert_eq!(
        last_words(&mut world, writer),
        "DISCONNECT: the server is shutting down: connect again later"
    );
}

/// Neither code nor text tell whether there is such a user.
#[test]
fn a_failed_authentication_does_not_say_what_was_wrong() {
    let users = ScramUsers::parse(&ADA.line()).expect("a SCRAM file");
    let scram = Some(Arc::new(users));
    let policy = Policy { scram, anonymous: Anonymous::Refused, ..Policy::default() };
    let mut world = World::with(2, &limits(), &policy);
    for (user, password) in [("ada", "guess"), ("nobody", "guess"), ("nobody", "pencil")] {
        let scram = Scram { user, password, ..ADA };
        let first = scram.client_first();
        let properties = ConnectProperties {
            authentication_method: Some(SHA_256),
            authentication_data: Some(first.as_bytes()),
            ..ConnectProperties::default()
        };
        let client = world.open(V5);
        let connect = Connect { properties, ..connect(V5, "client") };
        world.send(client, &bytes(&Packet::Connect(connect), V5));
        let mut challenge = String::new();
        world.look(client, |packet| {
            if let Ok(Packet::Auth(auth)) = packet {
                challenge = String::from_utf8_lossy(auth.data.unwrap_or_default()).into_owned();
                assert_eq!(auth.properties, ReasonProperties::default());
            }
        });
        let data = scram.finish(&challenge).client_final;
        let auth = ringmq::mqtt::Auth {
            reason_code: ringmq::mqtt::ReasonCode::ContinueAuthentication,
            method: Some(SHA_256),
            data: Some(data.as_bytes()),
            properties: ReasonProperties::default(),
        };
        world.send(client, &bytes(&Packet::Auth(auth), V5));
        assert_eq!(
            last_words(&mut world, client),
            "CONNACK: authentication failed: \
             check the user, the password and the order of messages"
        );
    }
    let stranger = world.open(V5);
    world.send(stranger, &bytes(&Packet::Connect(connect(V5, "stranger")), V5));
    assert_eq!(
        last_words(&mut world, stranger),
        "CONNACK: this listener requires authentication: \
         send User Name and Password, or use AUTH"
    );
}

/// Before 5.0 there is no place for a Reason String.
#[test]
fn older_clients_get_the_packets_that_they_know() {
    for version in [Version::V31, Version::V311] {
        let mut world =
            World::with(1, &Limits { subscriptions_max: 1, ..limits() }, &Policy::default());
        let client = join_as(&mut world, version, "client");
        let filters = [("t", at(QoS::AtMostOnce)), ("u", at(QoS::AtMostOnce))];
        world.send(client, &subscribe(version, 1, &filters));
        let forbidden = packet("$SYS/x", Delivery::AtLeastOnce(id(2)), "x");
        world.send(client, &bytes(&Packet::Publish(forbidden), version));
        world.send(client, &unsubscribe(version, 3, &["nothing"]));
        let expected = b"\x90\x04\x00\x01\x00\x80\x40\x02\x00\x02\xB0\x02\x00\x03";
        assert_eq!(world.received_bytes(client), expected);
    }
}
