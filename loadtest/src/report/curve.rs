//! The latency at every percentile.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::account::figures::as_f64;

/// Parallel arrays: so many percent of the deliveries took no more than so many microseconds. The
/// points are denser the nearer they come to 100.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    pub percentiles: Vec<f64>,
    pub micros: Vec<f64>,
}

impl Curve {
    pub fn of(nanos: &Histogram<u64>) -> Curve {
        let mut curve = Curve::default();
        for step in nanos.iter_quantiles(STEPS_PER_HALF) {
            let percentile = (step.quantile_iterated_to() * 1e8).round() / 1e6;
            curve.percentiles.push(percentile);
            curve.micros.push(as_f64(step.value_iterated_to()) / 1e3);
        }
        curve
    }
}

/// Points between one percentile and half of the way from there to 100.
const STEPS_PER_HALF: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_rises_from_the_least_to_the_most() {
        let mut nanos = Histogram::new(3).unwrap();
        (1..=10_000).for_each(|micros| nanos.record(micros * 1000).unwrap());
        let Curve { percentiles, micros } = Curve::of(&nanos);
        assert_eq!(percentiles.len(), micros.len());
        assert!(percentiles.is_sorted() && micros.is_sorted());
        assert_eq!(percentiles.last(), Some(&100.0));
        let at = |wanted: f64| percentiles.iter().position(|p| *p >= wanted).unwrap();
        assert!((micros[at(50.0)] - 5000.0).abs() < 50.0);
        assert!((micros[at(99.0)] - 9900.0).abs() < 100.0);
        assert!(percentiles.len() < 200);
    }
}
