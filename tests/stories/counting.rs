//! What `$SYS` says: each thing counted, once, and the broker's own messages not at all.

use std::collections::BTreeMap;

use ringmq::{
    base::time::Span,
    mqtt::{Packet, QoS, Version},
};

use super::{
    SHARDS, everywhere, join_as,
    packets::{at, subscribe},
    retain, subscriber,
    world::World,
};

/// A broker that publishes `$SYS` every second.
fn telling(shards: usize) -> World {
    World::told(shards, |rules| rules.sys_interval = Some(Span::from_secs(1)))
}

/// The latest payload of each topic below `$SYS/broker/` that a client has received.
fn sys(world: &mut World, watcher: usize) -> BTreeMap<String, String> {
    world.pass(Span::from_secs(1));
    let mut values = BTreeMap::new();
    world.look(watcher, |packet| {
        let Ok(Packet::Publish(publish)) = packet else { return };
        let Some(name) = publish.topic.strip_prefix("$SYS/broker/") else { return };
        let value = String::from_utf8_lossy(publish.payload).into_owned();
        values.insert(name.to_owned(), value);
    });
    values
}

#[test]
fn the_brokers_own_messages_count_in_no_limit_and_in_no_sum() {
    for shards in SHARDS {
        let mut world = World::told(shards, |rules| {
            rules.sys_interval = Some(Span::from_secs(1));
            rules.limits.retained_max = 1;
            rules.limits.retained_bytes_max = 1_000;
        });
        let watcher = subscriber(&mut world, Version::V5, "w", "$SYS/#", QoS::AtMostOnce);
        let values = sys(&mut world, watcher);
        assert_eq!((&*values["retained/count"], &*values["retained/bytes"]), ("0", "0"));
        retain(&mut world, watcher, Version::V5, "a", "1");
        retain(&mut world, watcher, Version::V5, "beyond", "1");
        let values = sys(&mut world, watcher);
        assert_eq!((&*values["retained/count"], &*values["retained/refused"]), ("1", "1"));
        assert!(values["retained/bytes"].parse::<usize>().unwrap() > 0);
        // They are retained all the same.
        let late = join_as(&mut world, Version::V5, "late");
        world.send(late, &subscribe(Version::V5, 1, &[("$SYS/#", at(QoS::AtMostOnce))]));
        assert!(world.received(late).iter().any(|line| line.contains("$SYS/broker/uptime retain")));
    }
}

#[test]
fn a_retained_message_that_was_deleted_is_counted_no_more() {
    everywhere(|shards, version| {
        let mut world = telling(shards);
        let watcher = subscriber(&mut world, version, "w", "$SYS/#", QoS::AtMostOnce);
        let writer = join_as(&mut world, version, "writer");
        for topic in 0..100 {
            retain(&mut world, writer, version, &format!("a/{topic}"), "1");
        }
        assert_eq!(sys(&mut world, watcher)["retained/count"], "100");
        for topic in 0..100 {
            retain(&mut world, writer, version, &format!("a/{topic}"), "");
        }
        let values = sys(&mut world, watcher);
        assert_eq!((&*values["retained/count"], &*values["retained/bytes"]), ("0", "0"));
    });
}
