//! Rights by topic, side by side with Debian's mosquitto: the same files, the same clients, the
//! same answers, except for the differences that are listed here. `scripts/test.sh` installs
//! mosquitto.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "foreign/broker.rs"]
#[expect(dead_code, reason = "other tests ask more of it")]
mod broker;
#[path = "support/client.rs"]
#[expect(dead_code, reason = "other tests ask more of it")]
mod client;
#[path = "support/source.rs"]
mod source;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use broker::Broker;
use client::{Client, encode, subscribe};
use ringmq::mqtt::{
    Ack, Connect, Delivery, Packet, PacketId, Publish, PublishProperties, QoS, ReasonCode, Version,
    Will, WillProperties,
};

const RULES: &str = "\
# Anonymous clients.
topic read t/public/#
topic write t/anon
topic m
user ada
topic read t/r
topic write t/w
topic readwrite t/rw
topic t/default
topic deny t/no/#
topic t/no/yes
topic read t/+/plus
topic read t/hash/#
topic  write   t/with space
topic readwrite $data/x
topic t/p/no
topic m
user root
topic #
topic $data/#
user a/b
topic m
pattern m
pattern read t/u/%u/#
pattern write t/c/%c
pattern deny t/p/no
pattern t/p/+
pattern read %c/#
";

const TOPICS: [&str; 24] = [
    "t/r",
    "t/w",
    "t/rw",
    "t/default",
    "t/no",
    "t/no/yes",
    "t/x/plus",
    "t/hash",
    "t/hash/a/b",
    "t/with space",
    "$data/x",
    "$data/y",
    "t/u/ada",
    "t/u/ada/x",
    "t/u/bob/x",
    "t/u/a/b",
    "t/c/one",
    "t/c/a/b",
    "t/p/no",
    "t/p/yes",
    "t/public/1",
    "t/anon",
    "t",
    "t/",
];

/// Everybody may publish and read it: what comes before it has come.
const MARK: &str = "m";

/// A User Name and a Client Identifier.
type Who = (Option<&'static str>, &'static str);

const CLIENTS: [Who; 8] = [
    (None, "one"),
    (Some("ada"), "one"),
    (Some("bob"), "one"),
    (Some("ada"), "a+b"),
    (None, "t"),
    (Some("ada"), "a/b"),
    (Some("a/b"), "one"),
    (Some("ada"), "$data"),
];

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

/// Who has more rights at mosquitto, on which topics, and why not here.
const DIFFERENCES: [(Who, &[&str], &str); 3] = [
    (
        (Some("a/b"), "one"),
        &["t/p/yes", "t/u/a/b", "t/c/one"],
        "a User Name with `/` would reach into the place of another user, as of mosquitto 2.1",
    ),
    (
        (Some("ada"), "a/b"),
        &["t/p/yes", "t/u/ada", "t/u/ada/x", "t/c/a/b"],
        "a Client Identifier with `/` would reach into the place of another client",
    ),
    (
        (Some("ada"), "$data"),
        &["$data/y"],
        "a pattern that begins with `%c` is not for topics that begin with `$`",
    ),
];

/// What happened, by what was done.
type Table = BTreeMap<String, String>;

#[test]
fn rights_mean_what_they_mean_to_mosquitto_on_1_shard() {
    compare(1);
}

#[test]
fn rights_mean_what_they_mean_to_mosquitto_on_2_shards() {
    compare(2);
}

fn compare(shards: usize) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let write = |name: &str, text: &str| {
        let path = folder.join(format!("{name}-{shards}"));
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let line = include_str!("stories/passwords.txt").trim_end();
    let users = ["ada", "bob", "root", "a/b"].map(|user| line.replacen("ada", user, 1) + "\n");
    let (users, rules) = (write("rights-users", &users.concat()), write("rights", RULES));
    let lines = format!("user root\npassword_file {users}\nacl_file {rules}\n");
    let mosquitto = Broker::mosquitto_with(&lines);
    let flags = ["--password-file", &users, "--acl-file", &rules, "--allow-anonymous"];
    let ringmq =
        Broker::ringmq_with(shards, &[&flags[..], &["--acl-subscribe", "silent"]].concat());
    let (theirs, ours) = (tell(&mosquitto), tell(&ringmq));
    mosquitto.stop();
    ringmq.stop();
    assert!(theirs.keys().eq(ours.keys()));
    let (mut unlisted, mut listed) = (Vec::new(), BTreeSet::new());
    for (what, theirs) in &theirs {
        let ours = &ours[what];
        match listed_as(what) {
            _ if theirs == ours => {}
            Some(difference) => drop(listed.insert(difference)),
            None => unlisted.push(format!("{what}: mosquitto {theirs}, ringmq {ours}")),
        }
    }
    assert!(
        unlisted.is_empty(),
        "{} differ: {:#?}",
        unlisted.len(),
        unlisted.iter().take(10).collect::<Vec<_>>()
    );
    let all: usize = DIFFERENCES.iter().map(|(_, topics, _)| topics.len()).sum();
    assert_eq!(listed.len(), all, "each listed difference is one: {listed:?}");
}

fn listed_as(what: &str) -> Option<(Who, &'static str)> {
    let of_client = DIFFERENCES.iter().filter(|(who, ..)| what.starts_with(&format!("{who:?} ")));
    let mut all = of_client.flat_map(|(who, topics, _)| topics.iter().map(|&it| (*who, it)));
    all.find(|(_, topic)| what.ends_with(&format!(" {topic}")))
}

fn tell(broker: &Broker) -> Table {
    let mut table = Table::new();
    for version in VERSIONS {
        for who in CLIENTS {
            tell_publish(broker, version, who, &mut table);
            tell_deliver(broker, version, who, &mut table);
            tell_wills(broker, version, who, &mut table);
        }
    }
    retain_all(broker);
    for version in VERSIONS {
        for who in CLIENTS {
            tell_retained(broker, version, who, &mut table);
        }
    }
    table
}

/// What a publisher is told, and whether the message arrives.
fn tell_publish(broker: &Broker, version: Version, who: Who, table: &mut Table) {
    let mut reader = watcher(broker);
    let mut client = join(broker, version, who, None);
    for qos in QoS::ALL {
        for topic in TOPICS {
            let told = publish(&mut client, version, topic, qos);
            publish(&mut client, version, MARK, QoS::AtMostOnce);
            let came = until_mark(&mut reader).contains(&topic.to_owned());
            let what = format!("{who:?} {version:?} publishes at {qos:?} {topic}");
            table.insert(what, format!("{told}, arrives: {came}"));
        }
    }
}

/// What comes to a subscriber, and what it is told.
fn tell_deliver(broker: &Broker, version: Version, who: Who, table: &mut Table) {
    let mut writer = join(broker, Version::V5, (Some("root"), "writer"), None);
    for qos in QoS::ALL {
        let mut client = join(broker, version, who, None);
        for filter in ["t/#", "$data/+", "nothing/of/it"] {
            let told = subscribe_to(&mut client, version, filter, qos);
            let what = format!("{who:?} {version:?} subscribes at {qos:?} {filter}");
            table.insert(what, told);
        }
        subscribe_to(&mut client, version, MARK, QoS::AtMostOnce);
        for topic in TOPICS {
            publish(&mut writer, Version::V5, topic, QoS::ExactlyOnce);
        }
        publish(&mut writer, Version::V5, MARK, QoS::AtMostOnce);
        note(&format!("{who:?} {version:?} reads at {qos:?}"), &until_mark(&mut client), table);
    }
}

fn tell_retained(broker: &Broker, version: Version, who: Who, table: &mut Table) {
    let mut client = join(broker, version, who, None);
    for filter in ["t/#", "$data/+", MARK] {
        client.send(&subscribe(version, filter, QoS::AtMostOnce));
    }
    note(&format!("{who:?} {version:?} is sent the retained"), &until_mark(&mut client), table);
}

fn tell_wills(broker: &Broker, version: Version, who: Who, table: &mut Table) {
    let mut reader = watcher(broker);
    for topic in ["t/w", "t/r", "t/c/one", "t/p/yes", "t/anon", "$data/x"] {
        drop(join(broker, version, who, Some(topic)));
        // When the client is let in again, its earlier connection has ended.
        let mut again = join(broker, version, who, None);
        publish(&mut again, version, MARK, QoS::AtMostOnce);
        let came = until_mark(&mut reader).contains(&topic.to_owned());
        table.insert(format!("{who:?} {version:?} leaves the Will {topic}"), came.to_string());
    }
}

fn note(what: &str, came: &[String], table: &mut Table) {
    for topic in TOPICS {
        let times = came.iter().filter(|other| *other == topic).count();
        table.insert(format!("{what} {topic}"), times.to_string());
    }
}

fn retain_all(broker: &Broker) {
    let mut writer = join(broker, Version::V5, (Some("root"), "writer"), None);
    for topic in TOPICS.into_iter().chain([MARK]) {
        let delivery = Delivery::AtLeastOnce(PacketId::MIN);
        let packet = Packet::Publish(Publish { retain: true, ..message(topic, delivery) });
        writer.send(&encode(&packet, Version::V5));
        writer.next(|packet| assert!(matches!(packet, Packet::Puback(_)), "{packet:?}")).unwrap();
    }
}

/// A client that reads everything.
fn watcher(broker: &Broker) -> Client {
    let mut reader = join(broker, Version::V5, (Some("root"), "reader"), None);
    for filter in ["#", "$data/#"] {
        reader.subscribe(filter, QoS::AtMostOnce);
    }
    reader
}

fn join(broker: &Broker, version: Version, (user, client_id): Who, will: Option<&str>) -> Client {
    let mut client = Client::open(broker, version);
    let properties = WillProperties::default();
    let will = will.map(|topic| Will {
        qos: QoS::AtMostOnce,
        retain: false,
        topic,
        payload: b"will",
        properties,
    });
    let connect = Connect {
        user_name: user,
        password: user.map(|_| &b"secret"[..]),
        will,
        ..Connect::new(version, client_id)
    };
    client.send(&encode(&Packet::Connect(connect), version));
    let let_in = client.next(
        |packet| matches!(packet, Packet::Connack(it) if it.reason_code == ReasonCode::Success),
    );
    assert_eq!(let_in, Some(true), "{user:?} {client_id} {version:?}");
    client
}

fn subscribe_to(client: &mut Client, version: Version, filter: &str, qos: QoS) -> String {
    client.send(&subscribe(version, filter, qos));
    let told = client.next(|packet| match packet {
        Packet::Suback(suback) => format!("{:02x?}", suback.reason_codes),
        other => panic!("{other:?}"),
    });
    told.unwrap()
}

/// Publishes a message and says how it was acknowledged.
fn publish(client: &mut Client, version: Version, topic: &str, qos: QoS) -> String {
    let delivery = match qos {
        QoS::AtMostOnce => Delivery::AtMostOnce,
        QoS::AtLeastOnce => Delivery::AtLeastOnce(PacketId::MIN),
        QoS::ExactlyOnce => Delivery::ExactlyOnce(PacketId::MIN),
    };
    client.send(&encode(&Packet::Publish(message(topic, delivery)), version));
    if qos == QoS::AtMostOnce {
        return "nothing".to_owned();
    }
    // Whether anybody wants the message depends on other clients, and is no matter of rights.
    let told = client.next(|packet| match packet {
        Packet::Puback(ack) => ("PUBACK", ack.reason_code.is_error()),
        Packet::Pubrec(ack) => ("PUBREC", ack.reason_code.is_error()),
        other => panic!("{other:?}"),
    });
    let (name, is_refused) = told.unwrap();
    if name == "PUBREC" && !is_refused {
        client.send(&encode(&Packet::Pubrel(Ack::success(PacketId::MIN)), version));
        client.next(|packet| assert!(matches!(packet, Packet::Pubcomp(_)), "{packet:?}")).unwrap();
    }
    format!("{name} {}", if is_refused { "refuses" } else { "takes" })
}

fn message(topic: &str, delivery: Delivery) -> Publish<'_> {
    Publish {
        dup: false,
        retain: false,
        delivery,
        topic,
        properties: PublishProperties::default(),
        payload: b"1",
    }
}

/// The topics of the messages that come before the mark.
fn until_mark(client: &mut Client) -> Vec<String> {
    let mut topics = Vec::new();
    loop {
        let topic = client.next(|packet| match packet {
            Packet::Publish(publish) => Some(publish.topic.to_owned()),
            Packet::Suback(_) => None,
            other => panic!("{other:?}"),
        });
        match topic.unwrap() {
            Some(topic) if topic == MARK => return topics,
            topic => topics.extend(topic),
        }
    }
}
