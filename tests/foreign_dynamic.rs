//! Dynamic security, side by side with Debian's mosquitto and its plugin: what `mosquitto_ctrl`
//! prints, what commands are answered, what the file has then, and what clients may do by it.
//! `scripts/test.sh` installs mosquitto.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "foreign/broker.rs"]
#[expect(dead_code, reason = "other tests ask more of it")]
mod broker;
#[path = "support/client.rs"]
#[expect(dead_code, reason = "other tests ask more of it")]
mod client;
#[path = "foreign_dynamic/session.rs"]
mod session;
#[path = "support/source.rs"]
mod source;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use broker::Broker;
use client::{Client, encode, subscribe};
use ringmq::mqtt::{
    Connect, Delivery, Packet, PacketId, Publish, PublishProperties, QoS, ReasonCode, Unsubscribe,
    UnsubscribeFilters, UserProperties, Version,
};

const COMMANDS: &str = "$CONTROL/dynamic-security/v1";
const ANSWERS: &str = "$CONTROL/dynamic-security/v1/response";

/// A folder with a file as `mosquitto_ctrl dynsec init` makes it, for `admin` with `secret`.
fn file(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("dynamic-{name}"));
    drop(fs::remove_dir_all(&folder));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("dynamic.json");
    let shown = path.to_str().unwrap();
    let made = Command::new("mosquitto_ctrl")
        .args(["dynsec", "init", shown, "admin", "secret"])
        .stdout(Stdio::null())
        .status();
    assert!(made.expect("not installed, please run scripts/test.sh").success());
    path
}

fn mosquitto(path: &Path) -> Broker {
    let plugin = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"]
        .map(|folder| format!("{folder}/mosquitto_dynamic_security.so"));
    let plugin = plugin.iter().find(|path| Path::new(path).exists()).unwrap();
    let path = path.display();
    Broker::mosquitto_with(&format!("user root\nplugin {plugin}\nplugin_opt_config_file {path}\n"))
}

fn ringmq(path: &Path, shards: usize) -> Broker {
    let flags = ["--dynamic-security-file", path.to_str().unwrap(), "--allow-anonymous"];
    Broker::ringmq_with(shards, &flags)
}

/// What `mosquitto_ctrl dynsec` prints for these arguments, and whether it succeeds.
fn control(broker: &Broker, arguments: &str) -> String {
    let port = broker.port().to_string();
    let connection = ["-h", "127.0.0.1", "-p", &port, "-u", "admin", "-P", "secret", "dynsec"];
    let done = Command::new("mosquitto_ctrl")
        .args(connection)
        .args(arguments.split(' '))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (out, errors) = (String::from_utf8(done.stdout), String::from_utf8(done.stderr));
    format!("{}{}{:?}", out.unwrap(), errors.unwrap(), done.status.code())
}

fn join(broker: &Broker, user: Option<&str>, client_id: &str) -> Result<Client, ReasonCode> {
    let mut client = Client::open(broker, Version::V5);
    let password = user.map(|_| &b"secret"[..]);
    let connect = Connect { user_name: user, password, ..Connect::new(Version::V5, client_id) };
    client.send(&encode(&Packet::Connect(connect), Version::V5));
    let told = client.next(|packet| match packet {
        Packet::Connack(connack) => connack.reason_code,
        other => panic!("{other:?}"),
    });
    match told.expect("CONNECT is answered") {
        ReasonCode::Success => Ok(client),
        reason_code => Err(reason_code),
    }
}

/// The administrator, who gets answers.
fn administrator(broker: &Broker, client_id: &str) -> Client {
    let mut client = join(broker, Some("admin"), client_id).unwrap();
    client.subscribe(ANSWERS, QoS::AtLeastOnce);
    client
}

fn publish(client: &mut Client, topic: &str, payload: &[u8]) -> ReasonCode {
    let delivery = Delivery::AtLeastOnce(PacketId::MIN);
    let properties = PublishProperties::default();
    let publish = Publish { dup: false, retain: false, delivery, topic, properties, payload };
    client.send(&encode(&Packet::Publish(publish), Version::V5));
    loop {
        let told = client.next(|packet| match packet {
            Packet::Puback(ack) => Some(ack.reason_code),
            Packet::Publish(_) => None,
            other => panic!("{other:?}"),
        });
        if let Some(reason_code) = told.expect("PUBLISH is acknowledged") {
            return reason_code;
        }
    }
}

/// The answer to these commands.
fn ask(client: &mut Client, payload: &str) -> String {
    let delivery = Delivery::AtMostOnce;
    let (properties, topic, payload) = (PublishProperties::default(), COMMANDS, payload.as_bytes());
    let publish = Publish { dup: false, retain: false, delivery, topic, properties, payload };
    client.send(&encode(&Packet::Publish(publish), Version::V5));
    let answer = client.next(|packet| match packet {
        Packet::Publish(publish) => {
            assert_eq!(publish.topic, ANSWERS);
            String::from_utf8(publish.payload.to_vec()).unwrap()
        }
        other => panic!("{other:?}"),
    });
    answer.expect("commands are answered")
}

fn do_all(client: &mut Client, commands: &[&str]) {
    let answer = ask(client, &format!("{{\"commands\":[{}]}}", commands.join(",")));
    assert!(!answer.contains("error"), "{answer}");
}

/// Whether this reason code of a SUBACK or an UNSUBACK refuses.
fn is_refusal(reason_code: u8) -> bool {
    reason_code >= 0x80
}

fn subscribe_to(client: &mut Client, filter: &str) -> u8 {
    client.send(&subscribe(Version::V5, filter, QoS::AtMostOnce));
    loop {
        // Retained messages may come before or after.
        let told = client.next(|packet| match packet {
            Packet::Suback(suback) => Some(suback.reason_codes[0]),
            Packet::Publish(_) => None,
            other => panic!("{other:?}"),
        });
        if let Some(reason_code) = told.unwrap() {
            return reason_code;
        }
    }
}

fn unsubscribe_from(client: &mut Client, filter: &str) -> u8 {
    let unsubscribe = Unsubscribe {
        packet_id: PacketId::MIN,
        user_properties: UserProperties::default(),
        filters: UnsubscribeFilters::List(&[filter]),
    };
    client.send(&encode(&Packet::Unsubscribe(unsubscribe), Version::V5));
    loop {
        // Retained messages may come before or after.
        let told = client.next(|packet| match packet {
            Packet::Unsuback(unsuback) => Some(unsuback.reason_codes[0]),
            Packet::Publish(_) => None,
            other => panic!("{other:?}"),
        });
        if let Some(reason_code) = told.unwrap() {
            return reason_code;
        }
    }
}

/// The reason of the DISCONNECT that ends this connection; messages before it do not matter.
fn await_disconnect(client: &mut Client) -> ReasonCode {
    loop {
        let told = client.next(|packet| match packet {
            Packet::Disconnect(disconnect) => Some(disconnect.reason_code),
            _ => None,
        });
        if let Some(reason_code) = told.expect("DISCONNECT comes before the end") {
            return reason_code;
        }
    }
}

/// What is the same whenever it is run: each password has a salt of its own.
fn without_hashes(text: &str) -> String {
    let is_hash = |line: &&str| ["\"password\"", "\"salt\""].iter().any(|key| line.contains(key));
    text.lines().filter(|line| !is_hash(line)).collect::<Vec<_>>().join("\n")
}

#[test]
fn mosquitto_ctrl_prints_the_same_and_leaves_the_same_file() {
    let (theirs, ours) = (file("ctrl-theirs"), file("ctrl-ours"));
    let (mosquitto, ringmq) = (mosquitto(&theirs), ringmq(&ours, 2));
    for arguments in session::CONTROL {
        let [theirs, ours] = [&mosquitto, &ringmq].map(|broker| control(broker, arguments));
        assert_eq!(ours, theirs, "{arguments}");
    }
    mosquitto.stop();
    ringmq.stop();
    let [theirs, text] = [&theirs, &ours].map(|path| fs::read_to_string(path).unwrap());
    assert_eq!(without_hashes(&text), without_hashes(&theirs));
    let mode = fs::metadata(&ours).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "nobody else may read the hashes");
}

#[test]
fn commands_are_answered_as_mosquitto_answers_them() {
    let (theirs, ours) = (file("commands-theirs"), file("commands-ours"));
    let (mosquitto, ringmq) = (mosquitto(&theirs), ringmq(&ours, 2));
    let [mut at_theirs, mut at_ours] =
        [&mosquitto, &ringmq].map(|broker| administrator(broker, "asker"));
    for payload in session::COMMANDS {
        assert_eq!(ask(&mut at_ours, payload), ask(&mut at_theirs, payload), "{payload}");
    }
    mosquitto.stop();
    ringmq.stop();
    let [theirs, text] = [&theirs, &ours].map(|path| fs::read_to_string(path).unwrap());
    assert_eq!(without_hashes(&text), without_hashes(&theirs));
    // Each broker goes on with the file of the other one.
    let (mosquitto, ringmq) =
        (self::mosquitto(&ours), self::ringmq(Path::new(&file_of(&theirs)), 1));
    let [at_theirs, at_ours] = [&mosquitto, &ringmq].map(|broker| {
        let list = r#"{"commands":[{"command":"listRoles","verbose":true}]}"#;
        ask(&mut administrator(broker, "asker"), list)
    });
    assert_eq!(at_ours, at_theirs);
    mosquitto.stop();
    ringmq.stop();
}

/// A file with this text.
fn file_of(text: &str) -> PathBuf {
    let path = file("of-mosquitto");
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn roles_mean_what_they_mean_to_mosquitto_on_1_shard() {
    compare_rights(1);
}

#[test]
fn roles_mean_what_they_mean_to_mosquitto_on_2_shards() {
    compare_rights(2);
}

fn compare_rights(shards: usize) {
    let [theirs, ours] = ["theirs", "ours"].map(|whose| file(&format!("rights-{whose}-{shards}")));
    let (mosquitto, ringmq) = (mosquitto(&theirs), ringmq(&ours, shards));
    let [theirs, ours] = [&mosquitto, &ringmq].map(tell_rights);
    mosquitto.stop();
    ringmq.stop();
    assert_eq!(theirs.len(), ours.len());
    let differ: Vec<_> = theirs.iter().zip(&ours).filter(|(theirs, ours)| theirs != ours).collect();
    assert!(differ.is_empty(), "{} of {} differ: {differ:#?}", differ.len(), ours.len());
}

/// What each client may do, line by line.
fn tell_rights(broker: &Broker) -> Vec<String> {
    let mut administrator = administrator(broker, "administrator");
    do_all(&mut administrator, session::RIGHTS);
    let mut lines = Vec::new();
    let users = [Some("ada"), Some("bob"), Some("cleo"), None];
    for user in users {
        let mut client = join(broker, user, &format!("one of {user:?}")).unwrap();
        for topic in session::TOPICS {
            let told = publish(&mut client, topic, b"1").is_error();
            lines.push(format!("{user:?} publishes {topic}: refused {told}"));
        }
        for filter in session::FILTERS {
            let told = is_refusal(subscribe_to(&mut client, filter));
            lines.push(format!("{user:?} subscribes {filter}: refused {told}"));
        }
        for filter in session::FILTERS {
            let told = unsubscribe_from(&mut client, filter);
            let is_denied = is_refusal(told);
            lines.push(format!("{user:?} unsubscribes {filter}: refused {is_denied}"));
        }
    }
    for user in users {
        // "root" may publish everything, and everybody may read the mark.
        let mut reader = join(broker, user, &format!("reader {user:?}")).unwrap();
        let mut writer = join(broker, Some("root"), "writer").unwrap();
        for filter in session::FILTERS.iter().chain(&["mark"]) {
            subscribe_to(&mut reader, filter);
        }
        for topic in session::TOPICS.iter().chain(&["mark"]) {
            publish(&mut writer, topic, b"1");
        }
        let came = until_mark(&mut reader);
        for topic in session::TOPICS {
            let is_there = came.iter().any(|other| other == topic);
            lines.push(format!("{user:?} reads {topic}: {is_there}"));
        }
    }
    lines
}

/// The topics of the messages that come before the mark.
fn until_mark(client: &mut Client) -> Vec<String> {
    let mut topics = Vec::new();
    loop {
        let topic = client.next(|packet| match packet {
            Packet::Publish(publish) => publish.topic.to_owned(),
            other => panic!("{other:?}"),
        });
        match topic.unwrap() {
            topic if topic == "mark" => return topics,
            topic => topics.push(topic),
        }
    }
}

#[test]
fn changes_disconnect_whom_they_concern_as_at_mosquitto() {
    let (theirs, ours) = (file("kicks-theirs"), file("kicks-ours"));
    let (mosquitto, ringmq) = (mosquitto(&theirs), ringmq(&ours, 2));
    for broker in [&mosquitto, &ringmq] {
        let mut admin = administrator(broker, "administrator");
        do_all(&mut admin, session::RIGHTS);
        for command in session::KICKS {
            // "ada" is in the group, "bob" has the role, "cleo" has neither.
            let [mut ada, mut bob, mut cleo] =
                ["ada", "bob", "cleo"].map(|user| join(broker, Some(user), user).unwrap());
            let mut anonymous = join(broker, None, "nobody").unwrap();
            let (command, kicked) = command;
            do_all(&mut admin, &[command]);
            let everybody =
                [("ada", &mut ada), ("bob", &mut bob), ("cleo", &mut cleo), ("", &mut anonymous)];
            for (name, client) in everybody {
                if kicked.contains(&name) {
                    let reason_code = await_disconnect(client);
                    let expected = ReasonCode::AdministrativeAction;
                    assert_eq!(reason_code, expected, "{:?} {command} {name}", broker.kind());
                } else {
                    client.ping();
                }
            }
        }
    }
    mosquitto.stop();
    ringmq.stop();
}

#[test]
fn commands_are_for_those_with_the_right_and_answers_for_the_asker() {
    let path = file("private");
    let broker = ringmq(&path, 2);
    let mut admin = administrator(&broker, "administrator");
    do_all(&mut admin, session::RIGHTS);
    do_all(
        &mut admin,
        &[r#"{"command":"addRoleACL","rolename":"all","acltype":"publishClientReceive",
            "topic":"$CONTROL/#","allow":true}"#],
    );
    // Others who may read the commands and the answers get neither.
    let mut others: Vec<Client> = ["other-1", "other-2", "other-3"]
        .map(|client_id| {
            let mut other = join(&broker, Some("root"), client_id).unwrap();
            assert!(!is_refusal(subscribe_to(&mut other, "$CONTROL/#")));
            assert!(!is_refusal(subscribe_to(&mut other, "mark")));
            other
        })
        .into();
    let list = r#"{"commands":[{"command":"listClients"}]}"#;
    assert!(ask(&mut admin, list).contains("\"totalCount\":5"));
    let mut bob = join(&broker, Some("bob"), "bob").unwrap();
    assert_eq!(publish(&mut bob, COMMANDS, list.as_bytes()), ReasonCode::NotAuthorized);
    // Of topics for commands there is this one only.
    let wrong = "$CONTROL/dynamic-security/v2";
    assert_eq!(publish(&mut admin, wrong, list.as_bytes()), ReasonCode::NotAuthorized);
    assert_eq!(publish(&mut admin, ANSWERS, b"{}"), ReasonCode::NotAuthorized);
    let large = vec![b' '; (256 << 10) + 1];
    assert_eq!(publish(&mut admin, COMMANDS, &large), ReasonCode::QuotaExceeded);
    let mut root = join(&broker, Some("root"), "root").unwrap();
    assert!(!publish(&mut root, "mark", b"1").is_error());
    for other in &mut others {
        assert_eq!(until_mark(other), [""; 0]);
    }
    broker.stop();
}

#[test]
fn a_change_holds_in_all_shards_when_it_is_answered_and_after_a_restart() {
    let path = file("holds");
    let broker = ringmq(&path, 2);
    let mut admin = administrator(&broker, "administrator");
    do_all(&mut admin, session::RIGHTS);
    let mut readers = ["r1", "r2", "r3", "r4"].map(|client_id| {
        let mut reader = join(&broker, Some("root"), client_id).unwrap();
        assert!(!is_refusal(subscribe_to(&mut reader, "#")));
        reader
    });
    // Nobody is disconnected by this, and what is left is a right to the mark.
    let defaults = r#"{"command":"setDefaultACLAccess","acls":[
        {"acltype":"publishClientReceive","allow":false}]}"#;
    do_all(&mut admin, &[defaults]);
    let mut writer = join(&broker, Some("root"), "writer").unwrap();
    for topic in ["x/1", "mark"] {
        assert!(!publish(&mut writer, topic, b"1").is_error());
    }
    for reader in &mut readers {
        assert_eq!(until_mark(reader), [""; 0]);
    }
    let disable = r#"{"command":"disableClient","username":"bob"}"#;
    let bind = r#"{"command":"setClientId","username":"cleo","clientid":"mine"}"#;
    do_all(&mut admin, &[disable, bind]);
    let told = |broker: &Broker, user, client_id| join(broker, Some(user), client_id).err();
    let refused = Some(ReasonCode::NotAuthorized);
    assert_eq!((told(&broker, "bob", "b"), told(&broker, "cleo", "c")), (refused, refused));
    assert_eq!(told(&broker, "cleo", "mine"), None);
    broker.stop();
    let mut broker = ringmq(&path, 1);
    assert_eq!((told(&broker, "bob", "b"), told(&broker, "cleo", "mine")), (refused, None));
    // What another hand writes into the file holds after a reload; rubbish changes nothing.
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"disabled\":\ttrue,", "")).unwrap();
    broker.signal("HUP");
    broker.await_words("was read again");
    assert_eq!(told(&broker, "bob", "b"), None);
    fs::write(&path, "{\"clients\": [}").unwrap();
    broker.signal("HUP");
    broker.await_words("the configuration stays as it was");
    assert_eq!(told(&broker, "bob", "b"), None);
    broker.stop();
}

#[test]
fn a_file_that_cannot_be_written_changes_nothing() {
    let path = file("unwritable");
    let mut broker = ringmq(&path, 1);
    let mut admin = administrator(&broker, "administrator");
    let folder = path.parent().unwrap();
    fs::remove_dir_all(folder).unwrap();
    fs::write(folder, "in the way").unwrap();
    let create = r#"{"commands":[{"command":"createRole","rolename":"x"}]}"#;
    assert!(ask(&mut admin, create).contains("the file cannot be written"));
    broker.await_words("the dynamic security file cannot be written");
    let get = r#"{"commands":[{"command":"getRole","rolename":"x"}]}"#;
    assert!(ask(&mut admin, get).contains("Role not found"));
    fs::remove_file(folder).unwrap();
    assert!(!ask(&mut admin, create).contains("error"));
    assert!(fs::read_to_string(&path).unwrap().contains("\"rolename\":\t\"x\""));
    broker.stop();
}
