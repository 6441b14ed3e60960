//! Whether every message arrived once and in order.
//!
//! Knows sequences only: neither packets nor time.

use std::ops::{AddAssign, Index, IndexMut, Range};

use ringmq::mqtt::QoS;
use serde::{Deserialize, Serialize};

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

    /// When there are too many gaps the oldest is given up: what still comes from it counts as a
    /// repetition.
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

/// What came to the subscribers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Messages that came, each counted once per subscriber.
    pub delivered: u64,
    pub duplicated: u64,
    pub reordered: u64,
    /// Messages that belong to another subscriber or to none.
    pub foreign: u64,
    pub damaged: u64,
}

impl Counts {
    #[inline]
    pub fn record(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::InOrder => self.delivered += 1,
            Arrival::Late => {
                self.delivered += 1;
                self.reordered += 1;
            }
            Arrival::Again => self.duplicated += 1,
            Arrival::Foreign => self.foreign += 1,
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.delivered += other.delivered;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.foreign += other.foreign;
        self.damaged += other.damaged;
    }
}

/// One of something for each QoS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerQos<T>([T; 3]);

impl<T> Index<QoS> for PerQos<T> {
    type Output = T;

    #[inline]
    fn index(&self, qos: QoS) -> &T {
        &self.0[qos as usize]
    }
}

impl<T> IndexMut<QoS> for PerQos<T> {
    #[inline]
    fn index_mut(&mut self, qos: QoS) -> &mut T {
        &mut self.0[qos as usize]
    }
}

impl PerQos<u64> {
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl<T: AddAssign> AddAssign for PerQos<T> {
    fn add_assign(&mut self, other: PerQos<T>) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum += more;
        }
    }
}

/// The whole account of a phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    pub sent: u64,
    /// Sent with QoS 1 or 2, and the exchange never ended.
    pub unacknowledged: u64,
    /// Deliveries that are owed for what was sent.
    pub expected: u64,
    pub lost: u64,
    #[serde(flatten)]
    pub counts: Counts,
}

/// What the broker promised and did not keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Breach {
    Lost,
    Duplicated,
    Reordered,
    Foreign,
    Damaged,
    Unacknowledged,
    Disconnected,
}

impl AddAssign for Balance {
    fn add_assign(&mut self, other: Balance) {
        self.sent += other.sent;
        self.unacknowledged += other.unacknowledged;
        self.expected += other.expected;
        self.lost += other.lost;
        self.counts += other.counts;
    }
}

impl Balance {
    /// Sets what came against what was sent to `audience` subscribers each.
    pub fn new(sent: u64, unacknowledged: u64, audience: u64, mut counts: Counts) -> Balance {
        let expected = sent * audience;
        // Without stamps repetitions show only as a surplus.
        let surplus = counts.delivered.saturating_sub(expected);
        counts.delivered -= surplus;
        counts.duplicated += surplus;
        Balance { sent, unacknowledged, expected, lost: expected - counts.delivered, counts }
    }

    /// What the QoS forbids. QoS 0 may lose messages unless `strict`, QoS 1 may repeat them, and
    /// none may change their order. [Section 4.3] [MQTT-4.6.0-5]
    pub fn breaches(&self, qos: QoS, strict: bool) -> Vec<Breach> {
        let loss_matters = strict || qos > QoS::AtMostOnce;
        let found = [
            (Breach::Lost, loss_matters && self.lost > 0),
            (Breach::Duplicated, qos != QoS::AtLeastOnce && self.counts.duplicated > 0),
            (Breach::Reordered, self.counts.reordered > 0),
            (Breach::Foreign, self.counts.foreign > 0),
            (Breach::Damaged, self.counts.damaged > 0),
            (Breach::Unacknowledged, self.unacknowledged > 0),
        ];
        found.into_iter().filter_map(|(breach, found)| found.then_some(breach)).collect()
    }
}

/// Gaps that one stream remembers.
const GAPS_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn what_was_sent_and_did_not_come_is_lost() {
        let counts = Counts { delivered: 29, ..Counts::default() };
        let balance = Balance::new(10, 0, 3, counts);
        assert_eq!((balance.expected, balance.lost), (30, 1));
        assert_eq!(balance.breaches(QoS::AtMostOnce, false), []);
        assert_eq!(balance.breaches(QoS::AtMostOnce, true), [Breach::Lost]);
        assert_eq!(balance.breaches(QoS::AtLeastOnce, false), [Breach::Lost]);
        assert_eq!(balance.breaches(QoS::ExactlyOnce, false), [Breach::Lost]);
    }

    #[test]
    fn only_qos_1_may_repeat() {
        let counts = Counts { delivered: 10, duplicated: 1, ..Counts::default() };
        let balance = Balance::new(10, 0, 1, counts);
        assert_eq!(balance.breaches(QoS::AtMostOnce, false), [Breach::Duplicated]);
        assert_eq!(balance.breaches(QoS::AtLeastOnce, true), []);
        assert_eq!(balance.breaches(QoS::ExactlyOnce, false), [Breach::Duplicated]);
    }

    #[test]
    fn no_qos_may_reorder_or_damage_or_leave_an_exchange_open() {
        let counts = Counts { delivered: 10, reordered: 1, damaged: 1, ..Counts::default() };
        let balance = Balance::new(10, 2, 1, counts);
        let expected = [Breach::Reordered, Breach::Damaged, Breach::Unacknowledged];
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            assert_eq!(balance.breaches(qos, false), expected);
        }
    }

    #[test]
    fn a_surplus_without_stamps_is_duplication() {
        let counts = Counts { delivered: 12, ..Counts::default() };
        let balance = Balance::new(10, 0, 1, counts);
        assert_eq!((balance.lost, balance.counts.duplicated), (0, 2));
    }
}
