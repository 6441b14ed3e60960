//! The memory that all connections of a shard receive into.
//!
//! A buffer is lent when bytes arrive, so an idle connection owns none.

use super::{pool::Pool, provided::Provided};

/// One of the buffers of a shard.
#[derive(Clone, Copy, Debug)]
pub(in crate::runtime) struct BufferId(pub(super) u16);

/// The buffers of a shard, by the kind of its ring.
pub(in crate::runtime) enum Buffers {
    /// The kernel picks the buffer.
    Provided(Provided),
    Pool(Pool),
}

impl Buffers {
    /// The first `length` bytes of a buffer that was filled, to be used in their place.
    pub(in crate::runtime) fn filled(&mut self, buffer: BufferId, length: usize) -> &mut [u8] {
        match self {
            Buffers::Provided(provided) => provided.filled(buffer, length),
            Buffers::Pool(pool) => pool.filled(buffer, length),
        }
    }

    /// Lends a buffer again.
    pub(in crate::runtime) fn give_back(&mut self, buffer: BufferId) {
        match self {
            Buffers::Provided(provided) => provided.give_back(buffer),
            Buffers::Pool(pool) => pool.give_back(buffer),
        }
    }
}
