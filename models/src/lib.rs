//! The doorbell and the mesh as they ship, on loom's atomics.
//!
//! Their very sources are compiled a second time, with this crate in the place of `std` and of
//! `crossbeam_channel`, so that no line of them knows that it is tried. Not in their unit tests,
//! which need the real ones.
#![cfg(not(test))]

extern crate alloc;
extern crate self as crossbeam_channel;
extern crate self as std;
extern crate std as real_std;

mod lane;
pub mod sleeper;
pub mod sync;

#[path = "../../src/mesh/mod.rs"]
pub mod mesh;

pub use lane::{Receiver, Sender, TrySendError, bounded};
pub use ringmq::base;
