//! One network connection between a client and the broker, and all that is on its way in it.

use std::collections::VecDeque;

use ringmq::{
    base::ids::{ConnectionId, ShardId},
    mqtt::Version,
    shard::ports::Closing,
};

use crate::precede::Follow;

/// How far the broker's end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The shard does not know it yet.
    Coming,
    Open,
    /// On its way to its home shard.
    Moving(ShardId),
    /// Closed; what is in the outbox is still sent.
    Flushing,
    Closed,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
pub(crate) struct Link {
    pub(crate) client: usize,
    /// The shard that has it, and its name there.
    pub(crate) shard: usize,
    pub(crate) id: ConnectionId,
    pub(crate) phase: Phase,
    /// As its CONNECT has said; only known while a fault is planted.
    pub(crate) version: Version,
    /// Sent by the client, not received by the broker.
    pub(crate) upstream: VecDeque<u8>,
    /// Received by the broker, not taken by the shard.
    pub(crate) unread: Vec<u8>,
    /// Written by the shard, not sent.
    pub(crate) outbox: VecDeque<u8>,
    /// Sent by the broker, not received by the client.
    pub(crate) downstream: VecDeque<u8>,
    /// How many bytes were sent by the broker since the shard asked.
    pub(crate) sent: u64,
    pub(crate) paused: bool,
    /// So much is unsent that nothing more is read.
    pub(crate) throttled: bool,
    pub(crate) wants_drained: bool,
    /// It waits until the bytes of an earlier link have been handed in.
    pub(crate) follows: Option<Follow>,
    /// It has waited.
    pub(crate) may_follow: bool,
    /// The client has closed its sending side.
    pub(crate) half_closed: bool,
    pub(crate) end_told: bool,
    /// The client has reset it.
    pub(crate) reset: bool,
    /// The client does not read what it is sent.
    pub(crate) deaf: bool,
    /// Whether unread bytes may be handed in: they have come, or a pause is over.
    pub(crate) feedable: bool,
}

impl Link {
    pub(crate) fn new(client: usize, shard: usize) -> Link {
        Link {
            client,
            shard,
            id: ConnectionId { slot: u32::MAX, generation: 0 },
            phase: Phase::Coming,
            version: Version::V5,
            upstream: VecDeque::new(),
            unread: Vec::new(),
            outbox: VecDeque::new(),
            sent: 0,
            downstream: VecDeque::new(),
            paused: false,
            throttled: false,
            wants_drained: false,
            follows: None,
            may_follow: false,
            half_closed: false,
            end_told: false,
            reset: false,
            deaf: false,
            feedable: false,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether the shard can be handed bytes.
    pub(crate) fn takes_bytes(&self) -> bool {
        let is_held = self.paused || self.throttled || self.follows.is_some();
        self.is_open() && !is_held && !self.reset
    }

    /// Whether all that the client has sent before closing its side has been taken or handed in.
    pub(crate) fn is_finished(&self) -> bool {
        self.half_closed && self.upstream.is_empty() && !self.end_told
    }

    pub(crate) fn close(&mut self, closing: Closing) {
        self.unread.clear();
        self.phase = match closing {
            Closing::Flush if !self.outbox.is_empty() && !self.reset => Phase::Flushing,
            Closing::Flush => Phase::Closed,
            Closing::Abort => {
                self.outbox.clear();
                Phase::Closed
            }
        };
    }

    /// Moves so many bytes from the outbox into the network.
    pub(crate) fn send(&mut self, count: usize) {
        let count = count.min(self.outbox.len());
        self.sent += count as u64;
        self.downstream.extend(self.outbox.drain(..count));
        if self.phase == Phase::Flushing && self.outbox.is_empty() {
            self.phase = Phase::Closed;
        }
    }
}
