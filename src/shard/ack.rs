//! The acknowledgements of section 4.3, in both directions.

use super::{Shard, ports::Ports, reason::Reason};
use crate::{
    base::ids::{ConnectionId, SubscriberId},
    mqtt::{Ack, Packet, ReasonCode},
    session::outbound::{Outbound, Received},
};

impl Shard {
    /// The client has a QoS 1 message.
    pub(super) fn handle_puback(
        &mut self,
        subscriber: SubscriberId,
        ack: &Ack<'_>,
        ports: &mut impl Ports,
    ) {
        self.end_flight(subscriber, |outbound| outbound.handle_puback(ack.packet_id), ports);
    }

    /// The client has a QoS 2 message: it may forget that it has. [MQTT-4.3.3-4] [MQTT-4.3.3-5]
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
            Received::Unknown if refused => {}
            Received::Unknown => {
                let reason = Reason::NothingSent;
                let pubrel = Packet::Pubrel(Ack::with_reason(ack.packet_id, reason.code()));
                self.answer_with(id, &pubrel, Some(reason), ports);
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
        let inbound = self.sessions.of_connected_mut(subscriber).inbound_mut();
        let known = inbound.handle_pubrel(ack.packet_id);
        let reason = (!known).then_some(Reason::NothingReceived);
        let reason_code = reason.map_or(ReasonCode::Success, Reason::code);
        let pubcomp = Packet::Pubcomp(Ack::with_reason(ack.packet_id, reason_code));
        self.answer_with(id, &pubcomp, reason, ports);
    }

    pub(super) fn handle_pubcomp(
        &mut self,
        subscriber: SubscriberId,
        ack: &Ack<'_>,
        ports: &mut impl Ports,
    ) {
        self.end_flight(subscriber, |outbound| outbound.handle_pubcomp(ack.packet_id), ports);
    }

    /// Ends a flight, which makes room for the next message. An identifier that is not in flight
    /// is an echo of an earlier connection.
    fn end_flight(
        &mut self,
        subscriber: SubscriberId,
        end: impl FnOnce(&mut Outbound) -> bool,
        ports: &mut impl Ports,
    ) {
        if end(self.sessions.of_connected_mut(subscriber).outbound_mut()) {
            self.pump(subscriber, ports);
        }
    }
}
