//! The memory that the broker takes, and how much it may take.
//!
//! Each shard counts what it keeps, by kind, where it keeps it. Once in a turn it tells the others
//! its sum, if that has changed much, and looks how scarce memory is in the whole broker. It counts
//! bytes that clients have caused, with an allowance for what surrounds them. A large payload is
//! counted once, wherever it is referred to; a small one in each place where it is kept.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::{Shard, ports::HeldByRuntime, purge::Purge, stats::Counters};
use crate::{
    base::byte_count::ByteCount,
    session::{
        client_aliases::{AliasRoom, TOPIC_BYTES_MAX},
        queue::QueueLimits,
    },
};

/// How many bytes all shards together may take. All clones are the same budget.
#[derive(Clone, Debug)]
pub struct MemoryBudget {
    max: usize,
    taken: Arc<AtomicUsize>,
}

/// How scarce memory is in the whole broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scarcity {
    #[default]
    Plenty,
    /// More than four fifths of the budget is taken: outboxes grow no further.
    Short,
    /// Almost all of the budget is taken: who holds most loses some, and little new is kept.
    Full,
    /// All of the budget is taken: nothing new is kept.
    Spent,
}

impl Scarcity {
    /// The room that an outbox with this limit must have for one more message at QoS 0, less one.
    #[inline]
    pub(super) fn room_min(self, outbox_bytes_max: usize) -> usize {
        match self {
            Scarcity::Plenty => 0,
            Scarcity::Short => outbox_bytes_max.saturating_sub(SHORT_OUTBOX_BYTES),
            Scarcity::Full | Scarcity::Spent => outbox_bytes_max.saturating_sub(FULL_OUTBOX_BYTES),
        }
    }

    /// How much may wait for a session.
    pub(super) fn queue(self, limits: &QueueLimits) -> QueueLimits {
        let bytes_max = match self {
            Scarcity::Plenty | Scarcity::Short => limits.bytes_max,
            Scarcity::Full => limits.bytes_max.min(FULL_QUEUE_BYTES),
            Scarcity::Spent => 0,
        };
        QueueLimits { bytes_max, ..*limits }
    }

    pub(super) fn is_full(self) -> bool {
        self >= Scarcity::Full
    }
}

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
#[derive(Debug)]
pub(super) struct Memory {
    budget: MemoryBudget,
    /// What the other shards know of.
    told: usize,
    held: Held,
    scarcity: Scarcity,
    /// How many PUBLISH packets had been sent at the last look within a turn.
    looked_at: u64,
    /// Wills, from CONNECT until they are published or deleted.
    pub(super) wills: ByteCount,
    /// The subscriptions of all sessions.
    pub(super) subscriptions: ByteCount,
    /// The Packet Identifiers of messages at QoS 2 from clients that have not released them.
    pub(super) identifiers: ByteCount,
    /// The topics of the Topic Aliases of all clients.
    aliases: ByteCount,
    /// What goes when the budget is taken.
    pub(super) purge: Purge,
    /// The budget has been almost taken, and more than nine tenths of it still are.
    is_over: bool,
    /// An equal part of the budget for each shard.
    part: usize,
}

impl MemoryBudget {
    pub fn new(max: usize) -> MemoryBudget {
        MemoryBudget { max, taken: Arc::default() }
    }

    pub fn max(&self) -> usize {
        self.max
    }

    /// What all shards have told.
    pub fn taken(&self) -> usize {
        // Relaxed, here and below: the number guards no other memory.
        self.taken.load(Ordering::Relaxed)
    }

    fn tell(&self, before: usize, now: usize) {
        if now >= before {
            self.taken.fetch_add(now - before, Ordering::Relaxed);
        } else {
            self.taken.fetch_sub(before - now, Ordering::Relaxed);
        }
    }

    fn scarcity(&self) -> Scarcity {
        match self.taken() {
            taken if taken >= self.max => Scarcity::Spent,
            taken if taken >= self.max / 20 * 19 => Scarcity::Full,
            taken if taken >= self.max / 5 * 4 => Scarcity::Short,
            _ => Scarcity::Plenty,
        }
    }
}

impl Held {
    fn sum(&self) -> usize {
        let HeldByRuntime { connections, outboxes, incomplete, payloads, letters } = self.runtime;
        let runtime = connections + outboxes + incomplete + payloads + letters;
        runtime + self.sessions + self.queues + self.wills + self.subscriptions + self.retained
    }
}

impl Memory {
    pub(super) fn new(budget: MemoryBudget, shards: usize) -> Memory {
        Memory {
            part: budget.max / shards,
            is_over: false,
            budget,
            told: 0,
            held: Held::default(),
            scarcity: Scarcity::Plenty,
            looked_at: 0,
            wills: ByteCount::default(),
            subscriptions: ByteCount::default(),
            identifiers: ByteCount::default(),
            aliases: ByteCount::default(),
            purge: Purge::default(),
        }
    }

    /// How scarce memory was when the last turn ended.
    #[inline]
    pub(super) fn scarcity(&self) -> Scarcity {
        self.scarcity
    }

    /// Whether so many PUBLISH packets have been sent, in all, that it is time for another look.
    #[inline]
    pub(super) fn is_look_due(&self, sent: u64) -> bool {
        sent - self.looked_at >= LOOK_EVERY
    }

    /// Looks how scarce memory is within a turn.
    #[cold]
    pub(super) fn look(&mut self, runtime: HeldByRuntime, sent: u64) {
        self.looked_at = sent;
        self.note(Held { runtime, ..self.held });
    }

    /// Notes what the shard takes now, and looks how scarce memory is.
    fn note(&mut self, held: Held) {
        self.held = held;
        let sum = held.sum();
        if sum.abs_diff(self.told) >= TOLD_FROM {
            self.budget.tell(self.told, sum);
            self.told = sum;
        }
        self.scarcity = self.budget.scarcity();
        self.is_over = self.scarcity.is_full()
            || self.is_over && self.budget.taken() > self.budget.max / 10 * 9;
    }

    /// Whether this shard has to give some memory back: the budget is almost taken, this shard has
    /// taken most of its part, and clients' sessions and outboxes have taken half of that.
    pub(super) fn has_to_purge(&self) -> bool {
        let Held { sessions, queues, wills, subscriptions, .. } = self.held;
        let HeldByRuntime { outboxes, payloads, .. } = self.held.runtime;
        let of_sessions = sessions + queues + wills + subscriptions + outboxes + payloads;
        let sum = self.held.sum();
        self.is_over && sum >= self.part / 8 * 7 && of_sessions >= sum / 2
    }

    /// Whether a client may have so many bytes of subscriptions though the budget is almost taken:
    /// a sixteenth of the budget is divided among `holders` accounts.
    pub(super) fn has_share_of_subscriptions(&self, bytes: usize, holders: usize) -> bool {
        let share = self.budget.max / SUBSCRIPTIONS_PART / holders.max(1);
        self.scarcity < Scarcity::Spent && bytes <= share
    }

    /// What the topics of the Topic Aliases of a client may take.
    #[inline]
    pub(super) fn alias_room(&self) -> AliasRoom<'_> {
        let is_full = self.scarcity.is_full();
        let bytes_max = if is_full { FULL_ALIAS_BYTES } else { TOPIC_BYTES_MAX };
        AliasRoom { bytes_max, count: &self.aliases }
    }

    /// Bytes that one turn takes back.
    pub(super) fn purged_at_once(&self) -> usize {
        self.part / 16
    }

    /// Retained messages may take half of the budget.
    #[inline]
    pub(super) fn retained_max(&self) -> usize {
        self.budget.max / 2
    }

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

impl Drop for Memory {
    fn drop(&mut self) {
        self.budget.tell(self.told, 0);
    }
}

/// What a subscription with a filter of so many bytes takes: its text twice, and its places.
pub(super) const fn subscription_bytes(filter: usize) -> usize {
    2 * filter + SUBSCRIPTION_BYTES
}

impl Shard {
    /// Counts what the shard takes, and looks how scarce memory is.
    pub(super) fn note_memory(&mut self, runtime: HeldByRuntime) {
        let memory = &self.context.memory;
        let queued = usize::try_from(self.context.counters.queued).unwrap_or(usize::MAX);
        let of_sessions = self.sessions.bytes() + memory.aliases.bytes();
        let of_packets = memory.identifiers.bytes() + self.authenticator.waiting_bytes();
        let of_messages = self.router.kept_bytes().saturating_add(self.router.placed_bytes());
        let held = Held {
            runtime,
            sessions: of_sessions + of_packets,
            queues: of_messages.saturating_add(queued.saturating_mul(PLACE_BYTES)),
            wills: memory.wills.bytes(),
            subscriptions: memory.subscriptions.bytes() + self.router.interest().sizes().bytes(),
            retained: self.router.retained().bytes() / self.context.settings.shards,
        };
        self.context.memory.note(held);
    }
}

/// Unsent bytes of a client beyond which messages at QoS 0 are dropped when memory is short.
const SHORT_OUTBOX_BYTES: usize = 16 << 10;
/// The same when the budget is almost taken.
const FULL_OUTBOX_BYTES: usize = 4 << 10;
/// What the topics of the Topic Aliases of a client may take then.
const FULL_ALIAS_BYTES: usize = 4 << 10;
/// What may wait for a session then.
const FULL_QUEUE_BYTES: usize = 16 << 10;
/// This part of the budget is for the subscriptions of accounts that have few.
const SUBSCRIPTIONS_PART: usize = 16;
/// A message may go to many outboxes, so there is a look after so many PUBLISH packets, too.
const LOOK_EVERY: u64 = 64;
/// Smaller changes of a shard's sum are not told to the others.
const TOLD_FROM: usize = 64 << 10;
/// The place of a message in a queue, and room for more of them.
const PLACE_BYTES: usize = 80;
/// What a subscription takes besides its text and the trie: entries in the session.
const SUBSCRIPTION_BYTES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(queues: usize) -> Held {
        Held { queues, ..Held::default() }
    }

    #[test]
    fn all_shards_see_how_scarce_memory_is_together() {
        let budget = MemoryBudget::new(100 << 20);
        let [mut one, mut other] = [(); 2].map(|()| Memory::new(budget.clone(), 2));
        for (mib, expected) in [
            (0, Scarcity::Plenty),
            (41, Scarcity::Short),
            (56, Scarcity::Full),
            (60, Scarcity::Spent),
            (1, Scarcity::Plenty),
        ] {
            one.note(of(40 << 20));
            other.note(of(mib << 20));
            one.note(of(40 << 20));
            assert_eq!((one.scarcity(), other.scarcity()), (expected, expected), "{mib} MiB");
        }
        drop(other);
        assert_eq!(budget.taken(), 40 << 20);
    }

    #[test]
    fn the_scarcer_memory_is_the_less_may_wait() {
        let limits = QueueLimits { messages_max: 7, bytes_max: 1 << 20 };
        let all = [Scarcity::Plenty, Scarcity::Short, Scarcity::Full, Scarcity::Spent];
        assert_eq!(all.map(|it| it.queue(&limits).bytes_max), [1 << 20, 1 << 20, 16 << 10, 0]);
        let room = |it: Scarcity| (64 << 10) - it.room_min(64 << 10);
        assert_eq!(all.map(room), [64 << 10, 16 << 10, 4 << 10, 4 << 10]);
        assert_eq!(all.map(|it| it.room_min(1)), [0; 4]);
    }

    #[test]
    fn a_shard_that_has_taken_most_of_its_part_gives_back_until_a_tenth_of_the_budget_is_free() {
        let mut memory = Memory::new(MemoryBudget::new(100 << 20), 1);
        let mut has_to_purge = |mib: usize| {
            memory.note(of(mib << 20));
            memory.has_to_purge()
        };
        let seen = [94, 96, 91, 89, 91].map(&mut has_to_purge);
        assert_eq!(seen, [false, true, true, false, false]);
        memory.note(Held { retained: 60 << 20, ..of(40 << 20) });
        assert!(!memory.has_to_purge(), "sessions have less than half");
        let mut other = Memory::new(memory.budget.clone(), 2);
        other.note(of(20 << 20));
        assert!(other.scarcity().is_full() && !other.has_to_purge(), "others have more");
    }

    #[test]
    fn small_changes_are_not_told() {
        let budget = MemoryBudget::new(1 << 30);
        let mut memory = Memory::new(budget.clone(), 1);
        memory.note(of(TOLD_FROM - 1));
        assert_eq!(budget.taken(), 0);
        memory.note(of(TOLD_FROM));
        assert_eq!(budget.taken(), TOLD_FROM);
        memory.note(of(1));
        assert_eq!(budget.taken(), TOLD_FROM);
        memory.note(of(0));
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn every_kind_is_counted_and_is_part_of_the_sum() {
        let mut memory = Memory::new(MemoryBudget::new(1), 1);
        let runtime =
            HeldByRuntime { connections: 1, outboxes: 2, incomplete: 4, payloads: 8, letters: 16 };
        let (sessions, queues, wills, subscriptions, retained) = (32, 64, 128, 256, 512);
        memory.note(Held { runtime, sessions, queues, wills, subscriptions, retained });
        let mut counters = Counters::default();
        memory.count(&mut counters);
        assert_eq!(counters.memory_total, 1023);
        let kinds = counters.topics().filter(|(topic, _)| topic.starts_with("memory/"));
        assert_eq!(kinds.map(|(_, bytes)| bytes).sum::<u64>(), 2 * 1023);
    }
}
