//! Settings of a shard that never change: its place in the broker.

use std::sync::Arc;

use super::memory::MemoryBudget;
use crate::{
    access::{Accounts, Failures},
    base::{
        hash::Seed,
        ids::ShardId,
        shared_count::SharedCount,
        time::{Moment, Span, WallClock},
    },
    storage::Restored,
};

/// The place of one shard in its broker, from the shard's start to its end.
#[derive(Clone, Debug)]
pub struct Settings {
    pub shard: ShardId,
    /// How many shards the broker has.
    pub shards: usize,
    /// The seed of hashes, the same on all shards. The hash of a Client Identifier decides its
    /// home.
    pub seed: Seed,
    pub started_at: Moment,
    /// The wall clock at the start. A shard does not notice when the wall clock is set later.
    pub wall_clock: WallClock,
    /// The failed logins of all shards.
    pub failures: Failures,
    /// The number of sessions of all shards.
    pub sessions: SharedCount,
    /// Who pays for what all shards keep for clients.
    pub accounts: Accounts,
    /// The memory that the broker may take.
    pub memory: MemoryBudget,
    /// What the shard needs to keep its state in a store; `None`: nothing survives a restart.
    pub store: Option<StoreSettings>,
}

/// The place of a shard in a broker whose state survives a restart.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// The smallest numbers that no session and no message has had, from 1 on.
    pub first_numbers: (u64, u64),
    /// How many sessions of each shard survive a restart.
    pub lasting: Arc<[SharedCount]>,
    /// How long after a start Wills wait that were not published before.
    pub will_grace: Span,
}

impl StoreSettings {
    /// Settings for a broker with so many shards, which begins with what was restored.
    pub fn new(restored: &Restored, shards: usize, will_grace: Span) -> StoreSettings {
        StoreSettings {
            first_numbers: (restored.next_session.max(1), restored.next_message.max(1)),
            lasting: (0..shards).map(|_| SharedCount::default()).collect(),
            will_grace,
        }
    }
}

impl Settings {
    /// The home shard of a Client Identifier.
    pub fn home(&self, client_id: &str) -> ShardId {
        let shards = u64::try_from(self.shards).expect("few shards");
        let index = self.seed.hash(client_id) % shards;
        usize::try_from(index).ok().and_then(ShardId::new).expect("an index below the shard count")
    }

    /// All other shards.
    pub fn peers(&self) -> impl Iterator<Item = ShardId> + use<> {
        let own = self.shard;
        ShardId::all(self.shards).filter(move |&shard| shard != own)
    }
}
