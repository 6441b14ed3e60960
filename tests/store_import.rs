//! `ringmq store import` beside a real mosquitto: what that leaves, ringmq goes on with.
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
    num::{NonZeroU16, NonZeroU32},
    path::{Path, PathBuf},
    process::{self, Command},
};

use broker::Broker;
use client::{Client, encode};
use ringmq::mqtt::{
    Ack, Connect, Delivery, Packet, PacketId, Publish, PublishProperties, QoS, RetainHandling,
    Subscribe, SubscribeFilters, SubscriptionOptions, UserProperties, Version,
};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", process::id()));
        drop(fs::remove_dir_all(&path));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

/// The status of a subcommand, and what it says.
fn ringmq(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ringmq")).args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// A client whose session outlives its connection.
fn join(broker: &Broker, version: Version, client_id: &str, window: u16) -> (Client, bool) {
    let mut connect = Connect { clean_start: false, ..Connect::new(version, client_id) };
    if version == Version::V5 {
        connect.properties.session_expiry_interval = Some(3600);
        connect.properties.receive_maximum = NonZeroU16::new(window);
    }
    let mut client = Client::open(broker, version);
    client.send(&encode(&Packet::Connect(connect), version));
    let present = client.next(|packet| match packet {
        Packet::Connack(connack) => connack.session_present,
        other => panic!("{other:?}"),
    });
    (client, present.unwrap())
}

fn subscribe(client: &mut Client, filter: &str, options: SubscriptionOptions, id: u32) {
    let filters = [(filter, options)];
    let subscribe = Packet::Subscribe(Subscribe {
        packet_id: PacketId::new(9).unwrap(),
        subscription_identifier: NonZeroU32::new(id),
        user_properties: UserProperties::default(),
        filters: SubscribeFilters::List(&filters),
    });
    client.send(&encode(&subscribe, Version::V5));
    client.next(|packet| assert!(matches!(packet, Packet::Suback(_)), "{packet:?}")).unwrap();
}

fn publish(client: &mut Client, topic: &str, qos: QoS, retain: bool, payload: &str) {
    let id = PacketId::new(5).unwrap();
    let delivery = match qos {
        QoS::AtMostOnce => Delivery::AtMostOnce,
        QoS::AtLeastOnce => Delivery::AtLeastOnce(id),
        QoS::ExactlyOnce => Delivery::ExactlyOnce(id),
    };
    let mut properties =
        PublishProperties { message_expiry_interval: Some(3600), ..PublishProperties::default() };
    properties.application.content_type = Some("text");
    let payload = payload.as_bytes();
    let publish = Publish { dup: false, retain, delivery, topic, properties, payload };
    client.send(&encode(&Packet::Publish(publish), Version::V5));
    if qos != QoS::AtMostOnce {
        client
            .next(|packet| assert!(matches!(packet, Packet::Puback(_) | Packet::Pubrec(_))))
            .unwrap();
    }
    if qos == QoS::ExactlyOnce {
        client.send(&encode(&Packet::Pubrel(Ack::success(id)), Version::V5));
        client.next(|packet| assert!(matches!(packet, Packet::Pubcomp(_)))).unwrap();
    }
}

/// The next PUBLISH in words: identifier, DUP, QoS, RETAIN, topic, payload, Subscription
/// Identifiers.
fn message(client: &mut Client) -> String {
    client
        .next(|packet| match packet {
            Packet::Publish(publish) => {
                let id = publish.delivery.packet_id().map_or(0, PacketId::value);
                let payload = String::from_utf8(publish.payload.to_vec()).unwrap();
                let ids: Vec<u32> = publish.properties.subscription_identifiers.iter().collect();
                let expires = publish.properties.message_expiry_interval;
                assert!(expires.is_none_or(|seconds| (1..=3600).contains(&seconds)));
                let (qos, topic) = (publish.delivery.qos() as u8, publish.topic);
                format!("{id} {qos} {} {topic} {payload} {ids:?}", publish.retain)
            }
            other => panic!("{other:?}"),
        })
        .unwrap()
}

#[test]
fn what_mosquitto_has_left_is_there_for_its_clients() {
    let folder = Folder::new("import-whole");
    let location = folder.path("");
    let lines = format!("user root\npersistence true\npersistence_location {location}/\n");
    let mosquitto = Broker::mosquitto_with(&lines);
    let held = leave_much(&mosquitto);
    mosquitto.stop();
    let (file, data) = (folder.path("mosquitto.db"), folder.path("data"));
    take_over(&file, &data);
    let ringmq = Broker::ringmq_with(3, &["--data-dir", &data]);
    go_on(&ringmq, held);
    ringmq.stop();
}

/// Sessions, subscriptions, messages that wait, that are in flight, and that are retained. Returns
/// the identifier of a message that its sender has not released.
fn leave_much(mosquitto: &Broker) -> PacketId {
    let options = SubscriptionOptions {
        retain_as_published: true,
        retain_handling: RetainHandling::DoNotSend,
        ..SubscriptionOptions::with_qos(QoS::ExactlyOnce)
    };
    let (mut reader, _) = join(mosquitto, Version::V5, "reader", 2);
    subscribe(&mut reader, "room/+", options, 77);
    let (mut member, _) = join(mosquitto, Version::V5, "member", 10);
    let shared = SubscriptionOptions::with_qos(QoS::AtLeastOnce);
    subscribe(&mut member, "$share/g/job/#", shared, 0);
    drop(member);
    let (mut old, _) = join(mosquitto, Version::V311, "old", 0);
    old.subscribe("old/#", QoS::AtLeastOnce);
    drop(old);
    let (mut publisher, _) = join(mosquitto, Version::V5, "publisher", 10);
    publish(&mut publisher, "room/kept", QoS::AtLeastOnce, true, "warm");
    for n in 1..=4 {
        publish(&mut publisher, "room/one", QoS::ExactlyOnce, false, &n.to_string());
    }
    publish(&mut publisher, "job/7", QoS::AtLeastOnce, false, "work");
    publish(&mut publisher, "old/x", QoS::AtLeastOnce, false, "old");
    // Two are in flight, and of the first one the client says that it has it.
    let first = [message(&mut reader), message(&mut reader)];
    assert_eq!(first[1], "2 2 false room/one 1 [77]");
    reader.send(&encode(&Packet::Puback(Ack::success(PacketId::new(1).unwrap())), Version::V5));
    let second = message(&mut reader);
    assert_eq!(second, "3 2 false room/one 2 [77]");
    reader.send(&encode(&Packet::Pubrec(Ack::success(PacketId::new(2).unwrap())), Version::V5));
    // It may have been sent more meanwhile.
    while !reader.next(|packet| matches!(packet, Packet::Pubrel(_))).unwrap() {}
    // A message that its sender has not released.
    let id = PacketId::new(300).unwrap();
    let held = Publish {
        dup: false,
        retain: false,
        delivery: Delivery::ExactlyOnce(id),
        topic: "room/held",
        properties: PublishProperties::default(),
        payload: b"held",
    };
    publisher.send(&encode(&Packet::Publish(held), Version::V5));
    publisher.next(|packet| assert!(matches!(packet, Packet::Pubrec(_)))).unwrap();
    id
}

fn take_over(file: &str, data: &str) {
    let (code, said) = ringmq(&["store", "import", file, data]);
    assert_eq!(code, 0, "{said}");
    for words in [
        "taken over: 4 sessions\n",
        // Mosquitto 2.0.11 writes no shared subscription.
        "taken over: 2 subscriptions\n",
        "taken over: 1 retained messages\n",
        "taken over: 1 messages at QoS 2 that clients have not released\n",
    ] {
        assert!(said.contains(words), "{said}");
    }
    assert!(!said.contains("left out"), "{said}");
    let (code, said) = ringmq(&["store", "verify", data]);
    assert!(code == 0 && said.starts_with("the store can be read"), "{said}");
    let (code, said) = ringmq(&["store", "import", file, data]);
    assert!(code == 1 && said.contains("is not empty"), "{said}");
}

/// The clients come back to ringmq.
fn go_on(ringmq: &Broker, held: PacketId) {
    let (mut reader, present) = join(ringmq, Version::V5, "reader", 10);
    assert!(present);
    // What was in flight comes first, with its Packet Identifiers.
    reader.next(|packet| match packet {
        Packet::Pubrel(ack) => assert_eq!(ack.packet_id.value(), 2),
        other => panic!("{other:?}"),
    });
    assert_eq!(message(&mut reader), "3 2 false room/one 2 [77]");
    for (n, payload) in [(4, "3"), (5, "4")] {
        assert_eq!(message(&mut reader), format!("{n} 2 false room/one {payload} [77]"));
    }
    assert_eq!(message(&mut reader), "6 2 false room/held held [77]");
    let (mut member, present) = join(ringmq, Version::V5, "member", 10);
    assert!(present);
    assert!(message(&mut member).ends_with(" 1 false job/7 work []"));
    let (mut old, present) = join(ringmq, Version::V311, "old", 0);
    assert!(present);
    assert!(message(&mut old).ends_with(" 1 false old/x old []"));
    let mut fresh = Client::connect(ringmq, Version::V5, "fresh");
    subscribe(&mut fresh, "room/#", SubscriptionOptions::with_qos(QoS::AtLeastOnce), 0);
    assert_eq!(message(&mut fresh), "1 1 true room/kept warm []");
    // Released, the message is not delivered once more.
    let (mut publisher, present) = join(ringmq, Version::V5, "publisher", 10);
    assert!(present);
    publisher.send(&encode(&Packet::Pubrel(Ack::success(held)), Version::V5));
    publisher.next(|packet| assert!(matches!(packet, Packet::Pubcomp(_)))).unwrap();
    // Its subscription goes on, with its options.
    publish(&mut publisher, "room/new", QoS::AtLeastOnce, true, "new");
    assert_eq!(message(&mut reader), "7 1 true room/new new [77]");
}

#[test]
fn a_file_that_cannot_be_read_makes_no_store() {
    let folder = Folder::new("import-damaged");
    let (file, data) = (folder.path("some.db"), folder.path("data"));
    let import = || ringmq(&["store", "import", &file, &data]);
    let (code, said) = import();
    assert!(code == 1 && said.contains("some.db: No such file"), "{said}");
    fs::write(&file, "no database").unwrap();
    let (code, said) = import();
    let words = "some.db: offset 0: this is no persistence file of mosquitto";
    assert!(code == 1 && said.contains(words), "{said}");
    fs::write(&file, b"\x00\xB5\x00mosquitto db\0\0\0\0\0\0\0\x06\0\0\0\x06\0\0\0\x63short")
        .unwrap();
    let (code, said) = import();
    let words = "some.db: offset 23: the file ends before this chunk does";
    assert!(code == 1 && said.contains(words), "{said}");
    assert!(!Path::new(&data).exists());
}
