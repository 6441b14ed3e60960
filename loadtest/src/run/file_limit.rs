//! The limit of open files, raised as far as a run needs it.

use anyhow::{Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Each connection is a file, and each thread has two more.
pub(super) fn raise(connections: u64, threads: u64) -> Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let besides = FILES_BESIDES + 2 * threads;
    let needed = connections + besides;
    if let Some(maximum) = maximum.filter(|maximum| *maximum < needed) {
        bail!(
            "{connections} connections need {needed} open files, and at most {maximum} are \
             allowed: raise the hard limit (`ulimit -Hn {needed}` as root, or LimitNOFILE), or \
             have at most {} clients (of a preset with --scale)",
            maximum.saturating_sub(besides)
        );
    }
    if current.is_some_and(|current| current < needed) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum })?;
    }
    Ok(())
}

/// Open files that belong neither to a connection nor to a thread.
const FILES_BESIDES: u64 = 64;
