//! The course of a run: rates, latency, CPU use and memory of both processes over time.

use ringmq::base::time::{Moment, Span};
use serde::{Deserialize, Serialize};

use super::{
    figures::{as_f64, in_seconds},
    process::Sample,
};

/// What is known at one moment. Counters run from the start of the phase, or of a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Point {
    pub moment: Moment,
    pub sent: u64,
    pub delivered: u64,
    pub broker: Option<ProcessPoint>,
    pub load: ProcessPoint,
    /// The p99 of what came in the interval that ends here. It is known later, if anything came.
    pub p99_nanos: Option<u64>,
}

/// What a process has used so far, at one moment: of a [`Sample`] what a series needs.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessPoint {
    pub cpu: Span,
    pub resident_bytes: u64,
}

impl From<&Sample> for ProcessPoint {
    fn from(sample: &Sample) -> ProcessPoint {
        ProcessPoint { cpu: sample.cpu(), resident_bytes: sample.resident_bytes }
    }
}

/// Parallel arrays with one entry for each interval. `seconds` says when an interval ended, counted
/// from the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Series {
    pub seconds: Vec<f64>,
    /// Messages sent, or connections begun, per second.
    pub sent_rates: Vec<f64>,
    /// Messages or connections per second.
    pub delivered_rates: Vec<f64>,
    /// Of what was delivered in the interval; null where nothing was. In long runs intervals are
    /// joined, and the slower p99 of the two is kept.
    pub latency_p99_micros: Vec<Option<f64>>,
    /// Cores that were kept busy; empty without --pid, as is the next.
    pub broker_core_use: Vec<f64>,
    pub broker_rss_bytes: Vec<u64>,
    pub load_core_use: Vec<f64>,
}

impl Series {
    pub(super) fn of(points: &[Point]) -> Series {
        let mut series = Series::default();
        for pair in points.windows(2) {
            if pair[1].moment - pair[0].moment >= INTERVAL_MIN {
                series.add(points[0].moment, &pair[0], &pair[1]);
            }
        }
        series
    }

    fn add(&mut self, start: Moment, from: &Point, to: &Point) {
        let seconds = in_seconds(to.moment - from.moment);
        self.seconds.push(rounded(in_seconds(to.moment - start)));
        let rate = |from: u64, to: u64| rounded(as_f64(to.saturating_sub(from)) / seconds);
        self.sent_rates.push(rate(from.sent, to.sent));
        self.delivered_rates.push(rate(from.delivered, to.delivered));
        self.latency_p99_micros.push(to.p99_nanos.map(|nanos| as_f64(nanos) / 1e3));
        self.load_core_use.push(rounded(core_use(&from.load, &to.load, seconds)));
        if let (Some(from), Some(to)) = (&from.broker, &to.broker) {
            self.broker_core_use.push(rounded(core_use(from, to, seconds)));
            self.broker_rss_bytes.push(to.resident_bytes);
        }
    }
}

fn core_use(from: &ProcessPoint, to: &ProcessPoint, seconds: f64) -> f64 {
    as_f64(to.cpu.as_nanos().saturating_sub(from.cpu.as_nanos())) / 1e9 / seconds
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// A last interval that is shorter than this is left out: it is too short for a rate.
const INTERVAL_MIN: Span = Span::from_millis(20);
