//! What the log says of clients.

use std::{
    io,
    sync::{Arc, mpsc},
};

use ringmq::{
    access::{Anonymous, Passwords, Policy},
    base::time::Span,
    mqtt::{Connect, Delivery, Packet, QoS, Version},
    shard::rules::Limits,
};
use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

use crate::{
    join_as,
    packets::{at, bytes, connect, disconnect, id, subscribe},
    publish, subscriber,
    world::{World, limits},
};

/// The writing end of a log; each piece is a line.
#[derive(Clone)]
struct Lines(mpsc::Sender<Vec<u8>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}

/// What is logged at info while `story` is told, without times.
fn logged(story: impl FnOnce()) -> Vec<String> {
    let (lines, written) = mpsc::channel();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(Lines(lines))
        .with_max_level(Level::INFO)
        .with_ansi(false)
        .with_target(false)
        .without_time()
        .finish();
    tracing::subscriber::with_default(subscriber, story);
    let bytes: Vec<u8> = written.into_iter().flatten().collect();
    String::from_utf8(bytes).expect("text").lines().map(|line| line.trim().to_owned()).collect()
}

/// The lines with these words.
fn about(lines: &[String], words: &str) -> Vec<String> {
    lines.iter().filter(|line| line.contains(words)).cloned().collect()
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
        assert!(lines[1].ends_with(" reason=\"the client has sent DISCONNECT\""), "{}", lines[1]);
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
            join_as(&mut world, Version::V5, "a");
        });
        let ended = about(&lines, "client disconnected");
        assert!(
            ended.len() == 1
                && ended[0].contains("another client connected with this Client Identifier"),
            "{lines:?}"
        );
        assert_eq!(about(&lines, "INFO client connected").len(), 2);
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
fn bytes_of_another_protocol_are_logged_as_no_connect() {
    for first in [
        &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"\0\0\0\x0c",
        b"\x16\x03\x01\0\xc8\x01",
    ] {
        let lines = logged(|| {
            let mut world = World::new(1);
            let visitor = world.open(Version::V5);
            world.send(visitor, first);
            assert!(world.is_closed(visitor));
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("INFO connection ended before CONNECT peer="), "{}", lines[0]);
        let reason = " reason=\"the first packet is not a CONNECT\"";
        assert!(lines[0].ends_with(reason), "{}", lines[0]);
    }
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
    let counts = warnings.iter().filter_map(|line| line.split("count=").nth(1));
    let counts = counts.filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    assert_eq!(counts.sum::<u64>(), dropped);
}

/// A line counts refusals of any reason, and gives the reason of the last one.
#[test]
fn what_is_refused_is_logged_with_the_reason_of_the_last_refusal() {
    crate::everywhere(|shards, version| {
        let limits = Limits { subscriptions_max: 1, topic_levels_max: 3, ..limits() };
        let lines = logged(|| {
            let mut world = World::with(shards, &limits, &Policy::default());
            let client = join_as(&mut world, version, "sensor");
            for topic in ["$SYS/a", "$SYS/b", "a/b/c/d"] {
                let delivery = Delivery::AtLeastOnce(id(1));
                publish(&mut world, client, version, topic, delivery, "x");
            }
            let filters = [("a", at(QoS::AtMostOnce)), ("b", at(QoS::AtMostOnce))];
            world.send(client, &subscribe(version, 2, &filters));
            world.pass(Span::from_secs(20));
        });
        let (forbidden, deep) = (
            "the client may not publish to this Topic Name: $SYS and $share are reserved",
            "the Topic Name has more levels than the server allows: use fewer levels",
        );
        let full =
            "the session has reached its limit of subscriptions: unsubscribe, or use a wildcard";
        let line = |count: u32, what: &str, reason: &str| {
            let whose = "client=\"sensor\"";
            format!("INFO {what} of a client refused count={count} {whose} reason=\"{reason}\"")
        };
        assert_eq!(
            about(&lines, "of a client refused"),
            [
                line(1, "messages", forbidden),
                line(1, "subscriptions", full),
                line(2, "messages", deep)
            ]
        );
    });
}
