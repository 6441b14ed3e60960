//! What a payload carries: a stamp that names its message, and a filling that shows damage.
//!
//! Knows nothing of packets: a payload is bytes.

mod filling;
mod scatter;
mod stamp;

pub use self::{
    filling::{Content, Filling, Sizes},
    scatter::scatter,
    stamp::{Phase, SEQUENCES_MAX, STAMP_LEN, Stamp},
};
