//! The base for all other modules: identifiers, time, hashing, containers.
//!
//! Knows nothing of MQTT and nothing of the operating system.

pub mod byte_count;
pub mod hash;
pub mod ids;
pub mod json;
pub mod local;
pub mod network;
pub mod rate;
pub mod shared_count;
pub mod slab;
pub mod text;
pub mod time;
pub mod utc;
pub mod wheel;
