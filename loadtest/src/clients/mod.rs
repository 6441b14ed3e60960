//! Clients that send and receive: each with its connection, and what it writes and reads there.
//!
//! Knows one client at a time, and neither threads nor commands. It is told when and what to send.

pub mod connection;
pub mod fault;
pub mod inbox;
pub mod outbox;
pub mod publisher;
pub mod removal;
pub mod subscriber;
pub mod window;
pub mod wire;
