//! What the log says of clients.

use std::sync::Arc;

use ringmq::{
    access::{Anonymous, Passwords, Policy},
    base::time::Span,
    mqtt::{Connect, Delivery, Packet, QoS, Version},
    session::queue::QueueLimits,
    shard::{ports::Undelivered, rules::Limits},
};

use crate::{
    join, join_as,
    log::logged,
    packets::{ack, at, bytes, connect, disconnect, id, resume, subscribe, will},
    publish, subscriber,
    world::{World, limits},
};

/// The lines with these words.
fn about(lines: &[String], words: &str) -> Vec<String> {
    lines.iter().filter(|line| line.contains(words)).cloned().collect()
}

/// The number of events that a line counts.
fn count_of(line: &str) -> u64 {
    let rest = line.split("count=").nth(1).expect("a count");
    rest.split(' ').next().and_then(|count| count.parse().ok()).expect("a number")
}

#[test]
fn a_client_that_comes_and_goes_is_two_lines_on_any_number_of_shards() {
    for shards in crate::SHARDS {
        let lines = logged(|| {
            let mut world = World::new(shards);
            let client = join_as(&mut world, Version::V5, "a \"b\"\u{1b}");
            world.send(client, &disconnect(Version::V5));
        });
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].starts_with("INFO client connected client=\"a \\\"b\\\"\\u{1b}\" peer="));
        assert!(lines[0].contains(" version=\"5.0\" keep_alive="), "{}", lines[0]);
        assert!(lines[0].ends_with(" session=\"new\""), "{}", lines[0]);
        assert!(
            lines[1].starts_with("INFO client disconnected client=\"a \\\"b\\\"\\u{1b}\" peer=")
        );
        assert!(
            lines[1].contains(" reason=\"the client has sent DISCONNECT\" session=\""),
            "{}",
            lines[1]
        );
    }
}

#[test]
fn a_refused_client_is_logged_with_who_it_claims_to_be_and_why() {
    let users = include_str!("passwords.txt");
    let policy = Policy {
        passwords: Some(Arc::new(Passwords::parse(users).expect("a password file"))),
        anonymous: Anonymous::Refused,
        ..Policy::default()
    };
    for shards in crate::SHARDS {
        let lines = logged(|| {
            let mut world = World::with(shards, &limits(), &policy);
            let long = "x".repeat(1000);
            for (user_name, password) in
                [(Some("ada"), Some(&b"wrong"[..])), (None, None), (Some(&*long), Some(b"secret"))]
            {
                let connect =
                    Connect { user_name, password, ..connect(Version::V311, "sensor 17") };
                let client = world.open(connect.version);
                world.send(client, &bytes(&Packet::Connect(connect), connect.version));
                assert!(world.is_closed(client));
            }
        });
        assert_eq!(lines.len(), 3, "{lines:?}");
        for line in &lines {
            assert!(line.starts_with("INFO client refused client=\"sensor 17\" "), "{line}");
            assert!(line.contains(" version=\"3.1.1\" "), "{line}");
        }
        assert!(lines[0].contains(" user=\"ada\" "), "{}", lines[0]);
        assert!(lines[0].contains("the User Name or the Password is wrong"), "{}", lines[0]);
        assert!(!lines[1].contains("user="), "{}", lines[1]);
        assert!(lines[2].len() < 600, "{}", lines[2]);
    }
}

#[test]
fn a_takeover_says_so() {
    for shards in crate::SHARDS {
        let lines = logged(|| {
            let mut world = World::new(shards);
            join_as(&mut world, Version::V5, "a");
            world.peer = [192, 0, 2, 7];
            join_as(&mut world, Version::V5, "a");
        });
        let ended = about(&lines, "client disconnected");
        assert!(
            ended.len() == 1
                && ended[0]
                    .contains("taken over by a new connection with the same Client Identifier"),
            "{lines:?}"
        );
        assert!(ended[0].contains(" peer=127.0.0.1:"), "{lines:?}");
        assert!(ended[0].contains(" new_peer=192.0.2.7:40000 session="), "{lines:?}");
        assert_eq!(about(&lines, "INFO client connected").len(), 2);
    }
}

/// The size is that of the whole packet, whose body of 2 MiB has not come.
#[test]
fn a_packet_that_is_too_large_is_logged_with_its_type_and_its_size() {
    let lines = logged(|| {
        let mut world = World::new(1);
        let client = join_as(&mut world, Version::V5, "camera");
        let stranger = world.open(Version::V5);
        for (client, first) in [(client, 0x31), (stranger, 0x10)] {
            world.send(client, &[first, 0x80, 0x80, 0x80, 0x01]);
            assert!(world.is_closed(client));
        }
    });
    let [_, client, stranger] = &lines[..] else { unreachable!("{lines:?}") };
    assert!(client.starts_with("INFO client disconnected client=\"camera\" "), "{client}");
    assert!(client.contains(" packet=\"PUBLISH\" size=2097157 "), "{client}");
    assert!(stranger.starts_with("INFO connection ended before CONNECT "), "{stranger}");
    assert!(stranger.ends_with(" packet=\"CONNECT\" size=2097157"), "{stranger}");
}

/// Of messages at QoS 1 that were sent, one is not acknowledged. Messages at QoS 0 do not count.
#[test]
fn the_messages_that_a_stop_leaves_undelivered_are_counted() {
    for shards in crate::SHARDS {
        let mut world = World::new(shards);
        let reader = subscriber(&mut world, Version::V5, "reader", "a", QoS::AtLeastOnce);
        subscriber(&mut world, Version::V5, "other", "a", QoS::AtMostOnce);
        let away = join(&mut world, &resume(Version::V5, "away"));
        world.send(away, &subscribe(Version::V5, 1, &[("a", at(QoS::ExactlyOnce))]));
        world.send(away, &disconnect(Version::V5));
        let writer = join_as(&mut world, Version::V5, "writer");
        for n in 1..=3 {
            publish(&mut world, writer, Version::V5, "a", Delivery::AtLeastOnce(id(n)), "x");
        }
        world.send(reader, &bytes(&Packet::Puback(ack(1)), Version::V5));
        assert_eq!(world.undelivered(), Undelivered { connected: 2, absent: 3 });
    }
}

#[test]
fn bytes_that_are_no_connect_are_logged_and_a_silent_visitor_is_not() {
    let lines = logged(|| {
        let mut world = World::new(1);
        let visitor = world.open(Version::V5);
        world.finish(visitor);
        let wrong = world.open(Version::V5);
        world.send(wrong, &bytes(&Packet::Pingreq, Version::V5));
        assert!(world.is_closed(wrong));
    });
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("INFO connection ended before CONNECT peer="), "{}", lines[0]);
}

/// Scanners and misdirected clients speak other protocols. The log does not blame a CONNECT.
#[test]
fn bytes_of_another_protocol_are_logged_as_what_they_are() {
    let (http, tls, other) = (
        "an HTTP request came: this listener speaks plain MQTT",
        "a TLS handshake came: this listener has no TLS",
        "the first packet is not a CONNECT",
    );
    let post = format!("POST /a HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(100));
    for (first, reason) in [
        (&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], http),
        (post.as_bytes(), http),
        (b"SSH-2.0-OpenSSH_9.9\r\n", other),
        (b"\0\0\0\x0c", other),
        (b"\x16\x03\x01\0\xc8\x01", tls),
    ] {
        let lines = logged(|| {
            let mut world = World::new(1);
            let visitor = world.open(Version::V5);
            world.send(visitor, first);
            assert!(world.is_closed(visitor));
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("INFO connection ended before CONNECT peer="), "{}", lines[0]);
        assert!(lines[0].ends_with(&format!(" reason=\"{reason}\"")), "{}", lines[0]);
    }
}

#[test]
fn the_end_of_a_client_says_what_becomes_of_its_session_and_its_will() {
    let clean = Connect { will: Some(will("w", b"gone")), ..connect(Version::V311, "a") };
    let lasting = Connect { clean_start: false, ..clean };
    let mut late = will("w", b"gone");
    late.properties.will_delay_interval = 60;
    let delayed = Connect { will: Some(late), ..resume(Version::V5, "a") };
    for (connect, takes_leave, left) in [
        (clean, false, r#"DISCONNECT" session="ended" will="published""#),
        (clean, true, r#"DISCONNECT" session="ended""#),
        (lasting, false, r#"DISCONNECT" session="kept" will="published""#),
        (delayed, false, r#"DISCONNECT" session="kept" will="delayed""#),
        (delayed, true, r#"DISCONNECT" session="kept""#),
    ] {
        let lines = logged(|| {
            let mut world = World::new(1);
            let client = join(&mut world, &connect);
            if takes_leave {
                world.send(client, &disconnect(connect.version));
            } else {
                world.finish(client);
            }
        });
        assert!(lines[1].ends_with(left), "{left} {lines:?}");
    }
}

#[test]
fn an_unsupported_protocol_version_is_logged() {
    let lines = logged(|| {
        let mut world = World::new(1);
        let client = world.open(Version::V311);
        world.send(client, b"\x10\x0d\0\x04MQTT\x09\x02\0\x3c\0\x01a");
        assert!(world.is_closed(client));
    });
    let level = " protocol_level=9 reason=\"the Protocol Version is not supported";
    assert!(lines[0].contains(level), "{lines:?}");
}

/// A subscriber that never reads loses thousands of messages, and the log gets a few lines.
#[test]
fn what_happens_often_is_counted_and_said_now_and_then() {
    let mut dropped = 0;
    let lines = logged(|| {
        let mut world = World::new(1);
        let slow = subscriber(&mut world, Version::V311, "slow", "t", QoS::AtMostOnce);
        world.reads(slow, false);
        let writer = join_as(&mut world, Version::V311, "writer");
        let payload = "x".repeat(1000);
        for _ in 0..2_000 {
            publish(&mut world, writer, Version::V311, "t", Delivery::AtMostOnce, &payload);
        }
        world.pass(Span::from_secs(1));
        for _ in 0..2_000 {
            publish(&mut world, writer, Version::V311, "t", Delivery::AtMostOnce, &payload);
        }
        dropped = world.counters().dropped_outbox_full;
        world.pass(Span::from_secs(20));
    });
    let warnings = about(&lines, "reads too slowly");
    assert!(dropped > 100, "{dropped}");
    assert!((1..=3).contains(&warnings.len()), "{warnings:?}");
    assert!(warnings.iter().all(|line| line.contains("client=\"slow\"")), "{warnings:?}");
    assert_eq!(warnings.iter().map(|line| count_of(line)).sum::<u64>(), dropped);
}

/// A line counts refusals of any reason, and gives the reason and the topic of the last one. The
/// count is logged when the client disconnects.
#[test]
fn what_is_refused_is_logged_with_the_reason_and_the_topic_of_the_last_refusal() {
    crate::everywhere(|shards, version| {
        let limits = Limits { subscriptions_max: 1, topic_levels_max: 3, ..limits() };
        let lines = logged(|| {
            let mut world = World::with(shards, &limits, &Policy::default());
            let client = join_as(&mut world, version, "sensor");
            for topic in ["$SYS/a", "$SYS/b", "a/b/c/é\""] {
                let delivery = Delivery::AtLeastOnce(id(1));
                publish(&mut world, client, version, topic, delivery, "x");
            }
            let filters = [("a", at(QoS::AtMostOnce)), ("b", at(QoS::AtMostOnce))];
            world.send(client, &subscribe(version, 2, &filters));
            world.pass(Span::from_secs(1));
            world.send(client, &disconnect(version));
        });
        let (forbidden, deep) = (
            (
                "the client may not publish here: \
                 $SYS, $share and $CONTROL are reserved for the server",
                "",
            ),
            (
                "the Topic Name has more levels than the server allows: use fewer levels",
                r#" flag="--max-topic-levels""#,
            ),
        );
        let full = (
            "the session has reached its limit of subscriptions: unsubscribe, or use a wildcard",
            r#" flag="--max-subscriptions, --max-subscription-bytes""#,
        );
        let line = |what: &str, count: &str, topic: &str, (reason, flag): (&str, &str)| {
            format!("INFO {what} of a client refused {count} {topic} reason=\"{reason}\"{flag}")
        };
        let (one, two) = (r#"count=1 client="sensor""#, r#"count=2 seconds=1 client="sensor""#);
        assert_eq!(
            lines[1..4],
            [
                line("messages", one, r#"topic="$SYS/a""#, forbidden),
                line("subscriptions", one, r#"filter="b""#, full),
                line("messages", two, r#"topic="a/b/c/é\"""#, deep),
            ]
        );
        assert!(lines[4].starts_with("INFO client disconnected "), "{}", lines[4]);
        assert_eq!(lines.len(), 5, "{lines:?}");
    });
}

/// A long topic is logged, but not all of it.
#[test]
fn a_long_topic_is_cut_in_the_log() {
    let lines = logged(|| {
        let mut world = World::new(1);
        let client = join_as(&mut world, Version::V311, "sensor");
        let topic = format!("$SYS/{}", "é".repeat(10_000));
        publish(&mut world, client, Version::V311, &topic, Delivery::AtMostOnce, "x");
    });
    let refused = about(&lines, "messages of a client refused");
    assert!(refused.len() == 1 && refused[0].contains(" topic=\"$SYS/éé"), "{refused:?}");
    assert!(refused[0].len() < 500, "{refused:?}");
}

/// What happens to one client is not counted under the name of another. Clients beyond the first
/// eight are counted together, and the line says so.
#[test]
fn each_client_has_a_count_of_its_own() {
    let refuse = |world: &mut World, client, times: usize| {
        for _ in 0..times {
            publish(world, client, Version::V311, "$SYS/a", Delivery::AtMostOnce, "x");
        }
    };
    let lines = logged(|| {
        let mut world = World::new(1);
        let names = (0..10).map(|number| format!("nosy{number}"));
        let clients: Vec<_> = names.map(|name| join_as(&mut world, Version::V311, &name)).collect();
        for (number, &client) in clients.iter().enumerate() {
            refuse(&mut world, client, 1 + number);
        }
        // All lines are written, and then all clients are forgotten.
        for _ in 0..8 {
            world.pass(Span::from_secs(5));
        }
        refuse(&mut world, clients[9], 1);
    });
    let lines = about(&lines, "messages of a client refused");
    for number in 0..8_u64 {
        let own = about(&lines, &format!(" client=\"nosy{number}\""));
        let counts: Vec<_> = own.iter().map(|line| count_of(line)).collect();
        let rest = (number > 0).then_some(number);
        assert_eq!(counts, [Some(1), rest].into_iter().flatten().collect::<Vec<_>>(), "{own:?}");
    }
    let others = about(&lines, r#" clients="others" "#);
    assert!(others[0].contains(r#"count=1 clients="others" last_client="nosy8""#), "{others:?}");
    assert!(others[1].contains(r#" clients="others" last_client="nosy9""#), "{others:?}");
    assert_eq!((others.len(), count_of(&others[1])), (2, 18), "{others:?}");
    let again = lines.last().expect("a line");
    assert!(again.contains(r#" count=1 client="nosy9""#), "{again}");
}

/// Messages for a client that is away are counted too, and the broker logs all counts when it
/// stops.
#[test]
fn what_has_been_counted_is_logged_when_the_broker_stops() {
    let mut dropped = 0;
    let lines = logged(|| {
        let queue = QueueLimits { messages_max: 1, bytes_max: 1 << 20 };
        let mut world = World::with(1, &Limits { queue, ..limits() }, &Policy::default());
        let stays = Connect { clean_start: false, ..connect(Version::V311, "away") };
        let away = join(&mut world, &stays);
        world.send(away, &subscribe(Version::V311, 1, &[("t", at(QoS::AtLeastOnce))]));
        world.send(away, &disconnect(Version::V311));
        let writer = join_as(&mut world, Version::V311, "writer");
        for _ in 0..5 {
            publish(&mut world, writer, Version::V311, "t", Delivery::AtLeastOnce(id(1)), "x");
        }
        world.pass(Span::from_secs(2));
        dropped = world.counters().dropped_queue_full;
        world.stop();
    });
    let full = about(&lines, "the queue of the session is full");
    assert_eq!((dropped, full.len()), (4, 2), "{lines:?}");
    assert!(full[1].ends_with(r#" count=3 seconds=2 client="away""#), "{full:?}");
}
