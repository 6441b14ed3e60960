//! The memory that a shard lends to connections with unsent bytes.

use super::outbox::Outbox;
use crate::{base::time::Moment, transport::Head};

/// Empty chunks and outboxes, kept for the next connection that needs one.
///
/// Memory beyond the limits goes back to the allocator. So does memory that lies idle, so that the
/// shard does not keep the memory of a burst.
pub(super) struct Chunks {
    /// The moment of the turn.
    pub(super) now: Moment,
    small: Pool<Vec<u8>>,
    large: Pool<Vec<u8>>,
    outboxes: Pool<Box<Outbox>>,
    kept: Pool<Vec<u8>>,
    /// Bytes of the chunks that outboxes have.
    lent: usize,
}

impl Default for Chunks {
    fn default() -> Chunks {
        Chunks {
            now: Moment::default(),
            small: Pool::new(SMALL_MAX),
            large: Pool::new(LARGE_MAX),
            outboxes: Pool::new(SMALL_MAX),
            kept: Pool::new(KEPT_MAX),
            lent: 0,
        }
    }
}

impl Chunks {
    /// A small chunk: enough for the frames of most turns.
    pub(super) fn small(&mut self) -> Vec<u8> {
        let chunk = self.small.take().unwrap_or_else(|| Vec::with_capacity(SMALL_BYTES));
        self.lent += chunk.capacity();
        chunk
    }

    /// A large chunk, for a client that reads slowly.
    pub(super) fn large(&mut self) -> Vec<u8> {
        let chunk = self.large.take().unwrap_or_else(|| Vec::with_capacity(LARGE_BYTES));
        self.lent += chunk.capacity();
        chunk
    }

    /// A chunk with room for so many bytes, at most those of a large one.
    pub(super) fn with_room(&mut self, bytes: usize) -> Vec<u8> {
        if bytes <= SMALL_BYTES { self.small() } else { self.large() }
    }

    pub(super) fn give_back(&mut self, mut chunk: Vec<u8>) {
        self.lent = self.lent.saturating_sub(chunk.capacity());
        chunk.clear();
        let pool = if chunk.capacity() < LARGE_BYTES { &mut self.small } else { &mut self.large };
        pool.give_back(chunk);
    }

    /// Bytes of the chunks that outboxes have.
    pub(super) fn lent(&self) -> usize {
        self.lent
    }

    /// An empty outbox with this kind of head for its frames; `None` for no frames.
    pub(super) fn outbox(&mut self, head: Option<Head>) -> Box<Outbox> {
        let mut outbox = self.outboxes.take().unwrap_or_else(|| Box::new(Outbox::new()));
        outbox.set_head(head);
        (outbox.since, outbox.moved) = (self.now, self.now);
        outbox
    }

    /// Takes an empty outbox back.
    pub(super) fn give_back_outbox(&mut self, outbox: Box<Outbox>) {
        if outbox.capacity() <= PIECES_MAX {
            self.outboxes.give_back(outbox);
        }
    }

    /// An empty buffer for bytes that cannot be taken yet.
    pub(super) fn kept(&mut self) -> Vec<u8> {
        self.kept.take().unwrap_or_default()
    }

    pub(super) fn give_back_kept(&mut self, mut kept: Vec<u8>) {
        kept.clear();
        if (1..=KEPT_BYTES_MAX).contains(&kept.capacity()) {
            self.kept.give_back(kept);
        }
    }

    /// Frees the memory that was not needed since the last call.
    pub(super) fn free_idle(&mut self) {
        self.small.free_idle();
        self.large.free_idle();
        self.outboxes.free_idle();
        self.kept.free_idle();
    }

    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.small.free.iter().chain(&self.large.free).map(Vec::capacity).sum()
    }
}

/// Unused items of one kind.
struct Pool<T> {
    free: Vec<T>,
    max: usize,
    /// The fewest that were free at any time since the last [`Pool::free_idle`].
    lowest: usize,
}

impl<T> Pool<T> {
    fn new(max: usize) -> Pool<T> {
        Pool { free: Vec::new(), max, lowest: 0 }
    }

    fn take(&mut self) -> Option<T> {
        let taken = self.free.pop();
        self.lowest = self.lowest.min(self.free.len());
        taken
    }

    fn give_back(&mut self, thing: T) {
        if self.free.len() < self.max {
            self.free.push(thing);
        }
    }

    fn free_idle(&mut self) {
        self.free.truncate(self.free.len() - self.lowest);
        if self.free.is_empty() {
            self.free = Vec::new();
        }
        self.lowest = self.free.len();
    }
}

pub(super) const SMALL_BYTES: usize = 2 << 10;
const LARGE_BYTES: usize = 32 << 10;
/// 2 MiB of small chunks, 2 MiB of large ones and 2 MiB of kept bytes at the most, when idle.
const SMALL_MAX: usize = 1024;
const LARGE_MAX: usize = 64;
const KEPT_MAX: usize = 64;
const KEPT_BYTES_MAX: usize = 32 << 10;
/// Longer lists of pieces are not kept.
const PIECES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_leaves_a_bounded_pool() {
        let mut chunks = Chunks::default();
        let burst: Vec<_> = (0..2 * SMALL_MAX).map(|_| chunks.small()).collect();
        for chunk in burst {
            chunks.give_back(chunk);
        }
        let burst: Vec<_> = (0..2 * LARGE_MAX).map(|_| chunks.large()).collect();
        for chunk in burst {
            chunks.give_back(chunk);
        }
        assert_eq!(chunks.held_bytes(), SMALL_MAX * SMALL_BYTES + LARGE_MAX * LARGE_BYTES);
    }

    #[test]
    fn what_lies_idle_is_freed_and_what_is_used_is_kept() {
        let mut chunks = Chunks::default();
        let burst: Vec<_> = (0..10).map(|_| chunks.small()).collect();
        for chunk in burst {
            chunks.give_back(chunk);
        }
        chunks.free_idle();
        assert_eq!(chunks.held_bytes(), 10 * SMALL_BYTES);
        let used = [chunks.small(), chunks.small()];
        for chunk in used {
            chunks.give_back(chunk);
        }
        chunks.free_idle();
        assert_eq!(chunks.held_bytes(), 2 * SMALL_BYTES);
        chunks.free_idle();
        assert_eq!(chunks.held_bytes(), 0);
    }
}
