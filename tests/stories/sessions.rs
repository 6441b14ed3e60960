//! Sessions that outlive their connections.

use ringmq::{
    access::Policy,
    base::time::Span,
    mqtt::{Connect, ConnectProperties, Delivery, Packet, QoS, Version},
    shard::rules::Limits,
};

use crate::{
    everywhere, join, join_as,
    packets::{ack, at, bytes, connect, disconnect, id, receive_maximum, resume, subscribe},
    publish,
    world::{World, limits},
};

/// A session that stays, subscribed to `t` at QoS 2, whose client has gone.
fn absent(world: &mut World, version: Version) {
    let client = join(world, &resume(version, "sleeper"));
    world.send(client, &subscribe(version, 1, &[("t", at(QoS::ExactlyOnce))]));
    world.send(client, &disconnect(version));
    assert!(world.is_closed(client));
}

fn come_back(world: &mut World, connect: &Connect<'_>) -> (usize, Vec<String>) {
    let client = world.open(connect.version);
    world.send(client, &bytes(&Packet::Connect(*connect), connect.version));
    let received = world.received(client);
    (client, received)
}

fn welcome(version: Version) -> String {
    let present = if version > Version::V31 { " session present" } else { "" };
    format!("CONNACK Success{present}")
}

/// [MQTT-3.1.2-5] [MQTT-3.1.2-6] [MQTT-3.1.3-2] [MQTT-3.2.2-3] [MQTT-4.5.0-1] [MQTT-4.6.0-5]
/// [MQTT-4.6.0-6] [MQTT-3.1.2-4@3.1.1] [MQTT-3.1.2-5@3.1.1] [MQTT-3.1.3-2@3.1.1]
/// [MQTT-3.2.0-1@3.1.1] [MQTT-3.2.2-2@3.1.1] [MQTT-4.1.0-1@3.1.1] [MQTT-4.5.0-1@3.1.1]
/// [MQTT-4.6.0-5@3.1.1] [MQTT-4.6.0-6@3.1.1]
#[test]
fn what_came_while_the_client_was_away_is_waiting_in_order() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        absent(&mut world, version);
        let writer = join_as(&mut world, version, "writer");
        publish(&mut world, writer, version, "t", Delivery::AtMostOnce, "lost");
        publish(&mut world, writer, version, "t", Delivery::AtLeastOnce(id(1)), "first");
        publish(&mut world, writer, version, "t", Delivery::ExactlyOnce(id(2)), "second");
        let (_, received) = come_back(&mut world, &resume(version, "sleeper"));
        let expected = ["PUBLISH t qos1 #1 'first'", "PUBLISH t qos2 #2 'second'"];
        assert_eq!(received[0], welcome(version));
        assert_eq!(received[1..], expected);
    });
}

/// [MQTT-3.3.1-1] [MQTT-4.3.3-3] [MQTT-4.3.3-5] [MQTT-4.3.3-6] [MQTT-4.4.0-1] [MQTT-4.6.0-1]
/// [MQTT-3.3.1-1@3.1.1] [MQTT-4.3.3-1@3.1.1] [MQTT-4.4.0-1@3.1.1] [MQTT-4.6.0-1@3.1.1]
#[test]
fn what_was_not_acknowledged_is_sent_again() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let client = join(&mut world, &resume(version, "reader"));
        world.send(client, &subscribe(version, 1, &[("t", at(QoS::ExactlyOnce))]));
        let writer = join_as(&mut world, version, "writer");
        for n in 1..=3 {
            publish(&mut world, writer, version, "t", Delivery::ExactlyOnce(id(n)), &n.to_string());
        }
        world.send(client, &bytes(&Packet::Pubrec(ack(2)), version));
        world.break_off(client);
        let (client, received) = come_back(&mut world, &resume(version, "reader"));
        let again = ["PUBLISH t qos2 #1 dup '1'", "PUBREL 2", "PUBLISH t qos2 #3 dup '3'"];
        assert_eq!(received[1..], again);
        for packet_id in 1..=3 {
            world.send(client, &bytes(&Packet::Pubrec(ack(packet_id)), version));
            world.send(client, &bytes(&Packet::Pubcomp(ack(packet_id)), version));
        }
        world.received(client);
        world.break_off(client);
        let (_, received) = come_back(&mut world, &resume(version, "reader"));
        assert_eq!(received, [welcome(version)]);
    });
}

/// [MQTT-4.3.3-10]
#[test]
fn a_qos_2_message_is_not_routed_again_after_a_reconnect() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let reader = crate::subscriber(&mut world, version, "reader", "t", QoS::AtMostOnce);
        let writer = join(&mut world, &resume(version, "writer"));
        publish(&mut world, writer, version, "t", Delivery::ExactlyOnce(id(9)), "once");
        world.break_off(writer);
        let (writer, _) = come_back(&mut world, &resume(version, "writer"));
        publish(&mut world, writer, version, "t", Delivery::ExactlyOnce(id(9)), "once");
        assert_eq!(world.received(writer), ["PUBREC 9"]);
        assert_eq!(world.received(reader), ["PUBLISH t 'once'"]);
    });
}

/// [MQTT-3.1.2-4] [MQTT-3.1.2-6] [MQTT-3.1.4-4] [MQTT-3.2.2-2] [MQTT-3.1.2-5@3.1.1]
/// [MQTT-3.1.2-6@3.1.1] [MQTT-3.1.4-3@3.1.1] [MQTT-3.2.2-1@3.1.1] [MQTT-3.2.2-3@3.1.1]
#[test]
fn a_clean_start_forgets_everything() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        absent(&mut world, version);
        let writer = join_as(&mut world, version, "writer");
        publish(&mut world, writer, version, "t", Delivery::AtLeastOnce(id(1)), "old");
        let (client, received) = come_back(&mut world, &connect(version, "sleeper"));
        assert_eq!(received, ["CONNACK Success"]);
        publish(&mut world, writer, version, "t", Delivery::AtLeastOnce(id(2)), "new");
        assert_eq!(world.received(client), [""; 0]);
        world.send(client, &disconnect(version));
        let (_, received) = come_back(&mut world, &resume(version, "sleeper"));
        assert_eq!(received, ["CONNACK Success"]);
    });
}

/// [MQTT-3.1.2-23] [MQTT-3.2.2-3] [MQTT-4.1.0-2]
#[test]
fn a_session_ends_when_its_expiry_interval_has_passed() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let lasting = |client_id| Connect {
            clean_start: false,
            properties: ConnectProperties {
                session_expiry_interval: Some(100),
                ..ConnectProperties::default()
            },
            ..connect(Version::V5, client_id)
        };
        for client_id in ["early", "late"] {
            let client = join(&mut world, &lasting(client_id));
            world.send(client, &subscribe(Version::V5, 1, &[("t", at(QoS::AtLeastOnce))]));
            world.break_off(client);
        }
        world.pass(Span::from_secs(99));
        let (early, received) = come_back(&mut world, &lasting("early"));
        assert_eq!(received, ["CONNACK Success session present"]);
        world.pass(Span::from_secs(2));
        let (_, received) = come_back(&mut world, &lasting("late"));
        assert_eq!(received, ["CONNACK Success"]);
        assert!(!world.is_closed(early));
        assert_eq!(world.counters().clients_expired, 1);
        assert_eq!(world.counters().subscriptions, 1);
    }
}

/// [MQTT-3.3.4-9] [MQTT-4.9.0-1] [MQTT-4.9.0-2]
#[test]
fn no_more_is_in_flight_than_the_client_allows() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let narrow = Connect { properties: receive_maximum(2), ..resume(Version::V5, "narrow") };
        let client = join(&mut world, &narrow);
        world.send(client, &subscribe(Version::V5, 1, &[("t", at(QoS::AtLeastOnce))]));
        world.received(client);
        let writer = join_as(&mut world, Version::V5, "writer");
        for n in 1..=5 {
            let delivery = Delivery::AtLeastOnce(id(n));
            publish(&mut world, writer, Version::V5, "t", delivery, &n.to_string());
        }
        assert_eq!(world.received(client), ["PUBLISH t qos1 #1 '1'", "PUBLISH t qos1 #2 '2'"]);
        world.send(client, &bytes(&Packet::Puback(ack(1)), Version::V5));
        assert_eq!(world.received(client), ["PUBLISH t qos1 #3 '3'"]);
        world.send(client, &bytes(&Packet::Puback(ack(1)), Version::V5));
        assert_eq!(world.received(client), [""; 0]);
        world.break_off(client);
        let narrower = Connect { properties: receive_maximum(1), ..resume(Version::V5, "narrow") };
        let (client, received) = come_back(&mut world, &narrower);
        assert_eq!(received[1..], ["PUBLISH t qos1 #2 dup '2'"]);
        world.send(client, &bytes(&Packet::Puback(ack(2)), Version::V5));
        assert_eq!(world.received(client), ["PUBLISH t qos1 #3 dup '3'"]);
    }
}

/// [MQTT-3.3.2-5] [MQTT-3.3.2-6]
#[test]
fn a_message_that_expired_in_the_queue_is_not_sent() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        absent(&mut world, Version::V5);
        let writer = join_as(&mut world, Version::V5, "writer");
        for (n, expiry) in [(1, Some(10)), (2, Some(100)), (3, None)] {
            let payload = n.to_string();
            let mut packet = crate::packets::publish("t", Delivery::AtLeastOnce(id(n)), &payload);
            packet.properties.message_expiry_interval = expiry;
            world.send(writer, &bytes(&Packet::Publish(packet), Version::V5));
        }
        world.pass(Span::from_secs(40));
        let (_, received) = come_back(&mut world, &resume(Version::V5, "sleeper"));
        assert_eq!(received[1..], ["PUBLISH t qos1 #1 expires 60s '2'", "PUBLISH t qos1 #2 '3'"]);
        assert_eq!(world.counters().dropped_expired, 1);
    }
}

#[test]
fn the_broker_has_so_many_sessions_wherever_they_are_at_home() {
    for shards in crate::SHARDS {
        let mut world =
            World::with(shards, &Limits { sessions_max: 10, ..limits() }, &Policy::default());
        // Connected clients lose no session.
        let clients: Vec<usize> = (0..10)
            .map(|n| join(&mut world, &resume(Version::V5, &format!("client {n}"))))
            .collect();
        let refused = |world: &mut World, name: &str| {
            let client = world.open(Version::V5);
            world.send(client, &bytes(&Packet::Connect(resume(Version::V5, name)), Version::V5));
            world.received(client)[0].starts_with("CONNACK QuotaExceeded")
        };
        assert!((0..8).all(|n| refused(&mut world, &format!("late {n}"))));
        assert!(!refused(&mut world, "client 3"), "it comes back to its session");
        let clean = join_as(&mut world, Version::V5, "client 4");
        world.send(clean, &disconnect(Version::V5));
        assert!(!refused(&mut world, "late 1") && refused(&mut world, "late 2"));
        assert_eq!((clients.len(), world.counters().clients_total), (10, 10));
    }
}
