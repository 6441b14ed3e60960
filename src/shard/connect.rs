//! CONNECT: who it is, where they are at home, and what they come back to.

use std::rc::Rc;

use base64ct::{Base64UrlUnpadded, Encoding};

use super::{
    Handled, Shard,
    connack::Accepted,
    connection::Stage,
    end::Cause,
    kept_connect::KeptConnect,
    log::{self, Claim},
    owed::{Answer, Condition},
    ports::Ports,
    reason::Reason,
};
use crate::{
    access::{Decision, Principal, topics},
    base::ids::{ConnectionId, SubscriberId},
    mqtt::{Connect, DecodeError, Frame, Packet, Version, connect::peek_version},
    session::{Link, Session, terms::Terms, will::Will},
};

/// What a client has proven.
#[derive(Debug, Default)]
pub(super) struct Proof {
    /// Which user it is; `None` for an anonymous client.
    pub(super) user_name: Option<Box<str>>,
    /// The last word of an enhanced authentication.
    pub(super) data: Option<Vec<u8>>,
}

impl Shard {
    /// Takes a CONNECT: it is answered now, or kept until it can be answered, or read again by the
    /// shard where its client is at home.
    pub(super) fn handle_connect(
        &mut self,
        id: ConnectionId,
        connect: &Connect<'_>,
        ports: &mut impl Ports,
    ) -> Handled {
        self.connections.connected_mut(id).claim(Claim::of(connect));
        let terms = Terms::of(connect, self.context.rules.limits.topic_aliases_max);
        let referred = self.refers(id).map_or(Ok(()), Err);
        if let Err(reason) = referred.and_then(|()| self.context.rules.judge_connect(connect)) {
            self.refuse_connect(id, terms, reason, ports);
            return Handled::Taken;
        }
        let home = self.context.settings.home(connect.client_id);
        if !connect.client_id.is_empty() && home != self.context.settings.shard {
            self.connections.remove(id);
            ports.hand_over(id, home);
            return Handled::NotTaken;
        }
        if self.comes_too_early(id, connect.client_id, ports) {
            return Handled::NotTaken;
        }
        let kept = KeptConnect::keep(connect, terms);
        if let Some(method) = connect.properties.authentication_method {
            let data = connect.properties.authentication_data;
            self.begin_authentication(id, kept, (method, data), ports);
        } else {
            self.authenticate(id, kept, connect.password, ports);
        }
        Handled::Taken
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
        if self.context.rules.referral.is_permanent() {
            return Some(Reason::Moved);
        }
        self.connections.connected(id).is_surplus().then_some(Reason::ConnectionsFull)
    }

    /// Lets the client in or refuses it, at once or when its password has been checked.
    fn authenticate(
        &mut self,
        id: ConnectionId,
        mut connect: KeptConnect,
        password: Option<&[u8]>,
        ports: &mut impl Ports,
    ) {
        let terms = connect.terms;
        let listener = self.connections.connected(id).principal().listener();
        let loopback = self.context.settings.is_loopback(listener);
        let policy = &self.context.rules.policy;
        match policy.admit(loopback, connect.user_name.as_deref(), password) {
            Decision::Granted => self.accept(id, connect, &Proof::default(), ports),
            Decision::NotAuthorized => {
                self.refuse_authentication(id, terms, Reason::Anonymous, ports);
            }
            Decision::Verify(verification) => {
                if connect.wait(&self.waiting, 0).is_err() {
                    let reason = Reason::AuthenticationsFull;
                    return self.refuse_authentication(id, terms, reason, ports);
                }
                if !ports.verify(id, verification) {
                    let reason = Reason::PasswordChecksFull;
                    return self.refuse_authentication(id, terms, reason, ports);
                }
                self.connections.connected_mut(id).wait(Stage::Waiting, terms);
                let answer = Answer::Connect(Box::new(connect));
                self.connections.owe(id, (Condition::Verdict(None), answer), ports);
            }
        }
    }

    /// Answers a CONNECT whose password has been checked. What a session tells other shards as it
    /// begins or ends waits like a packet that does.
    pub(super) fn answer_connect(
        &mut self,
        id: ConnectionId,
        connect: Box<KeptConnect>,
        passed: bool,
        ports: &mut impl Ports,
    ) {
        if !passed {
            return self.refuse_authentication(id, connect.terms, Reason::PasswordWrong, ports);
        }
        if let Some(peer) = self.crowded_peer(ports) {
            let answer = Answer::Connect(connect);
            return self.connections.owe_until_posted(id, peer, answer, ports);
        }
        let proof = Proof { user_name: connect.user_name.clone(), data: None };
        self.accept(id, *connect, &proof, ports);
    }

    fn refuse_authentication(
        &mut self,
        id: ConnectionId,
        terms: Terms,
        reason: Reason,
        ports: &mut impl Ports,
    ) {
        self.context.counters.refused_authentication += 1;
        self.refuse_connect(id, terms, reason, ports);
    }

    /// Lets the client in: takes its session over, resumes it or begins a new one.
    pub(super) fn accept(
        &mut self,
        id: ConnectionId,
        mut connect: KeptConnect,
        proof: &Proof,
        ports: &mut impl Ports,
    ) {
        let assigned = connect.client_id.is_empty().then(|| self.assign_client_id(ports));
        let client_id = assigned.as_deref().unwrap_or(&connect.client_id);
        let stranger = self.connections.connected(id).principal();
        let principal = Rc::new(stranger.named(client_id, proof.user_name.as_deref()));
        let will = connect.will.take();
        if will.as_deref().is_some_and(|will| !may_leave(&principal, will)) {
            return self.refuse_connect(id, connect.terms, Reason::WillForbidden, ports);
        }
        self.end_earlier(client_id, connect.clean_start, ports);
        let resumed = self.sessions.find(client_id);
        let sessions_max = self.context.rules.limits.sessions_max;
        if resumed.is_none() && !self.context.settings.sessions.try_add(sessions_max) {
            return self.refuse_connect(id, connect.terms, Reason::SessionsFull, ports);
        }
        let subscriber = resumed.unwrap_or_else(|| self.sessions.create(Rc::clone(&principal)));
        let wants_response = connect.wants_response_information;
        let response =
            wants_response.then(|| self.context.rules.offer.response_information(client_id));
        self.attach(id, (subscriber, principal), &connect, will);
        let accepted = Accepted {
            rules: &Rc::clone(&self.context.rules),
            connect: &connect,
            session_present: resumed.is_some(),
            assigned: assigned.as_deref(),
            response: response.as_ref().and_then(Option::as_deref),
            proof: proof.data.as_deref(),
        };
        self.send_connack(id, &accepted, ports);
        if let Some(connection) = self.connections.get(id) {
            let principal = connection.principal();
            let listener = self.context.settings.listener_address(principal.listener());
            let terms = (connection.terms().version(), connection.keep_alive());
            log::connected(principal, listener, terms, resumed.is_some());
            self.set_members_online(subscriber, true, ports);
            self.pump(subscriber, ports);
        }
    }

    /// Ends the client's earlier connection, and its session if it wants a clean start.
    /// [MQTT-3.1.4-3] [MQTT-3.1.2-4]
    fn end_earlier(&mut self, client_id: &str, clean_start: bool, ports: &mut impl Ports) {
        let Some(earlier) = self.sessions.find(client_id) else { return };
        if let Some(link) = self.sessions.get(earlier).and_then(Session::link) {
            self.end(link.connection, Cause::TakenOver, ports);
        }
        // The session may have ended with its connection.
        if clean_start && self.sessions.get(earlier).is_some() {
            self.end_session(earlier, ports);
        }
    }

    /// Ties connection and session together.
    fn attach(
        &mut self,
        id: ConnectionId,
        (subscriber, principal): (SubscriberId, Rc<Principal>),
        connect: &KeptConnect,
        will: Option<Box<Will>>,
    ) {
        let rules = &self.context.rules;
        let connection = self.connections.connected_mut(id);
        let known = (subscriber, Rc::clone(&principal));
        connection.connect(known, connect, Rc::clone(rules));
        let deadline = connection.keep_alive_deadline();
        let window = connect.receive_maximum.min(rules.limits.inflight_max);
        let session = self.sessions.get_mut(subscriber).expect("it was found or created");
        let link = Link { connection: id, terms: connect.terms };
        session.connect(principal, link, window, rules.session_expiry(connect), will);
        self.context.counters.clients_connected += 1;
        self.context.counters.connections_accepted += 1;
        if let Some(deadline) = deadline {
            self.watch_silence(id, deadline);
        }
    }

    fn send_connack(&mut self, id: ConnectionId, accepted: &Accepted<'_>, ports: &mut impl Ports) {
        self.answer(id, &Packet::Connack(accepted.connack()), ports);
    }

    /// A Client Identifier that is at home here and in nobody's use, and that nobody can predict:
    /// whoever knows one can take its session over. [MQTT-3.1.3-6]
    fn assign_client_id(&self, ports: &mut impl Ports) -> String {
        loop {
            let client_id = format!("ringmq-{}", Base64UrlUnpadded::encode_string(&ports.secret()));
            let is_home = self.context.settings.home(&client_id) == self.context.settings.shard;
            if is_home && self.sessions.find(&client_id).is_none() {
                return client_id;
            }
        }
    }

    /// Answers CONNECT with a refusal, and closes.
    pub(super) fn refuse_connect(
        &mut self,
        id: ConnectionId,
        terms: Terms,
        reason: Reason,
        ports: &mut impl Ports,
    ) {
        self.context.counters.count_refusal(reason);
        let reason = self.context.rules.referral.instead_of(reason);
        self.context.counters.refused_connect += 1;
        let refused = self.connections.refuse(id, terms, reason, &mut self.context, ports);
        if let Some(connection) = refused {
            let principal = connection.principal();
            let listener = self.context.settings.listener_address(principal.listener());
            log::refused(principal, connection.claimed(), listener, reason);
        }
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
                self.context.counters.count_error(error);
                let terms = Terms::plain(Version::V5);
                self.refuse_connect(id, terms, Reason::Packet(error), ports);
            }
            _ => self.refuse(id, error, ports),
        }
    }
}

/// Whether a client may have this Will.
fn may_leave(principal: &Principal, will: &Will) -> bool {
    let view = will.message.view();
    topics::may_publish(principal, view.topic, view.payload.as_slice())
}
