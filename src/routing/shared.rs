//! Shared Subscriptions: one message of a filter goes to one member of each group.
//!
//! For each group, a shard knows its own members and how many members each other shard has. The
//! publisher's shard chooses a shard, and that shard chooses a member. A group is in the trie, at
//! its filter, as long as any shard has a member.

use std::rc::Rc;

use super::{
    arena::Arena,
    group::{Counts, Group, GroupId, Members},
    index::Index,
    strategy::{Selector, Strategies, Strategy},
    subscriber_list::Entry,
    target::GroupPlace,
    trie::Trie,
};
use crate::{
    base::{
        hash::Seed,
        ids::{ShardId, SubscriberId},
    },
    topic::{GroupName, SharedFilter, TopicFilter},
};

/// All groups that this shard knows.
#[derive(Debug)]
pub struct Groups {
    seed: Seed,
    here: ShardId,
    strategies: Strategies,
    arena: Arena<Group>,
    by_name: Index<GroupId>,
    /// How many have ever been opened: the number of the latest one.
    opened: u64,
}

/// What joining a group has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    pub group: GroupId,
    /// The member's earlier subscription.
    pub replaced: Option<Entry>,
    /// The other shards must be told the new [`Groups::counts`].
    pub changed: bool,
}

/// What leaving a group has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    pub entry: Entry,
    /// The counts to tell to the other shards. The group itself may have ended already.
    pub counts: Counts,
}

impl Groups {
    /// The groups of shard `here`.
    pub fn new(seed: Seed, here: ShardId, strategies: Strategies) -> Groups {
        let (arena, by_name) = (Arena::default(), Index::default());
        Groups { seed, here, strategies, arena, by_name, opened: 0 }
    }

    /// Sets the strategies for groups that begin from now on. Existing groups keep theirs.
    pub fn set_strategies(&mut self, strategies: Strategies) {
        self.strategies = strategies;
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
        let seed = self.seed;
        let replaced = self.arena[group.0]
            .change_members(self.here, |members| members.insert(member, online, seed));
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
        let entry =
            self.arena[group.0].change_members(self.here, |members| members.remove(subscriber))?;
        let counts = self.counts(group);
        self.close_if_unused(trie, shared.filter, group);
        Some(Left { entry, counts })
    }

    /// A member's session has connected or disconnected. True: the other shards must be told the
    /// new [`Groups::counts`].
    pub fn set_online(&mut self, group: GroupId, subscriber: SubscriberId, online: bool) -> bool {
        let change = |members: &mut Members| members.set_online(subscriber, online);
        self.arena[group.0].change_members(self.here, change)
    }

    /// Another shard has these numbers of members now.
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
        self.arena[group.0].members().counts()
    }

    /// The number of the update that last told the other shards [`Self::counts`], 0 if never. All
    /// shards know the members in it once they have applied that number.
    pub fn told_at(&self, group: GroupId) -> u64 {
        self.arena[group.0].told_at()
    }

    /// Notes the number of the update that told the other shards [`Self::counts`].
    pub fn set_told_at(&mut self, group: GroupId, number: u64) {
        self.arena[group.0].set_told_at(number);
    }

    /// The counts of every shard that has members, as far as this shard knows.
    pub fn all_counts(&self, group: GroupId) -> Vec<(ShardId, Counts)> {
        let mut counts: Vec<_> = self.arena[group.0].all_counts().collect();
        counts.sort_unstable_by_key(|&(shard, _)| shard);
        counts
    }

    /// The subscription of one member of this shard.
    pub fn member(&self, group: GroupId, subscriber: SubscriberId) -> Option<Entry> {
        self.arena[group.0].members().find(subscriber)
    }

    /// The shard that chooses the member. Shards without connected members are passed over while
    /// another shard has one.
    pub fn choose_shard(&mut self, group: GroupId, selector: Selector) -> Option<ShardId> {
        self.arena[group.0].choose_shard(selector)
    }

    /// The member of this shard that gets the message: a connected one if there is any. `load`
    /// returns what a member has in flight and queued.
    pub fn choose_member(
        &mut self,
        group: GroupId,
        selector: Selector,
        load: impl Fn(SubscriberId) -> usize,
    ) -> Option<Entry> {
        self.arena[group.0].choose_member(selector, load)
    }

    /// The other members of this shard, those that are connected and those that are not.
    pub fn others(
        &self,
        group: GroupId,
        subscriber: SubscriberId,
    ) -> [impl Iterator<Item = Entry>; 2] {
        self.arena[group.0].members().after(subscriber)
    }

    /// Notes whether all members of this shard are behind or have no room. True: the other shards
    /// must be told the new [`Groups::counts`].
    #[inline]
    pub fn set_full(&mut self, group: GroupId, full: bool) -> bool {
        // Every message asks, and hardly any changes it.
        if self.arena[group.0].members().is_full() == full {
            return false;
        }
        let change = |members: &mut Members| members.set_full(full);
        self.arena[group.0].change_members(self.here, change)
    }

    /// The next other shard with members of the group, in the order of shards, if there is one.
    pub fn next_shard(&self, group: GroupId) -> Option<ShardId> {
        self.arena[group.0].next_shard(self.here)
    }

    /// Whether another shard has a connected member and, as far as this shard knows, room.
    pub fn others_take(&self, group: GroupId) -> bool {
        let mut others = self.arena[group.0].all_counts().filter(|&(shard, _)| shard != self.here);
        others.any(|(_, counts)| counts.online > 0 && !counts.full)
    }

    /// Whether a member of this shard may get a message: a member here is connected, or no member
    /// is connected on any shard.
    pub fn may_serve(&self, group: GroupId) -> bool {
        self.arena[group.0].has_weight(self.here)
    }

    pub fn strategy(&self, group: GroupId) -> Strategy {
        self.arena[group.0].strategy()
    }

    pub fn find(&self, shared: SharedFilter<'_>) -> Option<GroupId> {
        let name = (shared.share.as_str(), shared.filter.as_str());
        self.by_name.find(self.seed.hash(&name), |&id| self.key(id) == name)
    }

    /// The `ShareName` and the Topic Filter of a group.
    pub fn key(&self, group: GroupId) -> (&str, &str) {
        self.name(group).key()
    }

    /// The name of a group. Messages keep it, and it may outlive the group.
    pub fn name(&self, group: GroupId) -> &Rc<GroupName> {
        self.arena[group.0].name()
    }

    /// The number of the latest group that was opened.
    pub fn latest(&self) -> u64 {
        self.opened
    }

    /// The group that had this place when it was read, unless it has ended since.
    pub fn at(&self, place: GroupPlace) -> Option<GroupId> {
        place.group.filter(|group| self.arena[group.0].number() == place.number)
    }

    pub fn len(&self) -> usize {
        self.arena.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn open(&mut self, trie: &mut Trie, shared: SharedFilter<'_>) -> GroupId {
        let strategy = self.strategies.of(shared.share.as_str());
        let name = GroupName::from(shared);
        let hash = self.seed.hash(&name.key());
        self.opened += 1;
        let group = GroupId(self.arena.insert(Group::new(name, strategy, self.opened)));
        let rehash = |id: &GroupId| self.arena[id.0].hash(self.seed);
        self.by_name.insert(hash, group, rehash);
        trie.attach_group(shared.filter, self.opened, group);
        group
    }

    fn close_if_unused(&mut self, trie: &mut Trie, filter: TopicFilter<'_>, group: GroupId) {
        if self.arena[group.0].is_unused() {
            let rehash = |id: &GroupId| self.arena[id.0].hash(self.seed);
            self.by_name.remove(self.arena[group.0].hash(self.seed), group, rehash);
            let group = self.arena.remove(group.0);
            trie.detach_group(filter, group.number());
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

    fn strategies(default: Strategy) -> Strategies {
        Strategies { default, ..Strategies::default() }
    }

    /// One broker: shard n has `online[n]` connected members and one absent one.
    fn broker(online: &[u32], strategy: Strategy) -> Vec<(Trie, Groups)> {
        let mut shards: Vec<_> = ShardId::all(online.len())
            .map(|here| (Trie::new(SEED), Groups::new(SEED, here, strategies(strategy))))
            .collect();
        for (here, (trie, groups)) in shards.iter_mut().enumerate() {
            groups.join(trie, shared(), entry(0), false);
            for member in 1..=online[here] {
                groups.join(trie, shared(), entry(member), true);
            }
        }
        for from in 0..online.len() {
            tell(&mut shards, from);
        }
        shards
    }

    /// Tells all other shards how many members this one has.
    fn tell(shards: &mut [(Trie, Groups)], from: usize) {
        let groups = &shards[from].1;
        let counts = groups.find(shared()).map_or_else(Counts::default, |it| groups.counts(it));
        for to in (0..shards.len()).filter(|&to| to != from) {
            let (trie, groups) = &mut shards[to];
            groups.set_remote(trie, shared(), shard(from), counts);
        }
    }

    /// Whom a message with this selector comes to when it is published through one shard.
    fn route(shards: &mut [(Trie, Groups)], from: usize, selector: u64) -> (usize, u32) {
        let group = shards[from].1.find(shared()).unwrap();
        let to = shards[from].1.choose_shard(group, Selector(selector)).unwrap().index();
        let group = shards[to].1.find(shared()).unwrap();
        assert!(shards[to].1.may_serve(group));
        let member = shards[to].1.choose_member(group, Selector(selector), |_| 0).unwrap();
        (to, member.subscriber.0)
    }

    /// Publishes in turn through every shard; counts what each member of each shard gets.
    fn publish(shards: &mut [(Trie, Groups)], messages: usize) -> Vec<Vec<u32>> {
        let mut got = vec![vec![0; 1_000]; shards.len()];
        for message in 0..messages {
            let selector = SEED.hash(&message);
            let (to, member) = route(shards, message % shards.len(), selector);
            got[to][member as usize] += 1;
        }
        got
    }

    #[test]
    fn every_connected_member_of_any_shard_gets_its_equal_share() {
        let spreading = [
            (Strategy::RoundRobin, 1_000),
            (Strategy::LeastInFlight, 1_000),
            (Strategy::Random, 10_000),
            (Strategy::HashClient, 10_000),
            (Strategy::HashTopic, 10_000),
        ];
        for (strategy, each) in spreading {
            for online in [vec![1, 1], vec![7, 0, 3, 1], vec![20, 1, 0], vec![5]] {
                let members: u32 = online.iter().sum();
                let mut shards = broker(&online, strategy);
                let got = publish(&mut shards, (each * members) as usize);
                for (here, &online) in online.iter().enumerate() {
                    for (member, &count) in got[here].iter().enumerate() {
                        let wanted = member > 0 && member <= online as usize;
                        let share = f64::from(count) / f64::from(each);
                        let fair = if wanted { 0.95..=1.05 } else { 0.0..=0.0 };
                        let who = format!("{strategy:?}: shard {here} member {member}");
                        assert!(fair.contains(&share), "{who}: {count}");
                    }
                }
            }
        }
    }

    #[test]
    fn equal_lots_come_to_the_same_member_through_any_shard() {
        for strategy in [Strategy::HashClient, Strategy::HashTopic, Strategy::Sticky] {
            let mut shards = broker(&[3, 0, 5, 1], strategy);
            for selector in 0..500 {
                let first = route(&mut shards, 0, selector);
                assert!(
                    (1..4).all(|from| route(&mut shards, from, selector) == first),
                    "{strategy:?}"
                );
            }
        }
    }

    /// Who comes later does not take over, on whichever shard, and when the favourite goes all
    /// shards agree on the next.
    #[test]
    fn all_shards_stick_to_one_member_until_it_goes() {
        let mut shards = broker(&[0, 1, 0], Strategy::Sticky);
        for newcomer in [0, 2] {
            let (trie, groups) = &mut shards[newcomer];
            groups.join(trie, shared(), entry(1), true);
            tell(&mut shards, newcomer);
            assert!((0..3).all(|from| route(&mut shards, from, 0) == (1, 1)));
        }
        let group = shards[1].1.find(shared()).unwrap();
        assert!(shards[1].1.set_online(group, SubscriberId(1), false));
        tell(&mut shards, 1);
        assert!((0..3).all(|from| route(&mut shards, from, 0) == (0, 1)));
        assert!(shards[1].1.set_online(group, SubscriberId(1), true));
        tell(&mut shards, 1);
        assert!((0..3).all(|from| route(&mut shards, from, 0) == (0, 1)));
    }

    #[test]
    fn absent_members_share_only_while_nobody_is_connected() {
        let mut shards = broker(&[0, 0], Strategy::RoundRobin);
        let got = publish(&mut shards, 100);
        assert_eq!((got[0][0], got[1][0]), (50, 50));
        let (trie, groups) = &mut shards[0];
        assert!(groups.join(trie, shared(), entry(0), true).changed);
        let group = groups.find(shared()).unwrap();
        assert!((0..10).all(|_| groups.choose_shard(group, Selector(0)) == Some(shard(0))));
        tell(&mut shards, 0);
        assert!(!shards[1].1.may_serve(shards[1].1.find(shared()).unwrap()));
    }

    /// A shard that comes and goes leaves no debt behind that others would have to pay.
    #[test]
    fn shares_stay_fair_after_counts_have_changed_a_thousand_times() {
        let mut shards = broker(&[2, 2, 2], Strategy::RoundRobin);
        for round in 0..1_000u32 {
            let (trie, groups) = &mut shards[0];
            let group = groups.find(shared()).unwrap();
            groups.choose_shard(group, Selector(0));
            let online = round * 7_919 % 50;
            let counts = Counts { online, all: online, ..Counts::default() };
            groups.set_remote(trie, shared(), shard(2), counts);
        }
        let (trie, groups) = &mut shards[0];
        groups.set_remote(
            trie,
            shared(),
            shard(2),
            Counts { online: 2, all: 2, ..Counts::default() },
        );
        let group = groups.find(shared()).unwrap();
        let mut got = [0; 3];
        for _ in 0..600 {
            got[groups.choose_shard(group, Selector(0)).unwrap().index()] += 1;
        }
        assert!(got.iter().all(|count| (190..=210).contains(count)), "{got:?}");
    }

    #[test]
    fn a_group_stands_on_its_filter_as_long_as_any_shard_has_a_member() {
        let (mut trie, mut groups) =
            (Trie::new(SEED), Groups::new(SEED, shard(0), Strategies::default()));
        let joined = groups.join(&mut trie, shared(), entry(3), true);
        groups.set_remote(&mut trie, shared(), shard(1), Counts { all: 1, ..Counts::default() });
        assert_eq!(groups.key(joined.group), ("g", "a/#"));
        assert_eq!(groups.member(joined.group, SubscriberId(3)), Some(entry(3)));
        let left = groups.leave(&mut trie, shared(), SubscriberId(3)).unwrap();
        assert_eq!(left, Left { entry: entry(3), counts: Counts::default() });
        assert_eq!(groups.choose_shard(joined.group, Selector(0)), Some(shard(1)));
        assert_eq!(groups.choose_member(joined.group, Selector(0), |_| 0), None);
        let mut matches = Matches::default();
        trie.matches(TopicName::parse("a").unwrap(), &mut matches);
        let places = trie.groups(matches.targets()[0]);
        assert!(places.iter().map(|place| place.group).eq([Some(joined.group)]));
        groups.set_remote(&mut trie, shared(), shard(1), Counts::default());
        assert!(groups.is_empty());
        assert_eq!((groups.find(shared()), trie.sizes().nodes), (None, 0));
    }

    /// One list for all: searching it from end to end each time would take minutes.
    #[test]
    fn a_hundred_thousand_groups_leave_one_filter_in_any_order() {
        let (mut trie, mut groups) =
            (Trie::new(SEED), Groups::new(SEED, shard(0), Strategies::default()));
        let names: Vec<String> = (0..GROUPS).map(|n| n.to_string()).collect();
        let shared = |n: usize| SharedFilter {
            share: ShareName::parse(&names[n]).unwrap(),
            filter: TopicFilter::parse("a").unwrap(),
        };
        for n in 0..GROUPS {
            groups.join(&mut trie, shared(n), entry(1), true);
        }
        for step in 0..GROUPS {
            let n = step * 7_919 % GROUPS;
            assert!(groups.leave(&mut trie, shared(n), SubscriberId(1)).is_some(), "{n}");
        }
        assert!(groups.is_empty());
        assert_eq!((trie.sizes().targets, trie.sizes().nodes), (0, 0));
    }

    const GROUPS: usize = 100_000;
}
