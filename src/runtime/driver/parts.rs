//! What a driver is made of, and what it may use.

use std::sync::Arc;

use crate::{
    base::{
        ids::{ShardId, ShardSet},
        time::Span,
    },
    mesh::WakePeer,
    runtime::{
        events::EventLane,
        mailbox::Mail,
        partials::PartialLimits,
        random::Random,
        ring::{Ring, RingAddress},
        store::StoreHandle,
        traces::TraceLane,
        verify::Verifier,
    },
};

/// What a shard may use.
#[derive(Clone, Copy, Debug)]
pub(in crate::runtime) struct DriverLimits {
    pub(in crate::runtime) outbox_bytes_max: usize,
    pub(in crate::runtime) partials: PartialLimits,
    pub(in crate::runtime) flush_time_max: Span,
    /// How long a client may read nothing of what waits for it.
    pub(in crate::runtime) stalled_timeout: Span,
}

impl DriverLimits {
    /// Unsent bytes of a connection above which the shard stops reading from its client, until the
    /// client has read some of them.
    pub(in crate::runtime) fn unsent_max(self) -> usize {
        self.outbox_bytes_max + OVERRUN_BYTES_MAX
    }
}

/// What a driver is made of.
pub(in crate::runtime) struct DriverParts {
    pub(in crate::runtime) ring: Ring,
    pub(in crate::runtime) mail: Mail,
    pub(in crate::runtime) verifier: Verifier,
    pub(in crate::runtime) addresses: Arc<[RingAddress]>,
    pub(in crate::runtime) random: Random,
    pub(in crate::runtime) store: Option<StoreHandle>,
    pub(in crate::runtime) events: EventLane,
    pub(in crate::runtime) traces: TraceLane,
}

/// Collects the shards that have to be woken.
pub(super) struct Sleepers(pub(super) ShardSet);

impl WakePeer for Sleepers {
    fn wake_peer(&mut self, shard: ShardId) {
        self.0.insert(shard);
    }
}

/// Bytes by which answers may exceed the limit before the shard stops reading from their client.
const OVERRUN_BYTES_MAX: usize = 64 << 10;
