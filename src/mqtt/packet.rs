//! Any packet, by its type.

use super::{
    ack::Ack,
    auth::Auth,
    connack::Connack,
    connect::Connect,
    disconnect::Disconnect,
    error::DecodeError,
    frame::{Frame, PacketType},
    ping,
    publish::Publish,
    suback::Suback,
    subscribe::Subscribe,
    unsuback::Unsuback,
    unsubscribe::Unsubscribe,
    version::Version,
};

/// One MQTT Control Packet. It borrows from the bytes that it was decoded from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    Connect(Connect<'a>),
    Connack(Connack<'a>),
    Publish(Publish<'a>),
    Puback(Ack<'a>),
    Pubrec(Ack<'a>),
    Pubrel(Ack<'a>),
    Pubcomp(Ack<'a>),
    Subscribe(Subscribe<'a>),
    Suback(Suback<'a>),
    Unsubscribe(Unsubscribe<'a>),
    Unsuback(Unsuback<'a>),
    Pingreq,
    Pingresp,
    Disconnect(Disconnect<'a>),
    Auth(Auth<'a>),
}

impl<'a> Packet<'a> {
    /// Decodes the packet in a frame. `version` is ignored for CONNECT, which names its own.
    pub fn decode(frame: Frame<'a>, version: Version) -> Result<Packet<'a>, DecodeError> {
        // Each arm returns its packet directly, so that it is moved only once.
        match frame.packet_type() {
            PacketType::Connect => Connect::decode(frame).map(Packet::Connect),
            PacketType::Connack => Connack::decode(frame, version).map(Packet::Connack),
            PacketType::Publish => Publish::decode(frame, version).map(Packet::Publish),
            PacketType::Puback => Ack::decode(frame, version).map(Packet::Puback),
            PacketType::Pubrec => Ack::decode(frame, version).map(Packet::Pubrec),
            PacketType::Pubrel => Ack::decode(frame, version).map(Packet::Pubrel),
            PacketType::Pubcomp => Ack::decode(frame, version).map(Packet::Pubcomp),
            PacketType::Subscribe => Subscribe::decode(frame, version).map(Packet::Subscribe),
            PacketType::Suback => Suback::decode(frame, version).map(Packet::Suback),
            PacketType::Unsubscribe => Unsubscribe::decode(frame, version).map(Packet::Unsubscribe),
            PacketType::Unsuback => Unsuback::decode(frame, version).map(Packet::Unsuback),
            PacketType::Pingreq => Ok(ping::decode(frame).map(|()| Packet::Pingreq)?),
            PacketType::Pingresp => Ok(ping::decode(frame).map(|()| Packet::Pingresp)?),
            PacketType::Disconnect => Disconnect::decode(frame, version).map(Packet::Disconnect),
            PacketType::Auth => Auth::decode(frame, version).map(Packet::Auth),
        }
    }

    /// Appends the whole packet. A CONNECT is written in the version that it names itself.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        match self {
            Packet::Connect(connect) => connect.encode(out),
            Packet::Connack(connack) => connack.encode(version, out),
            Packet::Publish(publish) => publish.encode(version, out),
            Packet::Puback(ack) => ack.encode(PacketType::Puback, version, out),
            Packet::Pubrec(ack) => ack.encode(PacketType::Pubrec, version, out),
            Packet::Pubrel(ack) => ack.encode(PacketType::Pubrel, version, out),
            Packet::Pubcomp(ack) => ack.encode(PacketType::Pubcomp, version, out),
            Packet::Subscribe(subscribe) => subscribe.encode(version, out),
            Packet::Suback(suback) => suback.encode(version, out),
            Packet::Unsubscribe(unsubscribe) => unsubscribe.encode(version, out),
            Packet::Unsuback(unsuback) => unsuback.encode(version, out),
            Packet::Pingreq => out.extend_from_slice(&ping::PINGREQ),
            Packet::Pingresp => out.extend_from_slice(&ping::PINGRESP),
            Packet::Disconnect(disconnect) => disconnect.encode(version, out),
            Packet::Auth(auth) => auth.encode(out),
        }
    }

    /// The same packet with this Server Reference, if its type may have one.
    #[must_use]
    pub fn with_server_reference(&self, reference: &'a str) -> Packet<'a> {
        let mut packet = *self;
        match &mut packet {
            Packet::Connack(connack) => connack.properties.server_reference = Some(reference),
            Packet::Disconnect(disconnect) => disconnect.server_reference = Some(reference),
            _ => {}
        }
        packet
    }

    /// The same packet with this Reason String, if its type may have one.
    #[must_use]
    pub fn with_reason_string(&self, text: &'a str) -> Packet<'a> {
        let mut packet = *self;
        let reason_string = match &mut packet {
            Packet::Connack(connack) => &mut connack.properties.reason_string,
            Packet::Puback(ack)
            | Packet::Pubrec(ack)
            | Packet::Pubrel(ack)
            | Packet::Pubcomp(ack) => &mut ack.properties.reason_string,
            Packet::Suback(suback) => &mut suback.properties.reason_string,
            Packet::Unsuback(unsuback) => &mut unsuback.properties.reason_string,
            Packet::Disconnect(disconnect) => &mut disconnect.properties.reason_string,
            Packet::Auth(auth) => &mut auth.properties.reason_string,
            Packet::Connect(_)
            | Packet::Publish(_)
            | Packet::Subscribe(_)
            | Packet::Unsubscribe(_)
            | Packet::Pingreq
            | Packet::Pingresp => return packet,
        };
        *reason_string = Some(text);
        packet
    }
}
