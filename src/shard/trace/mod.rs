//! Traces: the packets of some clients in words, for a person who looks for a fault.
//!
//! ```text
//!   received --> Shard::note_received --+
//!                                       +--> Tap: which traces? in words --> Lines (never waits)
//!   sent -----> Ports::send, if traced -+
//! ```
//! While nobody traces, a connection pays one look at a flag that is looked at anyway. A traced
//! connection is marked: here in its [`super::owed::Debt`], and in the runtime, which sends.

mod attach;
mod words;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;

pub(super) use self::attach::{forget_received, note_end, note_refusal};
use self::words::{Described, push_word};
use crate::{
    base::{
        hash::{Map, Seed},
        ids::ConnectionId,
        local::Peer,
        network::Network,
        time::{Moment, WallClock, WallTime},
        utc::Utc,
    },
    mqtt::{
        Frame, Packet, Version,
        frame::{self, split_head},
    },
    topic::{OwnedTopicFilter, TopicError, TopicFilter, TopicName},
};

/// What a trace is about.
#[derive(Clone, Debug)]
pub enum Subject {
    /// The client with this Client Identifier.
    Client(Box<str>),
    /// The PUBLISH packets of all clients on topics that match.
    Topic(OwnedTopicFilter),
    /// The clients at these addresses.
    Address(Network),
}

impl Subject {
    /// The messages on the topics that match this Topic Filter.
    pub fn of_topics(filter: &str) -> Result<Subject, TopicError> {
        TopicFilter::parse(filter).map(|filter| Subject::Topic(filter.into()))
    }
}

/// A trace, as shards know it.
#[derive(Clone, Debug)]
pub struct TraceOrder {
    pub id: u64,
    /// No other running trace has the same one; less than [`TRACES_MAX`].
    pub slot: usize,
    pub subject: Subject,
    /// How many bytes of a payload are shown.
    pub payload_bytes: usize,
    pub until: WallTime,
}

/// Traces that run at the same time.
pub const TRACES_MAX: usize = 8;

/// One line of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub trace: u64,
    pub text: String,
}

/// Takes the lines of all traces. Called on the thread of a shard, so it never waits.
pub trait Lines {
    fn has_room(&self) -> bool;

    /// False: there was no room.
    fn tell(&self, line: Line) -> bool;

    /// A line of the trace in this slot was dropped, because there was no room.
    fn note_lost(&self, slot: usize);
}

/// The end of a trace at one shard: knows the traces and the connections that they are about.
pub struct Tap {
    lines: Box<dyn Lines>,
    orders: Arc<[TraceOrder]>,
    clock: WallClock,
    connections: Map<ConnectionId, Tapped>,
    /// Bytes of the topics behind aliases that are remembered.
    alias_bytes: usize,
    /// Connections that were left out because [`CONNECTIONS_MAX`] are watched.
    left_out: u64,
    /// Lines about a packet that has been read and may be handed in again.
    held: Vec<(usize, Line)>,
}

/// What is known of a traced connection.
#[derive(Debug)]
struct Tapped {
    /// `None` until CONNECT has said so.
    client_id: Option<Box<str>>,
    peer: SocketAddr,
    version: Version,
    /// The traces by client and address that want it, a bit for the place of each.
    wanted_by: u32,
    /// The topics behind the aliases to the client.
    aliases: Vec<(u16, Box<str>)>,
}

/// Who a connection belongs to, as far as is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    pub(super) client_id: Option<&'a str>,
    pub(super) peer: SocketAddr,
    pub(super) version: Version,
}

#[derive(Clone, Copy)]
enum Way {
    /// From the client.
    Received,
    /// To the client.
    Sent,
    /// About the connection.
    Aside,
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connections = self.connections.len();
        f.debug_struct("Tap").field("connections", &connections).finish_non_exhaustive()
    }
}

impl Tap {
    pub fn new(lines: Box<dyn Lines>) -> Tap {
        Tap {
            lines,
            orders: Arc::new([]),
            clock: WallClock::new(Moment::default(), WallTime::default()),
            connections: Map::with_hasher(Seed::new(0)),
            alias_bytes: 0,
            left_out: 0,
            held: Vec::new(),
        }
    }

    /// Whether anything is traced.
    #[inline]
    pub fn is_on(&self) -> bool {
        !self.orders.is_empty()
    }

    /// These are the traces from now on. Connections are watched as they are shown to
    /// [`Tap::watch`].
    pub(super) fn adopt(&mut self, orders: Arc<[TraceOrder]>, clock: WallClock) {
        self.orders = orders;
        self.clock = clock;
        self.left_out = 0;
        if !self.is_on() {
            self.connections = Map::with_hasher(Seed::new(0));
            self.alias_bytes = 0;
        }
        let orders = &self.orders;
        for tapped in self.connections.values_mut() {
            tapped.wanted_by = wanted_by(orders, tapped.client_id.as_deref(), tapped.peer.ip());
        }
    }

    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    pub(super) fn watches(&self, id: ConnectionId) -> bool {
        self.connections.contains_key(&id)
    }

    /// Watches a connection, if any trace may be about it. `aliases` are those to the client now.
    pub(super) fn watch<'a>(
        &mut self,
        id: ConnectionId,
        known: Known<'_>,
        aliases: impl Iterator<Item = (u16, &'a str)>,
    ) -> bool {
        let Known { client_id, peer, version } = known;
        let orders = &self.orders;
        if !orders.iter().any(|order| order.may_want(client_id, peer.ip())) {
            self.forget(id);
            return false;
        }
        let wanted_by = wanted_by(orders, client_id, peer.ip());
        if let Some(tapped) = self.connections.get_mut(&id) {
            tapped.client_id = client_id.map(Box::from).or_else(|| tapped.client_id.take());
            (tapped.peer, tapped.version, tapped.wanted_by) = (peer, version, wanted_by);
            return true;
        }
        if self.connections.len() >= CONNECTIONS_MAX {
            self.left_out += 1;
            return false;
        }
        let client_id = client_id.map(Box::from);
        let aliases = aliases.map(|(alias, topic)| (alias, Box::from(topic))).collect();
        let mut tapped = Tapped { client_id, peer, version, wanted_by, aliases };
        self.alias_bytes += tapped.alias_bytes();
        if self.alias_bytes > ALIAS_BYTES_MAX {
            self.alias_bytes -= tapped.alias_bytes();
            tapped.aliases = Vec::new();
        }
        self.connections.insert(id, tapped);
        true
    }

    pub(super) fn forget(&mut self, id: ConnectionId) {
        if let Some(tapped) = self.connections.remove(&id) {
            self.alias_bytes -= tapped.alias_bytes();
        }
    }

    /// A packet of the client is about to be handled. Its lines are held until
    /// [`Tap::end_received`]. `topic` is what its Topic Alias stands for.
    pub(super) fn note_received(
        &mut self,
        (id, now): (ConnectionId, Moment),
        frame: Frame<'_>,
        topic: Option<&str>,
        listener: &str,
    ) {
        self.end_received();
        let Some(tapped) = self.connections.get_mut(&id) else { return };
        let packet = Packet::decode(frame, tapped.version).ok();
        if let Some(Packet::Connect(connect)) = &packet {
            tapped.version = connect.version;
            tapped.client_id = (!connect.client_id.is_empty()).then(|| connect.client_id.into());
            let client_id = tapped.client_id.as_deref();
            tapped.wanted_by = wanted_by(&self.orders, client_id, tapped.peer.ip());
        }
        let described = Described { packet: packet.as_ref(), frame, topic, shared: None };
        let (tapped, time) = (&self.connections[&id], self.clock.time_of(now));
        let mut held = std::mem::take(&mut self.held);
        let sender = |out: &mut String| {
            if matches!(packet, Some(Packet::Connect(_))) {
                out.push_str(" from ");
                out.push_str(&Peer(tapped.peer).to_string());
                out.push_str(" at ");
                out.push_str(listener);
            }
        };
        for order in self.orders_for(tapped, described.topic_of_publish(), time) {
            let mut text = tapped.begin_line(time, Way::Received);
            described.push(order.payload_bytes, &mut text);
            sender(&mut text);
            held.push((order.slot, Line { trace: order.id, text: bounded(text) }));
        }
        self.held = held;
    }

    /// The packet that was noted last has been taken: its lines are told.
    #[inline]
    pub(super) fn end_received(&mut self) {
        for (slot, line) in std::mem::take(&mut self.held) {
            self.tell(slot, line);
        }
    }

    /// The packet that was noted last will be handed in again.
    pub(super) fn forget_received(&mut self) {
        self.held.clear();
    }

    /// These bytes are sent on a connection: whole packets, or one whose payload is `shared`.
    /// False: nobody traces the connection any more.
    #[cold]
    #[inline(never)]
    pub fn note_sent(
        &mut self,
        (id, now): (ConnectionId, Moment),
        mut bytes: &[u8],
        shared: Option<&Bytes>,
    ) -> bool {
        if !self.is_on() || !self.watches(id) {
            return false;
        }
        self.end_received();
        if let Some(payload) = shared {
            if let Some(frame) = split_head(bytes) {
                self.note_packet((id, now), frame, Some(payload));
            }
            return true;
        }
        while let Ok(Some(frame)) = frame::split(bytes, usize::MAX) {
            self.note_packet((id, now), frame, None);
            bytes = &bytes[frame.len..];
        }
        true
    }

    fn note_packet(
        &mut self,
        (id, now): (ConnectionId, Moment),
        frame: Frame<'_>,
        shared: Option<&Bytes>,
    ) {
        let Some(tapped) = self.connections.get_mut(&id) else { return };
        let packet = Packet::decode(frame, tapped.version).ok();
        let mut grown = (0, 0);
        let mut alias_used = None;
        if let Some(Packet::Publish(publish)) = &packet
            && let Some(alias) = publish.properties.topic_alias
        {
            let room = ALIAS_BYTES_MAX.saturating_sub(self.alias_bytes);
            if !publish.topic.is_empty() {
                grown = tapped.set_alias(alias.get(), publish.topic, room);
            }
            alias_used = Some(alias.get());
        }
        self.alias_bytes = self.alias_bytes + grown.0 - grown.1;
        let (tapped, time) = (&self.connections[&id], self.clock.time_of(now));
        let topic = alias_used.and_then(|alias| tapped.topic_of(alias));
        let described = Described { packet: packet.as_ref(), frame, topic, shared };
        let is_of_them = described.topic_of_publish();
        for order in self.orders_for(tapped, is_of_them, time) {
            if !self.lines.has_room() {
                self.lines.note_lost(order.slot);
                continue;
            }
            let mut text = tapped.begin_line(time, Way::Sent);
            described.push(order.payload_bytes, &mut text);
            self.tell(order.slot, Line { trace: order.id, text: bounded(text) });
        }
    }

    /// Says something about a connection besides its packets.
    pub(super) fn note_aside(&mut self, (id, now): (ConnectionId, Moment), words: &str) {
        self.end_received();
        let Some(tapped) = self.connections.get(&id) else { return };
        let time = self.clock.time_of(now);
        for order in self.orders_for(tapped, None, time) {
            let mut text = tapped.begin_line(time, Way::Aside);
            text.push_str(words);
            self.tell(order.slot, Line { trace: order.id, text: bounded(text) });
        }
    }

    fn tell(&self, slot: usize, line: Line) {
        if !self.lines.tell(line) {
            self.lines.note_lost(slot);
        }
    }

    /// The running traces that a packet is for.
    fn orders_for(
        &self,
        tapped: &Tapped,
        topic: Option<&str>,
        now: WallTime,
    ) -> impl Iterator<Item = &TraceOrder> {
        let numbered = self.orders.iter().enumerate();
        let wanted = numbered.filter(move |(place, order)| {
            let matches = match &order.subject {
                Subject::Topic(filter) => topic
                    .is_some_and(|topic| filter.as_filter().matches(TopicName::from_valid(topic))),
                _ => tapped.wanted_by & 1 << place != 0,
            };
            matches && now < order.until
        });
        wanted.map(|(_, order)| order)
    }
}

impl TraceOrder {
    /// Whether it may be about a client. One that has not said its name may be any.
    fn may_want(&self, client_id: Option<&str>, ip: IpAddr) -> bool {
        match &self.subject {
            Subject::Topic(_) => true,
            Subject::Client(wanted) => client_id.is_none_or(|client_id| **wanted == *client_id),
            Subject::Address(network) => network.has(ip),
        }
    }
}

/// The traces that want all packets of a client, a bit for the place of each.
fn wanted_by(orders: &[TraceOrder], client_id: Option<&str>, ip: IpAddr) -> u32 {
    let bits = orders.iter().enumerate().map(|(place, order)| {
        let wants = match &order.subject {
            Subject::Topic(_) => false,
            Subject::Client(wanted) => client_id == Some(wanted),
            Subject::Address(network) => network.has(ip),
        };
        u32::from(wants) << place
    });
    bits.fold(0, |all, bit| all | bit)
}

impl Tapped {
    fn begin_line(&self, time: WallTime, way: Way) -> String {
        let mut text = Utc(time).to_string();
        text.push(' ');
        match &self.client_id {
            Some(client_id) => push_word(client_id, &mut text),
            None => text.push_str(&Peer(self.peer).to_string()),
        }
        text.push_str(match way {
            Way::Received => " → ",
            Way::Sent => " ← ",
            Way::Aside => " * ",
        });
        text
    }

    fn alias_bytes(&self) -> usize {
        self.aliases.iter().map(|(_, topic)| topic.len()).sum()
    }

    fn topic_of(&self, alias: u16) -> Option<&str> {
        let known = self.aliases.iter().find(|(number, _)| *number == alias);
        known.map(|(_, topic)| &**topic)
    }

    /// Returns by how many bytes its topics have grown, and by how many they have shrunk. Without
    /// room an alias stands for nothing that is known.
    fn set_alias(&mut self, alias: u16, topic: &str, room: usize) -> (usize, usize) {
        let former = self.topic_of(alias).map_or(0, str::len);
        self.aliases.retain(|(number, _)| *number != alias);
        if topic.len() > room + former {
            return (0, former);
        }
        self.aliases.push((alias, topic.into()));
        (topic.len(), former)
    }
}

/// A line that is not longer than lines may be.
fn bounded(mut text: String) -> String {
    if text.len() > LINE_BYTES_MAX {
        let end = text.floor_char_boundary(LINE_BYTES_MAX);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// The longest line, in bytes, without the mark that something is missing.
const LINE_BYTES_MAX: usize = 4096;
/// Connections that one shard watches.
const CONNECTIONS_MAX: usize = 1 << 16;
/// Bytes of topics behind aliases that one shard remembers for traces.
const ALIAS_BYTES_MAX: usize = 4 << 20;

#[cfg(test)]
mod tests;
