//! The bytes of a connection that its brain has not taken.
//!
//! Usually there are few: a packet whose end has not come, or bytes that came before the connection
//! was paused. A large packet is put together in a reassembly buffer, and its payload is shared
//! from there without a copy. Bytes that come after it are kept as they are.

use std::mem;

use super::{
    driver::{Driver, present},
    outbox::SHARED_BYTES_MIN,
    ring::reassembly::ReassemblyBuffer,
};
use crate::{base::ids::ConnectionId, shard::ports::Brain};

impl Driver {
    /// Keeps bytes that cannot be taken yet. False: the shard keeps too many bytes, and this
    /// connection must be closed.
    #[must_use]
    pub(super) fn keep(&mut self, id: ConnectionId, bytes: &[u8]) -> bool {
        let connection = present(&mut self.connections, id);
        if bytes.is_empty() || !connection.keeps_bytes() {
            return true;
        }
        let before = connection.kept_len();
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
        self.kept_bytes += connection.kept_len() - before;
        self.kept_bytes <= self.limits.partial_bytes_max
    }

    /// Whether the shard keeps too many bytes, `more` of which have just been added.
    pub(super) fn keeps_too_much(&self, more: usize) -> bool {
        more > 0 && self.kept_bytes > self.limits.partial_bytes_max
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
        let is_generous = self.kept_bytes + room <= self.limits.partial_bytes_max / 2;
        let room = if is_generous { room } else { 0 };
        let Ok(reassembly) = ReassemblyBuffer::new(kept, size, room) else { return false };
        self.kept_bytes = self.kept_bytes - kept.len() + reassembly.room();
        connection.reassembly = Some(Box::new(reassembly));
        self.chunks.give_back_kept(mem::take(&mut connection.kept));
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

    /// A receive into the reassembly buffer has ended. False: the shard keeps too many bytes, or
    /// is out of memory.
    #[must_use]
    pub(super) fn complete_reassembly(&mut self, id: ConnectionId, received: usize) -> bool {
        self.counters.bytes_received += received as u64;
        let connection = present(&mut self.connections, id);
        let reassembly = connection.reassembly.as_mut().expect("the kernel has received into it");
        let before = reassembly.room();
        let has_room = reassembly.complete(received).is_ok();
        self.kept_bytes += reassembly.room() - before;
        has_room && (received == 0 || self.kept_bytes <= self.limits.partial_bytes_max)
    }

    /// Forgets the reassembly buffer, unless the kernel still writes to it. The connection may have
    /// gone, as for all that follows: the brain ends connections by identifiers that it has kept.
    pub(super) fn forget_reassembly(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if let Some(reassembly) =
            connection.reassembly.take_if(|reassembly| !reassembly.is_in_flight())
        {
            self.kept_bytes -= reassembly.room();
        }
    }

    /// Forgets the kept bytes: the brain will not be handed any more.
    pub(super) fn forget_kept(&mut self, id: ConnectionId) {
        self.forget_reassembly(id);
        let kept = self.take_kept(id);
        self.chunks.give_back_kept(kept);
        if let Some(connection) = self.connections.get_mut(id) {
            self.kept_bytes -= connection.transport.held_bytes();
            connection.transport.forget_held();
        }
    }

    /// Takes the kept bytes that follow the reassembly buffer, to hand them in.
    pub(super) fn take_kept(&mut self, id: ConnectionId) -> Vec<u8> {
        let Some(connection) = self.connections.get_mut(id) else { return Vec::new() };
        let kept = mem::take(&mut connection.kept);
        self.kept_bytes -= kept.len();
        kept
    }

    /// Puts back what is left of the kept bytes after `taken` of them were taken.
    pub(super) fn put_back(&mut self, id: ConnectionId, mut kept: Vec<u8>, taken: usize) {
        kept.drain(..taken);
        match self.connections.get_mut(id) {
            Some(connection) if !kept.is_empty() && connection.keeps_bytes() => {
                if kept.len() < kept.capacity() / 4 {
                    kept.shrink_to(2 * kept.len());
                }
                self.kept_bytes += kept.len();
                connection.kept = kept;
            }
            _ => self.chunks.give_back_kept(kept),
        }
    }
}

/// Bytes of a packet that must have come before it gets a reassembly buffer, so that announcing a
/// large packet takes no memory.
const LANDED_BYTES_MIN: usize = 4 << 10;
/// A packet up to this size gets memory for all of it at once.
const ROOM_MAX: usize = 2 << 20;
