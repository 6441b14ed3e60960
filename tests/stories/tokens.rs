//! JSON Web Tokens: who is let in by one, and what its end means.

use std::sync::Arc;

use ringmq::{
    access::{Acl, Anonymous, Passwords, Policy, TokenFrom, TokenRules, Tokens},
    base::time::Span,
    mqtt::{Connect, Delivery, Packet, QoS, Version},
};

use crate::{
    everywhere, join,
    jwt::{SECRET, signed, token},
    log::logged,
    packets::{at, bytes, connect, id, resume, subscribe, will},
    publish,
    world::{START, World, limits},
};

const V5: Version = Version::V5;

fn policy(rules: TokenRules) -> Policy {
    let tokens = Tokens::with_key(rules, SECRET.as_bytes()).expect("a secret");
    Policy { tokens: Some(Arc::new(tokens)), anonymous: Anonymous::Refused, ..Policy::default() }
}

fn world(shards: usize, rules: TokenRules) -> World {
    World::with(shards, &limits(), &policy(rules))
}

/// The time of the world in seconds of the wall clock.
fn now(world: &World) -> u64 {
    world.now.since(START).as_nanos() / 1_000_000_000
}

/// A token for `ada` that lasts for so many seconds from now on, with more claims.
fn lasting(world: &World, seconds: u64, more: &str) -> String {
    token(&format!(r#"{{"sub":"ada","exp":{}{more}}}"#, now(world) + seconds))
}

fn by<'a>(version: Version, client_id: &'a str, token: &'a str) -> Connect<'a> {
    let password = Some(token.as_bytes());
    Connect { user_name: Some("ada"), password, ..connect(version, client_id) }
}

fn answer(world: &mut World, connect: &Connect<'_>) -> Vec<String> {
    let client = world.open(connect.version);
    world.send(client, &bytes(&Packet::Connect(*connect), connect.version));
    world.received(client)
}

#[test]
fn a_token_lets_its_user_in_and_a_wrong_one_nobody() {
    everywhere(|shards, version| {
        let mut world = world(shards, TokenRules::default());
        let good = lasting(&world, 60, "");
        join(&mut world, &by(version, "good", &good));
        for (bad, reason) in [
            ("secret".to_owned(), "BadUserNameOrPassword"),
            (format!("{good}x"), "BadUserNameOrPassword"),
            (signed(r#"{"alg":"none"}"#, "{}", SECRET), "BadUserNameOrPassword"),
            (signed(r#"{"alg":"HS256"}"#, "{}", &SECRET.to_uppercase()), "BadUserNameOrPassword"),
            (token(r#"{"sub":"ada","exp":1}"#), "NotAuthorized"),
            (token(r#"{"sub":"ada"}"#), "NotAuthorized"),
            (lasting(&world, 60, r#","acl":7"#), "NotAuthorized"),
            ("x".repeat(20_000), "BadUserNameOrPassword"),
        ] {
            // Guesses are slowed down.
            world.pass(Span::from_secs(600));
            let fresh = lasting(&world, 60, "");
            let received = answer(&mut world, &by(version, "bad", &bad));
            world.pass(Span::from_secs(5));
            assert_eq!(received, [format!("CONNACK {reason}")], "{bad:.60}");
            join(&mut world, &by(version, "good", &fresh));
        }
        let counters = world.counters();
        assert_eq!((counters.tokens_refused, counters.logins_failed), (8, 8));
        assert_eq!(counters.refused_authentication, 8);
        let nobody = connect(version, "nobody");
        assert_eq!(answer(&mut world, &nobody), ["CONNACK NotAuthorized"]);
    });
}

#[test]
fn the_user_name_is_that_of_the_token() {
    for shards in crate::SHARDS {
        let mut world = world(shards, TokenRules::default());
        let token = lasting(&world, 60, "");
        let other = Connect { user_name: Some("bob"), ..by(V5, "c", &token) };
        assert_eq!(answer(&mut world, &other), ["CONNACK NotAuthorized"]);
        for user_name in [None, Some("")] {
            join(&mut world, &Connect { user_name, ..by(V5, "c", &token) });
        }
        // The session is that of `ada`, whatever CONNECT says.
        join(&mut world, &resume_by(&token));
    }
}

fn resume_by(token: &str) -> Connect<'_> {
    Connect { user_name: Some("ada"), password: Some(token.as_bytes()), ..resume(V5, "c") }
}

#[test]
fn a_token_as_the_user_name_is_shown_nowhere() {
    for shards in crate::SHARDS {
        let rules = TokenRules { from: TokenFrom::UserName, ..TokenRules::default() };
        let mut world = world(shards, rules);
        world.pass(Span::from_secs(10));
        let good = lasting(&world, 60, "");
        let bad = token(r#"{"sub":"ada","exp":1}"#);
        let as_name = |token| Connect { user_name: Some(token), ..connect(V5, "c") };
        let lines = logged(|| {
            join(&mut world, &as_name(&good));
            assert_eq!(answer(&mut world, &as_name(&bad)), ["CONNACK NotAuthorized"]);
            let half = bad.rsplit_once('.').expect("a token has parts").0;
            assert_eq!(answer(&mut world, &as_name(half)), ["CONNACK BadUserNameOrPassword"]);
        });
        assert!(lines.iter().any(|line| line.contains("ada")), "{lines:?}");
        assert!(lines.iter().any(|line| line.contains("the token has expired")), "{lines:?}");
        let parts = || bad.split('.').chain(good.split('.'));
        assert!(!lines.iter().any(|line| parts().any(|part| line.contains(part))), "{lines:?}");
    }
}

#[test]
fn what_has_the_form_of_a_token_is_checked_as_one_and_all_else_as_a_password() {
    everywhere(|shards, version| {
        let passwords = Passwords::parse(include_str!("passwords.txt")).expect("a password file");
        let policy =
            Policy { passwords: Some(Arc::new(passwords)), ..policy(TokenRules::default()) };
        let mut world = World::with(shards, &limits(), &policy);
        let token = lasting(&world, 60, "");
        join(&mut world, &by(version, "a", "secret"));
        join(&mut world, &by(version, "b", &token));
        let received = answer(&mut world, &by(version, "c", "wrong"));
        assert_eq!(received, ["CONNACK BadUserNameOrPassword"]);
        assert_eq!(world.counters().tokens_refused, 0);
    });
}

#[test]
fn a_connection_ends_with_its_token() {
    everywhere(|shards, version| {
        let mut world = world(shards, TokenRules::default());
        let watcher = lasting(&world, 1_000, "");
        let watcher = join(&mut world, &by(version, "watcher", &watcher));
        world.send(watcher, &subscribe(version, 1, &[("gone", at(QoS::AtMostOnce))]));
        world.received(watcher);
        let token = lasting(&world, 100, "");
        let mut connect = by(version, "client", &token);
        connect.will = Some(will("gone", b"1"));
        let client = join(&mut world, &connect);
        world.pass(Span::from_millis(99_900));
        assert!(!world.is_closed(client));
        world.pass(Span::from_millis(200));
        assert!(world.is_closed(client));
        let farewell: &[&str] =
            if version == V5 { &["DISCONNECT MaximumConnectTime"] } else { &[] };
        assert_eq!(world.received(client), farewell);
        // Its Will is published, because others have to know.
        assert_eq!(world.received(watcher).len(), 1);
        assert_eq!(world.counters().ended_token, 1);
        world.pass(Span::from_secs(1));
        assert_eq!(answer(&mut world, &connect), ["CONNACK NotAuthorized"]);
    });
}

#[test]
fn a_will_that_is_due_after_the_end_of_the_token_is_dropped() {
    for shards in crate::SHARDS {
        for (lasts, expected) in [(100, 0), (1_000, 1)] {
            let mut world = world(shards, TokenRules::default());
            let long = lasting(&world, 5_000, "");
            let watcher = join(&mut world, &by(V5, "watcher", &long));
            world.send(watcher, &subscribe(V5, 1, &[("gone", at(QoS::AtMostOnce))]));
            world.received(watcher);
            let token = lasting(&world, lasts, "");
            let mut connect = resume_by(&token);
            let mut late = will("gone", b"1");
            late.properties.will_delay_interval = 300;
            connect.will = Some(late);
            let client = join(&mut world, &connect);
            world.break_off(client);
            world.pass(Span::from_secs(400));
            assert_eq!(world.received(watcher).len(), expected);
            assert_eq!(world.counters().denied_wills, 1 - expected as u64);
        }
    }
}

#[test]
fn the_rights_in_a_token_hold_and_end_with_it_if_the_connection_goes_on() {
    everywhere(|shards, version| {
        let mut world =
            world(shards, TokenRules { ends_connections: false, ..TokenRules::default() });
        let free = lasting(&world, 10_000, "");
        let free = join(&mut world, &by(version, "free", &free));
        let acl = r#","acl":[{"permission":"deny","action":"all","topic":"a/secret"},
            {"permission":"allow","action":"all","topic":"a/#"},
            {"permission":"allow","action":"subscribe","topic":"of/${clientid}","qos":0}]"#;
        let token = lasting(&world, 100, acl);
        let client = join(&mut world, &by(version, "client", &token));
        let failure = if version == V5 { "87" } else { "80" };
        for (packet_id, filter, qos, code) in [
            (1, "a/#", QoS::AtLeastOnce, "01"),
            (2, "b", QoS::AtMostOnce, failure),
            (3, "of/client", QoS::AtMostOnce, "00"),
            (4, "of/client", QoS::AtLeastOnce, failure),
            (5, "of/other", QoS::AtMostOnce, failure),
        ] {
            world.send(client, &subscribe(version, packet_id, &[(filter, at(qos))]));
            let suback = format!("SUBACK {packet_id} [{code}]");
            assert_eq!(world.received(client), [suback], "{filter}");
        }
        for (topic, count) in [("a/b", 1), ("a/secret", 0), ("of/client", 1), ("b", 0)] {
            publish(&mut world, free, version, topic, Delivery::AtMostOnce, "x");
            assert_eq!(world.received(client).len(), count, "{topic}");
        }
        world.send(free, &subscribe(version, 1, &[("#", at(QoS::AtMostOnce))]));
        world.received(free);
        for (topic, count) in [("a/b", 1), ("a/secret", 0), ("b", 0)] {
            publish(&mut world, client, version, topic, Delivery::AtMostOnce, "x");
            assert_eq!(world.received(free).len(), count, "{topic}");
        }
        world.received(client);
        world.pass(Span::from_secs(101));
        assert!(!world.is_closed(client));
        publish(&mut world, free, version, "a/b", Delivery::AtMostOnce, "x");
        assert!(world.received(client).is_empty());
        world.received(free);
        publish(&mut world, client, version, "a/b", Delivery::AtMostOnce, "x");
        assert!(world.received(free).is_empty());
        world.send(client, &subscribe(version, 6, &[("a/#", at(QoS::AtMostOnce))]));
        assert_eq!(world.received(client), [format!("SUBACK 6 [{failure}]")]);
    });
}

#[test]
fn what_waits_for_an_absent_client_is_judged_by_its_next_token() {
    for shards in crate::SHARDS {
        let mut world = world(shards, TokenRules::default());
        let publisher = lasting(&world, 10_000, "");
        let publisher = join(&mut world, &by(V5, "publisher", &publisher));
        let token = lasting(&world, 100, r#","acl":{"sub":["a","b"]}"#);
        let client = join(&mut world, &resume_by(&token));
        let filters = [("a", at(QoS::AtLeastOnce)), ("b", at(QoS::AtLeastOnce))];
        world.send(client, &subscribe(V5, 1, &filters));
        world.pass(Span::from_secs(101));
        assert!(world.is_closed(client));
        for (packet_id, topic) in [(1, "a"), (2, "b")] {
            publish(&mut world, publisher, V5, topic, Delivery::AtLeastOnce(id(packet_id)), topic);
        }
        let token = lasting(&world, 100, r#","acl":{"sub":["b"]}"#);
        let client = world.open(V5);
        world.send(client, &bytes(&Packet::Connect(resume_by(&token)), V5));
        let messages = world.received(client);
        assert!(messages[0].starts_with("CONNACK Success"), "{messages:?}");
        assert!(messages.len() == 2 && messages[1].contains("'b'"), "{messages:?}");
    }
}

#[test]
fn the_acl_file_is_asked_for_what_a_list_of_rules_does_not_mention() {
    everywhere(|shards, version| {
        let acl = Acl::parse(b"user ada\ntopic readwrite file/#").expect("an ACL file");
        let policy = Policy { acl: Some(Arc::new(acl)), ..policy(TokenRules::default()) };
        let mut world = World::with(shards, &limits(), &policy);
        let rule = r#"[{"permission":"deny","action":"subscribe","topic":"file/no"}]"#;
        for (client_id, claim, granted) in [
            ("list", format!(r#","acl":{rule}"#), [true, false, false]),
            ("lists", r#","acl":{"sub":["b"]}"#.to_owned(), [false, false, true]),
            ("none", String::new(), [true, true, false]),
        ] {
            let token = lasting(&world, 100, &claim);
            let client = join(&mut world, &by(version, client_id, &token));
            for (filter, granted) in ["file/a", "file/no", "b"].into_iter().zip(granted) {
                world.send(client, &subscribe(version, 1, &[(filter, at(QoS::AtMostOnce))]));
                let is_granted = world.received(client) == ["SUBACK 1 [00]"];
                assert_eq!(is_granted, granted, "{client_id} {filter}");
            }
        }
    });
}

#[test]
fn other_keys_hold_from_the_next_connect_on() {
    everywhere(|shards, version| {
        let mut world = world(shards, TokenRules::default());
        let token = lasting(&world, 100, "");
        let client = join(&mut world, &by(version, "client", &token));
        let other = Tokens::with_key(TokenRules::default(), SECRET.to_uppercase().as_bytes())
            .expect("a secret");
        world.change_rules(|rules| rules.policy.tokens = Some(Arc::new(other)));
        let received = answer(&mut world, &by(version, "again", &token));
        assert_eq!(received, ["CONNACK BadUserNameOrPassword"]);
        assert!(!world.is_closed(client));
        world.pass(Span::from_secs(101));
        assert!(world.is_closed(client));
    });
}

#[test]
fn bad_tokens_are_slowed_down_by_address_and_do_not_keep_others_out() {
    for shards in crate::SHARDS {
        let mut world = world(shards, TokenRules::default());
        let good = lasting(&world, 10_000, "");
        for _ in 0..20 {
            let nameless = Connect { user_name: None, ..by(V5, "c", "guess") };
            let client = world.open_from(V5, [192, 0, 2, 1].into());
            world.send(client, &bytes(&Packet::Connect(nameless), V5));
        }
        world.pass(Span::from_secs(20));
        let counters = world.counters();
        assert!(counters.refused_failures > 0 && counters.tokens_refused < 20, "{counters:?}");
        // A client that has no name either, from elsewhere, is let in at once.
        join(&mut world, &Connect { user_name: None, ..by(V5, "d", &good) });
        join(&mut world, &by(V5, "e", &good));
    }
}
