//! The hook that is asked about clients: what each of its answers comes to.

use std::sync::Arc;

use ringmq::{
    access::{
        Acl, Anonymous, AuthHook, Bearer, Finding, Grant, HookReply, HookSettings, Inquiry,
        Passwords, Policy,
    },
    base::time::{Span, WallTime},
    mqtt::{Connect, Packet, QoS, Version},
};

use crate::{
    everywhere, join,
    packets::{at, bytes, connect, subscribe},
    world::{World, limits},
};

const V5: Version = Version::V5;

/// Answers as the user name says.
#[derive(Debug)]
struct Fake(HookSettings);

fn fake() -> Arc<dyn AuthHook> {
    Arc::new(Fake(HookSettings {
        url: String::new(),
        timeout: Span::from_secs(5),
        connections: 2,
        headers: Vec::new(),
        authorities: Vec::new(),
    }))
}

impl AuthHook for Fake {
    fn ask(&self, inquiry: Inquiry, reply: HookReply) {
        let grant = match inquiry.user_name.as_deref() {
            Some("bob") => None,
            Some("root") => Some(Grant { is_superuser: true, ..Grant::default() }),
            Some("guest") => {
                let ends_at = inquiry.now.as_nanos() + Span::from_secs(100).as_nanos();
                let ends_at = Some(WallTime::from_nanos(ends_at));
                Some(Grant { ends_at, ends_connection: true, ..Grant::default() })
            }
            None if &*inquiry.client_id == "nameless" => None,
            Some("ada" | "stranger") => return reply.give(Finding::Ignored),
            // Nobody answers.
            Some("lost") => return,
            _ => return reply.give(Finding::Wrong),
        };
        let user_name = inquiry.user_name.unwrap_or_default();
        let bearer = Bearer { user_name, grant: grant.map(Arc::new) };
        reply.give(Finding::Bearer(Box::new(bearer)));
    }

    fn settings(&self) -> &HookSettings {
        &self.0
    }
}

fn policy() -> Policy {
    Policy { hook: Some(fake()), anonymous: Anonymous::Refused, ..Policy::default() }
}

/// The same with `ada`, whose password is `secret`, in a password file.
fn policy_with_file() -> Policy {
    let passwords = Passwords::parse(include_str!("passwords.txt")).expect("a password file");
    Policy { passwords: Some(Arc::new(passwords)), ..policy() }
}

fn by<'a>(version: Version, user_name: &'a str, password: &'a [u8]) -> Connect<'a> {
    let (user_name, password) = (Some(user_name), Some(password));
    Connect { user_name, password, ..connect(version, "client") }
}

fn answer(world: &mut World, connect: &Connect<'_>) -> Vec<String> {
    let client = world.open(connect.version);
    world.send(client, &bytes(&Packet::Connect(*connect), connect.version));
    world.received(client)
}

#[test]
fn each_answer_lets_in_or_refuses() {
    everywhere(|shards, version| {
        let mut world = World::with(shards, &limits(), &policy());
        let unavailable = "CONNACK ServerUnavailable";
        for (user_name, expected) in [
            ("bob", "CONNACK Success"),
            ("root", "CONNACK Success"),
            ("guest", "CONNACK Success"),
            ("mallory", "CONNACK BadUserNameOrPassword"),
            // There is no other way to prove a user.
            ("ada", "CONNACK BadUserNameOrPassword"),
            ("lost", unavailable),
        ] {
            let connect = Connect { client_id: user_name, ..by(version, user_name, b"secret") };
            assert_eq!(answer(&mut world, &connect), [expected], "{user_name}");
        }
        join(&mut world, &connect(version, "nameless"));
        let nobody = answer(&mut world, &connect(version, "nobody"));
        assert_eq!(nobody, ["CONNACK BadUserNameOrPassword"]);
        let counters = world.counters();
        assert_eq!((counters.hook_calls, counters.hook_failures), (8, 1));
        assert_eq!((counters.logins_failed, counters.refused_busy), (3, 1));
        assert_eq!(counters.checks_run, 0);
    });
}

#[test]
fn clients_that_say_nothing_are_let_in_unasked_where_anonymous_ones_are() {
    for shards in crate::SHARDS {
        let policy = Policy { anonymous: Anonymous::Everywhere, ..policy() };
        let mut world = World::with(shards, &limits(), &policy);
        join(&mut world, &connect(V5, "nobody"));
        assert_eq!(world.counters().hook_calls, 0);
        let refused = answer(&mut world, &by(V5, "stranger", b"x"));
        assert_eq!(refused, ["CONNACK BadUserNameOrPassword"]);
    }
}

#[test]
fn the_password_file_decides_what_the_hook_leaves_to_it() {
    everywhere(|shards, version| {
        let mut world = World::with(shards, &limits(), &policy_with_file());
        join(&mut world, &by(version, "ada", b"secret"));
        let wrong = "CONNACK BadUserNameOrPassword";
        assert_eq!(answer(&mut world, &by(version, "ada", b"guess")), [wrong]);
        assert_eq!(answer(&mut world, &by(version, "stranger", b"secret")), [wrong]);
        let counters = world.counters();
        assert_eq!((counters.hook_calls, counters.checks_run), (3, 3));
        // The hook is asked each time, and the password has been proven.
        join(&mut world, &by(version, "ada", b"secret"));
        let counters = world.counters();
        assert_eq!((counters.hook_calls, counters.checks_run), (4, 3));
        assert_eq!(counters.checks_remembered, 1);
        // What the hook decides is not for the file.
        join(&mut world, &Connect { client_id: "of bob", ..by(version, "bob", b"any") });
        assert_eq!(world.counters().checks_run, 3);
    });
}

#[test]
fn one_who_may_do_everything_is_held_to_no_rule_and_others_are() {
    everywhere(|shards, version| {
        let rights = |text: &str| Some(Arc::new(Acl::parse(text.as_bytes()).expect("rights")));
        let policy = Policy { acl: rights("topic read a"), ..policy() };
        let mut world = World::with(shards, &limits(), &policy);
        let root = join(&mut world, &Connect { client_id: "r", ..by(version, "root", b"") });
        let bob = join(&mut world, &Connect { client_id: "b", ..by(version, "bob", b"") });
        let may_read = |world: &mut World, client, filter| {
            world.send(client, &subscribe(version, 1, &[(filter, at(QoS::AtMostOnce))]));
            world.received(client) == ["SUBACK 1 [00]"]
        };
        for (rules, filter) in [("topic read a", "b/#"), ("user nobody\ntopic deny #", "c")] {
            world.change_rules(|others| others.policy.acl = rights(rules));
            assert!(may_read(&mut world, root, filter), "{rules}");
            assert!(!may_read(&mut world, bob, filter), "{rules}");
        }
        // Nothing of it lasts longer than the connection.
        let again = join(&mut world, &Connect { client_id: "r2", ..by(version, "bob", b"") });
        assert!(!may_read(&mut world, again, "b/#"));
    });
}

#[test]
fn a_connection_ends_when_the_hook_has_said() {
    everywhere(|shards, version| {
        let mut world = World::with(shards, &limits(), &policy());
        let guest = join(&mut world, &by(version, "guest", b""));
        world.pass(Span::from_millis(99_900));
        assert!(!world.is_closed(guest));
        world.pass(Span::from_millis(200));
        let farewell: &[&str] =
            if version == V5 { &["DISCONNECT MaximumConnectTime"] } else { &[] };
        assert!(world.is_closed(guest));
        assert_eq!(world.received(guest), farewell);
    });
}

#[test]
fn few_questions_are_asked_at_a_time_and_addresses_take_turns() {
    let mut world = World::with(1, &limits(), &policy());
    world.verdicts_wait = true;
    let log_in = |world: &mut World, client_id: &str, last: u8| {
        let client = world.open_from(V5, [192, 0, 2, last].into());
        let connect = Connect { client_id, ..by(V5, "bob", b"") };
        world.send(client, &bytes(&Packet::Connect(connect), V5));
        client
    };
    let many: Vec<usize> =
        (0..20).map(|nth| log_in(&mut world, &format!("many {nth}"), 1)).collect();
    let one = log_in(&mut world, "one", 2);
    // Twice as many as the hook has connections.
    assert_eq!(world.counters().hook_calls, 4);
    world.pass(Span::from_millis(5_100));
    assert_eq!(world.received(one), ["CONNACK ServerBusy"]);
    world.verdicts_wait = false;
    world.run();
    let later = log_in(&mut world, "later", 1);
    assert_eq!(world.received(later), ["CONNACK Success"]);
    // Those that waited were not asked about, because they had been refused.
    assert_eq!(world.counters().hook_calls, 5);
    assert!(many.iter().all(|&client| world.is_closed(client)));
}

#[test]
fn guesses_are_slowed_down() {
    for shards in crate::SHARDS {
        let mut world = World::with(shards, &limits(), &policy());
        for _ in 0..30 {
            let client = world.open_from(V5, [192, 0, 2, 1].into());
            world.send(client, &bytes(&Packet::Connect(by(V5, "mallory", b"guess")), V5));
        }
        world.pass(Span::from_secs(20));
        let counters = world.counters();
        assert!(counters.refused_failures > 0 && counters.hook_calls < 20, "{counters:?}");
        join(&mut world, &by(V5, "bob", b""));
    }
}
