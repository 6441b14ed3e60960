//! Other servers, and when clients are sent to them.

use super::reason::Reason;
use crate::{
    mqtt::{Packet, ReasonCode},
    session::terms::Terms,
};

/// Where clients are sent that cannot be served here. A Server Reference names one server or
/// several, with spaces between them; what it says is for the clients to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Referral {
    #[default]
    Nowhere,
    /// There while this server is full or has been stopped.
    Temporary(Box<str>),
    /// There from now on, whoever comes here.
    Permanent(Box<str>),
}

impl Referral {
    pub(super) fn is_permanent(&self) -> bool {
        matches!(self, Referral::Permanent(_))
    }

    /// The reason that a client is given: a better one, if it can go somewhere else.
    pub(super) fn instead_of(&self, reason: Reason) -> Reason {
        match (self, reason) {
            (Referral::Temporary(_), Reason::SessionsFull | Reason::ConnectionsFull) => {
                Reason::FullUseAnother
            }
            (Referral::Temporary(_), Reason::ShuttingDown) => Reason::StoppedUseAnother,
            _ => reason,
        }
    }

    /// The Server Reference that goes with a reason.
    fn reference(&self, reason: Reason) -> Option<&str> {
        match (self, reason.code()) {
            (Referral::Temporary(servers), ReasonCode::UseAnotherServer)
            | (Referral::Permanent(servers), ReasonCode::ServerMoved) => Some(servers),
            _ => None,
        }
    }

    /// Writes the last packet of a connection, into an empty buffer. What its client does not take
    /// of it is left out: in this order the Reason String and the Server Reference.
    pub(super) fn write_last(
        &self,
        terms: Terms,
        packet: &Packet<'_>,
        reason: Reason,
        out: &mut Vec<u8>,
    ) -> Written {
        let reference = self.reference(reason).filter(|_| terms.version().has_properties());
        if let Some(reference) = reference {
            let packet = packet.with_server_reference(reference);
            if terms.write(&packet, Some(reason.text()), out) {
                return Written::WithReference;
            }
        }
        let is_taken = terms.write(packet, Some(reason.text()), out);
        if is_taken { Written::Plain } else { Written::NotTaken }
    }
}

/// The last packet of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// It names another server.
    WithReference,
    Plain,
    /// The client does not take it even without anything that can be left out.
    NotTaken,
}
