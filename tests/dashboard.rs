//! The dashboard: how its files are served, and what a person does with it in a browser.
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
#[path = "support/webdriver.rs"]
mod webdriver;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use broker::Broker;
use client::{Client, encode};
use http::{Answer, controlled, get, request};
use ringmq::mqtt::{Delivery, Packet, Publish, PublishProperties, QoS, ReasonCode, Version};
use serde_json::{Value, json};
use webdriver::Browser;

const ADMIN: &str = "bbbbbbbbbbbbbbbb";
const READER: &str = "aaaaaaaaaaaaaaaa";

/// A file of tokens that its owner alone may read.
fn tokens(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, format!("reader {READER}\nadmin {ADMIN}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

fn retain(client: &mut Client, topic: &str, payload: &[u8]) {
    let publish = Publish {
        dup: false,
        retain: true,
        delivery: Delivery::AtMostOnce,
        topic,
        properties: PublishProperties::default(),
        payload,
    };
    client.send(&encode(&Packet::Publish(publish), Version::V5));
    client.ping();
}

fn json(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str(&answer.body).unwrap()
}

/// The files that the page loads, and those that they load.
fn files(port: u16) -> Vec<String> {
    let mut found = vec!["/".to_owned()];
    let mut at = 0;
    while let Some(path) = found.get(at).cloned() {
        let text = get(port, &path).body;
        let folder = path.rsplit_once('/').unwrap().0.to_owned();
        let links = text.split("\"/dashboard/").skip(1).map(|rest| format!("/dashboard/{rest}"));
        let imports = text.split(" from '").skip(1).map(|rest| match rest.strip_prefix("../") {
            Some(rest) => format!("{}/{rest}", folder.rsplit_once('/').unwrap().0),
            None => format!("{folder}/{}", rest.trim_start_matches("./")),
        });
        for link in links.chain(imports) {
            let link = link.split(['"', '\'']).next().unwrap().to_owned();
            if !found.contains(&link) {
                found.push(link);
            }
        }
        at += 1;
    }
    found
}

#[test]
fn files_are_served_with_fields_that_keep_strangers_out() {
    let (broker, port) = controlled(1, &[]);
    let files = files(port);
    assert!(files.len() > 10, "{files:?}");
    for path in &files {
        let answer = get(port, path);
        assert_eq!(answer.status, 200, "{path}");
        let kind = match path.rsplit_once('.') {
            None => "text/html; charset=utf-8",
            Some((_, "js")) => "text/javascript; charset=utf-8",
            Some((_, "css")) => "text/css; charset=utf-8",
            Some((_, _)) => "image/svg+xml",
        };
        let policy = answer.field("content-security-policy").unwrap();
        for (name, value) in [
            ("content-type", kind),
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-cache"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.field(name), Some(value), "{path}");
        }
        for rule in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
        ] {
            assert!(policy.split("; ").any(|found| found == rule), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
        // Nothing is loaded from elsewhere. The name of SVG's namespace is no address.
        let text = answer.body.replace("http://www.w3.org/2000/svg", "");
        for word in ["http:", "https:", "\"//", "'//", "url(", "@import"] {
            assert!(!text.contains(word), "{path} names another place");
        }
        let head = request(port, &format!("HEAD {path}"), &[], "");
        let length = answer.body.len().to_string();
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
        assert_eq!(head.field("content-length"), Some(length.as_str()), "{path}");
        let tag = format!("If-None-Match: {}", answer.field("etag").unwrap());
        let known = request(port, &format!("GET {path}"), &[&tag], "");
        assert_eq!((known.status, known.body.as_str()), (304, ""), "{path}");
        let other = request(port, &format!("GET {path}"), &["If-None-Match: \"other\""], "");
        assert_eq!(other.status, 200);
        assert_eq!(request(port, &format!("POST {path}"), &[], "").status, 401);
    }
    for path in ["/dashboard", "/dashboard/", "/dashboard/../mod.rs", "/dashboard/no.js", "/x"] {
        let answer = get(port, path);
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.field("content-type"), Some("application/problem+json"), "{path}");
    }
    broker.stop();
}

#[test]
fn each_one_is_told_what_it_may_do() {
    let file = tokens("dashboard-roles");
    let (broker, port) = controlled(1, &["--http-token-file", file.to_str().unwrap()]);
    let access = |fields: &[&str]| json(&request(port, "GET /api/v1/access", fields, ""));
    assert_eq!(access(&[]), json!({ "role": null, "may_change": false }));
    let reader = json!({ "role": "reader", "may_change": false });
    assert_eq!(access(&[&bearer(READER)]), reader);
    assert_eq!(access(&[&bearer(ADMIN)]), json!({ "role": "admin", "may_change": true }));
    broker.stop();
}

/// All names of a level, in pages of this size: the level, `.` if it has a message, `/` if there
/// are further levels.
fn levels(port: u16, below: &str, limit: usize) -> Vec<String> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = format!("/api/v1/topics?limit={limit}{below}{cursor}");
        let page = json(&get(port, &page));
        for level in page["levels"].as_array().unwrap() {
            let mark = |key: &str, mark| if level[key] == true { mark } else { "" };
            let (retained, deeper) = (mark("retained", "."), mark("deeper", "/"));
            found.push(format!("{}{retained}{deeper}", level["level"].as_str().unwrap()));
        }
        match page["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={}", encoded(next)),
            None => return found,
        }
    }
}

fn encoded(text: &str) -> String {
    let escaped = |byte: u8| format!("%{byte:02X}");
    text.bytes().map(escaped).collect()
}

#[test]
fn retained_topics_are_a_tree() {
    let (broker, port) = controlled(1, &[]);
    let mut client = Client::connect(&broker, Version::V5, "writer");
    for topic in ["a", "a-b", "a/b", "a/b/c", "a/d/e", "a0", "/", "//x", "x/y", "x/\u{FFFD}/z"] {
        retain(&mut client, topic, b"1");
    }
    for number in 0..300 {
        retain(&mut client, &format!("many/{number:03}/value"), b"1");
    }
    for limit in [1, 2, 3, 100, 1000] {
        let first = ["/", "a./", "a-b.", "a0.", "many/", "x/"];
        assert_eq!(levels(port, "", limit), first, "{limit}");
        assert_eq!(levels(port, "&below=a", limit), ["b./", "d/"], "{limit}");
        assert_eq!(levels(port, "&below=", limit), ["./"], "{limit}");
        assert_eq!(levels(port, "&below=%2F", limit), ["x."], "{limit}");
        assert_eq!(levels(port, "&below=x", limit), ["y.", "\u{FFFD}/"], "{limit}");
        assert_eq!(levels(port, "&below=none", limit), [""; 0], "{limit}");
        assert_eq!(levels(port, "&below=many%2F007", limit), ["value."], "{limit}");
    }
    let many: Vec<String> = (0..300).map(|number| format!("{number:03}/")).collect();
    assert_eq!(levels(port, "&below=many", 70), many);
    assert!(levels(port, "&below=$SYS%2Fbroker", 100).contains(&"uptime.".to_owned()));
    for wrong in ["below=%2B", "below=a%2F%23", "limit=0", "colour=red"] {
        let answer = get(port, &format!("/api/v1/topics?{wrong}"));
        assert_eq!(answer.status, 400, "{wrong}: {answer:?}");
    }
    broker.stop();
}

/// All subscriptions as client and filter, in pages of this size.
fn subscriptions(port: u16, query: &str, limit: usize) -> Vec<(String, String)> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/v1/subscriptions?limit={limit}{query}{cursor}");
        let page = json(&get(port, &path));
        let entries = page["subscriptions"].as_array().unwrap();
        assert!(entries.len() <= limit, "{page}");
        let text = |entry: &Value, key: &str| entry[key].as_str().unwrap().to_owned();
        found.extend(entries.iter().map(|it| (text(it, "client_id"), text(it, "filter"))));
        match page["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={}", encoded(next)),
            None => break,
        }
    }
    found.sort();
    found
}

#[test]
fn subscriptions_of_all_sessions_are_listed_in_pages() {
    let (broker, port) = controlled(2, &[]);
    let mut wanted = Vec::new();
    let mut clients = Vec::new();
    for (client_id, count) in [("a", 0), ("b.c.-", 130), ("c", 1), ("d", 3), (HOSTILE, 2)] {
        let mut client = Client::connect(&broker, Version::V5, client_id);
        for number in 0..count {
            let filter = format!("{number}/{client_id}/+");
            client.subscribe(&filter, QoS::AtMostOnce);
            wanted.push((client_id.to_owned(), filter));
        }
        clients.push(client);
    }
    wanted.sort();
    for limit in [1, 7, 100, 1000] {
        assert_eq!(subscriptions(port, "", limit), wanted, "{limit}");
    }
    wanted.retain(|(_, filter)| filter.starts_with("1/"));
    assert_eq!(subscriptions(port, "&prefix=1/", 1), wanted);
    for wrong in ["cursor=x", "cursor=9.0", "cursor=0.x", "cursor=0.0.1", "limit=0", "colour=red"] {
        let answer = get(port, &format!("/api/v1/subscriptions?{wrong}"));
        assert_eq!(answer.status, 400, "{wrong}: {answer:?}");
    }
    drop(clients);
    broker.stop();
}

#[test]
fn listeners_are_told_with_their_ports_and_certificates() {
    let [certificate, key] = ["server.pem", "server-key.pem"]
        .map(|file| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(file));
    let flags = [
        ["--listen-websocket", "127.0.0.1:0"],
        ["--websocket-path", "/mqtt"],
        ["--listen-tls", "127.0.0.1:0"],
        ["--tls-cert", certificate.to_str().unwrap()],
        ["--tls-key", key.to_str().unwrap()],
    ];
    let (broker, port) = controlled(1, flags.as_flattened());
    let told = json(&get(port, "/api/v1/listeners"));
    let listeners = told["listeners"].as_array().unwrap();
    let of = |protocol| listeners.iter().find(|it| it["protocol"] == protocol).unwrap();
    assert_eq!(listeners.len(), 3, "{told}");
    assert_eq!(of("tcp")["address"], format!("127.0.0.1:{}", broker.port()));
    assert_eq!((&of("tcp")["path"], &of("tcp")["certificates"]), (&Value::Null, &json!([])));
    assert_eq!(
        (&of("websocket")["path"], &of("websocket")["proxied"]),
        (&"/mqtt".into(), &false.into())
    );
    assert!(!of("websocket")["address"].as_str().unwrap().ends_with(":0"), "{told}");
    assert!(
        of("tls")["certificates"][0]["expires"].as_u64().unwrap() > 1_700_000_000_000,
        "{told}"
    );
    broker.stop();
}

/// Sets a variable of the page if it is ever more than text.
const MARKUP: &str = "<img src=x onerror=\"window.executed=1\">";
/// Would turn the text behind it around.
const HOSTILE: &str = "<b>'\"&amp;</b>\u{202E}gnp.exe<script>window.executed=1</script>";

fn start(browser: &Browser, port: u16) {
    browser.go(&format!("http://127.0.0.1:{port}/"));
    browser.find("//h1[.='Overview']");
}

fn log_in(browser: &Browser, token: &str) {
    browser.click("//header//button[.='Log in']");
    browser.write("//input[@id='token']", token);
    browser.click("//dialog//button[.='Log in']");
}

#[track_caller]
fn assert_harmless(browser: &Browser) {
    assert_eq!(browser.value("window.executed", &[]), Value::Null);
    let foreign = "document.querySelectorAll('main img, main b, main script, dialog img').length";
    assert_eq!(browser.value(foreign, &[]), 0);
    // An answer that is wanted, such as that a client has gone, is an error to the browser.
    let is_answer = |it: &str| it.contains("the server responded with a status of 40");
    let mut console = browser.console();
    console.retain(|entry| !entry.starts_with("\"DEBUG\"") && !is_answer(entry));
    assert_eq!(console, [""; 0]);
}

#[test]
fn a_person_finds_and_disconnects_a_client() {
    let file = tokens("dashboard-kick");
    let (broker, port) = controlled(2, &["--http-token-file", file.to_str().unwrap()]);
    let others: Vec<Client> = (0..150)
        .map(|number| Client::connect(&broker, Version::V311, &format!("sensor-{number:03}")))
        .collect();
    let mut hostile = Client::connect(&broker, Version::V5, HOSTILE);
    hostile.subscribe(MARKUP, QoS::AtLeastOnce);
    let browser = Browser::open();
    start(&browser, port);
    browser.find("//a[@href='#/clients'][span='Clients'][strong='151']");
    browser.find("//section[h2='Shards']//tbody/tr[2]");
    browser.click("//nav/a[.='Clients']");
    browser.find("//tbody[count(tr)=100]");
    browser.click("//button[starts-with(.,'Next')]");
    browser.find("//tbody[count(tr)=51]");
    browser.write("//input[@id='prefix']", "sensor-14");
    browser.find("//tbody[count(tr)=10]");
    browser.write("//input[@id='prefix']", "<b>");
    browser.find("//tbody[count(tr)=1]");
    browser.click("//td//a");
    browser.find("//h1[contains(.,\"<b>'\") and contains(.,'U+202E')]");
    browser.find("//section[h2='Subscriptions']//td[contains(.,'<img src=x')]");
    // Nobody is logged in: there is nothing to change anything with.
    browser.find("//main[not(.//button[@id='kick'])]");
    log_in(&browser, "cccccccccccccccc");
    browser.find("//dialog//p[contains(.,'--http-token-file')][@role='alert']");
    browser.click("//dialog//button[.='Cancel']");
    log_in(&browser, READER);
    browser.find("//header[contains(.,'reader')]//button[.='Log out']");
    browser.find("//main[.//section[h2='Session']][not(.//button[@id='kick'])]");
    browser.click("//button[.='Log out']");
    log_in(&browser, ADMIN);
    browser.click("//button[@id='kick']");
    browser.find("//dialog[contains(.,'U+202E')]");
    browser.click("//dialog//button[.='Cancel']");
    hostile.ping();
    browser.click("//button[@id='kick']");
    browser.click("//dialog//button[.='Disconnect']");
    let code = hostile.next(|packet| match packet {
        Packet::Disconnect(disconnect) => disconnect.reason_code,
        other => panic!("{other:?}"),
    });
    assert_eq!(code, Some(ReasonCode::AdministrativeAction));
    assert_eq!(hostile.next(|_| ()), None);
    browser.find("//main[contains(.,'No client has a session')]");
    assert_harmless(&browser);
    drop((browser, others));
    broker.stop();
}

#[test]
fn a_person_browses_retained_messages_and_deletes_one() {
    let file = tokens("dashboard-retained");
    let (broker, port) = controlled(1, &["--http-token-file", file.to_str().unwrap()]);
    let mut client = Client::connect(&broker, Version::V5, "writer");
    retain(&mut client, "house/attic/temperature", b"14.5");
    retain(&mut client, "house/kitchen", br#"{"open":[true]}"#);
    retain(&mut client, &format!("{MARKUP}/x"), MARKUP.as_bytes());
    let browser = Browser::open();
    start(&browser, port);
    log_in(&browser, ADMIN);
    browser.click("//nav/a[.='Retained']");
    browser.click("//button[@aria-label='Levels below house']");
    browser.click("//button[@data-topic='house/kitchen']");
    browser.find("//pre[contains(.,'\"open\": [')]");
    browser.click("//button[@aria-label='Levels below house/attic']");
    browser.click("//button[@data-topic='house/attic/temperature']");
    browser.find("//pre[.='14.5']");
    browser.click("//button[@id='delete']");
    browser.click("//dialog//button[.='Delete']");
    browser.find("//main[contains(.,'Choose a topic')]");
    let topic = "/api/v1/retained/house%2Fattic%2Ftemperature";
    assert_eq!(get(port, topic).status, 404);
    browser.write("//input[@id='filter']", "+/x");
    browser.click("//td//button[contains(.,'<img src=x')]");
    browser.find("//pre[contains(.,'<img src=x')]");
    assert_harmless(&browser);
    drop(browser);
    broker.stop();
}

#[test]
fn a_person_sees_events_bans_a_client_and_tries_messages() {
    let file = tokens("dashboard-events");
    let flags = ["--listen-websocket", "127.0.0.1:0", "--http-token-file", file.to_str().unwrap()];
    let (broker, port) = controlled(2, &flags);
    let browser = Browser::open();
    start(&browser, port);
    log_in(&browser, ADMIN);
    browser.click("//nav/a[.='Events']");
    browser.find("//span[@role='status'][.='waits for events']");
    let mut client = Client::connect(&broker, Version::V5, HOSTILE);
    browser
        .find("//tr[contains(.,'connected') and contains(.,'<script>')][contains(.,'MQTT 5.0')]");
    browser.click("//td//a[contains(.,'<script>')]");
    browser.click("//main//a[starts-with(.,'Ban')]");
    browser.write("//input[@id='reason']", MARKUP);
    browser.click("//form//button[.='Ban']");
    browser.find("//p[.='Banned. Clients that were disconnected: 1.']");
    let code = client.next(|packet| matches!(packet, Packet::Disconnect(_)));
    assert_eq!((code, client.next(|_| ())), (Some(true), None));
    browser.find("//td[contains(.,'<img src=x')]");
    browser.click("//td//button[.='End']");
    browser.click("//dialog//button[.='End the ban']");
    browser.find("//td[.='Nobody is banned.']");
    Client::connect(&broker, Version::V5, HOSTILE).ping();
    for version in ["5.0", "3.1.1"] {
        try_messages(&browser, &broker, version);
    }
    for (page, found) in [
        ("Subscriptions", "//td[.='No subscription fits.']"),
        ("Listeners", "//td[.='MQTT over WebSocket']"),
        ("Drops", "//tr[contains(.,'banned')][contains(.,'was banned meanwhile')]"),
    ] {
        browser.click(&format!("//nav/a[.='{page}']"));
        browser.find(found);
    }
    assert_harmless(&browser);
    drop(browser);
    broker.stop();
}

/// Publishes and receives with the client of the dashboard.
fn try_messages(browser: &Browser, broker: &Broker, version: &str) {
    browser.click("//nav/a[.='Overview']");
    browser.click("//nav/a[.='MQTT client']");
    browser.find("//input[@id='url']");
    browser.click(&format!("//select[@id='version']/option[.='{version}']"));
    browser.find_value("//input[@id='url']", "ws://127.0.0.1:");
    browser.click("//button[@id='connect']");
    browser.find("//span[@id='state'][.='connected']");
    browser.write("//input[@id='filter']", "try/#");
    browser.click("//select[@id='sub-qos']/option[.='2']");
    browser.click("//button[@id='subscribe']");
    browser.find("//li[contains(.,'try/#')][contains(.,'QoS 2')]");
    for qos in ["0", "1", "2"] {
        browser.write("//input[@id='topic']", &format!("try/{qos}"));
        browser.write("//textarea[@id='payload']", MARKUP);
        browser.click(&format!("//select[@id='pub-qos']/option[.='{qos}']"));
        browser.click("//button[@id='publish']");
        let row = format!("//tr[contains(.,'try/{qos}')][contains(.,'QoS {qos}')]");
        browser.find(&format!("{row}[contains(.,'<img src=x')]"));
    }
    let mut other = Client::connect(broker, Version::V5, "other");
    retain(&mut other, &format!("try/{HOSTILE}"), b"\xFF\x00");
    browser.find("//tr[contains(.,'<script>')][contains(.,'ff 00')]");
    retain(&mut other, &format!("try/{HOSTILE}"), b"");
    browser.click("//button[@aria-label='Unsubscribe try/#']");
    browser.find("//main[not(.//li)]");
    browser.click("//button[@id='connect']");
    browser.find("//span[@id='state'][.='closed']");
}
