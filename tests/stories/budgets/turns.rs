//! What the packets of one connection may do in a turn.

use ringmq::mqtt::{Delivery, Packet, Publish, QoS};

use super::{Pair, V5, narrow};
use crate::{
    SHARDS, join_as,
    packets::{at, bytes, publish, subscribe},
    subscriber,
    world::World,
};

/// Deliveries of one connection in a turn of the narrow broker, and those of its last packet.
const PER_TURN: u64 = 200 + 100;

/// The messages of the publisher.
const MESSAGES: usize = 200;

/// Takes turns until all messages of the publisher have been handled, while the pair is served. No
/// more than `at_once` of them are handled in the two turns that the pair needs for a message.
fn take_turns(world: &mut World, pair: &Pair, at_once: u64) {
    let mut before = world.counters().publishes_received;
    let mut turns = 0;
    while before < MESSAGES as u64 {
        pair.talk(world);
        turns += 1;
        let now = world.counters().publishes_received - turns;
        assert!(now - before <= at_once, "{before} and then {now}");
        before = now;
    }
}

/// Its packets are small, and each of them goes to a hundred subscribers.
#[test]
fn a_publisher_of_dear_packets_is_read_on_in_the_next_turn_in_order() {
    for shards in SHARDS {
        let mut world = narrow(shards);
        let pair = Pair::of(&mut world);
        let readers: Vec<usize> = (0..100)
            .map(|n| subscriber(&mut world, V5, &format!("reader {n}"), "dear", QoS::AtMostOnce))
            .collect();
        let writer = join_as(&mut world, V5, "writer");
        let payloads: Vec<String> = (0..MESSAGES).map(|n| n.to_string()).collect();
        let messages = payloads.iter().flat_map(|payload| {
            bytes(&Packet::Publish(publish("dear", Delivery::AtMostOnce, payload)), V5)
        });
        world.push(writer, &messages.collect::<Vec<u8>>());
        // The readers of other shards count on their own.
        take_turns(&mut world, &pair, 2 * PER_TURN * shards as u64 / 100);
        world.run();
        let expected: Vec<String> =
            payloads.iter().map(|payload| format!("PUBLISH dear '{payload}'")).collect();
        for reader in readers {
            assert_eq!(world.received(reader), expected);
        }
    }
}

/// Its packets go to one subscriber, which has many filters that match.
#[test]
fn a_publisher_of_topics_that_match_many_filters_is_read_on_in_the_next_turn() {
    const LEVELS: usize = 5;
    /// 63 nodes of the trie, and the subscriptions of 32 filters.
    const STEPS: u64 = 63 / 16 + 32 / 4 + 1;
    let mut world = narrow(1);
    let pair = Pair::of(&mut world);
    let reader = join_as(&mut world, V5, "reader");
    let filter = |bits: usize| {
        let levels: Vec<&str> =
            (0..LEVELS).map(|level| if bits >> level & 1 == 0 { "a" } else { "+" }).collect();
        levels.join("/")
    };
    let filters: Vec<String> = (0..1 << LEVELS).map(filter).collect();
    let asked: Vec<_> = filters.iter().map(|text| (&**text, at(QoS::AtMostOnce))).collect();
    world.send(reader, &subscribe(V5, 1, &asked));
    let writer = join_as(&mut world, V5, "writer");
    let message = publish("a/a/a/a/a", Delivery::AtMostOnce, "x");
    world.push(writer, &bytes(&Packet::Publish(message), V5).repeat(MESSAGES));
    take_turns(&mut world, &pair, 2 * PER_TURN / STEPS);
}

/// Storing takes longer than sending to one subscriber.
#[test]
fn a_publisher_of_retained_messages_is_read_on_in_the_next_turn() {
    const STEPS: u64 = 8;
    let mut world = narrow(1);
    let pair = Pair::of(&mut world);
    let writer = join_as(&mut world, V5, "writer");
    let topics: Vec<String> = (0..MESSAGES).map(|n| format!("stored/{n}")).collect();
    let messages = topics.iter().flat_map(|topic| {
        let stored = Publish { retain: true, ..publish(topic, Delivery::AtMostOnce, "x") };
        bytes(&Packet::Publish(stored), V5)
    });
    world.push(writer, &messages.collect::<Vec<u8>>());
    take_turns(&mut world, &pair, 2 * PER_TURN / STEPS);
}
