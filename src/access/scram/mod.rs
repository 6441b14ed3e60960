//! SCRAM-SHA-256 and SCRAM-SHA-512: a client proves that it knows a password without sending it,
//! and the broker proves that it has the user's verifier. RFC 5802 and RFC 7677, without channel
//! binding.
//!
//! The broker's half only, as a pure state machine. The SCRAM file has derived keys, so an exchange
//! costs the broker a few HMACs. Does not know how messages are sent.

mod mechanism;
mod message;
mod users;
mod verifier;

use std::sync::Arc;

use base64ct::{Base64, Base64Unpadded, Encoding};
use subtle::{Choice, ConstantTimeEq};

pub use self::{
    mechanism::Mechanism,
    users::{ScramFileError, ScramProblem, ScramUsers},
};
use self::{
    message::{ClientFinal, ClientFirst},
    verifier::Verifier,
};
use super::Secret;

/// The text of a new verifier, as a SCRAM file has it behind the user name.
pub fn verifier(mechanism: Mechanism, password: &[u8], iterations: u32, salt: &[u8]) -> String {
    Verifier::derive(mechanism, password, salt, iterations).to_string()
}

/// One authentication, from the client's first message to its proof.
///
/// ```text
///           client-first                   client-final
///   Begun ----------------> Challenged ------------------> Proven
///     |                         |     not the proof
///     |  not a message          +------------------------> Refused
///     +--------------------------------------------------->
/// ```
#[derive(Debug)]
pub struct Exchange(State);

#[derive(Debug)]
enum State {
    Begun { users: Arc<ScramUsers>, mechanism: Mechanism, server_nonce: String },
    Challenged(Box<Challenge>),
}

/// A challenge, with what is needed to check the client's proof.
#[derive(Debug)]
struct Challenge {
    mechanism: Mechanism,
    user_name: String,
    /// False: the user is unknown, its verifier is made up, and every proof is refused.
    known: bool,
    verifier: Verifier,
    gs2_header: String,
    /// The client's nonce and then the server's.
    nonce: String,
    /// client-first-message-bare and server-first-message, with a comma after each.
    auth_message: String,
}

/// The outcome of a message.
#[derive(Debug)]
pub enum Outcome {
    /// Send `data` to the client, and pass its answer to `exchange`.
    Challenged { exchange: Exchange, data: Vec<u8> },
    /// The client has proven to be this user. `data` is the broker's own proof.
    Proven { user_name: String, data: Vec<u8> },
}

/// The message is invalid, the user is unknown or the password is wrong. The client is not told
/// which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

impl Exchange {
    /// Begins an exchange, if there are users of that mechanism. `secret` becomes the broker's
    /// nonce: it has to be unpredictable, and must not have been used before.
    pub fn begin(
        users: &Arc<ScramUsers>,
        mechanism: Mechanism,
        secret: Secret,
    ) -> Option<Exchange> {
        users.offer(mechanism).then(|| {
            let server_nonce = Base64Unpadded::encode_string(&secret);
            Exchange(State::Begun { users: Arc::clone(users), mechanism, server_nonce })
        })
    }

    /// The user that the client has to prove to be with its next message.
    pub fn claimed_user(&self) -> Option<&str> {
        match &self.0 {
            State::Begun { .. } => None,
            State::Challenged(challenge) => Some(&challenge.user_name),
        }
    }

    /// Takes the client's next message.
    pub fn step(self, data: &[u8]) -> Result<Outcome, Refused> {
        if data.len() > MESSAGE_BYTES_MAX {
            return Err(Refused);
        }
        let text = str::from_utf8(data).map_err(|_| Refused)?;
        match self.0 {
            State::Begun { users, mechanism, server_nonce } => {
                let first = ClientFirst::parse(text).ok_or(Refused)?;
                Ok(Challenge::answer(&users, mechanism, &first, &server_nonce))
            }
            State::Challenged(challenge) => {
                challenge.verify(&ClientFinal::parse(text).ok_or(Refused)?)
            }
        }
    }
}

impl Challenge {
    /// Answers client-first with server-first.
    fn answer(
        users: &ScramUsers,
        mechanism: Mechanism,
        first: &ClientFirst<'_>,
        server_nonce: &str,
    ) -> Outcome {
        let (verifier, known) = users.find(mechanism, &first.user_name);
        let nonce = format!("{}{server_nonce}", first.nonce);
        let salt = Base64::encode_string(&verifier.salt);
        let server_first = format!("r={nonce},s={salt},i={}", verifier.iterations);
        let challenge = Challenge {
            mechanism,
            user_name: first.user_name.clone(),
            known,
            verifier,
            gs2_header: first.gs2_header.to_owned(),
            nonce,
            auth_message: format!("{},{server_first},", first.bare),
        };
        let exchange = Exchange(State::Challenged(Box::new(challenge)));
        Outcome::Challenged { exchange, data: server_first.into_bytes() }
    }

    /// Answers client-final with server-final, if it has the proof.
    fn verify(self, client_final: &ClientFinal<'_>) -> Result<Outcome, Refused> {
        let Challenge { mechanism, verifier, .. } = &self;
        let auth_message = [self.auth_message.as_bytes(), client_final.without_proof.as_bytes()];
        let signature = mechanism.hmac(&verifier.stored_key, &auth_message);
        let client_key: Vec<u8> =
            client_final.proof.iter().zip(&signature).map(|(proof, byte)| proof ^ byte).collect();
        let is_proof = mechanism.hash(&client_key).ct_eq(&verifier.stored_key)
            & Choice::from(u8::from(client_final.proof.len() == signature.len()))
            & Choice::from(u8::from(self.known));
        let server_signature = mechanism.hmac(&verifier.server_key, &auth_message);
        let is_answer = client_final.nonce == self.nonce
            && client_final.channel_binding == self.gs2_header.as_bytes();
        if !is_answer || !bool::from(is_proof) {
            return Err(Refused);
        }
        let data = format!("v={}", Base64::encode_string(&server_signature)).into_bytes();
        Ok(Outcome::Proven { user_name: self.user_name, data })
    }
}

/// Bytes of a client's message: more than a user name, a nonce and a proof need.
pub const MESSAGE_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests;
