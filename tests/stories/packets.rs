//! What clients send, as bytes.

use std::num::NonZeroU16;

use ringmq::mqtt::{
    Ack, Connect, ConnectProperties, Delivery, Disconnect, Packet, PacketId, Publish,
    PublishProperties, QoS, ReasonCode, Subscribe, SubscribeFilters, SubscriptionOptions,
    Unsubscribe, UnsubscribeFilters, UserProperties, Version, Will, WillProperties,
};

/// The bytes of one packet.
pub(crate) fn bytes(packet: &Packet<'_>, version: Version) -> Vec<u8> {
    let mut out = Vec::new();
    packet.encode(version, &mut out);
    out
}

pub(crate) fn id(value: u16) -> PacketId {
    PacketId::new(value).expect("not zero")
}

/// A CONNECT with a clean start and nothing else.
pub(crate) fn connect(version: Version, client_id: &str) -> Connect<'_> {
    Connect::new(version, client_id)
}

/// A CONNECT that comes back to its session, and whose session stays.
pub(crate) fn resume(version: Version, client_id: &str) -> Connect<'_> {
    let lasting = (version == Version::V5).then_some(u32::MAX);
    Connect {
        clean_start: false,
        properties: ConnectProperties {
            session_expiry_interval: lasting,
            ..ConnectProperties::default()
        },
        ..connect(version, client_id)
    }
}

pub(crate) fn will<'a>(topic: &'a str, payload: &'a [u8]) -> Will<'a> {
    Will {
        qos: QoS::AtLeastOnce,
        retain: false,
        topic,
        payload,
        properties: WillProperties::default(),
    }
}

pub(crate) fn publish<'a>(topic: &'a str, delivery: Delivery, payload: &'a str) -> Publish<'a> {
    Publish {
        dup: false,
        retain: false,
        delivery,
        topic,
        properties: PublishProperties::default(),
        payload: payload.as_bytes(),
    }
}

pub(crate) fn at(qos: QoS) -> SubscriptionOptions {
    SubscriptionOptions::with_qos(qos)
}

pub(crate) fn subscribe(
    version: Version,
    packet_id: u16,
    filters: &[(&str, SubscriptionOptions)],
) -> Vec<u8> {
    let subscribe = Subscribe {
        packet_id: id(packet_id),
        subscription_identifier: None,
        user_properties: UserProperties::default(),
        filters: SubscribeFilters::List(filters),
    };
    bytes(&Packet::Subscribe(subscribe), version)
}

pub(crate) fn unsubscribe(version: Version, packet_id: u16, filters: &[&str]) -> Vec<u8> {
    let unsubscribe = Unsubscribe {
        packet_id: id(packet_id),
        user_properties: UserProperties::default(),
        filters: UnsubscribeFilters::List(filters),
    };
    bytes(&Packet::Unsubscribe(unsubscribe), version)
}

pub(crate) fn ack(packet_id: u16) -> Ack<'static> {
    Ack::success(id(packet_id))
}

pub(crate) fn disconnect(version: Version) -> Vec<u8> {
    let disconnect = Disconnect::with_reason(ReasonCode::NORMAL_DISCONNECTION);
    bytes(&Packet::Disconnect(disconnect), version)
}

pub(crate) fn receive_maximum(value: u16) -> ConnectProperties<'static> {
    ConnectProperties {
        receive_maximum: NonZeroU16::new(value),
        session_expiry_interval: Some(u32::MAX),
        ..ConnectProperties::default()
    }
}
