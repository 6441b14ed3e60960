//! Shared Subscriptions: one message of a filter goes to one member of each group.
//!
//! Every shard knows each group by its own members and by how many the other shards have. The
//! publisher's shard chooses a shard, and the chosen one a member. A group stands on its filter in
//! the trie for as long as any shard has a member.

use hashbrown::HashTable;

use super::{
    arena::{Arena, Slot},
    group::{Counts, Group, Strategy},
    roster::Entry,
    trie::Trie,
};
use crate::{
    base::{
        hash::Seed,
        ids::{ShardId, SubscriberId},
    },
    topic::{SharedFilter, TopicFilter},
};

/// One group on this shard; free for reuse once no shard has a member of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(Slot);

/// All groups that this shard knows.
#[derive(Debug)]
pub struct Groups {
    seed: Seed,
    here: ShardId,
    strategy: Strategy,
    groups: Arena<Group>,
    by_name: HashTable<GroupId>,
}

/// What joining a group has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    pub group: GroupId,
    /// The member's earlier subscription.
    pub replaced: Option<Entry>,
    /// The other shards must hear of the new [`Groups::counts`].
    pub changed: bool,
}

/// What leaving a group has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    pub entry: Entry,
    /// What the other shards must hear. The group itself may be gone already.
    pub counts: Counts,
}

impl Groups {
    /// The groups of shard `here`.
    pub fn new(seed: Seed, here: ShardId, strategy: Strategy) -> Groups {
        Groups { seed, here, strategy, groups: Arena::default(), by_name: HashTable::new() }
    }

    /// Makes a session of this shard a member, or replaces its subscription.
    pub fn join(
        &mut self,
        trie: &mut Trie,
        shared: SharedFilter<'_>,
        member: Entry,
        online: bool,
    ) -> Joined {
        let group = self.find(shared).unwrap_or_else(|| self.open(trie, shared));
        let before = self.counts(group);
        let replaced = self.groups[group.0].members.insert(member, online, self.seed);
        self.note_counts(group);
        Joined { group, replaced, changed: self.counts(group) != before }
    }

    /// Ends a session's membership; `None` when it is no member.
    pub fn leave(
        &mut self,
        trie: &mut Trie,
        shared: SharedFilter<'_>,
        subscriber: SubscriberId,
    ) -> Option<Left> {
        let group = self.find(shared)?;
        let entry = self.groups[group.0].members.remove(subscriber)?;
        let counts = self.counts(group);
        self.note_counts(group);
        self.close_if_unused(trie, shared.filter, group);
        Some(Left { entry, counts })
    }

    /// A member's session has connected or disconnected. True: the other shards must hear of the
    /// new [`Groups::counts`].
    pub fn set_online(&mut self, group: GroupId, subscriber: SubscriberId, online: bool) -> bool {
        let changed = self.groups[group.0].members.set_online(subscriber, online);
        self.note_counts(group);
        changed
    }

    /// Another shard has so many members now.
    pub fn set_remote(
        &mut self,
        trie: &mut Trie,
        shared: SharedFilter<'_>,
        shard: ShardId,
        counts: Counts,
    ) {
        assert!(shard != self.here, "this shard counts its own members");
        let group = match self.find(shared) {
            Some(group) => group,
            None if counts.all == 0 => return,
            None => self.open(trie, shared),
        };
        self.groups[group.0].set_counts(shard, counts);
        self.close_if_unused(trie, shared.filter, group);
    }

    /// This shard's own members.
    pub fn counts(&self, group: GroupId) -> Counts {
        self.groups[group.0].members.counts()
    }

    /// The subscription of one member of this shard.
    pub fn member(&self, group: GroupId, subscriber: SubscriberId) -> Option<Entry> {
        self.groups[group.0].members.find(subscriber)
    }

    /// The shard whose turn it is. Shards without connected members have none while any other
    /// shard has one. [MQTT-4.8.2-4]
    pub fn choose_shard(&mut self, group: GroupId) -> Option<ShardId> {
        match self.strategy {
            Strategy::RoundRobin => self.groups[group.0].choose_shard(),
        }
    }

    /// The member of this shard whose turn it is: a connected one if there is any.
    pub fn choose_member(&mut self, group: GroupId) -> Option<Entry> {
        match self.strategy {
            Strategy::RoundRobin => self.groups[group.0].members.choose(),
        }
    }

    /// The next member of this shard that is not `not`, which cannot take the message.
    pub fn choose_other_member(&mut self, group: GroupId, not: SubscriberId) -> Option<Entry> {
        self.groups[group.0].members.choose_other(not)
    }

    pub fn find(&self, shared: SharedFilter<'_>) -> Option<GroupId> {
        let name = (shared.share.as_str(), shared.filter.as_str());
        self.by_name.find(self.seed.hash(&name), |&id| self.key(id) == name).copied()
    }

    /// The `ShareName` and the Topic Filter of a group.
    pub fn key(&self, group: GroupId) -> (&str, &str) {
        key(&self.groups, group)
    }

    pub fn len(&self) -> usize {
        self.groups.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn note_counts(&mut self, group: GroupId) {
        let counts = self.counts(group);
        self.groups[group.0].set_counts(self.here, counts);
    }

    fn open(&mut self, trie: &mut Trie, shared: SharedFilter<'_>) -> GroupId {
        let name = (shared.share.as_str(), shared.filter.as_str());
        let group = GroupId(self.groups.insert(Group::new(name.0, name.1)));
        let (seed, groups) = (self.seed, &self.groups);
        let rehash = |&id: &GroupId| seed.hash(&key(groups, id));
        self.by_name.insert_unique(seed.hash(&name), group, rehash);
        trie.attach_group(shared.filter, group);
        group
    }

    fn close_if_unused(&mut self, trie: &mut Trie, filter: TopicFilter<'_>, group: GroupId) {
        if self.groups[group.0].is_unused() {
            let hash = self.seed.hash(&self.key(group));
            if let Ok(found) = self.by_name.find_entry(hash, |&id| id == group) {
                found.remove();
            }
            trie.detach_group(filter, group);
            self.groups.remove(group.0);
        }
    }
}

fn key(groups: &Arena<Group>, group: GroupId) -> (&str, &str) {
    (&groups[group.0].share, &groups[group.0].filter)
}
