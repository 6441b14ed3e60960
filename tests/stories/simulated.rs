//! What the simulation has taught: rules that the broker or the naive broker did not know.

use std::num::NonZeroU32;

use ringmq::{
    base::time::Span,
    mqtt::{
        Connect, ConnectProperties, Delivery, Packet, Publish, PublishProperties, QoS, Version,
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
        assert_eq!(world.tallies().dropped_too_large, 1);
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
