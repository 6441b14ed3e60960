//! The HTTP server that is asked about clients: what each of its answers means, and that nobody is
//! let in by one that gives none, and that others do not wait for it.
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
    fs::{self, Permissions},
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use broker::Broker;
use client::{Client, encode};
use ringmq::mqtt::{Connect, Packet, QoS, ReasonCode, Version};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde_json::Value;

/// An HTTP server that answers as the user name says.
struct Server {
    port: u16,
    /// How many connections it has had.
    connections: Arc<AtomicUsize>,
    /// What it was asked.
    asked: mpsc::Receiver<Asked>,
}

struct Asked {
    question: Value,
    authorization: Option<String>,
}

impl Server {
    fn start() -> Server {
        Server::serving(Ok)
    }

    /// With the certificate of `tests/tls`, which is for localhost.
    fn secure() -> Server {
        let read = |name: &str| fs::read(Path::new("tests/tls").join(name)).unwrap();
        let chain = read("server.pem");
        let chain = CertificateDer::pem_slice_iter(&chain).map(Result::unwrap);
        let key = PrivateKeyDer::from_pem_slice(&read("server-key.pem")).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.collect(), key)
            .unwrap();
        let config = Arc::new(config);
        Server::serving(move |stream| {
            let connection =
                ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
            Ok(StreamOwned::new(connection, stream))
        })
    }

    fn serving<S: Read + Write>(
        wrap: impl Fn(TcpStream) -> io::Result<S> + Clone + Send + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, asked) = mpsc::channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                counter.fetch_add(1, Ordering::Relaxed);
                let (sender, wrap) = (sender.clone(), wrap.clone());
                thread::spawn(move || serve(wrap(stream).ok()?, &sender));
            }
        });
        Server { port, connections, asked }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/auth?for=mqtt", self.port)
    }
}

/// Answers the questions of one connection until one ends it. A test that has ended asks no more.
fn serve(stream: impl Read + Write, asked: &mpsc::Sender<Asked>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut length, mut authorization, mut line) = (0, None, String::new());
        reader.read_line(&mut line).ok()?;
        if line.is_empty() {
            return None;
        }
        assert!(line.starts_with("POST /auth?for=mqtt HTTP/1.1"), "{line}");
        while line.trim() != "" {
            line.clear();
            reader.read_line(&mut line).ok()?;
            let (name, value) = line.split_once(':').unwrap_or_default();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap(),
                "authorization" => authorization = Some(value.trim().to_owned()),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let question: Value = serde_json::from_slice(&body).unwrap();
        let user_name = question["username"].as_str().unwrap_or_default().to_owned();
        drop(asked.send(Asked { question, authorization }));
        let stream = reader.get_mut();
        match user_name.as_str() {
            // Until the broker has given up.
            "hang" => drop(stream.read(&mut [0])),
            "trickle" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n").ok()?;
                while stream.write_all(b"X: y\r\n").is_ok() {}
            }
            "endless" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").ok()?;
                while stream.write_all(b"4\r\n    \r\n").is_ok() {}
            }
            _ => {}
        }
        stream.write_all(answer(&user_name)?.as_bytes()).ok()?;
        stream.flush().ok()?;
    }
}

fn answer(user_name: &str) -> Option<String> {
    let json = |body: &str| {
        let length = body.len();
        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}")
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    Some(match user_name {
        "ada" => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        "allowed" => json(r#"{"result":"allow"}"#),
        "super" => json(r#"{"result":"allow","is_superuser":true}"#),
        "limited" => json(r#"{"result":"allow","acl":{"sub":["mine/${username}"]}}"#),
        "room" => json(
            r#"{"result":"allow","client_attrs":{"room":"room"},
                "acl":[{"permission":"allow","action":"all",
                        "topic":"mine/${client_attrs.room}"}]}"#,
        ),
        "short" => json(&format!(r#"{{"result":"allow","expire_at":{}}}"#, now + 2)),
        "over" => json(&format!(r#"{{"result":"allow","expire_at":{}}}"#, now - 2)),
        "denied" => json(r#"{"result":"deny"}"#),
        "ignored" | "alice" => json(r#"{"result":"ignore"}"#),
        "unauthorized" => "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "failed" => "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "moved" => {
            "HTTP/1.1 302 Found\r\nLocation: /auth?for=mqtt\r\nContent-Length: 0\r\n\r\n".to_owned()
        }
        "nonsense" => json("<html>welcome</html>"),
        "long" => json(&format!(r#"{{"result":"allow","x":"{}"}}"#, "x".repeat(100_000))),
        "unfinished" => "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{".to_owned(),
        "rubbish" => "hello\r\n\r\n".to_owned(),
        _ => return None,
    })
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// A file that only its owner may read.
fn secret_file(name: &str, text: &str) -> String {
    let path = path(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A client with this user name, from an address of its own, whose CONNACK was not read.
fn begin(broker: &Broker, user_name: &str, client_id: &str, ip: u8) -> Client {
    let mut connect = Connect::new(Version::V5, client_id);
    connect.user_name = Some(user_name);
    connect.password = Some(b"correct-horse");
    let mut client = Client::open_from(broker.port(), Version::V5, [127, 0, 3, ip]);
    client.send(&encode(&Packet::Connect(connect), Version::V5));
    client
}

fn connack(client: &mut Client) -> ReasonCode {
    let code = client.next(|packet| match packet {
        Packet::Connack(connack) => connack.reason_code,
        other => panic!("{other:?}"),
    });
    code.unwrap()
}

fn log_in(broker: &Broker, user_name: &str, ip: u8) -> (Client, ReasonCode) {
    let mut client = begin(broker, user_name, user_name, ip);
    let code = connack(&mut client);
    (client, code)
}

/// Whether a subscription is granted.
fn may_subscribe(client: &mut Client, filter: &str) -> bool {
    client.send(&client::subscribe(Version::V5, filter, QoS::AtMostOnce));
    let code = client.next(|packet| match packet {
        Packet::Suback(suback) => suback.reason_codes.to_vec()[0],
        other => panic!("{other:?}"),
    });
    code.unwrap() < 0x80
}

#[test]
fn each_answer_lets_in_with_its_rights_or_refuses() {
    let server = Server::start();
    let rights = path("rights-beside-the-hook");
    fs::write(&rights, "pattern read all/%u").unwrap();
    let header = secret_file("hook-header", "# For the server.\nAuthorization: Bearer of-ringmq\n");
    let url = server.url();
    let flags = ["--auth-http-url", &url, "--acl-file", rights.to_str().unwrap()];
    let flags = [&flags[..], &["--auth-http-header-file", &header]].concat();
    let mut broker = Broker::ringmq_with(2, &flags);
    let (_ada, code) = log_in(&broker, "ada", 1);
    assert_eq!(code, ReasonCode::Success);
    let Asked { question, authorization } = server.asked.recv().unwrap();
    assert_eq!((&question["clientid"], &question["username"]), (&"ada".into(), &"ada".into()));
    assert_eq!(question["password"], "correct-horse");
    assert_eq!((&question["peerhost"], &question["proto_ver"]), (&"127.0.3.1".into(), &5.into()));
    assert_eq!(authorization.as_deref(), Some("Bearer of-ringmq"));
    for (ip, name, of_all, of_mine, of_others) in [
        (2, "allowed", true, false, false),
        (3, "super", true, true, true),
        (4, "limited", false, true, false),
        (5, "room", true, true, false),
    ] {
        let (mut client, code) = log_in(&broker, name, ip);
        assert_eq!(code, ReasonCode::Success, "{name}");
        let granted = [format!("all/{name}"), format!("mine/{name}"), "x".to_owned()]
            .map(|filter| may_subscribe(&mut client, &filter));
        assert_eq!(granted, [of_all, of_mine, of_others], "{name}");
    }
    for (ip, name) in [(6, "denied"), (7, "ignored"), (8, "unauthorized"), (9, "over")] {
        let code = log_in(&broker, name, ip).1;
        assert_eq!(code, ReasonCode::BadUserNameOrPassword, "{name}");
    }
    let (mut short, code) = log_in(&broker, "short", 10);
    assert_eq!(code, ReasonCode::Success);
    // The client reads until the broker says something.
    let farewell = short.next(|packet| match packet {
        Packet::Disconnect(disconnect) => disconnect.reason_code,
        other => panic!("{other:?}"),
    });
    assert_eq!(farewell, Some(ReasonCode::MaximumConnectTime));
    // One connection was enough for all that came one after the other.
    assert_eq!(server.connections.load(Ordering::Relaxed), 1);
    assert_eq!(log_in(&broker, "failed", 11).1, ReasonCode::ServerUnavailable);
    broker.await_words("it answered with status 500");
    for secret in ["correct-horse", "of-ringmq", "for=mqtt"] {
        assert!(!broker.has_said(secret), "{secret}");
    }
    broker.stop();
}

#[test]
fn what_is_no_answer_lets_nobody_in() {
    let server = Server::start();
    for (name, words) in [
        ("failed", "it answered with status 500"),
        ("moved", "it answered with a redirect (302), which is not followed"),
        ("nonsense", "its answer cannot be understood"),
        ("long", "its answer is too long"),
        ("endless", "its answer is too long"),
        ("unfinished", "no answer came in time"),
        ("rubbish", "it does not speak HTTP as it should"),
        ("trickle", "it does not speak HTTP as it should"),
        ("closed", "it does not speak HTTP as it should"),
        ("hang", "no answer came in time"),
    ] {
        let url = server.url();
        let flags = ["--auth-http-url", &url, "--auth-http-timeout", "1"];
        // One with a log of its own, whose lines about this are few.
        let mut broker = Broker::ringmq_with(1, &flags);
        let code = log_in(&broker, name, 1).1;
        assert_eq!(code, ReasonCode::ServerUnavailable, "{name}");
        broker.await_words(words);
        // The next one is asked about all the same.
        assert_eq!(log_in(&broker, "ada", 2).1, ReasonCode::Success, "{name}");
        broker.stop();
    }
}

#[test]
fn a_server_that_hangs_has_few_connections_and_tokens_do_not_wait_for_it() {
    let server = Server::start();
    let key = secret_file("key-beside-the-hook", "0123456789abcdef0123456789abcdef");
    let url = server.url();
    let flags = ["--auth-http-url", &url, "--auth-http-timeout", "1", "--jwt-key-file", &key];
    let flags = [&flags[..], &["--auth-http-connections", "3", "--connect-timeout", "4"]].concat();
    let broker = Broker::ringmq_with(2, &flags);
    let mut waiting: Vec<Client> =
        (20..100).map(|ip| begin(&broker, "hang", &format!("hang {ip}"), ip)).collect();
    server.asked.recv().unwrap();
    let mut connect = Connect::new(Version::V5, "with a token");
    let claims = serde_json::json!({"sub": "ada", "exp": 4_000_000_000_u64});
    let secret = jsonwebtoken::EncodingKey::from_secret(b"0123456789abcdef0123456789abcdef");
    let secret = secret.unwrap();
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &secret).unwrap();
    connect.password = Some(token.as_bytes());
    let mut ada = Client::open_from(broker.port(), Version::V5, [127, 0, 3, 1]);
    ada.send(&encode(&Packet::Connect(connect), Version::V5));
    assert_eq!(connack(&mut ada), ReasonCode::Success);
    for client in &mut waiting {
        let code = connack(client);
        let is_refused = matches!(code, ReasonCode::ServerUnavailable | ReasonCode::ServerBusy);
        assert!(is_refused, "{code:?}");
    }
    // Each question that hangs ends its connection: three in a second, for two seconds, and as many
    // that waited and are begun too late.
    let connections = server.connections.load(Ordering::Relaxed);
    assert!((3..=40).contains(&connections), "{connections} connections to the server");
    broker.stop();
}

#[test]
fn the_password_file_decides_what_the_server_leaves_to_it() {
    let server = Server::start();
    let users = path("passwords-beside-the-hook");
    fs::write(&users, format!("alice:{HASH}")).unwrap();
    let (url, users) = (server.url(), users.to_str().unwrap());
    let broker = Broker::ringmq_with(2, &["--auth-http-url", &url, "--password-file", users]);
    assert_eq!(log_in(&broker, "alice", 1).1, ReasonCode::Success);
    assert_eq!(log_in(&broker, "ignored", 2).1, ReasonCode::BadUserNameOrPassword);
    assert_eq!(log_in(&broker, "denied", 3).1, ReasonCode::BadUserNameOrPassword);
    assert_eq!(log_in(&broker, "ada", 4).1, ReasonCode::Success);
    broker.stop();
}

/// That of `correct-horse`.
const HASH: &str = "$7$101$PxkC23maIR3STJZx$\
    WWEGb43HNXbS9iXF693jd7G6h0EPrnoWMNoi/SVtX584YaWxQ8xbiKQiYwnC4bBitImJS1+K6nAlFjiYcDg3DA==";

#[test]
fn tls_proves_who_the_server_is() {
    let server = Server::secure();
    let url = |host: &str| format!("https://{host}:{}/auth?for=mqtt", server.port);
    for (host, ca, words) in [
        ("localhost", "tests/tls/ca.pem", None),
        ("localhost", "tests/tls/stranger-ca.pem", Some("TLS with it has failed")),
        ("127.0.0.2", "tests/tls/ca.pem", Some("cannot be reached")),
    ] {
        let url = url(host);
        let flags = ["--auth-http-url", &url, "--auth-http-ca", ca];
        let mut broker = Broker::ringmq_with(1, &flags);
        let code = log_in(&broker, "ada", 1).1;
        match words {
            None => assert_eq!(code, ReasonCode::Success, "{host} {ca}"),
            Some(words) => {
                assert_eq!(code, ReasonCode::ServerUnavailable, "{host} {ca}");
                broker.await_words(words);
            }
        }
        broker.stop();
    }
}

#[test]
fn a_server_that_is_not_there_lets_nobody_in_and_a_reload_names_another_one() {
    let server = Server::start();
    let nobody: SocketAddr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let file = path("auth-http.toml");
    let text = |url: &str| {
        format!("[network]\nlisten = [\"127.0.0.1:0\"]\n[http-hook]\nauth-http-url = \"{url}\"\n")
    };
    fs::write(&file, text(&format!("http://{nobody}/"))).unwrap();
    let mut broker = Broker::ringmq_configured(file.to_str().unwrap());
    assert_eq!(log_in(&broker, "ada", 1).1, ReasonCode::ServerUnavailable);
    broker.await_words("it cannot be reached");
    fs::write(&file, text("ftp://127.0.0.1/")).unwrap();
    broker.signal("HUP");
    broker.await_words("the configuration stays as it was: --auth-http-url");
    fs::write(&file, text(&server.url())).unwrap();
    broker.signal("HUP");
    broker.await_words("the configuration was read again");
    // Each shard takes the rules in a turn of its own, soon.
    let is_in = |_| log_in(&broker, "ada", 2).1 == ReasonCode::Success;
    assert!((0..1_000).any(is_in));
    broker.stop();
}

#[test]
fn wrong_settings_refuse_the_start_and_check_tells_of_them() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_ringmq")).args(arguments).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(said).unwrap())
    };
    let url = ["check", "--auth-http-url", "http://localhost/"];
    let (status, said) = run(&url);
    assert!(status == 0 && said.contains("would ask http://localhost/ about clients"), "{said}");
    let secure = ["check", "--auth-http-url", "HTTPS://localhost/"];
    let bad = secret_file("bad-header", "Host: hidden-value\n");
    let open = path("open-header");
    fs::write(&open, "A: b\n").unwrap();
    fs::set_permissions(&open, Permissions::from_mode(0o644)).unwrap();
    let open = open.to_str().unwrap();
    for (arguments, words) in [
        (&["check", "--auth-http-url", "localhost"][..], "the URL has to be http://"),
        (&["--auth-http-url", "http://a:b@c/", "--listen", "127.0.0.1:0"], "Authorization"),
        (&[&url[..], &["--auth-http-header-file", &bad]].concat(), "\"Host\" cannot be sent"),
        (&[&url[..], &["--auth-http-header-file", open]].concat(), "chmod 600"),
        (&[&url[..], &["--auth-http-header-file", "/nowhere"]].concat(), "/nowhere"),
        (&[&secure[..], &["--auth-http-ca", "/nowhere"]].concat(), "--auth-http-ca /nowhere"),
        (&[&url[..], &["--auth-http-ca", "/nowhere"]].concat(), "begins with https:"),
    ] {
        let (status, said) = run(arguments);
        assert!(status == 1 && said.contains(words), "{arguments:?}: {said}");
        assert!(!said.contains("hidden-value"), "{said}");
    }
}
