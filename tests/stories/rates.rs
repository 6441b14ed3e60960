//! What a client may send in a second, and how many connections a listener takes.

use ringmq::{
    access::Anonymous,
    base::{rate::Rate, time::Span},
    mqtt::{Delivery, Packet, QoS, Version},
    transport::listener::{ClientRates, Listeners, Rates},
};

use crate::{
    everywhere, join_as,
    packets::{at, bytes, connect, id, publish, subscribe},
    world::World,
};

/// A broker whose listeners have these limits.
fn limited(shards: usize, of_client: ClientRates, connections: u64) -> World {
    World::told(shards, |rules| {
        let mut listeners: Vec<_> = rules.listeners.all().map(|(_, it)| it.clone()).collect();
        for listener in &mut listeners {
            listener.rates = Rates::new(of_client, Rate::new(connections));
        }
        rules.listeners = Listeners::from(listeners);
    })
}

fn messages(per_second: u64) -> ClientRates {
    ClientRates { messages: Rate::new(per_second), bytes: None }
}

fn message(version: Version, n: u16, payload: &str) -> Vec<u8> {
    bytes(&Packet::Publish(publish("t", Delivery::AtLeastOnce(id(n)), payload)), version)
}

fn numbered(version: Version, numbers: std::ops::Range<u16>) -> Vec<u8> {
    numbers.flat_map(|n| message(version, n, "x")).collect()
}

#[test]
fn who_publishes_too_fast_is_read_from_more_slowly_and_loses_nothing() {
    everywhere(|shards, version| {
        let mut world = limited(shards, messages(10), 0);
        let reader = join_as(&mut world, version, "reader");
        world.send(reader, &subscribe(version, 1, &[("t", at(QoS::AtMostOnce))]));
        world.received(reader);
        let writer = join_as(&mut world, version, "writer");
        world.send(writer, &numbered(version, 1..31));
        assert_eq!(world.received(writer).len(), 10);
        assert!(!world.is_read_from(writer));
        for _ in 0..2 {
            world.pass(Span::from_millis(1_010));
            assert_eq!(world.received(writer).len(), 10);
        }
        // What a quiet second brings comes at once.
        world.pass(Span::from_secs(5));
        world.send(writer, &numbered(version, 31..41));
        assert_eq!(world.received(writer).len(), 10);
        assert_eq!(world.received(reader).len(), 40);
        assert!(world.counters().held_rate > 0 && world.is_read_from(writer));
    });
}

#[test]
fn who_publishes_too_fast_for_too_long_is_told_so() {
    everywhere(|shards, version| {
        let mut world = limited(shards, messages(10), 0);
        let writer = join_as(&mut world, version, "writer");
        let slow = join_as(&mut world, version, "slow");
        world.send(writer, &numbered(version, 1..500));
        for n in 0..9 {
            world.send(slow, &numbered(version, 10 * n + 1..10 * n + 11));
            world.pass(Span::from_secs(1));
        }
        assert!(!world.is_closed(writer));
        world.pass(Span::from_secs(2));
        assert!(world.is_closed(writer) && !world.is_closed(slow));
        let said = world.received(writer);
        let is_told = said.last().is_some_and(|last| last == "DISCONNECT MessageRateTooHigh");
        assert_eq!(is_told, version == Version::V5);
        assert_eq!(world.counters().ended_rate, 1);
    });
}

#[test]
fn bytes_are_limited_whatever_the_packets_are() {
    everywhere(|shards, version| {
        let rates = ClientRates { messages: None, bytes: Rate::new(1_000) };
        let mut world = limited(shards, rates, 0);
        let client = join_as(&mut world, version, "client");
        world.send(client, &bytes(&Packet::Pingreq, version).repeat(501));
        assert_eq!(world.received(client).len(), 500);
        world.pass(Span::from_millis(50));
        assert_eq!(world.received(client), ["PINGRESP"]);
        // A packet that is larger than what a second brings comes alone.
        world.pass(Span::from_secs(2));
        world.send(client, &message(version, 1, &"x".repeat(5_000)));
        world.send(client, &bytes(&Packet::Pingreq, version));
        assert_eq!(world.received(client).len(), 1);
        world.pass(Span::from_secs(3));
        assert_eq!(world.received(client).len(), 0);
        world.pass(Span::from_secs(2));
        assert_eq!(world.received(client), ["PINGRESP"]);
    });
}

#[test]
fn connections_beyond_the_rate_wait_and_those_that_would_wait_too_long_are_closed() {
    for shards in crate::SHARDS {
        let mut world = limited(shards, ClientRates::default(), 2);
        let open = |world: &mut World| {
            let client = world.open(Version::V5);
            world.send(client, &bytes(&Packet::Connect(connect(Version::V5, "")), Version::V5));
            client
        };
        let clients: Vec<usize> = (0..24).map(|_| open(&mut world)).collect();
        let answered = |world: &mut World| {
            clients.iter().filter(|&&client| !world.received(client).is_empty()).count()
        };
        assert_eq!(answered(&mut world), 2, "{shards} shards");
        // Twenty may wait for ten seconds, two for each.
        assert_eq!(clients.iter().filter(|&&client| world.is_closed(client)).count(), 2);
        for _ in 0..10 {
            world.pass(Span::from_millis(1_000));
            let now = answered(&mut world);
            assert!((1..=3).contains(&now), "{now} at once");
        }
        world.pass(Span::from_secs(1));
        answered(&mut world);
        let counters = world.counters();
        assert_eq!((counters.refused_rate, counters.delayed_rate), (2, 20));
        assert_eq!(counters.clients_connected, 22);
    }
}

#[test]
fn a_listener_has_rates_of_its_own() {
    let mut world = World::told(2, |rules| {
        let mut listeners: Vec<_> = rules.listeners.all().map(|(_, it)| it.clone()).collect();
        listeners[1].rates = Rates::new(messages(1), None);
        rules.listeners = Listeners::from(listeners);
        rules.policy.anonymous = Anonymous::Everywhere;
    });
    for (listener, count) in [(0, 5), (1, 1)] {
        let client = world.open_on(Version::V311, listener);
        let hello = bytes(&Packet::Connect(connect(Version::V311, "")), Version::V311);
        world.send(client, &hello);
        world.received(client);
        world.send(client, &numbered(Version::V311, 1..6));
        assert_eq!(world.received(client).len(), count, "listener {listener}");
    }
}
