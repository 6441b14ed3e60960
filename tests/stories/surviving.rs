//! What is there after a restart, and what waits until it is on disk.

use ringmq::{
    base::time::Span,
    mqtt::{Connect, ConnectProperties, Delivery, Packet, Publish, QoS, Version, WillProperties},
};

use crate::{
    join, join_as,
    packets::{
        ack, at, bytes, connect, disconnect, id, publish as packet, resume, subscribe, will,
    },
    publish,
    world::{WILL_GRACE, World},
};

/// Every number of shards before and after a restart, and every version.
fn restarts(tell: impl Fn(usize, usize, Version)) {
    for (before, after) in [(1, 1), (1, 2), (2, 1), (4, 3), (3, 4), (2, 2)] {
        for version in [Version::V311, Version::V5] {
            tell(before, after, version);
        }
    }
}

fn retain(world: &mut World, client: usize, version: Version, topic: &str, payload: &str) {
    let publish = Publish { retain: true, ..packet(topic, Delivery::AtLeastOnce(id(9)), payload) };
    world.send(client, &bytes(&Packet::Publish(publish), version));
}

/// A session that stays, subscribed at QoS 2, whose client has gone.
fn absent(world: &mut World, version: Version, client_id: &str, filter: &str) {
    let client = join(world, &resume(version, client_id));
    world.send(client, &subscribe(version, 1, &[(filter, at(QoS::ExactlyOnce))]));
    assert_eq!(world.received(client), ["SUBACK 1 [02]"]);
    world.send(client, &disconnect(version));
}

/// The packets that a client gets who comes back to its session, CONNACK first.
fn come_back(world: &mut World, version: Version, client_id: &str) -> (usize, Vec<String>) {
    come_back_as(world, &resume(version, client_id))
}

fn come_back_as(world: &mut World, connect: &Connect<'_>) -> (usize, Vec<String>) {
    let client = world.open(connect.version);
    world.send(client, &bytes(&Packet::Connect(*connect), connect.version));
    let received = world.received(client);
    (client, received)
}

const PRESENT: &str = "CONNACK Success session present";

#[test]
fn retained_messages_survive_and_removed_ones_do_not_come_back() {
    restarts(|before, after, version| {
        let mut world = World::stored(before);
        let writer = join_as(&mut world, version, "writer");
        for (topic, payload) in [("a", "1"), ("a", "2"), ("b", "1"), ("b", "")] {
            retain(&mut world, writer, version, topic, payload);
        }
        world.received(writer);
        world.restart(after, 0);
        let reader = join_as(&mut world, version, "reader");
        world.send(reader, &subscribe(version, 1, &[("#", at(QoS::AtLeastOnce))]));
        let expected = ["SUBACK 1 [01]", "PUBLISH a qos1 #1 retain '2'"];
        assert_eq!(world.received(reader), expected);
    });
}

#[test]
fn a_newer_retained_message_wins_after_a_restart_too() {
    let mut world = World::stored(2);
    let writer = join_as(&mut world, Version::V5, "writer");
    retain(&mut world, writer, Version::V5, "a", "old");
    world.restart(3, 0);
    let writer = join_as(&mut world, Version::V5, "writer");
    retain(&mut world, writer, Version::V5, "a", "new");
    world.restart(1, 0);
    let reader = join_as(&mut world, Version::V5, "reader");
    world.send(reader, &subscribe(Version::V5, 1, &[("a", at(QoS::AtMostOnce))]));
    assert_eq!(world.received(reader)[1..], ["PUBLISH a retain 'new'"]);
}

#[test]
fn a_retained_message_that_a_lasting_session_was_sent_is_sent_again_after_a_restart() {
    restarts(|before, after, version| {
        let mut world = World::stored(before);
        let writer = join_as(&mut world, version, "writer");
        retain(&mut world, writer, version, "a", "1");
        let client = join(&mut world, &resume(version, "lasting"));
        world.send(client, &subscribe(version, 1, &[("a", at(QoS::AtLeastOnce))]));
        assert_eq!(world.received(client), ["SUBACK 1 [01]", "PUBLISH a qos1 #1 retain '1'"]);
        world.restart(after, 0);
        let (_, received) = come_back(&mut world, version, "lasting");
        assert_eq!(received, [PRESENT, "PUBLISH a qos1 #1 dup retain '1'"]);
    });
}

#[test]
fn an_acknowledgement_waits_until_the_message_is_on_disk_and_later_packets_wait_behind_it() {
    for shards in [1, 2] {
        let version = Version::V5;
        let mut world = World::stored(shards);
        absent(&mut world, version, "sleeper", "t");
        let writer = join_as(&mut world, version, "writer");
        world.disk_waits = true;
        publish(&mut world, writer, version, "t", Delivery::AtLeastOnce(id(1)), "1");
        publish(&mut world, writer, version, "t", Delivery::ExactlyOnce(id(2)), "2");
        publish(&mut world, writer, version, "other", Delivery::AtLeastOnce(id(3)), "3");
        world.send(writer, &bytes(&Packet::Pingreq, version));
        assert_eq!(world.received(writer), [""; 0]);
        assert!(world.is_read_from(writer));
        let other = join_as(&mut world, version, "other");
        publish(&mut world, other, version, "none", Delivery::AtLeastOnce(id(1)), "1");
        assert_eq!(world.received(other), ["PUBACK 1 NoMatchingSubscribers"]);
        while world.unsynced() > 0 {
            world.sync(1);
        }
        let expected = ["PUBACK 1", "PUBREC 2", "PUBACK 3 NoMatchingSubscribers", "PINGRESP"];
        assert_eq!(world.received(writer), expected);
    }
}

#[test]
fn a_session_and_its_subscriptions_survive() {
    restarts(|before, after, version| {
        let mut world = World::stored(before);
        absent(&mut world, version, "sleeper", "t");
        let gone = join(&mut world, &resume(version, "gone"));
        world.send(gone, &subscribe(version, 1, &[("t", at(QoS::ExactlyOnce))]));
        join_as(&mut world, version, "gone");
        world.restart(after, 0);
        let writer = join_as(&mut world, version, "writer");
        publish(&mut world, writer, version, "t", Delivery::AtLeastOnce(id(1)), "1");
        assert_eq!(world.received(writer), ["PUBACK 1"]);
        assert_eq!(come_back(&mut world, version, "sleeper").1, [PRESENT, "PUBLISH t qos1 #1 '1'"]);
        assert_eq!(come_back(&mut world, version, "gone").1, ["CONNACK Success"]);
    });
}

#[test]
fn connack_and_suback_wait_until_the_session_is_on_disk() {
    let version = Version::V5;
    let mut world = World::stored(2);
    world.disk_waits = true;
    let client = world.open(version);
    let connect = bytes(&Packet::Connect(resume(version, "sleeper")), version);
    world.send(client, &connect);
    assert_eq!(world.received(client), [""; 0]);
    world.sync(9);
    assert_eq!(world.received(client), ["CONNACK Success"]);
    world.send(client, &subscribe(version, 1, &[("t", at(QoS::AtLeastOnce))]));
    assert_eq!(world.received(client), [""; 0]);
    world.sync(9);
    assert_eq!(world.received(client), ["SUBACK 1 [01]"]);
    // Nothing of what is not on disk is there after a crash.
    world.send(client, &subscribe(version, 2, &[("u", at(QoS::AtLeastOnce))]));
    world.restart(2, 0);
    let writer = join_as(&mut world, version, "writer");
    publish(&mut world, writer, version, "u", Delivery::AtLeastOnce(id(1)), "1");
    assert_eq!(world.received(writer), ["PUBACK 1 NoMatchingSubscribers"]);
}

#[test]
fn queued_messages_survive_in_order_and_acknowledged_ones_do_not_come_back() {
    restarts(|before, after, version| {
        let mut world = World::stored(before);
        absent(&mut world, version, "sleeper", "t");
        let writer = join_as(&mut world, version, "writer");
        for n in 1..=5 {
            let delivery = Delivery::AtLeastOnce(id(n));
            publish(&mut world, writer, version, "t", delivery, &n.to_string());
        }
        let (reader, received) = come_back(&mut world, version, "sleeper");
        assert_eq!(received.len(), 6);
        for n in [1, 3] {
            world.send(reader, &bytes(&Packet::Puback(ack(n)), version));
        }
        world.restart(after, usize::MAX >> 1);
        let again = [
            PRESENT,
            "PUBLISH t qos1 #2 dup '2'",
            "PUBLISH t qos1 #4 dup '4'",
            "PUBLISH t qos1 #5 dup '5'",
        ];
        assert_eq!(come_back(&mut world, version, "sleeper").1, again);
        world.restart(before, 0);
        assert_eq!(come_back(&mut world, version, "sleeper").1, again);
    });
}

#[test]
fn a_qos_2_message_is_taken_once_whatever_is_sent_again_after_a_restart() {
    restarts(|before, after, version| {
        let mut world = World::stored(before);
        absent(&mut world, version, "sleeper", "t");
        let writer = join(&mut world, &resume(version, "writer"));
        publish(&mut world, writer, version, "t", Delivery::ExactlyOnce(id(1)), "1");
        assert_eq!(world.received(writer), ["PUBREC 1"]);
        world.restart(after, 0);
        let (writer, received) = come_back(&mut world, version, "writer");
        assert_eq!(received, [PRESENT]);
        publish(&mut world, writer, version, "t", Delivery::ExactlyOnce(id(1)), "1");
        world.send(writer, &bytes(&Packet::Pubrel(ack(1)), version));
        assert_eq!(world.received(writer), ["PUBREC 1", "PUBCOMP 1"]);
        assert_eq!(world.waiting_for("sleeper"), 1);
        world.restart(before, 0);
        let (writer, _) = come_back(&mut world, version, "writer");
        publish(&mut world, writer, version, "t", Delivery::ExactlyOnce(id(1)), "2");
        assert_eq!(world.waiting_for("sleeper"), 2);
    });
}

#[test]
fn a_qos_2_message_is_sent_when_it_is_on_disk_and_pubrel_waits_for_that_too() {
    let version = Version::V5;
    let mut world = World::stored(1);
    let reader = join(&mut world, &resume(version, "reader"));
    world.send(reader, &subscribe(version, 1, &[("t", at(QoS::ExactlyOnce))]));
    world.received(reader);
    let writer = join_as(&mut world, version, "writer");
    world.disk_waits = true;
    publish(&mut world, writer, version, "t", Delivery::ExactlyOnce(id(1)), "1");
    publish(&mut world, writer, version, "t", Delivery::AtLeastOnce(id(2)), "2");
    assert_eq!(world.received(reader), [""; 0]);
    world.sync(9);
    let expected = ["PUBLISH t qos2 #1 '1'", "PUBLISH t qos1 #2 '2'"];
    assert_eq!(world.received(reader), expected);
    world.send(reader, &bytes(&Packet::Pubrec(ack(1)), version));
    assert_eq!(world.received(reader), [""; 0]);
    world.sync(9);
    assert_eq!(world.received(reader), ["PUBREL 1"]);
    world.restart(2, 0);
    let (_, received) = come_back(&mut world, version, "reader");
    assert_eq!(received, [PRESENT, "PUBREL 1", "PUBLISH t qos1 #2 dup '2'"]);
}

/// The shard of the publisher answers for the others.
#[test]
fn what_another_shard_had_not_taken_is_there_after_a_restart() {
    for shards in [2, 3, 4] {
        for after in 1..=4 {
            let version = Version::V5;
            let mut world = World::stored(shards);
            let sleepers = ["a", "b", "c", "d", "e"];
            for name in sleepers {
                absent(&mut world, version, name, "t");
            }
            let writer = join(&mut world, &resume(version, "writer"));
            world.mail_waits = true;
            for n in 1..=3 {
                let delivery = Delivery::ExactlyOnce(id(n));
                publish(&mut world, writer, version, "t", delivery, &n.to_string());
            }
            assert_eq!(world.received(writer), ["PUBREC 1", "PUBREC 2", "PUBREC 3"]);
            world.restart(after, 0);
            for name in sleepers {
                assert_eq!(world.waiting_for(name), 3, "{shards} {after}");
            }
            world.restart(shards, 0);
            for name in sleepers {
                let expected: Vec<String> =
                    (1..=3).map(|n| format!("PUBLISH t qos2 #{n} dup '{n}'")).collect();
                assert_eq!(come_back(&mut world, version, name).1[1..], expected);
            }
        }
    }
}

#[test]
fn a_share_group_gets_a_message_once_whenever_the_broker_ends() {
    for mail_waits in [false, true] {
        let version = Version::V5;
        let mut world = World::stored(3);
        let members = ["a", "b", "c", "d"];
        for name in members {
            absent(&mut world, version, name, "$share/g/t");
        }
        let writer = join_as(&mut world, version, "writer");
        world.mail_waits = mail_waits;
        for n in 1..=8 {
            publish(&mut world, writer, version, "t", Delivery::AtLeastOnce(id(n)), "m");
        }
        assert_eq!(world.received(writer).len(), 8);
        world.restart(2, 0);
        let waiting: usize = members.iter().map(|name| world.waiting_for(name)).sum();
        assert_eq!(waiting, 8);
    }
}

#[test]
fn times_go_on_while_the_broker_is_down() {
    let version = Version::V5;
    let mut world = World::stored(2);
    for (name, seconds) in [("short", 10), ("long", 100)] {
        let properties = ConnectProperties {
            session_expiry_interval: Some(seconds),
            ..ConnectProperties::default()
        };
        let client = join(&mut world, &Connect { properties, ..connect(version, name) });
        world.send(client, &disconnect(version));
    }
    world.stand_still(Span::from_secs(11));
    world.restart(1, 0);
    world.pass(Span::from_secs(1));
    assert_eq!(come_back(&mut world, version, "short").1, ["CONNACK Success"]);
    assert_eq!(come_back(&mut world, version, "long").1, [PRESENT]);
}

/// A client that goes on for `seconds` after it has gone.
fn lasting(version: Version, client_id: &str, seconds: u32) -> Connect<'_> {
    let session_expiry_interval = Some(seconds);
    let properties = ConnectProperties { session_expiry_interval, ..ConnectProperties::default() };
    Connect { properties, clean_start: false, ..connect(version, client_id) }
}

#[test]
fn a_session_does_not_expire_while_its_client_waits_for_the_disk() {
    let version = Version::V5;
    let mut world = World::stored(1);
    absent(&mut world, version, "sleeper", "t");
    world.disk_waits = true;
    let client = world.open(version);
    let back = bytes(&Packet::Connect(lasting(version, "sleeper", 1)), version);
    world.send(client, &back);
    world.pass(Span::from_secs(5));
    assert_eq!(world.received(client), [""; 0]);
    world.sync(9);
    assert_eq!(world.received(client), [PRESENT]);
    // Whoever does not wait any more is not waited for.
    world.break_off(client);
    world.pass(Span::from_secs(5));
    world.sync(9);
    world.disk_waits = false;
    assert_eq!(come_back(&mut world, version, "sleeper").1, ["CONNACK Success"]);
    absent(&mut world, version, "sleeper", "t");
    world.disk_waits = true;
    let client = world.open(version);
    world.send(client, &back);
    world.break_off(client);
    world.pass(Span::from_secs(5));
    world.disk_waits = false;
    world.sync(9);
    assert_eq!(come_back(&mut world, version, "sleeper").1, ["CONNACK Success"]);
}

#[test]
fn who_is_told_that_a_session_has_expired_never_gets_it_back() {
    let version = Version::V5;
    let mut world = World::stored(1);
    let client = join(&mut world, &lasting(version, "client", 1));
    world.send(client, &disconnect(version));
    world.disk_waits = true;
    world.pass(Span::from_secs(2));
    let client = world.open(version);
    let passing = bytes(&Packet::Connect(lasting(version, "client", 0)), version);
    world.send(client, &passing);
    assert_eq!(world.received(client), [""; 0], "the end of the session is not on disk");
    world.sync(9);
    assert_eq!(world.received(client), ["CONNACK Success"]);
    // Nobody waits for what is on disk.
    let other = world.open(version);
    world.send(other, &bytes(&Packet::Connect(lasting(version, "other", 0)), version));
    assert_eq!(world.received(other), ["CONNACK Success"]);
}

/// A client asks for a session that ends with its connection, and goes before that is on disk.
#[test]
fn a_session_that_was_to_end_with_a_connection_that_has_waited_ends() {
    let version = Version::V5;
    for (breaks_off, after) in [(true, 1), (false, 1), (true, 3), (false, 2)] {
        let mut world = World::stored(1);
        absent(&mut world, version, "sleeper", "t");
        world.disk_waits = true;
        let client = world.open(version);
        let passing = bytes(&Packet::Connect(lasting(version, "sleeper", 0)), version);
        world.send(client, &passing);
        assert_eq!(world.received(client), [""; 0]);
        if breaks_off {
            world.break_off(client);
            world.pass(Span::from_secs(2));
        }
        world.disk_waits = false;
        assert_eq!(come_back(&mut world, version, "sleeper").1, ["CONNACK Success"]);
        world.restart(after, 0);
        assert_eq!(come_back(&mut world, version, "sleeper").1, [PRESENT]);
        let writer = join_as(&mut world, version, "writer");
        publish(&mut world, writer, version, "t", Delivery::AtLeastOnce(id(1)), "1");
        assert_eq!(world.received(writer), ["PUBACK 1 NoMatchingSubscribers"]);
    }
}

#[test]
fn the_will_of_a_client_that_was_connected_waits_for_the_grace_and_comes_once() {
    let version = Version::V5;
    let mut world = World::stored(2);
    absent(&mut world, version, "sleeper", "will");
    let last = Connect { will: Some(will("will", b"gone")), ..resume(version, "client") };
    join(&mut world, &last);
    let back = Connect { will: Some(will("will", b"back")), ..resume(version, "other") };
    join(&mut world, &back);
    world.restart(1, 0);
    join_again(&mut world, &resume(version, "other"));
    world.pass(WILL_GRACE + Span::from_secs(1));
    assert_eq!(world.waiting_for("sleeper"), 1);
    world.restart(2, 0);
    world.pass(WILL_GRACE + Span::from_secs(1));
    assert_eq!(
        come_back(&mut world, version, "sleeper").1[1..],
        ["PUBLISH will qos1 #1 dup 'gone'"]
    );
}

/// A broker that ends and begins again several times gives clients as long as one that does once.
#[test]
fn a_will_waits_for_the_grace_at_each_start() {
    let version = Version::V5;
    let mut world = World::stored(2);
    absent(&mut world, version, "sleeper", "will");
    let last = Connect { will: Some(will("will", b"gone")), ..resume(version, "client") };
    join(&mut world, &last);
    for shards in [1, 2, 3] {
        world.restart(shards, 0);
        world.pass(Span::from_secs(1));
        assert_eq!(world.waiting_for("sleeper"), 0);
    }
    world.pass(WILL_GRACE);
    assert_eq!(world.waiting_for("sleeper"), 1);
}

fn join_again(world: &mut World, connect: &Connect<'_>) {
    let received = come_back_as(world, connect).1;
    assert_eq!(received, [PRESENT]);
}

#[test]
fn a_delayed_will_keeps_its_delay_and_a_deleted_one_does_not_come_back() {
    let version = Version::V5;
    let mut world = World::stored(2);
    absent(&mut world, version, "sleeper", "will");
    let properties = WillProperties { will_delay_interval: 30, ..WillProperties::default() };
    let delayed = ringmq::mqtt::Will { properties, ..will("will", b"late") };
    let client = join(&mut world, &Connect { will: Some(delayed), ..resume(version, "client") });
    world.break_off(client);
    let polite = Connect { will: Some(will("will", b"never")), ..resume(version, "polite") };
    let client = join(&mut world, &polite);
    world.send(client, &disconnect(version));
    world.pass(Span::from_secs(10));
    world.restart(1, 0);
    world.pass(Span::from_secs(10));
    assert_eq!(world.waiting_for("sleeper"), 0);
    world.pass(Span::from_secs(11));
    assert_eq!(world.waiting_for("sleeper"), 1);
}
