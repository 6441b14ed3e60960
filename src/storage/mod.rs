//! The durable store as bytes and as a function: what is written down, how it is read back, and
//! what of it still counts.
//!
//! [`Record`] is one fact, [`RecordBatch`] the facts of one turn of a shard, which survive together
//! or not at all. A [`group`] is what one write brings to disk, a [`segment`] a file of them, and
//! [`log`] reads them all. [`ledger`] says which records count, [`Restored`] is what a start begins
//! with.
//! Knows no files, no threads and no clock.

#![forbid(unsafe_code)]

mod batch;
mod cleaning;
mod codec;
mod field;
pub mod group;
pub mod ledger;
pub mod log;
pub mod mosquitto;
pub mod portrait;
mod record;
mod restored;
pub mod segment;
#[cfg(test)]
mod tests;

pub use self::{
    batch::{RecordBatch, Records},
    cleaning::{OldGroup, RACE, Rewriting},
    codec::Unreadable,
    field::{Item, List, Target},
    record::{
        MessageId, MessageRecord, Record, RefRecord, RetainRecord, SessionNumber, SessionRecord,
        Stamp, WillRecord,
    },
    restored::{Intent, Kept, Recovery, Restored, RestoredRetain, RestoredSession},
};
