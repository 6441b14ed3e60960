//! `ringmq passwd` and `ringmq scram`, and the broker with the files that they write.
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
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use broker::Broker;
use client::{Client, encode};
use ringmq::mqtt::{Connect, Packet, ReasonCode, Version};

fn path(name: &str) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    drop(fs::remove_file(&path));
    path.to_str().unwrap().to_owned()
}

/// The status, and what was said on standard error.
fn ringmq(words: &[&str], input: &str) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmq"));
    command.args(words).stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::null());
    let mut process = command.spawn().unwrap();
    // A process that asks for no password may have ended.
    drop(process.stdin.take().unwrap().write_all(input.as_bytes()));
    let output = process.wait_with_output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

fn done(words: &[&str], input: &str) {
    let (status, said) = ringmq(words, input);
    assert_eq!(status, 0, "{words:?}: {said}");
}

fn logs_in(broker: &Broker, user: &str, password: &str) -> bool {
    let mut connect = Connect::new(Version::V5, user);
    (connect.user_name, connect.password) = (Some(user), Some(password.as_bytes()));
    let mut client = Client::open(broker, Version::V5);
    client.send(&encode(&Packet::Connect(connect), Version::V5));
    client
        .next(|packet| matches!(packet, Packet::Connack(c) if c.reason_code == ReasonCode::Success))
        == Some(true)
}

#[test]
fn a_password_file_is_made_changed_and_served() {
    let file = path("made-passwords");
    done(&["passwd", "-c", "-b", &file, "alice", "one"], "");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    done(&["passwd", "-H", "argon2id", &file, "bob"], "two\n");
    done(&["passwd", "-b", &file, "carol", "three"], "");
    done(&["passwd", "-D", &file, "carol"], "");
    done(&["passwd", "-b", "-I", "101", &file, "alice", "four"], "");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("alice:$7$101$"), "{text}");
    assert!(text.contains("\nbob:$argon2id$v=19$m=47104,t=1,p=1$"), "{text}");
    assert_eq!(text.lines().count(), 2);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    let broker = Broker::ringmq_with(1, &["--password-file", &file]);
    assert!(logs_in(&broker, "alice", "four") && logs_in(&broker, "bob", "two"));
    assert!(!logs_in(&broker, "alice", "one") && !logs_in(&broker, "bob", "one"));
    broker.stop();
}

#[test]
fn plain_passwords_are_hashed_once() {
    let file = path("plain-passwords");
    fs::write(&file, "# users\nalice:one\nbob:two:three\n").unwrap();
    done(&["passwd", "-U", &file], "");
    let hashed = fs::read_to_string(&file).unwrap();
    done(&["passwd", "-U", &file], "");
    assert_eq!(fs::read_to_string(&file).unwrap(), hashed);
    assert!(hashed.starts_with("# users\nalice:$7$10000$"), "{hashed}");
    let broker = Broker::ringmq_with(1, &["--password-file", &file]);
    assert!(logs_in(&broker, "alice", "one") && logs_in(&broker, "bob", "two:three"));
    broker.stop();
}

#[test]
fn a_scram_file_has_a_line_for_each_mechanism() {
    let file = path("made-scram");
    done(&["scram", "-c", "-b", &file, "alice", "one"], "");
    done(&["scram", "-b", "-H", "SCRAM-SHA-512", &file, "alice", "one"], "");
    done(&["scram", &file, "bob"], "two\n");
    done(&["scram", "-b", "-I", "5000", &file, "alice", "two"], "");
    let text = fs::read_to_string(&file).unwrap();
    let starts: Vec<&str> = text.lines().map(|line| line.split_at(25).0).collect();
    let expected =
        ["alice:SCRAM-SHA-256$5000:", "alice:SCRAM-SHA-512$4096:", "bob:SCRAM-SHA-256$4096:x"];
    assert_eq!(starts[..2], expected[..2]);
    assert!(starts[2].starts_with(expected[2].trim_end_matches('x')), "{text}");
    let checked = ringmq(&["check", "--scram-file", &file], "");
    assert_eq!(checked.0, 0, "{}", checked.1);
    done(&["scram", "-D", &file, "alice"], "");
    assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 1);
}

#[test]
fn what_makes_no_sense_is_refused_and_the_file_stays() {
    let file = path("kept-passwords");
    done(&["passwd", "-c", "-b", &file, "alice", "one"], "");
    let before = fs::read_to_string(&file).unwrap();
    for (words, status) in [
        (&["passwd", &file][..], 2),
        (&["passwd", "-b", &file, "alice"], 2),
        (&["passwd", &file, "alice", "two"], 2),
        (&["passwd", "-c", "-D", &file, "alice"], 2),
        (&["passwd", "-U", &file, "alice"], 2),
        (&["passwd", "-b", &file, "a:b", "two"], 2),
        (&["passwd", "-H", "md5", &file, "alice"], 2),
        (&["scram", "-I", "10", &file, "alice"], 2),
        (&["passwd", "-D", &file, "bob"], 1),
        (&["passwd", "-b", &file, "alice", ""], 1),
        (&["passwd", &file, "alice"], 1),
        (&["passwd", "-b", "/no/such/file", "alice", "one"], 1),
        (&["scram", "-b", &file, "alice", "pässwort"], 1),
    ] {
        let (code, said) = ringmq(words, "");
        assert_eq!(code, status, "{words:?}: {said}");
        assert!(!said.is_empty(), "{words:?}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), before);
}

/// Each reads what the other has written.
#[test]
fn mosquitto_passwd_and_ringmq_share_their_files() {
    let file = path("shared-passwords");
    let mosquitto = |words: &[&str]| {
        let status = Command::new("mosquitto_passwd").args(words).stderr(Stdio::null()).status();
        assert!(status.expect("please run scripts/test.sh if it is not installed").success());
    };
    mosquitto(&["-c", "-b", &file, "alice", "one"]);
    done(&["passwd", "-b", &file, "bob", "two"], "");
    mosquitto(&["-b", &file, "carol", "three"]);
    mosquitto(&["-D", &file, "alice"]);
    let broker = Broker::ringmq_with(1, &["--password-file", &file]);
    assert!(logs_in(&broker, "bob", "two") && logs_in(&broker, "carol", "three"));
    assert!(!logs_in(&broker, "alice", "one"));
    broker.stop();
}
