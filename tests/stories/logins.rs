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

/// A CONNECT from this address with the right password.
fn log_in(world: &mut World, version: Version, client_id: &str, from: IpAddr) -> usize {
    claim(world, (version, client_id, b"secret"), from)
}

/// The same with a wrong password.
fn guess(world: &mut World, version: Version, client_id: &str, from: IpAddr) -> usize {
    claim(world, (version, client_id, b"guess"), from)
}

fn claim(
    world: &mut World,
    (version, client_id, password): (Version, &str, &[u8]),
    from: IpAddr,
) -> usize {
    let client = world.open_from(version, from);
    let (user_name, password) = (Some("ada"), Some(password));
    let connect = Connect { user_name, password, ..connect(version, client_id) };
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
        let clients: Vec<usize> = (0..10).map(|_| guess(&mut world, version, "c", ip(1))).collect();
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
        world.pass(Span::from_secs(1));
        let counters = world.counters();
        assert_eq!((counters.checks_run, counters.checks_dropped), (AT_WORK + 2, 3));
        assert_eq!(world.received(clients[9]).len(), 1);
        assert!((0..10).all(|n| world.is_closed(clients[n])));
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
        (0..50).map(|n| guess(&mut world, V5, &format!("crowd {n}"), ip(1))).collect();
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
        (0..7).map(|n| guess(&mut world, V5, &format!("crowd {n}"), ip(1))).collect();
    assert_eq!(world.received(crowd[6]), ["CONNACK ServerBusy"]);
    let innocent = log_in(&mut world, V5, "innocent", ip(2));
    assert_eq!(world.received(crowd[5]), ["CONNACK ServerBusy"]);
    assert!(world.received(innocent).is_empty() && !world.is_closed(innocent));
    assert_eq!(world.counters().refused_busy, 2);
    world.verdicts_wait = false;
    world.run();
    assert_eq!(world.received(innocent), ["CONNACK Success"]);
    world.pass(Span::from_secs(1));
    assert!((0..5).all(|n| world.received(crowd[n]).len() == 1));
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

#[test]
fn a_password_that_was_proven_is_not_checked_again() {
    everywhere(|shards, version| {
        let mut world = World::with(shards, &limits(), &policy());
        let first = log_in(&mut world, version, "c", ip(1));
        assert_eq!(world.received(first), ["CONNACK Success"]);
        // Another client of the user, too, if it is at home on the same shard.
        for _ in 0..10 {
            world.send(first, &disconnect(version));
            let again = log_in(&mut world, version, "c", ip(2));
            assert_eq!(world.received(again), ["CONNACK Success"]);
            world.break_off(again);
        }
        let counters = world.counters();
        assert_eq!((counters.checks_run, counters.checks_remembered), (1, 10));
        let wrong = guess(&mut world, version, "c", ip(1));
        assert_eq!(world.received(wrong), ["CONNACK BadUserNameOrPassword"]);
        assert_eq!(world.counters().checks_run, 2);
    });
}

#[test]
fn clients_of_one_user_that_come_at_once_cost_few_checks() {
    let mut world = busy(1, 100);
    let clients: Vec<usize> =
        (0..50).map(|n| log_in(&mut world, V5, &format!("{n}"), ip(1))).collect();
    world.verdicts_wait = false;
    world.run();
    assert!(clients.iter().all(|&client| world.received(client) == ["CONNACK Success"]));
    let counters = world.counters();
    assert_eq!((counters.checks_run, counters.checks_remembered), (AT_WORK, 50 - AT_WORK));
}

#[test]
fn a_password_is_remembered_while_a_client_is_connected_and_for_a_quarter_of_an_hour_more() {
    for shards in crate::SHARDS {
        let mut world = World::with(shards, &limits(), &policy());
        // It stays until another one takes its session over.
        log_in(&mut world, V5, "c", ip(1));
        let checks_after = |world: &mut World, minutes: u64| {
            world.pass(Span::from_secs(60 * minutes));
            let client = log_in(world, V5, "c", ip(1));
            assert_eq!(world.received(client), ["CONNACK Success"]);
            (client, world.counters().checks_run)
        };
        let (client, checks) = checks_after(&mut world, 120);
        assert_eq!(checks, 1);
        world.break_off(client);
        let (client, checks) = checks_after(&mut world, 14);
        assert_eq!(checks, 1);
        world.break_off(client);
        assert_eq!(checks_after(&mut world, 17).1, 2);
    }
}

/// The same password with another salt.
const CHANGED: &str = "ada:$7$101$YW5vdGhlciBzYWx0$\
    rR4BzPuPzK1q34O+mxuZ/QVn+9FeUgKmOVTKAwiYY02fyShEIHiMnmrj3jWsd/kIcFe0BMC/sQMbvqU0odUxIA==";

#[test]
fn a_user_whose_line_changes_or_goes_proves_its_password_again() {
    for shards in crate::SHARDS {
        let mut world = World::with(shards, &limits(), &policy());
        let answer = |world: &mut World, expected: &str, checks| {
            let client = log_in(world, V5, "c", ip(1));
            assert_eq!(world.received(client), [expected]);
            assert_eq!(world.counters().checks_run, checks);
        };
        answer(&mut world, "CONNACK Success", 1);
        world.change_rules(|_| ());
        answer(&mut world, "CONNACK Success", 1);
        let told = |world: &mut World, file: &str| {
            let passwords = Passwords::parse(file).expect("a password file");
            world.change_rules(|rules| rules.policy.passwords = Some(Arc::new(passwords)));
        };
        told(&mut world, CHANGED);
        answer(&mut world, "CONNACK Success", 2);
        told(&mut world, &CHANGED.replace("ada:", "bob:"));
        answer(&mut world, "CONNACK BadUserNameOrPassword", 3);
        told(&mut world, CHANGED);
        answer(&mut world, "CONNACK Success", 4);
        answer(&mut world, "CONNACK Success", 4);
    }
}
