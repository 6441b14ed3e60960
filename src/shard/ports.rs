//! What a shard can make happen, and what can happen to it.
//!
//! [`Ports`] is everything that a shard asks of the world; [`Brain`] is everything that the world
//! tells a shard. The runtime drives a [`Brain`] on a real ring; a test drives it on nothing.

#[cfg(test)]
pub(super) mod fake;

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;

use super::{
    ask::{Answer, Question},
    events::Watcher,
    letter::LetterBatch,
    rules::Rules,
    store_figures::StoreFigures,
    trace::Tap,
};
use crate::{
    base::{
        ids::{ConnectionId, ShardId},
        time::{Moment, Span},
    },
    storage::RecordBatch,
    transport::{
        proxy::ProxyFailure,
        tls::{Certified, TlsFailure},
    },
};

/// Where a connection came from.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Which of the configured listeners accepted it, counted from zero.
    pub listener: u16,
    pub peer: SocketAddr,
    /// The broker already holds as many connections as it may.
    pub surplus: bool,
    /// How many connections the broker may hold.
    pub connections_max: usize,
    /// Another shard has had the connection before, and has counted it.
    pub handed_over: bool,
}

/// Who pays for the memory that a connection takes before the brain takes its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Payer {
    /// The same number for all connections of one account.
    pub account: u64,
    /// The client has been let in.
    pub is_let_in: bool,
}

/// How a connection ended from the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client will send nothing more; all that it sent has been handed in. It may still read,
    /// so the shard owes a [`Ports::close`].
    Finished,
    /// Reset or failed: nothing can be sent any more and the connection is gone.
    Broken,
    /// As `Broken`, after its request for a WebSocket was answered with an error.
    HandshakeRefused,
    /// As `Broken`, after invalid WebSocket frames, or text.
    FramesRefused,
    /// As `Broken`, after what is not the TLS that the listener speaks.
    TlsFailed(TlsFailure),
    /// As `Broken`, because the connection did not begin with a valid header of a known proxy.
    ProxyRefused(ProxyFailure),
    /// As `Broken`, because incomplete packets took too much memory, most of it for the account of
    /// this client.
    PartialOverflow,
    /// The client has begun a packet and does not send the rest. It may still read, so the shard
    /// owes a [`Ports::close`].
    PacketTimeout,
    /// Bytes wait for the client, and it reads none. The shard owes a [`Ports::close`].
    Stalled,
}

/// How the shard wants a connection closed. Either way the shard hears no more of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// Send what is in the outbox, within a bounded time, then close.
    Flush,
    /// Close at once; what is unsent is dropped.
    Abort,
}

pub use crate::access::{Finding, HookCall, Secret, Verification};

/// The bounds by which the lengths of turns are told, in microseconds.
pub const TURN_BOUNDS: [u64; 9] = [5, 20, 50, 100, 500, 1_000, 5_000, 10_000, 100_000];

/// How busy a shard has been since it started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// Time spent working rather than sleeping.
    pub busy: Span,
    /// Turns taken.
    pub turns: u64,
    /// Turns that took longer than 10 ms.
    pub long_turns: u64,
    /// Half of all turns were shorter than this.
    pub turn_p50: Span,
    /// All but one turn in a hundred were shorter than this.
    pub turn_p99: Span,
    /// How many turns took as long as each of [`TURN_BOUNDS`] or less.
    pub turns_within: [u64; TURN_BOUNDS.len()],
    /// Bytes received from clients.
    pub bytes_received: u64,
    /// Bytes sent to clients.
    pub bytes_sent: u64,
    /// Connections closed at once because the broker was full. The brain never hears of them.
    pub connections_refused: u64,
    /// Connections that ended on their way from one shard to another. No brain hears of that.
    pub ended_moving: u64,
    /// Times that the system could not accept a connection.
    pub accept_errors: u64,
    /// TLS handshakes that were completed without an earlier session.
    pub handshakes_full: u64,
    /// TLS handshakes that resumed an earlier session.
    pub handshakes_resumed: u64,
    /// TLS handshakes that were begun and not completed.
    pub handshakes_failed: u64,
}

/// How a client takes the unsent bytes of its connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backlog {
    /// Since when there have been unsent bytes; `None` if there are none.
    pub since: Option<Moment>,
    /// When some have left last, or have begun to wait.
    pub moved: Option<Moment>,
    /// Bytes that have left since then, or since they were counted last.
    pub taken: u64,
}

/// What the runtime of a shard keeps for clients, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldByRuntime {
    /// What each connection takes by itself.
    pub connections: usize,
    /// Unsent bytes, without large payloads.
    pub outboxes: usize,
    /// Incomplete packets, with the room made for them.
    pub incomplete: usize,
    /// Large payloads that came to this shard, wherever they are referred to.
    pub payloads: usize,
    /// Letters that this shard has written and that were not read, without large payloads.
    pub letters: usize,
}

/// What a shard may ask of the world. No call blocks, and none calls the shard back.
///
/// Calls that name a connection which has gone do nothing.
pub trait Ports {
    /// Bytes that the connection's outbox takes before it is full; 0 if it is full or gone.
    ///
    /// The shard sends a PUBLISH only while there is room. Answers to the client's own packets are
    /// always accepted. If they exceed the limit by far, the runtime stops reading from the client
    /// until the client has read some of them.
    fn outbox_room(&self, connection: ConnectionId) -> usize;

    /// How the client takes what is in the connection's outbox. A later call counts from this one.
    fn take_backlog(&mut self, connection: ConnectionId) -> Backlog;

    /// Appends a copy of `frame` to the outbox. It is sent when the turn ends.
    fn send(&mut self, connection: ConnectionId, frame: &[u8]);

    /// Appends a copy of `head`, then `payload`: by reference when it is large.
    fn send_shared(&mut self, connection: ConnectionId, head: &[u8], payload: &Bytes);

    /// A part of the bytes that are being handed in, as memory that outlives the call. Bytes of a
    /// large packet are shared without a copy.
    fn share(&mut self, part: &[u8]) -> Bytes {
        Bytes::copy_from_slice(part)
    }

    /// Who the client is by its certificate.
    fn certified(&self, _connection: ConnectionId) -> Certified {
        Certified::Nobody
    }

    /// Asks for one call of [`Brain::handle_drained`] when the outbox is nearly empty. The call
    /// comes in a later turn, even if the outbox is empty now.
    fn notify_drained(&mut self, connection: ConnectionId);

    /// Ends the connection. The shard forgets the connection in the same call.
    fn close(&mut self, connection: ConnectionId, closing: Closing);

    /// Hands in no more bytes of this connection until [`Ports::resume`]. Bytes that were not taken
    /// are kept, and no more are read from the socket.
    fn pause(&mut self, connection: ConnectionId);

    /// Hands in bytes again, in a later call, beginning with those that were not taken.
    fn resume(&mut self, connection: ConnectionId);

    /// Gives the connection to its home shard, with all bytes not taken. The shard forgets it.
    fn hand_over(&mut self, connection: ConnectionId, home: ShardId);

    /// From now on this account pays for the incomplete packets of the connection.
    fn bill(&mut self, _connection: ConnectionId, _payer: Payer) {}

    /// Whether all bytes that have arrived on `earlier` have been handed in. If not, `later` waits
    /// until they have, or until a second has passed. Then its bytes are handed in again, and this
    /// function returns true for it.
    fn precede(&mut self, _earlier: ConnectionId, _later: ConnectionId) -> bool {
        true
    }

    /// The records of this turn. They are on disk together, or not at all, and are posted before
    /// the letters of the turn. Only called if the shard has a store.
    fn records(&mut self) -> &mut RecordBatch;

    /// The mark of the records of this turn: [`Brain::handle_durable`] tells when all are on disk
    /// up to it. It grows with each turn that has records.
    fn record_mark(&self) -> u64;

    /// Whether so many records wait for the disk that no message is to be taken which needs more.
    fn are_records_crowded(&self) -> bool {
        false
    }

    /// The letters waiting to go to another shard at the end of this turn.
    fn letters(&mut self, to: ShardId) -> &mut LetterBatch;

    /// Whether the threads that verify take another verification of this shard now. If not, they do
    /// after the next verdict.
    fn can_verify(&self) -> bool;

    /// Runs `verification` on another thread and answers with [`Brain::handle_verdict`].
    fn verify(&mut self, connection: ConnectionId, verification: Verification);

    /// Whether the hook may be asked one more question of this shard now. If not, it may after the
    /// next verdict.
    fn can_ask_hook(&self) -> bool {
        false
    }

    /// Asks the hook, which answers with [`Brain::handle_verdict`].
    fn ask_hook(&mut self, _connection: ConnectionId, _call: HookCall) {}

    /// Whether the client has closed the connection and all that it sent has been handed in.
    /// While a connection is paused, the shard is not told of its end.
    fn has_gone(&mut self, _connection: ConnectionId) -> bool {
        false
    }

    /// A random number for choices. The next ones can be computed from it, so a client is never
    /// told one.
    fn random(&mut self) -> u64;

    /// An unpredictable number, even for a client that knows earlier ones.
    fn secret(&mut self) -> Secret;

    fn load(&self) -> Load;

    /// What the store says of itself; `None` if there is no store.
    fn store_figures(&self) -> Option<StoreFigures> {
        None
    }

    /// Who watches what happens to clients, if anyone does now.
    fn watcher(&self) -> Option<&dyn Watcher> {
        None
    }

    /// The tap for traces.
    fn tap(&mut self) -> Option<&mut Tap> {
        None
    }

    /// What is sent on this connection is told to the tap from now on, or is not any more.
    fn set_traced(&mut self, _connection: ConnectionId, _is_traced: bool) {}

    /// Since when there have been unsent bytes; `None` if there are none.
    fn unsent_since(&self, _connection: ConnectionId) -> Option<Moment> {
        None
    }

    /// What is kept for clients besides what the shard itself keeps.
    fn held(&self) -> HeldByRuntime {
        HeldByRuntime::default()
    }
}

/// Messages at QoS 1 and 2 that have not been delivered: that wait, or were not acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Undelivered {
    /// To connected clients, and to members of share groups.
    pub connected: u64,
    pub absent: u64,
}

/// One core's brain, as the runtime sees it.
pub trait Brain {
    /// A connection has arrived: accepted here, or handed over by another shard.
    fn handle_accepted(
        &mut self,
        now: Moment,
        connection: ConnectionId,
        arrival: Arrival,
        ports: &mut impl Ports,
    );

    /// The header of a proxy has come, before all bytes: the client has this address. Until then
    /// the connection had that of the proxy.
    fn handle_peer(
        &mut self,
        _now: Moment,
        _connection: ConnectionId,
        _peer: SocketAddr,
        _ports: &mut impl Ports,
    ) {
    }

    /// Bytes have arrived. Returns how many of them were taken; the rest is handed in again with
    /// the bytes that follow. The brain takes whole packets only. It stops early if it pauses,
    /// closes or hands over the connection.
    fn handle_bytes(
        &mut self,
        now: Moment,
        connection: ConnectionId,
        bytes: &[u8],
        ports: &mut impl Ports,
    ) -> usize;

    /// The size of the packet that begins with these bytes, as [`Brain::handle_bytes`] takes it.
    /// `None`: the size is not known yet, or is above the limit. The runtime puts a large packet
    /// together in memory of its own and hands it in alone.
    fn packet_size(&self, connection: ConnectionId, begun: &[u8]) -> Option<usize>;

    /// The other side has ended the connection.
    fn handle_end(
        &mut self,
        now: Moment,
        connection: ConnectionId,
        end: End,
        ports: &mut impl Ports,
    );

    /// The outbox has drained, as asked for by [`Ports::notify_drained`].
    fn handle_drained(&mut self, now: Moment, connection: ConnectionId, ports: &mut impl Ports);

    /// Letters have come from another shard. Returns how many of them were handled, at least one.
    /// The rest is handed in again, before any later letters of that shard.
    fn handle_letters(
        &mut self,
        now: Moment,
        from: ShardId,
        letters: &LetterBatch,
        ports: &mut impl Ports,
    ) -> usize;

    /// A crowded batch of letters has been posted: connections that wait for that shard may go on.
    fn handle_posted(&mut self, now: Moment, to: ShardId, ports: &mut impl Ports);

    /// All records of this shard up to `mark` are on disk.
    fn handle_durable(&mut self, _now: Moment, _mark: u64, _ports: &mut impl Ports) {}

    /// The store has no room for messages any more, or has room again.
    fn handle_store_room(&mut self, _now: Moment, _has_room: bool, _ports: &mut impl Ports) {}

    /// The shard begins. Called once, before all else.
    fn handle_start(&mut self, _now: Moment, _ports: &mut impl Ports) {}

    /// Whether the other shards have applied what the shard has told them at its start. Clients are
    /// let in when this holds for all shards.
    fn is_ready(&self) -> bool {
        true
    }

    /// A verification has ended, or the hook has answered. The connection may have gone meanwhile.
    fn handle_verdict(
        &mut self,
        now: Moment,
        connection: ConnectionId,
        finding: Finding,
        ports: &mut impl Ports,
    );

    /// Time has passed: the brain does what is due. Called no later than [`Brain::next_deadline`].
    fn handle_time(&mut self, now: Moment, ports: &mut impl Ports);

    /// A turn is about to end.
    fn handle_turn(&mut self, _now: Moment, _ports: &mut impl Ports) {}

    /// New rules hold from now on.
    fn handle_rules(&mut self, now: Moment, rules: &Arc<Rules>, ports: &mut impl Ports);

    /// Another thread wants to know something, or to have it done. What that takes is bounded.
    fn handle_question(
        &mut self,
        _now: Moment,
        _question: &Question,
        _ports: &mut impl Ports,
    ) -> Answer {
        Answer::Nothing
    }

    /// The steps that the brain has done since it began: packets, messages to receivers, letters,
    /// reminders. A step takes some hundred nanoseconds.
    fn steps(&self) -> u64 {
        0
    }

    /// The Client Identifier of a connection, for the log.
    fn client_id(&self, _connection: ConnectionId) -> Option<&str> {
        None
    }

    /// When the shard next has something to do even if nothing comes.
    fn next_deadline(&self) -> Option<Moment>;

    /// The broker is about to stop: the brain takes no more messages, and goes on sending those
    /// that wait for connected clients.
    fn handle_drain(&mut self, _now: Moment, _ports: &mut impl Ports) {}

    /// Whether no message waits for a connected client any more.
    fn is_drained(&self) -> bool {
        true
    }

    /// The messages that a stop now would leave undelivered.
    fn undelivered(&self) -> Undelivered {
        Undelivered::default()
    }

    /// The broker is stopping: the brain tells every client and closes its connection.
    fn handle_stop(&mut self, now: Moment, ports: &mut impl Ports);
}
