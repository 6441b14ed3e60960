//! The operating system: the clock, the CPUs, and sockets that never block.
//!
//! Knows nothing of MQTT, of the load and of the run.

pub mod clock;
pub mod cpus;
pub mod network;
