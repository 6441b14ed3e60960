//! What came of a run: the messages that arrived or did not, how long they took, and what
//! processes used meanwhile.
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
