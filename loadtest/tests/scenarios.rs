//! The command itself against the broker: every scenario, small.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::Command,
    thread,
};

use serde_json::{Value, json};
use support::{Broker, loadtest};

/// Runs a scenario, and says its status and its summary.
fn run(broker: &Broker, flags: &str) -> (i32, Value) {
    let words: Vec<&str> = flags.split_ascii_whitespace().collect();
    let port = broker.port().to_string();
    let output = loadtest(&[&words[..], &["--port", &port, "--json"]].concat());
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap())
}

/// A healthy run: nothing lost, nothing broken, and so many deliveries.
fn check(broker: &Broker, flags: &str, delivered: u64) -> Value {
    let (status, summary) = run(broker, flags);
    assert_eq!(status, 0, "{flags}: {summary:#}");
    assert_eq!(summary["breaches"], Value::Array(Vec::new()), "{flags}");
    for (name, count) in [("delivered", delivered), ("lost", 0), ("duplicated", 0)] {
        assert_eq!(summary[name], count, "{flags}: {name} of {summary:#}");
    }
    summary
}

#[test]
fn publishers_and_subscribers_account_for_every_message() {
    let broker = Broker::start(2);
    check(&broker, "fan-in --publishers 5 --subscribers 2 --count 20 --threads 2", 200);
    check(&broker, "fan-out --subscribers 7 --count 10 --qos 1", 70);
    check(&broker, "pairs --pairs 4 --round --count 5 --qos 2 --protocol 5.0", 20);
    check(&broker, "idle --connections 20", 20);
}

#[test]
fn each_qos_has_an_account_of_its_own() {
    let broker = Broker::start(2);
    let flags = "fan-in --publishers 6 --count 10 --publish-qos 0,1,2 --subscribe-qos 1";
    let summary = check(&broker, flags, 60);
    assert_eq!(summary["by_qos"][0]["arrived"], 20);
    assert_eq!(summary["by_qos"][1]["arrived"], 40);
    assert_eq!(summary["by_qos"].as_array().unwrap().len(), 2);
    assert_eq!(summary["qos"], 1);
}

#[test]
fn a_group_receives_each_message_once() {
    let broker = Broker::start(2);
    for flags in ["--protocol 5.0 --qos 1 --threads 2", "--qos 2 --group g --rate 2000"] {
        let flags = format!("shared --publishers 4 --subscribers 3 --count 50 {flags}");
        let summary = check(&broker, &flags, 200);
        let shares = &summary["fairness"];
        assert!(shares["share_max"].as_u64().unwrap() < 200, "all to one: {summary:#}");
        assert_eq!(summary["expected"], 200);
    }
}

#[test]
fn retained_messages_are_replayed_to_all_and_removed() {
    let broker = Broker::start(2);
    for qos in 0..=2 {
        let flags = format!("retained --messages 150 --subscribers 4 --qos {qos} --threads 2");
        let summary = check(&broker, &flags, 600);
        assert_eq!(summary["sent"], 150);
        assert_eq!(summary["by_qos"][0]["granted_qos"], qos);
    }
    // What one run had left behind would be foreign to a smaller one.
    check(&broker, "retained --messages 10 --subscribers 1 --protocol 5.0", 10);
}

#[test]
fn one_of_many_filters_matches() {
    let broker = Broker::start(2);
    check(&broker, "wildcard --publishers 3 --subscribers 4 --decoys 250 --count 5 --qos 1", 60);
}

#[test]
fn connections_are_counted_and_timed() {
    let broker = Broker::start(2);
    for flags in ["--connections 50 --threads 2 --opening 8", "--connections 9 --rate 300"] {
        let count = if flags.contains("50") { 50 } else { 9 };
        for scenario in ["connect", "reconnect"] {
            let summary = check(&broker, &format!("{scenario} {flags}"), count);
            assert_eq!(
                (&summary["sent"], &summary["counted"]),
                (&count.into(), &"connections".into())
            );
            assert!(summary["latency"]["p50"].as_f64().unwrap() > 0.0, "{summary:#}");
        }
    }
    check(&broker, "connect --connections 1 --threads 2", 1);
}

#[test]
fn slow_readers_do_not_count() {
    let broker = Broker::start(1);
    let flags = "slow-reader --subscribers 3 --slow 2 --size 20000 --count 200 --rate 2000";
    let summary = check(&broker, flags, 600);
    assert!(summary["slow"]["slow_delivered"].as_u64().unwrap() < 400, "{summary:#}");
    assert_eq!(check(&broker, "fan-out --count 1", 500)["slow"], Value::Null);
}

#[test]
fn presets_run_at_any_scale() {
    let broker = Broker::start(1);
    check(&broker, "preset conn-tcp-10K-100 --scale 0.001 --rate 500", 10);
    check(&broker, "preset fanout-1-1K-1-1K --scale 0.02 --count 2 --rate 50", 40);
    let flags = "preset sharedsub-1K-5-1K-1K --scale 0.01 --count 2 --rate 500 --protocol 5.0";
    check(&broker, flags, 20);
    let summary = check(&broker, "preset p2p-1K-1K-1K-1K --scale 0.01 --count 2 --rate 500", 20);
    assert_eq!((&summary["qos"], &summary["size"]), (&1.into(), &16.into()));
}

#[test]
fn runs_are_compared_and_drawn() {
    let (broker, home) = (Broker::start(1), Path::new(env!("CARGO_TARGET_TMPDIR")));
    let [page, first, second, both] =
        ["run.html", "first.json", "second.json", "both.html"].map(|name| home.join(name));
    for (json, rate) in [(&first, 200), (&second, 400)] {
        let flags = format!(
            "pairs --pairs 2 --rate {rate} --duration 300ms --pid {} --html {}",
            broker.pid(),
            page.display()
        );
        let summary = check(&broker, &flags, rate * 3 / 10);
        assert!(!summary["series"]["broker_rss_bytes"].as_array().unwrap().is_empty());
        for known in ["sent_rates", "latency_p99_micros"] {
            let known = summary["series"][known].as_array().unwrap();
            assert_eq!(known.len(), summary["series"]["seconds"].as_array().unwrap().len());
            assert!(known.iter().any(|value| value.as_f64() > Some(0.0)), "{summary:#}");
        }
        fs::write(json, summary.to_string()).unwrap();
    }
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("\"scenario\":\"pairs\"") && page.contains("</html>"));
    let files = [&first, &second, &both].map(|path| path.to_str().unwrap());
    let output = loadtest(&["compare", files[0], files[1], "--json", "--html", files[2]]);
    let comparison: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(comparison["runs"], json!(["first", "second"]));
    let ratio = comparison["rows"][0]["ratios"][0].as_f64().unwrap();
    assert!(ratio > 0.0, "{comparison:#}");
    let text = String::from_utf8(loadtest(&["compare", files[0], files[1]]).stdout).unwrap();
    assert!(text.contains("latency p99, µs"), "{text}");
    assert!(fs::read_to_string(both).unwrap().contains("\"name\":\"second\""));
}

#[test]
fn sizes_topics_and_rates_vary() {
    let broker = Broker::start(2);
    let summary = check(&broker, "pairs --pairs 3 --size 16-5000 --count 40 --qos 1", 120);
    assert_eq!((&summary["size_min"], &summary["size"]), (&16.into(), &5000.into()));
    let flags = "fan-in --publishers 3 --topics 20 --zipf 1.2 --topic t/{id}/v --count 50 --qos 2";
    check(&broker, flags, 150);
    for scenario in ["fan-out", "slow-reader --slow 0", "wildcard --decoys 9"] {
        let flags = "--publishers 2 --subscribers 3 --topics 7 --zipf 1 --count 30 --qos 1";
        check(&broker, &format!("{scenario} {flags} --topic {{id}}/v"), 180);
    }
    let flags = "--publishers 2 --subscribers 3 --topics 7 --count 30 --qos 1 --protocol 5.0";
    check(&broker, &format!("shared {flags}"), 60);
    check(&broker, "retained --messages 20 --subscribers 2 --topic {id}/r", 40);
    check(&broker, "pairs --pairs 2 --topic {id}/p --rate 1000 --ramp 100ms --count 60", 120);
}

#[test]
fn sessions_persist_and_clients_show_that_they_are_there() {
    let broker = Broker::start(2);
    for protocol in ["3.1.1", "5.0"] {
        let flags = format!("--session persistent --keep-alive 1 --protocol {protocol}");
        check(&broker, &format!("pairs --pairs 2 --qos 1 --count 5 --hold 2s {flags}"), 10);
        check(&broker, &format!("reconnect --connections 20 {flags}"), 20);
    }
    let hosts = "--host 127.0.0.1,127.0.0.1 --source-addresses 127.9.0.0/29";
    check(&broker, &format!("pairs --pairs 4 --count 5 {hosts}"), 20);
}

/// A client pings every 1.5 s, and the broker cuts it after 4.5 s of silence. So a client that does
/// not ping is cut within the hold of 6 s, and one that does may be late by 3 s on a busy machine.
/// [MQTT-3.1.2-21]
#[test]
fn clients_ping_as_often_as_the_broker_wants_it() {
    let broker = Broker::start_with(1, &["--max-keep-alive", "3"]);
    let run_one = |(seed, keep_alive): (u16, u16)| {
        let flags = format!("--keep-alive {keep_alive} --hold 6s --count 1 --seed {seed}");
        let flags = format!("--protocol 5.0 --topic {seed}/{{id}} {flags}");
        let summary = check(&broker, &format!("pairs --pairs 2 {flags}"), 2);
        assert_eq!(summary["disconnected"], 0);
    };
    thread::scope(|scope| {
        for run in [(1, 0), (2, 60)] {
            scope.spawn(move || run_one(run));
        }
    });
}

/// Connects as a client of a run without Clean Session, and says whether there is a session.
fn has_session(broker: &Broker, client_id: &str) -> bool {
    let mut socket = TcpStream::connect(("127.0.0.1", broker.port())).unwrap();
    let (id_len, len) = (u8::try_from(client_id.len()).unwrap(), 12 + client_id.len());
    let head = [0x10, u8::try_from(len).unwrap(), 0, 4, b'M', b'Q', b'T', b'T', 4, 0, 0, 60];
    socket.write_all(&[&head[..], &[0, id_len], client_id.as_bytes()].concat()).unwrap();
    let mut connack = [0; 4];
    socket.read_exact(&mut connack).unwrap();
    assert_eq!((connack[0], connack[3]), (0x20, 0));
    connack[2] == 1
}

/// [MQTT-3.1.2-6@3.1.1]
#[test]
fn no_sessions_stay_at_the_broker() {
    for protocol in ["3.1", "3.1.1", "5.0"] {
        let broker = Broker::start(2);
        let flags = "--session persistent --qos 1 --threads 2 --opening 4";
        let flags = format!("pairs --pairs 9 --count 3 --protocol {protocol} {flags}");
        let summary = check(&broker, &flags, 27);
        assert_eq!(summary["faults"], json!([]));
        for client in 0..18 {
            let client_id = format!("load-1-{client}");
            assert!(!has_session(&broker, &client_id), "{protocol}: {client_id}");
            assert!(has_session(&broker, &client_id), "one that does stay is seen");
        }
    }
}

#[test]
fn a_lost_message_is_a_failure_where_the_qos_forbids_it() {
    let sink = Broker::start_sink();
    for (qos, status, breaches) in [(0, 0, vec![]), (1, 1, vec!["lost"]), (2, 1, vec!["lost"])] {
        let flags = format!("pairs --pairs 3 --count 4 --qos {qos} --timeout 100ms");
        let (found, summary) = run(&sink, &flags);
        assert_eq!((found, &summary["breaches"]), (status, &breaches.into()), "{flags}");
        assert_eq!((&summary["sent"], &summary["lost"]), (&12.into(), &12.into()), "{flags}");
    }
}

#[test]
fn what_nobody_subscribes_to_is_sent_and_not_missed() {
    let sink = Broker::start_sink();
    let flags = "fan-in --publishers 4 --subscribers 0 --count 500 --qos 2 --size 100000";
    let summary = check(&sink, flags, 0);
    assert_eq!((&summary["sent"], &summary["unacknowledged"]), (&2000.into(), &0.into()));
}

#[test]
fn too_low_a_limit_of_open_files_is_told_before_anything_is_opened() {
    let sink = Broker::start_sink();
    let flags = format!("pairs --pairs 500 --threads 3 --port {}", sink.port());
    let script = format!("ulimit -n 200 && exec {} {flags}", env!("CARGO_BIN_EXE_loadtest"));
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    for part in ["1000 connections need 1070", "at most 200", "at most 130 clients", "--scale"] {
        assert!(told.contains(part), "{told}");
    }
}

#[test]
fn the_highest_rate_within_a_bound_is_searched_for() {
    let broker = Broker::start(1);
    let flags = "pairs --pairs 2 --find-max 60s --rate 600000000 --count 5";
    let (status, found) = run(&broker, flags);
    assert_eq!(status, 0, "{found:#}");
    assert_eq!(found["highest_rate"], 600_000_000);
    assert_eq!(found["best"]["delivered"], 10);
    let flags = "pairs --pairs 2 --find-max 0s --rate 20 --count 1".split(' ');
    let port = broker.port().to_string();
    let output = loadtest(&flags.chain(["--port", &port]).collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no rate is low enough"));
}
