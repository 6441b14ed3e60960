//! The memory that a shard lends to those of its connections that have something to say.

use super::outbox::Outbox;

/// Empty chunks and outboxes, kept for the next connection that needs one.
///
/// What comes back beyond the limits goes to the allocator, so that a burst is not paid for ever.
#[derive(Default)]
pub(super) struct Chunks {
    small: Vec<Vec<u8>>,
    large: Vec<Vec<u8>>,
    #[expect(clippy::vec_box, reason = "what moves between here and a connection is a pointer")]
    outboxes: Vec<Box<Outbox>>,
    kept: Vec<Vec<u8>>,
}

impl Chunks {
    /// Room for the frames of most turns.
    pub(super) fn small(&mut self) -> Vec<u8> {
        self.small.pop().unwrap_or_else(|| Vec::with_capacity(SMALL_BYTES))
    }

    /// Room for the frames of a client that is behind.
    pub(super) fn large(&mut self) -> Vec<u8> {
        self.large.pop().unwrap_or_else(|| Vec::with_capacity(LARGE_BYTES))
    }

    pub(super) fn give_back(&mut self, mut chunk: Vec<u8>) {
        chunk.clear();
        let (pool, limit) = if chunk.capacity() < LARGE_BYTES {
            (&mut self.small, SMALL_MAX)
        } else {
            (&mut self.large, LARGE_MAX)
        };
        if pool.len() < limit {
            pool.push(chunk);
        }
    }

    pub(super) fn outbox(&mut self) -> Box<Outbox> {
        self.outboxes.pop().unwrap_or_else(|| Box::new(Outbox::new()))
    }

    /// Takes an outbox with nothing in it.
    pub(super) fn give_back_outbox(&mut self, outbox: Box<Outbox>) {
        if self.outboxes.len() < SMALL_MAX && outbox.capacity() <= PIECES_MAX {
            self.outboxes.push(outbox);
        }
    }

    /// An empty buffer for bytes that cannot be taken yet.
    pub(super) fn kept(&mut self) -> Vec<u8> {
        self.kept.pop().unwrap_or_default()
    }

    pub(super) fn give_back_kept(&mut self, mut kept: Vec<u8>) {
        kept.clear();
        if self.kept.len() < KEPT_MAX && (1..=KEPT_BYTES_MAX).contains(&kept.capacity()) {
            self.kept.push(kept);
        }
    }

    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.small.iter().chain(&self.large).map(Vec::capacity).sum()
    }
}

const SMALL_BYTES: usize = 2 << 10;
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
}
