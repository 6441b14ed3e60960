//! Sequences of events that once went wrong, or that somebody would try.

use ringmq::{
    access::Policy,
    base::time::Span,
    mqtt::{Connect, Delivery, Packet, Publish, QoS, Version},
    session::queue::QueueLimits,
    shard::rules::Limits,
};

use crate::{
    everywhere, join, join_as,
    packets::{ack, at, bytes, connect, id, publish as packet, resume, subscribe},
    publish, retain, subscriber,
    world::{World, limits},
};

/// The Packet Identifiers in lines of PUBLISH packets.
fn packet_ids(lines: &[String]) -> Vec<u16> {
    let ids = lines.iter().filter_map(|line| line.split_once('#')?.1.split(' ').next());
    ids.map(|number| number.parse().expect("a Packet Identifier")).collect()
}

/// Acknowledges everything until nothing more comes, and says how much that was.
fn take_all(world: &mut World, client: usize, version: Version) -> usize {
    let mut taken = 0;
    loop {
        let ids = packet_ids(&world.received(client));
        if ids.is_empty() {
            return taken;
        }
        taken += ids.len();
        for packet_id in ids {
            world.send(client, &bytes(&Packet::Puback(ack(packet_id)), version));
        }
    }
}

#[test]
fn a_message_that_waited_for_a_full_outbox_goes_when_that_has_drained() {
    everywhere(|shards, version| {
        let limits = Limits { outbox_bytes_max: 1000, ..limits() };
        let mut world = World::with(shards, &limits, &Policy::default());
        let reader = subscriber(&mut world, version, "reader", "t", QoS::AtLeastOnce);
        let writer = join_as(&mut world, version, "writer");
        let large = "x".repeat(2000);
        let mut all = bytes(&Packet::Publish(packet("t", Delivery::AtMostOnce, &large)), version);
        let small = packet("t", Delivery::AtLeastOnce(id(1)), "small");
        all.extend(bytes(&Packet::Publish(small), version));
        world.send(writer, &all);
        assert_eq!(world.received(reader).len(), 2);
    });
}

#[test]
fn whoever_publishes_to_itself_has_the_same_limits_as_others() {
    everywhere(|shards, version| {
        let queue = QueueLimits { messages_max: 10, bytes_max: 1 << 20 };
        let limits = Limits { queue, inflight_max: 1, ..limits() };
        let mut world = World::with(shards, &limits, &Policy::default());
        let client = join(&mut world, &resume(version, "self"));
        world.send(client, &subscribe(version, 1, &[("t", at(QoS::AtLeastOnce))]));
        let writer = join_as(&mut world, version, "writer");
        for n in 1..=8 {
            publish(&mut world, client, version, "t", Delivery::AtLeastOnce(id(n)), "x");
        }
        publish(&mut world, writer, version, "t", Delivery::AtLeastOnce(id(1)), "x");
        for n in 1..=100 {
            publish(&mut world, client, version, "t", Delivery::AtLeastOnce(id(n)), "x");
        }
        assert!(world.is_closed(client));
        let client = world.open(version);
        world.send(client, &bytes(&Packet::Connect(resume(version, "self")), version));
        assert_eq!(take_all(&mut world, client, version), 11);
    });
}

#[test]
fn replacing_retained_messages_keeps_to_the_limit_of_bytes() {
    everywhere(|shards, version| {
        let limits = Limits { retained_bytes_max: 10_000, ..limits() };
        let mut world = World::with(shards, &limits, &Policy::default());
        let writer = join_as(&mut world, version, "writer");
        for size in [1, 5_000] {
            for n in 0..20 {
                retain(&mut world, writer, version, &format!("r/{n}"), &"x".repeat(size));
            }
        }
        let replays = ["a", "b", "c", "d"].map(|name| {
            let reader = join_as(&mut world, version, name);
            world.send(reader, &subscribe(version, 1, &[("r/#", at(QoS::AtMostOnce))]));
            world.received(reader)[1..].join("\n")
        });
        assert!(replays[0].len() < 12_000, "{}", replays[0].len());
        assert!(replays.iter().all(|replay| *replay == replays[0]), "every shard has the same");
        assert!(world.counters().refused_retained > 0);
    });
}

#[test]
fn forty_thousand_filters_with_retained_messages_are_subscribed_in_a_moment() {
    let limits = Limits { subscriptions_max: 1_000_000, ..limits() };
    let mut world = World::with(2, &limits, &Policy::default());
    let writer = join_as(&mut world, Version::V311, "writer");
    retain(&mut world, writer, Version::V311, "39999", "x");
    let reader = join_as(&mut world, Version::V311, "reader");
    let names: Vec<String> = (0..40_000).map(|n| n.to_string()).collect();
    let filters: Vec<_> = names.iter().map(|name| (&**name, at(QoS::AtMostOnce))).collect();
    world.send(reader, &subscribe(Version::V311, 1, &filters));
    assert_eq!(world.received(reader)[1..], ["PUBLISH 39999 retain 'x'"]);
}

#[test]
fn clients_that_were_told_no_receive_maximum_have_none() {
    everywhere(|shards, version| {
        if version == Version::V5 {
            return;
        }
        let mut world = World::new(shards);
        let client = join_as(&mut world, version, "client");
        let mut all = Vec::new();
        for n in 1..=2000 {
            let publish = packet("t", Delivery::ExactlyOnce(id(n)), "x");
            all.extend(bytes(&Packet::Publish(publish), version));
        }
        world.send(client, &all);
        assert_eq!(world.received(client).len(), 2000);
    });
}

#[test]
fn reminders_do_not_pile_up() {
    let mut world = World::new(1);
    for _ in 0..1000 {
        let mut connect = connect(Version::V5, "restless");
        connect.keep_alive = u16::MAX;
        connect.clean_start = false;
        connect.properties.session_expiry_interval = Some(604_800);
        let client = join(&mut world, &connect);
        world.break_off(client);
    }
    world.pass(Span::from_secs(61));
    let told = format!("{world:?}");
    assert_eq!(told.matches("KeepAlive(").count(), 0);
    assert!(told.matches("Absence(").count() <= 1);
    world.pass(Span::from_secs(604_800));
    assert_eq!(world.counters().clients_expired, 1);
}

/// [MQTT-3.1.2-24]
#[test]
fn an_answer_that_is_too_large_for_the_client_ends_the_connection() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let mut connect = connect(Version::V5, "small");
        connect.properties.maximum_packet_size = std::num::NonZeroU32::new(30);
        let client = join(&mut world, &connect);
        let names: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        let filters: Vec<_> = names.iter().map(|name| (&**name, at(QoS::AtMostOnce))).collect();
        world.send(client, &subscribe(Version::V5, 1, &filters));
        assert_eq!(world.received(client), ["DISCONNECT PacketTooLarge"]);
        assert_eq!(world.counters().subscriptions, 0);
    }
}

/// [MQTT-3.2.0-1] [MQTT-3.14.0-1]
#[test]
fn nothing_comes_before_connack_and_nothing_instead_of_it() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let client = world.open(Version::V5);
        let mut connect = connect(Version::V5, "tiny");
        connect.properties.maximum_packet_size = std::num::NonZeroU32::new(8);
        world.send(client, &bytes(&Packet::Connect(connect), Version::V5));
        assert_eq!(world.received(client), [""; 0]);
        assert!(world.is_closed(client));
        assert_eq!(world.counters().clients_connected, 0);
    }
}

/// The client that cannot be told that it is let in takes nothing over, and leaves no session.
#[test]
fn a_connect_whose_connack_is_too_large_changes_nothing() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let earlier = join_as(&mut world, Version::V5, "tiny");
        for client_id in ["tiny", ""] {
            let client = world.open(Version::V5);
            let mut connect = resume(Version::V5, client_id);
            connect.properties.maximum_packet_size = std::num::NonZeroU32::new(8);
            world.send(client, &bytes(&Packet::Connect(connect), Version::V5));
            assert_eq!(world.received(client), [""; 0]);
            assert!(world.is_closed(client));
        }
        world.send(earlier, &bytes(&Packet::Pingreq, Version::V5));
        assert_eq!(world.received(earlier), ["PINGRESP"]);
        let counters = world.counters();
        assert_eq!((counters.clients_connected, counters.clients_total), (1, 1));
    }
}

/// [MQTT-3.14.2-1]
#[test]
fn a_second_connect_is_a_protocol_error_whatever_is_in_it() {
    for shards in crate::SHARDS {
        for second in [&b"\x10\x0d\x00\x04MQTT\x07\x02\x00\x3c\x00\x01a"[..], b"\x10\x00"] {
            let mut world = World::new(shards);
            let client = join_as(&mut world, Version::V5, "client");
            world.send(client, second);
            assert_eq!(world.received(client), ["DISCONNECT ProtocolError"]);
        }
    }
}

#[test]
fn a_reader_that_comes_back_again_and_again_does_not_hold_publishers_again_and_again() {
    everywhere(|shards, version| {
        let limits = Limits { outbox_bytes_max: 1000, ..limits() };
        let mut world = World::with(shards, &limits, &Policy::default());
        let writer = join_as(&mut world, version, "writer");
        let (mut held, mut looks) = (0, 0);
        let payload = "x".repeat(100);
        for _ in 0..10 {
            let bad = subscriber(&mut world, version, "bad", "#", QoS::AtMostOnce);
            world.reads(bad, false);
            for _ in 0..3 {
                for _ in 0..20 {
                    publish(&mut world, writer, version, "t", Delivery::AtMostOnce, &payload);
                }
                world.pass(Span::from_millis(50));
                looks += 1;
                held += usize::from(!world.is_read_from(writer));
            }
            world.break_off(bad);
        }
        assert!(held * 4 < looks, "held in {held} of {looks} looks");
    });
}

#[test]
fn an_expired_retained_message_is_removed() {
    let mut world = World::new(2);
    let writer = join_as(&mut world, Version::V5, "writer");
    let mut publish = Publish { retain: true, ..packet("r", Delivery::AtMostOnce, "x") };
    publish.properties.message_expiry_interval = Some(10);
    world.send(writer, &bytes(&Packet::Publish(publish), Version::V5));
    world.pass(Span::from_secs(20));
    // Each of the two shards had it.
    assert_eq!(world.counters().dropped_expired, 2);
    let connect = Connect { client_id: "late", ..connect(Version::V5, "late") };
    let late = join(&mut world, &connect);
    world.send(late, &subscribe(Version::V5, 1, &[("r", at(QoS::AtMostOnce))]));
    assert_eq!(world.received(late), ["SUBACK 1 [00]"]);
}
