//! Drives an MQTT broker with load and accounts for every message.
//!
//! Knows nothing of any broker: it speaks MQTT, and reads `/proc` when told whose.

#![forbid(unsafe_code)]

pub mod account;
pub mod arguments;
pub mod clients;
pub mod compare;
pub mod curve;
pub mod machine;
pub mod page;
pub mod payload;
pub mod request;
pub mod run;
pub mod search;
pub mod sink;
pub mod summary;
