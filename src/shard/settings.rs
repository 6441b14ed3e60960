//! What a shard is: its place in its broker, which never changes.

use std::net::SocketAddr;

use crate::{
    base::{
        hash::Seed,
        ids::ShardId,
        shared_count::SharedCount,
        time::{Moment, WallClock},
    },
    transport::Listener,
};

/// The place of one shard in its broker, from the shard's start to its end.
#[derive(Clone, Debug)]
pub struct Settings {
    pub shard: ShardId,
    /// How many shards the broker has.
    pub shards: usize,
    /// The same on all shards: a Client Identifier is at home where this hash says.
    pub seed: Seed,
    pub started_at: Moment,
    /// What the wall clock showed at the start. Nothing in a shard follows a wall clock that is set
    /// later.
    pub wall_clock: WallClock,
    /// The sessions of all shards.
    pub sessions: SharedCount,
    /// Where clients connect; an [`Arrival`](super::ports::Arrival) names a listener by its place.
    pub listeners: Vec<Listener>,
}

impl Settings {
    /// The shard where a Client Identifier is at home.
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

    /// Where this listener listens, as it was configured.
    pub(super) fn listener_address(&self, listener: u16) -> SocketAddr {
        let known = self.listeners.get(usize::from(listener));
        known.expect("a connection names one of the listeners").address
    }

    /// Whether clients on this listener come from this machine.
    pub fn is_loopback(&self, listener: u16) -> bool {
        self.listeners.get(usize::from(listener)).is_some_and(Listener::is_loopback)
    }
}
