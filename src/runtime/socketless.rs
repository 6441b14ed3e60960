//! An outbox without a socket, to measure what it costs to fill and to flush one.
//!
//! Each send takes all bytes at once, as with a client that reads fast.

use std::fmt;

use bytes::Bytes;

use super::chunks::Chunks;

/// The outboxes of connections that come one after the other, and the memory they borrow.
#[derive(Default)]
pub struct SocketlessOutbox {
    chunks: Chunks,
}

impl fmt::Debug for SocketlessOutbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketlessOutbox").finish_non_exhaustive()
    }
}

impl SocketlessOutbox {
    /// Appends `frames` equal frames with a payload each to an outbox, flushes them and gives the
    /// outbox back. Returns the number of sends.
    pub fn flush(&mut self, frame: &[u8], payload: &Bytes, frames: usize) -> usize {
        let mut outbox = self.chunks.outbox(None);
        for _ in 0..frames {
            outbox.append(frame, &mut self.chunks);
            outbox.append_shared(payload, &mut self.chunks);
        }
        let mut sends = 0;
        while outbox.unsent() > 0 {
            let sent = outbox.begin().bytes();
            outbox.complete(sent, &mut self.chunks);
            sends += 1;
        }
        self.chunks.give_back_outbox(outbox);
        sends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_leave_together_and_large_payloads_in_turns() {
        let (mut socketless, small) = (SocketlessOutbox::default(), Bytes::from_static(b"payload"));
        assert_eq!(socketless.flush(b"head", &small, 0), 0);
        assert_eq!(socketless.flush(b"head", &small, 100), 1);
        let large = Bytes::from(vec![0; 1 << 20]);
        assert_eq!(socketless.flush(b"head", &large, 1), 3);
    }
}
