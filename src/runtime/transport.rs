//! What follows for a connection from what its transport makes of received bytes.
//!
//! Nothing here depends on the kind of transport:
//! [`Transport`](crate::transport::Transport) answers for all kinds.

use std::{mem, net::Shutdown};

use tracing::debug;

use super::{
    chunks::Chunks,
    connection::{Phase, SocketConnection},
    driver::Driver,
    event_loop::EventLoop,
    ring::system,
};
use crate::{
    base::{ids::ConnectionId, time::Span},
    shard::ports::{Brain, Closing, End},
    transport::{CloseCause, Protocol, Received, TransportEnd},
};

impl<B: Brain> EventLoop<B> {
    /// Goes on with TLS handshakes in the order in which their bytes came, for [`HANDSHAKES_TIME`].
    #[inline]
    pub(super) fn handle_handshakes(&mut self) {
        if !self.driver.handshakes.is_empty() {
            self.go_on_with_handshakes();
        }
    }

    #[cold]
    fn go_on_with_handshakes(&mut self) {
        let until = system::now() + HANDSHAKES_TIME;
        while let Some(id) = self.driver.handshakes.pop_front() {
            self.go_on_with_handshake(id);
            if until <= system::now() {
                break;
            }
        }
        self.driver.relieve(&mut self.brain);
    }

    fn go_on_with_handshake(&mut self, id: ConnectionId) {
        let EventLoop { brain, driver, listeners, .. } = self;
        let Some(connection) = driver.get(id) else { return };
        connection.flags.feed_due = false;
        driver.touch(id);
        let connection = driver.present(id);
        if connection.keeps_bytes() {
            let protocol = &listeners.listener(connection.listener).protocol;
            driver.unwrap(id, &mut [], protocol, brain);
        }
        driver.tell_end(id, brain);
        driver.break_off_if_send_failed(id, brain);
    }
}

impl Driver {
    /// Keeps bytes of a TLS handshake until its turn comes. Nothing more is received before. False:
    /// they are not of a handshake.
    #[must_use]
    pub(super) fn hold_handshake(&mut self, id: ConnectionId, bytes: &[u8]) -> bool {
        let connection = self.present(id);
        if !connection.transport.hold_handshake(bytes) {
            return false;
        }
        if !mem::replace(&mut connection.flags.feed_due, true) {
            self.handshakes.push_back(id);
        }
        self.note_kept(id);
        self.touch(id);
        true
    }

    /// Takes received bytes out of their transport, and hands in what they hold.
    pub(super) fn unwrap(
        &mut self,
        id: ConnectionId,
        bytes: &mut [u8],
        protocol: &Protocol,
        brain: &mut impl Brain,
    ) {
        let transport = &mut self.present(id).transport;
        let held_before = transport.held_bytes();
        let received = transport.receive(bytes, protocol);
        if held_before != transport.held_bytes() {
            self.note_kept(id);
        }
        if received.owes || !received.answer.is_empty() {
            self.note_answer(id, &received);
        }
        self.counters.count_handshake(received.handshake);
        let opened = received.opened;
        let mqtt = if opened.is_empty() { &*bytes } else { &opened[..] };
        let mqtt = &mqtt[received.mqtt];
        if !self.hand_in(id, mqtt, brain) {
            return self.handle_overflow(id, brain);
        }
        if let Some(end) = received.end {
            return self.handle_transport_end(id, end, brain);
        }
        self.watch_record(id, held_before == 0 || !mqtt.is_empty());
    }

    /// Sends what the transport answers at once.
    pub(super) fn note_answer(&mut self, id: ConnectionId, received: &Received) {
        if !received.answer.is_empty()
            && let Some(connection) = self.connections.get_mut(id)
        {
            connection.append_bare(received.answer.as_bytes(), &mut self.chunks);
        }
        self.touch(id);
    }

    /// The input has ended: the client has closed, or has sent bytes that the transport forbids.
    pub(super) fn handle_transport_end(
        &mut self,
        id: ConnectionId,
        end: TransportEnd,
        brain: &mut impl Brain,
    ) {
        match end {
            TransportEnd::Closed => self.handle_finished(id, brain),
            TransportEnd::Refused(reason) => {
                debug!(slot = id.slot, %reason, "WebSocket handshake refused");
                self.give_up_on(id, End::HandshakeRefused, brain);
            }
            TransportEnd::Failed(reason) => {
                debug!(slot = id.slot, %reason, "WebSocket frames refused");
                self.give_up_on(id, End::FramesRefused, brain);
            }
            TransportEnd::TlsFailed(reason) => {
                debug!(slot = id.slot, reason = reason.text(), "TLS refused");
                self.give_up_on(id, End::TlsFailed(reason), brain);
            }
        }
    }

    /// Ends a connection because its incomplete packet takes too much memory.
    pub(super) fn handle_overflow(&mut self, id: ConnectionId, brain: &mut impl Brain) {
        self.forget_kept(id);
        let connection = self.present(id);
        if connection.transport.set_close(CloseCause::TooLarge) {
            self.give_up_on(id, End::PartialOverflow, brain);
        } else {
            self.kill_for(id, End::PartialOverflow, brain);
        }
    }

    /// Ends a connection once its outbox is sent. The brain is told at once that it is gone.
    pub(super) fn give_up_on(&mut self, id: ConnectionId, end: End, brain: &mut impl Brain) {
        let connection = self.present(id);
        let phase = connection.phase;
        if connection.keeps_bytes() {
            self.end(id, Closing::Flush);
        }
        self.tell_gone(id, phase, end, brain);
    }

    /// Ends a connection at once, and tells the brain if it still has the connection.
    pub(super) fn kill_for(&mut self, id: ConnectionId, end: End, brain: &mut impl Brain) {
        let connection = self.present(id);
        let phase = connection.phase;
        self.kill(id);
        self.tell_gone(id, phase, end, brain);
    }

    /// Tells the brain that a connection has gone, which was in this phase. No brain has a
    /// connection that moves.
    fn tell_gone(&mut self, id: ConnectionId, phase: Phase, end: End, brain: &mut impl Brain) {
        match phase {
            Phase::Open => brain.handle_end(self.now, id, end, self),
            Phase::Moving(_) => self.counters.ended_moving += 1,
            Phase::Flushing | Phase::Lingering | Phase::Dead => {}
        }
    }
}

/// Time for steps of TLS handshakes in one turn. A step begins while some of it is left; it takes
/// about 0.15 ms with a P-256 certificate, and the longer the larger an RSA key is.
const HANDSHAKES_TIME: Span = Span::from_millis(1);

impl SocketConnection {
    /// Completes the open frame, and appends what the transport itself has to send.
    pub(super) fn settle_transport(&mut self, chunks: &mut Chunks, stopping: bool) {
        if self.flags.send_failed || self.phase == Phase::Dead {
            return;
        }
        match &mut self.outbox {
            Some(outbox) if outbox.is_in_flight() => return,
            Some(outbox) => outbox.close_frame(),
            None => {}
        }
        let closing = self.phase == Phase::Flushing;
        if closing && stopping {
            self.transport.set_close(CloseCause::Stopping);
        }
        let SocketConnection { transport, outbox, .. } = self;
        let head = transport.head();
        transport.write_owed(closing, |bytes| {
            outbox.get_or_insert_with(|| chunks.outbox(head)).append_bare(bytes, chunks);
        });
        self.seal_outbox(chunks);
        let end = if closing { self.transport.take_end() } else { Vec::new() };
        if !end.is_empty() {
            let outbox = self.outbox.get_or_insert_with(|| chunks.outbox(head));
            outbox.append_sealed(&end, chunks);
        }
    }

    /// Seals what was appended since the last send, behind what TLS itself owes.
    fn seal_outbox(&mut self, chunks: &mut Chunks) {
        let head = self.transport.head();
        let Some(tls) = self.transport.sealer() else { return };
        if self.outbox.is_none() && !tls.owes() {
            return;
        }
        let outbox = self.outbox.get_or_insert_with(|| chunks.outbox(head));
        if !outbox.seal(tls, chunks) {
            // The client gets nothing more, so that its receive ends as well. It fails if that has
            // happened.
            drop(self.socket.shutdown(Shutdown::Both));
        }
        if let Some(empty) = self.outbox.take_if(|outbox| outbox.unsent() == 0) {
            chunks.give_back_outbox(empty);
        }
    }

    fn append_bare(&mut self, bytes: &[u8], chunks: &mut Chunks) {
        let head = self.transport.head();
        self.outbox.get_or_insert_with(|| chunks.outbox(head)).append_bare(bytes, chunks);
    }
}
