//! The broker keeps within its memory budget, whatever clients do.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

#[path = "foreign/broker.rs"]
#[expect(dead_code, reason = "the foreign clients' tests use the rest of it")]
mod broker;
#[path = "support/client.rs"]
mod client;
#[path = "support/source.rs"]
mod source;

use std::{io::Write, time::Duration};

use broker::Broker;
use client::{Client, encode, resident};
use ringmq::mqtt::{
    Connect, Delivery, Packet, PacketId, Publish, PublishProperties, QoS, ReasonCode, Subscribe,
    SubscribeFilters, SubscriptionOptions, UserProperties, Version, Will, WillProperties,
};

/// What the broker may take in all, in KiB.
const BUDGET: u64 = 64 << 10;
/// What it takes besides: its program, rings, receive buffers, and memory that the allocator keeps
const BESIDES: u64 = 32 << 10;

fn broker() -> Broker {
    Broker::ringmq_with(2, &["--max-memory", "64MiB", "--max-connections", "4000"])
}

fn assert_within_budget(broker: &Broker, before: u64) {
    let taken = resident(broker).saturating_sub(before);
    assert!(taken <= BUDGET * 5 / 4 + BESIDES, "{taken} KiB more than at the start");
}

/// A subscriber and a publisher at an address that does nothing wrong.
struct Pair(Client, Client);

impl Pair {
    fn new(broker: &Broker) -> Pair {
        let mut clients = ["innocent subscriber", "innocent publisher"].map(|name| {
            let mut client = Client::open_from(broker.port(), Version::V5, [127, 0, 0, 9]);
            client.send(&client::connect(Version::V5, name));
            assert_eq!(client.next(|packet| matches!(packet, Packet::Connack(_))), Some(true));
            client
        });
        clients[0].subscribe("innocent", QoS::AtMostOnce);
        let [subscriber, publisher] = clients;
        Pair(subscriber, publisher)
    }

    fn exchange(&mut self) {
        self.1.send(&publish("innocent", b"a message", None));
        let got = self.0.next(|packet| matches!(packet, Packet::Publish(_)));
        assert_eq!(got, Some(true));
    }
}

/// A PUBLISH at QoS 1 that is to be retained.
fn retained<'a>(topic: &'a str, payload: &'a [u8]) -> Vec<u8> {
    let publish = Publish {
        dup: false,
        retain: true,
        delivery: Delivery::AtLeastOnce(PacketId::MIN),
        topic,
        properties: PublishProperties::default(),
        payload,
    };
    encode(&Packet::Publish(publish), Version::V5)
}

fn publish(topic: &str, payload: &[u8], packet_id: Option<PacketId>) -> Vec<u8> {
    let publish = Publish {
        dup: false,
        retain: false,
        delivery: packet_id.map_or(Delivery::AtMostOnce, Delivery::AtLeastOnce),
        topic,
        properties: PublishProperties::default(),
        payload,
    };
    encode(&Packet::Publish(publish), Version::V5)
}

fn lasting(client_id: &str) -> Connect<'_> {
    let mut connect = Connect::new(Version::V5, client_id);
    connect.clean_start = false;
    connect.properties.session_expiry_interval = Some(u32::MAX);
    connect
}

/// Each of 3,000 clients leaves a Will of 60 KB, which waits for as long as can be.
#[test]
fn wills_that_wait_take_no_more_than_the_budget() {
    let broker = broker();
    let mut pair = Pair::new(&broker);
    let before = resident(&broker);
    let payload = vec![7; 60_000];
    let mut refused = 0;
    for number in 0..3_000 {
        let client_id = format!("attacker {number}");
        let properties =
            WillProperties { will_delay_interval: u32::MAX, ..WillProperties::default() };
        let will = Will {
            topic: "attack",
            payload: &payload,
            qos: QoS::AtLeastOnce,
            retain: false,
            properties,
        };
        let connect = Connect { will: Some(will), ..lasting(&client_id) };
        let mut client = Client::open(&broker, Version::V5);
        client.send(&encode(&Packet::Connect(connect), Version::V5));
        let code = client.next(|packet| match packet {
            Packet::Connack(connack) => connack.reason_code,
            _ => panic!("CONNACK comes first"),
        });
        match code {
            Some(ReasonCode::QuotaExceeded) => refused += 1,
            code => assert_eq!(code, Some(ReasonCode::Success)),
        }
        if number % 500 == 0 {
            pair.exchange();
        }
    }
    println!("{refused} refused, {} KiB more", resident(&broker).saturating_sub(before));
    assert_within_budget(&broker, before);
    pair.exchange();
}

/// 200 MB wait for sessions whose clients are away.
#[test]
fn queues_of_absent_sessions_take_no_more_than_the_budget() {
    let broker = broker();
    let mut pair = Pair::new(&broker);
    for number in 0..20 {
        let client_id = format!("absent {number}");
        let mut client = Client::open(&broker, Version::V5);
        client.send(&encode(&Packet::Connect(lasting(&client_id)), Version::V5));
        assert_eq!(client.next(|packet| matches!(packet, Packet::Connack(_))), Some(true));
        client.subscribe(&format!("attack/{number}"), QoS::AtLeastOnce);
    }
    let before = resident(&broker);
    let mut publisher = Client::connect(&broker, Version::V5, "attacker");
    for round in 0..1_000 {
        for number in 0..20 {
            let topic = format!("attack/{number}");
            let payload = vec![7; if number % 2 == 0 { 10_000 } else { 5_000 }];
            publisher.send(&publish(&topic, &payload, Some(PacketId::MIN)));
            assert_eq!(publisher.next(|packet| matches!(packet, Packet::Puback(_))), Some(true));
        }
        if round % 100 == 0 {
            pair.exchange();
        }
    }
    println!("{} KiB more", resident(&broker).saturating_sub(before));
    assert_within_budget(&broker, before);
    pair.exchange();
}

/// 400 clients read nothing of 200 MB.
#[test]
fn outboxes_of_clients_that_do_not_read_take_no_more_than_the_budget() {
    let broker = broker();
    let mut pair = Pair::new(&broker);
    let before = resident(&broker);
    let mut silent: Vec<_> = (0..400)
        .map(|number| Client::connect(&broker, Version::V5, &format!("silent {number}")))
        .collect();
    for client in &mut silent {
        client.subscribe("attack", QoS::AtMostOnce);
    }
    let mut publisher = Client::connect(&broker, Version::V5, "attacker");
    publisher.stream.set_write_timeout(Some(Duration::from_mins(1))).unwrap();
    // The sockets of all clients take some megabytes each before anything waits in the broker.
    let message = publish("attack", &[7; 4_000], None);
    for round in 0..2_000 {
        publisher.stream.write_all(&message).unwrap();
        if round % 200 == 0 {
            pair.exchange();
        }
    }
    publisher.ping();
    println!("{} KiB more", resident(&broker).saturating_sub(before));
    assert_within_budget(&broker, before);
    pair.exchange();
}

/// One client retains 140 MB: 7,000 bytes on each of 20,000 topics.
#[test]
fn retained_messages_take_no_more_than_the_budget() {
    let broker = broker();
    let mut pair = Pair::new(&broker);
    let before = resident(&broker);
    let mut attacker = Client::connect(&broker, Version::V5, "attacker");
    let payload = vec![7; 7_000];
    let mut refused = 0;
    for number in 0..20_000 {
        attacker.send(&retained(&format!("attack/{number}"), &payload));
        let code = attacker.next(|packet| match packet {
            Packet::Puback(ack) => ack.reason_code,
            _ => panic!("PUBACK comes first"),
        });
        refused += usize::from(code == Some(ReasonCode::QuotaExceeded));
        if number % 5_000 == 0 {
            pair.exchange();
        }
    }
    println!("{refused} refused, {} KiB more", resident(&broker).saturating_sub(before));
    assert!(refused > 10_000);
    assert_within_budget(&broker, before);
    pair.exchange();
    Client::connect(&broker, Version::V5, "newcomer").ping();
}

/// 40 levels that no other filter has.
fn deep_filter(client: usize, round: usize, filter: usize) -> String {
    let levels: Vec<_> =
        (0..40).map(|level| format!("{client}.{round}.{filter}.{level}")).collect();
    levels.join("/")
}

fn subscribe_all(filters: &[String]) -> Vec<u8> {
    let options = SubscriptionOptions::with_qos(QoS::AtMostOnce);
    let filters: Vec<_> = filters.iter().map(|it| (it.as_str(), options)).collect();
    let subscribe = Subscribe {
        packet_id: PacketId::MIN,
        subscription_identifier: None,
        user_properties: UserProperties::default(),
        filters: SubscribeFilters::List(&filters),
    };
    encode(&Packet::Subscribe(subscribe), Version::V5)
}

/// 40 clients subscribe to 10,000 Topic Filters of 40 levels each.
#[test]
fn subscriptions_take_no_more_than_the_budget() {
    let broker = broker();
    let mut pair = Pair::new(&broker);
    let before = resident(&broker);
    let mut clients = Vec::new();
    let mut refused = 0;
    for number in 0..40 {
        let mut client = Client::open(&broker, Version::V5);
        client.send(&client::connect(Version::V5, &format!("attacker {number}")));
        let code = client.next(|packet| match packet {
            Packet::Connack(connack) => connack.reason_code,
            _ => panic!("CONNACK comes first"),
        });
        if code == Some(ReasonCode::QuotaExceeded) {
            break;
        }
        for round in 0..100 {
            let filters: Vec<_> = (0..100).map(|it| deep_filter(number, round, it)).collect();
            client.send(&subscribe_all(&filters));
            let codes = client.next(|packet| match packet {
                Packet::Suback(suback) => {
                    suback.reason_codes.iter().filter(|&&it| it >= 0x80).count()
                }
                _ => panic!("SUBACK comes first"),
            });
            refused += codes.unwrap();
        }
        clients.push(client);
        pair.exchange();
    }
    assert!(clients.len() < 40, "all clients were let in");
    println!("{refused} refused, {} KiB more", resident(&broker).saturating_sub(before));
    assert!(refused > 0);
    assert_within_budget(&broker, before);
    pair.exchange();
}

/// 100 clients send 1.9 MB each of a packet of 2 MB.
#[test]
fn incomplete_packets_take_no_more_than_the_budget() {
    let broker = broker();
    let mut pair = Pair::new(&broker);
    let before = resident(&broker);
    let packet = publish("attack", &vec![7; 2_000_000], None);
    let mut clients = Vec::new();
    for number in 0..100 {
        let mut client = Client::connect(&broker, Version::V5, &format!("attacker {number}"));
        // The broker may close the connection, or that of another client.
        let _ = client.stream.write_all(&packet[..1_900_000]);
        clients.push(client);
        if number % 10 == 0 {
            pair.exchange();
        }
    }
    println!("{} KiB more", resident(&broker).saturating_sub(before));
    assert_within_budget(&broker, before);
    pair.exchange();
}
