//! A timing wheel: many coarse deadlines at a very low cost each.
//!
//! Knows no clock and cannot cancel a deadline. When a key is due, the caller checks whether it
//! still matters, and inserts it again if it is not time yet.

use crate::base::time::{Moment, Span};

/// Keys by the time when they are due, four levels of 64 slots.
///
/// ```text
/// level 0    64 slots of one tick each     16 ms
/// level 1    64 slots of 64 ticks each      1 s
/// level 2    64 slots of 64² ticks each    66 s
/// level 3    64 slots of 64³ ticks each    70 min, so that all of them span 74 h
/// ```
/// A slot is opened when its first tick has come. At level 0 its keys are due; above that its
/// entries move down. Entries beyond the last level wait in its farthest slot, and are placed again
/// later.
#[derive(Debug)]
pub struct Wheel<K> {
    /// The first tick that is not completely done. All slots with entries start at it or later.
    position: u64,
    /// For each level, one bit for each slot with entries.
    occupied: [u64; LEVELS],
    /// The slots of level 0, then those of level 1, and so on.
    slots: Vec<WheelSlot<K>>,
    len: usize,
}

impl<K: Copy> Wheel<K> {
    pub fn new(now: Moment) -> Wheel<K> {
        let slots = (0..LEVELS * SLOTS).map(|_| WheelSlot { chunks: Vec::new() }).collect();
        Wheel { position: last_tick(now) + 1, occupied: [0; LEVELS], slots, len: 0 }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Makes `key` due at `due`, or within a tick after it.
    pub fn insert(&mut self, due: Moment, key: K) {
        self.len += 1;
        self.place(TimerEntry { tick: first_tick(due), key });
    }

    /// When [`Wheel::advance`] next has something to do: at most a tick after the earliest
    /// deadline, often before it.
    pub fn next_due(&self) -> Option<Moment> {
        let (_, start) = self.next_slot()?;
        Some(Moment::from_nanos(start.saturating_mul(TICK.as_nanos())))
    }

    /// Appends the keys that are due at `now`, never one that is not.
    ///
    /// One call moves at most [`MOVES_MAX`] entries. When that was not enough, [`Wheel::next_due`]
    /// is not after `now`, and the next call goes on.
    pub fn advance(&mut self, now: Moment, due: &mut Vec<K>) {
        let last = last_tick(now);
        for _ in 0..MOVES_MAX {
            let Some((index, start)) = self.next_slot().filter(|&(_, start)| start <= last) else {
                self.position = self.position.max(last + 1);
                return;
            };
            self.position = start;
            self.open(index, due);
        }
    }

    /// Takes one entry out of a slot whose time has come.
    fn open(&mut self, index: usize, due: &mut Vec<K>) {
        let Some(entry) = self.take(index) else { return };
        if index < SLOTS {
            self.len -= 1;
            due.push(entry.key);
        } else {
            self.place(entry);
        }
    }

    fn take(&mut self, index: usize) -> Option<TimerEntry<K>> {
        let slot = &mut self.slots[index];
        let entry = slot.pop();
        if slot.chunks.is_empty() {
            self.occupied[index / SLOTS] &= !(1 << (index % SLOTS));
        }
        entry
    }

    /// Puts an entry into a slot that is opened no later than the entry's tick.
    fn place(&mut self, entry: TimerEntry<K>) {
        let tick = entry.tick.clamp(self.position, self.position + RANGE - 1);
        let level = level_for(tick - self.position);
        let place = place_of(tick >> (level * SLOT_BITS));
        self.occupied[level] |= 1 << place;
        self.slots[level * SLOTS + place as usize].push(entry);
    }

    /// The slot that is opened next, and the tick at which it starts.
    fn next_slot(&self) -> Option<(usize, u64)> {
        let slots = (0..LEVELS).filter_map(|level| self.next_slot_at(level));
        slots.min_by_key(|&(_, start)| start)
    }

    fn next_slot_at(&self, level: usize) -> Option<(usize, u64)> {
        if self.occupied[level] == 0 {
            return None;
        }
        let shift = level * SLOT_BITS;
        // Counted over all time, the first slot of this level that has not started before
        // `position`; the 64 slots from there on are the ones that the level holds.
        let first = self.position.div_ceil(1 << shift);
        let turned = self.occupied[level].rotate_right(place_of(first));
        let number = first + u64::from(turned.trailing_zeros());
        Some((level * SLOTS + place_of(number) as usize, number << shift))
    }
}

/// A key, and the tick in which it comes due.
#[derive(Clone, Copy, Debug)]
struct TimerEntry<K> {
    tick: u64,
    key: K,
}

/// The entries of one slot, in chunks: adding one never copies a million others, and memory is
/// freed while they are removed.
#[derive(Debug)]
struct WheelSlot<K> {
    /// No chunk is empty, and all but the last one are full.
    chunks: Vec<Vec<TimerEntry<K>>>,
}

impl<K: Copy> WheelSlot<K> {
    fn push(&mut self, entry: TimerEntry<K>) {
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK_ENTRIES => chunk.push(entry),
            _ => self.chunks.push(vec![entry]),
        }
    }

    fn pop(&mut self) -> Option<TimerEntry<K>> {
        let chunk = self.chunks.last_mut()?;
        let entry = chunk.pop();
        if chunk.is_empty() {
            self.chunks.pop();
        }
        if self.chunks.is_empty() {
            self.chunks = Vec::new();
        }
        entry
    }
}

/// The first tick that is not before `due`, so that no key is due early.
fn first_tick(due: Moment) -> u64 {
    due.as_nanos().div_ceil(TICK.as_nanos())
}

/// The last tick that has come at `now`.
fn last_tick(now: Moment) -> u64 {
    now.as_nanos() / TICK.as_nanos()
}

/// The lowest level whose slots reach `delta` ticks ahead.
fn level_for(delta: u64) -> usize {
    let bits = u64::BITS - delta.leading_zeros();
    (bits.saturating_sub(1) as usize / SLOT_BITS).min(LEVELS - 1)
}

/// The place of a slot in its level, from its number over all time.
#[expect(clippy::cast_possible_truncation, reason = "a place is less than 64")]
const fn place_of(number: u64) -> u32 {
    (number % SLOTS as u64) as u32
}

/// The resolution of deadlines.
pub const TICK: Span = Span::from_millis(16);
/// Entries that one call of [`Wheel::advance`] moves at most: well below a millisecond of work.
pub const MOVES_MAX: usize = 4096;

const LEVELS: usize = 4;
const SLOT_BITS: usize = 6;
const SLOTS: usize = 1 << SLOT_BITS;
const CHUNK_ENTRIES: usize = 256;
/// How many ticks ahead the wheel reaches.
const RANGE: u64 = 1 << (LEVELS * SLOT_BITS);
const _: () = assert!(SLOTS == u64::BITS as usize, "the slots of a level are the bits of a word");
const _: () = assert!(size_of::<TimerEntry<[u32; 4]>>() <= 24, "entries are small");

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// The wheel's stupid twin: everything that was inserted and has not fired, in a list.
    struct Twins {
        wheel: Wheel<usize>,
        waiting: Vec<(Moment, usize)>,
        now: Moment,
        inserted: usize,
    }

    impl Twins {
        fn new(now: Moment) -> Twins {
            Twins { wheel: Wheel::new(now), waiting: Vec::new(), now, inserted: 0 }
        }

        fn insert(&mut self, due: Moment) {
            self.wheel.insert(due, self.inserted);
            self.waiting.push((due, self.inserted));
            self.inserted += 1;
        }

        /// Moves time on, and checks what fired against the list.
        fn advance(&mut self, now: Moment) {
            self.now = now;
            let mut fired = Vec::new();
            while self.wheel.next_due().is_some_and(|next| next <= now) {
                self.wheel.advance(now, &mut fired);
            }
            self.wheel.advance(now, &mut fired);
            for key in fired {
                let index = self.waiting.iter().position(|&(_, other)| other == key);
                let (due, _) = self.waiting.swap_remove(index.expect("a key fires once"));
                assert!(due <= now, "{key} fired early");
            }
            self.check();
        }

        fn check(&self) {
            assert_eq!(self.wheel.len(), self.waiting.len());
            let earliest = self.waiting.iter().map(|&(due, _)| due).min();
            assert_eq!(self.wheel.next_due().is_some(), earliest.is_some());
            if let (Some(next), Some(earliest)) = (self.wheel.next_due(), earliest) {
                assert!(next <= earliest.max(self.now) + TICK, "{next:?} comes too late");
                assert!(earliest + TICK > self.now, "{earliest:?} was missed");
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Operation {
        Insert(Span),
        Advance(Span),
        AdvanceToNext,
    }

    /// Spans of every size from nothing to well beyond the range of the wheel.
    fn span() -> impl Strategy<Value = Span> {
        (0u32..52, any::<u64>())
            .prop_map(|(bits, noise)| Span::from_nanos(noise & ((1 << bits) - 1)))
    }

    fn operation() -> impl Strategy<Value = Operation> {
        prop_oneof![
            4 => span().prop_map(Operation::Insert),
            1 => (0u64..5000).prop_map(|ticks| Operation::Insert(Span::from_millis(16 * ticks))),
            2 => span().prop_map(Operation::Advance),
            3 => Just(Operation::AdvanceToNext),
        ]
    }

    proptest! {
        #[test]
        fn the_wheel_agrees_with_a_list(start in span(), operations in vec(operation(), 1..200)) {
            let mut twins = Twins::new(Moment::default() + start);
            for operation in operations {
                match operation {
                    Operation::Insert(span) => twins.insert(twins.now + span),
                    Operation::Advance(span) => twins.advance(twins.now + span),
                    Operation::AdvanceToNext => {
                        let next = twins.wheel.next_due().unwrap_or(twins.now);
                        twins.advance(next.max(twins.now));
                    }
                }
                twins.check();
            }
        }
    }

    #[test]
    fn a_deadline_that_has_passed_fires_within_a_tick() {
        let now = Moment::from_nanos(1_000_000_000_000);
        let mut wheel = Wheel::new(now);
        wheel.insert(Moment::default(), 'a');
        let mut due = Vec::new();
        wheel.advance(now + TICK, &mut due);
        assert_eq!(due, ['a']);
    }

    #[test]
    fn one_call_moves_a_bounded_number_and_the_next_ones_go_on() {
        let mut wheel = Wheel::new(Moment::default());
        let keys = 3 * MOVES_MAX;
        for key in 0..keys {
            wheel.insert(Moment::default() + Span::from_secs(1), key);
        }
        let now = Moment::default() + Span::from_secs(2);
        let mut due = Vec::new();
        let mut calls = 0;
        while wheel.next_due().is_some_and(|next| next <= now) {
            let before = due.len();
            wheel.advance(now, &mut due);
            assert!(due.len() - before <= MOVES_MAX);
            calls += 1;
        }
        assert!((3..=6).contains(&calls), "{calls}");
        due.sort_unstable();
        assert!(due.into_iter().eq(0..keys));
    }

    #[test]
    fn the_last_moment_of_all_is_waited_for_without_overflow() {
        let mut wheel = Wheel::new(Moment::default());
        wheel.insert(Moment::from_nanos(u64::MAX), ());
        let mut due = Vec::new();
        for year in 1..300 {
            let now = Moment::default() + Span::from_secs(year * 365 * 86_400);
            while wheel.next_due().is_some_and(|next| next <= now) {
                wheel.advance(now, &mut due);
            }
        }
        assert!(due.is_empty());
        assert_eq!(wheel.len(), 1);
    }

    #[test]
    fn a_slot_that_was_emptied_owns_no_memory() {
        let mut wheel = Wheel::new(Moment::default());
        for _ in 0..10_000 {
            wheel.insert(Moment::default() + TICK, ());
        }
        let now = Moment::default() + TICK + TICK;
        let mut due = Vec::new();
        while !wheel.is_empty() {
            wheel.advance(now, &mut due);
        }
        assert!(wheel.slots.iter().all(|slot| slot.chunks.capacity() == 0));
    }
}
