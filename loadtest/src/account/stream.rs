//! Whether every message of one publisher arrived once and in order.
//!
//! Knows sequences only: neither packets nor time.

use std::ops::Range;

/// The messages of one publisher on their way to one subscriber.
#[derive(Debug)]
pub struct Stream {
    /// The sequences that belong to this stream.
    expected: Range<u32>,
    /// One past the highest sequence that has come.
    next: u32,
    /// Sequences below `next` that have not come, lowest first.
    gaps: Vec<Range<u32>>,
}

/// What the arrival of one message means for its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    InOrder,
    /// For the first time, but after one that was sent later.
    Late,
    Again,
    /// It belongs to somebody else.
    Foreign,
}

impl Arrival {
    #[inline]
    pub fn is_first(self) -> bool {
        matches!(self, Arrival::InOrder | Arrival::Late)
    }
}

impl Stream {
    pub fn new(expected: Range<u32>) -> Stream {
        Stream { next: expected.start, expected, gaps: Vec::new() }
    }

    /// Forgets what has come: a new phase begins.
    pub fn reset(&mut self) {
        self.next = self.expected.start;
        self.gaps.clear();
    }

    #[inline]
    pub fn arrive(&mut self, sequence: u32) -> Arrival {
        if sequence == self.next && sequence < self.expected.end {
            self.next += 1;
            return Arrival::InOrder;
        }
        self.arrive_astray(sequence)
    }

    #[cold]
    fn arrive_astray(&mut self, sequence: u32) -> Arrival {
        if !self.expected.contains(&sequence) {
            return Arrival::Foreign;
        }
        if sequence > self.next {
            self.leave_gap(self.next..sequence);
            self.next = sequence + 1;
            return Arrival::InOrder;
        }
        if self.fill_gap(sequence) { Arrival::Late } else { Arrival::Again }
    }

    /// When there are too many gaps the oldest half is forgotten: a message that still comes in one
    /// of them counts as a repetition.
    fn leave_gap(&mut self, gap: Range<u32>) {
        if self.gaps.len() == GAPS_MAX {
            self.gaps.drain(..GAPS_MAX / 2);
        }
        self.gaps.push(gap);
    }

    fn fill_gap(&mut self, sequence: u32) -> bool {
        let index = self.gaps.partition_point(|gap| gap.end <= sequence);
        let Some(gap) = self.gaps.get(index).filter(|gap| gap.contains(&sequence)).cloned() else {
            return false;
        };
        let rest = [gap.start..sequence, sequence + 1..gap.end];
        self.gaps.splice(index..=index, rest.into_iter().filter(|part| !part.is_empty()));
        true
    }
}

/// Gaps that one stream remembers.
const GAPS_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::counts::Counts;

    fn count(arrivals: &[u32]) -> Counts {
        let mut stream = Stream::new(0..100);
        let mut counts = Counts::default();
        for &sequence in arrivals {
            counts.record(stream.arrive(sequence));
        }
        counts
    }

    #[test]
    fn messages_in_order_are_just_delivered() {
        assert_eq!(count(&[0, 1, 2, 3]), Counts { delivered: 4, ..Counts::default() });
    }

    #[test]
    fn a_gap_is_no_disorder() {
        assert_eq!(count(&[0, 5, 6, 99]), Counts { delivered: 4, ..Counts::default() });
    }

    #[test]
    fn a_message_after_a_later_one_is_reordered() {
        let counts = count(&[0, 9, 4, 2, 3, 8]);
        assert_eq!(counts, Counts { delivered: 6, reordered: 4, ..Counts::default() });
    }

    #[test]
    fn a_message_that_came_before_is_duplicated_even_in_a_gap() {
        let counts = count(&[0, 0, 5, 3, 3, 5]);
        let expected = Counts { delivered: 3, duplicated: 3, reordered: 1, ..Counts::default() };
        assert_eq!(counts, expected);
    }

    #[test]
    fn a_message_outside_the_stream_is_foreign() {
        let mut stream = Stream::new(7..8);
        assert_eq!(stream.arrive(6), Arrival::Foreign);
        assert_eq!(stream.arrive(8), Arrival::Foreign);
        assert_eq!(stream.arrive(7), Arrival::InOrder);
        assert_eq!(stream.arrive(8), Arrival::Foreign);
        assert_eq!(stream.arrive(7), Arrival::Again);
    }

    /// All ways to receive up to five messages of four, against a set of what has come.
    #[test]
    fn a_stream_counts_as_a_list_of_all_arrivals_does() {
        for code in 0..4u32.pow(5) {
            let arrivals: Vec<u32> = (0..5).map(|place| code / 4u32.pow(place) % 4).collect();
            let mut twin = Counts::default();
            for (index, sequence) in arrivals.iter().enumerate() {
                let before = &arrivals[..index];
                if before.contains(sequence) {
                    twin.duplicated += 1;
                } else {
                    twin.delivered += 1;
                    twin.reordered += u64::from(before.iter().any(|other| other > sequence));
                }
            }
            assert_eq!(count(&arrivals), twin, "{arrivals:?}");
        }
    }

    #[test]
    fn gaps_are_bounded() {
        let mut stream = Stream::new(0..u32::MAX);
        for sequence in 0..100_000 {
            assert_eq!(stream.arrive(sequence * 2 + 1), Arrival::InOrder);
        }
        assert!(stream.gaps.len() <= GAPS_MAX);
        assert_eq!(stream.arrive(199_998), Arrival::Late);
    }

    #[test]
    fn a_new_phase_starts_from_nothing() {
        let mut stream = Stream::new(3..9);
        stream.arrive(8);
        stream.reset();
        assert_eq!(stream.arrive(3), Arrival::InOrder);
        assert_eq!(stream.arrive(4), Arrival::InOrder);
    }
}
