//! What clients leave behind.

use ringmq::{
    base::time::Span,
    mqtt::{Connect, ConnectProperties, Packet, QoS, Version, Will, WillProperties},
    shard::ports::End,
};

use crate::{
    everywhere, join, join_as,
    packets::{bytes, connect, disconnect, resume, will},
    subscriber,
    world::World,
};

/// [MQTT-3.1.2-7] [MQTT-3.1.2-8] [MQTT-3.1.2-10] [MQTT-3.14.4-3] [MQTT-3.1.2-8@3.1.1]
/// [MQTT-3.1.2-10@3.1.1] [MQTT-3.1.2-12@3.1.1] [MQTT-3.14.4-3@3.1.1]
#[test]
fn a_will_is_published_on_every_end_but_disconnect() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let watcher = subscriber(&mut world, version, "watcher", "will/+", QoS::AtLeastOnce);
        let mut leave = |name: &str, end: &dyn Fn(&mut World, usize)| {
            let topic = format!("will/{name}");
            let connect = Connect {
                will: Some(will(&topic, b"gone")),
                keep_alive: 10,
                ..connect(version, name)
            };
            let client = join(&mut world, &connect);
            end(&mut world, client);
            let left = world.received(watcher);
            for n in 1..=left.len() {
                let n = u16::try_from(n).unwrap();
                let packet_id = crate::packets::ack(n);
                world.send(watcher, &bytes(&Packet::Puback(packet_id), version));
            }
            left.iter().filter(|line| line.starts_with(&format!("PUBLISH {topic} "))).count()
        };
        assert_eq!(leave("disconnect", &|w, c| w.send(c, &disconnect(version))), 0);
        assert_eq!(leave("reset", &|w, c| w.break_off(c)), 1);
        assert_eq!(leave("finish", &|w, c| w.finish(c)), 1);
        assert_eq!(leave("deafness", &|w, c| w.break_off_for(c, End::Stalled)), 1);
        assert_eq!(leave("half a packet", &|w, c| w.break_off_for(c, End::PacketTimeout)), 1);
        assert_eq!(leave("garbage", &|w, c| w.send(c, &[0xFF, 0xFF])), 1);
        assert_eq!(leave("silence", &|w, _| w.pass(Span::from_secs(16))), 1);
        let take_over = |w: &mut World, _: usize| {
            join_as(w, version, "taken");
        };
        assert_eq!(leave("taken", &take_over), 1);
    });
}

/// [MQTT-3.1.2-15] [MQTT-3.1.2-17@3.1.1]
#[test]
fn a_will_may_be_retained() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let will = Will { retain: true, ..will("status", b"offline") };
        let client = join(&mut world, &Connect { will: Some(will), ..connect(version, "c") });
        world.break_off(client);
        let late = join_as(&mut world, version, "late");
        let filters = [("status", crate::packets::at(QoS::AtMostOnce))];
        world.send(late, &crate::packets::subscribe(version, 1, &filters));
        assert_eq!(world.received(late), ["SUBACK 1 [00]", "PUBLISH status retain 'offline'"]);
    });
}

fn delayed(client_id: &str, seconds: u32, session_seconds: u32) -> Connect<'_> {
    Connect {
        will: Some(Will {
            properties: WillProperties {
                will_delay_interval: seconds,
                ..WillProperties::default()
            },
            ..will("will", b"gone")
        }),
        properties: ConnectProperties {
            session_expiry_interval: Some(session_seconds),
            ..ConnectProperties::default()
        },
        ..resume(Version::V5, client_id)
    }
}

/// [MQTT-3.1.2-8] [MQTT-3.1.2-10] [MQTT-3.1.3-9]
#[test]
fn a_delayed_will_waits_and_is_cancelled_by_a_return() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let watcher = subscriber(&mut world, Version::V5, "watcher", "will", QoS::AtMostOnce);
        let client = join(&mut world, &delayed("c", 10, 1000));
        world.break_off(client);
        world.pass(Span::from_secs(9));
        assert_eq!(world.received(watcher), [""; 0]);
        let again = world.open(Version::V5);
        let packet = Packet::Connect(delayed("c", 10, 1000));
        world.send(again, &bytes(&packet, Version::V5));
        world.pass(Span::from_secs(20));
        assert_eq!(world.received(watcher), [""; 0]);
        world.break_off(again);
        world.pass(Span::from_secs(11));
        assert_eq!(world.received(watcher), ["PUBLISH will 'gone'"]);
        world.pass(Span::from_secs(2000));
        assert_eq!(world.received(watcher), [""; 0]);
    }
}

/// [MQTT-3.1.2-8]
#[test]
fn a_delayed_will_comes_no_later_than_the_end_of_its_session() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let watcher = subscriber(&mut world, Version::V5, "watcher", "will", QoS::AtMostOnce);
        let client = join(&mut world, &delayed("c", 1000, 5));
        world.break_off(client);
        world.pass(Span::from_secs(4));
        assert_eq!(world.received(watcher), [""; 0]);
        world.pass(Span::from_secs(2));
        assert_eq!(world.received(watcher), ["PUBLISH will 'gone'"]);
    }
}
