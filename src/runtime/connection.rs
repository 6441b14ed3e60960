//! One connection, as the runtime sees it.

use std::{
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use super::{
    outbox::Outbox,
    partials::{Pool, Progress, Share},
    ring::{reassembly::ReassemblyBuffer, system, vector::SEND_BYTES_MAX},
    stalled::Reading,
};
use crate::{
    base::{
        ids::ShardId,
        local::Credentials,
        time::{Moment, Span},
    },
    shard::ports::{Arrival, Payer},
    transport::{Transport, proxy::Header, tls::Certified},
};

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
/// The brain knows of open connections only. A dead connection keeps its slot and its permit until
/// its last operation has completed, so that a late completion never finds another connection.
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
    /// It was cancelled, and has not ended yet.
    Ending,
}

pub(super) struct SocketConnection {
    pub(super) socket: TcpStream,
    pub(super) listener: u16,
    pub(super) permit: ConnectionPermit,
    pub(super) phase: Phase,
    pub(super) receive: Receive,
    /// The unsent bytes; `None` while there are none.
    pub(super) outbox: Option<Box<Outbox>>,
    /// Bytes that the brain has not taken. Owns memory only while there are any.
    pub(super) kept: Vec<u8>,
    /// The large packet that is arriving, or that the brain has not taken. Kept bytes follow it.
    pub(super) reassembly: Option<Box<ReassemblyBuffer>>,
    /// What lies between the socket and MQTT.
    pub(super) transport: Transport,
    /// What a proxy has said of the client.
    pub(super) announced: Option<Box<Header>>,
    pub(super) flags: SocketFlags,
    /// Bytes that came after the connection was closed.
    pub(super) discarded: usize,
    /// Bytes that have left the outbox since the brain asked, or since it was empty.
    pub(super) left: u64,
    /// Who pays for its incomplete packet.
    pub(super) payer: Payer,
    /// What it has of the memory for incomplete packets.
    pub(super) share: Share,
    pub(super) progress: Progress,
    pub(super) reading: Reading,
}

/// What is true of a connection besides its phase.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
pub(super) struct SocketFlags {
    /// The brain wants no bytes.
    pub(super) paused: bool,
    /// The client does not read its answers, so no more of its packets are read.
    pub(super) throttled: bool,
    /// The brain has taken the first bytes, so the connection is at its home shard and stays there.
    pub(super) settled: bool,
    /// The latest packets were large, so the next one may be received into a reassembly buffer.
    pub(super) bulky: bool,
    /// The connection waits until the bytes of an earlier connection have been handed in.
    pub(super) follows: bool,
    /// The connection has waited for the earlier one and need not wait again.
    pub(super) may_follow: bool,
    /// Kept bytes will be handed in at the next turn.
    pub(super) feed_due: bool,
    /// The brain wants to know when the outbox has drained.
    pub(super) wants_drained: bool,
    /// The brain is told in the next turn that the outbox has drained.
    pub(super) drained_due: bool,
    /// The client will send nothing more.
    pub(super) finished: bool,
    /// The connection is broken: nothing can be sent or received.
    pub(super) broken: bool,
    /// The brain has been told of the end.
    pub(super) end_told: bool,
    /// A send has failed; the receive will fail as well.
    pub(super) send_failed: bool,
    /// A trace may be about the connection.
    pub(super) traced: bool,
    /// The socket was shut down to end its operations.
    pub(super) shut_down: bool,
    /// The connection is on the list of those to be settled when the turn ends.
    pub(super) touched: bool,
}

impl SocketFlags {
    /// Whether no bytes may be handed in, for any reason.
    fn is_held(self) -> bool {
        self.paused || self.throttled || self.follows
    }

    /// Whether a send is to be looked at more closely. One branch for both reasons.
    #[inline]
    pub(super) fn is_special(self) -> bool {
        self.send_failed | self.traced
    }
}

impl SocketConnection {
    /// Listener and peer address.
    pub(super) fn arrival(&self, connections_max: usize) -> Arrival {
        let (listener, surplus, peer) = (self.listener, self.permit.surplus, self.peer());
        Arrival { listener, peer, surplus, connections_max, handed_over: false }
    }

    /// The address that a proxy has said, else that of the socket. A client that has gone already
    /// may have none any more.
    pub(super) fn peer(&self) -> SocketAddr {
        if let Some(client) = self.announced.as_ref().and_then(|header| header.client) {
            return client;
        }
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let local = || system::credentials(&self.socket).map(Credentials::as_address);
        let mut peer = self.socket.peer_addr().ok().or_else(local).unwrap_or(unknown);
        // A dual-stack socket reports IPv4 clients with IPv4-mapped IPv6 addresses.
        peer.set_ip(peer.ip().to_canonical());
        peer
    }

    /// Who the client is by its certificate, which it has shown here or to a proxy.
    pub(super) fn certified(&self) -> Certified {
        let by_proxy = self.announced.as_ref().map(|header| &header.certified);
        match (self.transport.certified(), by_proxy) {
            (Certified::Nobody, Some(certified)) => certified.clone(),
            (certified, _) => certified,
        }
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
            announced: None,
            flags: SocketFlags::default(),
            discarded: 0,
            left: 0,
            payer: Payer::default(),
            share: Share::default(),
            progress: Progress::default(),
            reading: Reading::default(),
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

    /// Whether bytes that the brain does not take now are kept for later.
    pub(super) fn keeps_bytes(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Moving(_))
    }

    /// Bytes that the brain has not taken, and the memory that a reassembly buffer has reserved for
    /// bytes to come.
    pub(super) fn kept_len(&self) -> usize {
        self.transport.held_bytes()
            + self.kept.len()
            + self.reassembly.as_ref().map_or(0, |reassembly| reassembly.room())
    }

    /// How many bytes of the packet or of the TLS record that is arriving have come.
    pub(super) fn come(&self) -> usize {
        let packet = self.reassembly.as_ref().map_or(self.kept.len(), |it| it.len());
        packet + self.transport.record_bytes()
    }

    /// Whether nothing of a packet has come that the brain has not taken.
    pub(super) fn is_between_packets(&self) -> bool {
        self.kept.is_empty() && self.reassembly.is_none()
    }

    /// The pool that the memory for its incomplete packet is from.
    pub(super) fn pool(&self) -> Pool {
        match (self.keeps_bytes(), self.payer.is_let_in) {
            (false, _) => Pool::Leaving,
            (true, true) => Pool::Clients,
            (true, false) => Pool::Strangers,
        }
    }

    /// Whether the client has closed its side and all that it sent has been handed in. It is not
    /// known while a receive is under way.
    pub(super) fn has_gone(&self) -> bool {
        self.receive == Receive::Idle
            && self.kept.is_empty()
            && self.reassembly.is_none()
            && (self.flags.finished || system::has_ended(&self.socket))
    }

    pub(super) fn unsent(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.unsent())
    }

    /// Bytes of the send that can be begun now.
    pub(super) fn next_send(&self) -> usize {
        let waiting = self.outbox.as_ref().filter(|outbox| !outbox.is_in_flight());
        waiting.map_or(0, |outbox| outbox.unsent().min(SEND_BYTES_MAX))
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
    pub(super) announced: Option<Box<Header>>,
    pub(super) finished: bool,
}

impl From<SocketConnection> for Moved {
    fn from(connection: SocketConnection) -> Moved {
        let SocketConnection { socket, listener, permit, kept, reassembly, .. } = connection;
        let SocketConnection { transport, announced, flags, .. } = connection;
        let finished = flags.finished;
        Moved { socket, listener, permit, kept, reassembly, transport, announced, finished }
    }
}

impl From<Moved> for SocketConnection {
    fn from(moved: Moved) -> SocketConnection {
        let Moved { socket, listener, permit, transport, .. } = moved;
        let mut connection = SocketConnection::new(socket, listener, transport, permit);
        connection.kept = moved.kept;
        connection.reassembly = moved.reassembly;
        connection.announced = moved.announced;
        connection.flags.finished = moved.finished;
        connection
    }
}

/// How many connections the broker holds, and how many it may hold. All shards share it, and use
/// it only when a connection begins and ends.
#[derive(Clone, Debug)]
pub(super) struct ConnectionCount {
    count: Arc<AtomicUsize>,
    max: usize,
    /// Connections beyond the limit that are accepted to be told that the broker is full.
    surplus_max: usize,
    /// When the log last said that the broker is full, in nanoseconds; 0 is never.
    told_at: Arc<AtomicU64>,
}

/// How often the log says that the broker is full.
const FULL_TOLD_EVERY: Span = Span::from_secs(60);

/// The permit of one connection. Dropping it makes room for another one in [`ConnectionCount`].
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    count: Arc<AtomicUsize>,
    surplus: bool,
}

impl ConnectionCount {
    pub(super) fn new(max: usize, surplus_max: usize) -> ConnectionCount {
        ConnectionCount { count: Arc::default(), max, surplus_max, told_at: Arc::default() }
    }

    /// Whether it is time for the log to say that the broker is full. True for one shard only.
    pub(super) fn tells_full(&self, now: Moment) -> bool {
        // Relaxed: the moment guards no other memory.
        let told_at = self.told_at.load(Ordering::Relaxed);
        let is_due = told_at == 0 || Moment::from_nanos(told_at) + FULL_TOLD_EVERY <= now;
        let tell = |from, to| {
            self.told_at.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        is_due && tell(told_at, now.as_nanos())
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// A permit, if there is one.
    pub(super) fn enter(&self) -> Option<ConnectionPermit> {
        // Relaxed: the number guards no other memory.
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
    /// Whether the connection exceeds the limit, and was accepted only to be told so.
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
    fn one_shard_says_that_the_broker_is_full_and_not_often() {
        let connection_count = ConnectionCount::new(1, 0);
        let of_another_shard = connection_count.clone();
        let now = Moment::from_nanos(1);
        assert!(connection_count.tells_full(now));
        assert!(!of_another_shard.tells_full(now));
        assert!(of_another_shard.tells_full(now + FULL_TOLD_EVERY));
        assert!(!connection_count.tells_full(now + FULL_TOLD_EVERY));
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
