//! SIGHUP on a running broker: the configuration file is read again, all of it or nothing.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "foreign/broker.rs"]
#[expect(dead_code, reason = "the foreign clients' tests use the rest of it")]
mod broker;
#[path = "support/client.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod client;
#[path = "support/source.rs"]
mod source;

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
};

use broker::Broker;
use client::{Client, connect};
use ringmq::mqtt::{Packet, Version};

/// A configuration file that the test writes again and again.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> File {
        let file = File(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
        file.write(text);
        file
    }

    fn write(&self, text: &str) {
        fs::write(&self.0, text).unwrap();
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// Writes the file, and waits until the broker has said these words about it.
    fn reload(&self, broker: &mut Broker, text: &str, words: &str) -> String {
        self.write(text);
        broker.signal("HUP");
        broker.await_words(words)
    }
}

const DONE: &str = "SIGHUP: the configuration was read again";
const KEPT: &str = "SIGHUP: the configuration stays as it was";

fn client(port: u16, client_id: &str) -> Option<Client> {
    let mut client = Client::open_from(port, Version::V5, [127, 0, 0, 1]);
    client.send(&connect(Version::V5, client_id));
    client.next(|packet| assert!(matches!(packet, Packet::Connack(_))))?;
    Some(client)
}

/// The Server Keep Alive that a new client is told.
fn keep_alive(port: u16, client_id: &str) -> Option<u16> {
    let mut client = Client::open_from(port, Version::V5, [127, 0, 0, 1]);
    client.send(&connect(Version::V5, client_id));
    let told = client.next(|packet| match packet {
        Packet::Connack(connack) => connack.properties.server_keep_alive,
        other => panic!("{other:?}"),
    });
    told.unwrap()
}

/// Each shard takes the rules in one of its next turns.
fn soon_on_all_shards(mut holds: impl FnMut(u32) -> bool) -> bool {
    (0..1_000).any(|from| (8 * from..8 * from + 8).all(&mut holds))
}

#[test]
fn listeners_come_and_go_and_connections_stay() {
    let shards = "[shards]\nshards = 2\n";
    let one = format!("{shards}[network]\nlisten = 0\n");
    let two = format!("{shards}[network]\nlisten = [0, 0]\n");
    let file = File::new("reload-listeners.toml", &one);
    let mut broker = Broker::ringmq_configured(file.path());
    let first = broker.port();
    let mut old = client(first, "old").unwrap();
    let line = file.reload(&mut broker, &two, "listening on a further address");
    let added = line.rsplit_once(':').unwrap().1.trim_end().parse().unwrap();
    broker.await_words(DONE);
    let mut on_added: Vec<Client> =
        (0..16).map(|n| client(added, &format!("added {n}")).unwrap()).collect();
    for again in 0..2 {
        file.reload(&mut broker, &one, DONE);
        // A shard that still listens takes a connection, and closes it when it stops listening.
        let is_closed = |_| std::net::TcpStream::connect(("127.0.0.1", added)).is_err();
        assert!(soon_on_all_shards(is_closed), "time {again}");
        on_added.iter_mut().for_each(Client::ping);
    }
    client(first, "new").unwrap().ping();
    old.ping();
    file.reload(&mut broker, &two, "listening on a further address");
    broker.await_words(DONE);
    broker.stop();
}

/// The new address has the port of the one that goes, and is taken while that one still listens.
#[test]
fn a_listener_moves_to_all_addresses_of_its_port() {
    let text = |listen: &str| {
        format!(
            "[shards]\nshards = 2\n[network]\nlisten = {listen}\n\
             [access]\nallow-anonymous = true\n"
        )
    };
    let file = File::new("reload-moves.toml", &text("\"127.0.0.1:0\""));
    let mut broker = Broker::ringmq_configured(file.path());
    let port = broker.port();
    let mut old = client(port, "old").unwrap();
    for address in ["0.0.0.0", "127.0.0.1", "0.0.0.0"] {
        let words = format!("listening on a further address address={address}:{port}");
        file.reload(&mut broker, &text(&format!("\"{address}:{port}\"")), &words);
        broker.await_words(DONE);
        // A shard that still listens at the former address takes a connection, and closes it when
        // it stops listening there.
        let is_let_in = |n| {
            let new = Client::try_open_from(port, Version::V5, [127, 0, 0, 1]);
            let Ok(mut new) = new else { return false };
            let packet = connect(Version::V5, &format!("new {n}"));
            drop(std::io::Write::write_all(&mut new.stream, &packet));
            new.next(|packet| assert!(matches!(packet, Packet::Connack(_)))).is_some()
        };
        assert!(soon_on_all_shards(is_let_in), "{address}");
        old.ping();
    }
    broker.stop();
}

#[test]
fn a_listener_that_cannot_listen_leaves_everything_as_it_was() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let text = |listen: &str, seconds: u16| {
        format!("[network]\nlisten = [{listen}]\n[features]\nmax-keep-alive = {seconds}\n")
    };
    let file = File::new("reload-taken.toml", &text("0", 50));
    let mut broker = Broker::ringmq_configured(file.path());
    let line = file.reload(&mut broker, &text(&format!("0, \"{taken}\""), 40), KEPT);
    assert!(line.contains("another program is listening on this address"), "{line}");
    let port = broker.port();
    assert!((0..8).all(|n| keep_alive(port, &format!("a {n}")) == Some(50)));
    file.reload(&mut broker, &text("0", 40), DONE);
    assert!(soon_on_all_shards(|n| keep_alive(port, &format!("b {n}")) == Some(40)));
    broker.stop();
}

#[test]
fn limits_and_the_log_filter_change_and_a_broken_file_changes_nothing() {
    let text = |seconds: u16, log: &str, more: &str| {
        format!(
            "[network]\nlisten = 0\n[features]\nmax-keep-alive = {seconds}\n\
             [log]\nlog = \"{log}\"\n[shards]\n{more}"
        )
    };
    let file = File::new("reload-limits.toml", &text(50, "info", "shards = 2"));
    let mut broker = Broker::ringmq_configured(file.path());
    let port = broker.port();
    assert_eq!(keep_alive(port, "a"), Some(50));
    let wrong = text(40, "debug", "[limits]\nmax-queue = 1\n");
    let line = file.reload(&mut broker, &wrong, KEPT);
    assert!(line.contains(":9: unknown key `max-queue` in [limits]: did you mean"), "{line}");
    assert_eq!(keep_alive(port, "b"), Some(50));
    file.reload(&mut broker, &text(30, "debug", "shards = 3"), DONE);
    assert!(broker.has_said("--shards or --cpus has changed, which holds from the next start"));
    assert!(soon_on_all_shards(|n| keep_alive(port, &format!("c {n}")) == Some(30)));
    // A connection that ends before CONNECT without a fault is a line for debug.
    drop(Client::open(&broker, Version::V5));
    broker.await_words("DEBUG");
    fs::remove_file(&file.0).unwrap();
    broker.signal("HUP");
    let line = broker.await_words(KEPT);
    assert!(line.contains("No such file"), "{line}");
    assert_eq!(keep_alive(port, "d"), Some(30));
    broker.stop();
}
