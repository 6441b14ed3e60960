//! Packets whose bytes are written down elsewhere, and must stay as they are.

use crate::mqtt::{
    Connect, ConnectProperties, Delivery, Packet, PacketId, Publish, PublishProperties, QoS,
    Subscribe, SubscribeFilters, SubscriptionOptions, UserProperties, Version,
    frame::{self, PACKET_SIZE_MAX},
};

/// Checks that the bytes are that packet, and that it is written as those bytes.
fn check(head: &[u8], strings: &[&str], tail: &[u8], packet: &Packet<'_>) {
    let mut bytes = head.to_vec();
    bytes.extend(strings.iter().flat_map(|string| string.bytes()));
    bytes.extend(tail);
    let frame = frame::split(&bytes, PACKET_SIZE_MAX).unwrap().unwrap();
    assert_eq!(frame.len, bytes.len());
    assert_eq!(Packet::decode(frame, Version::V311), Ok(*packet));
    let mut out = Vec::new();
    packet.encode(Version::V311, &mut out);
    assert_eq!(out, bytes);
}

#[test]
fn a_connect_of_3_1_1() {
    let head = [0x10, 0x1a, 0, 4, 0x4d, 0x51, 0x54, 0x54, 4, 2, 0, 0x3c, 0, 0x0e];
    let connect = Connect {
        version: Version::V311,
        is_bridge: false,
        clean_start: true,
        keep_alive: 60,
        client_id: "SampleClient02",
        will: None,
        user_name: None,
        password: None,
        properties: ConnectProperties::default(),
    };
    check(&head, &["SampleClient02"], &[], &Packet::Connect(connect));
}

/// [MQTT-2.2.1-2] [MQTT-2.3.1-5@3.1.1]
#[test]
fn a_publish_with_qos_0() {
    let publish = Publish {
        dup: false,
        retain: false,
        delivery: Delivery::AtMostOnce,
        topic: "NeoIDM/Register",
        properties: PublishProperties::default(),
        payload: b"Message from MqttPublishSample",
    };
    let strings = ["NeoIDM/Register", "Message from MqttPublishSample"];
    check(&[0x30, 0x2f, 0, 0x0f], &strings, &[], &Packet::Publish(publish));
}

#[test]
fn a_subscribe_with_qos_0() {
    let subscribe = Subscribe {
        packet_id: PacketId::MIN,
        subscription_identifier: None,
        user_properties: UserProperties::default(),
        filters: SubscribeFilters::List(&[(
            "NeoIDM/#",
            SubscriptionOptions::with_qos(QoS::AtMostOnce),
        )]),
    };
    let head = [0x82, 0x0d, 0, 1, 0, 8];
    check(&head, &["NeoIDM/#"], &[0], &Packet::Subscribe(subscribe));
}
