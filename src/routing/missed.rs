//! Updates of the retained store that a subscriber with an open [`Cursor`](super::Cursor) was not
//! sent live. Its cursors must not skip them.

use std::ops::RangeInclusive;

/// The updates that one subscriber has missed. Its own updates are kept apart: they are only for
/// subscriptions without No Local.
#[derive(Debug, Default)]
pub struct Missed {
    own: Ranges,
    others: Ranges,
    /// The latest update that was noted, missed or not.
    latest: u64,
}

impl Missed {
    pub fn is_empty(&self) -> bool {
        self.own.list.is_empty() && self.others.list.is_empty()
    }

    /// Notes an update that is for the subscriber: the latest one, or an earlier one whose message
    /// took longer. `own`: the subscriber published it.
    pub fn note(&mut self, sequence: u64, own: bool, delivered: bool) {
        let Missed { own: those, others: rest, latest } = self;
        let (those, rest) = if own { (those, rest) } else { (rest, those) };
        rest.is_open = false;
        if delivered {
            those.is_open = false;
        } else if sequence < *latest {
            those.note_late(sequence);
        } else {
            those.note(sequence);
        }
        *latest = sequence.max(*latest);
    }

    /// Ends all ranges, because the latest update may reach the subscriber later than others.
    pub fn end_ranges(&mut self) {
        self.own.is_open = false;
        self.others.is_open = false;
    }

    pub(super) fn contains(&self, sequence: u64, not_own: bool) -> bool {
        self.others.contains(sequence) || (!not_own && self.own.contains(sequence))
    }
}

/// Numbers of updates, as ranges in their order.
///
/// A range grows while update after update is missed. An update that was delivered ends it. So no
/// delivered update is in a range, as long as there are few ranges. The number of ranges is
/// bounded: beyond it the last one covers delivered updates, too, and these may be sent twice.
#[derive(Debug, Default)]
struct Ranges {
    list: Vec<RangeInclusive<u64>>,
    /// Whether the subscriber has missed all of its updates since the start of the last range.
    is_open: bool,
}

/// 16 KiB of ranges.
const RANGES_MAX: usize = 682;

impl Ranges {
    fn note(&mut self, sequence: u64) {
        let grows = self.is_open || self.list.len() == RANGES_MAX;
        match self.list.last_mut() {
            Some(last) if grows => *last = *last.start()..=sequence,
            _ => self.list.push(sequence..=sequence),
        }
        self.is_open = true;
    }

    /// Notes an update whose message took longer than that of a later update. No range grows by it,
    /// because the later update may have been delivered.
    fn note_late(&mut self, sequence: u64) {
        if self.contains(sequence) {
            return;
        }
        let after = self.list.partition_point(|range| *range.start() <= sequence);
        if self.list.len() < RANGES_MAX {
            self.list.insert(after, sequence..=sequence);
        } else if let Some(next) = self.list.get_mut(after) {
            *next = sequence..=*next.end();
        } else if let Some(last) = self.list.last_mut() {
            *last = *last.start()..=sequence;
        }
    }

    fn contains(&self, sequence: u64) -> bool {
        let after = self.list.partition_point(|range| *range.start() <= sequence);
        after.checked_sub(1).is_some_and(|last| self.list[last].contains(&sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_missed_is_known_and_what_was_delivered_is_not() {
        let mut missed = Missed::default();
        assert!(missed.is_empty() && !missed.contains(1, false));
        for (sequence, delivered) in
            [(3, true), (5, false), (8, false), (9, true), (12, false), (13, true), (14, true)]
        {
            missed.note(sequence, false, delivered);
        }
        let known: Vec<u64> = (0..20).filter(|&it| missed.contains(it, true)).collect();
        // Those between were for others.
        assert_eq!(known, [5, 6, 7, 8, 12]);
    }

    #[test]
    fn what_was_delivered_before_an_earlier_update_was_missed_is_not_sent_again() {
        let mut missed = Missed::default();
        let notes = [(3, false), (5, true), (6, true), (4, false), (7, false), (9, true)];
        for (sequence, delivered) in notes {
            missed.note(sequence, false, delivered);
        }
        // An own update is later than one of another client, and the other way round.
        missed.note(11, true, true);
        missed.note(10, false, false);
        missed.note(12, false, false);
        let known: Vec<u64> = (0..20).filter(|&it| missed.contains(it, true)).collect();
        assert_eq!(known, [3, 4, 7, 10, 12]);
    }

    #[test]
    fn a_late_update_beyond_the_last_of_many_ranges_is_known() {
        let mut missed = Missed::default();
        let last = 2 * RANGES_MAX as u64;
        for sequence in 1..=last {
            missed.note(sequence, false, sequence % 2 == 0);
        }
        missed.note(last + 2, false, true);
        missed.note(last + 1, false, false);
        assert!(missed.contains(last + 1, true) && !missed.contains(last + 2, true));
    }

    #[test]
    fn what_was_missed_late_is_known_too() {
        let mut missed = Missed::default();
        for (sequence, delivered) in [(3, true), (5, false), (6, true), (9, false), (7, false)] {
            missed.note(sequence, false, delivered);
            missed.end_ranges();
        }
        let known: Vec<u64> = (0..20).filter(|&it| missed.contains(it, true)).collect();
        assert_eq!(known, [5, 7, 9]);
        let mut full = Missed::default();
        (1..=RANGES_MAX as u64).for_each(|n| {
            full.note(10 * n, false, false);
            full.end_ranges();
        });
        full.note(15, false, false);
        assert!(full.contains(15, true) && full.others.list.len() == RANGES_MAX);
    }

    #[test]
    fn what_the_subscriber_has_published_is_missed_without_no_local_only() {
        let mut missed = Missed::default();
        for (sequence, own) in [(1, false), (2, true), (3, false), (4, true)] {
            missed.note(sequence, own, false);
        }
        let known = |not_own| (0..9).filter(|&it| missed.contains(it, not_own)).count();
        assert_eq!((known(true), known(false)), (2, 4));
    }

    #[test]
    fn nothing_that_was_missed_is_forgotten_when_there_are_too_many_ranges() {
        let mut missed = Missed::default();
        let last = 10 * RANGES_MAX as u64;
        for sequence in 0..last {
            missed.note(sequence, false, sequence % 2 == 0);
        }
        assert_eq!(missed.others.list.len(), RANGES_MAX);
        assert!((0..last).all(|it| it % 2 == 0 || missed.contains(it, true)));
        assert!(!missed.contains(0, true) && !missed.contains(2, true));
    }
}
