//! Retained messages on their way to a subscription that something happens to meanwhile.

use std::{
    collections::BTreeMap,
    num::{NonZeroU16, NonZeroU32},
};

use ringmq::{
    access::Policy,
    base::time::Span,
    mqtt::{
        Connect, Delivery, Packet, Publish, QoS, RetainHandling, Subscribe, SubscribeFilters,
        SubscriptionOptions, UserProperties, Version,
    },
    session::queue::QueueLimits,
    shard::rules::Limits,
};

use crate::{
    SHARDS, everywhere, join, join_as,
    packets::{
        ack, at, bytes, connect, disconnect, publish as packet, receive_maximum, resume, subscribe,
        unsubscribe,
    },
    retain,
    world::{World, limits},
};

const V5: Version = Version::V5;

/// A broker that holds `r/00` to `r/19`, each with the payload `old` and some bytes.
fn world_with_twenty(shards: usize, limits: &Limits) -> (World, usize) {
    let mut world = World::with(shards, limits, &Policy::default());
    let writer = join_as(&mut world, V5, "writer");
    for number in 0..20 {
        let topic = format!("r/{number:02}");
        retain_at_qos_1(&mut world, writer, &topic, &format!("old{}", pad()));
    }
    (world, writer)
}

fn retain_at_qos_1(world: &mut World, writer: usize, topic: &str, payload: &str) {
    let delivery = Delivery::AtLeastOnce(crate::packets::id(1));
    let publish = Publish { retain: true, ..packet(topic, delivery, payload) };
    world.send(writer, &bytes(&Packet::Publish(publish), V5));
}

fn pad() -> String {
    "x".repeat(50)
}

fn change(world: &mut World, writer: usize, numbers: impl Iterator<Item = u32>) {
    for number in numbers {
        retain(world, writer, V5, &format!("r/{number:02}"), &format!("new{}", pad()));
    }
}

/// The first letters of the payloads that came for each topic, in their order.
fn payloads_by_topic(world: &mut World, client: usize) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    world.look(client, |packet| {
        if let Ok(Packet::Publish(publish)) = packet {
            let start = String::from_utf8_lossy(&publish.payload[..3]).into_owned();
            found.entry(publish.topic.to_owned()).or_default().push(start);
        }
    });
    found
}

fn narrow() -> Limits {
    Limits { outbox_bytes_max: 400, patience: Span::ZERO, topic_aliases_max: 0, ..limits() }
}

#[test]
fn a_retained_message_that_changes_during_a_replay_comes_though_its_live_copy_was_dropped() {
    everywhere(|shards, version| {
        let (mut world, writer) = world_with_twenty(shards, &narrow());
        let reader = join_as(&mut world, version, "reader");
        world.reads(reader, false);
        world.send(reader, &subscribe(version, 1, &[("r/+", at(QoS::AtMostOnce))]));
        // The first topics have been replayed by now, and the last ones have not.
        change(&mut world, writer, 10..20);
        assert!(world.counters().dropped_outbox_full >= 5);
        world.reads(reader, true);
        let found = payloads_by_topic(&mut world, reader);
        assert_eq!(found.len(), 20, "{found:?}");
        for number in 10..20 {
            assert_eq!(found[&format!("r/{number:02}")], ["new"]);
        }
    });
}

/// A live copy and a replayed one would be the same message twice.
#[test]
fn a_retained_message_that_changes_during_a_replay_and_comes_live_comes_once() {
    everywhere(|shards, version| {
        let wide = Limits { outbox_bytes_max: 400, ..limits() };
        let (mut world, writer) = world_with_twenty(shards, &wide);
        let reader = join_as(&mut world, version, "reader");
        world.reads(reader, false);
        world.send(reader, &subscribe(version, 1, &[("r/+", at(QoS::AtMostOnce))]));
        change(&mut world, writer, 19..20);
        assert_eq!(world.counters().dropped_outbox_full, 0);
        world.reads(reader, true);
        let found = payloads_by_topic(&mut world, reader);
        assert_eq!((found.len(), &found["r/19"]), (20, &vec!["new".to_owned()]));
    });
}

#[test]
fn what_changes_while_the_subscriber_is_away_comes_with_the_rest_of_its_replay() {
    everywhere(|shards, version| {
        let (mut world, writer) = world_with_twenty(shards, &narrow());
        let reader = join(&mut world, &resume(version, "reader"));
        world.reads(reader, false);
        world.send(reader, &subscribe(version, 1, &[("r/+", at(QoS::AtMostOnce))]));
        world.push(reader, &disconnect(version));
        world.run();
        world.reads(reader, true);
        let mut found = payloads_by_topic(&mut world, reader);
        assert!(found.len() < 10);
        change(&mut world, writer, 15..20);
        let back = world.open(version);
        world.send(back, &bytes(&Packet::Connect(resume(version, "reader")), version));
        found.extend(payloads_by_topic(&mut world, back));
        assert_eq!(found.len(), 20, "{found:?}");
        assert_eq!(found["r/17"], ["new"]);
    });
}

#[test]
fn what_finds_the_queue_of_an_absent_subscriber_full_comes_with_the_rest_of_its_replay() {
    for shards in SHARDS {
        let queue = QueueLimits { messages_max: 2, bytes_max: 1 << 20 };
        let (mut world, writer) = world_with_twenty(shards, &Limits { queue, ..narrow() });
        let mut slow = resume(V5, "c");
        slow.properties.receive_maximum = NonZeroU16::new(1);
        let reader = join(&mut world, &slow);
        world.send(reader, &subscribe(V5, 1, &[("r/+", at(QoS::AtLeastOnce))]));
        world.received(reader);
        world.send(reader, &disconnect(V5));
        for number in 10..20 {
            retain_at_qos_1(&mut world, writer, &format!("r/{number}"), "new");
        }
        let back = world.open(V5);
        world.send(back, &bytes(&Packet::Connect(resume(V5, "c")), V5));
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for _ in 0..30 {
            for packet_id in (1..=40).map(ack) {
                world.send(back, &bytes(&Packet::Puback(packet_id), V5));
            }
            for (topic, payloads) in payloads_by_topic(&mut world, back) {
                found.entry(topic).or_default().extend(payloads);
            }
        }
        let late = (10..20).map(|number| found[&format!("r/{number}")].last().cloned());
        assert!(late.flatten().all(|payload| payload == "new"), "{found:?}");
    }
}

fn subscribe_as(packet_id: u16, identifier: u32, options: SubscriptionOptions) -> Vec<u8> {
    let subscribe = Subscribe {
        packet_id: crate::packets::id(packet_id),
        subscription_identifier: NonZeroU32::new(identifier),
        user_properties: UserProperties::default(),
        filters: SubscribeFilters::List(&[("r/+", options)]),
    };
    bytes(&Packet::Subscribe(subscribe), V5)
}

/// A client that has been replayed two of twenty messages, and its window.
fn in_mid_replay(world: &mut World) -> usize {
    let properties = receive_maximum(2);
    let reader = join(world, &Connect { properties, ..connect(V5, "reader") });
    world.send(reader, &subscribe_as(1, 1, at(QoS::AtLeastOnce)));
    assert_eq!(world.received(reader).len(), 3);
    reader
}

/// Acknowledges everything, and says what comes: topic and Subscription Identifiers of each.
fn take_all(world: &mut World, reader: usize) -> Vec<(String, Vec<u32>)> {
    let mut found = Vec::new();
    for packet_id in 1..=40 {
        world.look(reader, |packet| {
            if let Ok(Packet::Publish(publish)) = packet {
                let identifiers = publish.properties.subscription_identifiers.iter().collect();
                found.push((publish.topic.to_owned(), identifiers));
            }
        });
        world.send(reader, &bytes(&Packet::Puback(ack(packet_id)), V5));
    }
    found
}

fn handling(retain_handling: RetainHandling) -> SubscriptionOptions {
    SubscriptionOptions { retain_handling, ..at(QoS::AtLeastOnce) }
}

#[test]
fn unsubscribe_ends_a_replay_though_the_same_filter_is_subscribed_at_once() {
    for shards in SHARDS {
        let (mut world, _) = world_with_twenty(shards, &limits());
        let reader = in_mid_replay(&mut world);
        world.push(reader, &unsubscribe(V5, 2, &["r/+"]));
        world.send(reader, &subscribe_as(3, 2, handling(RetainHandling::DoNotSend)));
        assert_eq!(world.received(reader), ["UNSUBACK 2 [00]", "SUBACK 3 [01]"]);
        assert_eq!(take_all(&mut world, reader), []);
    }
}

/// The whole set comes once more, by the new subscription.
#[test]
fn a_replay_that_is_asked_for_again_takes_the_place_of_the_earlier_one() {
    for shards in SHARDS {
        let (mut world, _) = world_with_twenty(shards, &limits());
        let reader = in_mid_replay(&mut world);
        world.send(reader, &subscribe_as(2, 2, at(QoS::AtMostOnce)));
        let found = take_all(&mut world, reader);
        assert_eq!(found.len(), 20);
        assert!(found.iter().all(|(_, identifiers)| *identifiers == [2]), "{found:?}");
    }
}

/// What the earlier subscription was owed is not lost, and comes as the later one says.
#[test]
fn a_replay_goes_on_for_a_subscription_that_replaces_its_own_without_asking_again() {
    for shards in SHARDS {
        for retain_handling in [RetainHandling::SendIfNew, RetainHandling::DoNotSend] {
            let (mut world, _) = world_with_twenty(shards, &limits());
            let reader = in_mid_replay(&mut world);
            world.send(reader, &subscribe_as(2, 2, handling(retain_handling)));
            let found = take_all(&mut world, reader);
            assert_eq!(found.len(), 18);
            assert!(found.iter().all(|(_, identifiers)| *identifiers == [2]), "{found:?}");
        }
    }
}

/// As long as there is No Local, the subscriber does not ask for what it publishes itself.
#[test]
fn what_a_subscriber_publishes_in_mid_replay_comes_if_it_has_given_up_no_local() {
    for shards in SHARDS {
        let (mut world, _) = world_with_twenty(shards, &narrow());
        let reader = join_as(&mut world, V5, "reader");
        world.reads(reader, false);
        let no_local = SubscriptionOptions { no_local: true, ..at(QoS::AtMostOnce) };
        world.send(reader, &subscribe(V5, 1, &[("r/+", no_local)]));
        change(&mut world, reader, 10..15);
        let retain_handling = RetainHandling::DoNotSend;
        let local = SubscriptionOptions { retain_handling, ..at(QoS::AtMostOnce) };
        world.send(reader, &subscribe(V5, 2, &[("r/+", local)]));
        change(&mut world, reader, 15..20);
        assert!(world.counters().dropped_outbox_full >= 2);
        world.reads(reader, true);
        let found = payloads_by_topic(&mut world, reader);
        assert_eq!(found.len(), 15, "{found:?}");
        for number in 15..20 {
            assert_eq!(found[&format!("r/{number}")], ["new"]);
        }
    }
}

#[test]
fn a_retained_message_that_was_not_sent_live_comes_by_each_replay_that_is_open() {
    for shards in SHARDS {
        let (mut world, writer) = world_with_twenty(shards, &narrow());
        let reader = join_as(&mut world, V5, "reader");
        world.reads(reader, false);
        let filters = [("r/+", at(QoS::AtMostOnce)), ("r/#", at(QoS::AtMostOnce))];
        world.send(reader, &subscribe(V5, 1, &filters));
        change(&mut world, writer, 10..20);
        assert!(world.counters().dropped_outbox_full >= 5);
        world.reads(reader, true);
        let found = payloads_by_topic(&mut world, reader);
        assert_eq!(found["r/19"], ["new", "new"]);
    }
}
