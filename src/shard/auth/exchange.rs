//! Authentication by AUTH packets: whose turn it is, and with which message.

use std::{mem, rc::Rc};

use super::{AuthAnswer, Proof, Step};
use crate::{
    access::{
        Policy,
        scram::{Exchange, Outcome},
    },
    mqtt::{Auth, ProtocolError, ReasonCode},
    shard::{kept_connect::KeptConnect, ports::Ports},
};

/// The state of an authentication by AUTH packets.
#[derive(Debug)]
pub(in crate::shard) struct Authentication {
    /// The Authentication Method of its CONNECT.
    method: Rc<str>,
    /// The exchange that the next AUTH continues.
    exchange: Option<Exchange>,
    purpose: Purpose,
}

/// What an authentication is for.
#[derive(Debug)]
enum Purpose {
    /// To answer this CONNECT.
    Connect(Box<KeptConnect>),
    /// To prove again to be this user, who has been let in.
    Remain { user_name: String },
}

impl Authentication {
    pub(super) fn new(method: &str, connect: Box<KeptConnect>) -> Authentication {
        let purpose = Purpose::Connect(connect);
        Authentication { method: method.into(), exchange: None, purpose }
    }

    /// The user that the client has to prove to be with its next message.
    pub(in crate::shard) fn claimed_user(&self) -> Option<&str> {
        self.exchange.as_ref().and_then(Exchange::claimed_user)
    }

    /// Handles an AUTH of the client, which continues an exchange or begins one. Meanwhile messages
    /// of a connected client go on.
    pub(in crate::shard) fn handle_auth(
        &mut self,
        auth: &Auth<'_>,
        policy: &Policy,
        ports: &mut impl Ports,
    ) -> Result<Step, ProtocolError> {
        if let Some(exchange) = self.exchange_of(auth)? {
            return Ok(self.go_on(exchange, auth.data.unwrap_or_default()));
        }
        let exchange = policy.begin_exchange(auth.method.unwrap_or_default(), ports.secret());
        Ok(exchange.map_or(Step::Fail, |exchange| self.begin(exchange, auth.data)))
    }

    /// Begins an exchange. The client sends the first message. If it has not, it is asked for it by
    /// an AUTH without data.
    pub(super) fn begin(&mut self, exchange: Exchange, data: Option<&[u8]>) -> Step {
        match data {
            Some(data) => self.go_on(exchange, data),
            None => self.ask(exchange, None),
        }
    }

    /// The exchange that this AUTH continues; `None` if it begins one.
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

    /// Sends this data in AUTH, and waits for another AUTH of the client. [MQTT-4.12.0-2]
    fn ask(&mut self, exchange: Exchange, data: Option<Vec<u8>>) -> Step {
        self.exchange = Some(exchange);
        self.send(ReasonCode::ContinueAuthentication, data)
    }

    fn send(&self, reason_code: ReasonCode, data: Option<Vec<u8>>) -> Step {
        Step::Send(AuthAnswer { reason_code, method: Rc::clone(&self.method), data })
    }

    /// The client has proven to be this user.
    fn conclude(&mut self, user_name: String, data: Vec<u8>) -> Step {
        let is_same = match &self.purpose {
            // A User Name in CONNECT has to be the proven one.
            Purpose::Connect(connect) => {
                connect.user_name.as_deref().is_none_or(|said| said == user_name)
            }
            // Another user may have other rights than the one who was let in.
            Purpose::Remain { user_name: earlier } => *earlier == user_name,
        };
        if !is_same {
            return Step::Fail;
        }
        let proven = Some(user_name.as_str().into());
        match mem::replace(&mut self.purpose, Purpose::Remain { user_name }) {
            Purpose::Connect(connect) => {
                let proof = Proof { user_name: proven, data: Some(data), ..Proof::default() };
                Step::LetIn(connect, proof)
            }
            Purpose::Remain { .. } => self.send(ReasonCode::Success, Some(data)),
        }
    }
}
