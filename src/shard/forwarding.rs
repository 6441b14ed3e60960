//! Writes a letter for each other shard that a message is for.
//!
//! Knows shards and letters; does not know how the receivers were found.

use super::{
    letter::{Address, GroupKeys},
    ports::Ports,
    retained::Retention,
};
use crate::{
    base::ids::{ConnectionId, ShardId, ShardSet},
    session::message::MessageView,
    topic::SharedFilter,
};

/// The share groups of the message that is being routed, by the shards that serve them. The memory
/// is reused.
#[derive(Debug)]
pub(super) struct Forwarding {
    peers: ShardSet,
    group_keys: Vec<String>,
    /// Which shards have any.
    group_shards: ShardSet,
}

impl Forwarding {
    pub(super) fn new(shards: usize, peers: impl Iterator<Item = ShardId>) -> Forwarding {
        let mut others = ShardSet::EMPTY;
        peers.for_each(|peer| others.insert(peer));
        let group_keys = vec![String::new(); shards];
        Forwarding { peers: others, group_keys, group_shards: ShardSet::EMPTY }
    }

    /// Another shard is to give the message to a member of this group.
    pub(super) fn add_group(&mut self, shard: ShardId, group: SharedFilter<'_>) {
        GroupKeys::write(&mut self.group_keys[shard.index()], group);
        self.group_shards.insert(shard);
    }

    /// Writes a letter for each other shard that the message is for. A message that changes a
    /// retained message is for all of them. Returns the shards whose batches are crowded now.
    #[inline]
    pub(super) fn post(
        &mut self,
        view: &MessageView<'_>,
        interested: ShardSet,
        retention: Option<Retention>,
        publisher: Option<ConnectionId>,
        ports: &mut impl Ports,
    ) -> ShardSet {
        let mut shards = interested.union(self.group_shards);
        if retention.is_some() {
            shards = shards.union(self.peers);
        }
        if shards.is_empty() {
            return ShardSet::EMPTY;
        }
        let mut crowded = ShardSet::EMPTY;
        for shard in shards.iter() {
            let keys = &mut self.group_keys[shard.index()];
            let address = Address {
                to_subscribers: retention.is_some() || interested.contains(shard),
                groups: GroupKeys::from_text(keys),
                retained_at: retention.map(|retention| retention.time),
                removes_retained: retention.is_some_and(|retention| retention.removes),
                publisher,
                hops: 0,
            };
            let letters = ports.letters(shard);
            letters.push_publish(view, &address);
            keys.clear();
            if letters.is_crowded() {
                crowded.insert(shard);
            }
        }
        self.group_shards = ShardSet::EMPTY;
        crowded
    }
}
