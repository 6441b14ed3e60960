//! What a shard can make happen, and what can happen to it.
//!
//! [`Ports`] is everything that a shard asks of the world; [`Brain`] is everything that the world
//! tells a shard. The runtime drives a [`Brain`] on a real ring; a test drives it on nothing.

#[cfg(test)]
pub(super) mod fake;

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;

use super::{letter::LetterBatch, rules::Rules};
use crate::base::{
    ids::{ConnectionId, ShardId},
    time::{Moment, Span},
};

/// Where a connection came from.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Which of the configured listeners accepted it, counted from zero.
    pub listener: u16,
    pub peer: SocketAddr,
    /// The broker holds as many as it may without this one.
    pub surplus: bool,
    /// Another shard has had it before, and has counted it.
    pub handed_over: bool,
}

/// How a connection ended from the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client will send nothing more; all that it sent has been handed in. It may still read,
    /// so the shard owes a [`Ports::close`].
    Finished,
    /// Reset or failed: nothing can be sent any more and the connection is gone.
    Broken,
    /// The same, after its request for a WebSocket was answered with an error.
    HandshakeRefused,
    /// The same, after WebSocket frames that may not come.
    FramesRefused,
    /// The same, because incomplete packets take too much memory together.
    PartialOverflow,
}

/// How the shard wants a connection closed. Either way the shard hears no more of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// Send what is in the outbox, within a bounded time, then close.
    Flush,
    /// Close at once; what is unsent is dropped.
    Abort,
}

pub use crate::access::{Secret, Verification};

/// How busy a shard has been since it started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// Time spent working rather than sleeping.
    pub busy: Span,
    /// Turns taken.
    pub turns: u64,
    /// Half of all turns were shorter than this.
    pub turn_p50: Span,
    /// All but one turn in a hundred were shorter than this.
    pub turn_p99: Span,
    /// Bytes received from clients.
    pub bytes_received: u64,
    /// Bytes sent to clients.
    pub bytes_sent: u64,
    /// Connections refused because the broker held as many as it may. No shard has heard of them.
    pub connections_refused: u64,
    /// Connections that ended on their way from one shard to another. Neither has heard of it.
    pub ended_moving: u64,
    /// Times that the system could not accept a connection.
    pub accept_errors: u64,
}

/// What a shard may ask of the world. No call blocks, and none calls the shard back.
///
/// Calls that name a connection which has gone do nothing.
pub trait Ports {
    /// Bytes that the connection's outbox takes before it is full; 0 when it is full or gone.
    ///
    /// A PUBLISH goes out only while there is room. Answers to the client's own packets are
    /// always accepted: when they run far past the limit, the runtime stops reading from that
    /// client until it has read some.
    fn outbox_room(&self, connection: ConnectionId) -> usize;

    /// Appends a copy of `frame` to the outbox. It is sent when the turn ends.
    fn send(&mut self, connection: ConnectionId, frame: &[u8]);

    /// Appends a copy of `head`, then `payload`: by reference when it is large.
    fn send_shared(&mut self, connection: ConnectionId, head: &[u8], payload: &Bytes);

    /// A part of the bytes that are being handed in, as memory that outlives the call: without a
    /// copy where they have come in memory of their own.
    fn share(&mut self, part: &[u8]) -> Bytes {
        Bytes::copy_from_slice(part)
    }

    /// Asks for one call of [`Brain::handle_drained`] when the outbox is (nearly) empty. It comes
    /// in a later turn, even when the outbox is empty now.
    fn notify_drained(&mut self, connection: ConnectionId);

    /// Ends the connection. The shard forgets it in the same breath.
    fn close(&mut self, connection: ConnectionId, closing: Closing);

    /// Hands in no more bytes of this connection until [`Ports::resume`]; what was not taken yet
    /// is kept, and no more is read from the socket.
    fn pause(&mut self, connection: ConnectionId);

    /// Hands in bytes again, in a later call, beginning with those that were not taken.
    fn resume(&mut self, connection: ConnectionId);

    /// Gives the connection to its home shard, with all bytes not taken. The shard forgets it.
    fn hand_over(&mut self, connection: ConnectionId, home: ShardId);

    /// Whether everything that has come on `earlier` has been handed in. If not, nothing more of
    /// `later` is handed in before that, or before a second has passed; then what was not taken
    /// of it is handed in again, and the answer is true.
    fn precede(&mut self, _earlier: ConnectionId, _later: ConnectionId) -> bool {
        true
    }

    /// The letters waiting to go to another shard at the end of this turn.
    fn letters(&mut self, to: ShardId) -> &mut LetterBatch;

    /// Runs `verification` on another thread and answers with [`Brain::handle_verdict`].
    /// False: too many are waiting, and it was dropped.
    fn verify(&mut self, connection: ConnectionId, verification: Verification) -> bool;

    /// A random number to choose by. Those that follow can be computed from it, so no client is
    /// told one.
    fn random(&mut self) -> u64;

    /// A number that nobody outside can predict, not even from those that went before.
    fn secret(&mut self) -> Secret;

    fn load(&self) -> Load;
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

    /// Bytes have arrived. Says how many of them were taken; the rest is handed in again together
    /// with what follows it. Takes whole packets only, and stops early when it pauses or closes
    /// the connection or hands it over.
    fn handle_bytes(
        &mut self,
        now: Moment,
        connection: ConnectionId,
        bytes: &[u8],
        ports: &mut impl Ports,
    ) -> usize;

    /// How many bytes the packet of a connection has that begins with these, if they say so and it
    /// may come:
    /// exactly as many as [`Brain::handle_bytes`] takes of it. A large one that comes in pieces is
    /// put together in memory of its own, and handed in alone when it is whole.
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

    /// Letters have come from another shard. The caller empties and recycles the batch.
    fn handle_letters(
        &mut self,
        now: Moment,
        from: ShardId,
        letters: &LetterBatch,
        ports: &mut impl Ports,
    );

    /// A crowded batch of letters has been posted: whoever waits for that shard may go on.
    fn handle_posted(&mut self, now: Moment, to: ShardId, ports: &mut impl Ports);

    /// A verification has ended.
    fn handle_verdict(
        &mut self,
        now: Moment,
        connection: ConnectionId,
        passed: bool,
        ports: &mut impl Ports,
    );

    /// Time has passed: does what is due. Called at least when [`Brain::next_deadline`] comes.
    fn handle_time(&mut self, now: Moment, ports: &mut impl Ports);

    /// Other rules hold from now on.
    fn handle_rules(&mut self, now: Moment, rules: &Arc<Rules>, ports: &mut impl Ports);

    /// When the shard next has something to do by itself.
    fn next_deadline(&self) -> Option<Moment>;

    /// The broker is stopping: says farewell to every client and closes its connection.
    fn handle_stop(&mut self, now: Moment, ports: &mut impl Ports);
}
