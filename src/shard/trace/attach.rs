//! Which connections of a shard are traced, and what the tap is told of them.

use std::sync::Arc;

use super::{Known, TraceOrder};
use crate::{
    base::{ids::ConnectionId, time::Moment},
    mqtt::{Frame, Packet, PacketType},
    session::topic_aliases::TopicAliases,
    shard::{
        Shard, ask::Answer, connection::MqttConnection, end::Cause, end::Leaves, ports::Ports,
    },
    transport::Address,
};

impl Shard {
    /// These are the traces from now on.
    pub(in crate::shard) fn adopt_traces(
        &self,
        orders: &Arc<[TraceOrder]>,
        ports: &mut impl Ports,
    ) -> Answer {
        let Some(tap) = ports.tap() else { return Answer::Nothing };
        tap.adopt(Arc::clone(orders), self.context.settings.wall_clock);
        Answer::Done
    }

    /// Marks those of some connections that a trace may be about, from this slot on.
    pub(in crate::shard) fn tap_some(&mut self, from: u32, ports: &mut impl Ports) -> Answer {
        let slots = self.connections.slots();
        let until = slots.min(from.saturating_add(LOOKS_MAX));
        for slot in from..until {
            if let Some(id) = self.connections.in_slot(slot) {
                self.tap_connection(id, ports);
            }
        }
        let left_out = ports.tap().map_or(0, |tap| tap.left_out());
        Answer::Tapped { next: (until < slots).then_some(until), left_out }
    }

    /// A connection has just come: any trace may be about it.
    #[inline]
    pub(in crate::shard) fn tap_arrival(&mut self, id: ConnectionId, ports: &mut impl Ports) {
        if ports.tap().is_some_and(|tap| tap.is_on()) {
            self.tap_new(id, ports);
        }
    }

    #[cold]
    #[inline(never)]
    fn tap_new(&mut self, id: ConnectionId, ports: &mut impl Ports) {
        self.tap_connection(id, ports);
        let now = self.context.now;
        let Some(connection) = self.connections.get(id) else { return };
        if let Some(tap) = ports.tap().filter(|_| connection.is_traced()) {
            let listener = connection.principal().listener();
            let listener = self.context.rules.listener_address(listener);
            tap.note_aside((id, now), &format!("connection at {listener}"));
        }
    }

    /// Marks a connection if a trace may be about it, by what is known of its client now.
    pub(in crate::shard) fn tap_connection(&mut self, id: ConnectionId, ports: &mut impl Ports) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Some(tap) = ports.tap().filter(|tap| tap.is_on()) else { return };
        let session = connection.subscriber().and_then(|known| self.sessions.get(known));
        let principal = connection.principal();
        let known = Known {
            client_id: session.map(|_| principal.client_id()),
            peer: principal.peer(),
            version: connection.terms().version(),
        };
        let aliases = session.and_then(|session| session.topic_aliases());
        let aliases = aliases.into_iter().flat_map(TopicAliases::topics);
        let is_traced = tap.watch(id, known, aliases);
        connection.set_traced(is_traced);
        ports.set_traced(id, is_traced);
    }

    /// Notes a packet that is about to be handled, if its connection is traced.
    #[cold]
    #[inline(never)]
    pub(in crate::shard) fn note_received(
        &mut self,
        id: ConnectionId,
        frame: Frame<'_>,
        ports: &mut impl Ports,
    ) {
        let Some(connection) = self.connections.get_mut(id).filter(|it| it.is_traced()) else {
            return;
        };
        let tap = ports.tap().filter(|tap| tap.is_on() && tap.watches(id));
        let Some(tap) = tap else {
            connection.set_traced(false);
            return ports.set_traced(id, false);
        };
        let version = connection.terms().version();
        let alias = match (frame.packet_type(), Packet::decode(frame, version)) {
            (PacketType::Publish, Ok(Packet::Publish(publish))) => publish.properties.topic_alias,
            _ => None,
        };
        let topic = alias.and_then(|alias| connection.topic_behind(alias));
        let listener = self.context.rules.listener_address(connection.principal().listener());
        tap.note_received((id, self.context.now), frame, topic, &listener.to_string());
    }
}

/// The packet that was noted last will be handed in again.
#[cold]
#[inline(never)]
pub(in crate::shard) fn forget_received(ports: &mut impl Ports) {
    if let Some(tap) = ports.tap() {
        tap.forget_received();
    }
}

/// Tells the traces why a connection ends, and forgets it.
pub(in crate::shard) fn note_end(
    id: ConnectionId,
    connection: &MqttConnection,
    (cause, leaves): (Cause, Option<Leaves>),
    now: Moment,
    ports: &mut impl Ports,
) {
    let Some(tap) = ports.tap().filter(|_| connection.is_traced()) else { return };
    let mut words = format!("ended: {}", cause.text());
    for (before, word) in [
        (", flag ", cause.flag()),
        (", session ", leaves.map(Leaves::session)),
        (", Will ", leaves.and_then(Leaves::will)),
    ] {
        words.extend(word.map(|word| [before, word]).into_iter().flatten());
    }
    tap.note_aside((id, now), &words);
    tap.forget(id);
}

/// Tells the traces why CONNECT is refused, and forgets the connection.
pub(in crate::shard) fn note_refusal(
    id: ConnectionId,
    connection: &MqttConnection,
    (reason, listener): (&str, &Address),
    now: Moment,
    ports: &mut impl Ports,
) {
    let Some(tap) = ports.tap().filter(|_| connection.is_traced()) else { return };
    tap.note_aside((id, now), &format!("refused at {listener}: {reason}"));
    tap.forget(id);
}

/// Slots of connections that one question looks at.
const LOOKS_MAX: u32 = 512;
