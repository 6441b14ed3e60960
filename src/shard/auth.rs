//! AUTH: enhanced authentication before CONNACK, and again at any time after it.

use super::{Shard, connect::Proof, connection::Stage, end::Cause, ports::Ports, reason::Reason};
use crate::{
    access::scram::{Exchange, MESSAGE_BYTES_MAX, Outcome},
    base::ids::ConnectionId,
    mqtt::{
        Auth, Connect, Packet, ProtocolError, ReasonCode, ReasonProperties,
        frame::{self, PACKET_SIZE_MAX},
    },
};

/// How far a client has come that authenticates by AUTH packets.
#[derive(Debug)]
pub(super) struct Authentication {
    /// The Authentication Method of its CONNECT.
    method: String,
    /// What its next AUTH goes on with.
    exchange: Option<Exchange>,
    purpose: Purpose,
}

/// What an authentication is for.
#[derive(Debug)]
enum Purpose {
    /// To answer this CONNECT.
    Connect(Vec<u8>),
    /// To go on as the user who has been let in.
    Remain,
}

impl Authentication {
    /// What it holds of the memory that clients share which have not proven who they are.
    pub(super) fn bytes(&self) -> usize {
        match &self.purpose {
            Purpose::Connect(connect) => connect.capacity() + EXCHANGE_BYTES_MAX,
            Purpose::Remain => 0,
        }
    }

    /// The exchange that this AUTH goes on with, or `None` where it begins one.
    fn exchange_of(&mut self, auth: &Auth<'_>) -> Result<Option<Exchange>, ProtocolError> {
        // [MQTT-4.12.0-5] [MQTT-4.12.1-1]
        if auth.method.is_some_and(|method| method != self.method) {
            return Err(ProtocolError::AuthenticationMethodChanged);
        }
        match (auth.reason_code, self.exchange.take()) {
            // [MQTT-4.12.0-3]
            (ReasonCode::ContinueAuthentication, Some(exchange)) => Ok(Some(exchange)),
            (ReasonCode::ReAuthenticate, None) => Ok(None),
            _ => Err(ProtocolError::UnexpectedAuth),
        }
    }
}

impl Shard {
    /// Takes a CONNECT that names an Authentication Method. It is kept until it can be answered,
    /// so that AUTH packets can be read after it.
    pub(super) fn begin_authentication(
        &mut self,
        id: ConnectionId,
        connect: &Connect<'_>,
        method: &str,
        ports: &mut impl Ports,
    ) {
        let Some(exchange) = self.begin_exchange(method, ports) else {
            // [MQTT-4.12.0-1]
            self.counters.refused_authentication += 1;
            let reason = Reason::AuthenticationMethodUnknown;
            return self.refuse_connect(id, self.terms_of(connect), reason, ports);
        };
        let authentication = keep(connect, method);
        let bytes = self.connections.authenticating_bytes() + authentication.bytes();
        if bytes > AUTHENTICATING_BYTES_MAX {
            let reason = Reason::AuthenticationsFull;
            return self.refuse_connect(id, self.terms_of(connect), reason, ports);
        }
        let terms = self.terms_of(connect);
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.stage = Stage::Authenticating;
        connection.terms = terms;
        self.connections.set_authentication(id, Some(authentication));
        self.begin_with(id, exchange, connect.properties.authentication_data, ports);
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
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Some(authentication) = connection.authentication() else {
            // [MQTT-4.12.0-7]
            return self.refuse_packet(id, ProtocolError::UnexpectedAuth, ports);
        };
        match authentication.exchange_of(auth) {
            Ok(Some(exchange)) => self.go_on(id, exchange, auth.data.unwrap_or_default(), ports),
            Ok(None) => self.begin_again(id, auth, ports),
            Err(error) => self.refuse_packet(id, error, ports),
        }
    }

    /// Everything else goes on meanwhile as it was.
    fn begin_again(&mut self, id: ConnectionId, auth: &Auth<'_>, ports: &mut impl Ports) {
        match self.begin_exchange(auth.method.unwrap_or_default(), ports) {
            Some(exchange) => self.begin_with(id, exchange, auth.data, ports),
            None => self.end(id, Cause::NotAuthenticated, ports),
        }
    }

    fn begin_exchange(&self, method: &str, ports: &mut impl Ports) -> Option<Exchange> {
        self.rules.policy.begin_exchange(method, ports.secret())
    }

    /// The client has the first word. One that has not said it is asked for it, without data.
    fn begin_with(
        &mut self,
        id: ConnectionId,
        exchange: Exchange,
        data: Option<&[u8]>,
        ports: &mut impl Ports,
    ) {
        match data {
            Some(data) => self.go_on(id, exchange, data, ports),
            None => self.ask(id, exchange, None, ports),
        }
    }

    fn go_on(&mut self, id: ConnectionId, exchange: Exchange, data: &[u8], ports: &mut impl Ports) {
        match exchange.step(data) {
            Ok(Outcome::Challenged { exchange, data }) => {
                self.ask(id, exchange, Some(&data), ports);
            }
            Ok(Outcome::Proven { user_name, data }) => self.conclude(id, &user_name, &data, ports),
            // [MQTT-4.12.0-4] [MQTT-4.12.1-2]
            Err(_) => self.end(id, Cause::NotAuthenticated, ports),
        }
    }

    /// Waits for another AUTH of the client. [MQTT-4.12.0-2]
    fn ask(
        &mut self,
        id: ConnectionId,
        exchange: Exchange,
        data: Option<&[u8]>,
        ports: &mut impl Ports,
    ) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Some(authentication) = connection.authentication() else { return };
        authentication.exchange = Some(exchange);
        self.send_auth(id, ReasonCode::ContinueAuthentication, data, ports);
    }

    /// The client has proven to be this user.
    fn conclude(&mut self, id: ConnectionId, user_name: &str, data: &[u8], ports: &mut impl Ports) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let is_same = connection.principal.user_name() == Some(user_name);
        let Some(authentication) = connection.authentication() else { return };
        match &authentication.purpose {
            Purpose::Connect(_) => self.let_in(id, user_name, data, ports),
            Purpose::Remain if is_same => {
                self.send_auth(id, ReasonCode::Success, Some(data), ports);
            }
            // What it was let in for, another user may not have been.
            Purpose::Remain => self.end(id, Cause::NotAuthenticated, ports),
        }
    }

    /// Answers the CONNECT that was kept. A User Name in it is that of the proof.
    fn let_in(&mut self, id: ConnectionId, user_name: &str, data: &[u8], ports: &mut impl Ports) {
        let Some(earlier) = self.connections.set_authentication(id, None) else { return };
        let Authentication { method, purpose, .. } = *earlier;
        let Purpose::Connect(bytes) = purpose else { return };
        let connect = read_kept(&bytes);
        let is_same = connect.user_name.is_none_or(|said| said == user_name);
        if !is_same {
            return self.end(id, Cause::NotAuthenticated, ports);
        }
        let remaining = Authentication { method, exchange: None, purpose: Purpose::Remain };
        self.connections.set_authentication(id, Some(remaining));
        self.accept(id, &connect, Proof { user_name: Some(user_name), data: Some(data) }, ports);
    }

    /// [MQTT-4.12.0-5]
    fn send_auth(
        &mut self,
        id: ConnectionId,
        reason_code: ReasonCode,
        data: Option<&[u8]>,
        ports: &mut impl Ports,
    ) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let terms = connection.terms;
        let Some(authentication) = connection.authentication() else { return };
        let method = Some(authentication.method.as_str());
        let auth = Auth { reason_code, method, data, properties: ReasonProperties::default() };
        let is_first = reason_code == ReasonCode::ContinueAuthentication && data.is_none();
        let reason = is_first.then_some(Reason::FirstMessageMissing);
        if terms.write(&Packet::Auth(auth), reason.map(Reason::text), &mut self.scratch) {
            ports.send(id, &self.scratch);
        } else {
            // There is no smaller challenge, so the client cannot be let in. [MQTT-3.1.2-24]
            self.end(id, Cause::AnswerTooLarge, ports);
        }
    }
}

fn keep(connect: &Connect<'_>, method: &str) -> Authentication {
    let mut bytes = Vec::new();
    connect.encode(&mut bytes);
    Authentication { method: method.to_owned(), exchange: None, purpose: Purpose::Connect(bytes) }
}

fn read_kept(bytes: &[u8]) -> Connect<'_> {
    let frame = frame::split(bytes, PACKET_SIZE_MAX).ok().flatten();
    let connect = frame.and_then(|frame| Connect::decode(frame).ok());
    connect.expect("a CONNECT that was decoded, and then encoded to be kept")
}

/// All CONNECT packets of one shard that wait for AUTH packets; beyond it Server busy.
const AUTHENTICATING_BYTES_MAX: usize = 64 << 20;
/// What an exchange holds of the client's messages and of its own.
const EXCHANGE_BYTES_MAX: usize = 4 * MESSAGE_BYTES_MAX;
