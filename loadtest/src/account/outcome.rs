//! The outcome of a run.

use hdrhistogram::Histogram;
use ringmq::base::time::{Moment, Span};

use super::{process::Sample, series::Series, tally::Tally};

/// All that a run has found out.
#[derive(Debug)]
pub struct Outcome {
    pub tallies: Vec<Tally>,
    /// Of all deliveries, in nanoseconds.
    pub latency: Histogram<u64>,
    pub sent: u64,
    pub start: Moment,
    /// Rounds that were given up because deliveries were missing.
    pub stalled_rounds: u64,
    pub broker: Option<BrokerSamples>,
    /// This process over the measured phase.
    pub load: (Sample, Sample),
    /// Between the two samples.
    pub sampled: Span,
    pub series: Series,
}

/// The broker's process along the run.
#[derive(Debug)]
pub struct BrokerSamples {
    pub unconnected: Sample,
    pub connected: Sample,
    pub before: Sample,
    pub after: Sample,
    /// After the measured phase and the time to hold.
    pub held: Sample,
}
