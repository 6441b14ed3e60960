//! Shared subscriptions.

use ringmq::{
    access::Policy,
    base::time::Span,
    mqtt::{Connect, ConnectProperties, Delivery, Packet, PacketId, QoS, ReasonCode, Version},
    routing::{Strategies, Strategy},
    session::queue::QueueLimits,
    shard::rules::{Limits, WhenQueueFull},
};

use crate::{
    everywhere, join, join_as,
    packets::{
        ack, at, bytes, connect, disconnect, id, receive_maximum, resume, subscribe, unsubscribe,
    },
    publish, subscriber,
    world::{World, limits},
};

pub(crate) const STRATEGIES: [Strategy; 6] = [
    Strategy::RoundRobin,
    Strategy::Random,
    Strategy::LeastInFlight,
    Strategy::Sticky,
    Strategy::HashClient,
    Strategy::HashTopic,
];

fn sharing(shards: usize, default: Strategy) -> World {
    World::sharing(shards, &Strategies { default, ..Strategies::default() })
}

/// A 5.0 client whose session ends with its connection, and whose window is so wide.
fn windowed(world: &mut World, client_id: &str, share: &str, window: u16) -> usize {
    let properties = ConnectProperties { session_expiry_interval: None, ..receive_maximum(window) };
    let connect = Connect { properties, ..connect(Version::V5, client_id) };
    let client = join(world, &connect);
    world.send(client, &subscribe(Version::V5, 1, &[(share, at(QoS::ExactlyOnce))]));
    assert_eq!(world.received(client), ["SUBACK 1 [02]"]);
    client
}

/// Payloads of the PUBLISH packets that the client has received.
fn payloads(world: &mut World, client: usize) -> Vec<String> {
    let lines = world.received(client);
    let quoted = |line: &String| Some(line.split_once('\'')?.1.trim_end_matches('\'').to_owned());
    lines.iter().filter(|line| line.starts_with("PUBLISH")).filter_map(quoted).collect()
}

fn numbered(delivery: fn(PacketId) -> Delivery, n: u16) -> (Delivery, String) {
    (delivery(id(n)), n.to_string())
}

fn publish_numbers(
    world: &mut World,
    writer: usize,
    delivery: fn(PacketId) -> Delivery,
    upto: u16,
) {
    for n in 1..=upto {
        let (delivery, payload) = numbered(delivery, n);
        publish(world, writer, Version::V5, "t", delivery, &payload);
    }
}

#[test]
fn one_member_of_each_group_gets_the_message() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let plain = subscriber(&mut world, version, "plain", "jobs/#", QoS::AtMostOnce);
        let members: Vec<_> = (0..8)
            .map(|n| {
                let share = if n < 5 { "$share/workers/jobs/+" } else { "$share/audit/jobs/+" };
                subscriber(&mut world, version, &format!("member {n}"), share, QoS::AtMostOnce)
            })
            .collect();
        let writer = join_as(&mut world, version, "writer");
        for _ in 0..30 {
            publish(&mut world, writer, version, "jobs/1", Delivery::AtMostOnce, "x");
        }
        let counts: Vec<_> = members.iter().map(|&m| world.received(m).len()).collect();
        assert_eq!(world.received(plain).len(), 30);
        assert_eq!(counts[..5], [6; 5]);
        assert_eq!(counts[5..], [10; 3]);
    });
}

#[test]
fn a_member_that_is_away_is_passed_over_while_another_is_there() {
    everywhere(|shards, version| {
        for strategy in STRATEGIES {
            let mut world = sharing(shards, strategy);
            let share = [("$share/g/t", at(QoS::AtLeastOnce))];
            let away = join(&mut world, &resume(version, "away"));
            world.send(away, &subscribe(version, 1, &share));
            let here = subscriber(&mut world, version, "here", "$share/g/t", QoS::AtLeastOnce);
            world.send(away, &disconnect(version));
            let writer = join_as(&mut world, version, "writer");
            for n in 1..=4 {
                publish(&mut world, writer, version, "t", Delivery::AtLeastOnce(id(n)), "x");
                world.send(here, &bytes(&Packet::Puback(ack(n)), version));
            }
            assert_eq!(world.received(here).len(), 4);
            world.send(here, &disconnect(version));
            publish(&mut world, writer, version, "t", Delivery::AtLeastOnce(id(5)), "later");
            let back = world.open(version);
            let connect = Packet::Connect(resume(version, "away"));
            world.send(back, &bytes(&connect, version));
            assert_eq!(world.received(back)[1..], ["PUBLISH t qos1 #1 'later'"]);
        }
    });
}

/// [MQTT-3.8.3-4]
#[test]
fn a_shared_subscription_cannot_be_no_local() {
    let mut world = World::new(2);
    let client = join_as(&mut world, Version::V5, "c");
    let options = ringmq::mqtt::SubscriptionOptions { no_local: true, ..at(QoS::AtMostOnce) };
    world.send(client, &subscribe(Version::V5, 1, &[("$share/g/t", options)]));
    assert_eq!(world.received(client), ["DISCONNECT ProtocolError"]);
}

#[test]
fn a_named_group_has_a_strategy_of_its_own() {
    for shards in crate::SHARDS {
        let named = [("stuck".into(), Strategy::Sticky)].into();
        let strategies = Strategies { default: Strategy::RoundRobin, named };
        let mut world = World::sharing(shards, &strategies);
        let mut four = |share: &str| {
            [0, 1, 2, 3].map(|n| {
                let (name, filter) = (format!("{share} {n}"), format!("$share/{share}/#"));
                subscriber(&mut world, Version::V5, &name, &filter, QoS::AtMostOnce)
            })
        };
        let (fair, stuck) = (four("fair"), four("stuck"));
        let writer = join_as(&mut world, Version::V5, "writer");
        for _ in 0..40 {
            publish(&mut world, writer, Version::V5, "t", Delivery::AtMostOnce, "x");
        }
        assert_eq!(fair.map(|member| world.received(member).len()), [10; 4]);
        let mut counts = stuck.map(|member| world.received(member).len());
        counts.sort_unstable();
        assert_eq!(counts, [0, 0, 0, 40]);
    }
}

#[test]
fn a_hash_keeps_what_belongs_together_with_one_member() {
    for shards in crate::SHARDS {
        for strategy in [Strategy::HashClient, Strategy::HashTopic] {
            let mut world = sharing(shards, strategy);
            let members: Vec<usize> = (0..8)
                .map(|n| {
                    let name = format!("member {n}");
                    subscriber(&mut world, Version::V5, &name, "$share/g/#", QoS::AtMostOnce)
                })
                .collect();
            let mut homes = vec![Vec::new(); 40];
            for (key, homes) in homes.iter_mut().enumerate() {
                for from in 0..3 {
                    let by_topic = strategy == Strategy::HashTopic;
                    let client = if by_topic { format!("{key} {from}") } else { format!("{key}") };
                    let topic = if by_topic { format!("t/{key}") } else { format!("t/{from}") };
                    let writer = join_as(&mut world, Version::V5, &client);
                    publish(&mut world, writer, Version::V5, &topic, Delivery::AtMostOnce, "x");
                    let got = members.iter().filter(|&&member| !world.received(member).is_empty());
                    homes.extend(got.copied());
                }
            }
            assert!(homes.iter().all(|homes| homes[..] == [homes[0]; 3]), "{strategy:?} {homes:?}");
            homes.sort_unstable();
            homes.dedup();
            assert!(homes.len() >= 6, "{strategy:?} {homes:?}");
        }
    }
}

/// The member with the narrow window holds what it does not acknowledge; the other one gets the
/// rest.
#[test]
fn least_in_flight_spares_a_member_that_does_not_acknowledge() {
    let mut world = sharing(1, Strategy::LeastInFlight);
    let slow = windowed(&mut world, "slow", "$share/g/t", 10);
    let fast = windowed(&mut world, "fast", "$share/g/t", 10);
    let writer = join_as(&mut world, Version::V5, "writer");
    let mut got = Vec::new();
    for n in 1..=20 {
        publish(&mut world, writer, Version::V5, "t", Delivery::AtLeastOnce(id(n)), "x");
        for packet_id in 1..=world.received(fast).len() {
            got.push(packet_id);
            let last = u16::try_from(got.len()).unwrap();
            world.send(fast, &bytes(&Packet::Puback(ack(last)), Version::V5));
        }
    }
    assert!(got.len() >= 19, "{}", got.len());
    assert!(world.received(slow).len() <= 1);
}

/// [MQTT-4.8.2-5]
#[test]
fn other_members_inherit_what_a_session_leaves_behind_in_order() {
    for shards in crate::SHARDS {
        for strategy in STRATEGIES {
            for (delivery, lost) in
                [(Delivery::AtLeastOnce as fn(PacketId) -> Delivery, 0), (Delivery::ExactlyOnce, 2)]
            {
                let mut world = sharing(shards, strategy);
                let first = windowed(&mut world, "first", "$share/g/t", 2);
                let writer = join_as(&mut world, Version::V5, "writer");
                publish_numbers(&mut world, writer, delivery, 9);
                assert_eq!(payloads(&mut world, first), ["1", "2"]);
                let other = windowed(&mut world, "other", "$share/g/t", 100);
                world.break_off(first);
                world.pass(Span::from_millis(50));
                let expected: Vec<String> = (1 + lost..=9).map(|n| n.to_string()).collect();
                assert_eq!(payloads(&mut world, other), expected, "{strategy:?} on {shards}");
                assert_eq!(world.counters().dropped_no_member, 0);
            }
        }
    }
}

#[test]
fn a_clean_start_and_an_expiry_leave_messages_to_the_group_too() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let share = [("$share/g/t", at(QoS::AtLeastOnce)), ("t", at(QoS::AtLeastOnce))];
        let absent = join(&mut world, &resume(version, "absent"));
        world.send(absent, &subscribe(version, 1, &share));
        world.send(absent, &disconnect(version));
        let writer = join_as(&mut world, version, "writer");
        for n in 1..=3 {
            let payload = n.to_string();
            publish(&mut world, writer, version, "t", Delivery::AtLeastOnce(id(n)), &payload);
        }
        let other = subscriber(&mut world, version, "other", "$share/g/t", QoS::AtLeastOnce);
        join_as(&mut world, version, "absent");
        world.pass(Span::from_millis(50));
        assert_eq!(payloads(&mut world, other), ["1", "2", "3"]);
    });
    let mut world =
        World::with(2, &Limits { session_expiry_max: 5, ..limits() }, &Policy::default());
    let absent = join(&mut world, &resume(Version::V5, "absent"));
    world.send(absent, &subscribe(Version::V5, 1, &[("$share/g/t", at(QoS::ExactlyOnce))]));
    world.send(absent, &disconnect(Version::V5));
    let writer = join_as(&mut world, Version::V5, "writer");
    publish_numbers(&mut world, writer, Delivery::ExactlyOnce, 3);
    let other = windowed(&mut world, "other", "$share/g/t", 10);
    world.pass(Span::from_secs(6));
    assert_eq!(payloads(&mut world, other), ["1", "2", "3"]);
}

/// A long queue is passed on in several turns; nothing is lost and each member gets its part in
/// order.
#[test]
fn thousands_of_messages_are_inherited_by_all_members_in_order() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let first = windowed(&mut world, "first", "$share/g/t", 1);
        let writer = join_as(&mut world, Version::V5, "writer");
        publish_numbers(&mut world, writer, Delivery::AtLeastOnce, 3000);
        let others = [0, 1, 2].map(|n| windowed(&mut world, &format!("{n}"), "$share/g/t", 2000));
        world.break_off(first);
        world.pass(Span::from_millis(500));
        let mut all = Vec::new();
        for other in others {
            let mut numbers = Vec::new();
            loop {
                let got = payloads(&mut world, other);
                let before = numbers.len();
                numbers.extend(got.iter().map(|payload| payload.parse::<u32>().unwrap()));
                if numbers.len() == before {
                    break;
                }
                for n in before + 1..=numbers.len() {
                    world.push(
                        other,
                        &bytes(&Packet::Puback(ack(u16::try_from(n).unwrap())), Version::V5),
                    );
                }
                world.run();
            }
            assert!(numbers.is_sorted());
            assert!((950..=1050).contains(&numbers.len()), "{}", numbers.len());
            all.extend(numbers);
        }
        all.sort_unstable();
        assert_eq!(all, (1..=3000).collect::<Vec<_>>());
    }
}

/// Whoever inherits has not asked for so much: what is too much waits until there is room, and the
/// other stays connected.
#[test]
fn an_heir_is_not_disconnected_for_what_it_inherits() {
    for shards in crate::SHARDS {
        let mut queue = limits().queue;
        queue.messages_max = 10;
        let limits = Limits { queue, patience: Span::ZERO, ..limits() };
        let mut world = World::with(shards, &limits, &Policy::default());
        let first = windowed(&mut world, "first", "$share/g/t", 1);
        let writer = join_as(&mut world, Version::V5, "writer");
        publish_numbers(&mut world, writer, Delivery::AtLeastOnce, 11);
        let other = windowed(&mut world, "other", "own", 1);
        for n in 1..=4 {
            publish(&mut world, writer, Version::V5, "own", Delivery::AtLeastOnce(id(n)), "own");
        }
        world.send(other, &subscribe(Version::V5, 2, &[("$share/g/t", at(QoS::AtLeastOnce))]));
        world.break_off(first);
        world.pass(Span::from_millis(50));
        assert!(!world.is_closed(other));
        assert_eq!(world.counters().dropped_queue_full, 0);
        let mut got = Vec::new();
        for n in 1..=15 {
            world.pass(Span::from_millis(50));
            got.extend(payloads(&mut world, other));
            world.send(other, &bytes(&Packet::Puback(ack(n)), Version::V5));
        }
        assert_eq!(got[..4], ["own"; 4]);
        let inherited: Vec<String> = (1..=11).map(|n: u16| n.to_string()).collect();
        assert_eq!(got[4..], inherited);
    }
}

#[test]
fn without_another_member_what_was_left_is_dropped_and_counted() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let only = windowed(&mut world, "only", "$share/g/t", 2);
        let writer = join_as(&mut world, Version::V5, "writer");
        publish_numbers(&mut world, writer, Delivery::AtLeastOnce, 5);
        world.break_off(only);
        world.pass(Span::from_millis(50));
        assert_eq!(world.counters().dropped_no_member, 5);
    }
}

/// What a client has been sent or is waiting for stays its own when it leaves the group, and goes
/// to the others when its session ends.
#[test]
fn a_member_that_unsubscribes_keeps_what_it_has_been_given() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let first = windowed(&mut world, "first", "$share/g/t", 1);
        let writer = join_as(&mut world, Version::V5, "writer");
        publish_numbers(&mut world, writer, Delivery::AtLeastOnce, 3);
        let other = windowed(&mut world, "other", "$share/g/t", 10);
        world.send(first, &unsubscribe(Version::V5, 2, &["$share/g/t"]));
        world.send(first, &bytes(&Packet::Puback(ack(1)), Version::V5));
        assert_eq!(payloads(&mut world, first), ["1", "2"]);
        world.pass(Span::from_millis(50));
        assert!(payloads(&mut world, other).is_empty());
        world.break_off(first);
        world.pass(Span::from_millis(50));
        assert_eq!(payloads(&mut world, other), ["2", "3"]);
    }
}

#[test]
fn a_message_that_a_member_refuses_goes_to_nobody_else() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let member = windowed(&mut world, "member", "$share/g/t", 10);
        let writer = join_as(&mut world, Version::V5, "writer");
        publish(&mut world, writer, Version::V5, "t", Delivery::AtLeastOnce(id(1)), "x");
        publish(&mut world, writer, Version::V5, "t", Delivery::ExactlyOnce(id(2)), "x");
        let other = windowed(&mut world, "other", "$share/g/t", 10);
        let refusal = |n| ringmq::mqtt::Ack { reason_code: ReasonCode::QuotaExceeded, ..ack(n) };
        world.send(member, &bytes(&Packet::Puback(refusal(1)), Version::V5));
        world.send(member, &bytes(&Packet::Pubrec(refusal(2)), Version::V5));
        world.break_off(member);
        world.pass(Span::from_millis(50));
        assert!(world.received(other).is_empty());
        assert_eq!(world.counters().dropped_no_member, 0);
    }
}

/// A broker whose queues hold two messages, and which waits for nobody.
fn narrow(shards: usize, when_queue_full: WhenQueueFull, patience: Span) -> World {
    let queue = QueueLimits { messages_max: 2, bytes_max: 1 << 20 };
    let limits = Limits { queue, when_queue_full, patience, ..limits() };
    World::with(shards, &limits, &Policy::default())
}

/// Reads and acknowledges everything that comes, and says the payloads.
fn take(world: &mut World, client: usize) -> Vec<String> {
    let mut taken = Vec::new();
    loop {
        let mut ids = Vec::new();
        world.look(client, |packet| {
            if let Ok(Packet::Publish(publish)) = packet {
                taken.push(String::from_utf8_lossy(publish.payload).into_owned());
                ids.extend(publish.delivery.packet_id());
            }
        });
        if ids.is_empty() {
            return taken;
        }
        for packet_id in ids {
            world.send(client, &bytes(&Packet::Puback(ack(packet_id.value())), Version::V5));
        }
    }
}

#[test]
fn what_finds_the_queue_of_a_member_full_goes_to_another_one() {
    let policies = [WhenQueueFull::Drop, WhenQueueFull::Disconnect];
    for (shards, policy) in crate::SHARDS.into_iter().flat_map(|n| policies.map(|it| (n, it))) {
        let mut world = narrow(shards, policy, Span::ZERO);
        let members = ["stuck", "good"].map(|name| windowed(&mut world, name, "$share/g/t", 1));
        let writer = join_as(&mut world, Version::V5, "writer");
        let mut got = Vec::new();
        for n in 1..=60 {
            let (delivery, payload) = numbered(Delivery::AtLeastOnce, n);
            publish(&mut world, writer, Version::V5, "t", delivery, &payload);
            got.extend(take(&mut world, members[1]));
        }
        for _ in 0..10 {
            world.pass(Span::from_millis(100));
            got.extend(take(&mut world, members[1]));
        }
        let mut numbers: Vec<u16> = got.iter().map(|payload| payload.parse().unwrap()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        // Who acknowledges nothing is gone, and what it held has been inherited, also what
        // waited until there was room.
        assert!(world.is_closed(members[0]));
        assert_eq!(numbers, (1..=60).collect::<Vec<_>>(), "{shards} shards");
        assert_eq!(world.counters().dropped_queue_full, 0);
    }
}

/// Publishers do not wait for a member that is stuck, so patience is left for one that is not.
#[test]
fn a_member_that_is_behind_is_passed_over_before_its_queue_is_full() {
    for (shards, default) in crate::SHARDS.into_iter().flat_map(|shards| {
        [Strategy::RoundRobin, Strategy::Random, Strategy::HashTopic].map(|it| (shards, it))
    }) {
        let queue = QueueLimits { messages_max: 100, bytes_max: 1 << 20 };
        let mut world = World::told(shards, |rules| {
            rules.limits = Limits { queue, patience: Span::from_secs(60), ..limits() };
            rules.strategies = Strategies { default, ..Strategies::default() };
        });
        let members = ["stuck", "good"].map(|name| windowed(&mut world, name, "$share/g/+", 1));
        let writer = join_as(&mut world, Version::V5, "writer");
        for n in 1..=300 {
            let (delivery, payload) = numbered(Delivery::AtLeastOnce, n);
            publish(&mut world, writer, Version::V5, &payload, delivery, &payload);
            take(&mut world, members[1]);
        }
        let waiting = world.waiting_for("stuck");
        let spreads = default != Strategy::HashTopic;
        assert_eq!(waiting <= 51, spreads, "{waiting} on {shards} shards");
        assert_eq!(world.counters().holds == 0, spreads, "{shards} shards");
        assert!(!world.is_closed(members[0]));
    }
}

#[test]
fn a_slow_member_stays_while_it_acknowledges() {
    for shards in crate::SHARDS {
        let mut world = narrow(shards, WhenQueueFull::Drop, Span::from_millis(500));
        let slow = windowed(&mut world, "slow", "$share/g/t", 1);
        let good = windowed(&mut world, "good", "$share/g/t", 1);
        let writer = join_as(&mut world, Version::V5, "writer");
        let mut got = 0;
        for n in 1..=60 {
            let (delivery, payload) = numbered(Delivery::AtLeastOnce, n);
            publish(&mut world, writer, Version::V5, "t", delivery, &payload);
            world.pass(Span::from_millis(100));
            got += take(&mut world, good).len();
            if n.is_multiple_of(3) {
                got += world.received(slow).len();
                world.send(slow, &bytes(&Packet::Puback(ack(n / 3)), Version::V5));
            }
        }
        for n in 21..=60 {
            got += world.received(slow).len();
            world.send(slow, &bytes(&Packet::Puback(ack(n)), Version::V5));
        }
        assert!(!world.is_closed(slow));
        assert_eq!(
            (got + take(&mut world, good).len(), world.counters().dropped_queue_full),
            (60, 0)
        );
    }
}

#[test]
fn absent_members_get_what_each_has_room_for() {
    for shards in crate::SHARDS {
        let mut world = narrow(shards, WhenQueueFull::Drop, Span::ZERO);
        let names = ["one", "two", "three", "four"];
        for name in names {
            let client = join(&mut world, &resume(Version::V5, name));
            let share = [("$share/g/t", at(QoS::AtLeastOnce)), ("u", at(QoS::AtLeastOnce))];
            let share = if name == "four" { &share[..] } else { &share[..1] };
            world.send(client, &subscribe(Version::V5, 1, share));
            world.send(client, &disconnect(Version::V5));
        }
        let writer = join_as(&mut world, Version::V5, "writer");
        // The last one is full already.
        for topic in ["u", "u", "t", "t", "t", "t", "t", "t", "t"] {
            publish(&mut world, writer, Version::V5, topic, Delivery::AtLeastOnce(id(1)), "x");
        }
        assert_eq!(world.counters().dropped_queue_full, 1, "{shards} shards");
        for name in names {
            let back = world.open(Version::V5);
            world.send(back, &bytes(&Packet::Connect(resume(Version::V5, name)), Version::V5));
            assert_eq!(world.received(back).len(), 3, "{name}");
        }
    }
}
