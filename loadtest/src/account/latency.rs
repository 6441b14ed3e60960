//! The histograms that latencies are recorded in: all have the same bounds, so that they add up.

use hdrhistogram::Histogram;

/// No latencies yet.
pub fn no_latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NANOS_MAX, 3).expect("the bounds are a valid range")
}

/// One hour; whatever takes longer is recorded as this.
const LATENCY_NANOS_MAX: u64 = 3_600_000_000_000;
