//! Drives an MQTT broker with load and accounts for every message.
//!
//! Knows nothing of any broker: it speaks MQTT, and reads `/proc` when told whose.

#![forbid(unsafe_code)]

pub mod account;
pub mod arguments;
pub mod clients;
pub mod compare;
pub mod control;
pub mod curve;
pub mod machine;
pub mod opening;
pub mod page;
pub mod payload;
pub mod progress;
pub mod publishing;
pub mod request;
pub mod run;
pub mod search;
pub mod sink;
pub mod slow_readers;
pub mod summary;
pub mod worker;
