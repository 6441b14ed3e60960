//! Configurations of mosquitto that `ringmq import` translates, checked and served.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "foreign/broker.rs"]
#[expect(dead_code, reason = "the foreign clients' tests use the rest of it")]
mod broker;
#[path = "support/client.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod client;
#[path = "support/source.rs"]
mod source;

use std::{fs, path::Path, process::Command};

use broker::Broker;
use client::{Client, connect};
use ringmq::mqtt::{Packet, ReasonCode, Version};

/// Imports a file with this text and checks the result. Returns its path, and what was said.
fn imported(name: &str, text: &str) -> (String, String) {
    let path = |end: &str| Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.{end}"));
    fs::write(path("conf"), text).unwrap();
    let ringmq = || Command::new(env!("CARGO_BIN_EXE_ringmq"));
    let output = ringmq().arg("import").arg(path("conf")).output().unwrap();
    assert!(output.status.success());
    fs::write(path("toml"), output.stdout).unwrap();
    let checked = ringmq().args(["check", "--config"]).arg(path("toml")).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    (path("toml").to_str().unwrap().to_owned(), String::from_utf8(output.stderr).unwrap())
}

/// Whether an anonymous client is let in.
fn lets_in(port: u16) -> bool {
    let mut client = Client::open_from(port, Version::V5, [127, 0, 0, 1]);
    client.send(&connect(Version::V5, "anyone"));
    let code = client.next(|packet| match packet {
        Packet::Connack(connack) => connack.reason_code,
        other => panic!("{other:?}"),
    });
    code == Some(ReasonCode::Success)
}

#[test]
fn a_file_for_this_machine_alone() {
    let (file, said) =
        imported("local", "log_type all\nlog_dest stdout\nport 0\nbind_address 127.0.0.1\n");
    assert!(said.contains("local.conf:2: log_dest stdout: the log goes to"), "{said}");
    // mosquitto lets nobody in when an address is named and nobody is.
    let broker = Broker::ringmq_configured(&file);
    assert!(!lets_in(broker.port()));
    broker.stop();
}

#[test]
fn a_file_with_an_open_listener_and_limits() {
    let text = "port 0\nbind_address localhost\nallow_anonymous true\nmax_packet_size 100000\n\
                max_inflight_messages 50\nmax_queued_messages 500\nmax_keepalive 600\n\
                retain_available false\npersistence false\n";
    let (file, said) = imported("limits", text);
    assert_eq!(said.lines().count(), 1, "{said}");
    let broker = Broker::ringmq_configured(&file);
    assert!(lets_in(broker.port()));
    broker.stop();
}

#[test]
fn a_file_with_users_and_a_bridge() {
    let users = Path::new(env!("CARGO_TARGET_TMPDIR")).join("imported-users");
    fs::write(&users, "").unwrap();
    let text = format!(
        "per_listener_settings false\npassword_file {}\nport 0\nbind_address 127.0.0.1\n\
         connection cloud\naddress broker.example:8883\nremote_password secret\n\
         topic # out 1\n",
        users.display()
    );
    let (file, said) = imported("bridge", &text);
    assert_eq!(said.lines().filter(|line| line.contains("there are no bridges")).count(), 4);
    assert!(!said.contains("secret") && !fs::read_to_string(&file).unwrap().contains("secret"));
    let broker = Broker::ringmq_configured(&file);
    assert!(!lets_in(broker.port()));
    broker.stop();
}
