//! Received bytes on their way to the brain.
//!
//! ```text
//!   buffer --+-- all taken
//!            +-- the rest is kept, and handed in together with what follows it
//!            +-- the rest begins a large packet: a landing, in which what is still missing is
//!                received; it is handed in whole
//! ```
//! Of one connection there is never more than one receive under way, and so its bytes come in
//! order: the landing first, and behind it what is kept.

use std::{mem, os::fd::AsFd};

use bytes::Bytes;
use tracing::debug;

use super::{
    connection::{Connection, Phase, Receive},
    hands::{Hands, is_passing},
    ring::{Completion, landing::Landing, operation::Operation},
    turn::Turner,
};
use crate::{base::ids::ConnectionId, shard::ports::Brain};

/// What became of received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HandedIn {
    /// The brain has taken what it wants of them for now.
    Done,
    /// They have joined earlier ones, together with which they are to be handed in.
    Joined,
    /// The shard keeps too many bytes.
    OutOfBounds,
}

impl<B: Brain> Turner<B> {
    pub(super) fn handle_received(&mut self, id: ConnectionId, completion: Completion) {
        if let Some(connection) = self.hands.get(id) {
            let lands = connection.is_landing();
            if !completion.more {
                connection.receive = Receive::Idle;
                self.hands.touch(id);
            } else if connection.receive == Receive::Ending {
                // It was told to end at a moment when the kernel could not find it.
                connection.receive = Receive::Armed;
                self.hands.touch(id);
            }
            if lands {
                self.handle_landed(id, completion.result);
            }
            match (completion.result, completion.buffer) {
                (1.., Some(buffer)) => {
                    self.handle_buffer(id, buffer, completion.result.unsigned_abs());
                }
                (0, _) => self.handle_finished(id),
                (result, _) if result < 0 && !is_passing(result) => self.break_off(id),
                _ => {}
            }
            self.break_off_if_deaf(id);
        }
        if let Some(buffer) = completion.buffer {
            self.buffers.give_back(buffer);
        }
    }

    /// Hands in received bytes where they lie, or keeps them.
    fn handle_buffer(&mut self, id: ConnectionId, buffer: u16, length: u32) {
        let bytes = self.buffers.filled(buffer, length as usize);
        self.hands.tallies.bytes_received += u64::from(length);
        let Some(connection) = self.hands.get(id) else { return };
        if !connection.keeps_bytes() {
            return self.discard(id, length);
        }
        if connection.websocket.is_some() {
            return self.handle_wrapped(id, buffer, length);
        }
        match self.hands.hand_in(id, bytes, &mut self.brain) {
            HandedIn::Done => {}
            HandedIn::Joined => self.feed_kept(id),
            HandedIn::OutOfBounds => self.handle_overflow(id),
        }
        if let Some(connection) = self.hands.get(id) {
            connection.flags.bulky = connection.landing.is_some();
        }
    }

    /// More of a large packet has come, or will not.
    fn handle_landed(&mut self, id: ConnectionId, result: i32) {
        let received = result.max(0).unsigned_abs();
        let in_bounds = self.hands.complete_landing(id, received as usize);
        let Some(connection) = self.hands.get(id) else { return };
        if !connection.keeps_bytes() {
            self.hands.forget_kept(id);
            self.discard(id, received);
        } else if !in_bounds {
            self.handle_overflow(id);
        } else if connection.landing.as_ref().is_some_and(|landing| landing.is_whole()) {
            self.feed_kept(id);
        }
    }

    fn handle_overflow(&mut self, id: ConnectionId) {
        self.note_overflow();
        self.break_off(id);
    }

    pub(super) fn note_overflow(&mut self) {
        self.hands.tallies.partial_overflows += 1;
        debug!("incomplete packets take too much memory: their latest sender has to go");
    }

    /// A client that goes on sending after it was told to go is not waited for.
    fn discard(&mut self, id: ConnectionId, length: u32) {
        let Some(connection) = self.hands.get(id) else { return };
        connection.discarded = connection.discarded.saturating_add(length);
        if connection.discarded > DISCARDED_BYTES_MAX {
            self.hands.kill(id);
        }
    }

    /// Hands in what was kept, then the end if it has come.
    pub(super) fn feed_kept(&mut self, id: ConnectionId) {
        let Some(connection) = self.hands.get(id) else { return };
        connection.flags.feed_due = false;
        self.hands.touch(id);
        self.feed_landing(id);
        if self.hands.get(id).is_some_and(|connection| connection.has_next()) {
            let kept = self.hands.take_kept(id);
            let taken = self.brain.handle_bytes(self.hands.now, id, &kept, &mut self.hands);
            self.hands.notice_taken(id, taken);
            self.hands.put_back(id, kept, taken);
            if !self.hands.land(id, &self.brain) {
                self.handle_overflow(id);
            }
        }
        self.tell_end(id);
    }

    /// Hands in a large packet if it is whole.
    fn feed_landing(&mut self, id: ConnectionId) {
        let Some(connection) = self.hands.get(id).filter(|it| it.takes_bytes()) else { return };
        let Some(packet) = connection.landing.as_mut().and_then(|landing| landing.packet()) else {
            return;
        };
        self.hands.handed_in = packet.clone();
        let taken = self.brain.handle_bytes(self.hands.now, id, &packet, &mut self.hands);
        self.hands.handed_in = Bytes::new();
        self.hands.notice_taken(id, taken);
        if taken > 0 {
            self.hands.forget_landing(id);
        }
    }
}

impl Hands {
    /// Hands bytes in where they lie, and keeps what is not taken.
    pub(super) fn hand_in(
        &mut self,
        id: ConnectionId,
        bytes: &[u8],
        brain: &mut impl Brain,
    ) -> HandedIn {
        let Some(connection) = self.get(id) else { return HandedIn::Done };
        let feeds = connection.takes_bytes();
        let joins = connection.kept_len() > 0;
        let mut taken = 0;
        if feeds && !joins {
            taken = brain.handle_bytes(self.now, id, bytes, self);
            self.notice_taken(id, taken);
        }
        let in_bounds = self.keep(id, &bytes[taken..]) && self.land(id, brain);
        match (in_bounds, feeds && joins) {
            (false, _) => HandedIn::OutOfBounds,
            (true, true) => HandedIn::Joined,
            (true, false) => HandedIn::Done,
        }
    }

    /// The brain has taken bytes of this connection, which is now where it stays.
    fn notice_taken(&mut self, id: ConnectionId, taken: usize) {
        if taken > 0
            && let Some(connection) = self.get(id)
            && connection.phase == Phase::Open
        {
            connection.flags.settled = true;
        }
    }

    /// Keeps bytes that cannot be taken yet. False: the shard keeps too many, and this connection
    /// must go.
    #[must_use]
    pub(super) fn keep(&mut self, id: ConnectionId, bytes: &[u8]) -> bool {
        let Some(connection) = self.connections.get_mut(id) else { return true };
        if bytes.is_empty() || !connection.keeps_bytes() {
            return true;
        }
        self.kept_bytes += bytes.len();
        let mut rest = bytes;
        if let Some(landing) = &mut connection.landing {
            let Ok(landed) = landing.append(bytes) else { return false };
            rest = &bytes[landed..];
        }
        if !rest.is_empty() {
            if connection.kept.capacity() == 0 {
                connection.kept = self.chunks.kept();
            }
            connection.kept.extend_from_slice(rest);
        }
        self.kept_bytes <= self.limits.partial_bytes_max
    }

    /// Gives a large packet a landing, if one begins with the kept bytes and is not whole. False:
    /// there is no memory for it.
    #[must_use]
    fn land(&mut self, id: ConnectionId, brain: &impl Brain) -> bool {
        let Some(connection) = self.connections.get_mut(id) else { return true };
        let kept = &connection.kept;
        if kept.len() < LANDED_BYTES_MIN || connection.landing.is_some() {
            return true;
        }
        let is_worth = |size: &usize| *size >= LANDING_BYTES_MIN && *size > kept.len();
        let Some(size) = brain.packet_size(kept).filter(is_worth) else { return true };
        let Ok(landing) = Landing::new(kept, size) else { return false };
        connection.landing = Some(Box::new(landing));
        self.chunks.give_back_kept(mem::take(&mut connection.kept));
        true
    }

    /// A receive into the landing has ended. False: the shard keeps too many bytes.
    #[must_use]
    fn complete_landing(&mut self, id: ConnectionId, received: usize) -> bool {
        self.tallies.bytes_received += received as u64;
        let Some(connection) = self.connections.get_mut(id) else { return true };
        let Some(landing) = &mut connection.landing else { return true };
        self.kept_bytes += received;
        landing.complete(received).is_ok() && self.kept_bytes <= self.limits.partial_bytes_max
    }

    fn forget_landing(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if let Some(landing) = connection.landing.take_if(|landing| !landing.is_in_flight()) {
            self.kept_bytes -= landing.len();
        }
    }

    /// Forgets what the brain will not be handed any more. What the kernel still writes to stays
    /// until it has ended.
    pub(super) fn forget_kept(&mut self, id: ConnectionId) {
        self.forget_landing(id);
        let kept = self.take_kept(id);
        self.chunks.give_back_kept(kept);
    }

    /// Takes all kept bytes away, to hand them in.
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

    /// Brings the receive of a connection into line with what is wanted.
    pub(super) fn settle_receive(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let ends = match (connection.receive, connection.wants_bytes()) {
            (Receive::Idle, true) => return self.begin_receive(id),
            (Receive::Armed, true) => connection.lands(),
            (Receive::Armed | Receive::Landing, false) => connection.phase != Phase::Dead,
            _ => false,
        };
        if ends {
            connection.receive = Receive::Ending;
            self.ring.cancel(Operation::Receive(id));
        }
    }

    fn begin_receive(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let once = connection.is_open() && (!connection.flags.settled || connection.flags.bulky);
        let lands = connection.lands();
        let socket = connection.socket.as_fd();
        connection.receive = if lands { Receive::Landing } else { Receive::Armed };
        match &mut connection.landing {
            Some(landing) if lands => self.ring.receive_rest(id, socket, landing),
            _ if once => self.ring.receive_once(id, socket),
            _ => self.ring.receive_many(id, socket),
        }
    }
}

impl Connection {
    /// The kernel receives into the landing.
    fn is_landing(&self) -> bool {
        self.landing.as_ref().is_some_and(|landing| landing.is_in_flight())
    }

    /// Whether what comes next is the rest of a large packet, as it is in the socket.
    fn lands(&self) -> bool {
        self.websocket.is_none() && self.landing.as_ref().is_some_and(|landing| !landing.is_whole())
    }

    /// Whether kept bytes are next to be handed in.
    fn has_next(&self) -> bool {
        self.takes_bytes() && self.landing.is_none() && !self.kept.is_empty()
    }
}

/// What a client may go on sending after it was told to go.
const DISCARDED_BYTES_MAX: u32 = 1 << 20;
/// Packets from this size on are received where they stay; for smaller ones it costs more than it
/// saves.
const LANDING_BYTES_MIN: usize = 32 << 10;
/// So much of one must have come: whoever only says that it sends a large packet takes no memory.
const LANDED_BYTES_MIN: usize = 4 << 10;
