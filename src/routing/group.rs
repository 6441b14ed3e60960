//! One share group: chooses the next shard, and the next member on this shard.

use std::{ops::Range, rc::Rc};

use super::{
    arena::Slot,
    strategy::{Selector, Strategy},
    subscriber_list::{Entry, SubscriberList},
};
use crate::{
    base::{
        hash::Seed,
        ids::{ShardId, SubscriberId},
    },
    topic::GroupName,
};

/// One group on this shard; free for reuse once no shard has a member of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub(super) Slot);

/// How many members of a group one shard has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Members whose session is connected.
    pub online: u32,
    /// All members, connected or not.
    pub all: u32,
    /// The order in which shards got their first connected member: lower than the rank of every
    /// shard that got one later.
    pub rank: u32,
    /// The last message for the group found all members here behind or without room.
    pub full: bool,
}

#[derive(Debug, Default)]
pub(super) struct Group {
    /// `None` in a place that is not in use.
    name: Option<Rc<GroupName>>,
    strategy: Strategy,
    members: Members,
    portions: Vec<Portion>,
    /// The number of the update that last told the other shards of the members here, 0 if never.
    told_at: u64,
    /// Larger than that of each group that was opened before it.
    number: u64,
}

/// The part of a group on one shard.
#[derive(Debug)]
struct Portion {
    shard: ShardId,
    counts: Counts,
    /// The credit that the shard has earned since its last turn, in messages times members.
    credit: i64,
}

impl Group {
    pub(super) fn new(name: GroupName, strategy: Strategy, number: u64) -> Group {
        Group { name: Some(Rc::new(name)), strategy, number, ..Group::default() }
    }

    pub(super) fn name(&self) -> &Rc<GroupName> {
        self.name.as_ref().expect("a group in use has a name")
    }

    pub(super) fn strategy(&self) -> Strategy {
        self.strategy
    }

    pub(super) fn members(&self) -> &Members {
        &self.members
    }

    pub(super) fn hash(&self, seed: Seed) -> u64 {
        seed.hash(&self.name().key())
    }

    pub(super) fn told_at(&self) -> u64 {
        self.told_at
    }

    pub(super) fn set_told_at(&mut self, number: u64) {
        self.told_at = number;
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn is_unused(&self) -> bool {
        self.portions.is_empty()
    }

    /// Changes the members of this shard, and updates their counts.
    pub(super) fn change_members<T>(
        &mut self,
        here: ShardId,
        change: impl FnOnce(&mut Members) -> T,
    ) -> T {
        let was_online = self.members.online > 0;
        let changed = change(&mut self.members);
        if !was_online && self.members.online > 0 {
            self.members.rank = self.next_rank();
        }
        self.set_counts(here, self.members.counts());
        changed
    }

    pub(super) fn set_counts(&mut self, shard: ShardId, counts: Counts) {
        self.portions.retain(|portion| portion.shard != shard || counts.all > 0);
        if self.portions.is_empty() {
            // Most groups have members on one shard only.
            self.portions.reserve_exact(1);
        }
        match self.portions.iter_mut().find(|portion| portion.shard == shard) {
            Some(portion) => portion.counts = counts,
            None if counts.all > 0 => self.portions.push(Portion { shard, counts, credit: 0 }),
            None => {}
        }
        self.limit_credits();
    }

    pub(super) fn all_counts(&self) -> impl Iterator<Item = (ShardId, Counts)> {
        self.portions.iter().map(|portion| (portion.shard, portion.counts))
    }

    /// The shard that chooses the member.
    pub(super) fn choose_shard(&mut self, selector: Selector) -> Option<ShardId> {
        match self.strategy {
            Strategy::RoundRobin | Strategy::LeastInFlight => self.next_in_turn(),
            Strategy::Random => self.drawn(selector),
            Strategy::Sticky => self.first_to_come(),
            Strategy::HashClient | Strategy::HashTopic => self.best_score(selector),
        }
    }

    /// The member of this shard that gets the message. `load` returns what a member has in flight
    /// and queued.
    pub(super) fn choose_member(
        &mut self,
        selector: Selector,
        load: impl Fn(SubscriberId) -> usize,
    ) -> Option<Entry> {
        match self.strategy {
            Strategy::RoundRobin => self.members.next_in_turn(),
            Strategy::LeastInFlight => self.members.least_loaded(load),
            Strategy::Sticky => self.members.favourite(),
            Strategy::Random | Strategy::HashClient | Strategy::HashTopic => {
                self.members.placed(selector)
            }
        }
    }

    /// The shard after this one that has a member, in their order, whether it is full or not.
    pub(super) fn next_shard(&self, here: ShardId) -> Option<ShardId> {
        let others = || self.portions.iter().map(|portion| portion.shard).filter(|&it| it != here);
        others().filter(|&it| it > here).min().or_else(|| others().min())
    }

    /// Whether messages of the group may go to this shard now.
    pub(super) fn has_weight(&self, shard: ShardId) -> bool {
        let weigh = self.scale();
        self.portions.iter().any(|portion| portion.shard == shard && weigh(portion.counts) > 0)
    }

    /// Smooth weighted round robin: for each message, every shard earns its weight as credit. The
    /// shard with the most credit gets the message and pays the sum of all weights. So each shard
    /// gets its share, spread as evenly as possible.
    fn next_in_turn(&mut self) -> Option<ShardId> {
        let weigh = self.scale();
        let total = self.total(weigh);
        for portion in &mut self.portions {
            portion.credit += i64::from(weigh(portion.counts));
        }
        let able = self.portions.iter_mut().filter(|portion| weigh(portion.counts) > 0);
        let richest = able.max_by_key(|portion| portion.credit)?;
        richest.credit -= total;
        Some(richest.shard)
    }

    fn drawn(&self, selector: Selector) -> Option<ShardId> {
        let weigh = self.scale();
        let weights = self.portions.iter().map(|portion| u64::from(weigh(portion.counts)));
        let mut left = selector.below(weights.clone().sum())?;
        for (portion, weight) in self.portions.iter().zip(weights) {
            match left.checked_sub(weight) {
                Some(rest) => left = rest,
                None => return Some(portion.shard),
            }
        }
        None
    }

    /// The shard that has had connected members for the longest. A shard that gets members later
    /// does not take over. All shards agree on it.
    fn first_to_come(&self) -> Option<ShardId> {
        let weigh = self.scale();
        let able = self.portions.iter().filter(|portion| weigh(portion.counts) > 0);
        able.map(|portion| (portion.counts.rank, portion.shard)).min().map(|(_, shard)| shard)
    }

    fn best_score(&self, selector: Selector) -> Option<ShardId> {
        let weigh = self.scale();
        let able = self.portions.iter().filter(|portion| weigh(portion.counts) > 0);
        let scores = able
            .map(|portion| (selector.score(portion.shard, weigh(portion.counts)), portion.shard));
        let best = scores.max_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        best.map(|(_, shard)| shard)
    }

    /// Above the rank of every shard that has a connected member.
    fn next_rank(&self) -> u32 {
        let online = self.portions.iter().filter(|portion| portion.counts.online > 0);
        online.map(|portion| portion.counts.rank).max().map_or(0, |rank| rank.saturating_add(1))
    }

    /// After a change of weights, limits the credits, so that no shard gets a long series of turns.
    fn limit_credits(&mut self) {
        let total = self.total(self.scale());
        for portion in &mut self.portions {
            portion.credit = portion.credit.clamp(-total, total);
        }
    }

    /// The weight of a shard: its connected members, or all of its members if none is connected.
    /// A shard whose members are full has no weight while another shard has a member with room.
    fn scale(&self) -> fn(Counts) -> u32 {
        let scales: [fn(Counts) -> u32; 3] = [
            |counts| if counts.full { 0 } else { counts.online },
            |counts| if counts.full { 0 } else { counts.all },
            |counts| counts.online,
        ];
        let any = |scale: &fn(Counts) -> u32| {
            self.portions.iter().any(|portion| scale(portion.counts) > 0)
        };
        scales.into_iter().find(any).unwrap_or(|counts| counts.all)
    }

    fn total(&self, weigh: fn(Counts) -> u32) -> i64 {
        self.portions.iter().map(|portion| i64::from(weigh(portion.counts))).sum()
    }
}

/// The members of a group on this shard: the connected ones stand first.
#[derive(Debug, Default)]
pub(super) struct Members {
    list: SubscriberList,
    online: usize,
    /// The rank of this shard, as [`Counts`] tell it.
    rank: u32,
    turn: usize,
    /// Whether the last message for the group found all members here behind or without room.
    full: bool,
    /// The member that got the last message, for the strategy in which one member gets them all.
    favourite: Option<SubscriberId>,
}

/// Members that are compared to find the least loaded one. Of more members only so many are.
const LOOKS_MAX: usize = 32;

impl Members {
    pub(super) fn counts(&self) -> Counts {
        let narrow = |count| u32::try_from(count).expect("a shard has fewer than 2^32 members");
        let (rank, full) = (self.rank, self.full);
        Counts { online: narrow(self.online), all: narrow(self.list.len()), rank, full }
    }

    pub(super) fn find(&self, subscriber: SubscriberId) -> Option<Entry> {
        Some(self.list.entries()[self.list.position(subscriber)?])
    }

    pub(super) fn insert(&mut self, entry: Entry, online: bool, seed: Seed) -> Option<Entry> {
        let replaced = self.list.insert(entry, seed);
        self.full = false;
        self.set_online(entry.subscriber, online);
        replaced
    }

    pub(super) fn remove(&mut self, subscriber: SubscriberId) -> Option<Entry> {
        self.set_online(subscriber, false);
        Some(self.list.remove(self.list.position(subscriber)?))
    }

    /// Sets whether a member is connected. False: it is so already, or is no member. The places of
    /// connected members change as little as possible: the last one takes the place of one that
    /// disconnects.
    pub(super) fn set_online(&mut self, subscriber: SubscriberId, online: bool) -> bool {
        let Some(place) = self.list.position(subscriber) else { return false };
        let changed = online != (place < self.online);
        self.full &= !changed;
        if changed && online {
            self.list.swap(place, self.online);
            self.online += 1;
        } else if changed {
            self.online -= 1;
            self.list.swap(place, self.online);
        }
        changed
    }

    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// Sets whether all members here are behind or full. True: that has changed.
    pub(super) fn set_full(&mut self, full: bool) -> bool {
        std::mem::replace(&mut self.full, full) != full
    }

    /// The connected members, and the absent ones; each list begins after this member.
    pub(super) fn after(&self, subscriber: SubscriberId) -> [impl Iterator<Item = Entry>; 2] {
        let (online, absent) = self.list.entries().split_at(self.online);
        [online, absent].map(|part| {
            let place = part.iter().position(|entry| entry.subscriber == subscriber);
            let others = part.len() - usize::from(place.is_some());
            part.iter().cycle().skip(place.map_or(0, |place| place + 1)).take(others).copied()
        })
    }

    fn next_in_turn(&mut self) -> Option<Entry> {
        let places = self.places();
        let place = self.turn.checked_rem(places.len())?;
        self.turn = self.turn.wrapping_add(1);
        Some(self.list.entries()[place])
    }

    /// The member with the least load. Members with the same load take turns.
    fn least_loaded(&mut self, load: impl Fn(SubscriberId) -> usize) -> Option<Entry> {
        let places = self.places().len();
        let first = self.turn.checked_rem(places)?;
        self.turn = self.turn.wrapping_add(1);
        let looks = (0..places.min(LOOKS_MAX)).map(|step| (first + step) % places);
        let entries = looks.map(|place| self.list.entries()[place]);
        entries.min_by_key(|entry| load(entry.subscriber))
    }

    /// The member that got the last message, or a new one if that member has gone.
    fn favourite(&mut self) -> Option<Entry> {
        let known = self.favourite.and_then(|favourite| self.list.position(favourite));
        let place = known.filter(|place| self.places().contains(place));
        let entry = *self.list.entries().get(place.unwrap_or(0))?;
        self.favourite = Some(entry.subscriber);
        Some(entry)
    }

    fn placed(&self, selector: Selector) -> Option<Entry> {
        let place = selector.place(self.places().len())?;
        Some(self.list.entries()[place])
    }

    /// The places of the members that may get a message: the connected ones, or all if none is.
    fn places(&self) -> Range<usize> {
        0..if self.online > 0 { self.online } else { self.list.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::subscriber_list::Options;

    fn entry(subscriber: u32) -> Entry {
        Entry { subscriber: SubscriberId(subscriber), options: Options(0), subscription_id: 0 }
    }

    fn members(online: &[u32], offline: &[u32]) -> Members {
        let mut members = Members::default();
        for &subscriber in offline {
            members.insert(entry(subscriber), false, Seed::new(1));
        }
        for &subscriber in online {
            members.insert(entry(subscriber), true, Seed::new(1));
        }
        members
    }

    fn turns(members: &mut Members, count: usize) -> Vec<u32> {
        (0..count).filter_map(|_| members.next_in_turn()).map(|entry| entry.subscriber.0).collect()
    }

    #[test]
    fn connected_members_take_turns_and_absent_ones_only_without_them() {
        let mut group = members(&[1, 2], &[3, 4]);
        let mut four = turns(&mut group, 4);
        four.sort_unstable();
        assert_eq!(four, [1, 1, 2, 2]);
        group.remove(SubscriberId(1));
        assert_eq!(turns(&mut group, 2), [2, 2]);
        group.set_online(SubscriberId(2), false);
        let mut three = turns(&mut group, 3);
        three.sort_unstable();
        assert_eq!(three, [2, 3, 4]);
        assert_eq!(group.counts(), Counts { online: 0, all: 3, ..Counts::default() });
    }

    #[test]
    fn the_favourite_stays_while_it_is_connected() {
        let mut group = members(&[1, 2], &[3]);
        let favourite = group.favourite().unwrap();
        group.insert(entry(4), true, Seed::new(1));
        assert!((0..3).all(|_| group.favourite() == Some(favourite)));
        group.set_online(favourite.subscriber, false);
        let second = group.favourite().unwrap();
        assert!(second != favourite && second.subscriber != SubscriberId(3));
        group.set_online(favourite.subscriber, true);
        assert_eq!(group.favourite(), Some(second));
        assert_eq!(Members::default().favourite(), None);
    }

    #[test]
    fn the_least_loaded_member_is_found_and_equals_take_turns() {
        let mut group = members(&[1, 2, 3], &[4]);
        let mut least = |loads: [usize; 5]| {
            group.least_loaded(|member| loads[member.index()]).unwrap().subscriber.0
        };
        assert_eq!(least([0, 3, 2, 9, 0]), 2);
        assert_eq!(least([0, 3, 5, 1, 0]), 3);
        let mut three: Vec<u32> = (0..3).map(|_| least([0; 5])).collect();
        three.sort_unstable();
        assert_eq!(three, [1, 2, 3]);
    }

    /// However many members come and go before it, a selector is not moved from one that stays to
    /// another that stays, but for the one that fills the gap.
    #[test]
    fn a_lot_keeps_its_member_while_others_go() {
        let all: Vec<u32> = (0..10).collect();
        let mut group = members(&all, &[]);
        let who =
            |group: &Members, selector| group.placed(Selector(selector)).unwrap().subscriber.0;
        let before: Vec<u32> = (0..1000).map(|selector| who(&group, selector)).collect();
        group.set_online(SubscriberId(4), false);
        let moved =
            before.iter().zip(0..).filter(|&(&old, selector)| who(&group, selector) != old).count();
        assert!(moved < 300, "{moved} of 1000");
    }
}
