//! Shared Subscriptions: one message of a filter goes to one member of each group.
//!
//! Every shard knows each group by its own members and by how many the other shards have. The
//! publisher's shard chooses a shard, and the chosen one a member. A group stands on its filter in
//! the trie for as long as any shard has a member.

use super::{
    arena::{Arena, Slot},
    group::{Counts, Group, Strategy},
    index::Index,
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
    arena: Arena<Group>,
    by_name: Index<GroupId>,
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
        Groups { seed, here, strategy, arena: Arena::default(), by_name: Index::default() }
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
        let replaced = self.arena[group.0].members.insert(member, online, self.seed);
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
        let entry = self.arena[group.0].members.remove(subscriber)?;
        let counts = self.counts(group);
        self.note_counts(group);
        self.close_if_unused(trie, shared.filter, group);
        Some(Left { entry, counts })
    }

    /// A member's session has connected or disconnected. True: the other shards must hear of the
    /// new [`Groups::counts`].
    pub fn set_online(&mut self, group: GroupId, subscriber: SubscriberId, online: bool) -> bool {
        let changed = self.arena[group.0].members.set_online(subscriber, online);
        self.note_counts(group);
        changed
    }

    /// Another shard has so many members now.
    ///
    /// # Panics
    /// When `peer` is this shard.
    pub fn set_remote(
        &mut self,
        trie: &mut Trie,
        shared: SharedFilter<'_>,
        peer: ShardId,
        counts: Counts,
    ) {
        assert!(peer != self.here, "this shard counts its own members");
        let group = match self.find(shared) {
            Some(group) => group,
            None if counts.all == 0 => return,
            None => self.open(trie, shared),
        };
        self.arena[group.0].set_counts(peer, counts);
        self.close_if_unused(trie, shared.filter, group);
    }

    /// This shard's own members.
    pub fn counts(&self, group: GroupId) -> Counts {
        self.arena[group.0].members.counts()
    }

    /// The subscription of one member of this shard.
    pub fn member(&self, group: GroupId, subscriber: SubscriberId) -> Option<Entry> {
        self.arena[group.0].members.find(subscriber)
    }

    /// The shard whose turn it is. Shards without connected members have none while any other
    /// shard has one. [MQTT-4.8.2-4]
    pub fn choose_shard(&mut self, group: GroupId) -> Option<ShardId> {
        match self.strategy {
            Strategy::RoundRobin => self.arena[group.0].choose_shard(),
        }
    }

    /// The member of this shard whose turn it is: a connected one if there is any.
    pub fn choose_member(&mut self, group: GroupId) -> Option<Entry> {
        match self.strategy {
            Strategy::RoundRobin => self.arena[group.0].members.choose(),
        }
    }

    /// The next member of this shard that is not `not`, which cannot take the message.
    pub fn choose_other_member(&mut self, group: GroupId, not: SubscriberId) -> Option<Entry> {
        self.arena[group.0].members.choose_other(not)
    }

    pub fn find(&self, shared: SharedFilter<'_>) -> Option<GroupId> {
        let name = (shared.share.as_str(), shared.filter.as_str());
        self.by_name.find(self.seed.hash(&name), |&id| self.key(id) == name)
    }

    /// The `ShareName` and the Topic Filter of a group.
    pub fn key(&self, group: GroupId) -> (&str, &str) {
        self.arena[group.0].key()
    }

    pub fn len(&self) -> usize {
        self.arena.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn note_counts(&mut self, group: GroupId) {
        let counts = self.counts(group);
        self.arena[group.0].set_counts(self.here, counts);
    }

    fn open(&mut self, trie: &mut Trie, shared: SharedFilter<'_>) -> GroupId {
        let name = (shared.share.as_str(), shared.filter.as_str());
        let group = GroupId(self.arena.insert(Group::new(name.0, name.1)));
        let rehash = |id: &GroupId| self.arena[id.0].hash(self.seed);
        self.by_name.insert(self.seed.hash(&name), group, rehash);
        trie.attach_group(shared.filter, group);
        group
    }

    fn close_if_unused(&mut self, trie: &mut Trie, filter: TopicFilter<'_>, group: GroupId) {
        if self.arena[group.0].is_unused() {
            let rehash = |id: &GroupId| self.arena[id.0].hash(self.seed);
            self.by_name.remove(self.arena[group.0].hash(self.seed), group, rehash);
            trie.detach_group(filter, group);
            self.arena.remove(group.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        routing::{Matches, Options},
        topic::{ShareName, TopicName},
    };

    const SEED: Seed = Seed::new(1);

    fn shared() -> SharedFilter<'static> {
        SharedFilter {
            share: ShareName::parse("g").unwrap(),
            filter: TopicFilter::parse("a/#").unwrap(),
        }
    }

    fn shard(index: usize) -> ShardId {
        ShardId::new(index).unwrap()
    }

    fn entry(subscriber: u32) -> Entry {
        Entry { subscriber: SubscriberId(subscriber), options: Options(0), subscription_id: 0 }
    }

    /// One broker: shard n has `online[n]` connected members and one absent one.
    fn broker(online: &[u32]) -> Vec<(Trie, Groups)> {
        let mut shards: Vec<_> = ShardId::all(online.len())
            .map(|here| (Trie::new(SEED), Groups::new(SEED, here, Strategy::RoundRobin)))
            .collect();
        for (here, (trie, groups)) in shards.iter_mut().enumerate() {
            groups.join(trie, shared(), entry(0), false);
            for member in 1..=online[here] {
                groups.join(trie, shared(), entry(member), true);
            }
            for (peer, &online) in online.iter().enumerate().filter(|(peer, _)| *peer != here) {
                let counts = Counts { online, all: online + 1 };
                groups.set_remote(trie, shared(), shard(peer), counts);
            }
        }
        shards
    }

    /// Publishes in turn through every shard; counts what each member of each shard gets.
    fn publish(shards: &mut [(Trie, Groups)], messages: usize) -> Vec<Vec<u32>> {
        let mut got = vec![vec![0; 1_000]; shards.len()];
        for message in 0..messages {
            let from = message % shards.len();
            let group = shards[from].1.find(shared()).unwrap();
            let to = shards[from].1.choose_shard(group).unwrap().index();
            let group = shards[to].1.find(shared()).unwrap();
            let member = shards[to].1.choose_member(group).unwrap();
            got[to][member.subscriber.index()] += 1;
        }
        got
    }

    #[test]
    fn every_connected_member_of_any_shard_gets_its_equal_share() {
        for online in [vec![1, 1], vec![7, 0, 3, 1], vec![100, 1, 0], vec![5]] {
            let members: u32 = online.iter().sum();
            let mut shards = broker(&online);
            let got = publish(&mut shards, 1_000 * members as usize);
            for (here, &online) in online.iter().enumerate() {
                for (member, &count) in got[here].iter().enumerate() {
                    let wanted = member > 0 && member <= online as usize;
                    let fair = if wanted { 950..=1_050 } else { 0..=0 };
                    assert!(fair.contains(&count), "shard {here} member {member}: {count}");
                }
            }
        }
    }

    #[test]
    fn absent_members_share_only_while_nobody_is_connected() {
        let mut shards = broker(&[0, 0]);
        let got = publish(&mut shards, 100);
        assert_eq!((got[0][0], got[1][0]), (50, 50));
        let (trie, groups) = &mut shards[0];
        assert!(groups.join(trie, shared(), entry(0), true).changed);
        let group = groups.find(shared()).unwrap();
        assert!((0..10).all(|_| groups.choose_shard(group) == Some(shard(0))));
    }

    /// A shard that comes and goes leaves no debt behind that others would have to pay.
    #[test]
    fn shares_stay_fair_after_counts_have_changed_a_thousand_times() {
        let mut shards = broker(&[2, 2, 2]);
        for round in 0..1_000u32 {
            let (trie, groups) = &mut shards[0];
            let group = groups.find(shared()).unwrap();
            groups.choose_shard(group);
            let online = round * 7_919 % 50;
            let counts = Counts { online, all: online };
            groups.set_remote(trie, shared(), shard(2), counts);
        }
        let (trie, groups) = &mut shards[0];
        groups.set_remote(trie, shared(), shard(2), Counts { online: 2, all: 2 });
        let group = groups.find(shared()).unwrap();
        let mut got = [0; 3];
        for _ in 0..600 {
            got[groups.choose_shard(group).unwrap().index()] += 1;
        }
        assert!(got.iter().all(|count| (190..=210).contains(count)), "{got:?}");
    }

    #[test]
    fn a_group_stands_on_its_filter_as_long_as_any_shard_has_a_member() {
        let (mut trie, mut groups) =
            (Trie::new(SEED), Groups::new(SEED, shard(0), Strategy::RoundRobin));
        let joined = groups.join(&mut trie, shared(), entry(3), true);
        groups.set_remote(&mut trie, shared(), shard(1), Counts { online: 0, all: 1 });
        assert_eq!(groups.key(joined.group), ("g", "a/#"));
        assert_eq!(groups.member(joined.group, SubscriberId(3)), Some(entry(3)));
        let left = groups.leave(&mut trie, shared(), SubscriberId(3)).unwrap();
        assert_eq!(left, Left { entry: entry(3), counts: Counts::default() });
        assert_eq!(groups.choose_shard(joined.group), Some(shard(1)));
        assert_eq!(groups.choose_member(joined.group), None);
        let mut matches = Matches::default();
        trie.matches(TopicName::parse("a").unwrap(), &mut matches);
        assert_eq!(trie.groups(matches.targets()[0]), [joined.group]);
        groups.set_remote(&mut trie, shared(), shard(1), Counts::default());
        assert!(groups.is_empty());
        assert_eq!((groups.find(shared()), trie.sizes().nodes), (None, 0));
    }
}
