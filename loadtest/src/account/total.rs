//! The tallies of all threads added up, and the accounts that follow from them.

use ringmq::{base::time::Moment, mqtt::QoS};

use super::{
    balance::{Balance, Breach},
    counts::{Counts, PerQos},
    seen::Pool,
    tally::{SlowReaderCounts, Tally},
};
use crate::request::{plan::Plan, workload::Arrivals};

#[derive(Debug)]
pub struct Total {
    counts: PerQos<Counts>,
    sent: PerQos<u64>,
    acknowledged: PerQos<u64>,
    /// When the last delivery came, or the last message was sent if nothing was delivered.
    pub end: Moment,
    pub slow: SlowReaderCounts,
    pub disconnected: u64,
    pub faults: Vec<String>,
    /// Deliveries of each subscriber.
    pub shares: Vec<u64>,
}

impl Total {
    pub fn of(plan: &Plan, tallies: &[Tally]) -> Total {
        let empty = Tally::default();
        let mut total = Total {
            counts: empty.counts,
            sent: empty.sent,
            acknowledged: empty.acknowledged,
            end: Moment::default(),
            slow: empty.slow,
            disconnected: 0,
            faults: empty.faults,
            shares: empty.shares,
        };
        let (mut pool, mut last_sent) = (Pool::default(), Moment::default());
        for tally in tallies {
            total.add(tally);
            last_sent = last_sent.max(tally.last_sent);
            total.move_repetitions(plan, &pool.merge(&tally.pool));
        }
        if total.end == Moment::default() {
            total.end = last_sent;
        }
        total
    }

    fn add(&mut self, tally: &Tally) {
        self.counts += tally.counts;
        self.sent += tally.sent;
        self.acknowledged += tally.acknowledged;
        self.end = self.end.max(tally.last_delivery);
        self.slow += tally.slow;
        self.disconnected += tally.disconnected;
        self.faults.extend_from_slice(&tally.faults);
        self.shares.extend_from_slice(&tally.shares);
    }

    /// A message that came to two threads was counted as a first delivery by both: one of these was
    /// a repetition.
    fn move_repetitions(&mut self, plan: &Plan, repetitions: &[u64]) {
        for (publisher, &again) in (0..).zip(repetitions) {
            let counts = &mut self.counts[plan.granted_qos(plan.publish_qos(publisher))];
            counts.delivered -= again;
            counts.duplicated += again;
        }
    }

    /// The balance of each QoS that messages should arrive with, or arrived with.
    pub fn balances(&self, plan: &Plan) -> Vec<(QoS, Balance)> {
        let (mut sent, mut open) = (PerQos::default(), PerQos::default());
        for published in QoS::ALL {
            let granted = plan.granted_qos(published);
            sent[granted] += self.sent[published];
            open[granted] += self.sent[published].saturating_sub(self.acknowledged[published]);
        }
        let balance = |qos| {
            let audience = plan.workload.audience;
            (qos, Balance::new(sent[qos], open[qos], audience, self.counts[qos]))
        };
        let balances = QoS::ALL.into_iter().map(balance);
        balances.filter(|(_, balance)| *balance != Balance::default()).collect()
    }

    /// The promises that were broken.
    pub fn breaches(&self, plan: &Plan, balances: &[(QoS, Balance)]) -> Vec<Breach> {
        let ordered = plan.workload.subscribers.iter().all(|s| s.arrivals == Arrivals::InOrder);
        let mut breaches: Vec<_> = balances
            .iter()
            .flat_map(|(qos, balance)| balance.breaches(*qos, plan.strict))
            .filter(|breach| ordered || *breach != Breach::Reordered)
            .collect();
        breaches.extend((self.disconnected > 0).then_some(Breach::Disconnected));
        breaches.sort_unstable();
        breaches.dedup();
        breaches
    }
}

pub fn total_of(balances: &[(QoS, Balance)]) -> Balance {
    let mut sum = Balance::default();
    for (_, balance) in balances {
        sum += *balance;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::plan_of;

    fn plan(flags: &str) -> Plan {
        plan_of(flags).unwrap()
    }

    fn sent(qos: QoS, count: u64) -> Tally {
        let mut tally = Tally::default();
        tally.sent[qos] = count;
        tally.acknowledged[qos] = count;
        tally
    }

    #[test]
    fn messages_are_owed_with_the_lower_of_two_qos() {
        let plan = plan("fan-out --subscribers 3 --publish-qos 0,1,2 --subscribe-qos 1");
        let mut tallies =
            [sent(QoS::AtMostOnce, 1), sent(QoS::AtLeastOnce, 10), sent(QoS::ExactlyOnce, 100)];
        tallies[0].counts[QoS::AtLeastOnce].delivered = 329;
        let total = Total::of(&plan, &tallies);
        let balances = total.balances(&plan);
        let owed: Vec<_> = balances.iter().map(|(qos, b)| (*qos, b.expected, b.lost)).collect();
        assert_eq!(owed, [(QoS::AtMostOnce, 3, 3), (QoS::AtLeastOnce, 330, 1)]);
        assert_eq!(total.breaches(&plan, &balances), [Breach::Lost]);
        assert_eq!(total_of(&balances).lost, 4);
    }

    #[test]
    fn a_message_that_two_members_of_a_group_receive_is_repeated() {
        let plan = plan("shared --publishers 1 --subscribers 2 --qos 2");
        let mut tallies = [sent(QoS::ExactlyOnce, 2), Tally::default()];
        for (tally, sequences) in tallies.iter_mut().zip([&[0, 1][..], &[1]]) {
            for &sequence in sequences {
                let arrival = tally.pool.arrive(0, sequence);
                tally.record(arrival, QoS::ExactlyOnce, Moment::default(), Moment::default());
            }
        }
        let total = Total::of(&plan, &tallies);
        let balances = total.balances(&plan);
        let Balance { lost, counts, .. } = total_of(&balances);
        assert_eq!((lost, counts.delivered, counts.duplicated), (0, 2, 1));
        assert_eq!(total.breaches(&plan, &balances), [Breach::Duplicated]);
    }
}
