//! Wrong passwords: who waits for them, and who does not.

use std::{net::IpAddr, sync::Arc};

use ringmq::{
    access::{Anonymous, Passwords, Policy},
    base::time::Span,
    mqtt::{Connect, Packet, Version},
};

use crate::{
    everywhere,
    packets::{bytes, connect},
    world::{World, limits},
};

const V5: Version = Version::V5;
const WRONG: &str = "CONNACK BadUserNameOrPassword";

/// The users are `ada` and `bob`, and the password of both is `secret`.
fn users() -> Passwords {
    let ada = include_str!("passwords.txt").trim_end();
    let file = format!("{ada}\n{}", ada.replacen("ada", "bob", 1));
    Passwords::parse(&file).expect("a password file")
}

fn world(shards: usize) -> World {
    let policy = Policy {
        passwords: Some(Arc::new(users())),
        anonymous: Anonymous::Everywhere,
        ..Policy::default()
    };
    World::with(shards, &limits(), &policy)
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

/// A CONNECT from this address.
fn claim(
    world: &mut World,
    version: Version,
    (user, password): (&str, &str),
    from: IpAddr,
) -> usize {
    let client = world.open_from(version, from);
    let (user_name, password) = (Some(user), Some(password.as_bytes()));
    let connect = Connect { user_name, password, ..connect(version, "c") };
    world.send(client, &bytes(&Packet::Connect(connect), version));
    client
}

/// The answer to such a CONNECT, and how many milliseconds it takes.
fn answer(world: &mut World, claimed: (&str, &str), from: IpAddr) -> (String, u64) {
    let client = claim(world, V5, claimed, from);
    let began = world.now;
    loop {
        if let Some(first) = world.received(client).pop() {
            return (first, world.now.since(began).as_millis());
        }
        world.pass(Span::from_millis(50));
        assert!(world.now.since(began) < Span::from_secs(20), "an answer comes");
    }
}

/// Guesses many times at once, and waits until all of that is answered.
fn besiege(world: &mut World, user: &str, from: IpAddr) {
    let clients = [(); 30].map(|()| claim(world, V5, (user, "guess"), from));
    world.pass(Span::from_secs(11));
    assert!(clients.into_iter().all(|client| world.is_closed(client)));
    assert_eq!(world.received(clients[29]), ["CONNACK ServerBusy"]);
}

#[test]
fn the_first_mistakes_are_answered_at_once_and_further_ones_later_and_later() {
    for shards in crate::SHARDS {
        let mut world = world(shards);
        for _ in 0..3 {
            assert_eq!(answer(&mut world, ("ada", "guess"), ip(1)), (WRONG.to_owned(), 0));
        }
        let mut earlier = 0;
        for _ in 0..4 {
            let (said, waited) = answer(&mut world, ("ada", "guess"), ip(1));
            assert_eq!(said, WRONG);
            assert!(waited > earlier, "{waited} after {earlier}");
            earlier = waited;
        }
        assert_eq!(world.counters().logins_failed, 7);
    }
}

#[test]
fn what_would_have_to_wait_for_too_long_is_refused_and_not_checked() {
    for shards in crate::SHARDS {
        let mut world = world(shards);
        besiege(&mut world, "ada", ip(1));
        let counters = world.counters();
        assert_eq!(counters.logins_failed, counters.checks_run);
        assert_eq!(counters.refused_failures + counters.checks_run, 30);
        assert!((5..15).contains(&counters.checks_run), "{}", counters.checks_run);
        assert!(counters.logins_delayed > 0);
        // Not even the right password helps.
        let claims = [(); 4].map(|()| claim(&mut world, V5, ("ada", "secret"), ip(1)));
        assert_eq!(world.received(claims[3]), ["CONNACK ServerBusy"]);
        world.pass(Span::from_secs(20 * 60));
        assert_eq!(answer(&mut world, ("ada", "secret"), ip(1)).0, "CONNACK Success");
    }
}

#[test]
fn guesses_that_come_at_once_are_not_checked_once_some_were_wrong() {
    everywhere(|shards, version| {
        let mut world = world(shards);
        world.verdicts_wait = true;
        let clients: Vec<usize> =
            (0..100).map(|_| claim(&mut world, version, ("ada", "guess"), ip(1))).collect();
        world.verdicts_wait = false;
        world.run();
        world.pass(Span::from_secs(10));
        assert!(clients.iter().all(|&client| world.is_closed(client)));
        let counters = world.counters();
        assert!(counters.checks_run < 10, "{}", counters.checks_run);
        assert!(counters.refused_failures > 90, "{}", counters.refused_failures);
    });
}

#[test]
fn guesses_for_many_names_from_one_address_are_slowed_too() {
    for shards in crate::SHARDS {
        let mut world = world(shards);
        let clients: Vec<usize> =
            (0..100).map(|n| claim(&mut world, V5, (&n.to_string(), "guess"), ip(1))).collect();
        world.pass(Span::from_secs(11));
        assert!(clients.into_iter().all(|client| world.is_closed(client)));
        let checks = world.counters().checks_run;
        assert!((10..25).contains(&checks), "{checks}");
    }
}

#[test]
fn no_guesses_keep_a_user_out() {
    for shards in crate::SHARDS {
        let mut world = world(shards);
        assert_eq!(answer(&mut world, ("ada", "secret"), ip(1)).0, "CONNACK Success");
        for last in 1..10 {
            let user = if last == 1 { "bob" } else { "ada" };
            besiege(&mut world, user, ip(last));
        }
        let success = ("CONNACK Success".to_owned(), 0);
        // Its password is remembered, whatever address it comes from.
        assert_eq!(answer(&mut world, ("ada", "secret"), ip(5)), success);
        world.change_rules(|rules| rules.policy.passwords = None);
        world.change_rules(|rules| rules.policy.passwords = Some(Arc::new(users())));
        // It has logged in from there before.
        let checks = world.counters().checks_run;
        assert_eq!(answer(&mut world, ("ada", "secret"), ip(1)), success);
        assert_eq!(world.counters().checks_run, checks + 1);
        // It comes from a new address, and waits a little.
        world.change_rules(|rules| rules.policy.passwords = None);
        world.change_rules(|rules| rules.policy.passwords = Some(Arc::new(users())));
        let (said, waited) = answer(&mut world, ("ada", "secret"), ip(100));
        assert_eq!(said, "CONNACK Success");
        assert!(waited <= 2_050, "{waited}");
    }
}

#[test]
fn a_delayed_answer_does_not_keep_the_broker_from_stopping() {
    for shards in crate::SHARDS {
        let mut world = world(shards);
        let clients = [(); 30].map(|()| claim(&mut world, V5, ("ada", "guess"), ip(1)));
        world.drain_clients();
        assert!(clients.into_iter().all(|client| world.is_closed(client)));
        world.pass(Span::from_secs(20));
    }
}
