//! What one thread has counted in the present phase.

use std::error::Error;

use hdrhistogram::Histogram;
use ringmq::base::time::Moment;

use crate::{
    accounting::{Arrival, Counts},
    fault::Fault,
    payload::{Phase, Stamp},
};

#[derive(Debug)]
pub struct Tally {
    pub phase: Phase,
    pub counts: Counts,
    /// From when a message was sent, or was due, until it came; in nanoseconds.
    pub latency: Histogram<u64>,
    pub sent: u64,
    /// Messages whose exchange has ended; QoS 0 has none, so that sending ends it.
    pub acknowledged: u64,
    pub last_delivery: Moment,
    /// Connections that ended before the run did.
    pub disconnected: u64,
    /// The first few faults, as text.
    pub faults: Vec<String>,
}

impl Default for Tally {
    fn default() -> Tally {
        let latency = Histogram::new_with_bounds(1, LATENCY_NANOS_MAX, 3)
            .expect("the bounds are a valid range");
        Tally {
            phase: Phase::WarmUp,
            counts: Counts::default(),
            latency,
            sent: 0,
            acknowledged: 0,
            last_delivery: Moment::default(),
            disconnected: 0,
            faults: Vec::new(),
        }
    }
}

impl Tally {
    /// Begins a phase. What ended a connection earlier still counts: it is missing now.
    pub fn reset(&mut self, phase: Phase) {
        self.phase = phase;
        self.counts = Counts::default();
        self.latency.reset();
        self.sent = 0;
        self.acknowledged = 0;
        self.last_delivery = Moment::default();
    }

    #[inline]
    pub fn record(&mut self, arrival: Arrival, stamp: Stamp, now: Moment) {
        self.counts.record(arrival);
        if matches!(arrival, Arrival::InOrder | Arrival::Late) {
            self.latency.saturating_record((now - stamp.moment).as_nanos().max(1));
            self.last_delivery = now;
        }
    }

    pub fn record_unstamped(&mut self, now: Moment) {
        self.counts.delivered += 1;
        self.last_delivery = now;
    }

    pub fn note(&mut self, fault: &Fault) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(describe(fault));
        }
    }
}

/// A fault and its cause.
fn describe(fault: &Fault) -> String {
    match fault.source() {
        Some(cause) => format!("{fault}: {cause}"),
        None => fault.to_string(),
    }
}

/// One hour; whatever takes longer is recorded as this.
const LATENCY_NANOS_MAX: u64 = 3_600_000_000_000;

const FAULTS_MAX: usize = 5;
