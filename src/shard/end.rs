//! How connections end, and sessions: farewells, Wills, expiry.

use std::{net::SocketAddr, rc::Rc};

use super::{
    Client, Shard,
    connection::MqttConnection,
    notices::Notice,
    ports::{Closing, Ports},
    reason::Reason,
    timers::{Timer, Timers},
};
use crate::{
    access::Principal,
    base::{
        ids::{ConnectionId, SubscriberId},
        time::Span,
    },
    mqtt::{
        DecodeError, Disconnect, Frame, ProtocolError, ReasonCode,
        frame::{self, PacketType},
    },
    session::Session,
    transport::{proxy::ProxyFailure, tls::TlsFailure},
};

/// A packet that is larger than packets may be, as its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Oversize {
    first: u8,
    /// In bytes.
    pub(super) size: usize,
}

impl Oversize {
    /// Of a packet that begins like this.
    pub(super) fn of(bytes: &[u8]) -> Oversize {
        let first = bytes.first().copied().unwrap_or_default();
        Oversize { first, size: frame::packet_size(bytes).unwrap_or_default() }
    }

    /// The name of its type.
    pub(super) fn packet(self) -> &'static str {
        PacketType::name_of(self.first)
    }
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// DISCONNECT: the client takes its Will along. [MQTT-3.14.4-3]
    Disconnect,
    /// DISCONNECT with Will Message.
    DisconnectWithWill,
    /// The client closed the connection without DISCONNECT.
    Finished,
    Broken,
    /// The request for a WebSocket was answered with an error.
    HandshakeRefused,
    /// The client sent invalid WebSocket frames, or text.
    FramesRefused,
    /// TLS failed, or what came is not TLS.
    TlsFailed(TlsFailure),
    /// The connection did not begin with a valid header of a known proxy.
    ProxyRefused(ProxyFailure),
    /// Incomplete packets took too much memory, most of it for the account of this client.
    PartialOverflow,
    /// The client has begun a packet and did not send the rest.
    PacketTimeout,
    /// The client has not read what waits for it.
    Stalled,
    /// The bytes or the moment were wrong.
    Error(DecodeError),
    /// A packet was larger than the Maximum Packet Size of the broker.
    TooLarge(Oversize),
    /// A packet before the client was let in was larger than such a packet may be.
    ConnectTooLarge(Oversize),
    KeepAlive,
    ConnectTimeout,
    /// The first bytes are an HTTP request.
    HttpCame,
    /// The first bytes are a handshake of TLS.
    TlsCame,
    /// Another connection with the same Client Identifier has come from this address.
    TakenOver(SocketAddr),
    /// The connection had to go for another one: its account had most of them.
    Share,
    QuotaExceeded,
    /// A message was refused, and no acknowledgement could say so.
    Refused(Reason),
    /// An enhanced authentication has failed.
    NotAuthenticated,
    /// So many logins have failed that another attempt would have to wait for too long.
    TooManyFailures,
    /// An answer is larger than the Maximum Packet Size of the client.
    AnswerTooLarge,
    /// CONNACK is larger than the Maximum Packet Size of the client, and no packet may come before
    /// CONNACK. [MQTT-3.2.0-1]
    ConnackTooLarge,
    /// The client has sent more than its rates allow, for too long.
    TooFast,
    /// The token of the client has expired.
    TokenEnded,
    /// An administrator has ended it.
    Kicked,
    /// An administrator has banned the client while it was connected.
    Banned,
    ShuttingDown,
}

impl Cause {
    /// What a 5.0 client is told before the connection closes.
    pub(super) fn farewell(self) -> Option<Reason> {
        match self {
            Cause::Disconnect
            | Cause::DisconnectWithWill
            | Cause::Finished
            | Cause::Broken
            | Cause::HandshakeRefused
            | Cause::FramesRefused
            | Cause::TlsFailed(_)
            | Cause::ProxyRefused(_)
            | Cause::PartialOverflow
            | Cause::ConnackTooLarge
            | Cause::HttpCame
            | Cause::TlsCame
            | Cause::ConnectTimeout => None,
            Cause::Error(error) => Some(Reason::Packet(error)),
            Cause::TooLarge(_) | Cause::ConnectTooLarge(_) => {
                Some(Reason::Packet(DecodeError::PacketTooLarge))
            }
            Cause::KeepAlive => Some(Reason::Silent),
            Cause::PacketTimeout => Some(Reason::PacketIncomplete),
            Cause::Stalled => Some(Reason::NothingRead),
            Cause::TakenOver(_) => Some(Reason::TakenOver),
            Cause::Share => Some(Reason::ConnectionShare),
            Cause::QuotaExceeded => Some(Reason::QueueFull),
            Cause::Refused(reason) => Some(reason),
            Cause::NotAuthenticated => Some(Reason::NotAuthenticated),
            Cause::TooManyFailures => Some(Reason::TooManyFailures),
            Cause::AnswerTooLarge => Some(Reason::AnswerTooLarge),
            Cause::TooFast => Some(Reason::TooFast),
            Cause::TokenEnded => Some(Reason::TokenEnded),
            Cause::Kicked => Some(Reason::Kicked),
            Cause::Banned => Some(Reason::BannedNow),
            Cause::ShuttingDown => Some(Reason::ShuttingDown),
        }
    }

    /// Why, in words.
    pub(super) fn text(self) -> &'static str {
        match self {
            Cause::Disconnect => "the client has sent DISCONNECT",
            Cause::DisconnectWithWill => "the client has sent DISCONNECT with Will Message",
            Cause::Finished => "the client has closed the connection without DISCONNECT",
            Cause::Broken => "the connection broke, or was reset by the client",
            Cause::HandshakeRefused => "the request for a WebSocket was refused",
            Cause::FramesRefused => "the WebSocket frames are wrong, or are text",
            Cause::TlsFailed(failure) => failure.text(),
            Cause::ProxyRefused(failure) => failure.text(),
            Cause::PartialOverflow => {
                "incomplete packets take too much memory, most of it for this user or address"
            }
            Cause::ConnectTimeout => "no CONNECT came in time",
            Cause::HttpCame => "an HTTP request came: this listener speaks plain MQTT",
            Cause::TlsCame => "a TLS handshake came: this listener has no TLS",
            Cause::TakenOver(_) => "taken over by a new connection with the same Client Identifier",
            Cause::TooLarge(_) => "the client sent a packet larger than --max-packet-size",
            Cause::ConnectTooLarge(_) => {
                "the client sent a packet larger than --max-connect-size before CONNACK"
            }
            Cause::ShuttingDown => "the broker stops",
            Cause::ConnackTooLarge => "CONNACK is larger than the Maximum Packet Size in CONNECT",
            _ => self.farewell().map_or("", Reason::text),
        }
    }

    /// The flag of the limit that was reached, or of the time that has passed.
    pub(super) fn flag(self) -> Option<&'static str> {
        match self {
            Cause::ConnectTimeout => Some("--connect-timeout"),
            Cause::ProxyRefused(ProxyFailure::Stranger) => Some("--proxy-from"),
            _ => self.farewell().and_then(Reason::flag),
        }
    }

    /// The packet that was too large, if that is why.
    pub(super) fn oversize(self) -> Option<Oversize> {
        match self {
            Cause::TooLarge(oversize) | Cause::ConnectTooLarge(oversize) => Some(oversize),
            _ => None,
        }
    }

    /// The address of the connection that has taken over, if that is why.
    pub(super) fn new_peer(self) -> Option<SocketAddr> {
        match self {
            Cause::TakenOver(peer) => Some(peer),
            _ => None,
        }
    }

    /// Why a connection ends whose first bytes are no CONNECT.
    pub(super) fn of_first_bytes(bytes: &[u8]) -> Cause {
        if HTTP_METHODS.iter().any(|method| bytes.starts_with(method)) {
            Cause::HttpCame
        } else if bytes.starts_with(&TLS_HANDSHAKE) {
            Cause::TlsCame
        } else {
            Cause::Error(ProtocolError::ConnectExpected.into())
        }
    }

    /// The same, for bytes that can be split like a packet.
    pub(super) fn of_first_frame(frame: Frame<'_>) -> Cause {
        let mut bytes = [0; 8];
        let length = u8::try_from(frame.body.len()).unwrap_or_default();
        let begin = [frame.first, length];
        for (byte, &sent) in bytes.iter_mut().zip(begin.iter().chain(frame.body)) {
            *byte = sent;
        }
        Cause::of_first_bytes(&bytes)
    }

    /// Whether the client has ended the connection, and not the broker.
    pub(super) fn is_of_the_client(self) -> bool {
        matches!(
            self,
            Cause::Disconnect | Cause::DisconnectWithWill | Cause::Finished | Cause::Broken
        )
    }

    /// Whether the transport has failed, so that nothing can be sent any more.
    pub(super) fn is_of_the_transport(self) -> bool {
        matches!(
            self,
            Cause::Broken
                | Cause::HandshakeRefused
                | Cause::FramesRefused
                | Cause::TlsFailed(_)
                | Cause::ProxyRefused(_)
                | Cause::PartialOverflow
        )
    }

    /// Whether the Will is deleted rather than published. [MQTT-3.1.2-8] [MQTT-3.1.2-10]
    fn deletes_will(self) -> bool {
        matches!(self, Cause::Disconnect)
    }
}

/// How often an expired session is looked at whose client waits for the disk.
const AWAITED_SPAN: Span = Span::from_secs(1);
/// How HTTP requests begin.
const HTTP_METHODS: [&[u8]; 8] =
    [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"CONNECT "];
/// How a TLS record begins that holds a handshake: its type, and the first byte of its version.
const TLS_HANDSHAKE: [u8; 2] = [22, 3];

/// What a client leaves that disconnects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leaves {
    /// Its session goes on, unless the connection that takes it over wants a clean start.
    pub(super) keeps_session: bool,
    /// It leaves a Will, and this is the Will Delay Interval.
    pub(super) will_delay: Option<Span>,
}

impl Leaves {
    fn of(session: &Session, cause: Cause) -> Leaves {
        let keeps_session = session.outlasts_connection();
        let will_delay = session.will_delay().filter(|_| !cause.deletes_will());
        Leaves { keeps_session, will_delay }
    }

    pub(super) fn session(self) -> &'static str {
        if self.keeps_session { "kept" } else { "ended" }
    }

    /// What becomes of the Will, if there is one. A session that ends publishes it at once.
    pub(super) fn will(self) -> Option<&'static str> {
        let waits = |delay: Span| self.keeps_session && !delay.is_zero();
        self.will_delay.map(|delay| if waits(delay) { "delayed" } else { "published" })
    }
}

impl Shard {
    /// Ends the connections whose clients have not been let in: the broker stops.
    pub(super) fn end_strangers(&mut self, ports: &mut impl Ports) {
        self.authenticator.forget_checks();
        for id in self.connections.ids() {
            if self.connections.connected(id).subscriber().is_none() {
                self.connections.remove(id);
                self.context.counters.count_end(Cause::ShuttingDown);
                ports.close(id, Closing::Abort);
            }
        }
    }

    pub(super) fn handle_disconnect(
        &mut self,
        client: Client,
        disconnect: &Disconnect<'_>,
        ports: &mut impl Ports,
    ) {
        if let Some(interval) = disconnect.session_expiry_interval {
            let maximum = self.context.rules.limits.session_expiry_max;
            let session = self.sessions.of_connected_mut(client.subscriber);
            if let Err(error) = session.change_expiry(interval, maximum) {
                return self.refuse(client.connection, error, ports);
            }
            if session.stored().is_some() && session.outlasts_connection() {
                self.context.note_terms(session, ports);
            }
        }
        let cause = match disconnect.reason_code {
            ReasonCode::Success => Cause::Disconnect,
            _ => Cause::DisconnectWithWill,
        };
        self.end(client.connection, cause, ports);
    }

    /// Ends a connection because of what it sent. [MQTT-4.13.1-1]
    pub(super) fn refuse(
        &mut self,
        id: ConnectionId,
        error: impl Into<DecodeError>,
        ports: &mut impl Ports,
    ) {
        self.end(id, Cause::Error(error.into()), ports);
    }

    /// Ends a connection. Its session goes on, or ends with it.
    pub(super) fn end(&mut self, id: ConnectionId, cause: Cause, ports: &mut impl Ports) {
        if let Some(connection) = self.connections.get(id) {
            self.authenticator.forget_check(id, connection);
            let principal = connection.principal();
            self.router.notices_mut().report_client(principal, self.context.now);
        }
        let subscriber = self.connections.get(id).and_then(MqttConnection::subscriber);
        let session = subscriber.and_then(|subscriber| self.sessions.get(subscriber));
        let leaves = session.map(|session| Leaves::of(session, cause));
        let event = self.leaving(id, (cause, leaves), ports);
        let detached = self.connections.end(id, (cause, leaves), &mut self.context, ports);
        if let Some(subscriber) = detached {
            self.detach(subscriber, cause, ports);
        }
        self.tell(event, ports);
    }

    /// Closes a connection whose account has its share.
    pub(super) fn refuse_share(
        &mut self,
        id: ConnectionId,
        refused: &MqttConnection,
        ports: &mut impl Ports,
    ) {
        self.context.counters.refused_share += 1;
        self.close_unheard(id, Notice::ConnectionRefused, refused.principal(), ports);
    }

    /// Closes a connection without hearing what it has to say. The caller counts it.
    pub(super) fn close_unheard(
        &mut self,
        id: ConnectionId,
        notice: Notice<'_>,
        principal: &Rc<Principal>,
        ports: &mut impl Ports,
    ) {
        self.router.notices_mut().note(notice, principal, self.context.now);
        ports.close(id, Closing::Abort);
    }

    /// Takes the connection away from a session.
    fn detach(&mut self, subscriber: SubscriberId, cause: Cause, ports: &mut impl Ports) {
        self.context.counters.clients_connected -= 1;
        let session = self.sessions.of_connected_mut(subscriber);
        session.disconnect(self.context.now, !cause.deletes_will());
        if session.outlasts_connection() {
            self.context.recorder.note_absence(session, self.context.now, ports);
        }
        let clients = (&self.sessions, &mut self.connections);
        self.router.note_disconnected(subscriber, clients, &mut self.context, ports);
        if !self.look_at_absent(subscriber, ports) {
            self.sessions.note_absent(subscriber);
        }
    }

    /// Does what is due for a session whose client is away. True: it has ended.
    pub(super) fn look_at_absent(
        &mut self,
        subscriber: SubscriberId,
        ports: &mut impl Ports,
    ) -> bool {
        let now = self.context.now;
        if self.sessions.get(subscriber).is_some_and(|session| session.is_will_due(now)) {
            self.publish_will(subscriber, ports);
        }
        // Publishing a Will ends no session.
        let session = self.sessions.get_mut(subscriber).expect("a session whose client is away");
        let has_ended = session.has_ended(now);
        let is_awaited = has_ended && self.candidates.has(session.client_id(), &self.connections);
        if has_ended && !is_awaited {
            self.end_session(subscriber, ports);
            return true;
        }
        // Its client has come back, and waits for the disk.
        let due = if is_awaited { Some(now + AWAITED_SPAN) } else { session.next_change() };
        let look_at = due.map(|due| Timers::before(now, due));
        if let Some(look_at) = look_at.filter(|&look_at| session.remind(look_at)) {
            self.context.timers.set(look_at, Timer::Absence(subscriber));
        }
        false
    }

    /// Ends a session and all that it held. [MQTT-3.1.2-23] [MQTT-4.1.0-2]
    pub(super) fn end_session(&mut self, subscriber: SubscriberId, ports: &mut impl Ports) {
        self.publish_will(subscriber, ports);
        let mut session = self.sessions.remove(subscriber).expect("a session ends once");
        self.context.recorder.note_session_end(&mut session, ports);
        self.context.settings.sessions.remove();
        self.context.counters.note_queue(session.outbound().queue.len(), 0);
        let (sessions, context) = (&mut self.sessions, &mut self.context);
        self.router.end_session(subscriber, session, sessions, context, ports);
    }

    /// Publishes the Will of a session, once.
    fn publish_will(&mut self, subscriber: SubscriberId, ports: &mut impl Ports) {
        let clients = (&mut self.sessions, &mut self.connections);
        self.router.publish_will(subscriber, clients, &mut self.context, ports);
    }
}
