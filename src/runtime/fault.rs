//! What keeps the broker from running: our machine's fault, said so that it can be mended.

use std::{io, net::SocketAddr};

use thiserror::Error;

use crate::base::ids::ShardId;

#[derive(Debug, Error)]
pub enum Fault {
    #[error("this kernel has no io_uring; ringmq needs Linux 6.0 or later")]
    NoRing,
    #[error(
        "io_uring is forbidden here: allow it with `sysctl kernel.io_uring_disabled=0`, and in a \
         container with a seccomp profile that lets io_uring_setup, io_uring_enter and \
         io_uring_register pass"
    )]
    RingForbidden,
    #[error("this kernel is too old: ringmq needs multishot receive, from Linux 6.0 on")]
    KernelTooOld,
    #[error(
        "a process may lock {available} bytes of memory here, and a shard needs {needed}: raise it \
         with `ulimit -l`, LimitMEMLOCK= or --ulimit memlock="
    )]
    LockedMemory { available: u64, needed: u64 },
    #[error(
        "a process may have {available} descriptors here, and the broker needs {needed} before its \
         first connection: allow more with `ulimit -n`, LimitNOFILE= or --ulimit nofile="
    )]
    Descriptors { available: u64, needed: usize },
    #[error("cannot listen on {address}: {}", reason(.error))]
    Listen { address: SocketAddr, error: io::Error },
    #[error("cannot make the ring of a shard: {0}")]
    Ring(io::Error),
    #[error("cannot lend receive buffers to the kernel: {0}")]
    Buffers(io::Error),
    #[error("cannot run shard {shard} on CPU {cpu}: {reason}")]
    Executor { shard: ShardId, cpu: usize, reason: String },
    #[error("shard {0} has ended before it was asked to")]
    ShardLost(ShardId),
    #[error("the configuration of the runtime contradicts itself: {0}")]
    Configuration(&'static str),
    #[error("the system refuses what every broker needs")]
    System(#[from] io::Error),
}

/// The reason in the words of whoever reads it on a terminal.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another program listens there".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need the capability CAP_NET_BIND_SERVICE".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        _ => error.to_string(),
    }
}
