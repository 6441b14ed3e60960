//! Whether this machine lets a broker run, and how large it lets it become.

use std::io;

use tracing::warn;

use super::{
    Io, IoMode, RuntimeConfig,
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
    system::use_small_pages()?;
    limit_connections(config)
}

/// Chooses what the shards wait by. Where the mode leaves the choice, the log says why it is not
/// rings.
pub(super) fn choose(config: &RuntimeConfig) -> Result<Io, Fault> {
    match config.io {
        IoMode::Poll => Ok(Io::Poll),
        IoMode::Ring => try_ring(config).map(|()| Io::Ring),
        IoMode::Auto => match try_ring(config) {
            Ok(()) => Ok(Io::Ring),
            Err(fault) => {
                let Some(why) = fault.against_rings() else { return Err(fault) };
                warn!("{why}: epoll is used; it costs more CPU");
                Ok(Io::Poll)
            }
        },
    }
}

fn try_ring(config: &RuntimeConfig) -> Result<(), Fault> {
    check_locked_memory(config)?;
    let ring = Ring::new(Io::Ring, PROBE_ENTRIES);
    ring.map(drop).map_err(|fault| fault_of_shard(fault, config))
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

/// The executor refuses to run with less lockable memory. All shards may need more: whether the
/// kernel counts their rings against the limit is known only when they are made.
fn check_locked_memory(config: &RuntimeConfig) -> Result<(), Fault> {
    let (available, _) = system::limit(Resource::Memlock);
    let enough = available >= LOCKED_BYTES_MIN;
    if enough { Ok(()) } else { Err(locked_memory_fault(available, config)) }
}

/// The fault that keeps a shard from being made, in the words that name the remedy: the kernel says
/// only that memory is missing when the limit of locked memory is reached.
pub(super) fn fault_of_shard(fault: Fault, config: &RuntimeConfig) -> Fault {
    let (available, _) = system::limit(Resource::Memlock);
    if is_out_of_memory(&fault) && available < u64::MAX {
        locked_memory_fault(available, config)
    } else {
        fault
    }
}

fn is_out_of_memory(fault: &Fault) -> bool {
    match fault {
        Fault::Ring(error) | Fault::Buffers(error) | Fault::Executor { error, .. } => {
            error.kind() == io::ErrorKind::OutOfMemory
        }
        _ => false,
    }
}

fn locked_memory_fault(available: u64, config: &RuntimeConfig) -> Fault {
    Fault::LockedMemory { available, needed: locked_bytes(config), shards: config.cpus.len() }
}

/// Enough locked memory for all shards.
fn locked_bytes(config: &RuntimeConfig) -> u64 {
    let shards = u64::try_from(config.cpus.len()).unwrap_or(u64::MAX);
    let of_ring = LOCKED_BYTES_PER_ENTRY * u64::from(config.ring_entries);
    (shards * (LOCKED_BYTES_PER_SHARD + of_ring)).max(LOCKED_BYTES_MIN)
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
/// What the executor asks for.
const LOCKED_BYTES_MIN: u64 = 512 << 10;
/// The rings of the executor, measured, and some.
const LOCKED_BYTES_PER_SHARD: u64 = 256 << 10;
/// One entry of the submission queue and several of the completion queue, and some.
const LOCKED_BYTES_PER_ENTRY: u64 = 160;
/// Log, journal, control plane.
const DESCRIPTORS_RESERVED: usize = 64;
/// Rings, event counters and what the executor has.
const DESCRIPTORS_PER_SHARD: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lack_of_memory_is_told_as_the_limit_of_locked_memory() {
        let error = |kind: io::ErrorKind| io::Error::from(kind);
        assert!(is_out_of_memory(&Fault::Ring(error(io::ErrorKind::OutOfMemory))));
        assert!(is_out_of_memory(&Fault::Buffers(error(io::ErrorKind::OutOfMemory))));
        assert!(!is_out_of_memory(&Fault::Ring(error(io::ErrorKind::Other))));
        assert!(!is_out_of_memory(&Fault::NoRing));
    }
}
