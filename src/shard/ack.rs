//! The acknowledgements of section 4.3, in both directions.

use super::{Shard, ports::Ports};
use crate::{
    base::ids::{ConnectionId, SubscriberId},
    mqtt::{Ack, Packet, PacketId, ReasonCode, ReasonProperties},
    session::outbound::Received,
};

impl Shard {
    /// The client has a QoS 1 message.
    pub(super) fn handle_puback(
        &mut self,
        subscriber: SubscriberId,
        ack: &Ack<'_>,
        ports: &mut impl Ports,
    ) {
        let Some(session) = self.sessions.get_mut(subscriber) else { return };
        // An identifier that is not in flight is an echo of an earlier connection.
        if session.outbound.handle_puback(ack.packet_id) {
            self.pump(subscriber, ports);
        }
    }

    /// The client has a QoS 2 message: it may forget that it has. [MQTT-4.3.3-4] [MQTT-4.3.3-5]
    pub(super) fn handle_pubrec(
        &mut self,
        id: ConnectionId,
        subscriber: SubscriberId,
        ack: &Ack<'_>,
        ports: &mut impl Ports,
    ) {
        let Some(session) = self.sessions.get_mut(subscriber) else { return };
        let refused = ack.reason_code.is_error();
        match session.outbound.handle_pubrec(ack.packet_id, refused) {
            Received::Release => {
                let pubrel = acknowledgement(ack.packet_id, ReasonCode::Success);
                self.answer(id, &Packet::Pubrel(pubrel), ports);
            }
            Received::Refused => self.pump(subscriber, ports),
            Received::Unknown if refused => {}
            Received::Unknown => {
                let pubrel = acknowledgement(ack.packet_id, ReasonCode::PacketIdentifierNotFound);
                self.answer(id, &Packet::Pubrel(pubrel), ports);
            }
        }
    }

    /// The client knows that we have its QoS 2 message: its identifier is free. [MQTT-4.3.3-11]
    pub(super) fn handle_pubrel(
        &mut self,
        id: ConnectionId,
        subscriber: SubscriberId,
        ack: &Ack<'_>,
        ports: &mut impl Ports,
    ) {
        let Some(session) = self.sessions.get_mut(subscriber) else { return };
        let reason_code = if session.inbound.handle_pubrel(ack.packet_id) {
            ReasonCode::Success
        } else {
            ReasonCode::PacketIdentifierNotFound
        };
        self.answer(id, &Packet::Pubcomp(acknowledgement(ack.packet_id, reason_code)), ports);
    }

    pub(super) fn handle_pubcomp(
        &mut self,
        subscriber: SubscriberId,
        ack: &Ack<'_>,
        ports: &mut impl Ports,
    ) {
        let Some(session) = self.sessions.get_mut(subscriber) else { return };
        if session.outbound.handle_pubcomp(ack.packet_id) {
            self.pump(subscriber, ports);
        }
    }
}

/// An acknowledgement without properties.
pub(super) fn acknowledgement(packet_id: PacketId, reason_code: ReasonCode) -> Ack<'static> {
    Ack { packet_id, reason_code, properties: ReasonProperties::default() }
}
