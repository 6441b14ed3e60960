//! Clients that are sent to another server.

use std::num::NonZeroU32;

use ringmq::{
    access::Policy,
    mqtt::{Connect, ConnectProperties, Packet, QoS, Version},
    shard::{referral::Referral, rules::Limits},
};

use crate::{
    everywhere, join_as,
    packets::{bytes, connect, resume},
    statements::knock,
    subscriber,
    world::{World, limits},
};

const V5: Version = Version::V5;
const SERVERS: &str = "b.example:1883 [fe80::1]:1883";

fn temporary() -> Referral {
    Referral::Temporary(SERVERS.into())
}

/// A broker with room for so many sessions on each shard.
fn with_room_for(shards: usize, sessions_max: usize, referral: Referral) -> World {
    World::told(shards, |rules| {
        rules.limits = Limits { sessions_max, ..limits() };
        rules.referral = referral;
    })
}

/// What a client was told at the end: the packet, its Reason Code and its Server Reference.
fn told(world: &mut World, client: usize) -> Vec<(String, Option<String>)> {
    assert!(world.is_closed(client));
    let mut last = Vec::new();
    world.look(client, |packet| {
        let Ok(packet) = packet else { return };
        let reference = match &packet {
            Packet::Connack(connack) => connack.properties.server_reference,
            Packet::Disconnect(disconnect) => disconnect.server_reference,
            _ => None,
        };
        last.push((crate::story::tell(&packet), reference.map(str::to_owned)));
    });
    last
}

/// A client that knocks, and what it is told.
fn turned_away(world: &mut World, connect: &Connect<'_>) -> Vec<(String, Option<String>)> {
    let client = world.open(connect.version);
    world.send(client, &bytes(&Packet::Connect(*connect), connect.version));
    told(world, client)
}

fn connack(version: Version, reason: &str) -> Vec<(String, Option<String>)> {
    if version == V5 {
        vec![(format!("CONNACK {reason}"), Some(SERVERS.to_owned()))]
    } else {
        vec![("CONNACK ServerUnavailable".to_owned(), None)]
    }
}

#[test]
fn a_client_without_room_for_its_session_is_sent_to_another_server() {
    everywhere(|shards, version| {
        let mut world = with_room_for(shards, 0, temporary());
        let answer = turned_away(&mut world, &connect(version, "one too many"));
        assert_eq!(answer, connack(version, "UseAnotherServer"));
        assert_eq!(world.counters().redirected, u64::from(version == V5));
        assert_eq!(world.counters().refused_sessions, 1);
    });
}

#[test]
fn a_client_that_comes_back_to_its_session_needs_no_other_room() {
    everywhere(|shards, version| {
        let mut world = with_room_for(shards, 1, temporary());
        join_as(&mut world, version, "guest");
        let (_, received) = knock(&mut world, &resume(version, "guest"));
        assert!(received[0].starts_with("CONNACK Success"), "{received:?}");
    });
}

#[test]
fn a_connection_too_many_is_sent_to_another_server() {
    everywhere(|shards, version| {
        let mut world = with_room_for(shards, 100, temporary());
        let guest = join_as(&mut world, version, "guest");
        world.full = true;
        // Whoever it is, one that has a connection already included.
        for name in ["guest", "other", "another"] {
            let answer = turned_away(&mut world, &connect(version, name));
            assert_eq!(answer, connack(version, "UseAnotherServer"));
        }
        assert!(!world.is_closed(guest));
        world.full = false;
        join_as(&mut world, version, "other");
    });
}

#[test]
fn clients_of_a_broker_that_stops_are_sent_to_another_server() {
    everywhere(|shards, version| {
        for referral in [temporary(), Referral::Nowhere] {
            let mut world = with_room_for(shards, 100, referral.clone());
            let client = subscriber(&mut world, version, "client", "t", QoS::AtMostOnce);
            world.stop();
            let expected = match (version, referral) {
                (Version::V5, Referral::Nowhere) => {
                    vec![("DISCONNECT ServerShuttingDown".to_owned(), None)]
                }
                (Version::V5, _) => {
                    vec![("DISCONNECT UseAnotherServer".to_owned(), Some(SERVERS.to_owned()))]
                }
                _ => Vec::new(),
            };
            assert_eq!(told(&mut world, client), expected);
        }
    });
}

#[test]
fn a_broker_that_has_moved_serves_nobody() {
    everywhere(|shards, version| {
        let mut world = with_room_for(shards, 100, Referral::Permanent(SERVERS.into()));
        for name in ["one", "two", "three"] {
            let answer = turned_away(&mut world, &connect(version, name));
            assert_eq!(answer, connack(version, "ServerMoved"));
        }
        let sum = world.counters();
        assert_eq!((sum.clients_total, sum.refused_connect), (0, 3));
    });
}

/// [MQTT-3.1.2-24]
#[test]
fn a_server_reference_is_left_out_before_the_packet_is_too_large() {
    for (size, expected) in [
        (6 + SERVERS.len() + 3, vec![("CONNACK UseAnotherServer", Some(SERVERS))]),
        (6 + SERVERS.len(), vec![("CONNACK UseAnotherServer", None)]),
        (4, vec![]),
    ] {
        let mut world = with_room_for(2, 0, temporary());
        let maximum_packet_size = NonZeroU32::new(u32::try_from(size).unwrap());
        let properties = ConnectProperties { maximum_packet_size, ..ConnectProperties::default() };
        let answer = turned_away(&mut world, &Connect { properties, ..connect(V5, "small") });
        let answer: Vec<_> = answer.iter().map(|(line, to)| (&**line, to.as_deref())).collect();
        assert_eq!(answer, expected, "{size}");
    }
}

#[test]
fn without_another_server_a_full_broker_says_that_it_is_full() {
    for shards in crate::SHARDS {
        let full = Limits { sessions_max: 0, ..limits() };
        let mut world = World::with(shards, &full, &Policy::default());
        let answer = turned_away(&mut world, &connect(V5, "one too many"));
        assert_eq!(answer, [("CONNACK QuotaExceeded".to_owned(), None)]);
        assert_eq!(world.counters().redirected, 0);
    }
}
