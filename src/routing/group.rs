//! One share group: whose turn it is, among the shards and among the members here.

use std::ops::Range;

use super::roster::{Entry, Roster};
use crate::base::{
    hash::Seed,
    ids::{ShardId, SubscriberId},
};

/// How many members of a group one shard has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Members whose session is connected.
    pub online: u32,
    /// All members, connected or not.
    pub all: u32,
}

/// How a group shares its messages out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Each connected member in its turn, wherever it is.
    #[default]
    RoundRobin,
}

#[derive(Debug, Default)]
pub(super) struct Group {
    share: Box<str>,
    filter: Box<str>,
    pub(super) members: Members,
    portions: Vec<Portion>,
}

/// What one shard has of a group.
#[derive(Debug)]
struct Portion {
    shard: ShardId,
    counts: Counts,
    /// What the shard has earned since its last turn, in messages times members.
    credit: i64,
}

impl Group {
    pub(super) fn new(share: &str, filter: &str) -> Group {
        Group { share: share.into(), filter: filter.into(), ..Group::default() }
    }

    pub(super) fn key(&self) -> (&str, &str) {
        (&self.share, &self.filter)
    }

    pub(super) fn hash(&self, seed: Seed) -> u64 {
        seed.hash(&self.key())
    }

    pub(super) fn is_unused(&self) -> bool {
        self.portions.is_empty()
    }

    pub(super) fn set_counts(&mut self, shard: ShardId, counts: Counts) {
        self.portions.retain(|portion| portion.shard != shard || counts.all > 0);
        match self.portions.iter_mut().find(|portion| portion.shard == shard) {
            Some(portion) => portion.counts = counts,
            None if counts.all > 0 => self.portions.push(Portion { shard, counts, credit: 0 }),
            None => {}
        }
        self.limit_credits();
    }

    /// Smooth weighted round robin: every shard earns its weight, the richest pays for all. Over
    /// any stretch of messages each shard gets its share, and as evenly spread as can be.
    pub(super) fn choose_shard(&mut self) -> Option<ShardId> {
        let weigh = self.scale();
        let total = self.total(weigh);
        for portion in &mut self.portions {
            portion.credit += weigh(portion.counts);
        }
        let able = self.portions.iter_mut().filter(|portion| weigh(portion.counts) > 0);
        let richest = able.max_by_key(|portion| portion.credit)?;
        richest.credit -= total;
        Some(richest.shard)
    }

    /// A change of weights must not leave anyone rich enough for a long series of turns.
    fn limit_credits(&mut self) {
        let total = self.total(self.scale());
        for portion in &mut self.portions {
            portion.credit = portion.credit.clamp(-total, total);
        }
    }

    /// By members connected, or by all members when nobody is connected.
    fn scale(&self) -> fn(Counts) -> i64 {
        if self.portions.iter().any(|portion| portion.counts.online > 0) {
            |counts| i64::from(counts.online)
        } else {
            |counts| i64::from(counts.all)
        }
    }

    fn total(&self, weigh: fn(Counts) -> i64) -> i64 {
        self.portions.iter().map(|portion| weigh(portion.counts)).sum()
    }
}

/// The members of a group on this shard: the connected ones stand first.
#[derive(Debug, Default)]
pub(super) struct Members {
    roster: Roster,
    online: usize,
    turn: usize,
}

impl Members {
    pub(super) fn counts(&self) -> Counts {
        let narrow = |count| u32::try_from(count).expect("a shard has fewer than 2^32 members");
        Counts { online: narrow(self.online), all: narrow(self.roster.len()) }
    }

    pub(super) fn find(&self, subscriber: SubscriberId) -> Option<Entry> {
        Some(self.roster.entries()[self.roster.position(subscriber)?])
    }

    pub(super) fn insert(&mut self, entry: Entry, online: bool, seed: Seed) -> Option<Entry> {
        let replaced = self.roster.insert(entry, seed);
        self.set_online(entry.subscriber, online);
        replaced
    }

    pub(super) fn remove(&mut self, subscriber: SubscriberId) -> Option<Entry> {
        self.set_online(subscriber, false);
        Some(self.roster.remove(self.roster.position(subscriber)?))
    }

    /// False when the member is so already, or is none.
    pub(super) fn set_online(&mut self, subscriber: SubscriberId, online: bool) -> bool {
        let Some(place) = self.roster.position(subscriber) else { return false };
        let changed = online != (place < self.online);
        if changed && online {
            self.roster.swap(place, self.online);
            self.online += 1;
        } else if changed {
            self.online -= 1;
            self.roster.swap(place, self.online);
        }
        changed
    }

    pub(super) fn choose(&mut self) -> Option<Entry> {
        self.pick(self.connected()).or_else(|| self.pick(self.absent()))
    }

    /// The next member that is not this one.
    pub(super) fn choose_other(&mut self, not: SubscriberId) -> Option<Entry> {
        self.pick_other(self.connected(), not).or_else(|| self.pick_other(self.absent(), not))
    }

    fn connected(&self) -> Range<usize> {
        0..self.online
    }

    fn absent(&self) -> Range<usize> {
        self.online..self.roster.len()
    }

    /// Two picks in a row differ, unless there is nobody else.
    fn pick_other(&mut self, places: Range<usize>, not: SubscriberId) -> Option<Entry> {
        let first = self.pick(places.clone())?;
        if first.subscriber != not {
            return Some(first);
        }
        self.pick(places).filter(|entry| entry.subscriber != not)
    }

    fn pick(&mut self, places: Range<usize>) -> Option<Entry> {
        let step = self.turn.checked_rem(places.len())?;
        self.turn = self.turn.wrapping_add(1);
        Some(self.roster.entries()[places.start + step])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::roster::Options;

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

    fn picks(members: &mut Members, count: usize) -> Vec<u32> {
        (0..count).filter_map(|_| members.choose()).map(|entry| entry.subscriber.0).collect()
    }

    #[test]
    fn connected_members_take_turns_and_absent_ones_only_without_them() {
        let mut group = members(&[1, 2], &[3, 4]);
        let mut four = picks(&mut group, 4);
        four.sort_unstable();
        assert_eq!(four, [1, 1, 2, 2]);
        group.remove(SubscriberId(1));
        assert_eq!(picks(&mut group, 2), [2, 2]);
        group.set_online(SubscriberId(2), false);
        let mut three = picks(&mut group, 3);
        three.sort_unstable();
        assert_eq!(three, [2, 3, 4]);
        assert_eq!(group.counts(), Counts { online: 0, all: 3 });
    }

    #[test]
    fn the_other_member_is_another_one_or_none() {
        let mut group = members(&[1], &[2]);
        for _ in 0..5 {
            let other = group.choose_other(SubscriberId(1)).unwrap();
            assert_eq!(other.subscriber, SubscriberId(2));
        }
        group.remove(SubscriberId(2));
        assert_eq!(group.choose_other(SubscriberId(1)), None);
        assert_eq!(picks(&mut group, 1), [1]);
    }
}
