//! A batch of letters whose messages take much is read in parts, and the messages behind the dear
//! ones do not wait for them.

use std::collections::BTreeMap;

use ringmq::mqtt::{Delivery, Packet, QoS};

use super::{V5, narrow};
use crate::{
    join_as,
    packets::{at, bytes, publish, subscribe},
    subscriber,
    world::World,
};

/// How many clients publish, how many messages each of them, and how many clients read all of it.
const WRITERS: usize = 20;
const MESSAGES: usize = 25;
const READERS: usize = 200;
/// Two slices of 800 steps, and one message more than the first of them has room for.
const PER_TURN: u64 = 3 * 800;

/// A client whose home is this shard.
fn at_home_on(world: &mut World, shard: usize, name: &str) -> usize {
    let clients: Vec<usize> = (0..20).map(|n| join_as(world, V5, &format!("{name} {n}"))).collect();
    let mut at_home = clients.into_iter().filter(|&client| world.shard_of(client) == shard);
    at_home.next().expect("some hash to this shard")
}

fn push(world: &mut World, writer: usize, topic: &str, payload: &str) {
    let message = publish(topic, Delivery::AtMostOnce, payload);
    world.push(writer, &bytes(&Packet::Publish(message), V5));
}

/// The payloads of each writer, in the order in which this client has got them.
fn by_writer(world: &mut World, reader: usize) -> BTreeMap<String, Vec<usize>> {
    let mut got: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    world.look(reader, |packet| {
        if let Ok(Packet::Publish(publish)) = packet {
            let payload = std::str::from_utf8(publish.payload).expect("it is text");
            let (writer, number) = payload.split_once(' ').expect("a writer and a number");
            got.entry(writer.into()).or_default().push(number.parse().expect("a number"));
        }
    });
    got
}

/// Steps that all shards have done for messages.
fn steps(world: &World) -> u64 {
    let counters = world.counters();
    counters.publishes_sent + counters.other_steps
}

#[test]
fn a_message_behind_a_batch_of_dear_ones_comes_soon_and_no_turn_is_long() {
    for shards in [2, 4] {
        let mut world = narrow(shards);
        let innocent = at_home_on(&mut world, 0, "innocent writer");
        let other = at_home_on(&mut world, 1, "innocent reader");
        world.send(other, &subscribe(V5, 1, &[("innocent", at(QoS::AtMostOnce))]));
        world.received(other);
        let join = |n| subscriber(&mut world, V5, &format!("{n}"), "dear", QoS::AtMostOnce);
        let readers: Vec<usize> = (0..READERS).map(join).collect();
        let writers: Vec<usize> =
            (0..WRITERS).map(|n| join_as(&mut world, V5, &format!("writer {n}"))).collect();
        world.mail_waits = true;
        for number in 0..MESSAGES {
            for &writer in &writers {
                push(&mut world, writer, "dear", &format!("{writer} {number}"));
            }
        }
        push(&mut world, innocent, "innocent", "hello");
        world.run();
        world.mail_waits = false;
        let (mut turns, before) = (0, world.counters().publishes_sent);
        let answer = loop {
            let before = steps(&world);
            world.turn();
            turns += 1;
            let done = steps(&world) - before;
            assert!(done <= PER_TURN * (shards * shards) as u64, "{done} steps");
            let answer = world.received(other);
            if !answer.is_empty() {
                break answer;
            }
        };
        assert_eq!(answer, ["PUBLISH innocent 'hello'"]);
        let sent = world.counters().publishes_sent - before;
        assert!(turns <= 12 && sent < (WRITERS * MESSAGES * READERS / 8) as u64, "{turns}, {sent}");
        world.run();
        for reader in readers {
            let got = by_writer(&mut world, reader);
            assert_eq!(got.len(), WRITERS);
            assert!(got.values().all(|numbers| numbers.iter().copied().eq(0..MESSAGES)));
        }
        assert_eq!(world.unfinished(), 0);
    }
}
