//! Values at small numbers. A place that was given back is used again before a new one is made.

use std::{
    mem,
    num::NonZeroU32,
    ops::{Index, IndexMut},
};

/// A place in an [`Arena`]; `Option<Slot>` is four bytes.
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

#[derive(Debug)]
pub(super) struct Arena<T> {
    values: Vec<T>,
    free: Vec<Slot>,
}

impl<T> Default for Arena<T> {
    fn default() -> Arena<T> {
        Arena { values: Vec::new(), free: Vec::new() }
    }
}

impl<T: Default> Arena<T> {
    pub(super) fn len(&self) -> usize {
        self.values.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, value: T) -> Slot {
        if let Some(slot) = self.free.pop() {
            self[slot] = value;
            return slot;
        }
        self.values.push(value);
        let number = u32::try_from(self.values.len()).ok().and_then(NonZeroU32::new);
        Slot(number.expect("fewer than 2^32 values live at one time"))
    }

    /// Gives the place back. The caller holds no other copy of `slot`.
    pub(super) fn remove(&mut self, slot: Slot) -> T {
        self.free.push(slot);
        mem::take(&mut self[slot])
    }
}

impl<T> Index<Slot> for Arena<T> {
    type Output = T;

    #[inline]
    fn index(&self, slot: Slot) -> &T {
        &self.values[slot.index()]
    }
}

impl<T> IndexMut<Slot> for Arena<T> {
    #[inline]
    fn index_mut(&mut self, slot: Slot) -> &mut T {
        &mut self.values[slot.index()]
    }
}

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
}
