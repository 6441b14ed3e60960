//! Whether this machine lets a broker run, and how large it lets it become.

use super::{
    RuntimeConfig,
    fault::Fault,
    ring::{
        Ring,
        system::{self, Resource},
    },
};
use crate::base::ids::SHARDS_MAX;

/// How many connections this machine lets the broker hold.
pub(super) struct Capacity {
    pub(super) connections: usize,
    /// Connections beyond that limit that are accepted only to be told that the broker is full.
    pub(super) surplus: usize,
}

/// Checks what the broker needs, and returns how many connections it can hold.
pub(super) fn probe(config: &RuntimeConfig) -> Result<Capacity, Fault> {
    check_config(config)?;
    check_locked_memory()?;
    system::use_small_pages()?;
    Ring::new(PROBE_ENTRIES).map(drop)?;
    limit_connections(config)
}

fn check_config(config: &RuntimeConfig) -> Result<(), Fault> {
    let sound = |sound, why| if sound { Ok(()) } else { Err(Fault::Configuration(why)) };
    let shards = config.cpus.len();
    sound((1..=SHARDS_MAX).contains(&shards), "from 1 to 128 shards")?;
    sound(u16::try_from(config.listeners.len()).is_ok(), "at most 65,535 listeners")?;
    sound(config.ring_entries.is_power_of_two(), "ring_entries is a power of two")?;
    sound(config.recv_buffers.is_power_of_two(), "recv_buffers is a power of two")?;
    sound(config.recv_buffers <= 1 << 15, "at most 32,768 recv_buffers")?;
    sound(config.recv_buffer_bytes > 0, "recv_buffer_bytes is not zero")
}

/// The executor refuses to run with less lockable memory. The kernel may count its rings and
/// buffers against the limit.
fn check_locked_memory() -> Result<(), Fault> {
    let (available, _) = system::limit(Resource::Memlock);
    let needed = LOCKED_BYTES_PER_SHARD;
    if available < needed { Err(Fault::LockedMemory { available, needed }) } else { Ok(()) }
}

/// As many connections as configured, or fewer if the process may not have enough descriptors.
fn limit_connections(config: &RuntimeConfig) -> Result<Capacity, Fault> {
    let available = system::raise_limit(Resource::Nofile)?;
    let shards = config.cpus.len();
    let reserved = DESCRIPTORS_RESERVED + shards * (DESCRIPTORS_PER_SHARD + config.listeners.len());
    let limit = usize::try_from(available).unwrap_or(usize::MAX).saturating_sub(reserved);
    if limit == 0 {
        return Err(Fault::Descriptors { available, needed: reserved });
    }
    let surplus = config.connections_surplus.min(limit / SURPLUS_PART);
    Ok(Capacity { connections: (limit - surplus).min(config.connections_max), surplus })
}

const PROBE_ENTRIES: u32 = 8;
/// The surplus is at most this fraction of all connections.
const SURPLUS_PART: usize = 16;
const LOCKED_BYTES_PER_SHARD: u64 = 512 << 10;
/// Log, journal, control plane.
const DESCRIPTORS_RESERVED: usize = 64;
/// Rings, event counters and what the executor has.
const DESCRIPTORS_PER_SHARD: usize = 24;
