//! The search for the highest rate at which the broker keeps up.

use std::{fmt, sync::Arc};

use anyhow::{Context, Result};
use ringmq::base::time::Span;
use serde::Serialize;

use crate::{
    account::figures::as_f64,
    report::summary::Summary,
    request::{
        pacing::{Pacing, RATE_MAX},
        plan::Plan,
    },
    run::run,
};

/// The result of a search.
#[derive(Debug, Serialize)]
pub struct SearchResult {
    pub p99_bound_micros: f64,
    pub highest_rate: u64,
    pub tries: Vec<Attempt>,
    /// The run at the highest rate.
    pub best: Summary,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Attempt {
    pub rate: u64,
    pub p99_micros: f64,
    pub lost: u64,
    pub held: bool,
}

/// Runs the plan at one rate after the other, and prints the result of each.
pub fn find_max(plan: &Plan, p99_max: Span) -> Result<SearchResult> {
    let first = match plan.pacing {
        Pacing::Rate { messages_per_second } => messages_per_second,
        Pacing::Flood | Pacing::Rounds { .. } => 1,
    };
    let p99_bound_micros = as_f64(p99_max.as_nanos()) / 1e3;
    let (mut search, mut tries, mut best) = (Search::from(first), Vec::new(), None);
    while let Some(rate) = search.next_rate() {
        let pacing = Pacing::Rate { messages_per_second: rate };
        let plan = Arc::new(Plan { pacing, ..plan.clone() });
        let summary = Summary::new(&plan, &run(&plan)?);
        let attempt = Attempt::of(rate, &summary, p99_bound_micros);
        eprintln!("{attempt}");
        tries.push(attempt);
        search.learn(rate, attempt.held);
        if attempt.held {
            best = Some(summary);
        }
    }
    let best = best.context("no rate is low enough")?;
    Ok(SearchResult {
        p99_bound_micros,
        highest_rate: search.held.unwrap_or_default(),
        tries,
        best,
    })
}

impl Attempt {
    fn of(rate: u64, summary: &Summary, p99_bound_micros: f64) -> Attempt {
        let p99_micros = summary.latency.as_ref().map_or(f64::INFINITY, |latency| latency.p99);
        let lost = summary.balance.lost;
        let held = p99_micros <= p99_bound_micros && lost == 0 && summary.breaches.is_empty();
        Attempt { rate, p99_micros, lost, held }
    }
}

/// The highest rate that held and the lowest that did not.
#[derive(Debug)]
struct Search {
    first: u64,
    held: Option<u64>,
    missed: Option<u64>,
}

impl Search {
    fn from(first: u64) -> Search {
        Search { first, held: None, missed: None }
    }

    fn next_rate(&self) -> Option<u64> {
        match (self.held, self.missed) {
            (None, None) => Some(self.first),
            (Some(held), None) => (held <= RATE_MAX / 2).then_some(held * 2),
            (None, Some(missed)) => (missed > 1).then_some(missed / 2),
            (Some(held), Some(missed)) => {
                let rest = missed - held;
                (rest > (held / PRECISION).max(1)).then_some(held + rest / 2)
            }
        }
    }

    fn learn(&mut self, rate: u64, held: bool) {
        *(if held { &mut self.held } else { &mut self.missed }) = Some(rate);
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Attempt { rate, p99_micros, lost, held } = self;
        let verdict = if *held { "held" } else { "too much" };
        write!(f, "{rate:>9}/s   p99 {p99_micros:>10.1} µs, lost {lost}: {verdict}")
    }
}

impl fmt::Display for SearchResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SearchResult { p99_bound_micros, highest_rate, tries, best } = self;
        writeln!(
            f,
            "maximum    {highest_rate}/s with a p99 of at most {p99_bound_micros:.0} µs, \
             found in {} runs; this is the run:",
            tries.len(),
        )?;
        write!(f, "{best}")
    }
}

/// The search ends when the two rates differ by less than this part of the lower one.
const PRECISION: u64 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// The rates that are tried on a broker that keeps up to the rate `bearable`, and the result.
    fn search(first: u64, bearable: u64) -> (Vec<u64>, Option<u64>) {
        let (mut search, mut rates) = (Search::from(first), Vec::new());
        while let Some(rate) = search.next_rate() {
            rates.push(rate);
            search.learn(rate, rate <= bearable);
        }
        (rates, search.held)
    }

    #[test]
    fn a_search_doubles_and_then_bisects() {
        let expected = vec![1000, 2000, 4000, 8000, 6000, 5000, 5500, 5250];
        assert_eq!(search(1000, 5300), (expected, Some(5250)));
    }

    #[test]
    fn a_search_that_begins_too_high_halves() {
        let expected = vec![1000, 500, 250, 125, 187, 156, 140, 132, 128];
        assert_eq!(search(1000, 130), (expected, Some(128)));
    }

    #[test]
    fn a_search_ends_whatever_is_bearable() {
        for bearable in [0, 1, 2, 19, 999, 1_000_003, RATE_MAX] {
            let (rates, held) = search(1000, bearable);
            assert!(rates.len() < 60);
            assert_eq!(held.is_none(), bearable == 0);
            assert!(held.unwrap_or_default() >= bearable / 2, "{bearable}: {held:?}");
        }
    }
}
