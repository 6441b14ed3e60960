//! Connections whose MQTT comes in a WebSocket: where the codec meets the socket.
//!
//! Received bytes are unmasked where they lie, and handed in like any others. What is to be sent
//! is put into frames when the turn ends, a frame for each send.

use tracing::debug;

use super::{
    chunks::Chunks,
    connection::{Phase, SocketConnection},
    driver::Driver,
    event_loop::EventLoop,
};
use crate::{
    base::ids::ConnectionId,
    shard::ports::{Brain, Closing, End},
    transport::{
        Protocol,
        websocket::{self, CloseCode, Handshake, Refusal},
    },
};

impl<B: Brain> EventLoop<B> {
    /// Takes received bytes for what they are: a request for a WebSocket, or its frames.
    pub(super) fn handle_wrapped(&mut self, id: ConnectionId, buffer: u16, length: u32) {
        let bytes = self.buffers.filled_mut(buffer, length as usize);
        let connection = self.driver.get(id);
        let Some(websocket) = connection.and_then(|it| it.websocket.as_deref_mut()) else { return };
        if websocket.is_requested() {
            return self.handle_request(id, buffer, length);
        }
        let (data, end) = websocket.read(bytes);
        // A Pong may be due.
        self.driver.touch(id);
        if !self.driver.hand_in(id, &bytes[data], &mut self.brain) {
            return self.handle_overflow(id);
        }
        self.handle_frames_end(id, end);
    }

    /// Collects a request, and answers it when it is whole.
    fn handle_request(&mut self, id: ConnectionId, buffer: u16, length: u32) {
        let bytes = self.buffers.filled(buffer, length as usize);
        if !self.driver.keep(id, bytes) {
            return self.handle_overflow(id);
        }
        let mut kept = self.driver.take_kept(id);
        let Some(connection) = self.driver.get(id) else { return };
        let protocol = &self.listeners.listener(connection.listener).protocol;
        let (Some(websocket), Protocol::WebSocket(policy)) =
            (connection.websocket.as_deref_mut(), protocol)
        else {
            return;
        };
        match websocket.handle_request(&kept, policy) {
            Handshake::Incomplete => self.driver.put_back(id, kept, 0),
            Handshake::Accepted { taken, answer } => {
                // A client that did not wait for the answer has sent frames already.
                let (data, end) = websocket.read(&mut kept[taken..]);
                self.driver.send_bare(id, answer.as_bytes());
                kept.truncate(taken + data.end);
                self.driver.put_back(id, kept, taken + data.start);
                self.driver.feed_kept(id, &mut self.brain);
                self.handle_frames_end(id, end);
            }
            Handshake::Refused(refusal) => {
                self.driver.chunks.give_back_kept(kept);
                self.refuse_handshake(id, refusal);
            }
        }
    }

    fn refuse_handshake(&mut self, id: ConnectionId, refusal: Refusal) {
        debug!(slot = id.slot, reason = %refusal, "WebSocket handshake refused");
        self.driver.counters.handshakes_refused += 1;
        self.driver.send_bare(id, refusal.answer().as_bytes());
        self.give_up_on(id);
    }

    /// Nothing more comes: the client has closed, or has sent what is no frame.
    fn handle_frames_end(&mut self, id: ConnectionId, end: Option<websocket::FramesEnd>) {
        match end {
            None => {}
            Some(websocket::FramesEnd::Closed(_)) => {
                self.driver.handle_finished(id, &mut self.brain);
            }
            Some(websocket::FramesEnd::Failed(failure)) => {
                debug!(slot = id.slot, reason = %failure, "WebSocket frames refused");
                self.driver.counters.frames_refused += 1;
                self.give_up_on(id);
            }
        }
    }

    fn handle_overflow(&mut self, id: ConnectionId) {
        self.driver.note_overflow();
        let connection = self.driver.get(id);
        if let Some(websocket) = connection.and_then(|it| it.websocket.as_deref_mut()) {
            websocket.set_close(CloseCode::TOO_BIG);
        }
        self.give_up_on(id);
    }

    /// Ends a connection after what it is still to be told; to the brain it is broken.
    fn give_up_on(&mut self, id: ConnectionId) {
        let Some(connection) = self.driver.get(id) else { return };
        let (open, ended) = (connection.is_open(), !connection.keeps_bytes());
        if !ended {
            self.driver.end(id, Closing::Flush);
        }
        if open {
            self.brain.handle_end(self.driver.now, id, End::Broken, &mut self.driver);
        }
    }
}

impl Driver {
    /// Sends bytes that are in no frame of data.
    fn send_bare(&mut self, id: ConnectionId, bytes: &[u8]) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.append_bare(bytes, &mut self.chunks);
            self.touch(id);
        }
    }
}

impl SocketConnection {
    /// Puts what is to be sent now into a frame, and behind it the frames that the WebSocket
    /// itself owes: one Pong for each send at the most, however many Pings have come.
    pub(super) fn settle_frames(&mut self, chunks: &mut Chunks, stopping: bool) {
        let Some(websocket) = self.websocket.as_deref_mut() else { return };
        if self.flags.send_failed || self.phase == Phase::Dead {
            return;
        }
        match &mut self.outbox {
            Some(outbox) if outbox.is_in_flight() => return,
            Some(outbox) => outbox.close_frame(),
            None => {}
        }
        let pong = websocket.take_pong();
        let mut close = None;
        if self.phase == Phase::Flushing {
            if stopping {
                websocket.set_close(CloseCode::GOING_AWAY);
            }
            close = websocket.take_close();
        }
        if let Some(pong) = pong {
            self.append_bare(pong.frame(), chunks);
        }
        if let Some(close) = close {
            self.append_bare(&close, chunks);
        }
    }

    fn append_bare(&mut self, bytes: &[u8], chunks: &mut Chunks) {
        self.outbox.get_or_insert_with(|| chunks.outbox(true)).append_bare(bytes, chunks);
    }
}
