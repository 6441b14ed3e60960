//! Received bytes on their way to the brain.
//!
//! ```text
//!   buffer --+-- all taken
//!            +-- the rest is kept, and handed in once it is whole
//!            +-- the rest is the beginning of a packet of which much is missing: that is received
//!                into its reassembly
//! ```
//! Of one connection there is never more than one receive under way, and so its bytes come in
//! order: the reassembly buffer first, and behind it what is kept.

use super::{
    connection::{Phase, Receive, SocketConnection},
    driver::Driver,
    event_loop::EventLoop,
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
        }
        if let Some(buffer) = completion.buffer {
            self.buffers.give_back(buffer);
        }
    }

    fn handle_buffer(&mut self, id: ConnectionId, buffer: BufferId, length: usize) {
        let bytes = self.buffers.filled(buffer, length);
        self.driver.counters.bytes_received += length as u64;
        let Some(connection) = self.driver.get(id) else { return };
        if !connection.keeps_bytes() {
            return self.driver.discard(id, length);
        }
        let protocol = &self.listeners.listener(connection.listener).protocol;
        let held_before = connection.transport.held_bytes();
        let received = connection.transport.receive(bytes, protocol);
        let held = connection.transport.held_bytes();
        self.driver.kept_bytes = self.driver.kept_bytes - held_before + held;
        if received.owes || !received.answer.is_empty() {
            self.driver.note_answer(id, &received);
        }
        let in_bounds = self.driver.hand_in(id, &bytes[received.mqtt], &mut self.brain);
        if !in_bounds || self.driver.keeps_too_much(held) {
            return self.driver.handle_overflow(id, &mut self.brain);
        }
        if let Some(end) = received.end {
            return self.driver.handle_transport_end(id, end, &mut self.brain);
        }
        if let Some(connection) = self.driver.get(id) {
            connection.flags.bulky = connection.reassembles();
            if connection.flags.bulky {
                self.driver.touch(id);
            }
        }
    }

    /// More of a large packet has come, or will not, if that is what was received.
    fn handle_reassembled(&mut self, id: ConnectionId, received: usize) {
        if !self.driver.get(id).is_some_and(|connection| connection.is_reassembling()) {
            return;
        }
        let in_bounds = self.driver.complete_reassembly(id, received);
        let Some(connection) = self.driver.get(id) else { return };
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
    /// A receive has completed, or will complete again.
    fn note_received(&mut self, id: ConnectionId, more: bool) {
        let Some(connection) = self.get(id) else { return };
        if !more {
            connection.receive = Receive::Idle;
            self.touch(id);
        } else if connection.receive == Receive::Ending {
            // It was told to end at a moment when the kernel could not find it.
            connection.receive = Receive::Armed;
            self.touch(id);
        }
    }

    /// Driver bytes in where they lie, behind what is kept, and keeps what is not taken. False: the
    /// shard keeps too many bytes.
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
            let taken = brain.handle_bytes(self.now, id, bytes, self);
            self.notice_taken(id, taken);
            bytes = &bytes[taken..];
        }
        self.keep(id, bytes) && self.land(id, 0, brain)
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

    /// Driver in what was kept, then the end if it has come.
    pub(super) fn feed_kept(&mut self, id: ConnectionId, brain: &mut impl Brain) {
        let Some(connection) = self.get(id) else { return };
        connection.flags.feed_due = false;
        self.touch(id);
        self.feed_reassembled(id, brain);
        if self.get(id).is_some_and(|connection| connection.has_next()) {
            let kept = self.take_kept(id);
            let taken = brain.handle_bytes(self.now, id, &kept, self);
            self.notice_taken(id, taken);
            self.put_back(id, kept, taken);
            if !self.land(id, 0, brain) {
                self.handle_overflow(id, brain);
            }
        }
        self.tell_end(id, brain);
    }

    /// Driver in a large packet if it is whole.
    fn feed_reassembled(&mut self, id: ConnectionId, brain: &mut impl Brain) {
        let Some(connection) = self.get(id).filter(|it| it.takes_bytes()) else { return };
        let Some(packet) =
            connection.reassembly.as_mut().and_then(|reassembly| reassembly.packet())
        else {
            return;
        };
        self.handed_in = packet.clone();
        let taken = brain.handle_bytes(self.now, id, &packet, self);
        self.handed_in = Bytes::new();
        self.notice_taken(id, taken);
        assert!(taken == 0 || taken == packet.len(), "the brain has said how large it is");
        if taken > 0 {
            self.forget_reassembly(id);
        }
    }

    /// A client that goes on sending after it was told to go is read from for a while, so that it
    /// comes to read why; then it is not waited for.
    fn discard(&mut self, id: ConnectionId, length: usize) {
        let Some(connection) = self.get(id) else { return };
        connection.discarded = connection.discarded.saturating_add(length);
        if connection.discarded > DISCARDED_BYTES_MAX {
            self.reset(id);
        }
    }

    /// The client will send nothing more.
    pub(super) fn handle_finished(&mut self, id: ConnectionId, brain: &mut impl Brain) {
        let Some(connection) = self.get(id) else { return };
        connection.flags.finished = true;
        let has_failed = connection.flags.send_failed;
        self.touch(id);
        if !has_failed {
            self.tell_end(id, brain);
        }
    }

    /// The connection is broken. What came before is handed in first.
    fn handle_broken(&mut self, id: ConnectionId, brain: &mut impl Brain) {
        let Some(connection) = self.get(id) else { return };
        if !connection.has_waiting_bytes() {
            return self.break_off(id, brain);
        }
        connection.flags.finished = true;
        connection.flags.broken = true;
    }

    /// Tells the brain of the end once it has been handed everything that came before.
    fn tell_end(&mut self, id: ConnectionId, brain: &mut impl Brain) {
        let Some(connection) = self.get(id) else { return };
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

    /// Ends a connection on which nothing can be sent any more, once all that has come on it was
    /// handed in. The receive goes on until then: its socket has been shut down, so it ends.
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

    /// Ends a connection that is broken, and tells the brain if it still knows it.
    fn break_off(&mut self, id: ConnectionId, brain: &mut impl Brain) {
        self.kill_for(id, End::Broken, brain);
    }

    /// Brings the receive of a connection into line with what is wanted.
    pub(super) fn settle_receive(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
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
        let Some(connection) = self.connections.get_mut(id) else { return };
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
    /// Whether what is kept is to be handed in next.
    fn has_next(&self) -> bool {
        self.takes_bytes() && self.reassembly.is_none() && !self.kept.is_empty()
    }

    /// The kernel receives into the reassembly buffer.
    fn is_reassembling(&self) -> bool {
        self.reassembly.as_ref().is_some_and(|reassembly| reassembly.is_in_flight())
    }

    /// Whether what comes next is so much of a large packet that it is received where it stays.
    fn reassembles(&self) -> bool {
        let is_worth = |reassembly: &ReassemblyBuffer| reassembly.missing() >= RECEIVED_REST_MIN;
        self.transport.is_transparent() && self.reassembly.as_deref().is_some_and(is_worth)
    }
}

/// What a client may go on sending after it was told to go: the rest of a large packet, as a rule.
const DISCARDED_BYTES_MAX: usize = 16 << 20;
/// What is missing of a packet is received into its reassembly from this size on. Less comes in one
/// buffer or two, and the beginning of the next packet with it.
const RECEIVED_REST_MIN: usize = 16 << 10;
