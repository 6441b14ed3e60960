//! A message that is too much for one turn comes to all who want it over several turns.

use ringmq::{
    access::Policy,
    mqtt::{Ack, Delivery, Packet, Publish, QoS, Version},
    session::queue::QueueLimits,
    shard::rules::Limits,
};

use super::{GROUPS, PER_TURN, Pair, V5, join_groups, take_all};
use crate::{
    SHARDS, everywhere, join, join_as,
    packets::{at, bytes, connect, disconnect, id, publish, resume, subscribe, unsubscribe},
    subscriber,
    world::{World, limits},
};

/// A broker that does so many steps in a turn. Nobody is held back for the queue of a subscriber,
/// which would keep acknowledgements back.
fn broker(shards: usize, slice_steps: usize) -> World {
    let queue = QueueLimits { messages_max: 100_000, bytes_max: 64 << 20 };
    World::with(shards, &Limits { slice_steps, queue, ..limits() }, &Policy::default())
}

fn push(world: &mut World, client: usize, message: Publish<'_>) {
    world.push(client, &bytes(&Packet::Publish(message), V5));
}

/// The publisher is acknowledged when every group has the message, and what it publishes then comes
/// after that.
#[test]
fn a_message_for_ten_thousand_groups_comes_to_each_once_while_others_are_served() {
    for shards in SHARDS {
        let mut world = broker(shards, 800);
        let pair = Pair::of(&mut world);
        let member = join_as(&mut world, V5, "member");
        join_groups(&mut world, member, "all", GROUPS);
        let writer = join_as(&mut world, V5, "heavy");
        for n in 1..=2 {
            push(&mut world, writer, publish("all", Delivery::AtLeastOnce(id(n)), "1"));
        }
        let (mut turns, mut acknowledged) = (0, Vec::new());
        while acknowledged.len() < 2 {
            pair.talk(&mut world);
            turns += 1;
            acknowledged.extend(world.received(writer));
        }
        assert_eq!(acknowledged, ["PUBACK 1", "PUBACK 2"]);
        assert!(turns >= 2 * GROUPS as u64 / PER_TURN / 2, "{turns}");
        world.run();
        assert_eq!((take_all(&mut world, member), world.unfinished()), (2 * GROUPS, 0));
        assert!(world.counters().split_messages >= 2);
    }
}

/// Clients that subscribe to one filter, which so many of them do.
fn crowd(world: &mut World, filter: &str, clients: usize) -> Vec<usize> {
    let join = |n| subscriber(world, V5, &format!("crowd {n}"), filter, QoS::AtLeastOnce);
    (0..clients).map(join).collect()
}

const CROWD: usize = 200;

/// A receiver takes two steps, and a turn does two slices of 20 steps.
#[test]
fn a_message_for_very_many_subscribers_comes_to_each_once_while_others_are_served() {
    for shards in SHARDS {
        let mut world = broker(shards, 20);
        let pair = Pair::of(&mut world);
        let crowd = crowd(&mut world, "all", CROWD);
        // This one has two filters that match, and is sent the message once.
        let both = [("all", at(QoS::AtMostOnce)), ("#", at(QoS::AtLeastOnce))];
        world.send(crowd[0], &subscribe(V5, 2, &both));
        world.received(crowd[0]);
        let writer = join_as(&mut world, V5, "heavy");
        push(&mut world, writer, publish("all", Delivery::AtLeastOnce(id(1)), "1"));
        let mut turns = 0;
        while world.received(writer).is_empty() || world.unfinished() > 0 {
            pair.talk(&mut world);
            turns += 1;
        }
        assert!(turns >= CROWD / shards / 20 / 2, "{turns}");
        world.run();
        for client in crowd {
            let got = world.received_ids(client);
            assert_eq!(got.len(), 1, "client {client}");
        }
    }
}

/// Subscriptions that begin meanwhile are too late for the message, and sessions that end get
/// nothing. Whoever takes a session over gets what it is owed, once.
#[test]
fn nothing_is_lost_or_doubled_when_subscribers_come_and_go_and_are_taken_over_meanwhile() {
    for shards in SHARDS {
        let mut world = broker(shards, 20);
        let mut crowd = crowd(&mut world, "all", CROWD);
        let kept = join(&mut world, &resume(V5, "kept"));
        world.send(kept, &subscribe(V5, 1, &[("all", at(QoS::AtLeastOnce))]));
        world.received(kept);
        let writer = join_as(&mut world, V5, "heavy");
        push(&mut world, writer, publish("all", Delivery::AtLeastOnce(id(1)), "1"));
        world.turn();
        assert!(world.received(writer).is_empty());
        for client in crowd.drain(..CROWD / 4) {
            world.push(client, &disconnect(V5));
        }
        let late = world.open(V5);
        world.push(late, &bytes(&Packet::Connect(connect(V5, "late")), V5));
        world.push(late, &subscribe(V5, 1, &[("all", at(QoS::AtLeastOnce))]));
        let heir = world.open(V5);
        world.push(heir, &bytes(&Packet::Connect(resume(V5, "kept")), V5));
        world.run();
        assert_eq!(world.received(writer), ["PUBACK 1"]);
        for client in crowd {
            assert_eq!(world.received_ids(client).len(), 1, "client {client}");
        }
        let publishes = |world: &mut World, client| {
            let lines = world.received(client);
            lines.iter().filter(|line| line.contains("PUBLISH")).count()
        };
        assert_eq!(publishes(&mut world, late), 0);
        // The message may have been sent on the earlier connection, and again on this one.
        assert_eq!(publishes(&mut world, heir), 1);
        assert_eq!(world.unfinished(), 0);
    }
}

/// Filters of `a` and `+` over so many levels: a name of as many levels matches all of them.
const LEVELS: u32 = 10;

fn bomb(world: &mut World) -> usize {
    let client = join_as(world, V5, "bomb");
    let level = |number: u32, bit: u32| if number >> bit & 1 == 1 { "+" } else { "a" };
    let filter = |number| {
        let levels: Vec<&str> = (0..LEVELS).map(|bit| level(number, bit)).collect();
        levels.join("/")
    };
    let filters: Vec<String> = (0..1 << LEVELS).map(filter).collect();
    for (some, packet_id) in filters.chunks(500).zip(1..) {
        let asked: Vec<_> = some.iter().map(|text| (&**text, at(QoS::AtLeastOnce))).collect();
        world.send(client, &subscribe(V5, packet_id, &asked));
    }
    world.received(client);
    client
}

fn bombed_topic() -> String {
    vec!["a"; LEVELS as usize].join("/")
}

#[test]
fn a_walk_of_a_thousand_nodes_ends_in_one_copy_while_others_are_served() {
    for shards in SHARDS {
        let mut world = broker(shards, 100);
        let pair = Pair::of(&mut world);
        let bomb = bomb(&mut world);
        let writer = join_as(&mut world, V5, "heavy");
        push(&mut world, writer, publish(&bombed_topic(), Delivery::AtLeastOnce(id(1)), "1"));
        let (mut turns, mut acknowledged) = (0, Vec::new());
        while acknowledged.is_empty() || world.unfinished() > 0 {
            pair.talk(&mut world);
            turns += 1;
            acknowledged.extend(world.received(writer));
        }
        assert_eq!(acknowledged, ["PUBACK 1"]);
        assert!(turns >= 5, "{turns}");
        world.run();
        assert_eq!(take_all(&mut world, bomb), 1);
    }
}

/// What filters of `a` and `+` cost each message is bounded when they are subscribed to. Many
/// filters of one fleet are no burden.
#[test]
fn a_session_may_have_so_many_patterns_of_text_and_plus() {
    everywhere(|shards, version| {
        let limits = Limits { wildcard_patterns_max: 3, ..limits() };
        let mut world = World::with(shards, &limits, &Policy::default());
        let client = join_as(&mut world, version, "bomb");
        let ask = |world: &mut World, packet_id, filters: &[&str]| {
            let asked: Vec<_> = filters.iter().map(|text| (*text, at(QoS::AtMostOnce))).collect();
            world.send(client, &subscribe(version, packet_id, &asked));
            world.received(client)
        };
        let refused = if version == Version::V5 { "97" } else { "80" };
        let fleet = ["+/a", "+/b", "+/c/#", "a/+", "b/+", "#", "$share/g/+"];
        assert_eq!(ask(&mut world, 1, &fleet), ["SUBACK 1 [00, 00, 00, 00, 00, 00, 00]"]);
        let said = ask(&mut world, 2, &["+/+", "$share/g/a/b/+", "d/+"]);
        assert_eq!(said, [format!("SUBACK 2 [{refused}, {refused}, 00]")]);
        assert_eq!(world.counters().refused_wildcard_patterns, 2);
        world.send(client, &unsubscribe(version, 3, &["a/+", "b/+", "d/+"]));
        world.received(client);
        assert_eq!(ask(&mut world, 4, &["+/+"]), ["SUBACK 4 [00]"]);
    });
}

/// A later message of the same publisher waits behind a walk that was cut, on each shard.
#[test]
fn what_a_publisher_sends_comes_in_its_order_though_its_walks_are_cut() {
    for shards in SHARDS {
        let mut world = broker(shards, 100);
        let bomb = bomb(&mut world);
        world.send(bomb, &subscribe(V5, 9, &[("b", at(QoS::AtLeastOnce))]));
        world.received(bomb);
        let writer = join_as(&mut world, V5, "heavy");
        for n in 1..=9u16 {
            let topic = if n % 3 == 0 { "b".to_owned() } else { bombed_topic() };
            push(&mut world, writer, publish(&topic, Delivery::AtMostOnce, &n.to_string()));
        }
        world.run();
        let said = world.received(bomb);
        let payloads: Vec<&str> = said.iter().filter_map(|line| line.split('\'').nth(1)).collect();
        assert_eq!(payloads, ["1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    }
}

/// What is unsubscribed from during a walk may come or not; what stays comes once.
#[test]
fn filters_that_go_during_a_walk_take_nothing_from_those_that_stay() {
    for shards in SHARDS {
        let mut world = broker(shards, 100);
        let bomb = bomb(&mut world);
        let stays = subscriber(&mut world, V5, "stays", "#", QoS::AtLeastOnce);
        let goes = subscriber(&mut world, V5, "goes", "+/#", QoS::AtLeastOnce);
        let writer = join_as(&mut world, V5, "heavy");
        push(&mut world, writer, publish(&bombed_topic(), Delivery::AtLeastOnce(id(1)), "1"));
        world.turn();
        world.push(bomb, &disconnect(V5));
        world.push(goes, &unsubscribe(V5, 2, &["+/#"]));
        world.run();
        assert_eq!(world.received(writer), ["PUBACK 1"]);
        assert_eq!(take_all(&mut world, stays), 1);
        assert!(take_all(&mut world, goes) <= 1);
        assert_eq!(world.unfinished(), 0);
    }
}

/// A new subscription gets the retained message, and not the message itself besides.
#[test]
fn who_subscribes_while_a_retained_message_is_brought_to_others_gets_it_once() {
    for shards in SHARDS {
        let mut world = broker(shards, 100);
        bomb(&mut world);
        let writer = join_as(&mut world, V5, "heavy");
        let topic = bombed_topic();
        let message = publish(&topic, Delivery::AtLeastOnce(id(1)), "1");
        push(&mut world, writer, Publish { retain: true, ..message });
        world.turn();
        let late = world.open(V5);
        world.push(late, &bytes(&Packet::Connect(connect(V5, "late")), V5));
        world.push(late, &subscribe(V5, 1, &[("#", at(QoS::AtLeastOnce))]));
        world.run();
        assert_eq!(take_all(&mut world, late), 1);
    }
}

/// The Will of a client whose own message is on its way comes after that message.
#[test]
fn a_message_that_is_on_its_way_arrives_though_its_publisher_has_gone() {
    for shards in SHARDS {
        let mut world = broker(shards, 20);
        let crowd = crowd(&mut world, "all", CROWD);
        let writer = join_as(&mut world, V5, "heavy");
        push(&mut world, writer, publish("all", Delivery::AtLeastOnce(id(1)), "1"));
        world.turn();
        world.break_off(writer);
        world.run();
        for client in crowd {
            assert_eq!(world.received_ids(client).len(), 1, "client {client}");
        }
        assert_eq!(world.unfinished(), 0);
    }
}

/// A message that was sent and not acknowledged is sent again, and not routed again.
#[test]
fn a_resend_at_qos_2_while_the_message_is_on_its_way_is_not_routed_again() {
    let mut world = broker(1, 20);
    let crowd = crowd(&mut world, "all", CROWD);
    let writer = join(&mut world, &resume(V5, "heavy"));
    push(&mut world, writer, publish("all", Delivery::ExactlyOnce(id(1)), "1"));
    world.turn();
    let again = world.open(V5);
    world.push(again, &bytes(&Packet::Connect(resume(V5, "heavy")), V5));
    let message = publish("all", Delivery::ExactlyOnce(id(1)), "1");
    push(&mut world, again, Publish { dup: true, ..message });
    world.push(again, &bytes(&Packet::Pubrel(Ack::success(id(1))), V5));
    world.run();
    assert_eq!(world.received(again), ["CONNACK Success session present", "PUBREC 1", "PUBCOMP 1"]);
    for client in crowd {
        assert_eq!(world.received_ids(client).len(), 1, "client {client}");
    }
}
