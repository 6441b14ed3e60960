//! A list of subscribers. Finding one takes as long among a hundred thousand as among ten.

use crate::base::{
    hash::{Map, Seed},
    ids::SubscriberId,
};

/// Subscription Options as the shard packs them. Routing carries the byte and never reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Options(pub u8);

/// One subscriber of one filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    pub subscriber: SubscriberId,
    pub options: Options,
    /// The Subscription Identifier, or 0 where there is none.
    pub subscription_id: u32,
}

const _: () = assert!(size_of::<Entry>() <= 16, "a fan-out reads one entry per subscriber");

/// Entries in no particular order, at most one for each subscriber.
#[derive(Debug, Default)]
pub(super) struct SubscriberList {
    entries: Vec<Entry>,
    /// The place of each subscriber. Kept only while the list is too long to search.
    places: Option<Box<Map<SubscriberId, u32>>>,
}

impl SubscriberList {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn position(&self, subscriber: SubscriberId) -> Option<usize> {
        match &self.places {
            Some(places) => places.get(&subscriber).map(|&place| place as usize),
            None => self.entries.iter().position(|entry| entry.subscriber == subscriber),
        }
    }

    /// Replaces the subscriber's earlier entry, or adds the entry at the end.
    pub(super) fn insert(&mut self, entry: Entry, seed: Seed) -> Option<Entry> {
        if let Some(place) = self.position(entry.subscriber) {
            return Some(std::mem::replace(&mut self.entries[place], entry));
        }
        self.entries.push(entry);
        self.note_place(self.len() - 1);
        if self.places.is_none() && self.len() > SEARCHED_MAX {
            self.note_all_places(seed);
        }
        None
    }

    /// Removes the entry at `place`; the last entry takes its place.
    pub(super) fn remove(&mut self, place: usize) -> Entry {
        let removed = self.entries.swap_remove(place);
        if let Some(places) = &mut self.places {
            places.remove(&removed.subscriber);
        }
        if place < self.len() {
            self.note_place(place);
        }
        if self.len() <= SEARCHED_MAX / 2 {
            self.places = None;
        }
        self.release_spare_memory();
        removed
    }

    pub(super) fn swap(&mut self, a: usize, b: usize) {
        self.entries.swap(a, b);
        self.note_place(a);
        self.note_place(b);
    }

    fn note_place(&mut self, place: usize) {
        if let Some(places) = &mut self.places {
            places.insert(self.entries[place].subscriber, narrow(place));
        }
    }

    fn note_all_places(&mut self, seed: Seed) {
        let mut places = Map::with_capacity_and_hasher(self.len() * 2, seed);
        for (place, entry) in self.entries.iter().enumerate() {
            places.insert(entry.subscriber, narrow(place));
        }
        self.places = Some(Box::new(places));
    }

    fn release_spare_memory(&mut self) {
        if self.entries.capacity() > 16 && self.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(self.len() * 2);
        }
    }
}

fn narrow(place: usize) -> u32 {
    u32::try_from(place).expect("a shard has fewer than 2^32 subscribers")
}

/// The longest list that is searched from end to end.
const SEARCHED_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(subscriber: u32) -> Entry {
        Entry { subscriber: SubscriberId(subscriber), options: Options(0), subscription_id: 0 }
    }

    #[test]
    fn everyone_is_found_at_any_length_while_the_list_grows_and_shrinks() {
        let mut list = SubscriberList::default();
        for n in 0..200 {
            assert_eq!(list.insert(entry(n), Seed::new(1)), None);
        }
        list.swap(3, 150);
        for n in (0..200).rev() {
            let place = list.position(SubscriberId(n)).unwrap();
            assert_eq!(list.remove(place), entry(n));
            assert_eq!(list.position(SubscriberId(n)), None);
            for other in 0..n {
                let place = list.position(SubscriberId(other)).unwrap();
                assert_eq!(list.entries()[place].subscriber.0, other);
            }
        }
        assert_eq!(list.len(), 0);
    }

    #[test]
    fn a_second_entry_replaces_the_first() {
        let mut list = SubscriberList::default();
        list.insert(entry(7), Seed::new(1));
        let newer = Entry { options: Options(2), ..entry(7) };
        assert_eq!(list.insert(newer, Seed::new(1)), Some(entry(7)));
        assert_eq!(list.entries(), [newer]);
    }
}
