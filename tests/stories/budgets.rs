//! One client cannot stop the others: what is too much for one turn goes on in the next, and others
//! are served in between. Counted in what a turn does, not in time.

use ringmq::{
    access::Policy,
    mqtt::{Ack, Delivery, Packet, QoS, Version},
    shard::rules::Limits,
};

use crate::{
    SHARDS, join, join_as,
    packets::{at, bytes, connect, disconnect, id, publish, resume, subscribe},
    subscriber,
    world::{World, limits},
};

mod letters;
mod splitting;
mod turns;

const V5: Version = Version::V5;
const GROUPS: usize = 10_000;
/// Share groups or subscriptions that a turn of a narrow broker gets done at most.
const PER_TURN: u64 = 2 * 100;

/// A broker that does little in a turn.
fn narrow(shards: usize) -> World {
    World::with(shards, &Limits { slice_steps: 800, ..limits() }, &Policy::default())
}

/// Makes a client a member of so many share groups on one filter.
fn join_groups(world: &mut World, client: usize, filter: &str, groups: usize) {
    let filters: Vec<String> = (0..groups).map(|n| format!("$share/{n}/{filter}")).collect();
    for (some, packet_id) in filters.chunks(500).zip(1..) {
        let asked: Vec<_> = some.iter().map(|text| (&**text, at(QoS::AtLeastOnce))).collect();
        world.send(client, &subscribe(V5, packet_id, &asked));
    }
    world.received(client);
}

/// Two clients that want nothing but to talk to each other.
struct Pair {
    writer: usize,
    reader: usize,
}

impl Pair {
    fn of(world: &mut World) -> Pair {
        let reader = subscriber(world, V5, "innocent reader", "innocent", QoS::AtMostOnce);
        Pair { writer: join_as(world, V5, "innocent writer"), reader }
    }

    /// One message arrives within the turns that it takes on an idle broker: the letter of one
    /// shard is read by another in the next turn.
    fn talk(&self, world: &mut World) {
        let message = publish("innocent", Delivery::AtMostOnce, "hello");
        world.push(self.writer, &bytes(&Packet::Publish(message), V5));
        world.turn();
        world.turn();
        assert_eq!(world.received(self.reader), ["PUBLISH innocent 'hello'"]);
    }
}

#[test]
fn a_client_leaves_ten_thousand_share_groups_while_others_are_served() {
    for shards in SHARDS {
        let mut world = narrow(shards);
        let pair = Pair::of(&mut world);
        let leaver = join_as(&mut world, V5, "leaver");
        join_groups(&mut world, leaver, "a", GROUPS);
        let before = world.counters().subscriptions;
        world.push(leaver, &disconnect(V5));
        let (mut left, mut turns) = (before, 0);
        while left > 1 {
            pair.talk(&mut world);
            turns += 1;
            let now = world.counters().subscriptions;
            // Two turns for one message.
            assert!(left - now <= 2 * PER_TURN, "{left} and then {now}");
            left = now;
        }
        assert!(turns >= GROUPS as u64 / PER_TURN / 2, "{turns}");
        world.run();
        assert_eq!(world.unfinished(), 0);
    }
}

#[test]
fn who_comes_back_while_its_session_is_ended_finds_none_and_gets_nothing_of_it() {
    for shards in SHARDS {
        let mut world = narrow(shards);
        let leaver = join_as(&mut world, V5, "leaver");
        join_groups(&mut world, leaver, "a", GROUPS);
        let writer = join_as(&mut world, V5, "writer");
        world.push(leaver, &disconnect(V5));
        (0..2).for_each(|_| _ = world.turn());
        assert!(world.unfinished() > 0);
        let again = world.open(V5);
        world.push(again, &bytes(&Packet::Connect(resume(V5, "leaver")), V5));
        (0..4).for_each(|_| _ = world.turn());
        assert_eq!(world.received(again), ["CONNACK Success"]);
        let message = publish("a", Delivery::AtLeastOnce(id(1)), "lost");
        world.push(writer, &bytes(&Packet::Publish(message), V5));
        (0..2).for_each(|_| _ = world.turn());
        assert!(world.unfinished() > 0);
        world.run();
        assert!(world.received(again).is_empty());
        assert_eq!(world.counters().subscriptions, 0);
    }
}

/// Nobody gets the number of an ended session while it stands in the trie.
#[test]
fn a_new_client_gets_nothing_that_was_for_a_session_that_is_ended() {
    let mut world = narrow(1);
    let leaver = join_as(&mut world, V5, "leaver");
    let filters: Vec<String> = (0..GROUPS).map(|n| format!("a/{n}")).collect();
    for (some, packet_id) in filters.chunks(500).zip(1..) {
        let asked: Vec<_> = some.iter().map(|text| (&**text, at(QoS::AtMostOnce))).collect();
        world.send(leaver, &subscribe(V5, packet_id, &asked));
    }
    let writer = join_as(&mut world, V5, "writer");
    world.push(leaver, &disconnect(V5));
    world.turn();
    let stranger = world.open(V5);
    world.push(stranger, &bytes(&Packet::Connect(connect(V5, "stranger")), V5));
    world.turn();
    assert_eq!(world.received(stranger), ["CONNACK Success"]);
    for filter in filters.iter().step_by(100) {
        let message = publish(filter, Delivery::AtMostOnce, "secret");
        world.push(writer, &bytes(&Packet::Publish(message), V5));
    }
    world.turn();
    assert!(world.unfinished() > 0);
    world.run();
    assert!(world.received(stranger).is_empty());
}

/// A message goes to a member that is connected, though the groups have not all heard of the end of
/// another one's connection.
#[test]
fn a_member_that_has_just_gone_is_passed_over() {
    let mut world = narrow(1);
    let gone = join(&mut world, &resume(V5, "gone"));
    join_groups(&mut world, gone, "a", 1_000);
    let stays = join_as(&mut world, V5, "stays");
    join_groups(&mut world, stays, "a", 1_000);
    let writer = join_as(&mut world, V5, "writer");
    world.push(gone, &disconnect(V5));
    world.turn();
    assert!(world.unfinished() > 0);
    let message = publish("a", Delivery::AtLeastOnce(id(1)), "now");
    world.send(writer, &bytes(&Packet::Publish(message), V5));
    assert_eq!(take_all(&mut world, stays), 1_000);
    assert_eq!(world.unfinished(), 0);
}

/// Acknowledges all that a client is sent, and says how much that was.
fn take_all(world: &mut World, client: usize) -> usize {
    let mut taken = 0;
    loop {
        let ids = world.received_ids(client);
        if ids.is_empty() {
            return taken;
        }
        taken += ids.len();
        for packet_id in ids {
            world.push(client, &bytes(&Packet::Puback(Ack::success(packet_id)), V5));
        }
        world.run();
    }
}
