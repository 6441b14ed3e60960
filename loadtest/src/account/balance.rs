//! The balance of a phase: compares what was sent with what was delivered, and lists the promises
//! that were broken.

use std::ops::AddAssign;

use ringmq::mqtt::QoS;
use serde::{Deserialize, Serialize};

use super::counts::Counts;

/// The whole account of a phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    pub sent: u64,
    /// Sent with QoS 1 or 2, and the exchange never ended.
    pub unacknowledged: u64,
    /// Deliveries that should follow from what was sent.
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
    /// Compares what came with what was sent, each message to `audience` subscribers.
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

#[cfg(test)]
mod tests {
    use super::*;

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
