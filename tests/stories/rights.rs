//! Rights by topic: what clients may publish, subscribe to and read, and what they are told.

use std::sync::Arc;

use ringmq::{
    access::{Acl, Policy},
    base::time::Span,
    mqtt::{Connect, Delivery, Packet, Publish, QoS, Version, Will, WillProperties},
};

use crate::{
    everywhere, join, join_as,
    packets::{ack, at, bytes, connect, id, resume, subscribe, will},
    publish, retain, subscriber,
    world::{World, limits},
};

/// A broker with these rights.
fn world(shards: usize, rules: &str) -> World {
    World::with(shards, &limits(), &policy(rules))
}

fn policy(rules: &str) -> Policy {
    let acl = Acl::parse(rules.as_bytes()).expect("an ACL file");
    Policy { acl: Some(Arc::new(acl)), ..Policy::default() }
}

/// Other rights while the broker runs.
fn change(world: &mut World, rules: &str) {
    world.change_rules(|others| others.policy = policy(rules));
}

/// What a client has received, without Packet Identifiers.
fn payloads(world: &mut World, client: usize) -> Vec<String> {
    let lines = world.received(client);
    let messages = lines.iter().filter(|line| line.starts_with("PUBLISH"));
    messages.map(|line| line.split('\'').nth(1).unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_message_without_a_right_is_refused_as_the_version_and_the_qos_allow() {
    everywhere(|shards, version| {
        let mut world = world(shards, "topic read #\ntopic write mine/#");
        let watcher = subscriber(&mut world, version, "watcher", "#", QoS::AtMostOnce);
        let client = join_as(&mut world, version, "client");
        let is_told = version == Version::V5;
        for (delivery, answer) in [
            (Delivery::AtMostOnce, None),
            (Delivery::AtLeastOnce(id(1)), Some("PUBACK 1")),
            (Delivery::ExactlyOnce(id(2)), Some("PUBREC 2")),
        ] {
            publish(&mut world, client, version, "other", delivery, "no");
            let expected = answer.map(|answer| {
                if is_told { format!("{answer} NotAuthorized") } else { answer.to_owned() }
            });
            assert_eq!(world.received(client), expected.into_iter().collect::<Vec<_>>());
        }
        publish(&mut world, client, version, "mine/1", Delivery::AtMostOnce, "yes");
        assert_eq!(payloads(&mut world, watcher), ["yes"]);
        let counters = world.counters();
        assert_eq!((counters.denied_publish, counters.refused_publish), (3, 3));
        assert!(!world.is_closed(client));
    });
}

#[test]
fn a_subscription_of_which_nothing_may_be_read_is_refused_or_stays_silent() {
    everywhere(|shards, version| {
        for is_silent in [false, true] {
            let mut world = world(shards, "topic read a/#\ntopic write #\ntopic deny a/b/#");
            world.change_rules(|rules| rules.policy.grants_unreadable = is_silent);
            let client = join_as(&mut world, version, "client");
            let filters = ["b", "a/b/+", "a/c", "a/#", "#", "$share/g/b", "$share/g/+/c"];
            let filters = filters.map(|filter| (filter, at(QoS::AtMostOnce)));
            world.send(client, &subscribe(version, 1, &filters));
            let no = match (is_silent, version) {
                (true, _) => "00",
                (false, Version::V5) => "87",
                (false, _) => "80",
            };
            let answer = format!("SUBACK 1 [{no}, {no}, 00, 00, 00, {no}, 00]");
            assert_eq!(world.received(client), [answer]);
            for topic in ["b", "a/b/c", "a/c", "c/c"] {
                publish(&mut world, client, version, topic, Delivery::AtMostOnce, topic);
            }
            let mut heard = payloads(&mut world, client);
            heard.dedup();
            assert_eq!(heard, ["a/c"]);
            assert!(world.counters().denied_deliveries > 0);
        }
    });
}

#[test]
fn each_client_reads_its_own_part_of_what_it_has_subscribed_to() {
    everywhere(|shards, version| {
        let mut world = world(shards, "pattern read to/%c/#\npattern write #");
        let clients = ["one", "two"]
            .map(|name| subscriber(&mut world, version, name, "to/#", QoS::AtMostOnce));
        let twice = subscribe(version, 2, &[("to/+/x", at(QoS::AtMostOnce))]);
        world.send(clients[0], &twice);
        world.received(clients[0]);
        for topic in ["to/one/x", "to/two/x", "to/three/x", "to/one"] {
            publish(&mut world, clients[0], version, topic, Delivery::AtMostOnce, topic);
        }
        assert_eq!(payloads(&mut world, clients[0]), ["to/one/x", "to/one"]);
        assert_eq!(payloads(&mut world, clients[1]), ["to/two/x"]);
    });
}

#[test]
fn retained_messages_are_replayed_as_far_as_they_may_be_read() {
    everywhere(|shards, version| {
        let mut world = world(shards, "pattern read to/%c/#\npattern write #");
        let writer = join_as(&mut world, version, "writer");
        for topic in ["to/one/x", "to/two/x", "to/one"] {
            retain(&mut world, writer, version, topic, topic);
        }
        let reader = join_as(&mut world, version, "one");
        world.send(reader, &subscribe(version, 1, &[("#", at(QoS::AtMostOnce))]));
        assert_eq!(payloads(&mut world, reader), ["to/one", "to/one/x"]);
    });
}

#[test]
fn a_member_that_may_not_read_a_message_is_not_chosen() {
    everywhere(|shards, version| {
        let mut world = world(shards, "pattern read jobs/%c/#\npattern write #\ntopic read all/#");
        let names = ["one", "two", "three"];
        let members =
            names.map(|name| subscriber(&mut world, version, name, "$share/g/#", QoS::AtMostOnce));
        let writer = join_as(&mut world, version, "writer");
        for round in 0..6 {
            for name in names {
                let (topic, payload) = (format!("jobs/{name}/{round}"), name);
                publish(&mut world, writer, version, &topic, Delivery::AtMostOnce, payload);
            }
            publish(&mut world, writer, version, "jobs/nobody", Delivery::AtMostOnce, "nobody");
            publish(&mut world, writer, version, "all/1", Delivery::AtMostOnce, "all");
        }
        let mut of_all = 0;
        for (member, name) in members.into_iter().zip(names) {
            let heard = payloads(&mut world, member);
            assert_eq!(heard.iter().filter(|payload| *payload == name).count(), 6, "{name}");
            of_all += heard.iter().filter(|payload| *payload == "all").count();
            assert!(heard.iter().all(|payload| payload == name || payload == "all"), "{heard:?}");
        }
        assert_eq!((of_all, world.counters().denied_deliveries), (6, 6));
    });
}

#[test]
fn a_will_without_a_right_is_dropped_when_it_is_due() {
    everywhere(|shards, version| {
        let mut world = world(shards, "topic read #\npattern write of/%c");
        let watcher = subscriber(&mut world, version, "watcher", "#", QoS::AtMostOnce);
        for (client_id, topic) in [("one", "of/one"), ("two", "of/one")] {
            let will = will(topic, client_id.as_bytes());
            let client =
                join(&mut world, &Connect { will: Some(will), ..connect(version, client_id) });
            world.break_off(client);
        }
        assert_eq!(payloads(&mut world, watcher), ["one"]);
        assert_eq!(world.counters().denied_wills, 1);
    });
}

#[test]
fn the_brokers_own_topics_are_read_by_those_who_have_the_right() {
    for shards in crate::SHARDS {
        let mut world = world(shards, "topic readwrite #\npattern read $SYS/broker/%c/#");
        world.change_rules(|rules| rules.sys_interval = Some(Span::from_secs(1)));
        let v5 = Version::V5;
        let client = join_as(&mut world, v5, "uptime");
        let filters = ["$SYS/#", "$SYS/broker/clients/#"].map(|it| (it, at(QoS::AtMostOnce)));
        world.send(client, &subscribe(v5, 1, &filters));
        assert_eq!(world.received(client), ["SUBACK 1 [00, 87]"]);
        world.pass(Span::from_secs(2));
        let heard = world.received(client);
        let is_own = |line: &String| line.starts_with("PUBLISH $SYS/broker/uptime ");
        assert!(!heard.is_empty() && heard.iter().all(is_own), "{heard:?}");
        publish(&mut world, client, v5, "$SYS/broker/uptime", Delivery::AtLeastOnce(id(1)), "9");
        assert_eq!(world.received(client), ["PUBACK 1 NotAuthorized"]);
    }
}

const ALL: &str = "topic readwrite #";
const NO_SECRETS: &str = "topic readwrite #\ntopic deny secret/#";

#[test]
fn a_right_that_is_taken_away_is_gone_for_subscriptions_that_stand() {
    everywhere(|shards, version| {
        let mut world = world(shards, ALL);
        let plain = subscriber(&mut world, version, "plain", "#", QoS::AtMostOnce);
        let whole = subscriber(&mut world, version, "whole", "secret/#", QoS::AtMostOnce);
        let shared = subscriber(&mut world, version, "shared", "$share/g/#", QoS::AtMostOnce);
        let writer = join_as(&mut world, version, "writer");
        let mut hear = |rules: &str| {
            change(&mut world, rules);
            for topic in ["secret/1", "open/1"] {
                publish(&mut world, writer, version, topic, Delivery::AtMostOnce, topic);
            }
            [plain, whole, shared].map(|client| payloads(&mut world, client).join(" "))
        };
        assert_eq!(hear(ALL), ["secret/1 open/1", "secret/1", "secret/1 open/1"]);
        assert_eq!(hear("topic deny secret/#\ntopic #"), ["open/1", "", "open/1"]);
        assert_eq!(hear(ALL), ["secret/1 open/1", "secret/1", "secret/1 open/1"], "given back");
        let readers = format!("{ALL}\ntopic deny secret/2");
        assert_eq!(hear(&readers), ["secret/1 open/1", "secret/1", "secret/1 open/1"]);
        assert_eq!(hear("topic write #"), ["", "", ""]);
    });
}

#[test]
fn a_right_that_is_taken_away_is_gone_for_what_waits() {
    everywhere(|shards, version| {
        let mut world = world(shards, ALL);
        let reader = join(&mut world, &resume(version, "reader"));
        world.send(reader, &subscribe(version, 1, &[("#", at(QoS::AtLeastOnce))]));
        world.received(reader);
        let writer = join_as(&mut world, version, "writer");
        let mut number = 0;
        let mut write = |world: &mut World, topic: &str| {
            number += 1;
            let delivery = Delivery::AtLeastOnce(id(number));
            publish(world, writer, version, topic, delivery, topic);
        };
        write(&mut world, "secret/in flight");
        write(&mut world, "open/in flight");
        assert_eq!(payloads(&mut world, reader).len(), 2);
        world.break_off(reader);
        write(&mut world, "secret/queued");
        write(&mut world, "open/queued");
        change(&mut world, NO_SECRETS);
        let reader = join(&mut world, &resume(version, "reader"));
        world.run();
        let counters = world.counters();
        assert_eq!(counters.denied_deliveries, 2);
        for packet_id in 1..=8 {
            world.send(reader, &bytes(&Packet::Puback(ack(packet_id)), version));
        }
        write(&mut world, "open/new");
        assert_eq!(payloads(&mut world, reader), ["open/new"]);
    });
}

#[test]
fn a_right_that_is_taken_away_is_gone_for_a_will() {
    for shards in crate::SHARDS {
        let v5 = Version::V5;
        let mut world = world(shards, ALL);
        let watcher = subscriber(&mut world, v5, "watcher", "#", QoS::AtMostOnce);
        let properties = WillProperties { will_delay_interval: 10, ..WillProperties::default() };
        let will = Will { properties, ..will("secret/will", b"gone") };
        let client = join(&mut world, &Connect { will: Some(will), ..resume(v5, "client") });
        world.break_off(client);
        change(&mut world, NO_SECRETS);
        world.pass(Span::from_secs(20));
        assert_eq!(world.received(watcher), Vec::<String>::new());
        assert_eq!(world.counters().denied_wills, 1);
    }
}

#[test]
fn a_right_that_is_taken_away_is_gone_for_a_replay() {
    everywhere(|shards, version| {
        let mut world = world(shards, ALL);
        let writer = join_as(&mut world, version, "writer");
        for number in 0..2_000 {
            let topic = format!("{}/{number:04}", if number % 2 == 0 { "open" } else { "secret" });
            let payload = topic.clone() + &"x".repeat(1_000);
            let publish = crate::packets::publish(&topic, Delivery::AtMostOnce, &payload);
            let publish = Publish { retain: true, ..publish };
            world.push(writer, &bytes(&Packet::Publish(publish), version));
        }
        world.run();
        let reader = join_as(&mut world, version, "reader");
        world.reads(reader, false);
        world.send(reader, &subscribe(version, 1, &[("#", at(QoS::AtMostOnce))]));
        change(&mut world, NO_SECRETS);
        world.reads(reader, true);
        world.run();
        let heard = payloads(&mut world, reader);
        let count = |of: &str| heard.iter().filter(|payload| payload.starts_with(of)).count();
        assert_eq!(count("open"), 1_000);
        assert!(count("secret") < 1_000, "{}", count("secret"));
    });
}

#[test]
fn a_retained_message_stands_while_its_publisher_may_write_to_its_topic() {
    everywhere(|shards, version| {
        for is_ignored in [false, true] {
            let rules = "topic read #\npattern write of/%c";
            let mut world = World::told(shards, |rules_of_all| {
                rules_of_all.policy = policy(rules);
                rules_of_all.policy.ignores_retain_source = is_ignored;
            });
            for client_id in ["one", "two"] {
                let writer = join_as(&mut world, version, client_id);
                retain(&mut world, writer, version, &format!("of/{client_id}"), client_id);
            }
            let mut hear = |rules: &str| {
                world.change_rules(|all| all.policy.acl = policy(rules).acl);
                let reader = join_as(&mut world, version, "reader");
                world.send(reader, &subscribe(version, 1, &[("#", at(QoS::AtMostOnce))]));
                payloads(&mut world, reader)
            };
            assert_eq!(hear(rules), ["one", "two"]);
            let left: &[&str] = if is_ignored { &["one", "two"] } else { &["one"] };
            assert_eq!(hear("topic read #\npattern write of/%c\npattern deny of/two"), left);
            assert_eq!(hear(rules), ["one", "two"]);
            let denied = world.counters().denied_replays;
            assert_eq!(denied, u64::from(!is_ignored));
        }
    });
}
