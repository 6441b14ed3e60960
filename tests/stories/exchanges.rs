//! Exchanges at QoS 1 and 2: identifiers, acknowledgements, and what becomes of them in the end.

use ringmq::{
    base::time::Span,
    mqtt::{Ack, Connect, Delivery, Packet, Publish, QoS, ReasonCode, Version},
};

use crate::{
    everywhere, join, join_as,
    packets::{
        ack, at, bytes, connect, disconnect, id, publish as packet, receive_maximum, resume,
        subscribe, unsubscribe,
    },
    publish,
    statements::{farewell, knock, send_publish},
    subscriber,
    world::World,
};

const V5: Version = Version::V5;

/// An acknowledgement that reports a failure.
fn failed(packet_id: u16) -> Ack<'static> {
    Ack { reason_code: ReasonCode::UnspecifiedError, ..ack(packet_id) }
}

/// [MQTT-3.6.2-1] [MQTT-3.7.2-1]
#[test]
fn an_identifier_that_is_not_in_use_is_answered_as_not_found() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let client = join_as(&mut world, version, "client");
        world.send(client, &bytes(&Packet::Pubrec(ack(7)), version));
        world.send(client, &bytes(&Packet::Pubrel(ack(8)), version));
        let why = if version == V5 { " PacketIdentifierNotFound" } else { "" };
        assert_eq!(world.received(client), [format!("PUBREL 7{why}"), format!("PUBCOMP 8{why}")]);
    });
}

#[test]
fn an_acknowledgement_for_another_qos_ends_the_connection() {
    everywhere(|shards, version| {
        let wrong = [
            (Delivery::AtLeastOnce(id(1)), Packet::Pubrec(ack(1))),
            (Delivery::AtLeastOnce(id(1)), Packet::Pubcomp(ack(1))),
            (Delivery::ExactlyOnce(id(1)), Packet::Puback(ack(1))),
        ];
        for (delivery, answer) in wrong {
            let mut world = World::new(shards);
            let reader = subscriber(&mut world, version, "reader", "t", QoS::ExactlyOnce);
            let writer = join_as(&mut world, version, "writer");
            publish(&mut world, writer, version, "t", delivery, "x");
            assert_eq!(world.received(reader).len(), 1);
            // Of what is not in flight it is an echo.
            world.send(reader, &bytes(&Packet::Puback(ack(2)), version));
            assert!(!world.is_closed(reader));
            world.send(reader, &bytes(&answer, version));
            assert_eq!(world.received(reader), farewell(version, "ProtocolError"));
            assert!(world.is_closed(reader));
        }
    });
}

/// [MQTT-3.3.1-3] [MQTT-3.3.1-3@3.1.1]
#[test]
fn the_dup_flag_of_a_publisher_is_not_forwarded() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let reader = subscriber(&mut world, version, "reader", "t", QoS::ExactlyOnce);
        let writer = join_as(&mut world, version, "writer");
        for delivery in [Delivery::AtLeastOnce(id(1)), Delivery::ExactlyOnce(id(2))] {
            let publish = Publish { dup: true, ..packet("t", delivery, "x") };
            world.send(writer, &bytes(&Packet::Publish(publish), version));
        }
        assert_eq!(world.received(reader), ["PUBLISH t qos1 #1 'x'", "PUBLISH t qos2 #2 'x'"]);
    });
}

/// [MQTT-3.3.4-10] [MQTT-4.9.0-3]
#[test]
fn a_full_window_delays_nothing_but_messages() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let narrow = Connect { properties: receive_maximum(1), ..connect(V5, "narrow") };
        let client = join(&mut world, &narrow);
        world.send(client, &subscribe(V5, 1, &[("t", at(QoS::ExactlyOnce))]));
        world.received(client);
        let writer = join_as(&mut world, V5, "writer");
        for n in 1..=2 {
            publish(&mut world, writer, V5, "t", Delivery::ExactlyOnce(id(n)), "x");
        }
        assert_eq!(world.received(client), ["PUBLISH t qos2 #1 'x'"]);
        world.send(client, &bytes(&Packet::Pingreq, V5));
        world.send(client, &subscribe(V5, 2, &[("u", at(QoS::AtMostOnce))]));
        publish(&mut world, client, V5, "u", Delivery::ExactlyOnce(id(1)), "y");
        let mut received = world.received(client);
        received.sort();
        assert_eq!(received, ["PINGRESP", "PUBLISH u 'y'", "PUBREC 1", "SUBACK 2 [00]"]);
    }
}

/// [MQTT-3.10.4-3] [MQTT-4.3.2-3] [MQTT-4.4.0-1] [MQTT-3.10.4-3@3.1.1] [MQTT-4.3.2-1@3.1.1]
/// [MQTT-4.4.0-1@3.1.1]
#[test]
fn what_is_in_flight_survives_unsubscribe_and_is_sent_again_only_after_a_reconnect() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let client = join(&mut world, &resume(version, "client"));
        world.send(client, &subscribe(version, 1, &[("t", at(QoS::ExactlyOnce))]));
        let writer = join_as(&mut world, version, "writer");
        publish(&mut world, writer, version, "t", Delivery::AtLeastOnce(id(1)), "1");
        publish(&mut world, writer, version, "t", Delivery::ExactlyOnce(id(2)), "2");
        world.send(client, &unsubscribe(version, 2, &["t"]));
        world.received(client);
        world.pass(Span::from_secs(3600));
        assert_eq!(world.received(client), [""; 0]);
        world.break_off(client);
        let (client, received) = knock(&mut world, &resume(version, "client"));
        assert_eq!(received[1..], ["PUBLISH t qos1 #1 dup '1'", "PUBLISH t qos2 #2 dup '2'"]);
        world.send(client, &bytes(&Packet::Puback(ack(1)), version));
        world.send(client, &bytes(&Packet::Pubrec(ack(2)), version));
        assert_eq!(world.received(client), ["PUBREL 2"]);
    });
}

/// [MQTT-4.1.0-1] [MQTT-4.1.0-1@3.1.1] [MQTT-4.1.0-2@3.1.1]
#[test]
fn a_session_lasts_as_long_as_its_connection() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let reader = subscriber(&mut world, version, "reader", "t", QoS::AtLeastOnce);
        world.pass(Span::from_secs(3600));
        let writer = join_as(&mut world, version, "writer");
        publish(&mut world, writer, version, "t", Delivery::AtLeastOnce(id(1)), "x");
        assert_eq!(world.received(reader), ["PUBLISH t qos1 #1 'x'"]);
        world.send(reader, &disconnect(version));
        assert_eq!(world.counters().clients_total, 1);
    });
}

/// [MQTT-4.3.2-5] [MQTT-4.3.3-12] [MQTT-4.3.2-2@3.1.1] [MQTT-4.3.3-2@3.1.1]
#[test]
fn an_identifier_that_was_acknowledged_stands_for_a_new_message() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let reader = subscriber(&mut world, version, "reader", "t", QoS::AtMostOnce);
        let writer = join_as(&mut world, version, "writer");
        for dup in [false, true] {
            let again = Publish { dup, ..packet("t", Delivery::AtLeastOnce(id(5)), "1") };
            world.send(writer, &bytes(&Packet::Publish(again), version));
        }
        for dup in [false, true] {
            let again = Publish { dup, ..packet("t", Delivery::ExactlyOnce(id(6)), "2") };
            world.send(writer, &bytes(&Packet::Publish(again), version));
            world.send(writer, &bytes(&Packet::Pubrel(ack(6)), version));
        }
        let answers = ["PUBACK 5", "PUBACK 5", "PUBREC 6", "PUBCOMP 6", "PUBREC 6", "PUBCOMP 6"];
        assert_eq!(world.received(writer), answers);
        let messages = ["1", "1", "2", "2"].map(|payload| format!("PUBLISH t '{payload}'"));
        assert_eq!(world.received(reader), messages);
    });
}

/// [MQTT-4.3.3-9]
#[test]
fn an_identifier_whose_message_was_refused_stands_for_a_new_message() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let reader = subscriber(&mut world, V5, "reader", "t", QoS::AtMostOnce);
        let writer = join_as(&mut world, V5, "writer");
        publish(&mut world, writer, V5, "$SYS/x", Delivery::ExactlyOnce(id(3)), "x");
        publish(&mut world, writer, V5, "t", Delivery::ExactlyOnce(id(3)), "x");
        assert_eq!(world.received(writer), ["PUBREC 3 NotAuthorized", "PUBREC 3"]);
        assert_eq!(world.received(reader), ["PUBLISH t 'x'"]);
    }
}

/// [MQTT-4.3.3-7] [MQTT-4.3.3-13]
#[test]
fn expiry_ends_no_exchange_that_has_begun() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let reader = join(&mut world, &resume(V5, "reader"));
        world.send(reader, &subscribe(V5, 1, &[("t", at(QoS::ExactlyOnce))]));
        let writer = join_as(&mut world, V5, "writer");
        let mut publish = packet("t", Delivery::ExactlyOnce(id(1)), "x");
        publish.properties.message_expiry_interval = Some(1);
        send_publish(&mut world, writer, publish);
        assert_eq!(world.received(writer), ["PUBREC 1"]);
        world.break_off(reader);
        world.pass(Span::from_secs(10));
        world.send(writer, &bytes(&Packet::Pubrel(ack(1)), V5));
        assert_eq!(world.received(writer), ["PUBCOMP 1"]);
        let (reader, received) = knock(&mut world, &resume(V5, "reader"));
        assert_eq!(received[1..], ["PUBLISH t qos2 #1 dup expires 0s 'x'"]);
        world.send(reader, &bytes(&Packet::Pubrec(ack(1)), V5));
        assert_eq!(world.received(reader), ["PUBREL 1"]);
    }
}

/// [MQTT-4.4.0-2] [MQTT-4.8.2-6]
#[test]
fn a_message_that_its_client_has_refused_is_not_sent_again() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let reader = join(&mut world, &resume(V5, "reader"));
        world.send(reader, &subscribe(V5, 1, &[("$share/g/t", at(QoS::ExactlyOnce))]));
        let writer = join_as(&mut world, V5, "writer");
        publish(&mut world, writer, V5, "t", Delivery::AtLeastOnce(id(1)), "1");
        publish(&mut world, writer, V5, "t", Delivery::ExactlyOnce(id(2)), "2");
        let other = subscriber(&mut world, V5, "other", "$share/g/t", QoS::ExactlyOnce);
        world.send(reader, &bytes(&Packet::Puback(failed(1)), V5));
        world.send(reader, &bytes(&Packet::Pubrec(failed(2)), V5));
        world.break_off(reader);
        let (_, received) = knock(&mut world, &resume(V5, "reader"));
        assert_eq!(received, ["CONNACK Success session present"]);
        assert_eq!(world.received(other), [""; 0]);
    }
}

/// [MQTT-4.8.2-3]
#[test]
fn a_member_is_sent_no_more_than_its_granted_qos() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let member = subscriber(&mut world, version, "member", "$share/g/t", QoS::AtLeastOnce);
        let writer = join_as(&mut world, version, "writer");
        publish(&mut world, writer, version, "t", Delivery::ExactlyOnce(id(1)), "x");
        publish(&mut world, writer, version, "t", Delivery::AtMostOnce, "y");
        assert_eq!(world.received(member), ["PUBLISH t qos1 #1 'x'", "PUBLISH t 'y'"]);
    });
}

/// [MQTT-4.8.2-4]
#[test]
fn a_qos_2_message_stays_with_the_member_that_it_was_sent_to() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let share = [("$share/g/t", at(QoS::ExactlyOnce))];
        let chosen = join(&mut world, &resume(version, "chosen"));
        world.send(chosen, &subscribe(version, 1, &share));
        let writer = join_as(&mut world, version, "writer");
        publish(&mut world, writer, version, "t", Delivery::ExactlyOnce(id(1)), "x");
        let other = subscriber(&mut world, version, "other", "$share/g/t", QoS::ExactlyOnce);
        world.break_off(chosen);
        let (chosen, received) = knock(&mut world, &resume(version, "chosen"));
        assert_eq!(received[1..], ["PUBLISH t qos2 #1 dup 'x'"]);
        world.break_off(chosen);
        // A clean start ends the session.
        knock(&mut world, &connect(version, "chosen"));
        world.pass(Span::from_millis(50));
        assert_eq!(world.received(other), [""; 0]);
    });
}

/// [MQTT-4.6.0-2] [MQTT-4.6.0-3] [MQTT-4.6.0-4] [MQTT-4.6.0-2@3.1.1] [MQTT-4.6.0-3@3.1.1]
/// [MQTT-4.6.0-4@3.1.1]
#[test]
fn acknowledgements_come_in_the_order_of_what_they_acknowledge() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let reader = subscriber(&mut world, version, "reader", "t", QoS::ExactlyOnce);
        let writer = join_as(&mut world, version, "writer");
        let numbers = [5, 3, 9, 1];
        let mut all = Vec::new();
        for n in numbers {
            for delivery in [Delivery::AtLeastOnce(id(n)), Delivery::ExactlyOnce(id(n + 10))] {
                all.extend(bytes(&Packet::Publish(packet("t", delivery, "x")), version));
            }
        }
        world.send(writer, &all);
        let acknowledged = world.received(writer);
        let in_order = |name: &str, offset| numbers.map(|n| format!("{name} {}", n + offset));
        let (pubacks, pubrecs): (Vec<_>, Vec<_>) =
            acknowledged.into_iter().partition(|line| line.starts_with("PUBACK"));
        assert_eq!(pubacks, in_order("PUBACK", 0));
        assert_eq!(pubrecs, in_order("PUBREC", 10));
        assert_eq!(world.received(reader).len(), 8);
        let flown = [6, 2, 8, 4];
        for n in flown {
            world.send(reader, &bytes(&Packet::Pubrec(ack(n)), version));
        }
        assert_eq!(world.received(reader), flown.map(|n| format!("PUBREL {n}")));
    });
}
