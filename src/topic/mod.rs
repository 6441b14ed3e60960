//! The topic room.
