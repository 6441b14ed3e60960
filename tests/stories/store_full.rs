//! What clients see while the store has no room for messages.

use ringmq::mqtt::{Connect, ConnectProperties, Delivery, Packet, Publish, QoS, Version};

use crate::{
    SHARDS, join, join_as,
    packets::{ack, at, bytes, connect, disconnect, id, publish as packet, resume, subscribe},
    publish,
    world::World,
};

/// A broker with a client of this session that has subscribed to `t` and has gone.
fn with_sleeper(shards: usize) -> World {
    let mut world = World::stored(shards);
    let sleeper = join(&mut world, &resume(Version::V5, "sleeper"));
    world.send(sleeper, &subscribe(Version::V5, 1, &[("t", at(QoS::ExactlyOnce))]));
    assert_eq!(world.received(sleeper), ["SUBACK 1 [02]"]);
    world.send(sleeper, &disconnect(Version::V5));
    world
}

fn join_told(world: &mut World, client_id: &str) -> usize {
    let properties =
        ConnectProperties { request_problem_information: false, ..ConnectProperties::default() };
    join(world, &Connect { properties, ..connect(Version::V5, client_id) })
}

#[test]
fn a_5_0_client_is_told_that_there_is_no_room_and_publishes_when_there_is() {
    for shards in SHARDS {
        let mut world = with_sleeper(shards);
        let writer = join_told(&mut world, "writer");
        let all = |world: &mut World| {
            publish(world, writer, Version::V5, "t", Delivery::AtMostOnce, "0");
            publish(world, writer, Version::V5, "t", Delivery::AtLeastOnce(id(1)), "1");
            publish(world, writer, Version::V5, "t", Delivery::ExactlyOnce(id(2)), "2");
            world.received(writer)
        };
        world.tell_store_room(false);
        let refused = ["PUBACK 1 QuotaExceeded", "PUBREC 2 QuotaExceeded"];
        assert_eq!(all(&mut world), refused);
        // The identifier of the refused message is free.
        assert_eq!(all(&mut world), refused);
        assert_eq!(world.waiting_for("sleeper"), 0);
        assert_eq!(world.counters().refused_store_full, 4);
        world.tell_store_room(true);
        assert_eq!(all(&mut world), ["PUBACK 1", "PUBREC 2"]);
        assert_eq!(world.waiting_for("sleeper"), 2);
    }
}

#[test]
fn an_earlier_client_waits_for_room_and_loses_nothing() {
    for shards in SHARDS {
        let mut world = with_sleeper(shards);
        let writer = join_as(&mut world, Version::V311, "writer");
        let other = join_as(&mut world, Version::V311, "other");
        world.tell_store_room(false);
        publish(&mut world, writer, Version::V311, "t", Delivery::AtLeastOnce(id(1)), "1");
        publish(&mut world, writer, Version::V311, "t", Delivery::ExactlyOnce(id(2)), "2");
        world.send(writer, &bytes(&Packet::Pingreq, Version::V311));
        assert_eq!(world.received(writer), [""; 0]);
        // Others are served.
        publish(&mut world, other, Version::V311, "u", Delivery::AtMostOnce, "0");
        world.send(other, &bytes(&Packet::Pingreq, Version::V311));
        assert_eq!(world.received(other), ["PINGRESP"]);
        assert_eq!(world.counters().held_store_full, 1);
        world.tell_store_room(true);
        assert_eq!(world.received(writer), ["PUBACK 1", "PUBREC 2", "PINGRESP"]);
        assert_eq!(world.waiting_for("sleeper"), 2);
    }
}

#[test]
fn what_makes_room_goes_on_while_there_is_none() {
    for shards in SHARDS {
        let mut world = with_sleeper(shards);
        let writer = join_told(&mut world, "writer");
        let retain = |world: &mut World, payload: &str| {
            let publish = packet("r", Delivery::AtLeastOnce(id(7)), payload);
            let publish = Publish { retain: true, ..publish };
            world.send(writer, &bytes(&Packet::Publish(publish), Version::V5));
            world.received(writer)
        };
        assert_eq!(retain(&mut world, "1"), ["PUBACK 7 NoMatchingSubscribers"]);
        publish(&mut world, writer, Version::V5, "t", Delivery::ExactlyOnce(id(1)), "1");
        assert_eq!(world.received(writer), ["PUBREC 1"]);
        world.tell_store_room(false);
        assert_eq!(retain(&mut world, "2"), ["PUBACK 7 QuotaExceeded"]);
        assert_eq!(retain(&mut world, ""), ["PUBACK 7 NoMatchingSubscribers"]);
        // A message that was taken before is acknowledged again, and released.
        let again = Publish { dup: true, ..packet("t", Delivery::ExactlyOnce(id(1)), "1") };
        world.send(writer, &bytes(&Packet::Publish(again), Version::V5));
        world.send(writer, &bytes(&Packet::Pubrel(ack(1)), Version::V5));
        assert_eq!(world.received(writer), ["PUBREC 1", "PUBCOMP 1"]);
        let sleeper = join(&mut world, &resume(Version::V5, "sleeper"));
        world.send(sleeper, &bytes(&Packet::Pubrec(ack(1)), Version::V5));
        world.send(sleeper, &bytes(&Packet::Pubcomp(ack(1)), Version::V5));
        assert_eq!(world.waiting_for("sleeper"), 0);
    }
}

#[test]
fn a_broker_without_lasting_sessions_needs_no_room() {
    let mut world = World::stored(2);
    let reader = join_as(&mut world, Version::V5, "reader");
    world.send(reader, &subscribe(Version::V5, 1, &[("t", at(QoS::AtMostOnce))]));
    world.received(reader);
    let writer = join_as(&mut world, Version::V5, "writer");
    world.tell_store_room(false);
    publish(&mut world, writer, Version::V5, "t", Delivery::AtLeastOnce(id(1)), "1");
    assert_eq!(world.received(writer), ["PUBACK 1"]);
    assert_eq!(world.received(reader), ["PUBLISH t '1'"]);
}
