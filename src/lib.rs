//! ringmq: an MQTT broker for Linux, one shard per CPU core.
//!
//! `docs/ARCHITECTURE.md` describes the rooms (modules) and their floors (layers). A room uses only
//! rooms on lower floors.

pub mod base;
pub mod mqtt;
pub mod topic;

pub mod access;
pub mod routing;
pub mod session;
pub mod storage;
pub mod transport;

pub mod shard;

pub mod mesh;
pub mod runtime;

pub mod control;

pub mod commands;
pub mod config;
pub mod server;
