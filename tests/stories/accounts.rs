//! Who pays when something is full: the account that holds most, a user or an address.

use ringmq::{
    access::Policy,
    base::{network::Network, time::Span},
    mqtt::{Connect, Packet, QoS, Version},
    shard::rules::Limits,
    transport::{Listener, Proxies},
};

use crate::{
    SHARDS,
    packets::{bytes, connect, disconnect, resume, will},
    subscriber,
    world::{World, limits},
};

const CROWD: [u8; 4] = [192, 0, 2, 66];

fn with_sessions(shards: usize, sessions_max: usize) -> World {
    World::with(shards, &Limits { sessions_max, ..limits() }, &Policy::default())
}

/// The answer to a CONNECT, and the client.
fn answer(world: &mut World, connect: &Connect<'_>) -> (usize, String) {
    let client = world.open(connect.version);
    world.send(client, &bytes(&Packet::Connect(*connect), connect.version));
    (client, world.received(client).swap_remove(0))
}

/// Clients of one address that leave a session behind. How many of them were let in.
fn leave_sessions(world: &mut World, name: &str, peer: [u8; 4], count: usize) -> usize {
    world.peer = peer;
    (0..count).filter(|n| leaves_session(world, &format!("{name} {n}"))).count()
}

fn leaves_session(world: &mut World, client_id: &str) -> bool {
    let (client, answer) = answer(world, &resume(Version::V5, client_id));
    world.send(client, &disconnect(Version::V5));
    answer.starts_with("CONNACK Success")
}

/// Whether these sessions are still there.
fn are_left(world: &mut World, name: &str, peer: [u8; 4], which: &[usize]) -> bool {
    world.peer = peer;
    which.iter().all(|n| {
        let (client, answer) = answer(world, &resume(Version::V5, &format!("{name} {n}")));
        world.break_off(client);
        answer.contains("present")
    })
}

#[test]
fn absent_sessions_of_a_crowd_make_room_for_others() {
    for shards in SHARDS {
        let mut world = with_sessions(shards, 40);
        assert_eq!(leave_sessions(&mut world, "flood", CROWD, 50), 50);
        assert_eq!((world.counters().clients_total, world.counters().clients_evicted), (39, 11));
        for n in 0..20 {
            world.peer = [198, 51, 100, n];
            let name = format!("innocent {n}");
            let (_, answer) = answer(&mut world, &connect(Version::V311, &name));
            assert!(answer.starts_with("CONNACK Success"), "{shards} shards: {answer}");
        }
        assert_eq!((world.counters().clients_total, world.counters().clients_evicted), (40, 30));
        assert_eq!(world.counters().refused_sessions, 0);
    }
}

/// On one shard, because each shard has an order of its own.
#[test]
fn the_longest_absent_sessions_go_first() {
    let mut world = with_sessions(1, 6);
    leave_sessions(&mut world, "flood", CROWD, 6);
    assert!(are_left(&mut world, "flood", CROWD, &[0]), "it is no longer the longest absent one");
    world.peer = [198, 51, 100, 1];
    for n in 0..3 {
        let name = format!("innocent {n}");
        assert!(answer(&mut world, &connect(Version::V5, &name)).1.contains("Success"));
    }
    assert_eq!(world.counters().clients_evicted, 3);
    assert!(are_left(&mut world, "flood", CROWD, &[0, 4, 5]));
}

#[test]
fn an_account_keeps_its_fair_share() {
    for shards in SHARDS {
        let mut world = with_sessions(shards, 24);
        leave_sessions(&mut world, "modest", [198, 51, 100, 1], 8);
        leave_sessions(&mut world, "flood", CROWD, 200);
        leave_sessions(&mut world, "other", [198, 51, 100, 2], 8);
        let all = &[0, 1, 2, 3, 4, 5, 6, 7];
        assert!(are_left(&mut world, "modest", [198, 51, 100, 1], all));
        assert!(are_left(&mut world, "other", [198, 51, 100, 2], all));
        assert_eq!(world.counters().clients_total, 24);
    }
}

#[test]
fn connected_clients_keep_their_sessions_and_others_are_refused() {
    for shards in SHARDS {
        let mut world = with_sessions(shards, 4);
        world.peer = CROWD;
        for n in 0..4 {
            let name = format!("flood {n}");
            assert!(answer(&mut world, &resume(Version::V5, &name)).1.contains("Success"));
        }
        world.peer = [198, 51, 100, 1];
        let (late, refused) = answer(&mut world, &connect(Version::V5, "late"));
        assert_eq!(refused, "CONNACK QuotaExceeded");
        assert!(world.is_closed(late));
        let counters = world.counters();
        assert_eq!((counters.refused_sessions, counters.clients_evicted), (1, 0));
    }
}

#[test]
fn some_places_are_kept_for_sessions_that_end_with_their_connection() {
    for shards in SHARDS {
        let mut world = with_sessions(shards, 64);
        let mut peers = (1..).map(|n| [198, 51, 100, n]);
        let mut let_in = |world: &mut World, connect: &Connect<'_>| {
            world.peer = peers.next().unwrap();
            let (client, answer) = answer(world, connect);
            (client, answer.contains("Success"))
        };
        // Each has one session, and nobody more than a fair share.
        for n in 0..62 {
            let (client, is_in) = let_in(&mut world, &resume(Version::V5, &format!("device {n}")));
            assert!(is_in);
            world.send(client, &disconnect(Version::V5));
        }
        assert!(!let_in(&mut world, &resume(Version::V311, "lasting")).1);
        assert!(let_in(&mut world, &connect(Version::V311, "one")).1);
        let (two, is_in) = let_in(&mut world, &connect(Version::V5, "two"));
        assert!(is_in && !let_in(&mut world, &connect(Version::V5, "three")).1);
        world.send(two, &disconnect(Version::V5));
        assert!(let_in(&mut world, &connect(Version::V5, "three")).1);
        assert_eq!(world.counters().clients_evicted, 0);
    }
}

#[test]
fn a_session_that_has_to_go_leaves_its_will() {
    for shards in SHARDS {
        let mut world = with_sessions(shards, 2);
        world.peer = [198, 51, 100, 1];
        let watcher = subscriber(&mut world, Version::V5, "watcher", "will/#", QoS::AtMostOnce);
        world.peer = CROWD;
        let mut properties = resume(Version::V5, "").properties;
        properties.session_expiry_interval = Some(1_000);
        let mut will = will("will/flood", b"gone");
        will.properties.will_delay_interval = 500;
        let flood = Connect { will: Some(will), properties, ..resume(Version::V5, "flood") };
        let (client, _) = answer(&mut world, &flood);
        world.break_off(client);
        assert!(world.received(watcher).is_empty());
        assert!(leaves_session(&mut world, "more"));
        assert_eq!(world.received(watcher), ["PUBLISH will/flood 'gone'"]);
    }
}

/// Without an answer of the other shards a CONNECT waits for a second.
#[test]
fn a_client_waits_for_another_shard_for_a_second_at_most() {
    let mut world = with_sessions(2, 1);
    assert!(answer(&mut world, &connect(Version::V5, "first")).1.contains("Success"));
    world.mail_waits = true;
    let late: Vec<usize> = (0..8).map(|_| world.open(Version::V5)).collect();
    for (n, &client) in late.iter().enumerate() {
        let name = format!("late {n}");
        world.send(client, &bytes(&Packet::Connect(connect(Version::V5, &name)), Version::V5));
    }
    world.pass(Span::from_millis(900));
    assert!(late.iter().all(|&client| world.received(client).is_empty()));
    world.pass(Span::from_millis(200));
    for client in late {
        assert_eq!(world.received(client), ["CONNACK QuotaExceeded"]);
    }
}

/// A broker that may hold 64 connections, of which the crowd has these.
fn with_crowd(shards: usize, count: usize) -> World {
    let mut world = World::new(shards);
    world.connections_max = 64;
    world.peer = CROWD;
    for n in 0..count {
        assert!(
            answer(&mut world, &connect(Version::V5, &format!("crowd {n}"))).1.contains("Succ")
        );
    }
    world
}

#[test]
fn an_address_that_nobody_competes_with_has_all_connections() {
    for shards in SHARDS {
        let mut world = with_crowd(shards, 64);
        world.full = true;
        let (_, refused) = answer(&mut world, &connect(Version::V5, "one more"));
        assert_eq!(refused, "CONNACK QuotaExceeded");
        let counters = world.counters();
        assert_eq!((counters.refused_connections, counters.refused_share), (1, 0));
    }
}

#[test]
fn the_last_connections_are_kept_for_who_has_less_than_a_share() {
    for shards in SHARDS {
        let mut world = with_crowd(shards, 55);
        world.peer = [198, 51, 100, 1];
        assert!(answer(&mut world, &connect(Version::V5, "innocent")).1.contains("Success"));
        world.peer = CROWD;
        let (late, refused) = answer(&mut world, &connect(Version::V5, "late"));
        assert_eq!((refused.as_str(), world.is_closed(late)), ("CONNACK QuotaExceeded", true));
        let (_, back) = answer(&mut world, &connect(Version::V5, "crowd 3"));
        assert!(back.contains("Success"), "it takes its own connection over");
        world.peer = [198, 51, 100, 2];
        for n in 0..8 {
            let name = format!("innocent {n}");
            assert!(answer(&mut world, &connect(Version::V311, &name)).1.contains("Success"));
        }
        assert_eq!(world.counters().refused_share, 1);
    }
}

#[test]
fn a_connection_of_the_crowd_goes_for_somebody_who_has_none() {
    for shards in SHARDS {
        let mut world = with_crowd(shards, 64);
        world.full = true;
        for n in 0..20 {
            world.peer = [198, 51, 100, n];
            let name = format!("innocent {n}");
            assert!(answer(&mut world, &connect(Version::V5, &name)).1.contains("Success"));
        }
        let counters = world.counters();
        assert_eq!((counters.ended_share, counters.clients_connected), (20, 64));
    }
}

#[test]
fn who_opens_connections_without_end_is_closed_at_once_in_the_end() {
    for shards in SHARDS {
        let mut world = with_crowd(shards, 0);
        world.peer = [198, 51, 100, 1];
        assert!(answer(&mut world, &connect(Version::V5, "innocent")).1.contains("Success"));
        world.peer = CROWD;
        let flood: Vec<usize> = (0..100).map(|_| world.open(Version::V5)).collect();
        world.run();
        let open = flood.iter().filter(|&&client| !world.is_closed(client)).count();
        // Seven eighths of all, and the crowd has more than its half.
        assert_eq!((open, world.counters().refused_share), (55, 45));
        world.peer = [198, 51, 100, 2];
        assert!(answer(&mut world, &connect(Version::V5, "another")).1.contains("Success"));
    }
}

/// A proxy pays for nobody: whose share counts is known when its header has come.
#[test]
fn clients_behind_a_proxy_pay_by_the_addresses_that_it_tells() {
    for shards in SHARDS {
        let mut world = World::told(shards, |rules| {
            let networks = [Network::new([10, 0, 0, 0].into(), Some(8)).unwrap()].into();
            let listener = Listener::tcp(([10, 0, 0, 1], 1883).into());
            let listener = listener.behind(Proxies { networks, name_users: false });
            rules.listeners = vec![Listener { anonymous: Some(true), ..listener }].into();
        });
        world.connections_max = 64;
        world.peer = [10, 0, 0, 2];
        let clients: Vec<usize> = (0..101).map(|_| world.open(Version::V5)).collect();
        let (&innocent, flood) = clients.split_first().unwrap();
        assert_eq!(world.counters().refused_share, 0);
        world.announce(innocent, [198, 51, 100, 1]);
        world.send(innocent, &bytes(&Packet::Connect(connect(Version::V5, "a")), Version::V5));
        assert_eq!(world.received(innocent), ["CONNACK Success"]);
        for &client in flood {
            world.announce(client, CROWD);
        }
        let open = flood.iter().filter(|&&client| !world.is_closed(client)).count();
        assert_eq!((open, world.counters().refused_share), (55, 45));
        let another = world.open(Version::V5);
        world.announce(another, [198, 51, 100, 2]);
        world.send(another, &bytes(&Packet::Connect(connect(Version::V5, "b")), Version::V5));
        assert_eq!(world.received(another), ["CONNACK Success"]);
    }
}
