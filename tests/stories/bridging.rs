//! Mosquitto's bridges: how they mark themselves, and where they say whether they are connected.

use ringmq::mqtt::{Connect, Delivery, Packet, Publish, QoS, Version, Will};

use crate::{
    everywhere, join, join_as,
    packets::{at, bytes, connect, disconnect, id, publish as packet, subscribe, will},
    publish, subscriber,
    world::World,
};

const STATE: &str = "$SYS/broker/connection/bridge/state";

/// A bridge, and where the version has a mark for it, one that is marked.
fn bridge(version: Version) -> Connect<'static> {
    Connect { is_bridge: version < Version::V5, ..connect(version, "bridge") }
}

#[test]
fn a_marked_bridge_is_not_sent_what_it_brings_and_sees_what_is_retained() {
    for shards in crate::SHARDS {
        for version in [Version::V31, Version::V311] {
            let mut world = World::new(shards);
            let writer = join_as(&mut world, version, "writer");
            let bridge = join(&mut world, &bridge(version));
            let filters = [("a/#", at(QoS::AtLeastOnce)), ("$share/g/b", at(QoS::AtLeastOnce))];
            world.send(bridge, &subscribe(version, 1, &filters));
            assert_eq!(world.received(bridge), ["SUBACK 1 [01, 01]"]);
            for client in [bridge, writer] {
                let kept = Publish { retain: true, ..packet("a/b", Delivery::AtMostOnce, "x") };
                world.send(client, &bytes(&Packet::Publish(kept), version));
            }
            assert_eq!(world.received(bridge), ["PUBLISH a/b retain 'x'"]);
            // A shared subscription has no No Local, in 5.0 neither.
            publish(&mut world, bridge, version, "b", Delivery::AtMostOnce, "y");
            assert_eq!(world.received(bridge), ["PUBLISH b 'y'"]);
        }
    }
}

#[test]
fn a_bridge_says_whether_it_is_connected_also_by_its_will() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let watcher = subscriber(&mut world, version, "watcher", "$SYS/#", QoS::AtMostOnce);
        let will = Will { retain: true, ..will(STATE, b"0") };
        let connected = join(&mut world, &Connect { will: Some(will), ..bridge(version) });
        let state = Publish { retain: true, ..packet(STATE, Delivery::AtLeastOnce(id(1)), "1") };
        world.send(connected, &bytes(&Packet::Publish(state), version));
        assert_eq!(world.received(connected), ["PUBACK 1"]);
        assert_eq!(world.received(watcher), [format!("PUBLISH {STATE} '1'")]);
        world.break_off(connected);
        assert_eq!(world.received(watcher), [format!("PUBLISH {STATE} '0'")]);
        let later = join_as(&mut world, version, "later");
        world.send(later, &subscribe(version, 1, &[(STATE, at(QoS::AtMostOnce))]));
        let told = [format!("PUBLISH {STATE} retain '0'")];
        assert!(world.received(later).ends_with(&told));
    });
}

#[test]
fn nobody_says_so_of_another_bridge_and_nobody_says_anything_else() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let watcher = subscriber(&mut world, version, "watcher", "$SYS/#", QoS::AtMostOnce);
        let other = join_as(&mut world, version, "other");
        let bridge = join(&mut world, &bridge(version));
        for (client, topic, payload) in
            [(other, STATE, "1"), (bridge, STATE, "2"), (bridge, "$SYS/broker/uptime", "1")]
        {
            publish(&mut world, client, version, topic, Delivery::AtMostOnce, payload);
        }
        assert!(world.received(watcher).is_empty());
        assert_eq!(world.counters().refused_publish, 3);
        for (client_id, payload) in [("other", &b"0"[..]), ("bridge", b"2")] {
            let will = Some(will(STATE, payload));
            let client = world.open(version);
            let connect = Connect { will, ..connect(version, client_id) };
            world.send(client, &bytes(&Packet::Connect(connect), version));
            assert!(world.received(client)[0] != "CONNACK Success");
            assert!(world.is_closed(client));
        }
        world.send(bridge, &disconnect(version));
    });
}
