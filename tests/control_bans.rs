//! Bans: who is not let in, who has to go, and what a restart remembers.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "foreign/broker.rs"]
#[expect(dead_code, reason = "the foreign clients' tests use the rest of it")]
mod broker;
#[path = "support/client.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod client;
#[path = "support/folder.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod folder;
#[path = "support/http.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod http;
#[path = "support/source.rs"]
mod source;

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use broker::Broker;
use client::{Client, connect, encode};
use folder::{ADMIN, Folder};
use http::{Answer, get, request};
use ringmq::mqtt::{Connect, Packet, ReasonCode, Version};
use serde_json::Value;

fn ban(port: u16, body: &str) -> Value {
    let answer = request(port, "POST /api/v1/bans", &[ADMIN], body);
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str(&answer.body).unwrap()
}

fn unban(port: u16, ban: &Value) -> u16 {
    request(port, &format!("DELETE /api/v1/bans/{}", ban["id"]), &[ADMIN], "").status
}

/// What CONNECT is answered with; `None` if the connection is closed at once.
fn answer(mut client: Client, packet: &[u8]) -> Option<ReasonCode> {
    // A banned address may be closed before anything is sent.
    drop(std::io::Write::write_all(&mut client.stream, packet));
    client.next(|packet| match packet {
        Packet::Connack(connack) => connack.reason_code,
        other => panic!("{other:?}"),
    })
}

fn try_as(broker: &Broker, version: Version, client_id: &str) -> Option<ReasonCode> {
    answer(Client::open(broker, version), &connect(version, client_id))
}

#[track_caller]
fn assert_problem(answer: &Answer, status: u16, words: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert!(answer.body.contains(words), "{answer:?}");
}

#[test]
fn a_banned_client_has_to_go_and_is_refused_until_the_ban_ends() {
    let folder = Folder::new("bans-client");
    let (mut broker, port) = folder.broker(&[]);
    let mut five = Client::connect(&broker, Version::V5, "bad");
    let mut other = Client::connect(&broker, Version::V5, "good");
    let made = ban(port, r#"{"client_id":"bad","seconds":600,"reason":"floods"}"#);
    assert_eq!((&made["disconnected"], &made["reason"]), (&1.into(), &"floods".into()));
    let code = five.next(|packet| match packet {
        Packet::Disconnect(disconnect) => disconnect.reason_code,
        other => panic!("{other:?}"),
    });
    // The specification has Banned for CONNACK alone.
    assert_eq!(code, Some(ReasonCode::AdministrativeAction));
    assert_eq!(five.next(|_| ()), None);
    let line = broker.await_words("a ban was made over HTTP");
    assert!(line.contains("the token in line 2 from 127.0.0.1:"), "{line}");
    assert!(line.contains("reason=\"floods\""), "{line}");
    assert_eq!(try_as(&broker, Version::V5, "bad"), Some(ReasonCode::Banned));
    // Return code 5, which is all that versions before 5.0 have.
    assert_eq!(try_as(&broker, Version::V311, "bad"), Some(ReasonCode::NotAuthorized));
    assert_eq!(try_as(&broker, Version::V31, "bad"), Some(ReasonCode::NotAuthorized));
    other.ping();
    let metrics = get(port, "/metrics").body;
    for (metric, count) in [("refused", 3), ("ended", 1)] {
        let sample = format!("\nringmq_connections_{metric}_total{{reason=\"banned\"}} {count}\n");
        assert!(metrics.contains(&sample), "{sample}");
    }
    assert_eq!(unban(port, &made), 204);
    assert_eq!(unban(port, &made), 404);
    assert_eq!(try_as(&broker, Version::V5, "bad"), Some(ReasonCode::Success));
    broker.stop();
}

#[test]
fn a_banned_address_is_closed_before_it_says_anything() {
    let folder = Folder::new("bans-address");
    let (broker, port) = folder.broker(&[]);
    let from = |last| Client::open_from(broker.port(), Version::V5, [127, 0, 9, last]);
    let mut here = from(1);
    here.send(&connect(Version::V5, "here"));
    assert_eq!(here.next(|packet| matches!(packet, Packet::Connack(_))), Some(true));
    let mut silent = from(2);
    // It has to be there before the ban: the broker accepts it in its own time.
    while !get(port, "/metrics").body.contains("\nringmq_connections 2\n") {}
    let network = ban(port, r#"{"address":"127.0.9.0/24"}"#);
    assert_eq!(network["disconnected"], 1);
    assert_eq!(here.next(|packet| matches!(packet, Packet::Disconnect(_))), Some(true));
    assert_eq!(answer(from(3), &connect(Version::V5, "new")), None);
    // One that has come before is told so.
    silent.send(&connect(Version::V5, "silent"));
    let code = silent.next(|packet| match packet {
        Packet::Connack(connack) => connack.reason_code,
        other => panic!("{other:?}"),
    });
    assert_eq!(code, Some(ReasonCode::Banned));
    assert_eq!(unban(port, &network), 204);
    let one = ban(port, r#"{"address":"127.0.9.4"}"#);
    assert_eq!(answer(from(4), &connect(Version::V5, "four")), None);
    assert_eq!(answer(from(5), &connect(Version::V5, "five")), Some(ReasonCode::Success));
    assert_eq!(unban(port, &one), 204);
    broker.stop();
}

#[test]
fn a_banned_user_is_refused_once_it_has_proven_who_it_is() {
    let folder = Folder::new("bans-user");
    let users = folder.path("users");
    fs::write(&users, include_str!("stories/passwords.txt")).unwrap();
    let (broker, port) = folder.broker(&["--password-file", &users]);
    let by = |password: &'static [u8]| {
        let connect = Connect {
            user_name: Some("ada"),
            password: Some(password),
            ..Connect::new(Version::V5, "x")
        };
        let packet = encode(&Packet::Connect(connect), Version::V5);
        answer(Client::open(&broker, Version::V5), &packet)
    };
    assert_eq!(by(b"secret"), Some(ReasonCode::Success));
    ban(port, r#"{"user":"ada"}"#);
    assert_eq!(by(b"secret"), Some(ReasonCode::Banned));
    assert_eq!(by(b"wrong"), Some(ReasonCode::BadUserNameOrPassword));
    broker.stop();
}

#[test]
fn bans_survive_a_restart_and_the_subcommands_make_and_end_them() {
    let folder = Folder::new("bans-restart");
    let (data, tokens) = (folder.path("data"), folder.path("tokens"));
    let flags = ["--data-dir", data.as_str()];
    let (broker, port) = folder.broker(&flags);
    let ringmq = |port: u16, words: &[&str]| {
        let at = format!("127.0.0.1:{port}");
        let own = ["--at", &at, "--http-token-file", &tokens];
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringmq"));
        let output = command.args(words).args(own).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(said).unwrap())
    };
    let words = ["ban", "--client=a b", "--for=600", "--reason=too loud"];
    assert_eq!(ringmq(port, &words), (0, "ban 1: 0 clients disconnected\n".to_owned()));
    assert_eq!(ringmq(port, &["ban", "--address=192.0.2.0/24"]).0, 0);
    assert_eq!(ringmq(port, &["ban"]).0, 2);
    broker.stop();
    let kept = fs::metadata(Path::new(&data).join("bans.json")).unwrap();
    assert_eq!(kept.permissions().mode() & 0o777, 0o600);
    let (broker, port) = folder.broker(&flags);
    assert_eq!(try_as(&broker, Version::V5, "a b"), Some(ReasonCode::Banned));
    let (code, said) = ringmq(port, &["bans"]);
    let lines: Vec<&str> = said.lines().collect();
    assert!(code == 0 && lines.len() == 2, "{said}");
    assert!(lines[0].starts_with("1\tclient a b\tuntil ") && lines[0].ends_with("\ttoo loud"));
    assert!(lines[1].starts_with("2\taddress 192.0.2.0/24\tfor ever\t"), "{said}");
    assert_eq!(ringmq(port, &["unban", "1"]).0, 0);
    assert_eq!(try_as(&broker, Version::V5, "a b"), Some(ReasonCode::Success));
    let (code, said) = ringmq(port, &["unban", "1"]);
    assert!(code == 1 && said.contains("there is no ban"), "{said}");
    broker.stop();
}

#[test]
fn wrong_bans_are_refused_in_words_and_lists_have_pages() {
    let folder = Folder::new("bans-wrong");
    let (broker, port) = folder.broker(&[]);
    let post = |fields: &[&str], body| request(port, "POST /api/v1/bans", fields, body);
    assert_problem(&post(&[], r#"{"user":"a"}"#), 401, "admin");
    assert_problem(&post(&[ADMIN], r#"{"user":1}"#), 400, "column");
    assert_problem(&post(&[ADMIN], r#"{"colour":"a"}"#), 400, "colour");
    assert_problem(&post(&[ADMIN], "{}"), 422, "name one of");
    assert_problem(&post(&[ADMIN], r#"{"address":"x"}"#), 422, "192.0.2.1");
    let delete = request(port, "DELETE /api/v1/bans/x", &[ADMIN], "");
    assert_problem(&delete, 404, "no ban");
    for n in 0..5 {
        ban(port, &format!("{{\"user\":\"{n}\"}}"));
    }
    let page = |query: &str| {
        let answer = get(port, &format!("/api/v1/bans?{query}"));
        let page: Value = serde_json::from_str(&answer.body).unwrap();
        let users = page["bans"].as_array().unwrap().iter();
        let users: Vec<String> =
            users.map(|ban| ban["user"].as_str().unwrap().to_owned()).collect();
        (users.concat(), page["cursor"].as_str().map(str::to_owned))
    };
    assert_eq!(page("limit=3"), ("012".to_owned(), Some("3".to_owned())));
    assert_eq!(page("limit=3&cursor=3"), ("34".to_owned(), None));
    assert_problem(&get(port, "/api/v1/bans?cursor=x"), 400, "cursor");
    broker.stop();
}
