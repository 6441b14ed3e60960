//! Who wants one Topic Filter: subscribers of this shard, share groups, and other shards.

use super::{
    arena::Slot,
    group::GroupId,
    subscriber_list::{Entry, SubscriberList},
};
use crate::base::{
    hash::Seed,
    ids::{ShardSet, SubscriberId},
};

/// The number of a filter of the trie. It is reused once the filter has no user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId(pub(super) Slot);

#[derive(Debug, Default)]
pub(super) struct Target {
    /// The other shards that have subscribers of this filter.
    pub(super) interest: ShardSet,
    /// The number of the update that told the other shards of the first subscriber here.
    pub(super) told_at: u64,
    pub(super) subscribers: Subscribers,
    groups: Option<Box<GroupList>>,
}

const _: () = assert!(size_of::<Target>() <= 48, "most filters have a target of their own");

/// This shard's own subscribers of one filter. Most filters have one, and take memory for one.
#[derive(Debug, Default)]
pub(super) enum Subscribers {
    #[default]
    None,
    One(Entry),
    Many(Box<SubscriberList>),
}

/// The share groups of a filter, behind one pointer, because few filters have any.
#[derive(Debug, Default)]
struct GroupList {
    /// In the order of their numbers. Empty places are removed only when another group is added, so
    /// that a loop over the groups comes to each of them once.
    places: Vec<GroupPlace>,
    gone: usize,
}

/// A share group on a filter.
#[derive(Clone, Copy, Debug)]
pub struct GroupPlace {
    /// Larger than the numbers of all groups that were opened before.
    pub number: u64,
    /// `None`: the group has ended.
    pub group: Option<GroupId>,
}

impl Target {
    pub(super) fn is_unused(&self) -> bool {
        self.interest.is_empty() && self.groups.is_none() && self.subscribers.is_empty()
    }

    /// Whether the filter has subscribers or share groups on this shard.
    pub(super) fn is_local(&self) -> bool {
        self.groups.is_some() || !self.subscribers.is_empty()
    }

    pub(super) fn groups(&self) -> &[GroupPlace] {
        self.groups.as_ref().map_or(&[], |list| &list.places)
    }

    /// Adds a group whose number is larger than that of all others.
    pub(super) fn add_group(&mut self, number: u64, group: GroupId) {
        let list = self.groups.get_or_insert_default();
        if list.gone > list.places.len() / 2 {
            list.places.retain(|place| place.group.is_some());
            list.gone = 0;
        }
        if list.places.is_empty() {
            // Most filters have one group at most.
            list.places.reserve_exact(1);
        }
        list.places.push(GroupPlace { number, group: Some(group) });
    }

    pub(super) fn remove_group(&mut self, number: u64) {
        let Some(list) = &mut self.groups else { return };
        if let Ok(place) = list.places.binary_search_by_key(&number, |place| place.number) {
            list.gone += usize::from(list.places[place].group.take().is_some());
        }
        if list.gone == list.places.len() {
            self.groups = None;
        }
    }
}

impl Subscribers {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Subscribers::None)
    }

    pub(super) fn entries(&self) -> &[Entry] {
        match self {
            Subscribers::None => &[],
            Subscribers::One(entry) => std::slice::from_ref(entry),
            Subscribers::Many(list) => list.entries(),
        }
    }

    pub(super) fn find(&self, subscriber: SubscriberId) -> Option<Entry> {
        match self {
            Subscribers::None => None,
            Subscribers::One(only) => (only.subscriber == subscriber).then_some(*only),
            Subscribers::Many(list) => Some(list.entries()[list.position(subscriber)?]),
        }
    }

    pub(super) fn insert(&mut self, entry: Entry, seed: Seed) -> Option<Entry> {
        match self {
            Subscribers::None => {
                *self = Subscribers::One(entry);
                None
            }
            Subscribers::One(only) if only.subscriber == entry.subscriber => {
                Some(std::mem::replace(only, entry))
            }
            Subscribers::One(only) => {
                let mut list = Box::<SubscriberList>::default();
                list.insert(*only, seed);
                list.insert(entry, seed);
                *self = Subscribers::Many(list);
                None
            }
            Subscribers::Many(list) => list.insert(entry, seed),
        }
    }

    pub(super) fn remove(&mut self, subscriber: SubscriberId) -> Option<Entry> {
        match self {
            Subscribers::One(only) if only.subscriber == subscriber => {
                let removed = *only;
                *self = Subscribers::None;
                Some(removed)
            }
            Subscribers::None | Subscribers::One(_) => None,
            Subscribers::Many(list) => {
                let removed = list.remove(list.position(subscriber)?);
                if let [only] = list.entries() {
                    *self = Subscribers::One(*only);
                }
                Some(removed)
            }
        }
    }
}
