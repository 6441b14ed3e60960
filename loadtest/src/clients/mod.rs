//! Clients that send and receive, each on a connection of its own.
//!
//! Knows one client at a time, and neither threads nor commands. The caller decides when a client
//! sends, and what.

pub mod connection;
pub mod fault;
pub mod inbox;
pub mod outbox;
pub mod publisher;
pub mod removal;
pub mod subscriber;
pub mod window;
pub mod wire;
