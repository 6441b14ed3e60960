//! Which messages have arrived, for topics where order does not matter and for share groups.
//!
//! Knows sequence numbers only, one bit for each.

use super::stream::Arrival;

/// The sequences of one publisher that have come.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    words: Vec<u64>,
}

impl Seen {
    /// True when it has not come before.
    #[inline]
    pub fn insert(&mut self, sequence: u32) -> bool {
        let (index, bit) = (sequence as usize / 64, 1 << (sequence % 64));
        if index >= self.words.len() {
            self.words.resize(index + 1, 0);
        }
        let word = &mut self.words[index];
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// Adds all of `other`, and says how many of them were here already.
    pub fn merge(&mut self, other: &Seen) -> u64 {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        let mut again = 0;
        for (word, more) in self.words.iter_mut().zip(&other.words) {
            again += u64::from((*word & more).count_ones());
            *word |= more;
        }
        again
    }
}

/// What has come to the members of a group, who share every publisher's messages.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    publishers: Vec<Seen>,
}

impl Pool {
    #[inline]
    pub fn arrive(&mut self, publisher: u32, sequence: u32) -> Arrival {
        let index = publisher as usize;
        if index >= self.publishers.len() {
            self.publishers.resize_with(index + 1, Seen::default);
        }
        if self.publishers[index].insert(sequence) { Arrival::InOrder } else { Arrival::Again }
    }

    /// Adds all of `other`, and says for each publisher how many messages were here already.
    pub fn merge(&mut self, other: &Pool) -> Vec<u64> {
        if self.publishers.len() < other.publishers.len() {
            self.publishers.resize_with(other.publishers.len(), Seen::default);
        }
        self.publishers.iter_mut().zip(&other.publishers).map(|(a, b)| a.merge(b)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(sequences: &[u32]) -> Seen {
        let mut seen = Seen::default();
        for &sequence in sequences {
            seen.insert(sequence);
        }
        seen
    }

    #[test]
    fn a_sequence_is_new_once_in_any_order() {
        let mut seen = seen(&[500, 3, 64]);
        assert!(seen.insert(63));
        assert!(!seen.insert(3));
        assert!(!seen.insert(500));
        assert!(!seen.insert(64));
    }

    #[test]
    fn merging_finds_what_came_on_both_sides() {
        let mut here = seen(&[1, 2, 3]);
        assert_eq!(here.merge(&seen(&[2, 3, 900])), 2);
        assert_eq!(here.merge(&seen(&[1, 900, 901])), 2);
        assert!(!here.insert(901));
    }

    #[test]
    fn a_pool_knows_each_publisher_apart() {
        let (mut here, mut there) = (Pool::default(), Pool::default());
        assert_eq!(here.arrive(0, 5), Arrival::InOrder);
        assert_eq!(here.arrive(2, 5), Arrival::InOrder);
        assert_eq!(here.arrive(2, 5), Arrival::Again);
        there.arrive(2, 5);
        there.arrive(7, 5);
        assert_eq!(here.merge(&there), [0, 0, 1, 0, 0, 0, 0, 0]);
    }
}
