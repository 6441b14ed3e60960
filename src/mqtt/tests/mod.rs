//! What holds for all packets.

mod golden;
