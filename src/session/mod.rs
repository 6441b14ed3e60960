//! One client's contract with the broker: what outlives its connections.
//!
//! A pure state machine per direction: [`inbound`] for what the client publishes, [`outbound`] for
//! what it is sent. [`topic_aliases`] and [`client_aliases`] are of one connection only. Knows
//! packets and time; knows no sockets, no topics trie and no other session.

#![forbid(unsafe_code)]

pub mod client_aliases;
pub mod filters;
pub mod inbound;
pub mod message;
pub mod outbound;
pub mod queue;
pub mod topic_aliases;
pub mod will;
