//! A connection waits until the bytes that came on an earlier one have been handed in.
//!
//! A client that reconnects may have sent bytes on its earlier connection just before. They may
//! still be in the socket or in the ring when the new CONNECT arrives through another shard.

use super::{connection::SocketConnection, driver::Driver, ring::system};
use crate::base::{
    ids::ConnectionId,
    time::{Moment, Span},
};

/// A connection that waits for another one.
#[derive(Debug)]
pub(super) struct Follower {
    earlier: ConnectionId,
    later: ConnectionId,
    until: Moment,
    /// The socket of the earlier connection was empty, so all of its bytes are in completions or
    /// have been handed in.
    was_empty: bool,
}

impl Driver {
    /// Whether `later` may go on at once: it has waited already, or all bytes of `earlier` have
    /// been handed in, or too many connections wait. False: it waits from now on.
    pub(super) fn may_follow(&mut self, earlier: ConnectionId, later: ConnectionId) -> bool {
        let was_empty = self.has_empty_socket(earlier);
        let is_read = was_empty && !self.reaping && !self.ring.has_completions();
        if is_read && !self.has_waiting_bytes(earlier) {
            return true;
        }
        let until = self.now + FOLLOW_WITHIN;
        let is_full = self.followers.len() == FOLLOWERS_MAX;
        let Some(connection) = self.connections.get_mut(later) else { return true };
        if connection.flags.may_follow || is_full {
            return true;
        }
        connection.flags.follows = true;
        // Completions that are being handled now may be older than this look at the socket.
        let was_empty = was_empty && !self.reaping;
        self.followers.push(Follower { earlier, later, until, was_empty });
        self.touch(later);
        false
    }

    /// Lets the connections go on that have waited for long enough. The caller has handled all
    /// completions.
    pub(super) fn release_followers(&mut self) {
        let mut index = 0;
        while let Some(follower) = self.followers.get(index) {
            let (earlier, later, until) = (follower.earlier, follower.later, follower.until);
            let is_empty = self.has_empty_socket(earlier);
            let is_read = follower.was_empty || is_empty && !self.ring.has_completions();
            if is_read && !self.has_waiting_bytes(earlier) || until <= self.now {
                self.followers.swap_remove(index);
                self.release_follower(later);
            } else {
                self.followers[index].was_empty = follower.was_empty || is_empty;
                index += 1;
            }
        }
    }

    fn release_follower(&mut self, later: ConnectionId) {
        let Some(connection) = self.get(later) else { return };
        connection.flags.follows = false;
        connection.flags.may_follow = true;
        self.feed_later(later);
    }

    /// When the first waiting connection goes on in any case.
    pub(super) fn next_release(&self) -> Option<Moment> {
        self.followers.iter().map(|follower| follower.until).min()
    }

    fn has_empty_socket(&self, id: ConnectionId) -> bool {
        let connection = self.connections.get(id).filter(|connection| connection.is_open());
        connection.is_none_or(|connection| !system::has_unread(&connection.socket))
    }

    /// Whether bytes are kept that the brain will take once it goes on with the connection.
    fn has_waiting_bytes(&self, id: ConnectionId) -> bool {
        self.connections.get(id).is_some_and(SocketConnection::has_waiting_bytes)
    }
}

impl SocketConnection {
    /// Whether bytes are kept that the brain will take once it goes on with the connection.
    pub(super) fn has_waiting_bytes(&self) -> bool {
        self.is_open()
            && !self.takes_bytes()
            && (!self.kept.is_empty() || self.reassembly.is_some())
    }
}

/// Connections of a shard that may wait. A further one does not wait.
const FOLLOWERS_MAX: usize = 256;
/// How long a connection waits at the most.
const FOLLOW_WITHIN: Span = Span::from_secs(1);
