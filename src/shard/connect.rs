//! CONNECT: who it is, where they are at home, and what they come back to.

use std::{num::NonZeroU16, rc::Rc};

use base64ct::{Base64UrlUnpadded, Encoding};
use bytes::Bytes;

use super::{
    Handled, Shard,
    connection::Stage,
    end::Cause,
    judge::Candidate,
    ports::{Closing, Ports},
    reason::Reason,
};
use crate::{
    access::{Decision, Principal, topics},
    base::{
        ids::{ConnectionId, SubscriberId},
        time::Span,
    },
    mqtt::{
        self, Connack, ConnackProperties, Connect, DecodeError, Frame, Malformed, Packet,
        ReasonCode, Version, connect::peek_version,
    },
    session::{
        Link, Session,
        message::{Message, MessageView, Payload, shared_payload},
        terms::Terms,
        will::Will,
    },
    topic::TopicName,
};

/// What a client is told of its session in CONNACK.
struct Accepted<'a> {
    session_present: bool,
    /// The Client Identifier, when the broker has chosen it.
    assigned: Option<&'a str>,
    /// The Session Expiry Interval, when it is not the one asked for.
    session_expiry: Option<u32>,
    /// The Keep Alive in seconds, likewise.
    keep_alive: Option<u16>,
    /// The Response Information, when it has asked for it.
    response: Option<&'a str>,
    /// The Authentication Method of its CONNECT. [MQTT-4.12.0-5] [MQTT-4.12.0-6]
    method: Option<&'a str>,
    proof: Option<&'a [u8]>,
}

/// What a client has proven.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proof<'a> {
    /// Which user it is; `None` for an anonymous client.
    pub(super) user_name: Option<&'a str>,
    /// The last word of an enhanced authentication.
    pub(super) data: Option<&'a [u8]>,
}

impl Shard {
    pub(super) fn handle_connect(
        &mut self,
        id: ConnectionId,
        connect: &Connect<'_>,
        ports: &mut impl Ports,
    ) -> Handled {
        if let Some(reason) = self.refers(id) {
            self.refuse_connect(id, self.terms_of(connect), reason, ports);
            return Handled::Taken;
        }
        if let Err(reason) = self.judge(connect) {
            self.refuse_connect(id, self.terms_of(connect), reason, ports);
            return Handled::Taken;
        }
        let home = self.settings.home(connect.client_id);
        if !connect.client_id.is_empty() && home != self.settings.shard {
            self.connections.remove(id);
            ports.hand_over(id, home);
            return Handled::Later;
        }
        if self.comes_too_early(id, connect.client_id, ports) {
            return Handled::Later;
        }
        if let Some(method) = connect.properties.authentication_method {
            self.begin_authentication(id, connect, method, ports);
            return Handled::Taken;
        }
        match self.authenticate(id, connect, ports) {
            Some(Ok(user_name)) => {
                self.accept(id, connect, Proof { user_name, data: None }, ports);
                Handled::Taken
            }
            Some(Err(reason)) => {
                self.counters.refused_authentication += 1;
                self.refuse_connect(id, self.terms_of(connect), reason, ports);
                Handled::Taken
            }
            // The verdict hands the packet in again.
            None => Handled::Later,
        }
    }

    pub(super) fn terms_of(&self, connect: &Connect<'_>) -> Terms {
        Terms::of(connect, self.rules.limits.topic_aliases_max)
    }

    /// Whether the client has sent something on its earlier connection that has come and was not
    /// handled: a DISCONNECT, perhaps, that says what becomes of its Will and of its session.
    fn comes_too_early(&self, id: ConnectionId, client_id: &str, ports: &mut impl Ports) -> bool {
        let earlier = self.sessions.find(client_id).and_then(|earlier| self.sessions.get(earlier));
        let link = earlier.and_then(Session::link);
        link.is_some_and(|link| !ports.precede(link.connection, id))
    }

    /// Why this client is turned away, whoever it is.
    fn refers(&self, id: ConnectionId) -> Option<Reason> {
        if self.rules.referral.is_permanent() {
            return Some(Reason::Moved);
        }
        let surplus = self.connections.get(id).is_some_and(|connection| connection.surplus);
        surplus.then_some(Reason::ConnectionsFull)
    }

    /// What a CONNECT shows by itself, before anyone is asked.
    fn judge(&self, connect: &Connect<'_>) -> Result<(), Reason> {
        let may_be_empty = match connect.version {
            // 3.1 asks for 1 to 23 characters.
            Version::V31 => false,
            // [MQTT-3.1.3-8@3.1.1]
            Version::V311 => connect.clean_start,
            Version::V5 => true,
        };
        if connect.client_id.is_empty() && !may_be_empty {
            return Err(Reason::ClientIdentifierMissing);
        }
        connect.will.as_ref().map_or(Ok(()), |will| self.judge_will(will))
    }

    fn judge_will(&self, will: &mqtt::Will<'_>) -> Result<(), Reason> {
        let topic = TopicName::parse(will.topic)
            .map_err(|_| Reason::Packet(Malformed::TopicName.into()))?;
        let application = &will.properties.application;
        let candidate = Candidate { topic, application, payload: will.payload };
        self.judge_message(&candidate)?;
        let offered = self.rules.offer.check_message(will.qos, will.retain);
        offered.map_err(|error| Reason::Packet(error.into()))
    }

    /// Whether the client may come in, and as which user; `None` while its password is being
    /// checked.
    fn authenticate<'a>(
        &mut self,
        id: ConnectionId,
        connect: &Connect<'a>,
        ports: &mut impl Ports,
    ) -> Option<Result<Option<&'a str>, Reason>> {
        let connection = self.connections.get_mut(id)?;
        if let Stage::Verified { passed } = connection.stage {
            return Some(if passed { Ok(connect.user_name) } else { Err(Reason::PasswordWrong) });
        }
        let loopback = self.settings.is_loopback(connection.principal.listener());
        match self.rules.policy.admit(loopback, connect.user_name, connect.password) {
            Decision::Granted => Some(Ok(None)),
            Decision::NotAuthorized => Some(Err(Reason::Anonymous)),
            Decision::Verify(verification) => {
                if !ports.verify(id, verification) {
                    return Some(Err(Reason::PasswordChecksFull));
                }
                connection.stage = Stage::Verifying;
                ports.pause(id);
                None
            }
        }
    }

    /// Lets the client in: takes its session over, resumes it or begins a new one.
    pub(super) fn accept(
        &mut self,
        id: ConnectionId,
        connect: &Connect<'_>,
        proof: Proof<'_>,
        ports: &mut impl Ports,
    ) {
        let Some(connection) = self.connections.get(id) else { return };
        let stranger = Rc::clone(&connection.principal);
        let assigned = connect.client_id.is_empty().then(|| self.assign_client_id(ports));
        let client_id = assigned.as_deref().unwrap_or(connect.client_id);
        let principal = Rc::new(stranger.named(client_id, proof.user_name));
        if !may_leave(&principal, connect.will.as_ref()) {
            return self.refuse_connect(id, self.terms_of(connect), Reason::WillForbidden, ports);
        }
        self.end_earlier(client_id, connect.clean_start, ports);
        let resumed = self.sessions.find(client_id);
        if resumed.is_none() && self.sessions.len() >= self.sessions_max() {
            return self.refuse_connect(id, self.terms_of(connect), Reason::SessionsFull, ports);
        }
        let subscriber = resumed.unwrap_or_else(|| self.sessions.create(Rc::clone(&principal)));
        let session_expiry = self.session_expiry(connect);
        self.attach(id, (subscriber, principal), connect, session_expiry);
        let told_expiry = (connect.properties.session_expiry_interval.unwrap_or(0)
            != session_expiry)
            .then_some(session_expiry);
        let keep_alive = self.rules.offer.keep_alive(connect);
        let response = self.rules.offer.response_information(connect, client_id);
        let accepted = Accepted {
            session_present: resumed.is_some(),
            assigned: assigned.as_deref(),
            session_expiry: told_expiry,
            keep_alive: Some(keep_alive).filter(|&it| it != connect.keep_alive),
            response: response.as_deref(),
            method: connect.properties.authentication_method,
            proof: proof.data,
        };
        self.send_connack(id, &accepted, ports);
        if self.connections.get(id).is_some() {
            self.set_members_online(subscriber, true, ports);
            self.pump(subscriber, ports);
        }
    }

    /// This shard's part of the sessions that the broker may have.
    fn sessions_max(&self) -> usize {
        self.rules.limits.sessions_max.div_ceil(self.settings.shards)
    }

    /// Ends the client's earlier connection, and its session if it wants a clean start.
    /// [MQTT-3.1.4-3] [MQTT-3.1.2-4]
    fn end_earlier(&mut self, client_id: &str, clean_start: bool, ports: &mut impl Ports) {
        let Some(earlier) = self.sessions.find(client_id) else { return };
        if let Some(link) = self.sessions.get(earlier).and_then(Session::link) {
            self.end(link.connection, Cause::TakenOver, ports);
        }
        if clean_start && self.sessions.get(earlier).is_some() {
            self.end_session(earlier, ports);
        }
    }

    /// Ties connection and session together.
    fn attach(
        &mut self,
        id: ConnectionId,
        (subscriber, principal): (SubscriberId, Rc<Principal>),
        connect: &Connect<'_>,
        session_expiry: u32,
    ) {
        let will = connect.will.as_ref().map(|will| Box::new(keep_will(will)));
        let terms = self.terms_of(connect);
        let connection = self.connections.get_mut(id).expect("it is being let in");
        connection.stage = Stage::Connected(subscriber);
        connection.rules = Rc::clone(&self.rules);
        connection.principal = Rc::clone(&principal);
        connection.is_bridge = connect.is_bridge;
        connection.terms = terms;
        connection.keep_alive = self.rules.offer.keep_alive(connect);
        let deadline = connection.keep_alive_deadline();
        let receive_maximum = connect.properties.receive_maximum.map_or(u16::MAX, NonZeroU16::get);
        let window = receive_maximum.min(self.rules.limits.inflight_max);
        let link = Link { connection: id, terms };
        let session = self.sessions.get_mut(subscriber).expect("it was found or created");
        session.connect(principal, link, window, session_expiry, will);
        self.counters.clients_connected += 1;
        self.counters.connections_accepted += 1;
        if let Some(deadline) = deadline {
            self.watch_silence(id, deadline);
        }
    }

    /// The Session Expiry Interval that holds: before 5.0, Clean Session 0 asks for ever.
    fn session_expiry(&self, connect: &Connect<'_>) -> u32 {
        let asked = match connect.version {
            Version::V5 => connect.properties.session_expiry_interval.unwrap_or(0),
            _ if connect.clean_start => 0,
            _ => u32::MAX,
        };
        asked.min(self.rules.limits.session_expiry_max)
    }

    fn send_connack(&mut self, id: ConnectionId, accepted: &Accepted<'_>, ports: &mut impl Ports) {
        let limits = &self.rules.limits;
        let packet_size_max = u32::try_from(limits.packet_size_max).unwrap_or(u32::MAX);
        let mut connack = Connack {
            session_present: accepted.session_present,
            reason_code: ReasonCode::Success,
            properties: ConnackProperties {
                session_expiry_interval: accepted.session_expiry,
                receive_maximum: NonZeroU16::new(limits.receive_maximum),
                maximum_packet_size: std::num::NonZeroU32::new(packet_size_max),
                assigned_client_identifier: accepted.assigned,
                topic_alias_maximum: limits.topic_alias_maximum,
                server_keep_alive: accepted.keep_alive,
                response_information: accepted.response,
                authentication_method: accepted.method,
                authentication_data: accepted.proof,
                ..ConnackProperties::default()
            },
        };
        self.rules.offer.announce(&mut connack.properties);
        let Some(connection) = self.connections.get(id) else { return };
        let whole = Packet::Connack(connack);
        if accepted.response.is_some() && !connection.terms.write(&whole, None, &mut self.scratch) {
            // It need not be sent, and the client does not take it.
            connack.properties.response_information = None;
        }
        self.answer(id, &Packet::Connack(connack), ports);
    }

    /// A Client Identifier that is at home here and in nobody's use, and that nobody can predict:
    /// whoever knows one can take its session over. [MQTT-3.1.3-6]
    fn assign_client_id(&self, ports: &mut impl Ports) -> String {
        loop {
            let client_id = format!("ringmq-{}", Base64UrlUnpadded::encode_string(&ports.secret()));
            let is_home = self.settings.home(&client_id) == self.settings.shard;
            if is_home && self.sessions.find(&client_id).is_none() {
                return client_id;
            }
        }
    }

    /// Answers CONNECT with a refusal, and closes. [MQTT-3.1.4-2] [MQTT-3.2.2-7]
    pub(super) fn refuse_connect(
        &mut self,
        id: ConnectionId,
        terms: Terms,
        reason: Reason,
        ports: &mut impl Ports,
    ) {
        self.counters.count_refusal(reason);
        let reason = self.rules.referral.instead_of(reason);
        let connack = Packet::Connack(Connack::refusal(reason.code()));
        if self.write_last(terms, &connack, reason) {
            ports.send(id, &self.scratch);
        }
        self.counters.refused_connect += 1;
        self.connections.remove(id);
        ports.close(id, Closing::Flush);
    }

    /// Answers a first packet that is no valid CONNECT, in its own version as far as that can be
    /// read. [MQTT-3.1.2-2@3.1.1] [MQTT-3.1.4-1]
    pub(super) fn refuse_connect_bytes(
        &mut self,
        id: ConnectionId,
        frame: Frame<'_>,
        error: DecodeError,
        ports: &mut impl Ports,
    ) {
        let version = peek_version(frame.body);
        match (version, error) {
            (Some(version), DecodeError::UnsupportedProtocolVersion) => {
                self.refuse_connect(id, Terms::plain(version), Reason::Packet(error), ports);
            }
            (Some(Version::V5), _) => {
                self.counters.count_error(error);
                let terms = Terms::plain(Version::V5);
                self.refuse_connect(id, terms, Reason::Packet(error), ports);
            }
            _ => self.refuse(id, error, ports),
        }
    }
}

/// Whether a client may have this Will. Its topic has been judged before.
fn may_leave(principal: &Principal, will: Option<&mqtt::Will<'_>>) -> bool {
    let may = |will: &mqtt::Will<'_>| {
        topics::may_publish(principal, TopicName::from_valid(will.topic), will.payload)
    };
    will.is_none_or(may)
}

/// The Will as it is kept with the session. [MQTT-3.1.2-7]
fn keep_will(will: &mqtt::Will<'_>) -> Will {
    let mut application = Vec::new();
    will.properties.application.encode(&mut application);
    let shared = shared_payload(will.payload, Bytes::copy_from_slice);
    let view = MessageView {
        // It was parsed when the CONNECT was judged.
        topic: TopicName::from_valid(will.topic),
        application: &application,
        payload: shared.as_ref().map_or(Payload::Small(will.payload), Payload::Shared),
        qos: will.qos,
        retain: will.retain,
        expires_at: None,
        publisher: None,
        publisher_hash: 0,
    };
    let seconds = |seconds: u32| Span::from_secs(u64::from(seconds));
    Will {
        message: Rc::new(Message::keep(&view)),
        delay: seconds(will.properties.will_delay_interval),
        message_expiry: will.properties.message_expiry_interval.map(seconds),
        due_at: None,
    }
}
