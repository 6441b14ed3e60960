//! What stands behind one Topic Filter: subscribers here, share groups, and other shards.

use super::{
    arena::Slot,
    shared::GroupId,
    subscriber_list::{Entry, SubscriberList},
};
use crate::base::{
    hash::Seed,
    ids::{ShardSet, SubscriberId},
};

/// One filter of the trie that somebody uses; free for reuse once nobody does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId(pub(super) Slot);

#[derive(Debug, Default)]
pub(super) struct Target {
    /// The other shards that have subscribers of this filter.
    pub(super) interest: ShardSet,
    /// The number under which the other shards were told of the first subscriber here.
    pub(super) told_at: u64,
    pub(super) subscribers: Subscribers,
    groups: Option<Box<GroupList>>,
}

const _: () = assert!(size_of::<Target>() <= 48, "most filters have a target of their own");

/// This shard's own subscribers of one filter. Most filters have one, and pay for one.
#[derive(Debug, Default)]
pub(super) enum Subscribers {
    #[default]
    None,
    One(Entry),
    Many(Box<SubscriberList>),
}

/// Behind one pointer, because few filters have share groups. Each group knows its place here.
#[derive(Debug, Default)]
struct GroupList(Vec<GroupId>);

/// The longest list that keeps the memory of groups that have gone.
const SPARE_GROUPS: usize = 16;

impl Target {
    pub(super) fn is_unused(&self) -> bool {
        self.interest.is_empty() && self.groups.is_none() && self.subscribers.is_empty()
    }

    /// Whether a message that matches has anything to do on this shard.
    pub(super) fn is_local(&self) -> bool {
        self.groups.is_some() || !self.subscribers.is_empty()
    }

    pub(super) fn groups(&self) -> &[GroupId] {
        self.groups.as_ref().map_or(&[], |list| &list.0)
    }

    /// Adds a group, and says its place in the list.
    pub(super) fn add_group(&mut self, group: GroupId) -> u32 {
        let list = &mut self.groups.get_or_insert_default().0;
        list.push(group);
        u32::try_from(list.len() - 1).expect("a shard knows fewer than 2^32 groups")
    }

    /// Removes the group at `place`. Says which group stands there now, if any does.
    pub(super) fn remove_group(&mut self, place: u32) -> Option<GroupId> {
        let list = &mut self.groups.as_mut()?.0;
        let place = place as usize;
        list.swap_remove(place);
        let moved = list.get(place).copied();
        if list.is_empty() {
            self.groups = None;
        } else if list.capacity() > SPARE_GROUPS && list.len() < list.capacity() / 4 {
            list.shrink_to(list.len() * 2);
        }
        moved
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
