//! How evenly the subscribers were served.

use serde::{Deserialize, Serialize};

use super::figures::as_f64;

/// How evenly deliveries were spread over the subscribers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fairness {
    pub share_min: u64,
    pub share_mean: f64,
    pub share_max: u64,
    /// Jain's index: 1 when all received the same, 1/n when one of n received everything.
    pub jain_index: f64,
}

impl Fairness {
    pub fn of(shares: &[u64]) -> Option<Fairness> {
        let (&share_min, &share_max) = (shares.iter().min()?, shares.iter().max()?);
        let count = as_f64(shares.len() as u64);
        let sum: f64 = shares.iter().copied().map(as_f64).sum();
        let squares: f64 = shares.iter().map(|share| as_f64(*share).powi(2)).sum();
        let jain_index = if squares > 0.0 { sum * sum / (count * squares) } else { 1.0 };
        Some(Fairness { share_min, share_mean: sum / count, share_max, jain_index })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fairness_is_one_when_all_receive_the_same() {
        assert_eq!(Fairness::of(&[]), None);
        let index = |shares: &[u64]| Fairness::of(shares).unwrap().jain_index;
        assert!((index(&[5, 5, 5]) - 1.0).abs() < 1e-9);
        assert!((index(&[9, 0, 0]) - 1.0 / 3.0).abs() < 1e-9);
        assert!((index(&[0, 0]) - 1.0).abs() < 1e-9);
    }
}
