//! Presence: who comes and who goes, as messages under `$SYS`.

use std::sync::Arc;

use ringmq::{
    access::{Acl, Policy},
    mqtt::{QoS, Version},
    shard::events::Presence,
};

use crate::{
    everywhere, join_as,
    packets::{at, connect, disconnect, subscribe},
    subscriber,
    world::World,
};

const ALL: &str = "$SYS/broker/clients/+/+";

fn world(shards: usize, presence: Presence) -> World {
    World::told(shards, |rules| rules.presence = presence)
}

/// The topics of the messages that a client has received, and what their JSON says of `field`.
fn told(world: &mut World, client: usize, field: &str) -> Vec<(String, String)> {
    let lines = world.received(client);
    let message = |line: &String| {
        let (topic, payload) = line.strip_prefix("PUBLISH ")?.split_once(' ')?;
        let named = payload.split_once(&format!("\"{field}\":"));
        let value = named.map_or("", |(_, rest)| rest.split(",\"").next().unwrap_or_default());
        let topic = topic.strip_prefix("$SYS/broker/clients/")?;
        Some((topic.to_owned(), value.trim_matches('"').to_owned()))
    };
    lines.iter().filter_map(message).collect()
}

fn pair(topic: &str, value: &str) -> (String, String) {
    (topic.to_owned(), value.to_owned())
}

#[test]
fn those_who_come_and_go_are_announced_with_the_reason() {
    everywhere(|shards, version| {
        let mut world = world(shards, Presence::Live);
        let watcher = subscriber(&mut world, version, "watcher", ALL, QoS::AtMostOnce);
        let first = join_as(&mut world, version, "a/b+c#d%");
        let told_version = match version {
            Version::V31 => "3.1",
            Version::V311 => "3.1.1",
            Version::V5 => "5.0",
        };
        let name = "a%2Fb%2Bc%23d%25";
        let connected = format!("{name}/connected");
        assert_eq!(told(&mut world, watcher, "version"), [pair(&connected, told_version)]);
        let second = join_as(&mut world, version, "a/b+c#d%");
        let expected = [pair(&format!("{name}/disconnected"), "taken-over"), pair(&connected, "")];
        assert_eq!(told(&mut world, watcher, "cause"), expected);
        world.send(second, &disconnect(version));
        let expected = [pair(&format!("{name}/disconnected"), "ended")];
        assert_eq!(told(&mut world, watcher, "session"), expected);
        let third = join_as(&mut world, version, "third");
        world.break_off(third);
        let expected = [pair("third/connected", ""), pair("third/disconnected", "abrupt")];
        assert_eq!(told(&mut world, watcher, "cause"), expected);
        // Nothing is retained.
        world.send(watcher, &subscribe(version, 2, &[(ALL, at(QoS::AtMostOnce))]));
        assert_eq!(told(&mut world, watcher, "event"), []);
        assert!(world.is_closed(first));
    });
}

#[test]
fn who_is_there_is_retained_until_the_client_goes() {
    everywhere(|shards, version| {
        let mut world = world(shards, Presence::Retained);
        let here = join_as(&mut world, version, "here");
        let gone = join_as(&mut world, version, "gone");
        world.send(gone, &disconnect(version));
        let connected = "$SYS/broker/clients/+/connected";
        let watcher = subscriber(&mut world, version, "watcher", "x", QoS::AtMostOnce);
        world.send(watcher, &subscribe(version, 2, &[(connected, at(QoS::AtMostOnce))]));
        let found = told(&mut world, watcher, "client_id");
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.contains(&pair("here/connected", "here")), "{found:?}");
        // Also under rules that want none any more.
        world.change_rules(|rules| rules.presence = Presence::Off);
        world.send(here, &disconnect(version));
        assert_eq!(told(&mut world, watcher, "client_id"), [pair("here/connected", "")]);
        let later = subscriber(&mut world, version, "later", "x", QoS::AtMostOnce);
        world.send(later, &subscribe(version, 2, &[(connected, at(QoS::AtMostOnce))]));
        let found = told(&mut world, later, "client_id");
        assert_eq!(found, [pair("watcher/connected", "watcher")]);
    });
}

#[test]
fn nobody_hears_without_the_flag_or_without_the_right() {
    everywhere(|shards, version| {
        let mut quiet = World::new(shards);
        let watcher = subscriber(&mut quiet, version, "watcher", "$SYS/#", QoS::AtMostOnce);
        join_as(&mut quiet, version, "other");
        assert_eq!(quiet.received(watcher), [""; 0]);
        let rules = "topic read $SYS/#\ntopic deny $SYS/broker/clients/#\n";
        let acl = Acl::parse(rules.as_bytes()).expect("an ACL file");
        let mut world = World::told(shards, |rules| {
            rules.presence = Presence::Retained;
            rules.policy = Policy { acl: Some(Arc::new(acl)), ..Policy::default() };
        });
        let watcher = subscriber(&mut world, version, "watcher", "$SYS/#", QoS::AtMostOnce);
        join_as(&mut world, version, "other");
        assert_eq!(world.received(watcher), [""; 0]);
    });
}

#[test]
fn a_client_with_a_long_name_is_not_announced() {
    everywhere(|shards, version| {
        if version == Version::V31 {
            return;
        }
        let mut world = world(shards, Presence::Live);
        let watcher = subscriber(&mut world, version, "watcher", ALL, QoS::AtMostOnce);
        let (long, longest) = ("x".repeat(257), "/".repeat(256));
        for name in [&long, &longest] {
            crate::join(&mut world, &connect(version, name));
        }
        let found = told(&mut world, watcher, "event");
        assert_eq!(found, [pair(&format!("{}/connected", "%2F".repeat(256)), "connected")]);
    });
}
