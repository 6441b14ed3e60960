//! The connections of a shard: all packets that are written to them except PUBLISH, and the answers
//! that each of them is owed.
//!
//! Knows neither sessions nor interest. A connection that has gone meanwhile is owed nothing, and
//! nothing is written to it.

mod entries;
mod room;
mod written;

use self::entries::Entries;
pub(super) use self::room::Room;
use super::{
    connection::MqttConnection,
    context::Context,
    letter::Letter,
    owed::{Answer, Condition, Owed, Verdict},
    patience::Patience,
    ports::Ports,
    pressure::{Held, Publisher},
    timers::Timer,
};
use crate::base::{
    ids::{ConnectionId, ShardId},
    time::Moment,
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
        self.entries.len()
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

    /// How many slots there are: the slot of each connection is less.
    pub(super) fn slots(&self) -> u32 {
        self.entries.slots()
    }

    /// The connection in a slot.
    pub(super) fn in_slot(&self, slot: u32) -> Option<ConnectionId> {
        self.entries.in_slot(slot)
    }

    pub(super) fn ids(&self) -> Vec<ConnectionId> {
        self.entries.iter().map(|(id, _)| id).collect()
    }

    /// How many connections are held back, and how many topics stand behind aliases.
    pub(super) fn held_back_and_aliases(&self) -> (usize, usize) {
        let connections = || self.entries.iter().map(|(_, connection)| connection);
        let held_back = connections().filter(|it| it.debt().is_held_back()).count();
        (held_back, connections().map(MqttConnection::alias_count).sum())
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
            self.owed.owe(id, connection.debt_mut(), condition, answer);
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

    /// All records of this shard up to `mark` are on disk: sends the packets that waited for that.
    pub(super) fn note_durable(&mut self, mark: u64, ports: &mut impl Ports) {
        self.owed.note_durable(mark);
        while let Some(id) = self.owed.next_durable() {
            let Some(connection) = self.entries.get_mut(id) else { continue };
            let packets = connection.debt_mut().take_durable(self.owed.durable());
            if !packets.is_empty() && !connection.keeps_back(&packets) {
                ports.send(id, &packets);
            }
        }
    }

    /// The store has room for messages, or has none.
    pub(super) fn note_store_room(&mut self, has_room: bool) {
        self.owed.note_store_room(has_room);
    }

    /// Reads nothing more from a connection until the store has room.
    pub(super) fn hold_until_store_room(&mut self, id: ConnectionId, ports: &mut impl Ports) {
        let entries = &self.entries;
        self.owed.forget_gone(entries.len(), |id| entries.get(id).is_some());
        self.owe(id, (Condition::StoreRoom, Answer::ReadOn), ports);
    }

    /// Reads nothing more from a connection until all records up to `mark` are on disk.
    pub(super) fn hold_until_durable(
        &mut self,
        id: ConnectionId,
        mark: u64,
        ports: &mut impl Ports,
    ) {
        if mark > self.owed.durable() {
            self.owe(id, (Condition::Durable(mark), Answer::ReadOn), ports);
        }
    }

    /// The password of a client has been checked, or will not be. The client may have gone.
    pub(super) fn note_verdict(&mut self, id: ConnectionId, verdict: Verdict) {
        self.settle(id, Condition::Verdict(None), Condition::Verdict(Some(verdict)));
    }

    /// The shard that was asked for a place for the session of a client has answered, or has not in
    /// time. The client may have gone meanwhile.
    pub(super) fn note_place(&mut self, id: ConnectionId) {
        self.settle(id, Condition::Place { is_told: false }, Condition::Place { is_told: true });
    }

    /// The delay of a client is over. The client may have gone.
    pub(super) fn note_delay_over(&mut self, id: ConnectionId) {
        self.settle(id, Condition::Delay(false), Condition::Delay(true));
    }

    fn settle(&mut self, id: ConnectionId, from: Condition, to: Condition) {
        if let Some(connection) = self.entries.get_mut(id) {
            self.owed.settle(id, connection.debt_mut(), from, to);
        }
    }

    /// Whether an answer may be due to anyone.
    #[inline]
    pub(super) fn has_due(&self) -> bool {
        self.owed.has_ready()
    }

    /// The next answer that no longer has to wait, with its connection and the verdict of what it
    /// waited for.
    pub(super) fn next_due(&mut self) -> Option<(ConnectionId, Answer, Verdict)> {
        loop {
            let id = self.owed.next_ready()?;
            let connection = self.entries.get_mut(id);
            let due = connection.and_then(|it| self.owed.take_due(id, it.debt_mut()));
            if let Some((answer, verdict)) = due {
                return Some((id, answer, verdict));
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
    pub(super) fn press(&mut self, id: ConnectionId, patience: Patience, context: &mut Context) {
        let Some(publisher) = self.get_mut(id) else { return };
        let wait_over = publisher.debt_mut().press(patience, context.now);
        if let Some(due) = wait_over {
            context.timers.set(due, Timer::Wait(id));
        }
    }

    /// One subscriber fewer presses this publisher, which may have gone meanwhile.
    pub(super) fn ease(
        &mut self,
        id: ConnectionId,
        patience: Patience,
        now: Moment,
        ports: &mut impl Ports,
    ) {
        let Some(publisher) = self.get_mut(id) else { return };
        let was_held = publisher.is_held();
        let acknowledgements = publisher.debt_mut().ease(patience, now);
        self.go_on(id, was_held, (acknowledgements, now), ports);
    }

    /// This publisher may have waited for subscribers that read slowly for as long as it should.
    pub(super) fn look_at_wait(
        &mut self,
        id: ConnectionId,
        context: &mut Context,
        ports: &mut impl Ports,
    ) {
        let Some(publisher) = self.get_mut(id) else { return };
        let was_held = publisher.is_held();
        if let Some(acknowledgements) = publisher.debt_mut().end_wait(context.now) {
            context.counters.waits_ended += 1;
            self.go_on(id, was_held, (acknowledgements, context.now), ports);
        }
    }

    /// Gives a publisher its acknowledgements, and reads from it again.
    fn go_on(
        &mut self,
        id: ConnectionId,
        was_held: bool,
        (acknowledgements, now): (Vec<u8>, Moment),
        ports: &mut impl Ports,
    ) {
        if !acknowledgements.is_empty() {
            ports.send(id, &acknowledgements);
        }
        if was_held {
            self.read_on(id, now, ports);
        }
    }

    /// Makes a publisher wait until its message has been brought to all who want it here.
    pub(super) fn begin_placing(
        &mut self,
        publisher: Publisher,
        context: &mut Context,
        ports: &mut impl Ports,
    ) {
        if publisher.shard != context.settings.shard {
            return self.hold(publisher, Patience::Earned, context, ports);
        }
        if let Some(connection) = self.get_mut(publisher.connection) {
            connection.debt_mut().begin_placing(context.now);
            ports.pause(publisher.connection);
        }
    }

    /// A publisher goes on: its message has been brought to all who want it here.
    pub(super) fn end_placing(
        &mut self,
        publisher: Publisher,
        context: &Context,
        ports: &mut impl Ports,
    ) {
        if publisher.shard != context.settings.shard {
            return self.let_go(publisher, Patience::Earned, context, ports);
        }
        let id = publisher.connection;
        let Some(connection) = self.get_mut(id) else { return };
        let acknowledgements = connection.debt_mut().end_placing(context.now);
        self.go_on(id, true, (acknowledgements, context.now), ports);
    }

    /// Makes a publisher wait for a subscriber here that cannot keep up with it.
    pub(super) fn hold(
        &mut self,
        publisher: Publisher,
        patience: Patience,
        context: &mut Context,
        ports: &mut impl Ports,
    ) {
        let Publisher { shard, connection } = publisher;
        if shard == context.settings.shard {
            return self.press(connection, patience, context);
        }
        ports.letters(shard).push(Letter::Press { publisher: connection, patience });
    }

    /// A publisher that waits for a subscriber here with this patience goes on.
    pub(super) fn let_go(
        &mut self,
        Publisher { shard, connection }: Publisher,
        patience: Patience,
        context: &Context,
        ports: &mut impl Ports,
    ) {
        if shard == context.settings.shard {
            return self.ease(connection, patience, context.now, ports);
        }
        ports.letters(shard).push(Letter::Ease { publisher: connection, patience });
    }

    /// Publishers that have waited for a subscriber here go on.
    pub(super) fn release(
        &mut self,
        held: Option<Held>,
        context: &Context,
        ports: &mut impl Ports,
    ) {
        let Some(Held { patience, publishers }) = held else { return };
        for publisher in publishers {
            self.let_go(publisher, patience, context, ports);
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

#[cfg(test)]
mod tests;
