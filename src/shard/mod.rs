//! The brain of one core: the MQTT logic for the connections and sessions of one shard.
//!
//! Pure: bytes, letters and moments come in through [`Brain`], effects go out through [`Ports`].
//! Knows no ring, no sockets, no threads and no clock. [`Shard`] is the coordinator: it calls the
//! objects that it consists of, and says which function handles which packet.

#![forbid(unsafe_code)]

mod ack;
mod admit;
pub mod ask;
mod attempts;
mod auth;
mod bans;
mod brain;
mod budget;
mod certificate;
mod checks;
mod connack;
mod connect;
mod connection;
mod connections;
mod context;
mod deliver;
mod deliveries;
mod drops;
mod dynamic;
mod end;
pub mod events;
mod forwarding;
mod frames;
mod grant;
mod granted;
mod interest;
pub mod inventory;
mod judge;
mod kept_connect;
pub mod letter;
mod log;
mod mail;
pub mod memory;
mod notices;
pub mod offer;
mod orphans;
mod owed;
pub mod patience;
pub mod ports;
mod pressure;
mod publish;
mod purge;
mod reason;
mod recorder;
pub mod referral;
mod replays;
pub mod restore;
mod restraint;
mod retained;
mod rights;
mod router;
pub mod rules;
pub mod settings;
mod share;
pub mod stats;
pub mod store_figures;
mod suback;
mod subscribe;
mod sys;
mod throttle;
mod timers;
pub mod trace;
mod unfinished;
mod unsubscribe;
mod waits;

use std::sync::Arc;

use self::{
    admit::Candidates,
    auth::Authenticator,
    connection::{MqttConnection, Stage},
    connections::Connections,
    context::Context,
    end::Cause,
    log::Claim,
    owed::Answer,
    ports::Ports,
    reason::Reason,
    restore::Restoration,
    router::Router,
    rules::Rules,
    settings::Settings,
    stats::Counters,
    sys::SysTree,
};
use crate::{
    base::ids::{ConnectionId, SubscriberId},
    mqtt::{
        DecodeError, Frame, Packet, ProtocolError, Publish, Version,
        frame::{self, PacketType},
    },
    session::sessions::Sessions,
};

/// One shard of the broker.
#[derive(Debug)]
pub struct Shard {
    context: Context,
    connections: Connections,
    sessions: Sessions,
    authenticator: Authenticator,
    candidates: Candidates,
    router: Router,
    sys: SysTree,
    /// Clients are or were announced by retained messages.
    has_announced: bool,
    /// Memory for the topic and the properties of the message that is being published, if they
    /// differ from those in the packet. It is reused for each message.
    topic: String,
    application: Vec<u8>,
    /// What an earlier process has left, until the shard is started.
    restoration: Option<Arc<Restoration>>,
}

/// A client that is connected, as the sender of a packet.
#[derive(Clone, Copy, Debug)]
struct Client {
    connection: ConnectionId,
    subscriber: SubscriberId,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handled {
    Taken,
    /// The packet will be handed in again: to the home shard of its connection, or to this shard
    /// once earlier bytes have been handled.
    NotTaken,
}

/// Why a packet of a connected client was not handled.
#[derive(Clone, Copy, Debug)]
enum Unhandled {
    Wrong(DecodeError),
    /// It is handed in again once the connection is not held any more.
    NotNow,
}

impl From<DecodeError> for Unhandled {
    fn from(error: DecodeError) -> Unhandled {
        Unhandled::Wrong(error)
    }
}

impl Shard {
    pub fn new(settings: Settings, rules: &Rules) -> Shard {
        let context = Context::new(settings, rules);
        let Settings { shard, shards, seed, .. } = context.settings;
        let mut shard = Shard {
            connections: Connections::new(shards),
            sessions: Sessions::new(seed),
            authenticator: Authenticator::new(&context),
            candidates: Candidates::new(seed),
            router: Router::new(&context),
            sys: SysTree::new(shard, shards),
            has_announced: false,
            topic: String::new(),
            application: Vec::new(),
            restoration: None,
            context,
        };
        shard.watch_sys();
        shard
    }

    /// The counters of this shard, with the present numbers of connections and sessions.
    pub fn counters(&self) -> Counters {
        let counted = &self.context.counters;
        let mut counters = Counters {
            messages_sent: counted.messages_sent
                + counted.publishes_sent
                + self.connections.written(),
            connections: self.connections.len() as u64,
            clients_total: self.sessions.len() as u64,
            ..counted.clone()
        };
        self.context.memory.count(&mut counters);
        counters
    }

    /// Handles whole packets until no whole packet is left, until the connection is held or gone,
    /// or until they have caused so many steps that others have their turn first. Returns how
    /// many bytes were taken.
    fn handle_packets(&mut self, id: ConnectionId, bytes: &[u8], ports: &mut impl Ports) -> usize {
        let (mut taken, mut latest) = (0, "");
        let quantum = self.context.rules.limits.slice_steps / QUANTA_PER_SLICE;
        let turn_over = self.context.counters.caused_steps() + quantum as u64;
        while taken < bytes.len()
            && let Some(connection) = self.connections.get_mut(id)
            && !connection.is_held()
        {
            match frame::split(&bytes[taken..], connection.packet_size_max()) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    connection.touch(self.context.now);
                    let state = (connection.stage(), connection.terms().version());
                    // Usually nothing is owed, nobody traces, and no rate is limited.
                    if connection.debt().is_open() && self.stalls_or_is_noted(id, frame, ports) {
                        break;
                    }
                    if self.has_to_wait(id, &frame, ports) {
                        trace::forget_received(ports);
                        break;
                    }
                    match self.handle_frame((id, state), frame, &mut latest, ports) {
                        Handled::Taken => {
                            taken += frame.len;
                            self.context.counters.messages_received += 1;
                            if self.context.counters.caused_steps() > turn_over {
                                self.read_on_next_turn(id, ports);
                                break;
                            }
                        }
                        Handled::NotTaken => {
                            trace::forget_received(ports);
                            break;
                        }
                    }
                }
                Err(error) => {
                    let cause = connection.cause_of(&bytes[taken..], error);
                    self.end(id, cause, ports);
                    taken = bytes.len();
                }
            }
        }
        if let Some(tap) = ports.tap() {
            tap.end_received();
        }
        taken
    }

    /// Whether a packet of a connection that is owed something has to wait, or comes too early by
    /// the rates of its client. If not, and if the connection is traced, the packet is noted.
    #[cold]
    #[inline(never)]
    fn stalls_or_is_noted(
        &mut self,
        id: ConnectionId,
        frame: Frame<'_>,
        ports: &mut impl Ports,
    ) -> bool {
        let Some(connection) = self.connections.get_mut(id) else { return true };
        if connection.stalls(&frame) {
            ports.pause(id);
            return true;
        }
        if connection.throttle().is_some() && self.comes_too_early(id, &frame, ports) {
            return true;
        }
        if self.connections.get(id).is_some_and(MqttConnection::is_traced) {
            self.note_received(id, frame, ports);
        }
        false
    }

    /// Reads nothing more from a connection in this turn.
    #[cold]
    #[inline(never)]
    fn read_on_next_turn(&mut self, id: ConnectionId, ports: &mut impl Ports) {
        // A connection that is held is read on when that is over.
        if self.connections.get(id).is_some_and(|connection| !connection.is_held()) {
            ports.pause(id);
            ports.resume(id);
        }
    }

    /// Whether a packet that is told to other shards has to wait because a batch of letters is
    /// crowded, or because logins have failed. If so, the connection is held for so long.
    fn has_to_wait(&mut self, id: ConnectionId, frame: &Frame<'_>, ports: &mut impl Ports) -> bool {
        if !is_told_to_others(frame.packet_type()) {
            return false;
        }
        if let Some(peer) = self.context.crowded_peer(ports) {
            self.connections.owe_until_posted(id, peer, Answer::ReadOn, ports);
            return true;
        }
        frame.packet_type() == PacketType::Auth && self.delays_auth(id, ports)
    }

    /// `latest` is the topic of the latest PUBLISH among these bytes.
    #[inline]
    fn handle_frame<'a>(
        &mut self,
        (id, (stage, version)): (ConnectionId, (Stage, Version)),
        frame: Frame<'a>,
        latest: &mut &'a str,
        ports: &mut impl Ports,
    ) -> Handled {
        if !matches!(stage, Stage::Connected(_) | Stage::Authenticating) {
            return self.handle_first(id, frame, ports);
        }
        if frame.packet_type() == PacketType::Connect {
            // A second CONNECT is an error even if it is malformed. [MQTT-3.1.0-2]
            self.refuse(id, ProtocolError::SecondConnect, ports);
            return Handled::Taken;
        }
        let handled = match stage {
            Stage::Connected(subscriber) => {
                let client = Client { connection: id, subscriber };
                self.handle_connected(client, (frame, version), latest, ports)
            }
            _ => Packet::decode(frame, version)
                .map(|packet| self.handle_unauthenticated(id, &packet, ports))
                .map_err(Unhandled::Wrong),
        };
        match handled {
            Ok(()) => {}
            Err(Unhandled::Wrong(error)) => self.refuse(id, error, ports),
            Err(Unhandled::NotNow) => return Handled::NotTaken,
        }
        Handled::Taken
    }

    /// The first packet is CONNECT, and nothing else. [MQTT-3.1.0-1]
    #[cold]
    #[inline(never)]
    fn handle_first(
        &mut self,
        id: ConnectionId,
        frame: Frame<'_>,
        ports: &mut impl Ports,
    ) -> Handled {
        if frame.packet_type() != PacketType::Connect {
            self.end(id, Cause::of_first_frame(frame), ports);
            return Handled::Taken;
        }
        match Packet::decode(frame, crate::mqtt::Version::V5) {
            Ok(Packet::Connect(connect)) => self.handle_connect(id, &connect, ports),
            Ok(_) => Handled::Taken,
            Err(error) => {
                self.refuse_connect_bytes(id, frame, error, ports);
                Handled::Taken
            }
        }
    }

    /// Handles a packet of a connected client. The frequent packets are decoded into types of their
    /// own, because a `Packet` is large.
    fn handle_connected<'a>(
        &mut self,
        client: Client,
        (frame, version): (Frame<'a>, Version),
        latest: &mut &'a str,
        ports: &mut impl Ports,
    ) -> Result<(), Unhandled> {
        match frame.packet_type() {
            // Matched by reference: a PUBLISH is too large to be moved for each message.
            PacketType::Publish => match &Publish::decode_next(frame, version, latest) {
                Ok(publish) if self.context.is_restrained => {
                    return self.handle_restrained(client, publish, ports);
                }
                Ok(publish) => self.handle_publish(client, publish, ports),
                Err(error) => return Err(Unhandled::Wrong(*error)),
            },
            PacketType::Puback | PacketType::Pubrec | PacketType::Pubrel | PacketType::Pubcomp => {
                self.handle_ack(client, (frame, version), ports)?;
            }
            _ => self.handle_seldom(client, &Packet::decode(frame, version)?, ports),
        }
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn handle_seldom(&mut self, client: Client, packet: &Packet<'_>, ports: &mut impl Ports) {
        let id = client.connection;
        match packet {
            Packet::Subscribe(subscribe) => {
                self.handle_subscribe(client, subscribe, ports);
            }
            Packet::Unsubscribe(unsubscribe) => {
                self.handle_unsubscribe(client, unsubscribe, ports);
            }
            Packet::Pingreq => self.answer(id, &Packet::Pingresp, None, ports),
            Packet::Disconnect(disconnect) => {
                self.handle_disconnect(client, disconnect, ports);
            }
            Packet::Auth(auth) => self.handle_auth(id, auth, ports),
            // The caller handles all other packets of clients.
            _ => self.refuse(id, ProtocolError::ServerPacket, ports),
        }
    }

    /// Sends a packet of the broker's own to a client. The reason says in words why it is not a
    /// better one.
    fn answer(
        &mut self,
        id: ConnectionId,
        packet: &Packet<'_>,
        reason: Option<Reason>,
        ports: &mut impl Ports,
    ) {
        if let Err(cause) = self.connections.answer(id, packet, reason, ports) {
            self.end(id, cause, ports);
        }
    }

    /// As [`Shard::answer`], once all records up to `mark` are on disk.
    fn answer_recorded(
        &mut self,
        id: ConnectionId,
        mark: u64,
        packet: (&Packet<'_>, Option<Reason>),
        ports: &mut impl Ports,
    ) {
        if let Err(cause) = self.connections.answer_once_durable(id, mark, packet, ports) {
            self.end(id, cause, ports);
        }
    }

    /// Gives the answers that no longer have to wait, and reads from their connections again.
    #[cold]
    #[inline(never)]
    fn give_due(&mut self, ports: &mut impl Ports) {
        while let Some((id, answer, verdict)) = self.connections.next_due() {
            match answer {
                Answer::ReadOn => {}
                Answer::Packets(packets) => {
                    ports.send(id, &packets);
                    self.pump_connection(id, ports);
                }
                Answer::Connect(connect) => self.answer_connect(id, connect, verdict, ports),
                Answer::Enter(entrance) => self.accept(id, entrance, ports),
                Answer::Refusal(connect, reason) => {
                    self.refuse_connect(id, Claim::of(&connect), reason, ports);
                }
                Answer::Failure => self.end(id, Cause::NotAuthenticated, ports),
            }
            self.connections.read_on(id, self.context.now, ports);
        }
    }

    /// Sends what the session of a connection is owed, if the connection has one.
    fn pump_connection(&mut self, id: ConnectionId, ports: &mut impl Ports) {
        let subscriber = self.connections.get(id).and_then(MqttConnection::subscriber);
        if let Some(subscriber) = subscriber {
            self.pump(subscriber, ports);
        }
    }

    /// Sends to a connected session what it is owed, and eases the pressure that it causes.
    fn pump(&mut self, subscriber: SubscriberId, ports: &mut impl Ports) {
        let clients = (&mut self.sessions, &mut self.connections);
        self.router.pump(subscriber, clients, &mut self.context, ports);
    }

    /// Does what had to wait for the end of the call: gives answers that are due, and disconnects
    /// clients that exceed a limit. Usually there is nothing to do.
    #[inline]
    fn settle(&mut self, ports: &mut impl Ports) {
        if self.connections.has_due() {
            self.give_due(ports);
        }
        if self.router.has_overrun() {
            self.end_overrun(ports);
        }
    }

    #[cold]
    #[inline(never)]
    fn end_overrun(&mut self, ports: &mut impl Ports) {
        while let Some(connection) = self.router.next_overrun(&self.sessions) {
            self.end(connection, Cause::QuotaExceeded, ports);
        }
    }
}

/// The packets of a connection may make a slice of deliveries in so many turns: more than what one
/// receive brings of the smallest messages for one subscriber each.
const QUANTA_PER_SLICE: usize = 4;

/// Whether other shards may hear of what a packet of this type changes.
fn is_told_to_others(packet_type: PacketType) -> bool {
    use PacketType::{Auth, Connect, Subscribe, Unsubscribe};
    matches!(packet_type, Connect | Auth | Subscribe | Unsubscribe)
}
