//! The runtime: drives one [`Brain`](crate::shard::ports::Brain) per CPU core on a ring of its own.
//!
//! The only room with sockets, threads, clocks and signals. Knows nothing of MQTT: only the brain
//! knows what bytes mean.

mod allocator;
mod ask;
mod bell;
mod chunks;
mod connection;
mod driver;
mod due;
mod event_loop;
mod events;
mod executor;
mod fault;
mod intake;
mod keep;
mod lane;
mod last_words;
mod listen;
mod load;
mod mailbox;
mod outbox;
mod partials;
mod payloads;
mod precede;
mod probe;
mod proxy;
mod random;
mod records;
mod reload;
mod ring;
mod send_budget;
mod signals;
mod socketless;
mod stalled;
mod start;
mod stop;
pub mod store;
mod traces;
mod transport;
mod trim;
mod turn;
mod unix;
mod verify;

use std::fmt;

pub use self::{
    allocator::Allocator,
    ask::{Reply, Shards, Unasked},
    events::EventLane,
    fault::Fault,
    last_words::tell_at_panic,
    reload::Reloader,
    ring::system::{now, use_small_pages, wall_clock},
    signals::HangUps,
    socketless::SocketlessOutbox,
    start::{run, run_stored},
    stop::{StopHandle, StopReport},
    traces::TraceLane,
    unix::{SocketFile, listen_unix},
};
use crate::{base::time::Span, transport::Listener};

/// By what the shards may wait for their sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoMode {
    /// By rings of `io_uring`, or by epoll where this machine has none for the broker.
    Auto,
    /// By rings; without them the broker does not run.
    Ring,
    /// By epoll.
    Poll,
}

/// By what the shards wait for their sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    /// By `io_uring`.
    Ring,
    /// By epoll.
    Poll,
}

impl fmt::Display for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Io::Ring => "io_uring",
            Io::Poll => "epoll",
        })
    }
}

/// How a broker runs.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// The CPU of each shard; there are as many shards as CPUs here.
    pub cpus: Vec<usize>,
    pub io: IoMode,
    /// Where to listen. Connections name their listener by its place here.
    pub listeners: Vec<Listener>,
    /// Submissions that one ring takes at a time; a power of two. Means nothing with epoll.
    pub ring_entries: u32,
    /// Receive buffers of each shard, a power of two, and the size of each. The number means
    /// nothing with epoll.
    pub recv_buffers: u16,
    pub recv_buffer_bytes: u32,
    /// How long a shard with nothing to do looks for work before it sleeps.
    pub busy_poll: Span,
    /// Unsent bytes of one connection beyond which it gets no more PUBLISH packets.
    pub outbox_bytes_max: usize,
    /// Connections of all shards together.
    pub connections_max: usize,
    /// Connections beyond that limit that are accepted only to be told that the broker is full.
    pub connections_surplus: usize,
    /// How long a client may take to read its outbox after its connection was closed.
    pub flush_time_max: Span,
    /// How long a stop may take. Most of it is for sending what waits for connected clients.
    pub stop_time_max: Span,
    /// Bytes of incomplete packets that one shard holds, for all clients that have been let in.
    pub partial_bytes_max: usize,
    /// The same for all other connections.
    pub stranger_bytes_max: usize,
    /// A packet of which less than 1 KiB comes in this time ends its connection.
    pub packet_timeout: Span,
    /// A client that has unsent bytes and reads none for this time is disconnected.
    pub stalled_timeout: Span,
    /// The signals of the process are for the broker, if there is one of these.
    pub signals: Option<HangUps>,
}

/// A broker that has begun to listen.
#[derive(Debug)]
pub struct Started {
    /// Where the broker listens, in the order of [`RuntimeConfig::listeners`], with the ports that
    /// the system has picked.
    pub listeners: Vec<Listener>,
    /// The CPU of each shard.
    pub cpus: Vec<usize>,
    pub io: Io,
    /// The largest number of connections: as configured, or fewer if the system allows fewer.
    pub connections_max: usize,
    pub stop: StopHandle,
    /// How other threads reach the shards.
    pub shards: Shards,
}
