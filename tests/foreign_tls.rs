//! Clients that others wrote, against ringmq over TLS: in each version, with a certificate of their
//! own, and over WebSocket over TLS. OpenSSL resumes its sessions.
//!
//! The scenarios are those of `foreign_clients`. `scripts/test.sh` installs the clients.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "foreign/broker.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod broker;
#[path = "foreign/script.rs"]
#[expect(dead_code, reason = "these tests name the port of a script")]
mod script;

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use broker::Broker;
use script::{Door, Script};

/// SCRAM and Topic Aliases for those who ask for them.
const FLAGS: [&str; 11] = [
    "--scram-file",
    "tests/foreign/scram-users.txt",
    "--allow-anonymous",
    "--topic-aliases=32",
    "--listen-tls",
    "127.0.0.1:0",
    "--listen-websocket-tls",
    "127.0.0.1:0",
    "--tls-cert=tests/tls/server.pem",
    "--tls-key=tests/tls/server-key.pem",
    "--connect-timeout=5",
];
/// Clients show a certificate.
const MUTUAL: [&str; 2] =
    ["--tls-client-ca=tests/tls/client-ca.pem", "--tls-crl=tests/tls/revoked.pem"];
const CERTIFICATE: [(&str, &str); 2] =
    [("TLS_CERT", "tests/tls/ada.pem"), ("TLS_KEY", "tests/tls/ada-key.pem")];

const PAHO: Client =
    Client { program: PYTHON, path: "tests/foreign/paho_client.py", count: 33 + 21 };
const MQTTJS: Client = Client { program: "node", path: "tests/foreign/mqttjs.mjs", count: 33 + 27 };
const MOSQUITTO: Client = Client { program: "bash", path: "tests/foreign/mosquitto.sh", count: 33 };
const PYTHON: &str = "target/foreign/venv/bin/python";

/// A script, and the number of its scenarios.
struct Client {
    program: &'static str,
    path: &'static str,
    count: usize,
}

#[test]
fn paho_mqtt_over_tls() {
    PAHO.passes_over_both_versions();
    PAHO.passes_over_websocket();
}

#[test]
fn mqttjs_over_tls() {
    script::requires("target/foreign/node/node_modules/mqtt/package.json");
    MQTTJS.passes_over_both_versions();
    MQTTJS.passes_over_websocket();
}

#[test]
fn mosquitto_clients_over_tls() {
    script::requires("/usr/bin/mosquitto_sub");
    MOSQUITTO.passes_over_both_versions();
}

impl Client {
    /// Over TLS 1.3 with a certificate.
    fn passes_over_both_versions(&self) {
        let (older, port) = broker("mqtts", &[]);
        self.passes(older, port, &[("TRANSPORT", "tcp"), ("TLS_VERSION", "1.2")]);
        let (newer, port) = broker("mqtts", &MUTUAL);
        let env = [[("TRANSPORT", "tcp"), ("TLS_VERSION", "1.3")], CERTIFICATE].concat();
        self.passes(newer, port, &env);
    }

    fn passes_over_websocket(&self) {
        let (broker, port) = broker("wss", &[]);
        self.passes(broker, port, &[("TRANSPORT", "websockets"), ("TLS_VERSION", "1.3")]);
    }

    fn passes(&self, broker: Broker, port: u16, env: &[(&'static str, &'static str)]) {
        let env = [env, &[("TLS_CA", "tests/tls/ca.pem")]].concat();
        let script = Script { program: self.program, path: self.path };
        script.passes_at(&broker, &Door { port, env }, self.count);
        broker.stop();
    }
}

/// A broker on two shards, and the port of its listener for this scheme.
fn broker(scheme: &str, more: &[&str]) -> (Broker, u16) {
    let mut broker = Broker::ringmq_with(2, &[&FLAGS, more].concat());
    let port = broker.await_port(scheme);
    (broker, port)
}

/// A client that reconnects pays for one handshake, not for six.
#[test]
fn openssl_resumes_a_session_of_tls_1_2() {
    let (broker, port) = broker("mqtts", &[]);
    let said = s_client(port, &["-tls1_2", "-reconnect"]);
    assert_eq!(said.matches("\nNew, ").count(), 1, "{said}");
    assert_eq!(said.matches("\nReused, ").count(), 5, "{said}");
    broker.stop();
}

#[test]
fn openssl_resumes_a_session_of_tls_1_3() {
    let (broker, port) = broker("mqtts", &[]);
    let session = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("session-{port}.pem"));
    let name = session.to_str().unwrap();
    let said = s_client(port, &["-tls1_3", "-sess_out", name]);
    assert!(said.contains("\nNew, TLSv1.3"), "{said}");
    let said = s_client(port, &["-tls1_3", "-sess_in", name]);
    assert!(said.contains("\nReused, TLSv1.3"), "{said}");
    fs::remove_file(session).unwrap();
    broker.stop();
}

/// What OpenSSL says about a connection that sends CONNECT and DISCONNECT.
fn s_client(port: u16, flags: &[&str]) -> String {
    let address = format!("127.0.0.1:{port}");
    let mut process = Command::new("timeout")
        .args(["10", "openssl", "s_client", "-ign_eof", "-connect", &address])
        .args(["-CAfile", "tests/tls/ca.pem", "-verify_return_error"])
        .args(flags)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let packets = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01a\xe0\x00";
    process.stdin.take().unwrap().write_all(packets).unwrap();
    let output = process.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{} {said}", output.status);
    said
}
