//! What goes when the memory of the broker is short: who holds most pays first.

use ringmq::{
    mqtt::{Delivery, Packet, QoS, ReasonCode, Version},
    session::queue::QueueLimits,
    shard::rules::{Rules, WhenQueueFull},
};

use crate::{
    SHARDS, join, join_as,
    packets::{at, bytes, connect, disconnect, id, publish, resume, subscribe},
    subscriber,
    world::{World, limits},
};

const V5: Version = Version::V5;
const MEMORY: usize = 4 << 20;

/// Addresses of clients.
const HEAVY: [u8; 4] = [10, 0, 0, 1];
const LIGHT: [u8; 4] = [10, 0, 0, 2];
const OTHER: [u8; 4] = [10, 0, 0, 3];

/// A broker with little memory in which publishers wait for nobody, and queues have no limit of
/// their own that matters.
fn small(shards: usize) -> World {
    World::within(MEMORY, shards, |rules: &mut Rules| {
        let queue = QueueLimits { messages_max: 1_000_000, bytes_max: 64 << 20 };
        let when_queue_full = WhenQueueFull::Drop;
        rules.limits = ringmq::shard::rules::Limits {
            patience: ringmq::base::time::Span::ZERO,
            queue,
            when_queue_full,
            ..limits()
        };
    })
}

/// A client publishes so many messages of 4,000 bytes at QoS 1.
fn flood(world: &mut World, writer: usize, topic: &str, messages: usize) {
    let payload = "x".repeat(4_000);
    let message = publish(topic, Delivery::AtLeastOnce(id(1)), &payload);
    let bytes = bytes(&Packet::Publish(message), V5);
    for _ in 0..messages {
        world.send(writer, &bytes);
    }
    world.received(writer);
}

/// How many messages a client has got.
fn publishes(world: &mut World, client: usize) -> usize {
    let lines = world.received(client);
    lines.iter().filter(|line| line.starts_with("PUBLISH")).count()
}

#[test]
fn unsent_messages_at_qos_0_take_no_more_than_the_budget_and_who_reads_gets_all() {
    for shards in SHARDS {
        let mut world = small(shards);
        world.peer = HEAVY;
        let join = |n| subscriber(&mut world, V5, &format!("{n}"), "#", QoS::AtMostOnce);
        let stuck: Vec<usize> = (0..6).map(join).collect();
        for &client in &stuck {
            world.reads(client, false);
        }
        world.peer = LIGHT;
        let reader = subscriber(&mut world, V5, "reader", "#", QoS::AtMostOnce);
        let writer = join_as(&mut world, V5, "writer");
        flood(&mut world, writer, "a", 300);
        let counters = world.counters();
        assert_eq!(publishes(&mut world, reader), 300);
        assert!(counters.memory_total <= MEMORY as u64, "{}", counters.memory_total);
        assert!(counters.dropped_memory > 0 && counters.dropped_outbox_full == 0);
        assert!(!stuck.iter().any(|&client| world.is_closed(client)), "QoS 0 pays first");
    }
}

/// The heavy account has eight absent sessions, and the light one has one with one message.
#[test]
fn the_queues_of_absent_sessions_go_of_the_account_that_holds_most_and_of_no_other() {
    for shards in SHARDS {
        let mut world = small(shards);
        for (peer, count, filter) in [(HEAVY, 8, "heavy"), (LIGHT, 1, "light")] {
            world.peer = peer;
            for n in 0..count {
                let client = join(&mut world, &resume(V5, &format!("{filter} {n}")));
                world.send(client, &subscribe(V5, 1, &[(filter, at(QoS::AtLeastOnce))]));
                world.send(client, &disconnect(V5));
            }
        }
        world.peer = OTHER;
        let writer = join_as(&mut world, V5, "writer");
        flood(&mut world, writer, "light", 1);
        flood(&mut world, writer, "heavy", 1_500);
        let counters = world.counters();
        assert!(counters.dropped_memory > 0);
        assert!(counters.memory_total <= MEMORY as u64, "{}", counters.memory_total);
        world.peer = LIGHT;
        let light = world.open(V5);
        world.send(light, &bytes(&Packet::Connect(resume(V5, "light 0")), V5));
        assert_eq!(publishes(&mut world, light), 1);
    }
}

/// It never acknowledges, so that all waits behind its window. Its session ends with its
/// connection.
#[test]
fn a_connected_client_for_which_most_waits_is_disconnected_with_quota_exceeded() {
    for shards in SHARDS {
        let mut world = small(shards);
        world.peer = HEAVY;
        let heavy = subscriber(&mut world, V5, "heavy", "heavy", QoS::AtLeastOnce);
        world.peer = LIGHT;
        let light = subscriber(&mut world, V5, "light", "light", QoS::AtLeastOnce);
        let writer = join_as(&mut world, V5, "writer");
        flood(&mut world, writer, "heavy", 1_200);
        let mut reasons = Vec::new();
        world.look(heavy, |packet| {
            if let Ok(Packet::Disconnect(disconnect)) = packet {
                reasons.push(disconnect.reason_code);
            }
        });
        assert_eq!(reasons, [ReasonCode::QuotaExceeded]);
        assert!(world.is_closed(heavy) && !world.is_closed(light));
        assert_eq!(world.counters().ended_quota, 1);
        flood(&mut world, writer, "light", 1);
        assert_eq!(publishes(&mut world, light), 1);
    }
}

/// The heavy account has three sessions, and one of them 700 subscriptions.
#[test]
fn who_holds_less_than_a_share_may_connect_and_subscribe_until_all_is_taken() {
    for shards in SHARDS {
        let mut world = small(shards);
        world.peer = HEAVY;
        let [heavy, ..] = [(); 3].map(|()| join(&mut world, &connect(V5, "")));
        let filters: Vec<String> = (0..700).map(|n| format!("heavy/{n}")).collect();
        let asked: Vec<_> = filters.iter().map(|text| (&**text, at(QoS::AtMostOnce))).collect();
        world.send(heavy, &subscribe(V5, 1, &asked));
        world.received(heavy);
        let ask = |world: &mut World, client| {
            world.send(client, &subscribe(V5, 2, &[("new", at(QoS::AtMostOnce))]));
            world.received(client)
        };
        let taken = usize::try_from(world.counters().memory_total).expect("less than the budget");
        world.hold_for_connections((MEMORY / 100 * 97 - taken) / shards);
        let connects = |world: &mut World, client_id| {
            let client = world.open(V5);
            world.send(client, &bytes(&Packet::Connect(connect(V5, client_id)), V5));
            let answer = world.received(client);
            answer[0].starts_with("CONNACK Success").then_some(client)
        };
        assert_eq!(connects(&mut world, "heavy 4"), None);
        assert_eq!(ask(&mut world, heavy), ["SUBACK 2 [97]"]);
        world.peer = LIGHT;
        let light = connects(&mut world, "light").expect("it has less than a share");
        assert_eq!(ask(&mut world, light), ["SUBACK 2 [00]"]);
        world.hold_for_connections(MEMORY / shards);
        assert_eq!(connects(&mut world, "light 2"), None);
        world.send(light, &subscribe(V5, 3, &[("another", at(QoS::AtMostOnce))]));
        assert_eq!(world.received(light), ["SUBACK 3 [97]"]);
        assert_eq!(world.counters().refused_memory, 4);
    }
}
