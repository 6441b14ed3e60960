//! The shard room: the brain of one core.

pub mod letter;
pub mod ports;
