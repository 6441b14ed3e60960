//! Bans, as a shard keeps to them: whom it does not let in, and whom it disconnects.

use std::{net::IpAddr, sync::Arc};

use super::{
    Shard, ask::Answer, connection::MqttConnection, end::Cause, notices::Notice, ports::Ports,
};
use crate::{
    access::{Bans, Principal},
    base::ids::{ConnectionId, SubscriberId},
    session::Session,
};

impl Shard {
    /// The bans that hold from now on.
    pub fn adopt_bans(&mut self, bans: Arc<Bans>) {
        self.context.bans = bans;
    }

    /// Whether this address is banned now. Usually there is no ban at all.
    #[inline]
    pub(super) fn is_banned_address(&self, ip: IpAddr) -> bool {
        let bans = &self.context.bans;
        !bans.is_empty() && bans.has_address(ip, self.wall_now())
    }

    /// Whether a client that has not proven anything is banned now.
    pub(super) fn is_banned_stranger(&self, client_id: &str, ip: IpAddr) -> bool {
        let bans = &self.context.bans;
        self.is_banned_address(ip)
            || (!bans.is_empty() && bans.has_client(client_id, self.wall_now()))
    }

    /// Whether a client that has proven who it is is banned now.
    pub(super) fn is_banned(&self, principal: &Principal) -> bool {
        let bans = &self.context.bans;
        !bans.is_empty() && bans.has(principal, self.wall_now())
    }

    /// Closes a connection that has just come from a banned address.
    pub(super) fn refuse_banned_address(
        &mut self,
        id: ConnectionId,
        refused: &MqttConnection,
        ports: &mut impl Ports,
    ) {
        self.context.counters.refused_banned += 1;
        self.close_unheard(id, Notice::AddressBanned, refused.principal(), ports);
    }

    /// Disconnects the banned clients among some sessions, from this place on.
    pub(super) fn end_banned(&mut self, from: u32, ports: &mut impl Ports) -> Answer {
        let is_banned = |shard: &Shard, principal: &Principal| shard.is_banned(principal);
        self.end_some(from, Cause::Banned, is_banned, ports)
    }

    /// Disconnects those of some sessions whom `is_meant` chooses, from this place on.
    pub(super) fn end_some(
        &mut self,
        from: u32,
        cause: Cause,
        is_meant: impl Fn(&Shard, &Principal) -> bool,
        ports: &mut impl Ports,
    ) -> Answer {
        let places = self.sessions.places();
        let (mut place, mut count) = (from, 0);
        let until = places.min(from.saturating_add(LOOKS_MAX));
        while place < until && count < ENDS_MAX {
            let session = self.sessions.get(SubscriberId(place));
            let meant = session.filter(|session| is_meant(self, session.principal()));
            if let Some(link) = meant.and_then(Session::link) {
                self.end(link.connection, cause, ports);
                count += 1;
            }
            place += 1;
        }
        Answer::Ended { count, next: (place < places).then_some(place) }
    }
}

/// Sessions that one question looks at.
const LOOKS_MAX: u32 = 256;
/// Connections that one question ends.
const ENDS_MAX: usize = 32;
