//! JSON Web Tokens with the keys of openssl: who is let in by the broker as its users start it, and
//! what a reload of the keys changes.
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
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use broker::Broker;
use client::{Client, encode};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode as sign};
use ringmq::mqtt::{Connect, Packet, ReasonCode, Version};
use serde_json::{Value, json};

/// A key pair of openssl.
struct Pair {
    private: Vec<u8>,
    public: PathBuf,
    algorithm: Algorithm,
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn openssl(arguments: &[&str]) {
    let done = Command::new("openssl").args(arguments).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

impl Pair {
    fn new(name: &str, algorithm: Algorithm, of: &[&str]) -> Pair {
        let (key, public) = (path(&format!("{name}.key")), path(&format!("{name}.pem")));
        let [key_path, public_path] = [&key, &public].map(|path| path.to_str().unwrap());
        openssl(&[&["genpkey", "-out", key_path, "-algorithm"], of].concat());
        openssl(&["pkey", "-in", key_path, "-pubout", "-out", public_path]);
        Pair { private: fs::read(key).unwrap(), public, algorithm }
    }

    fn p256(name: &str) -> Pair {
        Pair::new(name, Algorithm::ES256, &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"])
    }

    fn token(&self, claims: &Value) -> String {
        let key = match self.algorithm {
            Algorithm::ES256 => EncodingKey::from_ec_pem(&self.private),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(&self.private),
            _ => EncodingKey::from_rsa_pem(&self.private),
        };
        sign(&Header::new(self.algorithm), claims, &key.unwrap()).unwrap()
    }

    /// A token for `ada` that lasts for so many seconds.
    fn lasting(&self, seconds: u64) -> String {
        self.token(&json!({"sub": "ada", "exp": now() + seconds}))
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// What a client with this token is answered, from an address of its own.
fn log_in(broker: &Broker, version: Version, token: &str, ip: u8) -> (Client, ReasonCode) {
    let mut connect = Connect::new(version, "client");
    connect.user_name = Some("ada");
    connect.password = Some(token.as_bytes());
    let mut client = Client::open_from(broker.port(), version, [127, 0, 1, ip]);
    client.send(&encode(&Packet::Connect(connect), version));
    let code = client.next(|packet| match packet {
        Packet::Connack(connack) => connack.reason_code,
        other => panic!("{other:?}"),
    });
    (client, code.unwrap())
}

#[test]
fn tokens_of_the_keys_of_openssl_let_in_and_all_others_are_told_why_not() {
    let stranger = Pair::p256("stranger");
    for (algorithm, of) in [
        (Algorithm::ES256, &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"][..]),
        (Algorithm::RS256, &["RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
        (Algorithm::EdDSA, &["ed25519"]),
    ] {
        let pair = Pair::new(&format!("{algorithm:?}"), algorithm, of);
        let key = pair.public.to_str().unwrap();
        let mut broker = Broker::ringmq_with(2, &["--jwt-key-file", key]);
        for version in [Version::V311, Version::V5] {
            let good = pair.lasting(600);
            assert_eq!(log_in(&broker, version, &good, 1).1, ReasonCode::Success);
            let claims = |more: Value| {
                let mut claims = json!({"sub": "ada", "exp": now() + 600});
                let (claims_of, more) = (claims.as_object_mut().unwrap(), more);
                claims_of.extend(more.as_object().unwrap().clone());
                pair.token(&claims)
            };
            let (body, signature) = good.rsplit_once('.').unwrap();
            let other = if signature.as_bytes()[20] == b'A' { 'B' } else { 'A' };
            let changed = format!("{body}.{}{other}{}", &signature[..20], &signature[21..]);
            for (ip, bad, code) in [
                (2, stranger.lasting(600), ReasonCode::BadUserNameOrPassword),
                (3, changed, ReasonCode::BadUserNameOrPassword),
                (4, good.replace('.', "!"), ReasonCode::BadUserNameOrPassword),
                (5, "x".repeat(60_000), ReasonCode::BadUserNameOrPassword),
                (6, claims(json!({"exp": now() - 1})), ReasonCode::NotAuthorized),
                (7, claims(json!({"nbf": now() + 600})), ReasonCode::NotAuthorized),
                (8, claims(json!({"sub": "bob"})), ReasonCode::NotAuthorized),
                (9, claims(json!({"acl": "everything"})), ReasonCode::NotAuthorized),
            ] {
                assert_eq!(log_in(&broker, version, &bad, ip).1, code, "{bad:.40}");
            }
        }
        broker.await_words("the signature of the token is wrong");
        broker.await_words("the token has expired");
        assert!(!broker.has_said("eyJ"), "the log has a token");
        broker.stop();
    }
}

#[test]
fn a_connection_ends_with_its_token() {
    let pair = Pair::p256("ending");
    let broker = Broker::ringmq_with(2, &["--jwt-key-file", pair.public.to_str().unwrap()]);
    let expires_at = now() + 3;
    let token = pair.token(&json!({"sub": "ada", "exp": expires_at}));
    let (mut client, code) = log_in(&broker, Version::V5, &token, 1);
    assert_eq!(code, ReasonCode::Success);
    // The client reads until the broker says something.
    let farewell = client.next(|packet| match packet {
        Packet::Disconnect(disconnect) => disconnect.reason_code,
        other => panic!("{other:?}"),
    });
    assert_eq!(farewell, Some(ReasonCode::MaximumConnectTime));
    assert!((expires_at..=expires_at + 1).contains(&now()));
    broker.stop();
}

#[test]
fn sighup_reads_the_keys_again() {
    let (one, other) = (Pair::p256("one"), Pair::p256("other"));
    let file = path("current.pem");
    fs::copy(&one.public, &file).unwrap();
    let flags = ["--jwt-key-file", file.to_str().unwrap()];
    let mut broker = Broker::ringmq_with(2, &flags);
    let (mut stays, code) = log_in(&broker, Version::V5, &one.lasting(600), 1);
    assert_eq!(code, ReasonCode::Success);
    let holds = |broker: &Broker, is_in: &Pair, is_out: &Pair| {
        // Each shard takes the keys in a turn of its own, soon.
        let lets_in = |n: u8, pair: &Pair| {
            let mut connect = Connect::new(Version::V5, "");
            let token = pair.lasting(600);
            connect.password = Some(token.as_bytes());
            let mut client = Client::open_from(broker.port(), Version::V5, [127, 0, 2, n]);
            client.send(&encode(&Packet::Connect(connect), Version::V5));
            client.next(|packet| match packet {
                Packet::Connack(connack) => connack.reason_code == ReasonCode::Success,
                other => panic!("{other:?}"),
            })
        };
        let holds = |n| lets_in(n, is_in) == Some(true) && lets_in(n, is_out) == Some(false);
        (1..250).find(|&n| (n..n + 4).all(holds)).is_some()
    };
    fs::copy(&other.public, &file).unwrap();
    broker.signal("HUP");
    broker.await_words("the configuration was read again");
    assert!(holds(&broker, &other, &one));
    fs::write(&file, "too short").unwrap();
    broker.signal("HUP");
    broker.await_words("the configuration stays as it was: key file for tokens");
    assert!(holds(&broker, &other, &one));
    stays.ping();
    broker.stop();
}

/// A server that gives each of these answers once, on a connection of its own, and says when it has
/// been asked.
fn serve(answers: mpsc::Receiver<String>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            assert!(line.starts_with("GET /keys HTTP/1.1"), "{line}");
            while line.trim() != "" {
                line.clear();
                stream.read_line(&mut line).unwrap();
            }
            // A test that has ended answers nothing more.
            let Ok(answer) = answers.recv() else { return };
            // The broker may have given up.
            drop(stream.get_mut().write_all(answer.as_bytes()));
        }
    });
    port
}

#[test]
fn keys_come_from_a_url_and_go_on_when_it_fails() {
    let (answers, given) = mpsc::channel();
    let url = format!("http://127.0.0.1:{}/keys", serve(given));
    let mut broker = Broker::ringmq_with(2, &["--jwt-jwks-url", &url, "--jwt-jwks-interval", "1"]);
    let signed = include_str!("jwt/tokens.txt").lines().find(|line| line.contains("EdDSA"));
    let token = signed.unwrap().rsplit_once(' ').unwrap().1;
    let code = |broker: &Broker, ip| log_in(broker, Version::V5, token, ip).1;
    assert_eq!(code(&broker, 1), ReasonCode::ServerUnavailable);
    let answer = |status: &str, body: &str| {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}");
        answers.send(format!("{head}\r\n\r\n{body}")).unwrap();
    };
    answer("503 Soon", "");
    broker.await_words("--jwt-jwks-url gives no new keys");
    assert_eq!(code(&broker, 2), ReasonCode::ServerUnavailable);
    let set = include_str!("jwt/jwks.json");
    answer("200 OK", set);
    broker.await_words("the keys of tokens were fetched");
    assert_eq!(code(&broker, 3), ReasonCode::Success);
    for (status, body, words) in [
        ("200 OK", "a secret that is long enough to be one", "the JWK Set cannot be read"),
        ("302 Found", "", "it answered with a redirect (302), which is not followed"),
    ] {
        answer(status, body);
        broker.await_words(words);
        assert_eq!(code(&broker, 4), ReasonCode::Success, "{status}");
    }
    answer("200 OK", &set.replace("\"OKP\"", "\"OKPX\""));
    broker.await_words("the keys of tokens were fetched keys=2");
    assert_eq!(code(&broker, 5), ReasonCode::BadUserNameOrPassword);
    broker.stop();
}

#[test]
fn a_wrong_key_file_refuses_the_start_and_check_tells_of_it() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_ringmq")).args(arguments).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(said).unwrap())
    };
    let (good, bad) = (path("good-secret"), path("bad-secret"));
    fs::write(&good, "0123456789abcdef0123456789abcdef\n").unwrap();
    fs::write(&bad, "short").unwrap();
    let [good, bad] = [&good, &bad].map(|path| path.to_str().unwrap());
    let (status, said) = run(&["check", "--jwt-key-file", good]);
    assert!(status == 0 && said.contains("keys for tokens: 1"), "{said}");
    for arguments in
        [&["check", "--jwt-key-file", bad][..], &["--jwt-key-file", bad, "--listen", "127.0.0.1:0"]]
    {
        let (status, said) = run(arguments);
        assert!(status == 1 && said.contains("less than 32 bytes"), "{said}");
        assert!(said.contains(bad), "{said}");
    }
}
