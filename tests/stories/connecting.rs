//! CONNECT and the ends of connections.

use std::{io::Write, sync::Arc};

use ringmq::{
    access::{Anonymous, Passwords, Policy},
    base::time::Span,
    mqtt::{Connect, Delivery, Packet, Version},
};

use crate::{
    everywhere, join, join_as,
    packets::{bytes, connect, disconnect, publish, resume, will},
    world::{World, limits},
};

fn answer(world: &mut World, connect: &Connect<'_>) -> Vec<String> {
    let client = world.open(connect.version);
    world.send(client, &bytes(&Packet::Connect(*connect), connect.version));
    world.received(client)
}

/// [MQTT-3.1.4-5] [MQTT-3.12.4-1] [MQTT-3.1.4-4@3.1.1] [MQTT-3.2.0-1@3.1.1] [MQTT-3.12.4-1@3.1.1]
#[test]
fn a_client_is_let_in_and_answered() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        for client_id in ["a", "b", "c", "d"] {
            let client = join_as(&mut world, version, client_id);
            world.send(client, &bytes(&Packet::Pingreq, version));
            assert_eq!(world.received(client), ["PINGRESP"]);
        }
        assert_eq!(world.counters().clients_connected, 4);
    });
}

/// [MQTT-3.1.0-1] [MQTT-3.1.0-2] [MQTT-3.1.0-1@3.1.1] [MQTT-3.1.0-2@3.1.1]
#[test]
fn connect_comes_first_and_once() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let early = world.open(version);
        world.send(early, &bytes(&Packet::Pingreq, version));
        assert!(world.is_closed(early));
        assert_eq!(world.received(early), [""; 0]);

        let twice = join_as(&mut world, version, "twice");
        world.send(twice, &bytes(&Packet::Connect(connect(version, "twice")), version));
        assert!(world.is_closed(twice));
        assert_eq!(world.counters().ended_protocol_error, 2);
    });
}

/// [MQTT-3.1.3-6] [MQTT-3.1.3-6@3.1.1] [MQTT-3.1.3-8@3.1.1]
#[test]
fn an_empty_client_identifier_is_replaced_where_the_version_allows_it() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        assert_eq!(answer(&mut world, &connect(Version::V5, "")), ["CONNACK Success"]);
        assert_eq!(answer(&mut world, &connect(Version::V311, "")), ["CONNACK Success"]);
        let lasting = answer(&mut world, &resume(Version::V311, ""));
        assert_eq!(lasting, ["CONNACK ClientIdentifierNotValid"]);
        let old = answer(&mut world, &connect(Version::V31, ""));
        assert_eq!(old, ["CONNACK ClientIdentifierNotValid"]);
        assert_eq!(world.counters().clients_connected, 2);
    }
}

/// [MQTT-3.1.2-1] [MQTT-3.1.2-2] [MQTT-3.1.2-2@3.1.1]
#[test]
fn an_unknown_protocol_level_is_named_as_the_reason() {
    let mut world = World::new(1);
    for (level, version) in [(7, Version::V5), (0x86, Version::V5), (3, Version::V311)] {
        let client = world.open(version);
        let body = [b"\x00\x04MQTT", &[level, 2, 0, 60][..], b"\x00\x01a"].concat();
        world.send(client, &[&[0x10, 13][..], &body].concat());
        assert_eq!(world.received(client), ["CONNACK UnsupportedProtocolVersion"]);
        assert!(world.is_closed(client));
    }
    let stranger = world.open(Version::V311);
    world.send(stranger, b"\x10\x0d\x00\x04MQTS\x04\x02\x00\x3c\x00\x01a");
    assert_eq!(world.received_bytes(stranger), b"");
    assert!(world.is_closed(stranger));
}

/// [MQTT-3.1.3-2] [MQTT-3.1.4-3] [MQTT-3.14.4-1] [MQTT-3.14.4-2] [MQTT-3.1.3-2@3.1.1]
/// [MQTT-3.1.4-2@3.1.1]
#[test]
fn a_second_connection_takes_the_client_over() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let first = join(&mut world, &resume(version, "same"));
        let second = world.open(version);
        world.send(second, &bytes(&Packet::Connect(resume(version, "same")), version));
        let present = if version > Version::V31 { " session present" } else { "" };
        assert_eq!(world.received(second), [format!("CONNACK Success{present}")]);
        let farewell: &[&str] =
            if version == Version::V5 { &["DISCONNECT SessionTakenOver"] } else { &[] };
        assert_eq!(world.received(first), farewell);
        assert!(world.is_closed(first) && !world.is_closed(second));
        assert_eq!(world.counters().clients_connected, 1);
    });
}

#[test]
fn a_connection_without_connect_is_closed_in_time() {
    let mut world = World::new(2);
    let client = world.open(Version::V311);
    world.send(client, b"\x10");
    world.pass(Span::from_secs(9));
    assert!(!world.is_closed(client));
    world.pass(Span::from_secs(2));
    assert!(world.is_closed(client));
    assert_eq!(world.counters().ended_connect_timeout, 1);
}

/// After a pause of the whole process, such as SIGSTOP, the broker reads first what has come.
#[test]
fn nobody_is_cut_for_the_silence_of_a_broker_that_stood_still() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let terms = Connect { keep_alive: 10, ..connect(version, "pings") };
        let [pings, quiet] =
            ["pings", "quiet"].map(|client_id| join(&mut world, &Connect { client_id, ..terms }));
        let late = world.open(version);
        world.stand_still(Span::from_secs(92));
        // The first turn reads the bytes of some clients only.
        world.pass(Span::from_millis(50));
        assert!(![pings, quiet, late].into_iter().any(|client| world.is_closed(client)));
        world.send(pings, &bytes(&Packet::Pingreq, version));
        world.send(late, &bytes(&Packet::Connect(connect(version, "late")), version));
        world.pass(Span::from_secs(3));
        assert!(!world.is_closed(pings) && !world.is_closed(late));
        assert!(world.is_closed(quiet), "silence is judged a second later");
        world.pass(Span::from_secs(20));
        assert!(world.is_closed(pings));
    });
}

/// [MQTT-3.1.2-22] [MQTT-3.2.2-22] [MQTT-3.1.2-24@3.1.1]
#[test]
fn silence_of_one_and_a_half_keep_alives_ends_the_connection() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let keep_alive = 10;
        let client = join(&mut world, &Connect { keep_alive, ..connect(version, "quiet") });
        let immortal = join(&mut world, &Connect { keep_alive: 0, ..connect(version, "0") });
        world.pass(Span::from_secs(14));
        world.send(client, &bytes(&Packet::Pingreq, version));
        world.pass(Span::from_secs(14));
        assert!(!world.is_closed(client));
        world.pass(Span::from_secs(2));
        assert!(world.is_closed(client));
        world.pass(Span::from_secs(3600));
        assert!(!world.is_closed(immortal));
        assert_eq!(world.counters().ended_keep_alive, 1);
    });
}

#[test]
fn a_client_that_has_sent_its_last_still_gets_its_answers() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let client = world.open(version);
        let mut all = bytes(&Packet::Connect(connect(version, "brief")), version);
        all.extend(crate::packets::subscribe(
            version,
            7,
            &[("a/#", crate::packets::at(ringmq::mqtt::QoS::AtMostOnce))],
        ));
        all.extend(bytes(&Packet::Pingreq, version));
        world.push(client, &all);
        world.finish(client);
        let received = world.received(client);
        assert_eq!(received, ["CONNACK Success", "SUBACK 7 [00]", "PINGRESP"]);
        assert!(world.is_closed(client));
        assert_eq!(world.counters().ended_abruptly, 1);
    });
}

/// [MQTT-3.14.4-1] [MQTT-4.13.1-1] [MQTT-4.8.0-1@3.1.1]
#[test]
fn malformed_bytes_close_the_connection_and_are_counted() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let client = join_as(&mut world, version, "garbage");
        world.send(client, b"\x80\xff\xff\xff\x7f");
        assert!(world.is_closed(client));
        let farewell: &[&str] =
            if version == Version::V5 { &["DISCONNECT MalformedPacket"] } else { &[] };
        assert_eq!(world.received(client), farewell);
        assert_eq!(world.counters().ended_malformed, 1);
    });
}

/// [MQTT-3.2.2-15]
#[test]
fn a_packet_that_is_too_large_is_refused_by_its_length_alone() {
    let mut world = World::new(1);
    let client = join_as(&mut world, Version::V5, "large");
    world.send(client, b"\x30\xff\xff\xff\x7f");
    assert_eq!(world.received(client), ["DISCONNECT PacketTooLarge"]);
    assert_eq!(world.counters().ended_too_large, 1);
}

/// The largest Will fits. What is larger than a CONNECT may be is refused before its bytes come,
/// and the client that has been let in may send it.
#[test]
fn before_connack_a_packet_may_be_as_large_as_a_connect_with_its_will() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let payload = vec![b'x'; 65_535];
        let with_will = Connect { will: Some(will("t", &payload)), ..connect(version, "will") };
        let client = world.open(version);
        world.send(client, &bytes(&Packet::Connect(with_will), version));
        assert!(!world.is_closed(client));
        let large = "x".repeat(limits().connect_size_max);
        let large = publish("t", Delivery::AtMostOnce, &large);
        world.send(client, &bytes(&Packet::Publish(large), version));
        assert!(!world.is_closed(client));
        let stranger = world.open(version);
        // 128 KiB and the fixed header.
        world.send(stranger, b"\x10\x80\x80\x08");
        assert!(world.is_closed(stranger));
        assert_eq!(world.counters().refused_connect_size, 1);
    });
}

/// [MQTT-3.14.4-2] [MQTT-4.13.2-1]
#[test]
fn a_stopping_broker_says_so() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let client = join_as(&mut world, version, "a");
        let early = world.open(version);
        world.stop();
        let farewell: &[&str] =
            if version == Version::V5 { &["DISCONNECT ServerShuttingDown"] } else { &[] };
        assert_eq!(world.received(client), farewell);
        assert!(world.is_closed(client) && world.is_closed(early));
    });
}

#[test]
fn nothing_is_handled_after_disconnect() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let client = join_as(&mut world, version, "a");
        let mut all = disconnect(version);
        all.extend(bytes(&Packet::Pingreq, version));
        world.send(client, &all);
        assert_eq!(world.received(client), [""; 0]);
        assert!(world.is_closed(client));
        assert_eq!(world.counters().ended_by_client, 1);
    });
}

/// [MQTT-3.1.4-2] [MQTT-3.2.2-7] [MQTT-3.2.2-5@3.1.1]
#[test]
fn strangers_from_elsewhere_are_refused_by_default() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let client = world.open_on(version, 1);
        world.send(client, &bytes(&Packet::Connect(connect(version, "far")), version));
        assert_eq!(world.received(client), ["CONNACK NotAuthorized"]);
        assert!(world.is_closed(client));
        assert_eq!(world.counters().refused_authentication, 1);
    });
}

#[test]
fn a_password_is_checked_before_the_client_is_let_in() {
    // "secret", by mosquitto_passwd.
    let file = include_str!("passwords.txt");
    let mut path = std::env::temp_dir();
    path.push(format!("ringmq-stories-{}", std::process::id()));
    std::fs::File::create(&path).unwrap().write_all(file.as_bytes()).unwrap();
    let passwords = Passwords::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let policy = Policy {
        passwords: Some(Arc::new(passwords)),
        anonymous: Anonymous::Refused,
        ..Policy::default()
    };
    for version in crate::VERSIONS {
        let mut world = World::with(2, &limits(), &policy);
        let with = |password| Connect {
            user_name: Some("ada"),
            password: Some(password),
            ..connect(version, "c")
        };
        assert_eq!(answer(&mut world, &with(b"secret")), ["CONNACK Success"]);
        assert_eq!(answer(&mut world, &with(b"guess")), ["CONNACK BadUserNameOrPassword"]);
        assert_eq!(answer(&mut world, &connect(version, "c")), ["CONNACK NotAuthorized"]);
    }
}
