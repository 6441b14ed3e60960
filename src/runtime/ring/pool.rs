//! Plain memory to receive into, for a ring that is epoll. A buffer is made when it is first
//! needed, and the one that was used last is used next.

use super::buffers::BufferId;

/// Buffers of the same size.
pub(in crate::runtime) struct Pool {
    made: Vec<Box<[u8]>>,
    free: Vec<BufferId>,
    count_max: u16,
    size: usize,
}

impl Pool {
    /// Buffers of `size` bytes each.
    pub(super) fn new(size: u32) -> Pool {
        let size = size as usize;
        let count_max = u16::try_from(POOL_BYTES / size).unwrap_or(u16::MAX);
        let count_max = count_max.clamp(BUFFERS_MIN, BUFFERS_MAX);
        Pool { made: Vec::new(), free: Vec::new(), count_max, size }
    }

    /// Takes a buffer, if not all of them are in use.
    pub(super) fn take(&mut self) -> Option<BufferId> {
        if let Some(buffer) = self.free.pop() {
            return Some(buffer);
        }
        let next = u16::try_from(self.made.len()).ok().filter(|next| *next < self.count_max)?;
        self.made.push(vec![0; self.size].into_boxed_slice());
        Some(BufferId(next))
    }

    /// The whole of a buffer that was taken.
    pub(super) fn whole(&mut self, BufferId(index): BufferId) -> &mut [u8] {
        &mut self.made[usize::from(index)]
    }

    /// The first `length` bytes of a buffer.
    pub(super) fn filled(&mut self, buffer: BufferId, length: usize) -> &mut [u8] {
        &mut self.whole(buffer)[..length]
    }

    pub(super) fn give_back(&mut self, buffer: BufferId) {
        self.free.push(buffer);
    }
}

/// Bytes of all buffers together, unless that were fewer than [`BUFFERS_MIN`] of them.
const POOL_BYTES: usize = 4 << 20;
const BUFFERS_MIN: u16 = 4;
const BUFFERS_MAX: u16 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_made_as_they_are_needed_and_used_again() {
        let mut pool = Pool::new(2 << 20);
        let all: Vec<BufferId> = (0..BUFFERS_MIN).map(|_| pool.take().unwrap()).collect();
        assert!(pool.take().is_none(), "all are in use");
        pool.whole(all[2])[..3].copy_from_slice(b"abc");
        assert_eq!(pool.filled(all[2], 3), b"abc");
        pool.give_back(all[2]);
        assert_eq!(pool.take().map(|buffer| buffer.0), Some(2));
        assert_eq!(pool.made.len(), usize::from(BUFFERS_MIN));
    }

    #[test]
    fn small_buffers_are_limited_by_their_number() {
        let mut pool = Pool::new(512);
        let taken = std::iter::from_fn(|| pool.take()).count();
        assert_eq!(taken, usize::from(BUFFERS_MAX));
    }
}
