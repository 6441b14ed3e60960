//! The control thread over a Unix socket: who may open it, and what its owner may do.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "foreign/broker.rs"]
#[expect(dead_code, reason = "the foreign clients' tests use the rest of it")]
mod broker;
#[path = "support/client.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod client;
#[path = "support/http.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod http;
#[path = "support/socket_file.rs"]
mod socket_file;
#[path = "support/source.rs"]
mod source;

use std::{
    fs,
    io::{Read, Write},
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::Path,
    process::{self, Command},
};

use broker::Broker;
use client::Client;
use ringmq::mqtt::Version;
use socket_file::socket_file;

/// A broker that answers HTTP on this socket.
fn broker(path: &Path, more: &[&str]) -> Broker {
    let flag = format!("--listen-http=unix:{}", path.display());
    let mut broker = Broker::ringmq_with(2, &[&[flag.as_str()], more].concat());
    broker.await_words(&format!("listening on http://unix:{}", path.display()));
    broker
}

/// The status of the answer.
fn request(path: &Path, line: &str, fields: &[&str]) -> u16 {
    let mut stream = UnixStream::connect(path).unwrap();
    let head = [&[line, "Connection: close"], fields, &["\r\n"]].concat().join("\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

const HOST: &str = "Host: localhost";

#[test]
fn the_owner_of_the_socket_needs_no_token() {
    let path = socket_file("http-owner");
    // The file of a broker that was killed.
    drop(UnixListener::bind(&path).unwrap());
    let mut broker = broker(&path, &["--listen-http=127.0.0.1:0"]);
    let port = broker.await_port("http");
    let metadata = fs::metadata(&path).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let mut client = Client::connect(&broker, Version::V311, "here");
    let status = |line: &str, fields: &[&str]| request(&path, &format!("{line} HTTP/1.1"), fields);
    assert_eq!(status("GET /healthz", &[HOST]), 200);
    let kick = "DELETE /api/v1/clients/here";
    assert_eq!(http::request(port, kick, &[], "").status, 401);
    let wrong = [HOST, "Authorization: Bearer cccccccccccccccc"];
    assert_eq!(status(kick, &wrong), 401);
    assert_eq!(status(kick, &["Host: evil.example"]), 421);
    assert_eq!(status(kick, &[HOST, "Origin: https://evil.example"]), 403);
    client.ping();
    assert_eq!(status(kick, &[HOST]), 204);
    assert_eq!(client.next(|_| ()), None);
    let line = broker.await_words("a client was disconnected over HTTP");
    let uid = fs::metadata("/proc/self").unwrap().uid();
    assert!(line.contains(&format!("by=unix(uid {uid}, ")), "{line}");
    assert!(line.contains(&format!("pid {})", process::id())), "{line}");
    // Both addresses are of one control thread.
    let metrics = http::get(port, "/metrics").body;
    assert!(metrics.contains("\nringmq_http_refused_total{reason=\"wrong-token\"} 1\n"));
    broker.stop();
    assert!(!path.exists(), "the broker removes what it has made");
}

#[test]
fn subcommands_use_the_socket() {
    let path = socket_file("http-subcommands");
    let broker = broker(&path, &[]);
    let at = format!("unix:{}", path.display());
    let ringmq = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringmq"));
        let output = command.args(words).args(["--at", &at]).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(said).unwrap())
    };
    let mut client = Client::connect(&broker, Version::V311, "a/b c");
    let (code, said) = ringmq(&["status"]);
    assert!(code == 0 && said.contains("clients connected"), "{said}");
    let (code, said) = ringmq(&["clients"]);
    assert!(code == 0 && said.starts_with("a/b c\t-\t127.0.0.1:"), "{said}");
    assert_eq!(ringmq(&["kick", "a/b c"]), (0, "disconnected a/b c\n".to_owned()));
    assert_eq!(client.next(|_| ()), None);
    broker.stop();
    let (code, said) = ringmq(&["status"]);
    assert!(code == 1 && said.contains(&format!("no broker answers HTTP at {at}")), "{said}");
}

#[test]
fn a_path_that_is_taken_refuses_the_start() {
    let taken = socket_file("http-taken");
    let _other = UnixListener::bind(&taken).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmq"));
    let flag = format!("--listen-http=unix:{}", taken.display());
    let output = command.args(["--listen=127.0.0.1:0", &flag]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let words = format!("cannot listen on http://unix:{}: ", taken.display());
    assert!(said.contains(&words), "{said}");
    assert!(fs::metadata(&taken).unwrap().file_type().is_socket());
}
