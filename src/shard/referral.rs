//! Other servers, and when clients are sent to them.

use super::{Shard, reason::Reason};
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
}

impl Shard {
    /// Writes the last packet of a connection. What a client does not take of it is left out: in
    /// this order the Reason String and the Server Reference. False: it does not even take the
    /// rest.
    pub(super) fn write_last(&mut self, terms: Terms, packet: &Packet<'_>, reason: Reason) -> bool {
        let reference = self.context.rules.referral.reference(reason);
        if let Some(reference) = reference.filter(|_| terms.version().has_properties()) {
            let packet = packet.with_server_reference(reference);
            if terms.write(&packet, Some(reason.text()), &mut self.scratch) {
                self.context.counters.redirected += 1;
                return true;
            }
        }
        terms.write(packet, Some(reason.text()), &mut self.scratch)
    }
}
