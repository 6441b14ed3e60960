//! The acknowledgements of section 4.3, in both directions.

use super::{Shard, ports::Ports, reason::Reason};
use crate::{
    base::ids::{ConnectionId, SubscriberId},
    mqtt::{Ack, Packet, ProtocolError, QoS, ReasonCode},
    session::outbound::Received,
};

impl Shard {
    /// PUBACK: the client has received a QoS 1 message.
    pub(super) fn handle_puback(
        &mut self,
        id: ConnectionId,
        subscriber: SubscriberId,
        ack: &Ack<'_>,
        ports: &mut impl Ports,
    ) {
        let session = self.sessions.of_connected_mut(subscriber);
        if session.outbound_mut().handle_puback(ack.packet_id) {
            self.pump(subscriber, ports);
        } else {
            self.check_type(id, subscriber, (ack, QoS::AtLeastOnce), ports);
        }
    }

    /// PUBREC: the client has received a QoS 2 message and is answered with PUBREL. [MQTT-4.3.3-4]
    /// [MQTT-4.3.3-5]
    pub(super) fn handle_pubrec(
        &mut self,
        id: ConnectionId,
        subscriber: SubscriberId,
        ack: &Ack<'_>,
        ports: &mut impl Ports,
    ) {
        let refused = ack.reason_code.is_error();
        let outbound = self.sessions.of_connected_mut(subscriber).outbound_mut();
        match outbound.handle_pubrec(ack.packet_id, refused) {
            Received::Release => {
                let pubrel = Ack::success(ack.packet_id);
                self.answer(id, &Packet::Pubrel(pubrel), ports);
            }
            Received::Refused => self.pump(subscriber, ports),
            Received::Unknown if outbound.qos_of(ack.packet_id).is_some() => {
                self.refuse_packet(id, ProtocolError::AcknowledgementType, ports);
            }
            Received::Unknown if refused => {}
            Received::Unknown => {
                let reason = Reason::NothingSent;
                let pubrel = Packet::Pubrel(Ack::with_reason(ack.packet_id, reason.code()));
                self.answer_with(id, &pubrel, Some(reason), ports);
            }
        }
    }

    /// PUBREL: the client releases the Packet Identifier of its QoS 2 message. [MQTT-4.3.3-11]
    pub(super) fn handle_pubrel(
        &mut self,
        id: ConnectionId,
        subscriber: SubscriberId,
        ack: &Ack<'_>,
        ports: &mut impl Ports,
    ) {
        let inbound = self.sessions.of_connected_mut(subscriber).inbound_mut();
        let known = inbound.handle_pubrel(ack.packet_id);
        let reason = (!known).then_some(Reason::NothingReceived);
        let reason_code = reason.map_or(ReasonCode::Success, Reason::code);
        let pubcomp = Packet::Pubcomp(Ack::with_reason(ack.packet_id, reason_code));
        self.answer_with(id, &pubcomp, reason, ports);
    }

    /// PUBCOMP: a QoS 2 message to the client is complete.
    pub(super) fn handle_pubcomp(
        &mut self,
        id: ConnectionId,
        subscriber: SubscriberId,
        ack: &Ack<'_>,
        ports: &mut impl Ports,
    ) {
        let session = self.sessions.of_connected_mut(subscriber);
        if session.outbound_mut().handle_pubcomp(ack.packet_id) {
            self.pump(subscriber, ports);
        } else {
            self.check_type(id, subscriber, (ack, QoS::ExactlyOnce), ports);
        }
    }

    /// Checks an acknowledgement that no message waited for. It is an error if a message of another
    /// QoS is in flight with this Packet Identifier. If no message is, it belongs to an earlier
    /// connection and is ignored. [MQTT-4.13.1-1]
    fn check_type(
        &mut self,
        id: ConnectionId,
        subscriber: SubscriberId,
        (ack, qos): (&Ack<'_>, QoS),
        ports: &mut impl Ports,
    ) {
        let outbound = self.sessions.of_connected_mut(subscriber).outbound_mut();
        let in_flight = outbound.qos_of(ack.packet_id);
        if in_flight.is_some_and(|in_flight| in_flight != qos) {
            self.refuse_packet(id, ProtocolError::AcknowledgementType, ports);
        }
    }
}
