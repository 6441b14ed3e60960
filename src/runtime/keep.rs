//! The bytes of a connection that its brain has not taken.
//!
//! Usually there are few: a packet whose end has not come, or bytes that came before the connection
//! was paused. A large packet is put together in a reassembly buffer, and its payload is shared
//! from there without a copy. Bytes that come after it are kept as they are.

use std::mem;

use super::{
    connection::SocketConnection,
    driver::{Driver, present},
    outbox::SHARED_BYTES_MIN,
    partials::{Holder, Pool},
    ring::reassembly::ReassemblyBuffer,
};
use crate::{
    base::ids::ConnectionId,
    shard::ports::{Brain, End},
};

impl Driver {
    /// Keeps bytes that cannot be taken yet. False: out of memory.
    #[must_use]
    pub(super) fn keep(&mut self, id: ConnectionId, bytes: &[u8]) -> bool {
        let connection = present(&mut self.connections, id);
        if bytes.is_empty() || !connection.keeps_bytes() {
            return true;
        }
        if connection.is_between_packets() {
            connection.progress.begin(self.now);
        }
        let mut rest = bytes;
        if let Some(reassembly) = &mut connection.reassembly {
            let Ok(landed) = reassembly.append(bytes) else { return false };
            rest = &bytes[landed..];
        }
        if !rest.is_empty() {
            if connection.kept.capacity() == 0 {
                connection.kept = self.chunks.kept();
            }
            connection.kept.extend_from_slice(rest);
        }
        self.note_kept(id);
        self.watch(id);
        true
    }

    /// Notes how many bytes are kept for a connection, and for whom.
    pub(super) fn note_kept(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let (pool, kept) = (connection.pool(), connection.kept_len());
        self.partials.note(&mut connection.share, pool, kept);
    }

    /// Watches the TLS record whose beginning the transport keeps. `began`: it has begun now.
    pub(super) fn watch_record(&mut self, id: ConnectionId, began: bool) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.transport.record_bytes() == 0 || !connection.keeps_bytes() {
            return;
        }
        if began && connection.is_between_packets() {
            connection.progress.begin(self.now);
        }
        self.watch(id);
    }

    /// Watches that the packet that is arriving on a connection comes along.
    fn watch(&mut self, id: ConnectionId) {
        let connection = present(&mut self.connections, id);
        if connection.progress.begin_watch(connection.come(), self.now) {
            self.partials.watch(id, self.now);
        }
    }

    /// Ends connections whose incomplete packets take too much memory.
    #[inline]
    pub(super) fn relieve(&mut self, brain: &mut impl Brain) {
        for pool in [Pool::Strangers, Pool::Clients] {
            if self.partials.is_short(pool) {
                self.relieve_pool(pool, brain);
            }
        }
    }

    #[cold]
    fn relieve_pool(&mut self, pool: Pool, brain: &mut impl Brain) {
        let connections = self.connections.iter();
        let holders = connections.filter(|(_, it)| it.pool() == pool && !it.share.is_empty());
        let holders = holders.map(|(id, it)| it.as_holder(id)).collect();
        for id in self.partials.payers(pool, holders, self.now) {
            self.handle_overflow(id, brain);
        }
    }

    /// Ends connections whose packets have been incomplete for too long.
    pub(super) fn look_at_packets(&mut self, brain: &mut impl Brain) {
        while let Some((id, is_late)) = self.partials.next_due(self.now) {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            let takes_too_long = connection.progress.end_watch(connection.come());
            if !connection.is_open() || connection.come() == 0 {
                continue;
            }
            // What has not been read is not the client's fault.
            if takes_too_long && !is_late && connection.takes_bytes() {
                brain.handle_end(self.now, id, End::PacketTimeout, self);
            } else {
                self.watch(id);
            }
        }
    }

    /// Makes a reassembly buffer for the packet that begins with the kept bytes, if the packet is
    /// large enough for its payload to be shared and is incomplete. `coming` more bytes have been
    /// received. The brain has seen the kept bytes and waits for more. False: out of memory.
    #[must_use]
    pub(super) fn land(&mut self, id: ConnectionId, coming: usize, brain: &impl Brain) -> bool {
        let connection = present(&mut self.connections, id);
        let kept = &connection.kept;
        let has_come = kept.len() + coming >= LANDED_BYTES_MIN;
        if !has_come || connection.reassembly.is_some() || !connection.takes_bytes() {
            return true;
        }
        let is_worth = |size: &usize| *size >= SHARED_BYTES_MIN && *size > kept.len();
        let Some(size) = brain.packet_size(id, kept).filter(is_worth) else { return true };
        // Reserved memory may be resident before it is used. While half of the budget is free, a
        // packet gets room for all of it; otherwise only for some more bytes than have come.
        let room = size.min(ROOM_MAX);
        let room = if self.partials.is_roomy(connection.pool(), room) { room } else { 0 };
        let Ok(reassembly) = ReassemblyBuffer::new(kept, size, room) else { return false };
        connection.reassembly = Some(Box::new(reassembly));
        self.chunks.give_back_kept(mem::take(&mut connection.kept));
        self.note_kept(id);
        true
    }

    /// How many bytes the first kept packet still lacks. While its length is unknown: how many of
    /// `coming` are to be kept with it. `None`: nothing is kept that can be handed in.
    pub(super) fn missing(
        &self,
        id: ConnectionId,
        coming: usize,
        brain: &impl Brain,
    ) -> Option<usize> {
        let connection = self.connections.get(id).filter(|it| it.takes_bytes())?;
        let size = match &connection.reassembly {
            Some(reassembly) => return Some(reassembly.missing().clamp(1, coming)),
            None if connection.kept.is_empty() => return None,
            None => brain.packet_size(id, &connection.kept),
        };
        let missing = size.and_then(|size| size.checked_sub(connection.kept.len()));
        Some(missing.unwrap_or(coming).clamp(1, coming))
    }

    /// A receive into the reassembly buffer has ended. False: out of memory.
    #[must_use]
    pub(super) fn complete_reassembly(&mut self, id: ConnectionId, received: usize) -> bool {
        self.counters.bytes_received += received as u64;
        let connection = present(&mut self.connections, id);
        let reassembly = connection.reassembly.as_mut().expect("the kernel has received into it");
        let has_room = reassembly.complete(received).is_ok();
        self.note_kept(id);
        has_room
    }

    /// Forgets the reassembly buffer, unless the kernel still writes to it. The connection may have
    /// gone, as for all that follows: the brain ends connections by identifiers that it has kept.
    pub(super) fn forget_reassembly(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.reassembly.take_if(|reassembly| !reassembly.is_in_flight());
        self.note_kept(id);
    }

    /// Forgets the kept bytes: the brain will not be handed any more.
    pub(super) fn forget_kept(&mut self, id: ConnectionId) {
        self.forget_reassembly(id);
        let kept = self.take_kept(id);
        self.chunks.give_back_kept(kept);
        if let Some(connection) = self.connections.get_mut(id) {
            connection.transport.forget_held();
        }
        self.note_kept(id);
    }

    /// Takes the kept bytes that follow the reassembly buffer, to hand them in.
    pub(super) fn take_kept(&mut self, id: ConnectionId) -> Vec<u8> {
        let Some(connection) = self.connections.get_mut(id) else { return Vec::new() };
        let kept = mem::take(&mut connection.kept);
        self.note_kept(id);
        kept
    }

    /// Puts back what is left of the kept bytes after `taken` of them were taken.
    pub(super) fn put_back(&mut self, id: ConnectionId, mut kept: Vec<u8>, taken: usize) {
        kept.drain(..taken);
        let now = self.now;
        match self.connections.get_mut(id) {
            Some(connection) if !kept.is_empty() && connection.keeps_bytes() => {
                if kept.len() < kept.capacity() / 4 {
                    kept.shrink_to(2 * kept.len());
                }
                connection.kept = kept;
                if taken > 0 {
                    connection.progress.begin(now);
                }
                self.note_kept(id);
                self.watch(id);
            }
            _ => self.chunks.give_back_kept(kept),
        }
    }
}

impl SocketConnection {
    fn as_holder(&self, id: ConnectionId) -> Holder {
        let (payer, bytes) = (self.payer.account, self.kept_len());
        Holder { id, payer, bytes, since: self.progress.since() }
    }
}

/// Bytes of a packet that must have come before it gets a reassembly buffer, so that announcing a
/// large packet takes no memory.
const LANDED_BYTES_MIN: usize = 4 << 10;
/// A packet up to this size gets memory for all of it at once.
const ROOM_MAX: usize = 2 << 20;
