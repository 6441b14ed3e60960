//! Password checks while the threads have much to do: who waits for whom, and for how long.

use std::{net::IpAddr, sync::Arc};

use ringmq::{
    access::{Anonymous, Passwords, Policy},
    base::time::Span,
    mqtt::{Connect, Packet, Version},
    shard::rules::Limits,
};

use crate::{
    everywhere, join_as,
    packets::{bytes, connect, disconnect},
    world::{World, limits},
};

const V5: Version = Version::V5;
/// Checks that the threads take of one shard in these stories.
const AT_WORK: u64 = 2;

/// The user is `ada`, and the password `secret`.
fn policy() -> Policy {
    let passwords = Passwords::parse(include_str!("passwords.txt")).expect("a password file");
    Policy {
        passwords: Some(Arc::new(passwords)),
        anonymous: Anonymous::Everywhere,
        ..Policy::default()
    }
}

/// A broker whose threads work on checks that do not end.
fn busy(shards: usize, password_checks_max: usize) -> World {
    let mut world = World::with(shards, &Limits { password_checks_max, ..limits() }, &policy());
    world.verdicts_wait = true;
    world
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

/// Says in a CONNECT from this address that it is `ada`.
fn log_in(world: &mut World, version: Version, client_id: &str, from: IpAddr) -> usize {
    let client = world.open_from(version, from);
    let password = Some(&b"secret"[..]);
    let connect = Connect { user_name: Some("ada"), password, ..connect(version, client_id) };
    world.send(client, &bytes(&Packet::Connect(connect), version));
    client
}

#[test]
fn a_check_that_would_take_too_long_is_answered_in_time_with_server_busy() {
    everywhere(|shards, version| {
        let mut world = busy(shards, 100);
        let client = log_in(&mut world, version, "c", ip(1));
        world.pass(Span::from_millis(4_900));
        assert!(world.received(client).is_empty() && !world.is_closed(client));
        world.pass(Span::from_millis(200));
        let busy = match version {
            V5 => "CONNACK ServerBusy",
            _ => "CONNACK ServerUnavailable",
        };
        assert_eq!(world.received(client), [busy]);
        assert!(world.is_closed(client));
        assert_eq!(world.counters().refused_busy, 1);
        // The verdict finds nobody, and the thread is free.
        world.verdicts_wait = false;
        world.run();
        let later = log_in(&mut world, version, "c", ip(1));
        assert_eq!(world.received(later), ["CONNACK Success"]);
    });
}

#[test]
fn a_check_is_dropped_when_its_client_has_gone() {
    everywhere(|shards, version| {
        let mut world = busy(shards, 100);
        let clients: Vec<usize> =
            (0..10).map(|_| log_in(&mut world, version, "c", ip(1))).collect();
        assert_eq!(world.counters().checks_run, AT_WORK);
        for &client in &clients[2..5] {
            world.break_off(client);
        }
        // The broker does not read from these, and hears of their end when it is their turn.
        for &client in &clients[5..8] {
            world.finish(client);
        }
        world.verdicts_wait = false;
        world.run();
        let counters = world.counters();
        assert_eq!((counters.checks_run, counters.checks_dropped), (AT_WORK + 2, 3));
        assert_eq!(world.received(clients[9]), ["CONNACK Success"]);
        assert!((0..9).all(|n| world.is_closed(clients[n])));
    });
}

#[test]
fn what_comes_with_connect_and_before_the_end_of_the_stream_is_handled() {
    everywhere(|shards, version| {
        let mut world = World::with(shards, &limits(), &policy());
        let client = world.open(version);
        let password = Some(&b"secret"[..]);
        let connect = Connect { user_name: Some("ada"), password, ..connect(version, "c") };
        world.push(client, &bytes(&Packet::Connect(connect), version));
        world.push(client, &disconnect(version));
        world.finish(client);
        assert_eq!(world.received(client), ["CONNACK Success"]);
        assert_eq!(world.counters().ended_by_client, 1);
    });
}

#[test]
fn addresses_take_turns_so_that_a_crowd_of_one_address_delays_others_by_little() {
    let mut world = busy(1, 100);
    let crowd: Vec<usize> =
        (0..50).map(|n| log_in(&mut world, V5, &format!("crowd {n}"), ip(1))).collect();
    let innocent = log_in(&mut world, V5, "innocent", ip(2));
    world.verdicts_wait = false;
    let mut turns = 0;
    while world.received(innocent).is_empty() {
        world.turn();
        turns += 1;
    }
    let answered = crowd.iter().filter(|&&client| !world.received(client).is_empty()).count();
    assert!(answered <= 2 * 2 + 1, "{answered} in {turns} turns");
}

#[test]
fn when_as_many_wait_as_may_who_has_most_makes_room() {
    let mut world = busy(1, 4);
    let crowd: Vec<usize> =
        (0..7).map(|n| log_in(&mut world, V5, &format!("crowd {n}"), ip(1))).collect();
    assert_eq!(world.received(crowd[6]), ["CONNACK ServerBusy"]);
    let innocent = log_in(&mut world, V5, "innocent", ip(2));
    assert_eq!(world.received(crowd[5]), ["CONNACK ServerBusy"]);
    assert!(world.received(innocent).is_empty() && !world.is_closed(innocent));
    assert_eq!(world.counters().refused_busy, 2);
    world.verdicts_wait = false;
    world.run();
    assert_eq!(world.received(innocent), ["CONNACK Success"]);
    assert!((0..5).all(|n| world.received(crowd[n]) == ["CONNACK Success"]));
}

#[test]
fn a_stopping_broker_runs_no_more_checks() {
    for shards in crate::SHARDS {
        let mut world = busy(shards, 100);
        let stays = join_as(&mut world, V5, "stays");
        let clients: Vec<usize> = (0..20).map(|_| log_in(&mut world, V5, "c", ip(1))).collect();
        world.drain_clients();
        assert!(clients.iter().all(|&client| world.is_closed(client)));
        world.verdicts_wait = false;
        world.run();
        assert_eq!(world.counters().checks_run, AT_WORK);
        assert!(!world.is_closed(stays));
        world.stop();
        assert_eq!(world.received(stays), ["DISCONNECT ServerShuttingDown"]);
    }
}
