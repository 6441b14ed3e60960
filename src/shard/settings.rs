//! Settings of a shard that never change: its place in the broker.

use super::memory::MemoryBudget;
use crate::{
    access::{Accounts, Failures},
    base::{
        hash::Seed,
        ids::ShardId,
        shared_count::SharedCount,
        time::{Moment, WallClock},
    },
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
