//! The broker as its users start it: flags, signals, descriptors, and memory.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "foreign/broker.rs"]
#[expect(dead_code, reason = "the foreign clients' tests use the rest of it")]
mod broker;
#[path = "support/client.rs"]
mod client;
#[path = "support/source.rs"]
mod source;

use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    net::{Shutdown, TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use broker::Broker;
use client::{Client, connect, encode, resident, subscribe};
use ringmq::mqtt::{
    Ack, Connect, Delivery, Packet, PacketId, Publish, PublishProperties, QoS, ReasonCode, Version,
    Will, WillProperties,
};

fn publish(version: Version, topic: &str, payload: &[u8]) -> Vec<u8> {
    encode(&Packet::Publish(small_publish(topic, payload)), version)
}

fn small_publish<'a>(topic: &'a str, payload: &'a [u8]) -> Publish<'a> {
    Publish {
        dup: false,
        retain: false,
        delivery: Delivery::AtMostOnce,
        topic,
        properties: PublishProperties::default(),
        payload,
    }
}

fn descriptors(broker: &Broker) -> usize {
    fs::read_dir(format!("/proc/{}/fd", broker.pid())).unwrap().count()
}

/// Runs a broker that is to refuse, and says its status and what it printed on standard error.
fn refused(flags: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ringmq")).args(flags).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn what_cannot_be_run_is_refused_in_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let missing = ["--listen", "127.0.0.1:0", "--password-file", "/nonexistent/passwords"];
    for (flags, status, words) in [
        (&["--listen", &taken][..], 1, "another program is listening on this address"),
        (&missing[..], 1, "/nonexistent/passwords"),
        (&["--shards", "0"][..], 2, "--shards"),
        (&["--listen", "nowhere"][..], 2, "nowhere"),
        (&["--no-such-flag"][..], 2, "--no-such-flag"),
        (&["--listen", "0.0.0.0:0"][..], 2, "--allow-anonymous"),
    ] {
        let (code, said) = refused(flags);
        assert_eq!(code, status, "{flags:?}: {said}");
        assert!(said.contains(words), "{flags:?}: {said}");
        let lines = said.lines().filter(|line| !line.is_empty()).count();
        assert!(status == 2 || lines == 1, "{flags:?}: {said}");
    }
}

#[test]
fn check_says_what_would_be_served_or_all_that_is_wrong() {
    let check = |flags: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringmq"));
        let output = command.arg("check").args(flags).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(said).unwrap())
    };
    // An address in use is no fault of the configuration.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let (status, said) = check(&["--listen", &taken, "--shards", "1"]);
    assert_eq!(status, 0, "{said}");
    let words = format!("would listen on {taken}, anonymous clients are let in\nshards: 1");
    assert!(said.contains(&words), "{said}");
    let (status, said) = check(&["--password-file", "/no/passwords", "--scram-file", "/no/scram"]);
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("/no/passwords") && said.contains("/no/scram"), "{said}");
    assert_eq!(check(&["--shards", "0"]).0, 2);
    assert_eq!(refused(&["run", "--listen", "nowhere"]).0, 2);
}

/// The flags are over the environment, and the environment over the file.
#[test]
fn a_configuration_file_is_served_and_a_wrong_one_refused_by_line() {
    let path = std::env::temp_dir().join(format!("ringmq-process-{}.toml", std::process::id()));
    fs::write(&path, "[network]\nlisten = 0\n[shards]\nshards = 4\n[limits]\nmax-qos = 1\n")
        .unwrap();
    let file = path.to_str().unwrap();
    let (code, said) = refused(&["--config", file]);
    assert_eq!(code, 2, "{said}");
    let line =
        format!("ringmq: {file}:6: the key `max-qos` belongs into [features], not [limits]\n");
    assert_eq!(said, line);
    fs::write(&path, "[network]\nlisten = 0\n[shards]\nshards = 4\n").unwrap();
    let check = |variable: &str, flags: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringmq"));
        command.args(["check", "--config", file]).args(flags).env("RINGMQ_SHARDS", variable);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    for (variable, flags, shards) in [("", &[][..], 4), ("3", &[], 3), ("3", &["--shards", "2"], 2)]
    {
        let said = check(variable, flags);
        assert!(said.contains("would listen on 127.0.0.1:0"), "{said}");
        assert!(said.contains(&format!("shards: {shards},")), "{said}");
    }
    let broker = Broker::ringmq_with(1, &["--config", file]);
    Client::connect(&broker, Version::V5, "a").ping();
    broker.stop();
    fs::remove_file(path).unwrap();
}

/// A broker whose banner nobody can read serves its clients.
#[test]
fn the_banner_may_go_nowhere() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut broker = Command::new(env!("CARGO_BIN_EXE_ringmq"))
        .args(["--shards", "1", "--listen", &address.to_string()])
        .stdout(full)
        .spawn()
        .unwrap();
    let served = (0..500).any(|_| {
        thread::park_timeout(Duration::from_millis(10));
        TcpStream::connect(address).is_ok()
    });
    let running = broker.try_wait().unwrap().is_none();
    broker.kill().unwrap();
    broker.wait().unwrap();
    assert!(served && running);
}

#[test]
fn a_killed_broker_can_be_started_again_at_once() {
    let mut broker = Broker::ringmq(2);
    for _ in 0..5 {
        let address = format!("127.0.0.1:{}", broker.port());
        let clients: Vec<Client> =
            (0..50).map(|n| Client::connect(&broker, Version::V311, &format!("{n}"))).collect();
        // Killed, as every broker that is dropped.
        drop(broker);
        broker = Broker::ringmq_at(2, &address, &[]);
        Client::connect(&broker, Version::V311, "after").ping();
        drop(clients);
    }
    broker.stop();
}

#[test]
fn a_sender_that_is_refused_in_mid_packet_hears_of_it_soon() {
    let broker = Broker::ringmq(1);
    for megabytes in [8, 64] {
        for _ in 0..12 {
            let mut client = Client::connect(&broker, Version::V5, "large");
            let mut packet = vec![0x30, 0x80, 0x80, 0x80, megabytes / 2];
            packet.resize(5 + (usize::from(megabytes) << 20), 0);
            // It takes all, or a reset comes; a client that hangs runs into its timeout.
            if let Err(error) = client.stream.write_all(&packet) {
                assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe));
            }
            if megabytes == 8 {
                let code = client.next(|packet| match packet {
                    Packet::Disconnect(disconnect) => disconnect.reason_code,
                    other => panic!("{other:?}"),
                });
                assert_eq!(code, Some(ReasonCode::PacketTooLarge));
            }
        }
    }
    broker.stop();
}

/// The last bytes of a connection, among them its DISCONNECT, come before the CONNECT of the next
/// one, wherever that has landed: no message is lost, no Will published, no session kept.
/// [MQTT-3.14.4-3] [MQTT-3.1.2-10]
#[test]
fn what_was_sent_before_a_reconnect_is_handled_before_it() {
    const ROUNDS: usize = 400;
    let id = |round: usize| format!("again {}", round % 40);
    let leave = [0xE0, 7, 0, 5, 0x11, 0, 0, 0, 0];
    for shards in [2, 4] {
        let broker = Broker::ringmq(shards);
        let mut watcher = Client::connect(&broker, Version::V5, "watcher");
        watcher.subscribe("#", QoS::AtMostOnce);
        for round in 0..ROUNDS {
            let mut client = Client::open(&broker, Version::V5);
            let client_id = id(round);
            let mut connect = Connect::new(Version::V5, &client_id);
            connect.properties.session_expiry_interval = Some(60);
            connect.will = Some(Will {
                qos: QoS::AtMostOnce,
                retain: false,
                topic: "will",
                payload: b"gone",
                properties: WillProperties::default(),
            });
            client.send(&encode(&Packet::Connect(connect), Version::V5));
            client.next(|_| ());
            let mut last = Vec::new();
            for _ in 0..3 {
                last.extend(publish(Version::V5, "last", &[b'x'; 15_000]));
            }
            last.extend(leave);
            client.send(&last);
            drop(client);
            let mut again = Client::open(&broker, Version::V5);
            let mut connect = Connect::new(Version::V5, &client_id);
            connect.clean_start = false;
            again.send(&encode(&Packet::Connect(connect), Version::V5));
            let present = again.next(|packet| match packet {
                Packet::Connack(connack) => connack.session_present,
                other => panic!("{other:?}"),
            });
            assert_eq!(present, Some(false), "round {round} on {shards} shards");
            again.send(&leave);
            for _ in 0..3 {
                let topic = watcher.next(|packet| match packet {
                    Packet::Publish(publish) => publish.topic.to_string(),
                    other => panic!("{other:?}"),
                });
                assert_eq!(topic.as_deref(), Some("last"));
            }
        }
        broker.stop();
    }
}

/// The lines of these users in a password file; the password of each is `correct-horse`.
fn users(names: &[&str]) -> String {
    let line = |name| format!("{name}:{HASH}\n");
    names.iter().map(line).collect()
}

const HASH: &str = "$7$101$PxkC23maIR3STJZx$\
    WWEGb43HNXbS9iXF693jd7G6h0EPrnoWMNoi/SVtX584YaWxQ8xbiKQiYwnC4bBitImJS1+K6nAlFjiYcDg3DA==";

/// A client of this user, if it is let in.
fn log_in(broker: &Broker, user_name: &str, client_id: &str) -> Option<Client> {
    log_in_from(broker, [127, 0, 0, 1], user_name, client_id)
}

/// The same from this address of the machine.
fn log_in_from(broker: &Broker, ip: [u8; 4], user_name: &str, client_id: &str) -> Option<Client> {
    let mut connect = Connect::new(Version::V5, client_id);
    connect.user_name = Some(user_name);
    connect.password = Some(b"correct-horse");
    let mut client = Client::open_from(broker.port(), Version::V5, ip);
    client.send(&encode(&Packet::Connect(connect), Version::V5));
    let code = client.next(|packet| match packet {
        Packet::Connack(connack) => connack.reason_code,
        other => panic!("{other:?}"),
    });
    (code == Some(ReasonCode::Success)).then_some(client)
}

/// A file with the users `alice` and 0 to 9, whose passwords take a long time to check.
fn slow_users(name: &str, hash: &str) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let names = ["alice", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    fs::write(&path, names.map(|name| format!("{name}:{hash}")).join("\n")).unwrap();
    path.to_str().unwrap().to_owned()
}

/// `correct-horse` with a million rounds, and with ten thousand.
const SLOWEST_HASH: &str = "$7$1000000$MDEyMzQ1Njc4OWFi$\
    tiI3Q8kCkMYa6WWzuTO6UcahVOWjcsFnAXVae91+pUcU4TTknecd2ccp4eohBgBdU5xPLyTsq0nms2OCP5ULWA==";
const SLOW_HASH: &str = "$7$10000$MDEyMzQ1Njc4OWFi$\
    e32KhIHyR5jTTZxwoYzVzrxSGJIF89bvbrq/0ZggzewDWtDz3y3BxDUKJ124YD4wPZsPnbp3LV48nk4M50gDFw==";

/// A CONNECT of `alice`.
fn claim(client_id: &str, password: &[u8]) -> Vec<u8> {
    let mut connect = Connect::new(Version::V5, client_id);
    connect.user_name = Some("alice");
    connect.password = Some(password);
    encode(&Packet::Connect(connect), Version::V5)
}

#[test]
fn a_stopping_broker_waits_for_no_password_check() {
    let users = slow_users("slowest-passwords", SLOWEST_HASH);
    for shards in [1, 2] {
        let flags = ["--password-file", &users, "--stop-timeout", "1"];
        let mut broker = Broker::ringmq_with(shards, &flags);
        let clients: Vec<Client> = (0..100)
            .map(|n| {
                let mut client = Client::open(&broker, Version::V5);
                client.send(&claim(&format!("{n}"), b"correct-horse"));
                client
            })
            .collect();
        // Its answer shows that the CONNECT packets before it have come.
        let mut last = Client::open(&broker, Version::V5);
        last.send(&connect(Version::V5, "anonymous"));
        assert_eq!(last.next(|packet| matches!(packet, Packet::Connack(_))), Some(true));
        broker.ask_to_stop();
        broker.await_end();
        drop(clients);
    }
}

/// Two hundred clients of one address keep the threads busy. Clients of another address log in
/// meanwhile, each for the first time.
#[test]
fn a_crowd_with_slow_passwords_does_not_keep_others_from_logging_in() {
    let users = slow_users("slow-passwords", SLOW_HASH);
    let broker = Broker::ringmq_with(2, &["--password-file", &users]);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for n in 0..200 {
            let (port, stop) = (broker.port(), &stop);
            scope.spawn(move || {
                for _ in 0..10 {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let mut client = Client::open_from(port, Version::V5, [127, 0, 0, 2]);
                    client.send(&claim(&format!("crowd {n}"), b"guess"));
                    client.next(|_| ());
                }
            });
        }
        // A machine with much else to do may be busy for a while.
        let log_in = |n: usize| log_in(&broker, &n.to_string(), &format!("innocent {n}"));
        let let_in: Vec<bool> = (0..10).map(|n| (0..5).any(|_| log_in(n).is_some())).collect();
        stop.store(true, Ordering::Relaxed);
        assert_eq!(let_in, [true; 10]);
    });
    broker.stop();
}

/// The first read of the users waits for a pipe: the broker has begun then, and does not listen.
#[test]
fn a_sighup_before_the_broker_listens_is_obeyed_when_it_does() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("early-passwords");
    // It may be left from a run that was ended.
    drop(fs::remove_file(&path));
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let flags = ["--password-file", path.to_str().unwrap()];
    let mut broker = Broker::ringmq_about_to_listen(1, "127.0.0.1:0", &flags);
    let mut pipe = fs::OpenOptions::new().write(true).open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, users(&["alice"])).unwrap();
    broker.signal("HUP");
    pipe.write_all(b"# nobody\n").unwrap();
    drop(pipe);
    broker.await_words("the password file has no users");
    broker.await_words("the configuration was read again");
    broker.stop();
}

/// Users are added and removed while clients publish; a file that is no file of users changes
/// nothing; nobody loses a connection.
#[test]
fn sighup_reads_the_users_again() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("reloaded-passwords");
    fs::write(&path, users(&["alice", "bob"])).unwrap();
    for shards in [1, 2] {
        let mut broker = Broker::ringmq_with(shards, &["--password-file", path.to_str().unwrap()]);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let busy: Vec<Client> =
                (0..8).map(|n| log_in(&broker, "bob", &format!("busy {n}")).unwrap()).collect();
            for mut client in busy {
                let stop = &stop;
                scope.spawn(move || {
                    client.subscribe("t/#", QoS::AtMostOnce);
                    while !stop.load(Ordering::Relaxed) {
                        client.send(&publish(Version::V5, "u", &[0; 1000]));
                        client.ping();
                    }
                });
            }
            for (names, let_in, refused) in
                [(&["alice", "carol"][..], "carol", "bob"), (&["bob", "alice"][..], "bob", "carol")]
            {
                fs::write(&path, users(names)).unwrap();
                broker.signal("HUP");
                broker.await_words("the configuration was read again");
                // Each shard takes the users in a turn of its own, soon. Failed logins come from
                // many addresses, so that others do not have to wait for them.
                let holds = |n: u16| {
                    let [high, low] = n.to_be_bytes();
                    let stranger = [127, 1, high, low.max(1)];
                    log_in(&broker, let_in, &format!("in {n}")).is_some()
                        && log_in_from(&broker, stranger, refused, &format!("out {n}")).is_none()
                };
                let since = (0..1_000).find(|&n| (n..n + 4).all(holds));
                assert!(since.is_some(), "the rules do not come to all shards");
            }
            for broken in ["carol", "carol:$7$x"] {
                fs::write(&path, broken).unwrap();
                broker.signal("HUP");
                broker.await_words("the configuration stays as it was: password file");
                assert!(log_in(&broker, "alice", "after").is_some());
            }
            broker.signal("USR1");
            broker.await_words("SIGUSR1 is ignored");
            broker.signal("USR2");
            broker.await_words("SIGUSR2 is ignored");
            stop.store(true, Ordering::Relaxed);
        });
        fs::write(&path, users(&["alice", "bob"])).unwrap();
        broker.stop();
    }
}

#[test]
fn the_log_tells_an_orderly_stop_from_other_ends() {
    for (signal, words) in
        [("TERM", "SIGTERM: the broker stops"), ("INT", "SIGINT: the broker stops")]
    {
        let mut broker = Broker::ringmq(2);
        broker.signal(signal);
        broker.await_end();
        let version = env!("CARGO_PKG_VERSION");
        let started = format!(" INFO started version=\"{version}\" shards=2 io=");
        let stopped = [" INFO stopped milliseconds=", " undelivered=0 undelivered_absent=0"];
        for words in [&*started, words].into_iter().chain(stopped) {
            assert!(broker.has_said(words), "{words}");
        }
    }
}

#[test]
fn a_stopping_broker_says_farewell_and_ends_with_status_0() {
    for shards in [1, 2] {
        let mut broker = Broker::ringmq(shards);
        let mut modern: Vec<Client> =
            (0..4).map(|n| Client::connect(&broker, Version::V5, &format!("modern {n}"))).collect();
        let mut old = Client::connect(&broker, Version::V311, "old");
        broker.ask_to_stop();
        for client in &mut modern {
            let code = client.next(|packet| match packet {
                Packet::Disconnect(disconnect) => disconnect.reason_code,
                other => panic!("{other:?}"),
            });
            assert_eq!(code, Some(ReasonCode::ServerShuttingDown));
            assert_eq!(client.next(|_| ()), None);
        }
        assert_eq!(old.next(|_| ()), None);
        drop((modern, old));
        broker.await_end();
    }
}

/// A subscriber of `t` that has not read yet, and so many messages for it that are acknowledged.
fn owed(broker: &Broker, messages: u16) -> Client {
    let mut reader = Client::connect(broker, Version::V5, "reader");
    reader.subscribe("t", QoS::AtLeastOnce);
    let mut writer = Client::connect(broker, Version::V5, "writer");
    for n in 1..=messages {
        let delivery = Delivery::AtLeastOnce(PacketId::new(n).unwrap());
        let payload = n.to_be_bytes();
        let publish = Publish { delivery, ..small_publish("t", &payload) };
        writer.send(&encode(&Packet::Publish(publish), Version::V5));
    }
    for _ in 1..=messages {
        assert_eq!(writer.next(|packet| matches!(packet, Packet::Puback(_))), Some(true));
    }
    reader
}

#[test]
fn what_is_acknowledged_reaches_a_connected_reader_before_the_broker_stops() {
    const MESSAGES: u16 = 5_000;
    for shards in [1, 2] {
        let mut broker = Broker::ringmq_with(shards, &["--patience", "0"]);
        let mut reader = owed(&broker, MESSAGES);
        broker.ask_to_stop();
        let mut expected = 1..=MESSAGES;
        let code = loop {
            let seen = reader.next(|packet| match packet {
                Packet::Publish(publish) => {
                    assert_eq!(publish.payload, expected.next().unwrap().to_be_bytes());
                    Ok(publish.delivery)
                }
                Packet::Disconnect(disconnect) => Err(disconnect.reason_code),
                other => panic!("{other:?}"),
            });
            match seen.expect("DISCONNECT comes first") {
                Ok(Delivery::AtLeastOnce(packet_id)) => {
                    let ack = Packet::Puback(Ack::success(packet_id));
                    reader.send(&encode(&ack, Version::V5));
                }
                Ok(other) => panic!("{other:?}"),
                Err(code) => break code,
            }
        };
        assert_eq!((expected.next(), code), (None, ReasonCode::ServerShuttingDown));
        broker.await_end();
    }
}

#[test]
fn a_reader_that_does_not_read_does_not_keep_the_broker_from_stopping() {
    let mut broker = Broker::ringmq_with(2, &["--patience", "0", "--stop-timeout", "1"]);
    let reader = owed(&broker, 500);
    broker.ask_to_stop();
    broker.await_end();
    drop(reader);
}

#[test]
fn a_full_broker_sends_clients_to_another_one() {
    for shards in [1, 2] {
        let flags = ["--max-connections", "2", "--refer-to", "b.example:1883"];
        let mut broker = Broker::ringmq_with(shards, &flags);
        let mut guests: Vec<Client> = ["one", "two"]
            .map(|name| Client::connect(&broker, Version::V5, name))
            .into_iter()
            .collect();
        let told = |packet: Packet<'_>| match packet {
            Packet::Connack(it) => {
                (it.reason_code, it.properties.server_reference.map(str::to_owned))
            }
            Packet::Disconnect(it) => (it.reason_code, it.server_reference.map(str::to_owned)),
            other => panic!("{other:?}"),
        };
        let another = Some((ReasonCode::UseAnotherServer, Some("b.example:1883".to_owned())));
        for name in ["three", "four"] {
            let mut client = Client::open(&broker, Version::V5);
            client.send(&connect(Version::V5, name));
            assert_eq!(client.next(told), another);
            assert_eq!(client.next(|_| ()), None);
        }
        broker.ask_to_stop();
        for client in &mut guests {
            assert_eq!(client.next(told), another);
        }
        drop(guests);
        broker.await_end();
    }
}

#[test]
fn a_client_too_many_is_told_so() {
    let mut broker = Broker::ringmq_with(1, &["--max-connections", "1"]);
    let mut only = Client::connect(&broker, Version::V5, "only");
    for (version, code) in
        [(Version::V5, ReasonCode::QuotaExceeded), (Version::V311, ReasonCode::ServerUnavailable)]
    {
        let mut client = Client::open(&broker, version);
        client.send(&connect(version, "second"));
        let told = client.next(|packet| match packet {
            Packet::Connack(connack) => connack.reason_code,
            other => panic!("{other:?}"),
        });
        assert_eq!(told, Some(code));
        assert_eq!(client.next(|_| ()), None);
    }
    broker.await_words("the limit of connections is reached");
    only.ping();
    broker.stop();
}

#[test]
fn ten_thousand_connections_leave_no_descriptor_behind() {
    let broker = Broker::ringmq(2);
    let mut witness = Client::connect(&broker, Version::V311, "witness");
    let before = descriptors(&broker);
    for n in 0..10_000 {
        let mut client = Client::open(&broker, Version::V311);
        client.send(&connect(Version::V311, &n.to_string()));
        match n % 4 {
            // Gone before the answer, gone after it, with DISCONNECT, and half-closed first.
            0 => {}
            1 => assert!(client.next(|_| ()).is_some()),
            2 => client.send(&[0xE0, 0]),
            _ => {
                client.stream.shutdown(Shutdown::Write).unwrap();
                assert!(client.next(|_| ()).is_some());
                assert!(client.next(|_| ()).is_none());
            }
        }
    }
    // Closing takes turns: a few round trips, on every shard, see the last of it.
    let settled = (0..10_000).any(|_| {
        witness.ping();
        drop(Client::connect(&broker, Version::V311, "probe"));
        descriptors(&broker) <= before
    });
    assert!(settled, "{} descriptors, {before} before", descriptors(&broker));
    broker.stop();
}

#[test]
fn ten_thousand_unfinished_packets_leave_the_memory_flat() {
    let broker = Broker::ringmq(2);
    let mut witness = Client::connect(&broker, Version::V311, "witness");
    // Half of what the broker may have open, ours included, on machines with a small limit.
    let count = 9_000;
    let mut clients = Vec::with_capacity(count);
    for _ in 0..100 {
        clients.push(Client::open(&broker, Version::V311));
    }
    witness.ping();
    let before = resident(&broker);
    while clients.len() < count {
        let mut client = Client::open(&broker, Version::V311);
        // The header of a CONNECT of 256 MiB at most, in five bytes, and of nothing.
        client.send(if clients.len() % 2 == 0 {
            b"\x10\xff\xff\x3f\x00"
        } else {
            b"\x80\xff\xff\xff\x7f"
        });
        clients.push(client);
    }
    witness.ping();
    let grown = resident(&broker).saturating_sub(before);
    // What 10,000 open sockets may cost: 1 KiB each, and some slack for the tables.
    assert!(grown < 20 << 10, "{grown} KiB");
    drop(clients);
    broker.stop();
}

#[test]
fn a_half_closed_connection_gets_what_it_is_owed() {
    for shards in [1, 2, 4] {
        let broker = Broker::ringmq(shards);
        for n in 0..8 {
            let mut client = Client::open(&broker, Version::V5);
            let mut all = connect(Version::V5, &format!("brief {n}"));
            all.extend(subscribe(Version::V5, "a/#", QoS::AtMostOnce));
            all.extend([0xC0, 0]);
            client.send(&all);
            client.stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(client.next(|p| matches!(p, Packet::Connack(_))), Some(true));
            assert_eq!(client.next(|p| matches!(p, Packet::Suback(_))), Some(true));
            assert_eq!(client.next(|p| matches!(p, Packet::Pingresp)), Some(true));
            assert_eq!(client.next(|_| ()), None);
        }
        broker.stop();
    }
}

#[test]
fn a_reader_that_stops_reading_costs_no_more_than_its_limits() {
    for shards in [1, 2] {
        let broker = Broker::ringmq_with(shards, &["--outbox-bytes", "1MiB"]);
        let mut stuck = Client::connect(&broker, Version::V311, "stuck");
        stuck.subscribe("#", QoS::AtMostOnce);
        let mut reader = Client::connect(&broker, Version::V311, "reader");
        reader.subscribe("t", QoS::AtMostOnce);
        let mut writer = Client::connect(&broker, Version::V311, "writer");
        let payload = vec![b'x'; 32 << 10];
        let before = resident(&broker);
        // 64 MiB, of which nobody reads the copy of `stuck`.
        for _ in 0..2_000 {
            writer.send(&publish(Version::V311, "t", &payload));
            let len = reader.next(|packet| match packet {
                Packet::Publish(publish) => publish.payload.len(),
                other => panic!("{other:?}"),
            });
            assert_eq!(len, Some(payload.len()));
        }
        let grown = resident(&broker).saturating_sub(before);
        assert!(grown < 16 << 10, "{grown} KiB");
        broker.stop();
    }
}

#[test]
fn the_broker_tells_of_itself() {
    let broker = Broker::ringmq_with(2, &["--sys-interval", "1"]);
    let mut client = Client::connect(&broker, Version::V311, "watcher");
    // Section 3.8.4 allows values before the SUBACK.
    client.send(&subscribe(Version::V311, "$SYS/broker/#", QoS::AtMostOnce));
    let mut wanted =
        vec!["version", "uptime", "clients/connected", "messages/received", "shards/1/load/turns"];
    while !wanted.is_empty() {
        client.next(|packet| {
            let Packet::Publish(publish) = packet else { return };
            let topic = publish.topic.strip_prefix("$SYS/broker/").unwrap();
            wanted.retain(|name| *name != topic);
        });
    }
    broker.stop();
}

/// A right that a reload takes away is gone soon; a file that is no ACL file changes nothing.
#[test]
fn sighup_reads_the_rights_again() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("reloaded-rights");
    let flags = ["--acl-file", path.to_str().unwrap()];
    fs::write(&path, "topic readwrite #\ntopic red a").unwrap();
    let (status, said) = refused(&flags);
    assert!(status == 1 && said.contains("ACL file") && said.contains("line 2"), "{said}");
    fs::write(&path, "topic readwrite #").unwrap();
    let mut broker = Broker::ringmq_with(2, &flags);
    let mut client = Client::connect(&broker, Version::V5, "client");
    let mut publishes = || {
        client.send(&publish_at_qos_1("a"));
        client.next(|packet| match packet {
            Packet::Puback(ack) => ack.reason_code != ReasonCode::NotAuthorized,
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(publishes(), Some(true));
    for (text, words, may_publish) in [
        ("topic read #", "the configuration was read again", false),
        ("topic\treadwrite #", "the configuration stays as it was: ACL file", false),
        ("topic a", "the configuration was read again", true),
    ] {
        fs::write(&path, text).unwrap();
        broker.signal("HUP");
        broker.await_words(words);
        // Each shard takes the rights in a turn of its own, soon.
        assert!((0..10_000).any(|_| publishes() == Some(may_publish)), "{text}");
    }
    broker.stop();
}

fn publish_at_qos_1(topic: &str) -> Vec<u8> {
    let delivery = Delivery::AtLeastOnce(PacketId::MIN);
    let publish = Publish { delivery, ..small_publish(topic, b"1") };
    encode(&Packet::Publish(publish), Version::V5)
}
