//! MQTT over a Unix socket, with the broker as its users start it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "foreign/broker.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod broker;
#[path = "support/socket_file.rs"]
mod socket_file;

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
use socket_file::socket_file;

/// A CONNECT of MQTT 3.1.1 with the Client Identifier `a`, and the CONNACK for it.
const CONNECT: &[u8] = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3C\x00\x01a";
const CONNACK: &[u8] = b"\x20\x02\x00\x00";

/// Round trips while a listener is removed.
const ROUNDS_MAX: usize = 10_000;

fn broker(path: &Path, more: &[&str]) -> Broker {
    let flag = format!("--listen-unix={}", path.display());
    let mut broker = Broker::ringmq_with(2, &[&[flag.as_str()], more].concat());
    broker.await_words(&format!("listening on unix:{}", path.display()));
    broker
}

fn answer(stream: &mut UnixStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn clients_of_this_machine_come_over_a_unix_socket() {
    let path = socket_file("clients");
    // The file of a broker that was killed.
    drop(UnixListener::bind(&path).unwrap());
    let mut broker = broker(&path, &["--unix-mode=600"]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(CONNECT).unwrap();
    assert_eq!(answer(&mut stream, CONNACK.len()), CONNACK);
    let uid = fs::metadata("/proc/self").unwrap().uid();
    let line = broker.await_words("client connected");
    assert!(line.contains(&format!("peer=unix(uid {uid}, ")), "{line}");
    assert!(line.contains(&format!("pid {})", process::id())), "{line}");
    assert!(line.contains(&format!("listener=unix:{}", path.display())), "{line}");
    // A message to itself.
    stream.write_all(b"\x82\x06\x00\x01\x00\x01t\x00").unwrap();
    assert_eq!(answer(&mut stream, 5), b"\x90\x03\x00\x01\x00");
    let payload = vec![b'x'; 100_000];
    let publish = [b"\x30\xa3\x8d\x06\x00\x01t".as_slice(), &payload].concat();
    stream.write_all(&publish).unwrap();
    assert_eq!(answer(&mut stream, publish.len()), publish);
    // The end of the connection is noticed.
    drop(stream);
    broker.await_words("the client has closed the connection without DISCONNECT");
    broker.stop();
    assert!(!path.exists(), "the broker removes what it has made");
}

#[test]
fn a_path_that_is_taken_refuses_the_start() {
    let taken = socket_file("taken");
    let other = UnixListener::bind(&taken).unwrap();
    assert_refused(&taken, "another program is listening on this address");
    assert!(fs::metadata(&taken).unwrap().file_type().is_socket());
    drop(other);
    fs::remove_file(&taken).unwrap();
    fs::write(&taken, "not a socket").unwrap();
    assert_refused(&taken, "there is a file that is no socket");
    assert_eq!(fs::read(&taken).unwrap(), b"not a socket");
    fs::remove_file(&taken).unwrap();
    assert_refused(Path::new("/nonexistent/folder/socket"), "No such file or directory");
}

fn assert_refused(path: &Path, words: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmq"));
    let output = command.arg("--listen-unix").arg(path).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("cannot listen on unix:{}: ", path.display())), "{said}");
    assert!(said.contains(words) && said.lines().count() == 1, "{said}");
}

/// A reload adds and removes it like any other listener.
#[test]
fn a_reload_makes_and_removes_the_file() {
    let (first, second, file) =
        (socket_file("first"), socket_file("second"), socket_file("reload.toml"));
    let write = |path: &Path| {
        let text = format!(
            "[[listener]]\naddress = \"127.0.0.1:0\"\n[[listener]]\naddress = \"{}\"\n",
            path.display()
        );
        fs::write(&file, text).unwrap();
    };
    write(&first);
    let mut broker = Broker::ringmq_configured(file.to_str().unwrap());
    let mut stream = UnixStream::connect(&first).unwrap();
    stream.write_all(CONNECT).unwrap();
    assert_eq!(answer(&mut stream, CONNACK.len()), CONNACK);
    write(&second);
    broker.signal("HUP");
    broker.await_words("listening on a further address");
    let mut later = UnixStream::connect(&second).unwrap();
    let [packet @ .., _] = CONNECT else { unreachable!("it is not empty") };
    later.write_all(&[packet, b"b"].concat()).unwrap();
    assert_eq!(answer(&mut later, CONNACK.len()), CONNACK);
    // The connection stays, while each shard closes its socket.
    for _ in 0..ROUNDS_MAX {
        stream.write_all(b"\xC0\x00").unwrap();
        assert_eq!(answer(&mut stream, 2), b"\xD0\x00");
        if !first.exists() {
            break;
        }
    }
    UnixStream::connect(&first).unwrap_err();
    broker.stop();
    assert!(!first.exists() && !second.exists());
    fs::remove_file(file).unwrap();
}
