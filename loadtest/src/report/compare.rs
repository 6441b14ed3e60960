//! Runs side by side, with the ratios of their figures.

use std::{fmt, fs, path::PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use super::{
    page::{self, NamedSummary},
    summary::Summary,
};
use crate::account::figures::as_f64;

/// Prints the figures of several runs, and their ratios to those of the first.
#[derive(Debug, Args)]
pub struct Compare {
    /// Files with what --json printed.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Write a page with all runs.
    #[arg(long)]
    html: Option<PathBuf>,
    /// Print the comparison as JSON.
    #[arg(long)]
    pub json: bool,
}

impl Compare {
    pub fn compare(&self) -> Result<Comparison> {
        let runs = self.files.iter().map(read).collect::<Result<Vec<_>>>()?;
        if let Some(path) = &self.html {
            page::write(path, &runs)?;
        }
        Ok(Comparison::of(&runs))
    }
}

fn read(path: &PathBuf) -> Result<NamedSummary> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let summary = serde_json::from_slice(&text)
        .with_context(|| format!("{} is no summary of a run", path.display()))?;
    let stem = path.file_stem().unwrap_or(path.as_os_str());
    Ok(NamedSummary { name: stem.to_string_lossy().into_owned(), summary })
}

#[derive(Debug, Serialize)]
pub struct Comparison {
    pub runs: Vec<String>,
    pub rows: Vec<Row>,
}

/// One figure of all runs; a run may not have it.
#[derive(Debug, PartialEq, Serialize)]
pub struct Row {
    pub figure: &'static str,
    pub values: Vec<Option<f64>>,
    /// To the first run, of the runs after it.
    pub ratios: Vec<Option<f64>>,
}

impl Comparison {
    fn of(runs: &[NamedSummary]) -> Comparison {
        let row = |(figure, read): &(&'static str, Figure)| {
            Row::new(figure, runs.iter().map(|run| read(&run.summary)).collect())
        };
        let rows = FIGURES.iter().map(row).filter(|row| row.values.iter().any(Option::is_some));
        Comparison { runs: runs.iter().map(|run| run.name.clone()).collect(), rows: rows.collect() }
    }
}

impl Row {
    fn new(figure: &'static str, values: Vec<Option<f64>>) -> Row {
        // A figure that may be negative has no ratio then.
        let first = values.first().copied().flatten().filter(|first| *first > 0.0);
        let ratio = |value: &Option<f64>| Some(value.filter(|value| *value >= 0.0)? / first?);
        let ratios = values.iter().skip(1).map(ratio).collect();
        Row { figure, values, ratios }
    }
}

type Figure = fn(&Summary) -> Option<f64>;

const FIGURES: &[(&str, Figure)] = &[
    ("delivered per second", |run| Some(run.delivered_per_second)),
    ("sent per second", |run| Some(run.sent_per_second)),
    ("lost", |run| Some(as_f64(run.balance.lost))),
    ("duplicated", |run| Some(as_f64(run.balance.counts.duplicated))),
    ("latency p50, µs", |run| Some(run.latency.as_ref()?.p50)),
    ("latency p90, µs", |run| Some(run.latency.as_ref()?.p90)),
    ("latency p99, µs", |run| Some(run.latency.as_ref()?.p99)),
    ("latency p99.9, µs", |run| Some(run.latency.as_ref()?.p99_9)),
    ("latency max, µs", |run| Some(run.latency.as_ref()?.max)),
    ("broker CPU, µs per delivered", |run| Some(run.broker.as_ref()?.cpu_micros_per_delivered)),
    ("broker cores", |run| Some(run.broker.as_ref()?.cores)),
    ("broker RSS growth, bytes", |run| Some(run.broker.as_ref()?.resident_bytes_grown)),
    ("RSS per connection, bytes", |run| Some(run.broker.as_ref()?.resident_bytes_per_connection)),
    ("load CPU, µs per delivered", |run| Some(run.load_cpu_micros_per_delivered)),
];

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<LABEL_WIDTH$}", "")?;
        for (index, name) in self.runs.iter().enumerate() {
            let ratio = if index == 0 { "" } else { "ratio" };
            write!(f, " {name:>VALUE_WIDTH$} {ratio:>RATIO_WIDTH$}")?;
        }
        writeln!(f)?;
        self.rows.iter().try_for_each(|row| write!(f, "{row}"))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<LABEL_WIDTH$}", self.figure)?;
        for (index, value) in self.values.iter().enumerate() {
            let value = value.map_or("-".to_owned(), |value| format!("{value:.2}"));
            let ratio = index.checked_sub(1).and_then(|index| self.ratios[index]);
            let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.3}"));
            write!(f, " {value:>VALUE_WIDTH$} {ratio:>RATIO_WIDTH$}")?;
        }
        writeln!(f)
    }
}

const LABEL_WIDTH: usize = 28;
const VALUE_WIDTH: usize = 14;
const RATIO_WIDTH: usize = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_to_the_first_run_where_both_have_the_figure() {
        let row = |values: &[Option<f64>]| Row::new("x", values.to_vec()).ratios;
        assert_eq!(row(&[Some(2.0), Some(3.0), None, Some(1.0)]), [Some(1.5), None, Some(0.5)]);
        assert_eq!(row(&[None, Some(3.0)]), [None]);
        assert_eq!(row(&[Some(0.0), Some(3.0)]), [None]);
        assert_eq!(row(&[Some(2.0), Some(-3.0), Some(0.0)]), [None, Some(0.0)]);
        assert_eq!(row(&[Some(1.0)]), []);
    }
}
