//! AUTH: enhanced authentication before CONNACK, and again at any time after it.

use std::rc::Rc;

use super::{
    Shard, connect::Proof, connection::Stage, end::Cause, kept_connect::KeptConnect, ports::Ports,
    reason::Reason,
};
use crate::{
    access::scram::{Exchange, MESSAGE_BYTES_MAX, Outcome},
    base::ids::ConnectionId,
    mqtt::{Auth, Packet, ProtocolError, ReasonCode, ReasonProperties},
};

/// How far a client has come that authenticates by AUTH packets.
#[derive(Debug)]
pub(super) struct Authentication {
    /// The Authentication Method of its CONNECT.
    method: Rc<str>,
    /// What its next AUTH goes on with.
    exchange: Option<Exchange>,
    purpose: Purpose,
}

/// What an authentication is for.
#[derive(Debug)]
enum Purpose {
    /// To answer this CONNECT.
    Connect(Box<KeptConnect>),
    /// To go on as this user, who has been let in.
    Remain { user_name: String },
}

/// What follows from a message of the client.
#[derive(Debug)]
pub(super) enum Step {
    /// Another AUTH has to come, after this data of ours. [MQTT-4.12.0-2]
    Ask(Option<Vec<u8>>),
    /// The client is let in.
    LetIn(Box<KeptConnect>, Proof),
    /// The client goes on as before, with the last data of ours.
    Remain(Vec<u8>),
    Fail,
}

impl Authentication {
    pub(super) fn new(method: &str, connect: KeptConnect) -> Authentication {
        let purpose = Purpose::Connect(Box::new(connect));
        Authentication { method: method.into(), exchange: None, purpose }
    }

    /// Begins an exchange. The client has the first word: one that has not said it is asked for
    /// it, without data.
    fn begin(&mut self, exchange: Exchange, data: Option<&[u8]>) -> Step {
        match data {
            Some(data) => self.go_on(exchange, data),
            None => self.ask(exchange, None),
        }
    }

    /// The exchange that this AUTH goes on with, or `None` where it begins one.
    fn exchange_of(&mut self, auth: &Auth<'_>) -> Result<Option<Exchange>, ProtocolError> {
        // [MQTT-4.12.0-5] [MQTT-4.12.1-1]
        if auth.method.is_some_and(|method| *method != *self.method) {
            return Err(ProtocolError::AuthenticationMethodChanged);
        }
        match (auth.reason_code, self.exchange.take()) {
            // [MQTT-4.12.0-3]
            (ReasonCode::ContinueAuthentication, Some(exchange)) => Ok(Some(exchange)),
            (ReasonCode::ReAuthenticate, None) => Ok(None),
            _ => Err(ProtocolError::UnexpectedAuth),
        }
    }

    fn go_on(&mut self, exchange: Exchange, data: &[u8]) -> Step {
        match exchange.step(data) {
            Ok(Outcome::Challenged { exchange, data }) => self.ask(exchange, Some(data)),
            Ok(Outcome::Proven { user_name, data }) => self.conclude(user_name, data),
            // [MQTT-4.12.0-4] [MQTT-4.12.1-2]
            Err(_) => Step::Fail,
        }
    }

    fn ask(&mut self, exchange: Exchange, data: Option<Vec<u8>>) -> Step {
        self.exchange = Some(exchange);
        Step::Ask(data)
    }

    /// The client has proven to be this user.
    fn conclude(&mut self, user_name: String, data: Vec<u8>) -> Step {
        let is_same = match &self.purpose {
            // A User Name in CONNECT is that of the proof.
            Purpose::Connect(connect) => {
                connect.user_name.as_deref().is_none_or(|said| said == user_name)
            }
            // What it was let in for, another user may not have been.
            Purpose::Remain { user_name: earlier } => *earlier == user_name,
        };
        if !is_same {
            return Step::Fail;
        }
        let proven = Some(user_name.as_str().into());
        match std::mem::replace(&mut self.purpose, Purpose::Remain { user_name }) {
            Purpose::Connect(connect) => {
                Step::LetIn(connect, Proof { user_name: proven, data: Some(data) })
            }
            Purpose::Remain { .. } => Step::Remain(data),
        }
    }
}

impl Shard {
    /// Takes a CONNECT that names an Authentication Method. It is kept until it can be answered,
    /// so that AUTH packets can be read after it.
    pub(super) fn begin_authentication(
        &mut self,
        id: ConnectionId,
        mut connect: KeptConnect,
        (method, data): (&str, Option<&[u8]>),
        ports: &mut impl Ports,
    ) {
        let terms = connect.terms;
        let Some(exchange) = self.context.rules.policy.begin_exchange(method, ports.secret())
        else {
            // [MQTT-4.12.0-1]
            self.context.counters.refused_authentication += 1;
            let reason = Reason::AuthenticationMethodUnknown;
            return self.refuse_connect(id, terms, reason, ports);
        };
        if connect.wait(&self.waiting, EXCHANGE_BYTES_MAX).is_err() {
            return self.refuse_connect(id, terms, Reason::AuthenticationsFull, ports);
        }
        let mut authentication = Authentication::new(method, connect);
        let step = authentication.begin(exchange, data);
        let connection = self.connections.connected_mut(id);
        connection.wait(Stage::Authenticating, terms);
        connection.set_authentication(authentication);
        self.take_step(id, step, ports);
    }

    /// Before CONNACK a client sends AUTH and DISCONNECT, and nothing else. [MQTT-3.1.2-30]
    pub(super) fn handle_unauthenticated(
        &mut self,
        id: ConnectionId,
        packet: &Packet<'_>,
        ports: &mut impl Ports,
    ) {
        match packet {
            Packet::Auth(auth) => self.handle_auth(id, auth, ports),
            Packet::Disconnect(_) => self.end(id, Cause::Disconnect, ports),
            _ => self.refuse_packet(id, ProtocolError::AuthExpected, ports),
        }
    }

    pub(super) fn handle_auth(
        &mut self,
        id: ConnectionId,
        auth: &Auth<'_>,
        ports: &mut impl Ports,
    ) {
        let Some(authentication) = self.connections.connected_mut(id).authentication() else {
            // [MQTT-4.12.0-7]
            return self.refuse_packet(id, ProtocolError::UnexpectedAuth, ports);
        };
        let step = match authentication.exchange_of(auth) {
            Ok(Some(exchange)) => authentication.go_on(exchange, auth.data.unwrap_or_default()),
            Ok(None) => {
                // Everything else goes on meanwhile as it was.
                let method = auth.method.unwrap_or_default();
                let exchange = self.context.rules.policy.begin_exchange(method, ports.secret());
                exchange.map_or(Step::Fail, |exchange| authentication.begin(exchange, auth.data))
            }
            Err(error) => return self.refuse_packet(id, error, ports),
        };
        self.take_step(id, step, ports);
    }

    fn take_step(&mut self, id: ConnectionId, step: Step, ports: &mut impl Ports) {
        match step {
            Step::Ask(data) => {
                self.send_auth(id, ReasonCode::ContinueAuthentication, data.as_deref(), ports);
            }
            Step::LetIn(connect, proof) => self.accept(id, *connect, &proof, ports),
            Step::Remain(proof) => self.send_auth(id, ReasonCode::Success, Some(&proof), ports),
            Step::Fail => self.end(id, Cause::NotAuthenticated, ports),
        }
    }

    /// [MQTT-4.12.0-5]
    fn send_auth(
        &mut self,
        id: ConnectionId,
        reason_code: ReasonCode,
        data: Option<&[u8]>,
        ports: &mut impl Ports,
    ) {
        let authentication = self.connections.connected_mut(id).authentication();
        let method = authentication.map(|authentication| Rc::clone(&authentication.method));
        let properties = ReasonProperties::default();
        let auth = Auth { reason_code, method: method.as_deref(), data, properties };
        let is_first = reason_code == ReasonCode::ContinueAuthentication && data.is_none();
        let reason = is_first.then_some(Reason::FirstMessageMissing);
        self.answer_with(id, &Packet::Auth(auth), reason, ports);
    }
}

/// What an exchange holds of the client's messages and of its own.
const EXCHANGE_BYTES_MAX: usize = 4 * MESSAGE_BYTES_MAX;
