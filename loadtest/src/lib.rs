//! Drives an MQTT broker with load and accounts for every message.
//!
//! Knows nothing of any broker: it speaks MQTT, and reads `/proc` when it is given a process.
//!
//! # Rooms
//!
//! The way of the data: a [`request`] becomes a plan; a [`run`] of it has [`clients`] send and
//! receive; an [`account`] counts what came; a [`report`] shows it. A room uses only rooms above it
//! in this list, which `tests/tidy.rs` at the root of the repository checks.
//!
//! | room | what it is | what it may use |
//! |---|---|---|
//! | [`machine`] | the clock, the CPUs, and sockets that never block | nothing |
//! | [`payload`] | the stamp and the filling of a payload | nothing |
//! | [`request`] | flags and scenarios, and the plan that they make | `machine`, `payload` |
//! | [`account`] | what came of a run, counted | `payload`, `request` |
//! | [`clients`] | clients that send and receive, one connection each | the four above |
//! | [`run`] | the threads of a run, and who leads them from phase to phase | the five above |
//! | [`report`] | the summary of a run, and runs side by side | `request`, `account` |
//! | [`sink`] | a server that acknowledges everything and delivers nothing | `machine`, `clients` |
//! | [`search`] | the search for the highest rate | `request`, `account`, `run`, `report` |
//! | [`arguments`] | the command line | `request`, `report`, `sink` |

#![forbid(unsafe_code)]

pub mod machine;
pub mod payload;

pub mod request;

pub mod account;
pub mod clients;
pub mod run;

pub mod report;
pub mod sink;

pub mod arguments;
pub mod search;
