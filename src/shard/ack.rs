//! The acknowledgements of section 4.3, in both directions: what each of them changes in a session,
//! and what follows from it.

use super::{Client, Shard, context::Context, ports::Ports, reason::Reason};
use crate::{
    mqtt::{
        Ack, DecodeError, Frame, Packet, PacketId, PacketType, ProtocolError, QoS, ReasonCode,
        Version,
    },
    session::{Session, ordinals::Ordinal, outbound::Received},
};

/// What follows from an acknowledgement that a client has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AckEffect {
    /// A message has been delivered or refused: the next one may be sent.
    Delivered,
    /// The client is sent PUBREL, with a reason if something is wrong.
    Pubrel(Option<Reason>),
    /// The client is sent PUBCOMP, likewise.
    Pubcomp(Option<Reason>),
    Nothing,
    /// A message of another QoS is in flight with this Packet Identifier. [MQTT-4.13.1-1]
    WrongType,
}

impl AckEffect {
    /// Of a packet of this type, one of the four.
    #[inline]
    fn of(packet_type: PacketType, ack: &Ack<'_>, session: &mut Session) -> AckEffect {
        match packet_type {
            PacketType::Puback => AckEffect::of_puback(ack, session),
            PacketType::Pubrec => AckEffect::of_pubrec(ack, session),
            PacketType::Pubrel => AckEffect::of_pubrel(ack, session),
            _ => AckEffect::of_pubcomp(ack, session),
        }
    }

    /// PUBACK: the client has received a QoS 1 message.
    #[inline]
    fn of_puback(ack: &Ack<'_>, session: &mut Session) -> AckEffect {
        if session.outbound_mut().handle_puback(ack.packet_id) {
            return AckEffect::Delivered;
        }
        AckEffect::of_nothing(ack, QoS::AtLeastOnce, session)
    }

    /// PUBREC: the client has received a QoS 2 message and is answered with PUBREL. [MQTT-4.3.3-4]
    /// [MQTT-4.3.3-5]
    #[inline]
    fn of_pubrec(ack: &Ack<'_>, session: &mut Session) -> AckEffect {
        let refused = ack.reason_code.is_error();
        let outbound = session.outbound_mut();
        match outbound.handle_pubrec(ack.packet_id, refused) {
            Received::Release => AckEffect::Pubrel(None),
            Received::Refused => AckEffect::Delivered,
            Received::Unknown if outbound.qos_of(ack.packet_id).is_some() => AckEffect::WrongType,
            Received::Unknown if refused => AckEffect::Nothing,
            Received::Unknown => AckEffect::Pubrel(Some(Reason::NothingSent)),
        }
    }

    /// PUBREL: the client releases the Packet Identifier of its QoS 2 message. [MQTT-4.3.3-11]
    #[inline]
    fn of_pubrel(ack: &Ack<'_>, session: &mut Session) -> AckEffect {
        let is_known = session.inbound_mut().handle_pubrel(ack.packet_id);
        AckEffect::Pubcomp((!is_known).then_some(Reason::NothingReceived))
    }

    /// PUBCOMP: a QoS 2 message to the client is complete.
    #[inline]
    fn of_pubcomp(ack: &Ack<'_>, session: &mut Session) -> AckEffect {
        if session.outbound_mut().handle_pubcomp(ack.packet_id) {
            return AckEffect::Delivered;
        }
        AckEffect::of_nothing(ack, QoS::ExactlyOnce, session)
    }

    /// An acknowledgement that no message waited for. If no message is in flight with its Packet
    /// Identifier, it belongs to an earlier connection and is ignored.
    #[cold]
    fn of_nothing(ack: &Ack<'_>, qos: QoS, session: &mut Session) -> AckEffect {
        let in_flight = session.outbound_mut().qos_of(ack.packet_id);
        let is_wrong = in_flight.is_some_and(|in_flight| in_flight != qos);
        if is_wrong { AckEffect::WrongType } else { AckEffect::Nothing }
    }
}

impl Shard {
    /// Handles PUBACK, PUBREC, PUBREL or PUBCOMP.
    #[inline]
    pub(super) fn handle_ack(
        &mut self,
        client: Client,
        (frame, version): (Frame<'_>, Version),
        ports: &mut impl Ports,
    ) -> Result<(), DecodeError> {
        let ack = Ack::decode(frame, version)?;
        let session = self.sessions.of_connected_mut(client.subscriber);
        // The ordinal is gone with the message that is acknowledged.
        let stored = session.stored().map(|_| session.outbound_mut().ordinal_of(ack.packet_id));
        let effect = AckEffect::of(frame.packet_type(), &ack, session);
        let mark = stored.map_or(0, |ordinal| {
            record(effect, (session, ack.packet_id, ordinal), &mut self.context, ports)
        });
        let answer = |reason: Option<Reason>| {
            let reason_code = reason.map_or(ReasonCode::Success, Reason::code);
            Ack::with_reason(ack.packet_id, reason_code)
        };
        match effect {
            AckEffect::Delivered => self.pump(client.subscriber, ports),
            AckEffect::Pubrel(None) => {
                let pubrel = (PacketType::Pubrel, ack.packet_id);
                self.connections.confirm(client.connection, mark, pubrel, ports);
            }
            AckEffect::Pubcomp(None) => {
                let pubcomp = (PacketType::Pubcomp, ack.packet_id);
                self.connections.confirm(client.connection, mark, pubcomp, ports);
            }
            AckEffect::Pubrel(reason) => {
                let pubrel = Packet::Pubrel(answer(reason));
                self.answer_recorded(client.connection, mark, (&pubrel, reason), ports);
            }
            AckEffect::Pubcomp(reason) => {
                let pubcomp = Packet::Pubcomp(answer(reason));
                self.answer_recorded(client.connection, mark, (&pubcomp, reason), ports);
            }
            AckEffect::Nothing => {}
            AckEffect::WrongType => return Err(ProtocolError::AcknowledgementType.into()),
        }
        Ok(())
    }
}

/// Writes down what an acknowledgement has changed in a session that survives a restart. Returns
/// the mark that its answer waits for.
///
/// A client that has PUBREL or PUBCOMP may use the Packet Identifier for another message. So the
/// broker must not forget that it has sent one of these.
#[cold]
fn record(
    effect: AckEffect,
    (session, packet_id, ordinal): (&mut Session, PacketId, Ordinal),
    context: &mut Context,
    ports: &mut impl Ports,
) -> u64 {
    let recorder = &mut context.recorder;
    recorder.begin_packet();
    match effect {
        AckEffect::Delivered => recorder.note_ack(session, ordinal, ports),
        AckEffect::Pubrel(None) => recorder.note_released(session, ordinal, ports),
        AckEffect::Pubcomp(None) => recorder.note_unhold(session, packet_id, ports),
        AckEffect::Pubrel(_)
        | AckEffect::Pubcomp(_)
        | AckEffect::Nothing
        | AckEffect::WrongType => {}
    }
    recorder.take_promise()
}

#[cfg(test)]
mod tests {
    use super::{super::deliveries::tests::World, *};
    const FIRST: PacketId = PacketId::MIN;

    /// What follows from these packets in turn, after one message of this QoS has been sent.
    fn effects(qos: QoS, acks: &[(PacketType, Ack<'_>)]) -> Vec<AckEffect> {
        let mut world = World::new(&[("a", qos)]);
        world.deliver("a", qos);
        let session = world.sessions.of_connected_mut(world.subscriber);
        let effect = |&(packet_type, ref ack): &(_, _)| AckEffect::of(packet_type, ack, session);
        acks.iter().map(effect).collect()
    }

    #[test]
    fn each_acknowledgement_is_for_messages_of_its_qos() {
        use PacketType::{Puback, Pubcomp, Pubrec};
        let ack = Ack::success(FIRST);
        let effects_of = |qos, first| effects(qos, &[(first, ack), (Puback, ack), (Pubcomp, ack)]);
        let (ended, wrong) = (AckEffect::Delivered, AckEffect::WrongType);
        let nothing = AckEffect::Nothing;
        assert_eq!(effects_of(QoS::AtLeastOnce, Puback), [ended, nothing, nothing]);
        assert_eq!(effects_of(QoS::AtLeastOnce, Pubrec), [wrong, ended, nothing]);
        assert_eq!(effects_of(QoS::ExactlyOnce, Puback), [wrong, wrong, nothing]);
        let release = AckEffect::Pubrel(None);
        assert_eq!(effects_of(QoS::ExactlyOnce, Pubrec), [release, wrong, ended]);
    }

    #[test]
    fn what_is_unknown_is_answered_with_a_reason_and_what_is_refused_is_over() {
        let refused = Ack::with_reason(FIRST, ReasonCode::QuotaExceeded);
        let pubrec = |ack| (PacketType::Pubrec, ack);
        let unknown = AckEffect::Pubrel(Some(Reason::NothingSent));
        assert_eq!(
            effects(
                QoS::ExactlyOnce,
                &[pubrec(refused), pubrec(refused), pubrec(Ack::success(FIRST))]
            ),
            [AckEffect::Delivered, AckEffect::Nothing, unknown]
        );
        let unknown = AckEffect::Pubcomp(Some(Reason::NothingReceived));
        let pubrel = (PacketType::Pubrel, Ack::success(FIRST));
        assert_eq!(effects(QoS::AtMostOnce, &[pubrel]), [unknown]);
    }
}
