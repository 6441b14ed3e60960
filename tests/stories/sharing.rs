//! Shared subscriptions.

use ringmq::mqtt::{Delivery, QoS, Version};

use crate::{
    everywhere, join, join_as,
    packets::{at, disconnect, id, resume, subscribe},
    publish, subscriber,
    world::World,
};

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
        let mut world = World::new(shards);
        let share = [("$share/g/t", at(QoS::AtLeastOnce))];
        let away = join(&mut world, &resume(version, "away"));
        world.send(away, &subscribe(version, 1, &share));
        let here = subscriber(&mut world, version, "here", "$share/g/t", QoS::AtLeastOnce);
        world.send(away, &disconnect(version));
        let writer = join_as(&mut world, version, "writer");
        for n in 1..=4 {
            publish(&mut world, writer, version, "t", Delivery::AtLeastOnce(id(n)), "x");
        }
        assert_eq!(world.received(here).len(), 4);
        world.send(here, &disconnect(version));
        publish(&mut world, writer, version, "t", Delivery::AtLeastOnce(id(5)), "later");
        let back = world.open(version);
        let connect = ringmq::mqtt::Packet::Connect(resume(version, "away"));
        world.send(back, &crate::packets::bytes(&connect, version));
        assert_eq!(world.received(back)[1..], ["PUBLISH t qos1 #1 'later'"]);
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
