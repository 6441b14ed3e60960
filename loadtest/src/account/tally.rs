//! The counts of one thread in the present phase.

use std::{error::Error, ops::AddAssign};

use hdrhistogram::Histogram;
use ringmq::{base::time::Moment, mqtt::QoS};
use serde::{Deserialize, Serialize};

use super::{
    counts::{Counts, PerQos},
    latency::no_latencies,
    seen::Pool,
    stream::Arrival,
};
use crate::payload::Phase;

#[derive(Debug)]
pub struct Tally {
    pub phase: Phase,
    /// For each QoS that messages came with.
    pub counts: PerQos<Counts>,
    /// Of any QoS: the sum over `counts`.
    pub delivered: u64,
    /// What has come to members of a group.
    pub pool: Pool,
    /// From when a message was sent, or was due, until it came; in nanoseconds. Only of what came
    /// since [`Tally::take_latency`] was last called.
    pub latency: Histogram<u64>,
    /// For each QoS that messages were sent with.
    pub sent: PerQos<u64>,
    /// Messages whose exchange has ended. A message of QoS 0 has none, and counts when it is sent.
    pub acknowledged: PerQos<u64>,
    pub last_delivery: Moment,
    pub last_sent: Moment,
    /// How many messages each subscriber of this thread has received; known at the end.
    pub shares: Vec<u64>,
    pub slow: SlowReaderCounts,
    /// Connections that ended before the run did.
    pub disconnected: u64,
    /// The first few faults, as text.
    pub faults: Vec<String>,
}

/// What became of the slow readers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlowReaderCounts {
    pub slow_delivered: u64,
    /// Slow readers whose connections the broker ended.
    pub slow_disconnected: u64,
}

impl AddAssign for SlowReaderCounts {
    fn add_assign(&mut self, other: SlowReaderCounts) {
        self.slow_delivered += other.slow_delivered;
        self.slow_disconnected += other.slow_disconnected;
    }
}

impl Default for Tally {
    fn default() -> Tally {
        Tally {
            phase: Phase::WarmUp,
            counts: PerQos::default(),
            delivered: 0,
            pool: Pool::default(),
            latency: no_latencies(),
            sent: PerQos::default(),
            acknowledged: PerQos::default(),
            last_delivery: Moment::default(),
            last_sent: Moment::default(),
            shares: Vec::new(),
            slow: SlowReaderCounts::default(),
            disconnected: 0,
            faults: Vec::new(),
        }
    }
}

impl Tally {
    /// Begins a phase. Connections that ended earlier still count: they are missing now.
    pub fn reset(&mut self, phase: Phase) {
        let (disconnected, faults) = (self.disconnected, std::mem::take(&mut self.faults));
        let slow = SlowReaderCounts { slow_delivered: 0, ..self.slow };
        *self = Tally { phase, slow, disconnected, faults, ..Tally::default() };
    }

    /// Counts an arrival. Its latency is from `from` until `now`.
    #[inline]
    pub fn record(&mut self, arrival: Arrival, qos: QoS, from: Moment, now: Moment) {
        self.counts[qos].record(arrival);
        if arrival.is_first() {
            self.delivered += 1;
            self.latency.saturating_record((now - from).as_nanos().max(1));
            self.last_delivery = now;
        }
    }

    pub fn record_unstamped(&mut self, qos: QoS, now: Moment) {
        self.counts[qos].delivered += 1;
        self.delivered += 1;
        self.last_delivery = now;
    }

    pub fn record_opened(&mut self, now: Moment) {
        self.sent[QoS::AtMostOnce] += 1;
        self.acknowledged[QoS::AtMostOnce] += 1;
        self.last_sent = now;
    }

    /// Hands over the latencies since the last time.
    pub fn take_latency(&mut self) -> Histogram<u64> {
        std::mem::replace(&mut self.latency, no_latencies())
    }

    pub fn note(&mut self, fault: &dyn Error) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(describe(fault));
        }
    }
}

/// A fault and its cause.
fn describe(fault: &dyn Error) -> String {
    match fault.source() {
        Some(cause) => format!("{fault}: {cause}"),
        None => fault.to_string(),
    }
}

const FAULTS_MAX: usize = 5;
