//! Values addressed by small numbers. A slot that was freed is reused before a new one is made.

use std::{
    mem,
    num::NonZeroU32,
    ops::{Index, IndexMut},
};

/// The number of a value in an [`Arena`]. `Option<Slot>` takes four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Slot(NonZeroU32);

impl Slot {
    pub(super) fn number(self) -> u32 {
        self.0.get()
    }

    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// Values in pages that never move: growing copies nothing.
#[derive(Debug)]
pub(super) struct Arena<T> {
    pages: Vec<Box<[T; PAGE]>>,
    free: Vec<Slot>,
    made: usize,
}

impl<T> Default for Arena<T> {
    fn default() -> Arena<T> {
        Arena { pages: Vec::new(), free: Vec::new(), made: 0 }
    }
}

impl<T: Default> Arena<T> {
    pub(super) fn len(&self) -> usize {
        self.made - self.free.len()
    }

    pub(super) fn insert(&mut self, value: T) -> Slot {
        let slot = self.free.pop().unwrap_or_else(|| self.make());
        self[slot] = value;
        slot
    }

    /// Frees the slot and returns its value. The caller must hold no other copy of `slot`.
    pub(super) fn remove(&mut self, slot: Slot) -> T {
        self.free.push(slot);
        mem::take(&mut self[slot])
    }

    fn make(&mut self) -> Slot {
        if self.made == self.pages.len() * PAGE {
            self.add_page();
        }
        self.made += 1;
        let number = u32::try_from(self.made).ok().and_then(NonZeroU32::new);
        Slot(number.expect("fewer than 2^32 values live at one time"))
    }

    fn add_page(&mut self) {
        let page: Vec<T> = (0..PAGE).map(|_| T::default()).collect();
        self.pages.extend(page.into_boxed_slice().try_into().ok());
    }
}

impl<T> Index<Slot> for Arena<T> {
    type Output = T;

    #[inline]
    fn index(&self, slot: Slot) -> &T {
        let index = slot.index();
        &self.pages[index / PAGE][index % PAGE]
    }
}

impl<T> IndexMut<Slot> for Arena<T> {
    #[inline]
    fn index_mut(&mut self, slot: Slot) -> &mut T {
        let index = slot.index();
        &mut self.pages[index / PAGE][index % PAGE]
    }
}

/// Values on one page.
const PAGE: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_given_back_is_used_again() {
        let mut arena = Arena::default();
        let (first, second) = (arena.insert("first"), arena.insert("second"));
        assert_eq!(arena.remove(first), "first");
        assert_eq!(arena.len(), 1);
        let third = arena.insert("third");
        assert_eq!(third, first);
        assert_eq!((arena[second], arena[third], arena.len()), ("second", "third", 2));
    }

    #[test]
    fn values_keep_their_places_over_many_pages() {
        let mut arena = Arena::default();
        let slots: Vec<Slot> = (0..=3 * PAGE).map(|value| arena.insert(value)).collect();
        assert!(slots.iter().enumerate().all(|(value, &slot)| arena[slot] == value));
        assert_eq!((arena.len(), arena.pages.len()), (3 * PAGE + 1, 4));
    }
}
