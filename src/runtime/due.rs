//! What the brain is told in the next turn: kept bytes, outboxes that have drained.

use std::mem;

use super::driver::Driver;
use crate::base::ids::{ConnectionId, ShardId};

/// What the brain is to be told in the next turn.
#[derive(Clone, Copy, Debug)]
pub(super) enum Due {
    /// Kept bytes can be handed in again.
    Feed(ConnectionId),
    Drained(ConnectionId),
    Posted(ShardId),
}

impl Driver {
    /// Whether the coming turn has something to do by itself.
    pub(super) fn has_due(&self) -> bool {
        !self.due.is_empty() || !self.touched.is_empty() || !self.handshakes.is_empty()
    }

    /// Tells the brain that an outbox has drained, if the brain has asked for that and it has.
    pub(super) fn notice_drained(&mut self, id: ConnectionId) {
        let limit = self.limits.outbox_bytes_max;
        let connection = self.present(id);
        let unsent = connection.unsent();
        if connection.flags.wants_drained && unsent <= limit / DRAINED_PART {
            connection.flags.wants_drained = false;
            // Each notice makes the brain send on, and ask again: a second one would never end.
            if !mem::replace(&mut connection.flags.drained_due, true) {
                self.due.push(Due::Drained(id));
            }
        }
        self.notice_readable(id);
    }

    /// Begins to tell the brain that an outbox has drained, if the connection is still open.
    pub(super) fn begin_drained(&mut self, id: ConnectionId) -> bool {
        self.get(id).is_some_and(|connection| {
            connection.flags.drained_due = false;
            connection.is_open()
        })
    }

    /// Reads on from a client that has read enough of its answers.
    fn notice_readable(&mut self, id: ConnectionId) {
        let limit = self.limits.outbox_bytes_max;
        let connection = self.present(id);
        if connection.flags.throttled && connection.unsent() < limit {
            connection.flags.throttled = false;
            self.feed_later(id);
        }
    }

    /// Hands in kept bytes, or the end of the connection, in the next turn, if there are any.
    pub(super) fn feed_later(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.progress.begin(self.now);
        if !connection.flags.feed_due {
            connection.flags.feed_due = true;
            self.due.push(Due::Feed(id));
        }
    }
}

/// An outbox counts as drained when no more than this part of its limit is unsent.
const DRAINED_PART: usize = 4;
