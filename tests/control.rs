//! The control thread over HTTP, as those see it who watch and steer a broker.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "foreign/broker.rs"]
#[expect(dead_code, reason = "the foreign clients' tests use the rest of it")]
mod broker;
#[path = "support/client.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod client;
#[path = "support/http.rs"]
mod http;
#[path = "support/source.rs"]
mod source;

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{self, Command},
    time::Duration,
};

use broker::Broker;
use client::{Client, encode};
use http::{Answer, controlled, get, open, raw, request};
use ringmq::mqtt::{
    Connect, Delivery, Packet, PacketId, Publish, PublishProperties, QoS, ReasonCode, Version,
};
use serde_json::Value;

const ADMIN: &str = "Authorization: Bearer bbbbbbbbbbbbbbbb";
const READER: &str = "Authorization: Bearer aaaaaaaaaaaaaaaa";
const TOKENS: &str = "reader aaaaaaaaaaaaaaaa\nadmin bbbbbbbbbbbbbbbb\n";

/// A 5.0 client whose session outlasts its connection by so many seconds.
fn connect_for(broker: &Broker, client_id: &str, seconds: u32) -> Client {
    let mut client = Client::open(broker, Version::V5);
    let mut connect = Connect::new(Version::V5, client_id);
    connect.properties.session_expiry_interval = Some(seconds);
    client.send(&encode(&Packet::Connect(connect), Version::V5));
    assert_eq!(client.next(|packet| matches!(packet, Packet::Connack(_))), Some(true));
    client
}

/// A file that its owner alone may read.
fn secret_file(name: &str, text: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn metric(port: u16, name: &str) -> Option<String> {
    let answer = get(port, "/metrics");
    assert_eq!(answer.status, 200, "{answer:?}");
    value_of(&answer.body, name).map(str::to_owned)
}

/// The value of a sample.
fn value_of<'a>(metrics: &'a str, name: &str) -> Option<&'a str> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
}

#[track_caller]
fn assert_problem(answer: &Answer, status: u16, words: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.field("content-type"), Some("application/problem+json"), "{answer:?}");
    assert!(answer.body.contains(&format!("\"status\":{status}")), "{answer:?}");
    assert!(answer.body.contains(words), "{answer:?}");
}

#[test]
fn metrics_and_health_are_told_on_loopback_without_a_token() {
    let (broker, port) = controlled(2, &[]);
    assert_eq!((get(port, "/healthz").status, get(port, "/readyz").status), (200, 200));
    let mut client = Client::connect(&broker, Version::V5, "watched");
    client.subscribe("a", QoS::AtMostOnce);
    for (name, value) in [
        ("ringmq_clients_connected", "1"),
        ("ringmq_subscriptions", "1"),
        ("ringmq_shards", "2"),
        ("ringmq_connections_ended_total{reason=\"disconnect\"}", "0"),
    ] {
        assert_eq!(metric(port, name).as_deref(), Some(value), "{name}");
    }
    client.send(&[0xE0, 0]);
    assert_eq!(client.next(|_| ()), None);
    let name = "ringmq_connections_ended_total{reason=\"disconnect\"}";
    assert_eq!(metric(port, name).as_deref(), Some("1"));
    let mosquitto = get(port, "/metrics?compat=mosquitto");
    assert!(mosquitto.body.contains("\nbroker_clients_connected 0\n"), "{mosquitto:?}");
    let emqx = get(port, "/metrics?compat=emqx");
    assert!(emqx.body.contains("\nemqx_client_connected 1\n"), "{emqx:?}");
    assert_problem(&get(port, "/metrics?compat=nats"), 400, "compat");
    broker.stop();
}

fn json(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str(&answer.body).unwrap()
}

/// The Client Identifiers of all pages.
fn walk(port: u16, query: &str) -> Vec<String> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = json(&get(port, &format!("/api/v1/clients?{query}{cursor}")));
        let clients = page["clients"].as_array().unwrap();
        found.extend(clients.iter().map(|it| it["client_id"].as_str().unwrap().to_owned()));
        match page["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    found.sort();
    found
}

#[test]
fn all_clients_are_listed_in_pages_of_any_size() {
    let (broker, port) = controlled(2, &[]);
    let names: Vec<String> = (100..400).map(|n| format!("client {n}")).collect();
    let clients: Vec<Client> =
        names.iter().map(|name| Client::connect(&broker, Version::V311, name)).collect();
    for limit in [7, 100, 1000] {
        assert_eq!(walk(port, &format!("limit={limit}")), names, "{limit}");
    }
    assert_eq!(walk(port, "prefix=client%2017"), names[70..80]);
    assert_eq!(walk(port, "connected=false"), [""; 0]);
    assert_eq!(walk(port, "user=nobody"), [""; 0]);
    for wrong in ["limit=0", "limit=1001", "limit=x", "cursor=9.0", "cursor=x", "colour=red"] {
        let answer = get(port, &format!("/api/v1/clients?{wrong}"));
        assert_problem(&answer, 400, wrong.split('=').next().unwrap());
    }
    drop(clients);
    broker.stop();
}

#[test]
fn a_client_is_shown_and_kicked_and_its_session_ended() {
    let tokens = secret_file("control-kick-tokens", TOKENS);
    let (mut broker, port) = controlled(2, &["--http-token-file", tokens.to_str().unwrap()]);
    let mut client = connect_for(&broker, "a/b c", 600);
    client.subscribe("x", QoS::AtLeastOnce);
    let path = "/api/v1/clients/a%2Fb%20c";
    let shown = json(&get(port, path));
    assert_eq!((&shown["client_id"], &shown["connected"]), (&"a/b c".into(), &true.into()));
    assert_eq!(
        (&shown["connection"]["version"], &shown["subscriptions"]),
        (&"5.0".into(), &1.into())
    );
    assert_eq!((&shown["session_expiry"], &shown["user"]), (&600.into(), &Value::Null));
    let delete = |path: &str| request(port, &format!("DELETE {path}"), &[ADMIN], "");
    assert_problem(&request(port, &format!("DELETE {path}"), &[], ""), 401, "admin");
    assert_eq!(delete(path).status, 204);
    let code = client.next(|packet| match packet {
        Packet::Disconnect(disconnect) => disconnect.reason_code,
        other => panic!("{other:?}"),
    });
    assert_eq!(code, Some(ReasonCode::AdministrativeAction));
    assert_eq!(client.next(|_| ()), None);
    let line = broker.await_words("a client was disconnected over HTTP");
    assert!(line.contains("the token in line 2 from 127.0.0.1:"), "{line}");
    assert_problem(&delete(path), 404, "connected");
    assert_eq!(json(&get(port, path))["connected"], false);
    assert_eq!(delete("/api/v1/sessions/a%2Fb%20c").status, 204);
    assert_problem(&delete("/api/v1/sessions/a%2Fb%20c"), 404, "session");
    assert_problem(&get(port, path), 404, "session");
    let name = "ringmq_connections_ended_total{reason=\"kicked\"}";
    assert_eq!(metric(port, name).as_deref(), Some("1"));
    broker.stop();
}

#[test]
fn subscriptions_of_a_client_are_listed_in_pages() {
    let (broker, port) = controlled(2, &[]);
    let mut client = Client::connect(&broker, Version::V5, "a/b c");
    let mut filters: Vec<String> = (100..300).map(|n| format!("f/{n}/+")).collect();
    filters.push("$share/group/jobs/#".to_owned());
    for filter in &filters {
        client.subscribe(filter, QoS::AtLeastOnce);
    }
    let page = |query: &str| {
        let page = json(&get(port, &format!("/api/v1/clients/a%2Fb%20c/subscriptions?{query}")));
        let found = page["subscriptions"].as_array().unwrap();
        let texts = found.iter().map(|it| it["filter"].as_str().unwrap().to_owned());
        (texts.collect::<Vec<_>>(), page["cursor"].as_str().map(str::to_owned), page)
    };
    let (latest, cursor, whole) = page("limit=70");
    assert_eq!(latest, filters.iter().rev().take(70).cloned().collect::<Vec<_>>());
    let expected = serde_json::json!({
        "filter": "$share/group/jobs/#", "qos": 1, "no_local": false,
        "retain_as_published": false, "retain_handling": 0, "subscription_id": null,
    });
    assert_eq!(whole["subscriptions"][0], expected);
    // The last filter takes the place of one that is removed, and none is missed.
    client.send(b"\xA2\x0C\x00\x01\x00\x00\x07f/100/+");
    assert_eq!(client.next(|packet| matches!(packet, Packet::Unsuback(_))), Some(true));
    let (mut found, mut cursor) = (latest, cursor);
    while let Some(at) = cursor {
        let (more, next, _) = page(&format!("limit=9&cursor={at}"));
        found.extend(more);
        cursor = next;
    }
    found.sort();
    found.dedup();
    filters.retain(|filter| filter != "f/100/+");
    filters.sort();
    assert_eq!(found, filters);
    assert_eq!(page("limit=1000").0.len(), 200);
    for wrong in ["limit=0", "cursor=x", "cursor=-1", "colour=red"] {
        let answer = get(port, &format!("/api/v1/clients/a%2Fb%20c/subscriptions?{wrong}"));
        assert_problem(&answer, 400, wrong.split('=').next().unwrap());
    }
    assert_problem(&get(port, "/api/v1/clients/b/subscriptions"), 404, "session");
    broker.stop();
}

#[test]
fn messages_are_published_listed_and_deleted() {
    let tokens = secret_file("control-publish-tokens", TOKENS);
    let (broker, port) = controlled(2, &["--http-token-file", tokens.to_str().unwrap()]);
    let mut client = Client::connect(&broker, Version::V5, "reader");
    client.subscribe("news/#", QoS::AtLeastOnce);
    let publish = |body: &str| request(port, "POST /api/v1/publish", &[ADMIN], body);
    let text = r#"{"topic":"news/a","payload":"hallo","qos":1,"retain":true,"content_type":"t"}"#;
    assert_eq!(json(&publish(text))["matched"], true);
    let seen = client.next(|packet| match packet {
        Packet::Publish(it) => {
            let kind = it.properties.application.content_type.map(str::to_owned);
            (it.topic.to_owned(), it.payload.to_vec(), it.delivery.qos(), kind)
        }
        other => panic!("{other:?}"),
    });
    let expected = ("news/a".to_owned(), b"hallo".to_vec(), QoS::AtLeastOnce, Some("t".to_owned()));
    assert_eq!(seen, Some(expected));
    for n in 0..9 {
        let body = format!(r#"{{"topic":"old/{n}","payload_base64":"/wA=","retain":true}}"#);
        assert_eq!(publish(&body).status, 200);
    }
    let page = json(&get(port, "/api/v1/retained?filter=old/%23&limit=5"));
    let topics = |page: &Value| -> Vec<String> {
        let messages = page["messages"].as_array().unwrap();
        messages.iter().map(|it| it["topic"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(topics(&page), ["old/0", "old/1", "old/2", "old/3", "old/4"]);
    let cursor = page["cursor"].as_str().unwrap().replace('/', "%2F");
    let page = json(&get(port, &format!("/api/v1/retained?filter=old/%23&cursor={cursor}")));
    assert_eq!((topics(&page).len(), &page["cursor"]), (4, &Value::Null));
    let whole = json(&get(port, "/api/v1/retained/old%2F3"));
    assert_eq!((&whole["payload"], &whole["payload_base64"]), (&Value::Null, &"/wA=".into()));
    let delete =
        |topic: &str| request(port, &format!("DELETE /api/v1/retained/{topic}"), &[ADMIN], "");
    assert_eq!((delete("news%2Fa").status, delete("news%2Fa").status), (204, 404));
    let page = json(&get(port, "/api/v1/retained?filter=news/%23"));
    assert_eq!(topics(&page), [""; 0]);
    for (body, status, words) in [
        ("", 400, "line 1"),
        ("{\"topic\":", 400, "line 1"),
        ("[]", 400, "wrong"),
        (r#"{"topic":"a","colour":1}"#, 400, "colour"),
        (r#"{"topic":"a","qos":3}"#, 400, "qos"),
        (r#"{"topic":"a","payload":"","payload_base64":""}"#, 400, "both"),
        (r#"{"topic":"a","payload_base64":"?"}"#, 400, "base64"),
        (r#"{"topic":"a/#"}"#, 422, "wildcard"),
        (r#"{"topic":"$SYS/a"}"#, 422, "reserved"),
    ] {
        assert_problem(&publish(body), status, words);
    }
    assert_problem(&get(port, "/api/v1/retained?filter=a%23"), 400, "filter");
    let large = format!(r#"{{"topic":"a","payload":"{}"}}"#, "x".repeat(2 << 20));
    assert_problem(&publish(&large), 413, "1 MiB");
    broker.stop();
}

#[test]
fn the_configuration_and_the_log_are_shown_and_changed() {
    let tokens = secret_file("control-config-tokens", TOKENS);
    let config = secret_file("control-config.toml", "[features]\nmax-keep-alive = 50\n");
    let path = config.to_str().unwrap();
    let flags = ["--http-token-file", tokens.to_str().unwrap(), "--config", path];
    let (mut broker, port) = controlled(1, &flags);
    let setting = |key: &str| {
        let settings = json(&get(port, "/api/v1/config"))["settings"].clone();
        let found = settings.as_array().unwrap().iter().find(|it| it["key"] == key).cloned();
        found.map(|it| format!("{} {}", it["values"][0], it["source"])).unwrap()
    };
    assert_eq!(setting("max-keep-alive"), r#""50" "file""#);
    assert_eq!(setting("shards"), r#""1" "flag""#);
    let reload = || request(port, "POST /api/v1/reload", &[ADMIN], "");
    fs::write(&config, "[features]\nmax-keep-alive = 40\n").unwrap();
    assert_eq!(reload().status, 204);
    assert_eq!(setting("max-keep-alive"), r#""40" "file""#);
    fs::write(&config, "[features]\nmax-keep-live = 30\n").unwrap();
    assert_problem(&reload(), 422, "did you mean `max-keep-alive`");
    assert_eq!(setting("max-keep-alive"), r#""40" "file""#);
    let log = |filter: &str| {
        let body = format!("{{\"filter\":\"{filter}\"}}");
        request(port, "PUT /api/v1/log", &[ADMIN], &body)
    };
    assert_eq!(json(&get(port, "/api/v1/log"))["filter"], "info");
    assert_eq!(log("info,ringmq::shard=debug").status, 204);
    let line = broker.await_words("the filter of the log is changed over HTTP");
    assert!(line.contains("the token in line 2"), "{line}");
    drop(Client::open(&broker, Version::V5));
    broker.await_words("DEBUG");
    assert_problem(&log("loud"), 422, "loud");
    broker.stop();
}

#[test]
fn subcommands_ask_a_running_broker() {
    let tokens = secret_file("control-subcommand-tokens", TOKENS);
    let tokens = tokens.to_str().unwrap();
    let (broker, port) = controlled(2, &["--http-token-file", tokens]);
    let at = format!("127.0.0.1:{port}");
    let ringmq = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringmq"));
        let output = command.args(words).args(["--at", &at]).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(said).unwrap())
    };
    let mut client = Client::connect(&broker, Version::V311, "a/b c");
    let (code, said) = ringmq(&["status"]);
    let has = |words: &str| said.lines().any(|line| line.split_whitespace().eq(words.split(' ')));
    assert!(code == 0 && has("clients connected 1") && has("shards 2"), "{said}");
    assert!(has("store none"), "{said}");
    let (code, said) = ringmq(&["clients", "--prefix", "a/"]);
    assert!(code == 0 && said.starts_with("a/b c\t-\t127.0.0.1:"), "{said}");
    assert!(said.contains("\tconnected\t0 subscriptions\t0 queued\n"), "{said}");
    assert_eq!(ringmq(&["clients", "--prefix", "b"]), (0, String::new()));
    let (code, said) = ringmq(&["kick", "a/b c"]);
    assert!(code == 1 && said.contains("admin"), "{said}");
    let kick = ["kick", "--http-token-file", tokens, "a/b c"];
    assert_eq!(ringmq(&kick), (0, "disconnected a/b c\n".to_owned()));
    assert_eq!(client.next(|_| ()), None);
    let (code, said) = ringmq(&kick);
    assert!(code == 1 && said.contains("no client"), "{said}");
    broker.stop();
    let (code, said) = ringmq(&["status"]);
    assert!(code == 1 && said.contains("no broker answers HTTP"), "{said}");
}

#[test]
fn the_store_tells_of_itself() {
    let name = format!("control-store-{}", process::id());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let flags = ["--data-dir", folder.to_str().unwrap(), "--sys-interval", "1"];
    let (broker, port) = controlled(1, &flags);
    let figure = |name: &str| -> u64 {
        metric(port, &format!("ringmq_store_{name}")).unwrap().parse().unwrap()
    };
    let mut sleeper = connect_for(&broker, "sleeper", 600);
    sleeper.subscribe("t", QoS::AtLeastOnce);
    drop(sleeper);
    let names = ["records_total", "live_records", "groups_total", "sync_seconds_count"];
    let mut writer = Client::connect(&broker, Version::V5, "writer");
    // The end of the sleeper's connection is a record, too.
    while figure("live_records") < 3 {}
    let before = names.map(figure);
    for _ in 0..5 {
        writer.send(&publish_at_qos_1("t"));
        assert_eq!(writer.next(|packet| matches!(packet, Packet::Puback(_))), Some(true));
    }
    let grown = names.map(figure).into_iter().zip(before).map(|(now, before)| now - before);
    assert_eq!(grown.collect::<Vec<_>>(), [10, 10, 5, 5], "a message and its receiver each time");
    for (name, value) in [
        ("condition{condition=\"ok\"}", 1),
        ("condition{condition=\"full\"}", 0),
        ("filled_total", 0),
        ("sync_seconds_bucket{le=\"+Inf\"}", figure("sync_seconds_count")),
        ("written_bytes_total", 4096 * figure("groups_total")),
    ] {
        assert_eq!(figure(name), value, "{name}");
    }
    writer.subscribe("$SYS/broker/store/#", QoS::AtMostOnce);
    let mut wanted = BTreeMap::from([
        ("condition", "ok".to_owned()),
        ("live-records", figure("live_records").to_string()),
        ("syncs", figure("sync_seconds_count").to_string()),
    ]);
    while !wanted.is_empty() {
        writer.next(|packet| {
            let Packet::Publish(publish) = packet else { return };
            let name = publish.topic.strip_prefix("$SYS/broker/store/").unwrap();
            wanted.retain(|topic, value| *topic != name || value.as_bytes() != publish.payload);
        });
    }
    let status = Command::new(env!("CARGO_BIN_EXE_ringmq"))
        .args(["status", "--at", &format!("127.0.0.1:{port}")])
        .output()
        .unwrap();
    let said = String::from_utf8(status.stdout).unwrap();
    let last = said.lines().last().unwrap().split_whitespace();
    assert!(last.eq(["store", "ok"]), "{said}");
    broker.stop();
    fs::remove_dir_all(folder).unwrap();
}

fn publish_at_qos_1(topic: &str) -> Vec<u8> {
    let publish = Publish {
        dup: false,
        retain: false,
        delivery: Delivery::AtLeastOnce(PacketId::MIN),
        topic,
        properties: PublishProperties::default(),
        payload: b"m",
    };
    encode(&Packet::Publish(publish), Version::V5)
}

/// Whatever the document describes is answered, and as it says.
#[test]
fn answers_are_those_of_the_document() {
    let (broker, port) = controlled(1, &[]);
    let document = json(&get(port, "/api/v1/openapi.json"));
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, described) in methods.as_object().unwrap() {
            let path = path.replace("{id}", "a").replace("{topic}", "a");
            let line = format!("{} {path}", method.to_uppercase());
            let status = request(port, &line, &[], "").status;
            assert!(described["responses"].get(status.to_string()).is_some(), "{line}: {status}");
            assert!(status != 404 || path.contains("/a/") || path.ends_with("/a"), "{line}");
            assert_eq!(status == 401, method != "get", "{line}");
        }
    }
    broker.stop();
}

#[test]
fn wrong_requests_are_answered_in_words() {
    let tokens = secret_file("control-tokens", TOKENS);
    let (broker, port) = controlled(1, &["--http-token-file", tokens.to_str().unwrap()]);
    let with = |line: &str, fields: &[&str]| request(port, line, fields, "");
    assert_problem(&get(port, "/nothing"), 404, "nothing at /nothing");
    assert_problem(&with("POST /metrics", &[]), 401, "admin");
    let unauthorized = with("GET /metrics", &["Authorization: Bearer cccccccccccccccc"]);
    assert_problem(&unauthorized, 401, "--http-token-file");
    assert!(unauthorized.field("www-authenticate").unwrap().starts_with("Bearer"));
    assert_problem(&with("POST /metrics", &[READER]), 403, "admin");
    assert_problem(&with("POST /metrics", &[ADMIN]), 405, "POST");
    assert_problem(&with("GET /metrics", &["Origin: https://evil.example"]), 403, "Origin");
    let rebound = "GET /metrics HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    assert_problem(&raw(port, rebound), 421, "--http-host");
    assert_eq!(raw(port, "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n").status, 400);
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(64 << 10));
    assert!([414, 431].contains(&raw(port, &long).status));
    let fields: Vec<String> = (0..100).map(|n| format!("X-{n}: 1")).collect();
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    assert_eq!(with("GET /metrics", &fields).status, 431);
    assert_eq!(get(port, "/healthz").status, 200);
    broker.stop();
}

#[test]
fn what_others_could_reach_or_read_is_refused_at_the_start() {
    let open = secret_file("control-open-tokens", TOKENS);
    fs::set_permissions(&open, fs::Permissions::from_mode(0o640)).unwrap();
    let run = |flags: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringmq"));
        let output = command.args(["--listen", "127.0.0.1:0"]).args(flags).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, said) = run(&["--listen-http", "0.0.0.0:0"]);
    assert!(status == 2 && said.contains("add --http-token-file"), "{said}");
    let (status, said) =
        run(&["--listen-http", "127.0.0.1:0", "--http-token-file", open.to_str().unwrap()]);
    assert!(status == 1 && said.contains("chmod 600"), "{said}");
}

/// They are read again by SIGHUP.
#[test]
fn tokens_change_while_the_broker_runs() {
    let tokens = secret_file("control-new-tokens", TOKENS);
    let (mut broker, port) = controlled(1, &["--http-token-file", tokens.to_str().unwrap()]);
    let status = |token| request(port, "GET /metrics", &[token], "").status;
    assert_eq!(status(READER), 200);
    fs::write(&tokens, "reader cccccccccccccccc\n").unwrap();
    broker.signal("HUP");
    broker.await_words("SIGHUP: the configuration was read again");
    assert_eq!((status(READER), status("Authorization: Bearer cccccccccccccccc")), (401, 200));
    broker.stop();
}

#[test]
fn what_comes_over_http_is_counted() {
    let tokens = secret_file("control-counted-tokens", TOKENS);
    let (broker, port) = controlled(1, &["--http-token-file", tokens.to_str().unwrap()]);
    let mut silent = open(port);
    let with = |line: &str, fields: &[&str]| request(port, line, fields, "").status;
    assert_eq!((with("GET /healthz", &[READER]), with("GET /nothing", &[])), (200, 404));
    assert_eq!((with("POST /metrics", &[]), with("POST /metrics", &[READER])), (401, 403));
    assert_eq!(with("GET /metrics", &["Authorization: Bearer cccccccccccccccc"]), 401);
    assert_eq!(with("GET /metrics", &["Origin: https://evil.example"]), 403);
    assert_eq!(raw(port, "GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n").status, 421);
    assert_eq!(raw(port, "\x16\x03\x01\r\n\r\n").status, 400);
    // The broker closes it because no request comes. An idle connection of a client that has sent
    // one is closed, too, and not counted.
    let _ = silent.read_to_end(&mut Vec::new());
    let metrics = get(port, "/metrics").body;
    for (name, value) in [
        ("ringmq_http_connections_accepted_total", "10"),
        ("ringmq_http_requests_total{code=\"2xx\"}", "1"),
        ("ringmq_http_requests_total{code=\"4xx\"}", "6"),
        ("ringmq_http_requests_total{code=\"5xx\"}", "0"),
        ("ringmq_http_refused_total{reason=\"no-token\"}", "1"),
        ("ringmq_http_refused_total{reason=\"wrong-token\"}", "1"),
        ("ringmq_http_refused_total{reason=\"role\"}", "1"),
        ("ringmq_http_refused_total{reason=\"host\"}", "1"),
        ("ringmq_http_refused_total{reason=\"origin\"}", "1"),
        ("ringmq_http_refused_total{reason=\"malformed\"}", "1"),
        ("ringmq_http_refused_total{reason=\"timeout\"}", "1"),
        ("ringmq_http_refused_total{reason=\"too-many-failures\"}", "0"),
        ("ringmq_http_refused_total{reason=\"too-many-connections\"}", "0"),
    ] {
        assert_eq!(value_of(&metrics, name), Some(value), "{name}");
    }
    broker.stop();
}

/// Who has a right token is let in from the same address all the same.
#[test]
fn an_address_with_many_wrong_tokens_has_to_wait() {
    let tokens = secret_file("control-guessed-tokens", TOKENS);
    let (mut broker, port) = controlled(1, &["--http-token-file", tokens.to_str().unwrap()]);
    let status = |fields: &[&str]| request(port, "GET /metrics", fields, "").status;
    assert_eq!(status(&[READER]), 200);
    let guess = |n| request(port, "GET /", &[&format!("Authorization: Bearer {n:016}")], "");
    let (looked_at, refused) =
        (0..100).map(|n| (n, guess(n))).find(|(_, answer)| answer.status != 401).unwrap();
    assert!((10..30).contains(&looked_at), "{looked_at}");
    assert_problem(&refused, 429, "wrong");
    let seconds: u64 = refused.field("retry-after").unwrap().parse().unwrap();
    assert!((1..=8).contains(&seconds), "{seconds}");
    assert_eq!((status(&[READER]), status(&[])), (200, 200));
    let name = "ringmq_http_refused_total{reason=\"wrong-token\"}";
    assert_eq!(metric(port, name), Some(looked_at.to_string()));
    let name = "ringmq_http_refused_total{reason=\"too-many-failures\"}";
    assert_eq!(metric(port, name).as_deref(), Some("1"));
    let line = broker.await_words("a wrong token was shown over HTTP");
    assert!(line.contains("peer=127.0.0.1:"), "{line}");
    broker.stop();
}

/// Clients that send nothing, or the beginning of a request, hold nobody up.
#[test]
fn two_hundred_slow_clients_harm_nobody() {
    let (broker, port) = controlled(1, &[]);
    let slow: Vec<TcpStream> = (0..200)
        .map(|n| {
            let mut stream = open(port);
            if n % 2 == 0 {
                stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: local").unwrap();
            }
            stream
        })
        .collect();
    // Sooner than the time that a client has for the head of its request.
    let mut stream = open(port);
    stream.set_read_timeout(Some(Duration::from_secs(4))).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    Client::connect(&broker, Version::V311, "beside").ping();
    let descriptors = fs::read_dir(format!("/proc/{}/fd", broker.pid())).unwrap().count();
    assert!(descriptors < 64 + 64, "{descriptors}");
    let refused = |reason: &str| -> usize {
        let name = format!("ringmq_http_refused_total{{reason=\"{reason}\"}}");
        metric(port, &name).unwrap().parse().unwrap()
    };
    // On a slow machine the time of some is over first.
    let closed = refused("too-many-connections") + refused("timeout");
    assert!((200 - 64..=202).contains(&closed), "{closed}");
    drop(slow);
    broker.stop();
}
