//! The connections of a shard: all packets that are written to them except PUBLISH, and the answers
//! that each of them is owed.
//!
//! Knows neither sessions nor interest. A connection that has gone meanwhile is owed nothing, and
//! nothing is written to it.

use super::{
    connection::{MqttConnection, Stage},
    context::Context,
    end::Cause,
    letter::Letter,
    log::{self, Claim},
    owed::{Answer, Condition, Due, Owed},
    ports::{Closing, Ports},
    pressure::Publisher,
    reason::Reason,
    referral::Written,
};
use crate::{
    base::{
        hash::Set,
        ids::{ConnectionId, ShardId, SubscriberId},
        time::Moment,
    },
    mqtt::{Ack, Connack, Delivery, Disconnect, Packet, PacketType, ReasonCode, Version},
    session::terms::Terms,
};

/// Connections by the identity that the runtime gave them.
#[derive(Debug)]
pub(super) struct Connections {
    entries: Entries,
    owed: Owed,
    /// Memory for the packet that is being written, reused for each packet.
    frame: Vec<u8>,
    /// Packets that were written, those that are owed among them.
    written: u64,
}

impl Connections {
    /// No connections, on a shard of a broker with `shards` shards.
    pub(super) fn new(shards: usize) -> Connections {
        Connections {
            entries: Entries::default(),
            owed: Owed::new(shards),
            frame: Vec::new(),
            written: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.count
    }

    /// How many packets were written to them besides messages.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    pub(super) fn insert(&mut self, id: ConnectionId, connection: MqttConnection) {
        self.entries.insert(id, connection);
    }

    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<MqttConnection> {
        self.entries.remove(id)
    }

    #[inline]
    pub(super) fn get(&self, id: ConnectionId) -> Option<&MqttConnection> {
        self.entries.get(id)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut MqttConnection> {
        self.entries.get_mut(id)
    }

    /// The connection whose packet is being handled.
    #[inline]
    pub(super) fn connected(&self, id: ConnectionId) -> &MqttConnection {
        self.get(id).expect("it lasts until its packet has been handled")
    }

    /// The connection whose packet is being handled.
    #[inline]
    pub(super) fn connected_mut(&mut self, id: ConnectionId) -> &mut MqttConnection {
        self.entries.connected_mut(id)
    }

    pub(super) fn ids(&self) -> Vec<ConnectionId> {
        self.entries.iter().map(|(id, _)| id).collect()
    }

    /// How many connections are held back, and how many topics stand behind aliases.
    pub(super) fn held_back_and_aliases(&self) -> (usize, usize) {
        let connections = || self.entries.iter().map(|(_, connection)| connection);
        let held_back = connections().filter(|it| it.account().is_held_back()).count();
        (held_back, connections().map(MqttConnection::alias_count).sum())
    }
}

/// The packets that are written to connections.
impl Connections {
    /// Sends a packet to a client, with a Reason String if there is a reason. An error: the packet
    /// is larger than the client accepts, and the caller has to end the connection.
    /// [MQTT-3.1.2-24]
    pub(super) fn answer(
        &mut self,
        id: ConnectionId,
        packet: &Packet<'_>,
        reason: Option<Reason>,
        ports: &mut impl Ports,
    ) -> Result<(), Cause> {
        let Some(connection) = self.entries.get(id) else { return Ok(()) };
        if connection.terms().write(packet, reason.map(Reason::text), &mut self.frame) {
            ports.send(id, &self.frame);
            self.written += 1;
            return Ok(());
        }
        Err(match packet {
            Packet::Connack(_) => Cause::ConnackTooLarge,
            _ => Cause::AnswerTooLarge,
        })
    }

    /// As [`Connections::answer`], once all other shards have applied the interest up to a number.
    pub(super) fn answer_once_applied(
        &mut self,
        id: ConnectionId,
        number: u64,
        (packet, reason): (&Packet<'_>, Option<Reason>),
        ports: &mut impl Ports,
    ) -> Result<(), Cause> {
        let mut frame = Vec::new();
        let terms = self.connected(id).terms();
        if !terms.write(packet, reason.map(Reason::text), &mut frame) {
            return Err(Cause::AnswerTooLarge);
        }
        self.owe(id, (Condition::Applied(number), Answer::Packets(frame)), ports);
        self.written += 1;
        Ok(())
    }

    /// Acknowledges a PUBLISH, now or when its publisher is no longer held back.
    pub(super) fn acknowledge(
        &mut self,
        id: ConnectionId,
        delivery: Delivery,
        reason_code: ReasonCode,
        ports: &mut impl Ports,
    ) {
        let (packet_type, packet_id) = match delivery {
            Delivery::AtMostOnce => return,
            Delivery::AtLeastOnce(packet_id) => (PacketType::Puback, packet_id),
            Delivery::ExactlyOnce(packet_id) => (PacketType::Pubrec, packet_id),
        };
        let connection = self.entries.connected_mut(id);
        self.frame.clear();
        let ack = Ack::with_reason(packet_id, reason_code);
        ack.encode(packet_type, connection.terms().version(), &mut self.frame);
        self.written += 1;
        if !connection.keeps_back(&self.frame) {
            ports.send(id, &self.frame);
        }
    }

    /// Acknowledges a PUBLISH that is refused, with the reason.
    pub(super) fn acknowledge_refused(
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
        let connection = self.entries.connected_mut(id);
        // A client that has taken a CONNACK also takes this smaller packet.
        let _ = connection.terms().write(&packet, Some(reason.text()), &mut self.frame);
        self.written += 1;
        if !connection.keeps_back(&self.frame) {
            ports.send(id, &self.frame);
        }
    }

    /// Answers CONNECT with a refusal, and closes. [MQTT-3.1.4-2] [MQTT-3.2.2-7]
    pub(super) fn refuse(
        &mut self,
        id: ConnectionId,
        claim: Claim<'_>,
        reason: Reason,
        context: &mut Context,
        ports: &mut impl Ports,
    ) {
        context.counters.count_refusal(reason);
        context.counters.count_refused_connect(reason);
        let reason = context.rules.referral.instead_of(reason);
        let connack = Packet::Connack(Connack::refusal(reason.code()));
        self.send_last(id, claim.terms, (&connack, reason), context, ports);
        ports.close(id, Closing::Flush);
        if let Some(connection) = self.entries.remove(id) {
            let principal = connection.principal();
            let listener = context.settings.listener_address(principal.listener());
            log::refused(principal, claim, listener, reason);
        }
    }

    /// Ends a connection, and tells its client why. Returns the session that has lost it, if any.
    pub(super) fn end(
        &mut self,
        id: ConnectionId,
        cause: Cause,
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
        let principal = connection.principal();
        log::ended(principal, context.settings.listener_address(principal.listener()), cause);
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

/// The answers that connections are owed.
impl Connections {
    /// Owes a connection an answer, and stops reading from it until it has been given.
    pub(super) fn owe(
        &mut self,
        id: ConnectionId,
        (condition, answer): (Condition, Answer),
        ports: &mut impl Ports,
    ) {
        if let Some(connection) = self.entries.get_mut(id) {
            self.owed.owe(id, connection.account_mut(), condition, answer);
            ports.pause(id);
        }
    }

    /// As [`Connections::owe`], until the crowded batch to another shard has been posted.
    pub(super) fn owe_until_posted(
        &mut self,
        id: ConnectionId,
        to: ShardId,
        answer: Answer,
        ports: &mut impl Ports,
    ) {
        self.owe(id, (self.owed.posting(to), answer), ports);
    }

    /// All other shards have applied what they were told up to this number.
    pub(super) fn note_applied(&mut self, upto: u64) {
        self.owed.note_applied(upto);
    }

    /// A crowded batch has been posted to a shard.
    pub(super) fn note_posted(&mut self, to: ShardId) {
        self.owed.note_posted(to);
    }

    /// The password of a client has been checked.
    pub(super) fn note_verdict(&mut self, id: ConnectionId, passed: bool) {
        if let Some(connection) = self.entries.get_mut(id) {
            self.owed.note_verdict(id, connection.account_mut(), passed);
        }
    }

    /// Whether an answer may be due to anyone.
    #[inline]
    pub(super) fn has_due(&self) -> bool {
        self.owed.has_ready()
    }

    /// The next answer that no longer has to wait, with its connection.
    pub(super) fn next_due(&mut self) -> Option<(ConnectionId, Due)> {
        loop {
            let id = self.owed.next_ready()?;
            let connection = self.entries.get_mut(id);
            let due = connection.and_then(|it| self.owed.take_due(id, it.account_mut()));
            if let Some(due) = due {
                return Some((id, due));
            }
        }
    }

    /// Reads from a connection again, unless it is still held. Its silence until now does not count
    /// against its Keep Alive.
    pub(super) fn read_on(&mut self, id: ConnectionId, now: Moment, ports: &mut impl Ports) {
        // The connection may have ended with its last answer.
        if let Some(connection) = self.get_mut(id).filter(|connection| !connection.is_held()) {
            connection.touch(now);
            ports.resume(id);
        }
    }

    /// One more subscriber presses this publisher, which may have gone meanwhile.
    pub(super) fn press(&mut self, id: ConnectionId) {
        if let Some(publisher) = self.get_mut(id) {
            publisher.account_mut().press();
        }
    }

    /// One subscriber fewer presses this publisher, which may have gone meanwhile.
    pub(super) fn ease(&mut self, id: ConnectionId, now: Moment, ports: &mut impl Ports) {
        let Some(publisher) = self.get_mut(id) else { return };
        let was_held = publisher.is_held();
        let acknowledgements = publisher.account_mut().ease();
        if !acknowledgements.is_empty() {
            ports.send(id, &acknowledgements);
        }
        if was_held {
            self.read_on(id, now, ports);
        }
    }

    /// Makes a publisher wait for a subscriber here that cannot keep up with it.
    pub(super) fn hold(&mut self, publisher: Publisher, here: ShardId, ports: &mut impl Ports) {
        if publisher.shard == here {
            return self.press(publisher.connection);
        }
        let letter = Letter::Press { publisher: publisher.connection };
        ports.letters(publisher.shard).push(letter);
    }

    /// Publishers that have waited for a subscriber here go on.
    pub(super) fn release(
        &mut self,
        publishers: Set<Publisher>,
        context: &Context,
        ports: &mut impl Ports,
    ) {
        for Publisher { shard, connection } in publishers {
            if shard == context.settings.shard {
                self.ease(connection, context.now, ports);
            } else {
                ports.letters(shard).push(Letter::Ease { publisher: connection });
            }
        }
    }

    /// How many answers wait for other shards to have applied something.
    pub(super) fn waiting_for_applied(&self) -> usize {
        self.owed.waiting_for_applied()
    }

    /// How many wait for a batch to be posted.
    pub(super) fn waiting_for_posted(&self) -> usize {
        self.owed.waiting_for_posted()
    }
}

/// Connections by their slots, each with its generation.
#[derive(Debug, Default)]
struct Entries {
    slots: Vec<Option<(u32, MqttConnection)>>,
    count: usize,
}

impl Entries {
    fn insert(&mut self, id: ConnectionId, connection: MqttConnection) {
        let slot = id.slot as usize;
        if self.slots.len() <= slot {
            self.slots.resize_with(slot + 1, || None);
        }
        let earlier = self.slots[slot].replace((id.generation, connection));
        assert!(earlier.is_none(), "the runtime gives a place away only after its end was told");
        self.count += 1;
    }

    fn remove(&mut self, id: ConnectionId) -> Option<MqttConnection> {
        self.get(id)?;
        self.count -= 1;
        self.slots[id.slot as usize].take().map(|(_, connection)| connection)
    }

    #[inline]
    fn get(&self, id: ConnectionId) -> Option<&MqttConnection> {
        match self.slots.get(id.slot as usize)? {
            Some((generation, connection)) if *generation == id.generation => Some(connection),
            _ => None,
        }
    }

    #[inline]
    fn get_mut(&mut self, id: ConnectionId) -> Option<&mut MqttConnection> {
        match self.slots.get_mut(id.slot as usize)? {
            Some((generation, connection)) if *generation == id.generation => Some(connection),
            _ => None,
        }
    }

    #[inline]
    fn connected_mut(&mut self, id: ConnectionId) -> &mut MqttConnection {
        self.get_mut(id).expect("it lasts until its packet has been handled")
    }

    fn iter(&self) -> impl Iterator<Item = (ConnectionId, &MqttConnection)> {
        self.slots.iter().zip(0u32..).filter_map(|(entry, slot)| {
            let (generation, connection) = entry.as_ref()?;
            Some((ConnectionId { slot, generation: *generation }, connection))
        })
    }
}

#[cfg(test)]
mod tests;
