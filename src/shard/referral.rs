//! Refers clients to other servers.

use super::reason::Reason;
use crate::{
    mqtt::{Packet, ReasonCode},
    session::terms::Terms,
};

/// The servers that clients are referred to. A Server Reference names one or more servers,
/// separated by spaces. The broker does not interpret it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Referral {
    #[default]
    Nowhere,
    /// Clients go there while this server is full, or when it stops.
    Temporary(Box<str>),
    /// All clients go there from now on.
    Permanent(Box<str>),
}

impl Referral {
    pub(super) fn is_permanent(&self) -> bool {
        matches!(self, Referral::Permanent(_))
    }

    /// The reason to give to a client. With another server to go to, Use another server replaces
    /// the reasons that this one is full or shutting down.
    pub(super) fn instead_of(&self, reason: Reason) -> Reason {
        match (self, reason) {
            (
                Referral::Temporary(_),
                Reason::SessionsFull | Reason::ConnectionsFull | Reason::ConnectionShare,
            ) => Reason::FullUseAnother,
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

    /// Writes the last packet of a connection into an empty buffer. If the packet is larger than
    /// the client accepts, the Reason String is left out, then the Server Reference.
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

/// How the last packet of a connection was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// It names another server.
    WithReference,
    Plain,
    /// The packet is larger than the client accepts, even without its optional parts.
    NotTaken,
}
