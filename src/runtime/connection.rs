//! One connection, as the runtime sees it.

use std::{
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{outbox::Outbox, ring::reassembly::ReassemblyBuffer};
use crate::{base::ids::ShardId, shard::ports::Arrival, transport::Transport};

/// How far a connection has come.
///
/// ```text
///            hand_over           receive and send are done
///   Open -------------> Moving ------------------------------> (another shard)
///    |     close(Flush)            all is sent             the client closes
///    +------------------> Flushing ------------> Lingering -----------------+
///    |     close(Abort), broken, or out of time, from any                   v
///    +-------------------------------------------------------------------> Dead
/// ```
/// The brain knows of open connections only. A dead one keeps its permit until its last operation
/// has completed, so that no completion finds another connection there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    Moving(ShardId),
    Flushing,
    Lingering,
    Dead,
}

/// Whether a receive is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receive {
    Idle,
    /// Into the shard's buffers.
    Armed,
    /// Into the connection's reassembly.
    Reassembling,
    /// It was told to end, and has not yet.
    Ending,
}

pub(super) struct SocketConnection {
    pub(super) socket: TcpStream,
    pub(super) listener: u16,
    pub(super) permit: ConnectionPermit,
    pub(super) phase: Phase,
    pub(super) receive: Receive,
    /// There is one while there is something to say.
    pub(super) outbox: Option<Box<Outbox>>,
    /// Bytes that the brain has not taken; there is memory behind it only while there are any.
    pub(super) kept: Vec<u8>,
    /// The large packet that is coming, or that the brain has not taken; what is kept follows it.
    pub(super) reassembly: Option<Box<ReassemblyBuffer>>,
    /// What lies between the socket and MQTT.
    pub(super) transport: Transport,
    pub(super) flags: SocketFlags,
    /// Bytes that came after the connection was closed.
    pub(super) discarded: usize,
}

/// What is true of a connection besides its phase.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
pub(super) struct SocketFlags {
    /// The brain wants no bytes.
    pub(super) paused: bool,
    /// The client does not read its answers, so no more of its packets are read.
    pub(super) throttled: bool,
    /// The brain has taken the first bytes: the connection is where it stays.
    pub(super) settled: bool,
    /// The latest packets were large: the next one may be, and then the rest of it is to land.
    pub(super) bulky: bool,
    /// What has come on another connection is to be handed in first.
    pub(super) follows: bool,
    /// That has been waited for.
    pub(super) may_follow: bool,
    /// Kept bytes will be handed in at the next turn.
    pub(super) feed_due: bool,
    /// The brain wants to know when the outbox has drained.
    pub(super) wants_drained: bool,
    /// The client will send nothing more.
    pub(super) finished: bool,
    /// Nor can it be sent anything: the connection is broken.
    pub(super) broken: bool,
    /// The brain knows that.
    pub(super) end_told: bool,
    /// A send has failed; the receive will say so too.
    pub(super) send_failed: bool,
    /// Operations were told to end by a shutdown of the socket.
    pub(super) shut_down: bool,
    /// The connection is on the list of those to be looked at when the turn ends.
    pub(super) touched: bool,
}

impl SocketFlags {
    /// Whether nothing is to be handed in, for whatever reason.
    fn is_held(self) -> bool {
        self.paused || self.throttled || self.follows
    }
}

impl SocketConnection {
    /// Where it came from. A client that has gone already may have no address any more.
    pub(super) fn arrival(&self) -> Arrival {
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut peer = self.socket.peer_addr().unwrap_or(unknown);
        // A socket for both versions of IP has clients of IPv4 under addresses of IPv6.
        peer.set_ip(peer.ip().to_canonical());
        Arrival { listener: self.listener, peer, surplus: self.permit.surplus, handed_over: false }
    }

    pub(super) fn new(
        socket: TcpStream,
        listener: u16,
        transport: Transport,
        permit: ConnectionPermit,
    ) -> SocketConnection {
        SocketConnection {
            socket,
            listener,
            permit,
            phase: Phase::Open,
            receive: Receive::Idle,
            outbox: None,
            kept: Vec::new(),
            reassembly: None,
            transport,
            flags: SocketFlags::default(),
            discarded: 0,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether bytes can be handed to the brain as they come.
    pub(super) fn takes_bytes(&self) -> bool {
        self.is_open() && !self.flags.is_held() && !self.flags.feed_due
    }

    /// Whether more bytes should be received.
    pub(super) fn wants_bytes(&self) -> bool {
        let wants = match self.phase {
            Phase::Open => !self.flags.is_held() && !self.flags.feed_due,
            Phase::Flushing | Phase::Lingering => true,
            Phase::Moving(_) | Phase::Dead => false,
        };
        wants && !self.flags.finished
    }

    /// Whether bytes that nobody takes now are kept for later.
    pub(super) fn keeps_bytes(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Moving(_))
    }

    /// Bytes that the brain has not taken or been handed, and the room for those that a reassembly
    /// waits for.
    pub(super) fn kept_len(&self) -> usize {
        self.transport.held_bytes()
            + self.kept.len()
            + self.reassembly.as_ref().map_or(0, |reassembly| reassembly.room())
    }

    pub(super) fn unsent(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.unsent())
    }

    pub(super) fn is_sending(&self) -> bool {
        self.outbox.as_ref().is_some_and(|outbox| outbox.is_in_flight())
    }

    /// Whether any operation is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.receive != Receive::Idle || self.is_sending()
    }
}

/// A connection on its way to another shard.
pub(super) struct Moved {
    pub(super) socket: TcpStream,
    pub(super) listener: u16,
    pub(super) permit: ConnectionPermit,
    pub(super) kept: Vec<u8>,
    pub(super) reassembly: Option<Box<ReassemblyBuffer>>,
    pub(super) transport: Transport,
    pub(super) finished: bool,
}

/// How many connections the broker holds, and how many it may hold. Shared by all shards; used
/// once in a connection's life.
#[derive(Clone, Debug)]
pub(super) struct ConnectionCount {
    count: Arc<AtomicUsize>,
    max: usize,
    /// Those that are let in beyond that, to be told so.
    surplus_max: usize,
}

/// One connection's permit in the [`ConnectionCount`], free again when it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    count: Arc<AtomicUsize>,
    surplus: bool,
}

impl ConnectionCount {
    pub(super) fn new(max: usize, surplus_max: usize) -> ConnectionCount {
        ConnectionCount { count: Arc::default(), max, surplus_max }
    }

    /// A permit, if there is one.
    pub(super) fn enter(&self) -> Option<ConnectionPermit> {
        // Relaxed: the number stands for itself.
        let before = self.count.fetch_add(1, Ordering::Relaxed);
        if before < self.max + self.surplus_max {
            return Some(ConnectionPermit {
                count: Arc::clone(&self.count),
                surplus: before >= self.max,
            });
        }
        self.count.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

impl ConnectionPermit {
    /// Whether the connection is one too many, let in to be told so.
    pub(super) fn is_surplus(&self) -> bool {
        self.surplus
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_after_its_connection() {
        let connection_count = ConnectionCount::new(2, 0);
        let first = connection_count.enter();
        let second = connection_count.enter();
        assert!(first.is_some() && second.is_some());
        assert!(connection_count.enter().is_none());
        drop(first);
        assert!(connection_count.enter().is_some());
    }

    #[test]
    fn places_beyond_the_limit_are_marked_and_limited_too() {
        let connection_count = ConnectionCount::new(1, 1);
        let [first, second, third] =
            [connection_count.enter(), connection_count.enter(), connection_count.enter()];
        assert!(first.is_some_and(|permit| !permit.surplus));
        assert!(second.is_some_and(|permit| permit.surplus));
        assert!(third.is_none());
        assert!(connection_count.enter().is_some_and(|permit| !permit.surplus));
    }
}
