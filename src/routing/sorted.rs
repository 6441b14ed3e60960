//! A sorted list in many small parts. A value takes little more than its own size, and adding or
//! removing one moves no more than one part.

use std::cmp::Ordering;

/// Values in an order that the caller keeps: every call compares by the same rule.
#[derive(Debug)]
pub(super) struct Sorted<T> {
    /// None of them is empty.
    parts: Vec<Vec<T>>,
}

/// Where a value is, or where it would be. Valid until the list changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    part: usize,
    index: usize,
}

/// Values in one part.
const PART_MAX: usize = 256;
/// Parts with fewer values are joined with a neighbour.
const PART_MIN: usize = PART_MAX / 4;
/// Values for which a part gets more memory at a time.
const STEP: usize = 16;

impl<T> Default for Sorted<T> {
    fn default() -> Sorted<T> {
        Sorted { parts: Vec::new() }
    }
}

impl<T> Sorted<T> {
    /// The place of the value that is `Equal`, or the place where it belongs. `order` says how a
    /// value in the list compares to the one that is looked for.
    pub(super) fn find(&self, order: impl Fn(&T) -> Ordering) -> Result<Place, Place> {
        let begins_before = |part: &Vec<T>| order(&part[0]) != Ordering::Greater;
        let part = self.parts.partition_point(begins_before).saturating_sub(1);
        let Some(values) = self.parts.get(part) else { return Err(Place { part, index: 0 }) };
        let place = |index| Place { part, index };
        values.binary_search_by(order).map(place).map_err(place)
    }

    /// # Panics
    /// If no value is at this place.
    pub(super) fn at(&self, place: Place) -> &T {
        &self.parts[place.part][place.index]
    }

    /// Puts a value in the place of another one that is equal to it in the order.
    ///
    /// # Panics
    /// If no value is at this place.
    pub(super) fn replace(&mut self, place: Place, value: T) -> T {
        std::mem::replace(&mut self.parts[place.part][place.index], value)
    }

    /// Adds a value where it belongs, as [`Self::find`] has said.
    pub(super) fn insert(&mut self, place: Place, value: T) {
        if self.parts.is_empty() {
            self.parts.push(Vec::new());
        }
        let Place { part, index } = self.with_room(place);
        let values = &mut self.parts[part];
        if values.len() == values.capacity() {
            values.reserve_exact(STEP);
        }
        values.insert(index, value);
    }

    /// # Panics
    /// If no value is at this place.
    pub(super) fn remove(&mut self, Place { part, index }: Place) -> T {
        let values = &mut self.parts[part];
        let removed = values.remove(index);
        if values.is_empty() {
            self.parts.remove(part);
        } else if values.len() < PART_MIN {
            self.join(part);
        } else {
            give_back(values);
        }
        if self.parts.capacity() > STEP && self.parts.len() < self.parts.capacity() / 4 {
            self.parts.shrink_to(self.parts.len() * 2);
        }
        removed
    }

    /// The values in order, beginning with the one at this place or the next one.
    pub(super) fn from(&self, place: Place) -> impl Iterator<Item = &T> {
        let parts = self.parts.get(place.part..).unwrap_or_default();
        parts.iter().flatten().skip(place.index)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.parts.iter().flatten()
    }

    pub(super) fn first(&self) -> Option<&T> {
        self.parts.first()?.first()
    }

    /// The place for a new value, after its part has been divided if that was full. A new part
    /// begins after the end of a full one, so that values that come in their order fill parts.
    fn with_room(&mut self, place: Place) -> Place {
        let Place { part, index } = place;
        if self.parts[part].len() < PART_MAX {
            return place;
        }
        if index == PART_MAX {
            self.parts.insert(part + 1, Vec::new());
            return Place { part: part + 1, index: 0 };
        }
        let keep = PART_MAX / 2;
        let rest = self.parts[part].split_off(keep);
        resize(&mut self.parts[part]);
        self.parts.insert(part + 1, rest);
        if index <= keep { place } else { Place { part: part + 1, index: index - keep } }
    }

    /// Joins a part with the next one, or with the one before it if it is the last, unless they are
    /// too many values together.
    fn join(&mut self, part: usize) {
        let first = if part + 1 < self.parts.len() { part } else { part.saturating_sub(1) };
        let [one, other, ..] = &mut self.parts[first..] else {
            return give_back(&mut self.parts[part]);
        };
        if one.len() + other.len() > PART_MAX - PART_MIN {
            return give_back(&mut self.parts[part]);
        }
        one.reserve_exact(other.len());
        one.append(other);
        self.parts.remove(first + 1);
    }
}

fn give_back<T>(values: &mut Vec<T>) {
    if values.capacity() > 2 * (values.len() + STEP) {
        resize(values);
    }
}

/// Moves the values to memory for them and few more. An allocator does not give back what is left
/// of memory that shrinks to half of its size.
fn resize<T>(values: &mut Vec<T>) {
    let mut smaller = Vec::with_capacity(values.len() + STEP);
    smaller.append(values);
    *values = smaller;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn insert(list: &mut Sorted<u32>, value: u32) -> bool {
        match list.find(|it| it.cmp(&value)) {
            Ok(_) => false,
            Err(place) => {
                list.insert(place, value);
                true
            }
        }
    }

    fn remove(list: &mut Sorted<u32>, value: u32) -> bool {
        list.find(|it| it.cmp(&value)).is_ok_and(|place| list.remove(place) == value)
    }

    fn check(list: &Sorted<u32>, twin: &BTreeSet<u32>) {
        assert!(list.iter().eq(twin), "{list:?}");
        assert_eq!(list.first(), twin.first());
        assert!(list.parts.iter().all(|part| !part.is_empty() && part.len() <= PART_MAX));
    }

    #[test]
    fn values_in_order_fill_their_parts_and_leave_nothing_behind() {
        let mut list = Sorted::default();
        let count = 10 * u32::try_from(PART_MAX).unwrap();
        (0..count).for_each(|value| assert!(insert(&mut list, value)));
        assert_eq!(list.parts.len(), 10);
        assert!(list.parts.iter().all(|part| part.capacity() <= PART_MAX));
        (0..count).for_each(|value| assert!(remove(&mut list, value)));
        assert_eq!((list.first(), list.parts.len()), (None, 0));
        assert!(list.parts.capacity() <= STEP);
    }

    #[test]
    fn reading_begins_at_any_place() {
        let mut list = Sorted::default();
        (0..2_000).for_each(|value| assert!(insert(&mut list, 2 * value)));
        for wanted in 0..4_001 {
            let (Ok(place) | Err(place)) = list.find(|it| it.cmp(&wanted));
            let (read, next) = (list.from(place).next(), list.from(place).nth(1));
            let first = wanted.next_multiple_of(2);
            let known = |value: u32| (value < 4_000).then_some(value);
            assert_eq!((read.copied(), next.copied()), (known(first), known(first + 2)));
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set_whatever_comes_and_goes(
            operations in prop::collection::vec((any::<bool>(), 0..1_500u32), 0..4_000),
        ) {
            let (mut list, mut twin) = (Sorted::default(), BTreeSet::new());
            // Values that are there before, so that parts are divided and joined.
            for value in (0..1_500).step_by(2) {
                insert(&mut list, value);
                twin.insert(value);
            }
            for (adds, value) in operations {
                if adds {
                    prop_assert_eq!(insert(&mut list, value), twin.insert(value));
                } else {
                    prop_assert_eq!(remove(&mut list, value), twin.remove(&value));
                }
            }
            check(&list, &twin);
            while let Some(value) = twin.pop_last() {
                prop_assert!(remove(&mut list, value));
            }
            check(&list, &twin);
        }
    }
}
