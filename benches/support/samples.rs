//! The packets of which a broker reads and writes most.

use std::num::NonZeroU32;

use ringmq::mqtt::{
    Ack, ApplicationProperties, Connect, ConnectProperties, Delivery, Packet, PacketId, Publish,
    PublishHead, PublishProperties, QoS, Subscribe, SubscribeFilters, SubscriptionOptions,
    UserProperties,
    Version::{self, V5, V311},
    frame,
};

/// Packets as clients send them, each with its name and its version. What comes first is what they
/// send most.
pub(crate) fn received() -> Vec<(&'static str, Version, Vec<u8>)> {
    let filters = [(TOPIC, SubscriptionOptions::with_qos(QoS::AtLeastOnce))];
    let plain = PublishProperties::default();
    let packets = [
        ("PUBLISH QoS 0, 3.1.1", V311, publish(QOS_0, plain)),
        ("PUBLISH QoS 1, 3.1.1", V311, publish(QOS_1, plain)),
        ("PUBLISH QoS 0, 5.0", V5, publish(QOS_0, plain)),
        ("PUBLISH QoS 1, 5.0", V5, publish(QOS_1, plain)),
        ("PUBLISH QoS 0, 5.0 with properties", V5, publish(QOS_0, properties())),
        ("PUBLISH QoS 1, 5.0 with properties", V5, publish(QOS_1, properties())),
        ("PUBACK, 3.1.1", V311, Packet::Puback(Ack::success(PacketId::MAX))),
        ("SUBSCRIBE, 3.1.1", V311, subscribe(&filters)),
        ("CONNECT, 3.1.1", V311, connect(V311)),
        ("CONNECT, 5.0 with properties", V5, connect(V5)),
    ];
    let encode = |(name, version, packet): (_, _, Packet<'_>)| {
        let mut bytes = Vec::new();
        packet.encode(version, &mut bytes);
        assert_eq!(decode(&bytes, version), packet);
        (name, version, bytes)
    };
    packets.map(encode).into()
}

/// Everything of a PUBLISH but its payload, as it is sent, each with its name and its version.
pub(crate) fn heads(application: &[u8]) -> [(&'static str, Version, PublishHead<'_>); 3] {
    let rich = PublishHead {
        qos: QoS::AtLeastOnce,
        application,
        message_expiry_interval: Some(60),
        subscription_identifiers: &[7],
        ..PLAIN_HEAD
    };
    [
        ("PublishHead QoS 0, 3.1.1", V311, PLAIN_HEAD),
        ("PublishHead QoS 0, 5.0", V5, PLAIN_HEAD),
        ("PublishHead QoS 1, 5.0 with properties", V5, rich),
    ]
}

/// The properties that are passed on as they came.
pub(crate) fn application() -> Vec<u8> {
    let mut application = Vec::new();
    properties().application.encode(&mut application);
    application
}

pub(crate) fn decode(bytes: &[u8], version: Version) -> Packet<'_> {
    let frame = frame::split(bytes, frame::PACKET_SIZE_MAX).expect("the frame is well formed");
    Packet::decode(frame.expect("the frame is whole"), version).expect("the packet is well formed")
}

fn publish(delivery: Delivery, properties: PublishProperties<'_>) -> Packet<'_> {
    let topic = TOPIC;
    Packet::Publish(Publish {
        dup: false,
        retain: false,
        delivery,
        topic,
        properties,
        payload: &PAYLOAD,
    })
}

fn properties() -> PublishProperties<'static> {
    let application = ApplicationProperties {
        content_type: Some("text/plain"),
        user_properties: UserProperties::Pairs(&[("unit", "celsius")]),
        ..ApplicationProperties::default()
    };
    let message_expiry_interval = Some(60);
    PublishProperties { message_expiry_interval, application, ..PublishProperties::default() }
}

fn subscribe<'a>(filters: &'a [(&'a str, SubscriptionOptions)]) -> Packet<'a> {
    Packet::Subscribe(Subscribe {
        packet_id: PacketId::MIN,
        subscription_identifier: None,
        user_properties: UserProperties::default(),
        filters: SubscribeFilters::List(filters),
    })
}

fn connect(version: Version) -> Packet<'static> {
    let properties = ConnectProperties {
        session_expiry_interval: Some(3600),
        maximum_packet_size: NonZeroU32::new(1 << 16),
        ..ConnectProperties::default()
    };
    Packet::Connect(Connect {
        version,
        is_bridge: false,
        clean_start: true,
        keep_alive: 60,
        client_id: "thermometer-7",
        will: None,
        user_name: Some("site"),
        password: Some(b"secret"),
        properties: if version == V5 { properties } else { ConnectProperties::default() },
    })
}

const TOPIC: &str = "site/7/temperature";
pub(crate) const PAYLOAD: [u8; 64] = [b'x'; 64];
const QOS_0: Delivery = Delivery::AtMostOnce;
const QOS_1: Delivery = Delivery::AtLeastOnce(PacketId::MAX);
const PLAIN_HEAD: PublishHead<'_> = PublishHead {
    dup: false,
    qos: QoS::AtMostOnce,
    retain: false,
    topic: TOPIC,
    application: &[],
    message_expiry_interval: None,
    subscription_identifiers: &[],
    topic_alias: None,
    payload_len: PAYLOAD.len(),
};
