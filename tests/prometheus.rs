//! Debian's Prometheus reads a broker, and finds there what the dashboard and the alerts ask for.
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
#[path = "support/source.rs"]
mod source;

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use broker::Broker;
use client::{Client, encode};
use http::{controlled, get};
use ringmq::mqtt::{Delivery, Packet, Publish, PublishProperties, QoS, Version};
use serde_json::Value;

/// A broker that has all that can be measured: a store, and a listener for TLS.
fn measured(name: &str) -> (Broker, u16) {
    let data = scratch(name);
    let [certificate, key] =
        ["server.pem", "server-key.pem"].map(|file| repository("tests/tls").join(file));
    let flags = [
        ["--data-dir", data.to_str().unwrap()],
        ["--listen-tls", "127.0.0.1:0"],
        ["--tls-cert", certificate.to_str().unwrap()],
        ["--tls-key", key.to_str().unwrap()],
    ];
    controlled(2, flags.as_flattened())
}

/// An empty folder.
fn scratch(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    drop(fs::remove_dir_all(&path));
    fs::create_dir_all(&path).unwrap();
    path
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Prometheus, reading a broker five times in a second, on a port that the kernel chose.
struct Prometheus {
    process: Child,
    port: u16,
}

impl Prometheus {
    fn reading(broker: u16) -> Prometheus {
        let folder = scratch("prometheus");
        let config = folder.join("prometheus.yml");
        let text = format!(
            "global: {{ scrape_interval: 200ms, scrape_timeout: 200ms }}\n\
             rule_files: ['{}']\n\
             scrape_configs:\n- job_name: ringmq\n  static_configs:\n\
             \x20 - targets: ['127.0.0.1:{broker}']\n",
            repository("packaging/prometheus/alerts.yml").display(),
        );
        fs::write(&config, text).unwrap();
        let mut process = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stderr(Stdio::piped())
            .spawn()
            .expect("prometheus is not installed, please run scripts/test.sh");
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let port =
            lines.find_map(|line| port_of(&line.unwrap())).expect("it says where it listens");
        // It goes on writing.
        std::thread::spawn(move || lines.for_each(drop));
        Prometheus { process, port }
    }

    /// The samples that an expression comes to now.
    fn ask(&self, expression: &str) -> Result<Vec<Value>, String> {
        let answer = get(self.port, &format!("/api/v1/query?query={}", encoded(expression)));
        let body: Value = serde_json::from_str(&answer.body).map_err(|error| error.to_string())?;
        match body["data"]["result"].as_array() {
            Some(samples) => Ok(samples.clone()),
            None => Err(body["error"].to_string()),
        }
    }

    /// Those of them that are wrong, or come to nothing.
    fn empty_ones(&self, expressions: &[String]) -> Vec<String> {
        let fault = |expression: &String| match self.ask(expression) {
            Ok(samples) if samples.is_empty() => Some(format!("{expression}: empty")),
            Ok(_) => None,
            Err(error) => Some(format!("{expression}: {error}")),
        };
        expressions.iter().filter_map(fault).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn port_of(line: &str) -> Option<u16> {
    line.split_once("msg=\"Listening on\" address=127.0.0.1:")?.1.trim().parse().ok()
}

fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// The texts of all keys with this name, wherever they are.
fn texts(value: &Value, name: &str) -> Vec<String> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(key, value)| match value {
                Value::String(text) if key == name => vec![text.clone()],
                value => texts(value, name),
            })
            .collect(),
        Value::Array(values) => values.iter().flat_map(|value| texts(value, name)).collect(),
        _ => Vec::new(),
    }
}

/// The expressions of the dashboard, for all brokers.
fn dashboard() -> Vec<String> {
    let text = fs::read_to_string(repository("packaging/grafana/ringmq.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let expressions: Vec<String> = texts(&dashboard, "expr")
        .into_iter()
        .map(|text| text.replace("$__rate_interval", "1m"))
        .map(|text| text.replace("$job", ".*").replace("$instance", ".*"))
        .collect();
    assert!(expressions.len() > 50, "the dashboard is not read as it is");
    expressions
}

/// What a text asks for: a metric, with its labels. Where a label may have several values, there is
/// one for each of them.
fn selectors(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (start, _) in text.match_indices("ringmq_") {
        let rest = &text[start..];
        let end = rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let labels = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        match labels.and_then(|(labels, _)| labels.split_once("=~\"")) {
            Some((label, values)) if !values.starts_with(".*") => {
                let values = values.trim_end_matches('"').split('|');
                found.extend(values.map(|value| format!("{name}{{{label}=\"{value}\"}}")));
            }
            _ => found.push(format!("{name}{{{}}}", labels.map_or("", |(labels, _)| labels))),
        }
    }
    found
}

/// Messages, until Prometheus has read the broker at least three times.
fn publish_while_read(broker: &Broker, prometheus: &Prometheus) {
    let mut client = Client::connect(broker, Version::V5, "prometheus-test");
    client.subscribe("measured", QoS::AtMostOnce);
    let publish = Packet::Publish(Publish {
        delivery: Delivery::AtMostOnce,
        retain: false,
        topic: "measured",
        properties: PublishProperties::default(),
        payload: b"1",
        dup: false,
    });
    for _ in 0..MESSAGES_MAX {
        client.send(&encode(&publish, Version::V5));
        assert_eq!(client.next(|packet| matches!(packet, Packet::Publish(_))), Some(true));
        let reads =
            prometheus.ask("count_over_time(ringmq_uptime_seconds[1m])").unwrap_or_default();
        let reads = reads.first().and_then(|sample| sample["value"][1].as_str()?.parse().ok());
        if reads.unwrap_or(0) >= 3 {
            return;
        }
    }
    panic!("Prometheus does not read the broker");
}

/// Each takes a message there and back, and a question to Prometheus.
const MESSAGES_MAX: usize = 100_000;

fn promtool(arguments: &[&str], input: &str) -> Output {
    let mut process = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is not installed, please run scripts/test.sh");
    process.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    process.wait_with_output().unwrap()
}

#[track_caller]
fn assert_content(output: &Output) {
    let words = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{}", words.concat());
}

#[test]
fn prometheus_finds_all_that_the_dashboard_and_the_alerts_ask_for() {
    let (broker, port) = measured("measured");
    let prometheus = Prometheus::reading(port);
    publish_while_read(&broker, &prometheus);
    assert_eq!(prometheus.empty_ones(&dashboard()), Vec::<String>::new());
    let alerts = fs::read_to_string(repository("packaging/prometheus/alerts.yml")).unwrap();
    let rules = alerts.lines().filter(|line| !line.contains("description:"));
    let asked = selectors(&rules.collect::<String>());
    assert!(asked.len() > 10, "the alerts are not read as they are: {asked:?}");
    assert_eq!(prometheus.empty_ones(&asked), Vec::<String>::new());
    let planted = ["sum(rate(ringmq_no_such_total[1m]))", "sum("].map(str::to_owned);
    assert_eq!(prometheus.empty_ones(&planted).len(), 2);
    let groups = get(prometheus.port, "/api/v1/rules?type=alert").body;
    assert!(groups.contains("RingmqStoreFull"), "{groups}");
}

#[test]
fn promtool_finds_nothing_wrong_with_the_metrics_and_the_alerts() {
    let (_broker, port) = measured("linted");
    let metrics = get(port, "/metrics").body;
    let output = promtool(&["check", "metrics"], &metrics);
    assert_content(&output);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    for arguments in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]] {
        let file = repository("packaging/prometheus").join(arguments[2]);
        assert_content(&promtool(&[arguments[0], arguments[1], file.to_str().unwrap()], ""));
    }
    let unclear = promtool(&["check", "metrics"], "# TYPE ringmq_wrong counter\nringmq_wrong 1\n");
    assert!(!unclear.status.success());
}

#[test]
fn a_selector_with_several_values_is_one_for_each() {
    assert_eq!(
        selectors("rate(ringmq_a_total{reason=~\"x|y\"}[5m]) > ringmq_b{c=\"d\"} + ringmq_e"),
        [
            "ringmq_a_total{reason=\"x\"}",
            "ringmq_a_total{reason=\"y\"}",
            "ringmq_b{c=\"d\"}",
            "ringmq_e{}"
        ]
    );
}
