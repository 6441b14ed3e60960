//! Received bytes on their way to the brain.
//!
//! ```text
//!   buffer --+-- all bytes are taken
//!            +-- the rest is kept, and handed in again with the bytes that follow
//!            +-- the rest begins a large packet: it moves to a reassembly buffer, and the kernel
//!                receives the missing bytes there
//! ```
//! A connection has at most one receive under way, so its bytes stay in order: the reassembly
//! buffer first, then the kept bytes.

use super::{
    connection::{Phase, Receive, SocketConnection},
    driver::{Driver, present},
    event_loop::EventLoop,
    last_words,
    ring::{
        Completion, Outcome, buffers::BufferId, operation::Operation, reassembly::ReassemblyBuffer,
    },
};
use crate::{
    base::ids::ConnectionId,
    shard::ports::{Brain, End},
};
use bytes::Bytes;

impl<B: Brain> EventLoop<B> {
    pub(super) fn handle_received(&mut self, id: ConnectionId, completion: &Completion) {
        if self.driver.get(id).is_some() {
            self.driver.note_received(id, completion.more);
            self.handle_reassembled(id, completion.outcome.bytes());
            match (&completion.outcome, completion.buffer) {
                (Outcome::Done(0), _) => self.driver.handle_finished(id, &mut self.brain),
                (Outcome::Done(bytes), Some(buffer)) => self.handle_buffer(id, buffer, *bytes),
                (Outcome::Failed(_), _) => self.driver.handle_broken(id, &mut self.brain),
                _ => {}
            }
            self.driver.break_off_if_send_failed(id, &mut self.brain);
            self.driver.relieve(&mut self.brain);
        }
        if let Some(buffer) = completion.buffer {
            self.buffers.give_back(buffer);
        }
    }

    fn handle_buffer(&mut self, id: ConnectionId, buffer: BufferId, length: usize) {
        let mut bytes = self.buffers.filled(buffer, length);
        self.driver.counters.bytes_received += length as u64;
        let connection = self.driver.present(id);
        if !connection.keeps_bytes() {
            return self.driver.discard(id, length);
        }
        if !connection.transport.is_transparent() {
            let protocol = &self.listeners.listener(connection.listener).protocol;
            let mut is_transparent = false;
            if connection.transport.awaits_header() {
                let header = self.driver.receive_header(id, bytes, protocol, &mut self.brain);
                let Some(taken) = header else { return };
                bytes = &mut bytes[taken..];
                is_transparent = self.driver.present(id).transport.is_transparent();
            }
            if !is_transparent {
                if !self.driver.hold_handshake(id, bytes) {
                    self.driver.unwrap(id, bytes, protocol, &mut self.brain);
                }
                return;
            }
        }
        if !self.driver.hand_in(id, bytes, &mut self.brain) {
            return self.driver.handle_overflow(id, &mut self.brain);
        }
        if let Some(connection) = self.driver.get(id) {
            connection.flags.bulky = connection.reassembles();
            if connection.flags.bulky {
                self.driver.touch(id);
            }
        }
    }

    /// A receive into the reassembly buffer has ended, if that is where the connection receives.
    fn handle_reassembled(&mut self, id: ConnectionId, received: usize) {
        if !self.driver.get(id).is_some_and(|connection| connection.is_reassembling()) {
            return;
        }
        let in_bounds = self.driver.complete_reassembly(id, received);
        let connection = self.driver.present(id);
        if !connection.keeps_bytes() {
            self.driver.forget_kept(id);
        } else if !in_bounds {
            self.driver.handle_overflow(id, &mut self.brain);
        } else {
            self.driver.feed_kept(id, &mut self.brain);
        }
    }
}

impl Driver {
    /// Notes that a receive has completed. With `more` it will complete again.
    fn note_received(&mut self, id: ConnectionId, more: bool) {
        let connection = self.present(id);
        if !more {
            connection.receive = Receive::Idle;
            self.touch(id);
        } else if connection.receive == Receive::Ending {
            // The cancel came at a moment when the kernel could not find the receive.
            connection.receive = Receive::Armed;
            self.touch(id);
        }
    }

    /// Hands bytes to the brain in place, after those that are kept, and keeps those that the brain
    /// does not take. False: out of memory.
    #[must_use]
    pub(super) fn hand_in(
        &mut self,
        id: ConnectionId,
        mut bytes: &[u8],
        brain: &mut impl Brain,
    ) -> bool {
        while !bytes.is_empty()
            && let Some(missing) = self.missing(id, bytes.len(), brain)
        {
            let (end, next) = bytes.split_at(missing);
            if !self.land(id, bytes.len(), brain) || !self.keep(id, end) {
                return false;
            }
            self.feed_kept(id, brain);
            bytes = next;
        }
        if !bytes.is_empty() && self.get(id).is_some_and(|connection| connection.takes_bytes()) {
            let taken = self.hand(id, bytes, brain);
            bytes = &bytes[taken..];
        }
        self.keep(id, bytes) && self.land(id, 0, brain)
    }

    /// Hands bytes to the brain. Returns how many it takes. Once it has taken any, the connection
    /// stays on this shard.
    fn hand(&mut self, id: ConnectionId, bytes: &[u8], brain: &mut impl Brain) -> usize {
        last_words::note_bytes(brain, id, bytes);
        let taken = brain.handle_bytes(self.now, id, bytes, self);
        last_words::note_time();
        if taken > 0
            && let Some(connection) = self.get(id)
            && connection.phase == Phase::Open
        {
            connection.flags.settled = true;
        }
        taken
    }

    /// Hands the kept bytes to the brain, then the end of the connection if it has come.
    pub(super) fn feed_kept(&mut self, id: ConnectionId, brain: &mut impl Brain) {
        let Some(connection) = self.get(id) else { return };
        connection.flags.feed_due = false;
        self.touch(id);
        self.feed_reassembled(id, brain);
        if self.get(id).is_some_and(|connection| connection.has_next()) {
            let kept = self.take_kept(id);
            let taken = self.hand(id, &kept, brain);
            self.put_back(id, kept, taken);
            if !self.land(id, 0, brain) {
                self.handle_overflow(id, brain);
            }
        }
        self.tell_end(id, brain);
    }

    /// Hands a large packet to the brain once it is complete.
    fn feed_reassembled(&mut self, id: ConnectionId, brain: &mut impl Brain) {
        let Driver { connections, partials, .. } = self;
        let Some(connection) = connections.get_mut(id).filter(|it| it.takes_bytes()) else {
            return;
        };
        let share = |packet| partials.payloads.share(packet);
        let Some(packet) =
            connection.reassembly.as_mut().and_then(|reassembly| reassembly.packet(share))
        else {
            return;
        };
        self.handed_in = packet.clone();
        let taken = self.hand(id, &packet, brain);
        self.handed_in = Bytes::new();
        assert!(taken == 0 || taken == packet.len(), "the brain has said how large it is");
        if taken > 0 {
            self.forget_reassembly(id);
        }
    }

    /// Discards what a client sends after its connection was closed. Reading on for a while gives
    /// the client time to read the reason; then the connection is reset.
    fn discard(&mut self, id: ConnectionId, length: usize) {
        let connection = self.present(id);
        connection.discarded = connection.discarded.saturating_add(length);
        if connection.discarded > DISCARDED_BYTES_MAX {
            self.reset(id);
        }
    }

    /// The client will send nothing more.
    pub(super) fn handle_finished(&mut self, id: ConnectionId, brain: &mut impl Brain) {
        let connection = self.present(id);
        connection.flags.finished = true;
        let has_failed = connection.flags.send_failed;
        self.touch(id);
        if !has_failed {
            self.tell_end(id, brain);
        }
    }

    /// The connection is broken. Bytes that came before are handed in first.
    fn handle_broken(&mut self, id: ConnectionId, brain: &mut impl Brain) {
        let connection = self.present(id);
        if !connection.has_waiting_bytes() {
            return self.break_off(id, brain);
        }
        connection.flags.finished = true;
        connection.flags.broken = true;
    }

    /// Tells the brain of the end once everything that came before has been handed in.
    pub(super) fn tell_end(&mut self, id: ConnectionId, brain: &mut impl Brain) {
        let connection = self.present(id);
        let flags = connection.flags;
        if !flags.finished || flags.end_told || !connection.takes_bytes() {
            return;
        }
        if flags.broken || flags.send_failed {
            return self.break_off(id, brain);
        }
        connection.flags.end_told = true;
        brain.handle_end(self.now, id, End::Finished, self);
    }

    /// Ends a connection whose send has failed, once all received bytes have been handed in. The
    /// receive goes on until then. It ends by itself, because the socket has been shut down.
    pub(super) fn break_off_if_send_failed(&mut self, id: ConnectionId, brain: &mut impl Brain) {
        let unsendable = |connection: &mut SocketConnection| {
            let flags = connection.flags;
            connection.is_open()
                && flags.send_failed
                && flags.finished
                && !connection.has_waiting_bytes()
        };
        if self.get(id).is_some_and(unsendable) {
            self.break_off(id, brain);
        }
    }

    /// Ends a broken connection, and tells the brain if it still has the connection.
    fn break_off(&mut self, id: ConnectionId, brain: &mut impl Brain) {
        self.kill_for(id, End::Broken, brain);
    }

    /// Begins or cancels the receive of a connection, as its state asks for.
    pub(super) fn settle_receive(&mut self, id: ConnectionId) {
        let connection = present(&mut self.connections, id);
        let ends = match (connection.receive, connection.wants_bytes()) {
            (Receive::Idle, true) => return self.begin_receive(id),
            (Receive::Armed, true) => connection.reassembles(),
            (Receive::Armed | Receive::Reassembling, false) => connection.phase != Phase::Dead,
            _ => false,
        };
        if ends {
            connection.receive = Receive::Ending;
            self.ring.cancel(Operation::Receive(id));
        }
    }

    fn begin_receive(&mut self, id: ConnectionId) {
        let connection = present(&mut self.connections, id);
        let once = connection.is_open() && (!connection.flags.settled || connection.flags.bulky);
        let reassembles = connection.reassembles();
        let socket = &connection.socket;
        connection.receive = if reassembles { Receive::Reassembling } else { Receive::Armed };
        match &mut connection.reassembly {
            Some(reassembly) if reassembles => self.ring.receive_rest(id, socket, reassembly),
            _ if once => self.ring.receive_once(id, socket),
            _ => self.ring.receive_many(id, socket),
        }
    }
}

impl SocketConnection {
    /// Whether the kept bytes are to be handed in next.
    fn has_next(&self) -> bool {
        self.takes_bytes() && self.reassembly.is_none() && !self.kept.is_empty()
    }

    /// The kernel receives into the reassembly buffer.
    fn is_reassembling(&self) -> bool {
        self.reassembly.as_ref().is_some_and(|reassembly| reassembly.is_in_flight())
    }

    /// Whether so much of a large packet is missing that the kernel receives into its buffer.
    fn reassembles(&self) -> bool {
        let is_worth = |reassembly: &ReassemblyBuffer| reassembly.missing() >= RECEIVED_REST_MIN;
        self.transport.is_transparent() && self.reassembly.as_deref().is_some_and(is_worth)
    }
}

/// Bytes that a client may send after its connection was closed: usually the rest of a packet.
const DISCARDED_BYTES_MAX: usize = 16 << 20;
/// The kernel receives into the reassembly buffer if at least this many bytes of the packet are
/// missing. Fewer bytes fit into one or two shared buffers, together with the next packet.
const RECEIVED_REST_MIN: usize = 16 << 10;
