//! Errors that keep the broker from starting or running. Each text names the remedy.

use std::io;

use thiserror::Error;

use super::store::StoreFault;
use crate::{base::ids::ShardId, transport::Address};

#[derive(Debug, Error)]
pub enum Fault {
    #[error("this kernel does not support io_uring: ringmq needs Linux 6.0 or later")]
    NoRing,
    #[error(
        "io_uring is not permitted: run `sysctl kernel.io_uring_disabled=0`; in a container, also \
         use a seccomp profile that allows io_uring_setup, io_uring_enter and \
         io_uring_register; or use epoll with `--io auto`"
    )]
    RingForbidden(io::Error),
    #[error("this kernel does not support multishot receive: ringmq needs Linux 6.0 or later")]
    KernelTooOld,
    #[error(
        "the limit of locked memory is {available} bytes for all processes of a user, and {shards} \
         shards need {needed}: raise the limit with `ulimit -l`, LimitMEMLOCK= (systemd) or \
         --ulimit memlock= (container), or set --shards lower"
    )]
    LockedMemory { available: u64, needed: u64, shards: usize },
    #[error(
        "the limit of open files is {available}, and the broker needs {needed} before its first \
         connection: raise the limit with `ulimit -n`, LimitNOFILE= (systemd) or \
         --ulimit nofile= (container)"
    )]
    Descriptors { available: u64, needed: usize },
    #[error("cannot listen on {address}: {}", reason(.address, .error))]
    Listen { address: Address, error: io::Error },
    #[error("cannot create the io_uring instance of a shard: {0}")]
    Ring(io::Error),
    #[error("cannot register receive buffers with the kernel: {0}")]
    Buffers(io::Error),
    #[error("cannot run shard {shard} on CPU {cpu}: {error}")]
    Executor { shard: ShardId, cpu: usize, error: io::Error },
    #[error("shard {0} stopped unexpectedly")]
    ShardLost(ShardId),
    #[error("the configuration of the runtime is inconsistent: {0}")]
    Configuration(&'static str),
    #[error(transparent)]
    Store(#[from] StoreFault),
    #[error("a system call failed that the broker cannot run without")]
    System(#[from] io::Error),
}

impl Fault {
    /// Why this machine has no rings, if that is all that it lacks.
    pub(super) fn against_rings(&self) -> Option<String> {
        match self {
            Fault::NoRing => Some("this kernel does not support io_uring".to_owned()),
            Fault::RingForbidden(error) => {
                let error = error.to_string();
                let words = error.split(" (os error").next().unwrap_or(&error);
                Some(format!("io_uring is forbidden here ({words})"))
            }
            Fault::KernelTooOld => {
                Some("io_uring of this kernel is too old, it lacks multishot receive".to_owned())
            }
            Fault::LockedMemory { available, needed, .. } => Some(format!(
                "io_uring needs {needed} bytes of locked memory (`ulimit -l`), and {available} are \
                 allowed"
            )),
            _ => None,
        }
    }
}

/// The cause of a failed listener, in words for a terminal.
fn reason(address: &Address, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another program is listening on this address".to_owned(),
        io::ErrorKind::PermissionDenied if address.ip().is_none() => {
            "no permission to make this file, or to give it this owner".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "a port below 1024 needs the capability CAP_NET_BIND_SERVICE".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => "this machine does not have this address".to_owned(),
        _ => error.to_string(),
    }
}
