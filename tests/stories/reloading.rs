//! Other rules while the broker runs: what they mean for who comes, and for who is there.

use std::{num::NonZeroU16, sync::Arc};

use ringmq::{
    access::{Anonymous, Passwords, Policy},
    base::time::Span,
    mqtt::{Connect, Delivery, Packet, QoS, Version},
};

use crate::{
    everywhere, join, join_as,
    packets::{at, bytes, connect, id, resume, subscribe},
    publish, subscriber,
    world::{World, limits},
};

const V5: Version = Version::V5;

/// The password of each user is `secret`.
fn policy(users: &[&str]) -> Policy {
    let ada = include_str!("passwords.txt").trim_end();
    let lines: Vec<String> = users.iter().map(|user| ada.replacen("ada", user, 1)).collect();
    let passwords = Passwords::parse(&lines.join("\n")).expect("a password file");
    Policy {
        passwords: Some(Arc::new(passwords)),
        anonymous: Anonymous::Refused,
        ..Policy::default()
    }
}

fn answer(world: &mut World, connect: &Connect<'_>) -> Vec<String> {
    let client = world.open(connect.version);
    world.send(client, &bytes(&Packet::Connect(*connect), connect.version));
    world.received(client)
}

#[test]
fn other_users_are_let_in_from_the_next_connect_on_and_who_is_there_stays() {
    everywhere(|shards, version| {
        let mut world = World::with(shards, &limits(), &policy(&["ada"]));
        let by = |user| Connect {
            user_name: Some(user),
            password: Some(b"secret"),
            ..connect(version, user)
        };
        let ada = join(&mut world, &by("ada"));
        assert_eq!(answer(&mut world, &by("bob")), ["CONNACK BadUserNameOrPassword"]);
        world.change_rules(|rules| rules.policy = policy(&["bob"]));
        let again = Connect { client_id: "other", ..by("ada") };
        assert_eq!(answer(&mut world, &again), ["CONNACK BadUserNameOrPassword"]);
        let bob = join(&mut world, &by("bob"));
        for client in [ada, bob] {
            world.send(client, &bytes(&Packet::Pingreq, version));
            assert_eq!(world.received(client), ["PINGRESP"]);
        }
    });
}

#[test]
fn what_connack_has_told_holds_for_as_long_as_the_connection() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let earlier = join_as(&mut world, V5, "earlier");
        world.change_rules(|rules| {
            rules.limits.packet_size_max = 300;
            rules.limits.receive_maximum = 1;
            rules.limits.topic_alias_maximum = 0;
            rules.offer.maximum_qos = QoS::AtLeastOnce;
            rules.offer.retain = false;
            rules.offer.wildcard_subscriptions = false;
            rules.offer.keep_alive_max = NonZeroU16::new(1);
        });
        let large = "7".repeat(1_000);
        for packet_id in [1, 2] {
            publish(&mut world, earlier, V5, "a", Delivery::ExactlyOnce(id(packet_id)), &large);
        }
        assert_eq!(world.received(earlier).len(), 2);
        world.send(earlier, &subscribe(V5, 3, &[("#", at(QoS::ExactlyOnce))]));
        assert_eq!(world.received(earlier), ["SUBACK 3 [02]"]);
        world.pass(Span::from_secs(5));
        assert!(!world.is_closed(earlier));

        let mut later = |payload: &str, delivery| {
            let later = join_as(&mut world, V5, "later");
            publish(&mut world, later, V5, "a", delivery, payload);
            world.received(later)
        };
        assert_eq!(later("", Delivery::ExactlyOnce(id(1))), ["DISCONNECT QosNotSupported"]);
        assert_eq!(later(&large, Delivery::AtMostOnce), ["DISCONNECT PacketTooLarge"]);
    }
}

#[test]
fn lowered_limits_remove_nothing() {
    everywhere(|shards, version| {
        let mut world = World::new(shards);
        let lasting = join(&mut world, &resume(version, "lasting"));
        world.send(lasting, &subscribe(version, 1, &[("a/#", at(QoS::AtLeastOnce))]));
        world.break_off(lasting);
        let publisher = join_as(&mut world, version, "publisher");
        for packet_id in [1, 2, 3] {
            let delivery = Delivery::AtLeastOnce(id(packet_id));
            publish(&mut world, publisher, version, "a/b", delivery, "kept");
        }
        world.change_rules(|rules| {
            rules.limits.queue.messages_max = 1;
            rules.limits.sessions_max = 0;
            rules.limits.subscriptions_max = 0;
            rules.limits.topic_levels_max = 1;
        });
        let lasting = world.open(version);
        world.send(lasting, &bytes(&Packet::Connect(resume(version, "lasting")), version));
        assert_eq!(world.received_ids(lasting).len(), 3);
        assert!(!answer(&mut world, &connect(version, "new"))[0].contains("Success"));
        assert!(!world.is_closed(publisher));
    });
}

#[test]
fn sys_begins_and_ends_with_its_interval() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let topic = "$SYS/broker/uptime";
        let watcher = subscriber(&mut world, V5, "watcher", topic, QoS::AtMostOnce);
        let heard = |world: &mut World| {
            world.pass(Span::from_secs(10));
            world.received(watcher).len()
        };
        assert_eq!(heard(&mut world), 0);
        world.change_rules(|rules| rules.sys_interval = Some(Span::from_secs(1)));
        // Told again, it is not published twice as often.
        world.change_rules(|rules| rules.sys_interval = Some(Span::from_secs(1)));
        assert_eq!(heard(&mut world), 10);
        world.change_rules(|rules| rules.sys_interval = None);
        assert_eq!(heard(&mut world), 0);
    }
}

/// A user cannot come to the session of another one by its Client Identifier, unless all may.
#[test]
fn a_session_is_taken_over_by_the_user_that_began_it() {
    everywhere(|shards, version| {
        for is_shared in [false, true] {
            let mut world = World::told(shards, |rules| {
                rules.policy = policy(&["ada", "bob"]);
                rules.policy.anonymous = Anonymous::Everywhere;
                rules.policy.shares_sessions = is_shared;
            });
            let by = |user: Option<&'static str>| Connect {
                user_name: user,
                password: user.map(|_| &b"secret"[..]),
                ..resume(version, "device")
            };
            let ada = join(&mut world, &by(Some("ada")));
            for user in [Some("bob"), None] {
                let heard = answer(&mut world, &by(user));
                let let_in = if version == Version::V31 { "" } else { " session present" };
                let expected = if is_shared {
                    format!("CONNACK Success{let_in}")
                } else {
                    "CONNACK ClientIdentifierNotValid".to_owned()
                };
                assert_eq!(heard, [expected], "{user:?}");
            }
            assert_eq!(world.is_closed(ada), is_shared);
            assert_eq!(world.counters().refused_other_user, if is_shared { 0 } else { 2 });
            join(&mut world, &by(Some("ada")));
        }
    });
}

#[test]
fn anonymous_clients_of_one_listener_are_one_user() {
    for shards in crate::SHARDS {
        let policy = Policy { anonymous: Anonymous::Everywhere, ..Policy::default() };
        let mut world = World::with(shards, &limits(), &policy);
        let mut connect_on = |listener| {
            let client = world.open_on(V5, listener);
            world.send(client, &bytes(&Packet::Connect(resume(V5, "device")), V5));
            world.received(client)
        };
        assert_eq!(connect_on(0), ["CONNACK Success"]);
        assert_eq!(connect_on(1), ["CONNACK ClientIdentifierNotValid"]);
        assert_eq!(connect_on(0), ["CONNACK Success session present"]);
    }
}
