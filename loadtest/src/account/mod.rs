//! The account of a run: which messages arrived, how long they took, and how much CPU time and
//! memory the processes used.
//!
//! Sends nothing, and writes no text.

pub mod balance;
pub mod counts;
pub mod fairness;
pub mod figures;
pub mod latency;
pub mod outcome;
pub mod process;
pub mod recorder;
pub mod seen;
pub mod series;
pub mod stream;
pub mod tally;
pub mod total;
