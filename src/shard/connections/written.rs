//! What is written to connections besides messages: answers, acknowledgements and last packets.

use super::{
    super::{
        connection::{MqttConnection, Stage},
        context::Context,
        end::{Cause, Leaves},
        events::Event,
        log::{self, Claim},
        owed::{Answer, Condition},
        ports::{Closing, Ports},
        reason::Reason,
        referral::Written,
        trace,
    },
    Connections,
};
use crate::{
    base::ids::{ConnectionId, SubscriberId},
    mqtt::{Ack, Connack, Delivery, Disconnect, Packet, PacketId, PacketType, ReasonCode, Version},
    session::terms::Terms,
};

/// The packets that are written to connections.
impl Connections {
    /// Sends a packet to a client, with a Reason String if there is a reason. An error: the packet
    /// is larger than the client accepts, and the caller has to end the connection.
    /// [MQTT-3.1.2-24]
    pub(in crate::shard) fn answer(
        &mut self,
        id: ConnectionId,
        packet: &Packet<'_>,
        reason: Option<Reason>,
        ports: &mut impl Ports,
    ) -> Result<(), Cause> {
        self.answer_once_durable(id, 0, (packet, reason), ports)
    }

    /// As [`Connections::answer`], once all records up to `mark` are on disk. 0 waits for nothing
    /// but earlier packets.
    #[inline]
    pub(in crate::shard) fn answer_once_durable(
        &mut self,
        id: ConnectionId,
        mark: u64,
        (packet, reason): (&Packet<'_>, Option<Reason>),
        ports: &mut impl Ports,
    ) -> Result<(), Cause> {
        let Some(connection) = self.entries.get_mut(id) else { return Ok(()) };
        if connection.terms().write(packet, reason.map(Reason::text), &mut self.frame) {
            self.written += 1;
            if self.owed.lets_pass(connection.debt(), mark) {
                ports.send(id, &self.frame);
            } else {
                self.send_once_durable(id, mark, ports);
            }
            return Ok(());
        }
        Err(match packet {
            Packet::Connack(_) => Cause::ConnackTooLarge,
            _ => Cause::AnswerTooLarge,
        })
    }

    /// Sends the packet that has been written, or keeps it until records are on disk.
    #[cold]
    #[inline(never)]
    fn send_once_durable(&mut self, id: ConnectionId, mark: u64, ports: &mut impl Ports) {
        if !self.owe_until_durable(id, mark) {
            ports.send(id, &self.frame);
        }
    }

    /// Keeps the packet that has been written until records are on disk. False: it has to wait for
    /// none.
    fn owe_until_durable(&mut self, id: ConnectionId, mark: u64) -> bool {
        let connection = self.entries.connected_mut(id);
        let has_to_wait = mark > self.owed.durable() || connection.debt().owes_records();
        if has_to_wait {
            self.owed.owe_packet(id, connection.debt_mut(), mark, &self.frame);
        }
        has_to_wait
    }

    /// As [`Connections::answer`], once a condition has come to hold. Nothing is read from the
    /// client before that.
    pub(in crate::shard) fn answer_later(
        &mut self,
        id: ConnectionId,
        condition: Condition,
        (packet, reason): (&Packet<'_>, Option<Reason>),
        ports: &mut impl Ports,
    ) -> Result<(), Cause> {
        let mut frame = Vec::new();
        let terms = self.connected(id).terms();
        if !terms.write(packet, reason.map(Reason::text), &mut frame) {
            return Err(Cause::AnswerTooLarge);
        }
        self.owe(id, (condition, Answer::Packets(frame)), ports);
        self.written += 1;
        Ok(())
    }

    /// Acknowledges a PUBLISH, once all records up to `mark` are on disk and its publisher is no
    /// longer held back.
    #[inline]
    pub(in crate::shard) fn acknowledge(
        &mut self,
        id: ConnectionId,
        (delivery, mark): (Delivery, u64),
        reason_code: ReasonCode,
        ports: &mut impl Ports,
    ) {
        let (packet_type, packet_id) = match delivery {
            Delivery::AtMostOnce => return,
            Delivery::AtLeastOnce(packet_id) => (PacketType::Puback, packet_id),
            Delivery::ExactlyOnce(packet_id) => (PacketType::Pubrec, packet_id),
        };
        let ack = Ack::with_reason(packet_id, reason_code);
        if !self.passes(id, mark, (packet_type, &ack), ports) {
            self.keep_acknowledgement(id, mark, ports);
        }
    }

    /// Sends PUBREL or PUBCOMP without a reason, once all records up to `mark` are on disk. They
    /// are smaller than the CONNACK that the client has taken.
    #[inline]
    pub(in crate::shard) fn confirm(
        &mut self,
        id: ConnectionId,
        mark: u64,
        (packet_type, packet_id): (PacketType, PacketId),
        ports: &mut impl Ports,
    ) {
        if !self.passes(id, mark, (packet_type, &Ack::success(packet_id)), ports) {
            self.send_once_durable(id, mark, ports);
        }
    }

    /// Writes an acknowledgement, and sends it if it has nothing to wait for. False: it has.
    #[inline(never)]
    fn passes(
        &mut self,
        id: ConnectionId,
        mark: u64,
        (packet_type, ack): (PacketType, &Ack<'_>),
        ports: &mut impl Ports,
    ) -> bool {
        let connection = self.entries.connected_mut(id);
        self.frame.clear();
        ack.encode(packet_type, connection.terms().version(), &mut self.frame);
        self.written += 1;
        let passes = self.owed.lets_pass(connection.debt(), mark);
        if passes {
            ports.send(id, &self.frame);
        }
        passes
    }

    /// Acknowledges a PUBLISH that is refused, with the reason.
    pub(in crate::shard) fn acknowledge_refused(
        &mut self,
        id: ConnectionId,
        delivery: Delivery,
        reason: Reason,
        ports: &mut impl Ports,
    ) {
        let ack = |packet_id| Ack::with_reason(packet_id, reason.code());
        let packet = match delivery {
            Delivery::AtMostOnce => return,
            Delivery::AtLeastOnce(packet_id) => Packet::Puback(ack(packet_id)),
            Delivery::ExactlyOnce(packet_id) => Packet::Pubrec(ack(packet_id)),
        };
        // A client that has taken a CONNACK also takes this smaller packet.
        let terms = self.connected(id).terms();
        let _ = terms.write(&packet, Some(reason.text()), &mut self.frame);
        self.written += 1;
        self.keep_acknowledgement(id, 0, ports);
    }

    /// Keeps the acknowledgement that has been written until records are on disk or
    /// its publisher is no longer held back.
    #[cold]
    #[inline(never)]
    fn keep_acknowledgement(&mut self, id: ConnectionId, mark: u64, ports: &mut impl Ports) {
        let is_owed = self.owe_until_durable(id, mark);
        if !is_owed && !self.entries.connected_mut(id).keeps_back(&self.frame) {
            ports.send(id, &self.frame);
        }
    }

    /// Answers CONNECT with a refusal, and closes. [MQTT-3.1.4-2] [MQTT-3.2.2-7]
    pub(in crate::shard) fn refuse(
        &mut self,
        id: ConnectionId,
        claim: Claim<'_>,
        reason: Reason,
        context: &mut Context,
        ports: &mut impl Ports,
    ) {
        context.counters.count_refusal(reason);
        context.counters.count_refused_connect(reason);
        let flag = reason.flag();
        let words = reason.text();
        let reason = context.rules.referral.instead_of(reason);
        let connack = Packet::Connack(Connack::refusal(reason.code()));
        self.send_last(id, claim.terms, (&connack, reason), context, ports);
        ports.close(id, Closing::Flush);
        if let Some(connection) = self.entries.remove(id) {
            let principal = connection.principal();
            let listener = context.rules.listener_address(principal.listener());
            trace::note_refusal(id, &connection, (words, &listener), context.now, ports);
            let refusals = (&mut context.refusals, context.now);
            log::refused(principal, claim, &listener, (reason, flag), refusals);
            if let Some(watcher) = ports.watcher() {
                let at = context.settings.wall_clock.time_of(context.now);
                watcher.tell(Event::refused(principal, claim, listener, (reason, flag), at));
            }
        }
    }

    /// Ends a connection, and tells its client why. Returns the session that has lost it, if any.
    pub(in crate::shard) fn end(
        &mut self,
        id: ConnectionId,
        (cause, leaves): (Cause, Option<Leaves>),
        context: &mut Context,
        ports: &mut impl Ports,
    ) -> Option<SubscriberId> {
        let connection = self.entries.remove(id)?;
        context.counters.count_end(cause);
        self.say_farewell(id, &connection, cause, context, ports);
        match cause {
            Cause::ConnectTimeout => ports.close(id, Closing::Abort),
            cause if cause.is_of_the_transport() => ports.close(id, Closing::Abort),
            _ => ports.close(id, Closing::Flush),
        }
        trace::note_end(id, &connection, (cause, leaves), context.now, ports);
        let principal = connection.principal();
        let listener = context.rules.listener_address(principal.listener());
        log::ended(principal, &listener, cause, leaves);
        connection.subscriber()
    }

    /// Tells a 5.0 client why its connection ends: in DISCONNECT, or in CONNACK if none was sent.
    /// [MQTT-3.14.0-1] [MQTT-4.12.0-4]
    fn say_farewell(
        &mut self,
        id: ConnectionId,
        connection: &MqttConnection,
        cause: Cause,
        context: &mut Context,
        ports: &mut impl Ports,
    ) {
        let Some(reason) = cause.farewell() else { return };
        let reason = context.rules.referral.instead_of(reason);
        let farewell = match connection.stage() {
            Stage::Connected(_) => Packet::Disconnect(Disconnect::with_reason(reason.code())),
            Stage::Authenticating => Packet::Connack(Connack::refusal(reason.code())),
            _ => return,
        };
        if connection.terms().version() == Version::V5 {
            self.send_last(id, connection.terms(), (&farewell, reason), context, ports);
        }
    }

    /// Sends the last packet of a connection, unless it is larger than the client accepts even
    /// without anything optional. [MQTT-3.1.2-24]
    fn send_last(
        &mut self,
        id: ConnectionId,
        terms: Terms,
        (packet, reason): (&Packet<'_>, Reason),
        context: &mut Context,
        ports: &mut impl Ports,
    ) {
        let written = context.rules.referral.write_last(terms, packet, reason, &mut self.frame);
        context.counters.redirected += u64::from(written == Written::WithReference);
        if written != Written::NotTaken {
            ports.send(id, &self.frame);
            self.written += 1;
        }
    }
}
