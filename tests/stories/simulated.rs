//! What the simulation has taught: rules that the broker or the naive broker did not know.

use std::num::NonZeroU32;

use ringmq::{
    base::time::Span,
    mqtt::{
        Connect, ConnectProperties, Delivery, Packet, Publish, PublishProperties, QoS,
        SubscriptionOptions, Version,
    },
};

use crate::{
    everywhere, join, join_as,
    packets::{ack, at, bytes, id, publish as packet, receive_maximum, resume, subscribe},
    publish,
    world::World,
};

const V5: Version = Version::V5;

/// [MQTT-3.3.4-9] [MQTT-4.4.0-1]
#[test]
fn a_pubrel_that_is_sent_again_takes_no_place_in_the_window() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let mut narrow = resume(V5, "reader");
        narrow.properties.receive_maximum = receive_maximum(1).receive_maximum;
        let reader = join(&mut world, &narrow);
        world.send(reader, &subscribe(V5, 1, &[("t", at(QoS::ExactlyOnce))]));
        let writer = join_as(&mut world, V5, "writer");
        for n in 1..=2 {
            publish(&mut world, writer, V5, "t", Delivery::ExactlyOnce(id(n)), "x");
        }
        world.send(reader, &bytes(&Packet::Pubrec(ack(1)), V5));
        let received = world.received(reader);
        assert_eq!(received, ["SUBACK 1 [02]", "PUBLISH t qos2 #1 'x'", "PUBREL 1"]);
        world.break_off(reader);
        let reader = join_again(&mut world, &narrow);
        assert_eq!(world.received(reader)[1..], ["PUBREL 1", "PUBLISH t qos2 #2 'x'"]);
    }
}

/// A client that has connected; its CONNACK has not been read.
fn join_again(world: &mut World, connect: &Connect<'_>) -> usize {
    let client = world.open(connect.version);
    world.send(client, &bytes(&Packet::Connect(*connect), connect.version));
    client
}

/// [MQTT-3.1.2-25]
#[test]
fn a_message_too_large_for_one_connection_of_a_session_is_given_up_for_all() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let roomy = resume(V5, "reader");
        let reader = join(&mut world, &roomy);
        world.send(reader, &subscribe(V5, 1, &[("t", at(QoS::AtLeastOnce))]));
        let writer = join_as(&mut world, V5, "writer");
        let long = "x".repeat(200);
        publish(&mut world, writer, V5, "t", Delivery::AtLeastOnce(id(1)), &long);
        publish(&mut world, writer, V5, "t", Delivery::AtLeastOnce(id(2)), "short");
        world.break_off(reader);
        let maximum_packet_size = NonZeroU32::new(100);
        let properties = ConnectProperties { maximum_packet_size, ..roomy.properties };
        let reader = join_again(&mut world, &Connect { properties, ..roomy });
        assert_eq!(world.received(reader)[1..], ["PUBLISH t qos1 #2 dup 'short'"]);
        world.break_off(reader);
        let reader = join_again(&mut world, &roomy);
        assert_eq!(world.received(reader)[1..], ["PUBLISH t qos1 #2 dup 'short'"]);
        assert_eq!(world.counters().dropped_too_large, 1);
    }
}

/// [MQTT-3.1.2-25] [MQTT-3.3.1-9]
#[test]
fn a_message_too_large_when_it_was_new_may_come_as_a_retained_one_after_later_ones() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let roomy = resume(V5, "reader");
        let maximum_packet_size = NonZeroU32::new(100);
        let properties = ConnectProperties { maximum_packet_size, ..roomy.properties };
        let reader = join(&mut world, &Connect { properties, ..roomy });
        world.send(reader, &subscribe(V5, 1, &[("t", at(QoS::ExactlyOnce))]));
        let writer = join_as(&mut world, V5, "writer");
        let long = "x".repeat(200);
        let retained = packet("t", Delivery::ExactlyOnce(id(1)), &long);
        world.send(writer, &bytes(&Packet::Publish(Publish { retain: true, ..retained }), V5));
        publish(&mut world, writer, V5, "t", Delivery::ExactlyOnce(id(2)), "later");
        assert_eq!(world.received(reader), ["SUBACK 1 [02]", "PUBLISH t qos2 #1 'later'"]);
        assert_eq!(world.counters().dropped_too_large, 1);
        world.break_off(reader);
        let reader = join_again(&mut world, &roomy);
        assert_eq!(world.received(reader)[1..], ["PUBLISH t qos2 #1 dup 'later'"]);
        world.send(reader, &subscribe(V5, 2, &[("t", at(QoS::ExactlyOnce))]));
        let replayed = format!("PUBLISH t qos2 #2 retain '{long}'");
        assert_eq!(world.received(reader), ["SUBACK 2 [02]", replayed.as_str()]);
    }
}

/// [MQTT-4.3.2-5]
#[test]
fn a_message_sent_again_at_qos_1_is_another_message_to_a_share_group() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let members = ["first", "second"].map(|name| {
            let member = join_as(&mut world, version, name);
            world.send(member, &subscribe(version, 1, &[("$share/g/t", at(QoS::AtLeastOnce))]));
            world.received(member);
            member
        });
        let writer = join_as(&mut world, version, "writer");
        let message = packet("t", Delivery::AtLeastOnce(id(1)), "x");
        for dup in [false, true] {
            let publish = Publish { dup, ..message };
            world.send(writer, &bytes(&Packet::Publish(publish), version));
        }
        for member in members {
            assert_eq!(world.received(member), ["PUBLISH t qos1 #1 'x'"]);
        }
    });
}

/// What is published after SUBACK arrives, through any shard: also when it is a second SUBACK.
#[test]
fn who_joins_a_share_group_again_waits_for_those_who_have_not_heard_of_the_first_time() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let connect = resume(V5, "member");
        let subscribe = subscribe(V5, 1, &[("$share/g/t", at(QoS::AtLeastOnce))]);
        let member = join(&mut world, &connect);
        world.mail_waits = true;
        world.send(member, &subscribe);
        world.break_off(member);
        let member = join_again(&mut world, &connect);
        world.received(member);
        world.send(member, &subscribe);
        let at_once: &[&str] = if shards == 1 { &["SUBACK 1 [01]"] } else { &[] };
        assert_eq!(world.received(member), at_once);
        world.mail_waits = false;
        world.run();
        let later: &[&str] = if shards == 1 { &[] } else { &["SUBACK 1 [01]"] };
        assert_eq!(world.received(member), later);
    }
}

/// [MQTT-3.3.2-5]
#[test]
fn a_message_sent_again_lives_on_when_the_first_one_has_expired() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let mut narrow = resume(V5, "reader");
        narrow.properties.receive_maximum = receive_maximum(1).receive_maximum;
        let reader = join(&mut world, &narrow);
        world.send(reader, &subscribe(V5, 1, &[("t", at(QoS::AtLeastOnce))]));
        world.received(reader);
        let writer = join_as(&mut world, V5, "writer");
        let properties =
            PublishProperties { message_expiry_interval: Some(2), ..PublishProperties::default() };
        let message = Publish { properties, ..packet("t", Delivery::AtLeastOnce(id(1)), "x") };
        for dup in [false, true] {
            world.send(writer, &bytes(&Packet::Publish(Publish { dup, ..message }), V5));
            world.pass(Span::from_millis(1_500));
        }
        assert_eq!(world.received(reader), ["PUBLISH t qos1 #1 expires 2s 'x'"]);
        world.send(reader, &bytes(&Packet::Puback(ack(1)), V5));
        assert_eq!(world.received(reader), ["PUBLISH t qos1 #2 expires 1s 'x'"]);
    }
}

/// [MQTT-3.3.1-9]
#[test]
fn a_retained_message_that_comes_again_is_retained_for_who_subscribes_after_that_only() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let writer = join_as(&mut world, V5, "writer");
        let retained = Publish { retain: true, ..packet("t", Delivery::AtLeastOnce(id(1)), "x") };
        world.send(writer, &bytes(&Packet::Publish(retained), V5));
        let reader = join_busy(&mut world, writer);
        world.send(reader, &subscribe(V5, 2, &[("t", at(QoS::AtLeastOnce))]));
        let again = Publish { dup: true, ..retained };
        world.send(writer, &bytes(&Packet::Publish(again), V5));
        world.send(reader, &subscribe(V5, 3, &[("t", at(QoS::AtLeastOnce))]));
        assert_eq!(world.received(reader), ["SUBACK 2 [01]", "SUBACK 3 [01]"]);
        assert_eq!(acknowledge(&mut world, reader, 1), ["PUBLISH t qos1 #2 'x'"]);
        assert_eq!(acknowledge(&mut world, reader, 2), ["PUBLISH t qos1 #3 retain 'x'"]);
        assert!(acknowledge(&mut world, reader, 3).is_empty());
    }
}

/// [MQTT-3.3.1-6] [MQTT-3.3.1-9]
#[test]
fn what_a_subscriber_is_owed_goes_before_what_is_retained_and_removed_meanwhile() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let writer = join_as(&mut world, V5, "writer");
        let reader = join_busy(&mut world, writer);
        let options = SubscriptionOptions { retain_as_published: true, ..at(QoS::AtLeastOnce) };
        world.send(reader, &subscribe(V5, 2, &[("t", options)]));
        let retained = Publish { retain: true, ..packet("t", Delivery::AtLeastOnce(id(1)), "x") };
        world.send(writer, &bytes(&Packet::Publish(retained), V5));
        world.send(reader, &subscribe(V5, 3, &[("t", options)]));
        let removal = Publish { payload: b"", delivery: Delivery::AtMostOnce, ..retained };
        world.send(writer, &bytes(&Packet::Publish(removal), V5));
        let received = world.received(reader);
        assert_eq!(received, ["SUBACK 2 [01]", "SUBACK 3 [01]", "PUBLISH t retain ''"]);
        assert_eq!(acknowledge(&mut world, reader, 1), ["PUBLISH t qos1 #2 retain 'x'"]);
        assert!(acknowledge(&mut world, reader, 2).is_empty());
    }
}

/// A client with a window of one message, which is full.
fn join_busy(world: &mut World, writer: usize) -> usize {
    let connect = Connect { properties: receive_maximum(1), ..resume(V5, "reader") };
    let reader = join(world, &connect);
    world.send(reader, &subscribe(V5, 1, &[("other", at(QoS::AtLeastOnce))]));
    publish(world, writer, V5, "other", Delivery::AtLeastOnce(id(9)), "first");
    assert_eq!(world.received(reader), ["SUBACK 1 [01]", "PUBLISH other qos1 #1 'first'"]);
    reader
}

/// What comes once the message in flight, which has this identifier, has been acknowledged.
fn acknowledge(world: &mut World, reader: usize, packet_id: u16) -> Vec<String> {
    world.send(reader, &bytes(&Packet::Puback(ack(packet_id)), V5));
    world.received(reader)
}
