//! One PUBLISH that goes through a whole shard, or through two, again and again.

use ringmq::{
    base::ids::ConnectionId,
    mqtt::{Connect, ConnectProperties, Delivery, PacketId, QoS, Version},
    shard::letter::LetterBatch,
    topic::TopicFilter,
};

use crate::workbench::{Workbench, publish};

pub(crate) const VERSION: Version = Version::V311;
pub(crate) const TOPIC: &str = "site/7/temperature";
pub(crate) const PAYLOAD: [u8; 64] = [b'x'; 64];

/// A run of messages at QoS 0 in one piece, each to so many subscribers of its one topic.
pub(crate) fn qos_0(run: usize, subscribers: u64) -> impl FnMut() {
    let mut bench = Workbench::new(1);
    let publisher = bench.client(VERSION);
    for _ in 0..subscribers {
        subscriber(&mut bench, QoS::AtMostOnce);
    }
    let publishes = publish(VERSION, Delivery::AtMostOnce, TOPIC, &PAYLOAD).repeat(run);
    let deliveries = run as u64 * subscribers;
    move || {
        let before = bench.ports.sent;
        bench.hand_in(publisher, &publishes);
        assert_eq!(bench.ports.sent - before, deliveries);
    }
}

/// A message at QoS 0 to one of so many members of a share group.
pub(crate) fn shared(members: u64) -> impl FnMut() {
    let mut bench = Workbench::new(1);
    let publisher = bench.client(VERSION);
    for _ in 0..members {
        let id = bench.client(VERSION);
        bench.subscribe(id, VERSION, &format!("$share/g/{TOPIC}"), QoS::AtMostOnce);
    }
    let publish = publish(VERSION, Delivery::AtMostOnce, TOPIC, &PAYLOAD);
    move || {
        let before = bench.ports.sent;
        bench.hand_in(publisher, &publish);
        assert_eq!(bench.ports.sent - before, 1);
    }
}

/// A message with a long topic at QoS 0 to 101 clients that take so many Topic Aliases.
pub(crate) fn long_topic(topic_alias_maximum: u16) -> impl FnMut() {
    let mut bench = Workbench::new(1);
    let publisher = bench.client(VERSION);
    for _ in 0..101 {
        let connect = Connect::new(Version::V5, "");
        let properties = ConnectProperties { topic_alias_maximum, ..connect.properties };
        let id = bench.client_by(&Connect { properties, ..connect });
        bench.subscribe(id, Version::V5, LONG_TOPIC, QoS::AtMostOnce);
    }
    let publish = publish(VERSION, Delivery::AtMostOnce, LONG_TOPIC, &PAYLOAD);
    move || {
        let before = bench.ports.sent;
        bench.hand_in(publisher, &publish);
        assert_eq!(bench.ports.sent - before, 101);
    }
}

/// A hundred bytes.
const LONG_TOPIC: &str = "acme/europe/site-0007/building-12/floor-03/room-0042/rack-07/\
    device-000123456789/sensors/temperature";

/// A message at QoS 1 or 2 to one subscriber, with all packets that acknowledge it both ways.
pub(crate) fn acknowledged(delivery: Delivery) -> impl FnMut() {
    let mut bench = Workbench::new(1);
    let publisher = bench.client(VERSION);
    let subscriber = subscriber(&mut bench, delivery.qos());
    let publish = publish(VERSION, delivery, TOPIC, &PAYLOAD);
    move || {
        let before = bench.ports.sent;
        bench.hand_in(publisher, &publish);
        // One PUBLISH, and after it the PUBACK or PUBREC to the publisher.
        assert_eq!(bench.ports.sent - before, 2);
        let packet_id = packet_id_sent(&bench);
        if let Delivery::ExactlyOnce(own) = delivery {
            bench.hand_in(publisher, &ack(PUBREL, own.value().to_be_bytes()));
        }
        acknowledge(&mut bench, subscriber, delivery.qos(), packet_id);
    }
}

/// A message that a shard posts to another one, which delivers it to one subscriber.
pub(crate) fn across(delivery: Delivery) -> impl FnMut() {
    let (mut here, post) = publisher_for_elsewhere(delivery);
    let mut there = Workbench::new(2);
    let subscriber = subscriber(&mut there, delivery.qos());
    move || {
        post(&mut here);
        let before = there.ports.sent;
        there.hear(&here.ports.letters[1]);
        assert_eq!(there.ports.sent - before, 1);
        let packet_id = packet_id_sent(&there);
        acknowledge(&mut there, subscriber, delivery.qos(), packet_id);
    }
}

/// A shard whose publisher publishes what only the other shard wants.
pub(crate) fn publisher_for_elsewhere(delivery: Delivery) -> (Workbench, impl Fn(&mut Workbench)) {
    let mut bench = Workbench::new(2);
    let publisher = bench.client(VERSION);
    let mut interest = LetterBatch::default();
    interest.push_interest(TopicFilter::from_valid(TOPIC), true);
    bench.hear(&interest);
    let publish = publish(VERSION, delivery, TOPIC, &PAYLOAD);
    let post = move |bench: &mut Workbench| {
        if let Delivery::ExactlyOnce(own) = delivery {
            bench.hand_in(publisher, &ack(PUBREL, own.value().to_be_bytes()));
        }
        bench.hand_in(publisher, &publish);
        assert!(!bench.ports.letters[1].is_empty());
    };
    (bench, post)
}

pub(crate) fn subscriber(bench: &mut Workbench, qos: QoS) -> ConnectionId {
    let id = bench.client(VERSION);
    bench.subscribe(id, VERSION, TOPIC, qos);
    id
}

pub(crate) const AT_LEAST_ONCE: Delivery = Delivery::AtLeastOnce(PacketId::MIN);
pub(crate) const EXACTLY_ONCE: Delivery = Delivery::ExactlyOnce(PacketId::MIN);

/// The Packet Identifier of the PUBLISH that left first, if its QoS has one.
fn packet_id_sent(bench: &Workbench) -> [u8; 2] {
    let at = 2 + 2 + TOPIC.len();
    [bench.ports.outbox[at], bench.ports.outbox[at + 1]]
}

fn acknowledge(bench: &mut Workbench, subscriber: ConnectionId, qos: QoS, packet_id: [u8; 2]) {
    let kinds: &[u8] = match qos {
        QoS::AtMostOnce => &[],
        QoS::AtLeastOnce => &[PUBACK],
        QoS::ExactlyOnce => &[PUBREC, PUBCOMP],
    };
    for kind in kinds {
        bench.hand_in(subscriber, &ack(*kind, packet_id));
    }
}

fn ack(kind: u8, packet_id: [u8; 2]) -> [u8; 4] {
    [kind, 2, packet_id[0], packet_id[1]]
}

const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBREL: u8 = 0x62;
const PUBCOMP: u8 = 0x70;
