//! Clients that take what they can, or more: the answer that each gets, and what it costs the
//! broker. `cargo test --test hostile -- --nocapture` prints the table of docs/hostile.md.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "hostile/attacks.rs"]
mod attacks;
#[path = "hostile/beside.rs"]
mod beside;
#[path = "foreign/broker.rs"]
#[expect(dead_code, reason = "the foreign clients' tests use the rest of it")]
mod broker;
#[path = "support/client.rs"]
mod client;
#[path = "hostile/innocents.rs"]
mod innocents;
#[path = "hostile/link.rs"]
mod link;
#[path = "support/source.rs"]
mod source;

use std::{
    io::{ErrorKind, Write},
    num::NonZeroU16,
    thread,
    time::Duration,
};

use broker::Broker;
use client::{Client, encode, resident};
use ringmq::mqtt::{
    Ack, ApplicationProperties, Connect, ConnectProperties, Delivery, Packet, PacketId, Publish,
    PublishProperties, QoS, ReasonCode, UserProperties, Version,
};

const V5: Version = Version::V5;
/// How many clients of a kind there are, so that what each costs can be seen.
const CLIENTS: usize = 8;
/// How often they come. The allocator keeps for the next time what was given back to it, and a leak
/// adds up.
const TIMES: usize = 5;
/// Of the allocator, in KiB.
const SLACK: u64 = 8 << 10;

/// A kind of client, and what the broker makes of it.
struct Kind {
    name: &'static str,
    /// Does its worst, and says how the broker ended it.
    act: fn(&Broker) -> String,
    /// What all of them together may cost at a time, beside the slack, in KiB.
    cost_max: u64,
}

const KINDS: [Kind; 9] = [
    Kind { name: "publishes past Receive Maximum", act: past_receive_maximum, cost_max: 1 << 10 },
    Kind { name: "never acknowledges", act: never_acknowledges, cost_max: 8 * (16 << 10) },
    Kind { name: "uses 65,535 Topic Aliases", act: every_alias, cost_max: 1 << 10 },
    Kind {
        name: "uses 32 Topic Aliases for 2 MB of topics",
        act: long_aliases,
        cost_max: 16 << 10,
    },
    Kind { name: "publishes 1 MB of User Properties", act: labelled_message, cost_max: 16 << 10 },
    Kind { name: "the same at QoS 0", act: labelled_in_passing, cost_max: 16 << 10 },
    Kind {
        name: "connects with 100 KB of User Properties",
        act: labelled_client,
        cost_max: 16 << 10,
    },
    Kind { name: "begins a CONNECT of 1 MB", act: oversized_connect, cost_max: 1 << 10 },
    Kind {
        name: "begins a packet of 256 MB behind a SUBSCRIBE",
        act: oversized_while_paused,
        cost_max: 1 << 10,
    },
];

#[test]
fn hostile_clients_are_answered_and_cost_what_they_may() {
    println!(
        "| a client that | is answered | memory before | after the first time | after the fifth |"
    );
    println!("|---|---|---|---|---|");
    let mut excess = Vec::new();
    for kind in KINDS {
        // A broker for each kind: none finds the memory that another one has left.
        let broker = Broker::ringmq(2);
        drop(Client::connect(&broker, V5, "warm"));
        let before = resident(&broker);
        let mut after = Vec::new();
        let mut answer = String::new();
        for _ in 0..TIMES {
            answer = (kind.act)(&broker);
            // Whoever is answered comes after the end of all of them.
            Client::connect(&broker, V5, "witness").ping();
            after.push(resident(&broker));
        }
        let (first, last) = (after[0], after[TIMES - 1]);
        println!("| {} | {answer} | {before} KiB | {first} KiB | {last} KiB |", kind.name);
        if after.iter().any(|after| *after > before + kind.cost_max + SLACK) {
            excess.push(kind.name);
        }
        broker.stop();
    }
    assert_eq!(excess, Vec::<&str>::new());
}

/// Strangers begin a CONNECT, as large as may be, and do not end it: more of them than there is
/// memory for. Clients that were let in are in the middle of a packet meanwhile.
#[test]
fn strangers_do_not_take_the_memory_of_clients() {
    const STRANGERS: usize = 600;
    let broker = Broker::ringmq(2);
    let before = resident(&broker);
    let payload = vec![b'x'; 100 << 10];
    let message = Packet::Publish(publish("t", Delivery::AtLeastOnce(PacketId::MIN), &payload));
    let message = encode(&message, V5);
    let mut innocent: Vec<Client> =
        (0..30).map(|n| Client::connect(&broker, V5, &format!("innocent {n}"))).collect();
    let (begin, end) = message.split_at(message.len() / 2);
    for client in &mut innocent {
        client.send(begin);
    }
    let mut begun = b"\x10\xfc\xff\x07\0\x04MQTT\x05".to_vec();
    begun.resize(127 << 10, 0);
    let strangers: Vec<Client> = (0..STRANGERS)
        .map(|_| {
            let mut stranger = Client::open(&broker, V5);
            // The broker may end it before all is written.
            drop(stranger.stream.write_all(&begun));
            stranger
        })
        .collect();
    for client in &mut innocent {
        client.send(end);
        assert_eq!(client.next(|packet| matches!(packet, Packet::Puback(_))), Some(true));
    }
    Client::connect(&broker, V5, "witness").ping();
    let ended = strangers.iter().filter(|stranger| is_ended(stranger)).count();
    // Two shards keep 16 MiB each.
    assert!(ended >= STRANGERS - 2 * 130, "{ended} were ended");
    // The broker gives back once a second what it has had for those who were ended.
    let cost = || resident(&broker) - before;
    let settles = (0..500).any(|_| {
        thread::park_timeout(Duration::from_millis(20));
        cost() < 60 << 10
    });
    assert!(settles, "they take {} KiB", cost());
    broker.stop();
}

/// Whether the broker has closed the connection.
fn is_ended(client: &Client) -> bool {
    client.stream.set_nonblocking(true).unwrap();
    !matches!(client.stream.peek(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

/// Lets all clients act, of whom all end in the same way.
fn each(act: impl Fn(usize) -> String) -> String {
    let answers: Vec<String> = (0..CLIENTS).map(act).collect();
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    answers[0].clone()
}

fn past_receive_maximum(broker: &Broker) -> String {
    each(|n| {
        let mut client = Client::connect(broker, V5, &format!("eager {n}"));
        for number in 1..=1025 {
            let delivery = Delivery::ExactlyOnce(PacketId::new(number).unwrap());
            client.send(&encode(&Packet::Publish(publish("t", delivery, &[b'x'; 1000])), V5));
        }
        farewell(&mut client)
    })
}

/// Reads all it is sent and answers none of it, while ten times its window and queue are published.
fn never_acknowledges(broker: &Broker) -> String {
    let mut deaf: Vec<Client> = (0..CLIENTS)
        .map(|n| {
            let mut client = Client::connect(broker, V5, &format!("deaf {n}"));
            client.subscribe("t", QoS::AtLeastOnce);
            client
        })
        .collect();
    let mut writer = Client::connect(broker, V5, "writer");
    for _ in 0..100 {
        for number in 1..=200 {
            let delivery = Delivery::AtLeastOnce(PacketId::new(number).unwrap());
            writer.send(&encode(&Packet::Publish(publish("t", delivery, &[b'x'; 1000])), V5));
        }
        for _ in 1..=200 {
            assert_eq!(writer.next(|packet| matches!(packet, Packet::Puback(_))), Some(true));
        }
    }
    for client in &mut deaf {
        client.send(&encode(&Packet::Pingreq, V5));
        // Its window was full all the time.
        let mut sent = 0;
        while client.next(|packet| matches!(packet, Packet::Publish(_))) == Some(true) {
            sent += 1;
        }
        assert_eq!(sent, 64, "and then PINGRESP");
    }
    "PINGRESP; what its queue has no room for is dropped".to_owned()
}

fn every_alias(broker: &Broker) -> String {
    each(|n| {
        let mut client = Client::connect(broker, V5, &format!("alias {n}"));
        for number in 1..=u16::MAX {
            // The broker has closed before the last of them.
            if client.stream.write_all(&aliased(number, &format!("topic/{number}"))).is_err() {
                break;
            }
        }
        farewell(&mut client)
    })
}

fn long_aliases(broker: &Broker) -> String {
    each(|n| {
        let mut client = Client::connect(broker, V5, &format!("long {n}"));
        for number in 1..=32 {
            if client.stream.write_all(&aliased(number, &"x".repeat(65_535))).is_err() {
                break;
            }
        }
        farewell(&mut client)
    })
}

fn labelled_message(broker: &Broker) -> String {
    let labels = labels();
    let pairs: Vec<(&str, &str)> = labels.iter().map(|(a, b)| (&**a, &**b)).collect();
    each(|n| {
        let mut client = Client::connect(broker, V5, &format!("label {n}"));
        client.subscribe("t", QoS::AtMostOnce);
        let message = labelled(Delivery::AtLeastOnce(PacketId::MIN), &pairs);
        client.send(&encode(&Packet::Publish(message), V5));
        client
            .next(|packet| match packet {
                Packet::Puback(Ack { reason_code, .. }) => said("PUBACK", reason_code),
                other => panic!("{other:?}"),
            })
            .unwrap()
    })
}

fn labelled_in_passing(broker: &Broker) -> String {
    let labels = labels();
    let pairs: Vec<(&str, &str)> = labels.iter().map(|(a, b)| (&**a, &**b)).collect();
    each(|n| {
        let mut client = Client::connect(broker, V5, &format!("pass {n}"));
        client.send(&encode(&Packet::Publish(labelled(Delivery::AtMostOnce, &pairs)), V5));
        farewell(&mut client)
    })
}

fn labelled_client(broker: &Broker) -> String {
    let labels = labels();
    let pairs: Vec<(&str, &str)> = labels.iter().map(|(a, b)| (&**a, &**b)).take(100).collect();
    each(|n| {
        let mut client = Client::open(broker, V5);
        let client_id = format!("proud {n}");
        let user_properties = UserProperties::Pairs(&pairs);
        let properties = ConnectProperties { user_properties, ..ConnectProperties::default() };
        let connect = Connect { properties, ..Connect::new(V5, &client_id) };
        client.send(&encode(&Packet::Connect(connect), V5));
        client
            .next(|packet| match packet {
                Packet::Connack(connack) => said("CONNACK", connack.reason_code),
                other => panic!("{other:?}"),
            })
            .unwrap()
    })
}

fn oversized_connect(broker: &Broker) -> String {
    each(|_| {
        let mut client = Client::open(broker, V5);
        client.send(b"\x10\xc0\x84\x3d\0\x04MQTT");
        assert_eq!(client.next(|_| ()), None);
        "closed".to_owned()
    })
}

/// The subscription has to be heard of by the other shard, and nothing is read meanwhile.
fn oversized_while_paused(broker: &Broker) -> String {
    each(|n| {
        let mut client = Client::connect(broker, V5, &format!("huge {n}"));
        let mut bytes = client::subscribe(V5, &format!("filter/{n}"), QoS::AtMostOnce);
        bytes.extend_from_slice(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]);
        bytes.extend_from_slice(&[0; 8 << 10]);
        client.send(&bytes);
        farewell(&mut client)
    })
}

/// A million bytes, in 1,000 pairs.
fn labels() -> Vec<(String, String)> {
    (0..1_000).map(|n| (format!("{n:03}"), "v".repeat(1_000 - 3 - 5))).collect()
}

fn labelled<'a>(delivery: Delivery, pairs: &'a [(&'a str, &'a str)]) -> Publish<'a> {
    let user_properties = UserProperties::Pairs(pairs);
    assert_eq!(user_properties.bytes(), 1_000_000);
    let application = ApplicationProperties { user_properties, ..Default::default() };
    let properties = PublishProperties { application, ..PublishProperties::default() };
    Publish { properties, ..publish("t", delivery, b"x") }
}

fn aliased(number: u16, topic: &str) -> Vec<u8> {
    let topic_alias = NonZeroU16::new(number);
    let properties = PublishProperties { topic_alias, ..PublishProperties::default() };
    let publish = Publish { properties, ..publish(topic, Delivery::AtMostOnce, b"x") };
    encode(&Packet::Publish(publish), V5)
}

fn publish<'a>(topic: &'a str, delivery: Delivery, payload: &'a [u8]) -> Publish<'a> {
    Publish {
        dup: false,
        retain: false,
        delivery,
        topic,
        properties: PublishProperties::default(),
        payload,
    }
}

/// Reads on to the DISCONNECT, and sees that the connection is closed after it.
fn farewell(client: &mut Client) -> String {
    loop {
        let farewell = client.next(|packet| match packet {
            Packet::Disconnect(disconnect) => Some(said("DISCONNECT", disconnect.reason_code)),
            _ => None,
        });
        if let Some(words) = farewell.expect("a DISCONNECT comes first") {
            assert_eq!(client.next(|_| ()), None);
            return words;
        }
    }
}

fn said(packet: &str, reason_code: ReasonCode) -> String {
    format!("{packet} 0x{:02X} {reason_code:?}", reason_code.value())
}
