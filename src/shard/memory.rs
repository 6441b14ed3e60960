//! The memory that clients cause a shard to take.
//!
//! Each part of a shard counts what it keeps, where it keeps it, in plain numbers. Once in a turn
//! `Memory` adds them up. Counted are bytes that clients have caused, with an allowance for what
//! surrounds them. A large payload is counted once, wherever it is referred to; a small one in each
//! place where it is kept.

use super::{Shard, ports::HeldByRuntime, stats::Counters};
use crate::base::byte_count::ByteCount;

/// What a shard takes, in bytes by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) runtime: HeldByRuntime,
    pub(super) sessions: usize,
    pub(super) queues: usize,
    pub(super) wills: usize,
    pub(super) subscriptions: usize,
    pub(super) retained: usize,
}

/// The memory of one shard.
#[derive(Debug, Default)]
pub(super) struct Memory {
    held: Held,
    /// Wills, from CONNECT until they are published or deleted.
    pub(super) wills: ByteCount,
    /// The subscriptions of all sessions.
    pub(super) subscriptions: ByteCount,
}

impl Held {
    fn sum(&self) -> usize {
        let HeldByRuntime { connections, outboxes, incomplete, payloads, letters } = self.runtime;
        let runtime = connections + outboxes + incomplete + payloads + letters;
        runtime + self.sessions + self.queues + self.wills + self.subscriptions + self.retained
    }
}

impl Memory {
    /// Writes what the shard takes into its counters.
    pub(super) fn count(&self, counters: &mut Counters) {
        let held = &self.held;
        let counted = [
            (&mut counters.memory_connections, held.runtime.connections),
            (&mut counters.memory_outboxes, held.runtime.outboxes),
            (&mut counters.memory_incomplete, held.runtime.incomplete),
            (&mut counters.memory_payloads, held.runtime.payloads),
            (&mut counters.memory_letters, held.runtime.letters),
            (&mut counters.memory_sessions, held.sessions),
            (&mut counters.memory_queues, held.queues),
            (&mut counters.memory_wills, held.wills),
            (&mut counters.memory_subscriptions, held.subscriptions),
            (&mut counters.memory_retained, held.retained),
            (&mut counters.memory_total, held.sum()),
        ];
        for (counter, bytes) in counted {
            *counter = bytes as u64;
        }
    }
}

/// What a subscription with a filter of so many bytes takes: its text twice, and its places.
pub(super) const fn subscription_bytes(filter: usize) -> usize {
    2 * filter + SUBSCRIPTION_BYTES
}

impl Shard {
    /// Adds up what the shard takes.
    pub(super) fn note_memory(&mut self, runtime: HeldByRuntime) {
        let memory = &self.context.memory;
        let queued = usize::try_from(self.context.counters.queued).unwrap_or(usize::MAX);
        self.context.memory.held = Held {
            runtime,
            sessions: self.sessions.bytes(),
            queues: self.router.kept_bytes().saturating_add(queued.saturating_mul(PLACE_BYTES)),
            wills: memory.wills.bytes(),
            subscriptions: memory.subscriptions.bytes(),
            retained: self.router.retained().bytes() / self.context.settings.shards,
        };
    }
}

/// The place of a message in a queue, and room for more of them.
const PLACE_BYTES: usize = 80;
/// What a subscription takes besides its text: entries in the session and in the trie.
const SUBSCRIPTION_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_counted_and_is_part_of_the_sum() {
        let runtime =
            HeldByRuntime { connections: 1, outboxes: 2, incomplete: 4, payloads: 8, letters: 16 };
        let (sessions, queues, wills, subscriptions, retained) = (32, 64, 128, 256, 512);
        let held = Held { runtime, sessions, queues, wills, subscriptions, retained };
        let memory = Memory { held, ..Memory::default() };
        let mut counters = Counters::default();
        memory.count(&mut counters);
        assert_eq!(counters.memory_total, 1023);
        let kinds = counters.topics().filter(|(topic, _)| topic.starts_with("memory/"));
        assert_eq!(kinds.map(|(_, bytes)| bytes).sum::<u64>(), 2 * 1023);
    }
}
