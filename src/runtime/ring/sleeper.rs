//! Sleeping in the executor until the ring has something.
#![expect(unsafe_code, reason = "the executor's file takes a raw descriptor")]

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, FromRawFd, IntoRawFd},
};

use glommio::io::BufferedFile;

use super::{Ring, system, uring::Uring};
use crate::base::time::Span;

/// How a shard sleeps until its ring has something.
pub(in crate::runtime) enum Sleeper {
    /// An event counter that counts completions of a ring, read by the executor.
    Executor(BufferedFile),
    /// In the ring itself: a thread with epoll needs no executor.
    InRing,
}

impl Sleeper {
    /// Made within the executor, if there is one.
    pub(in crate::runtime) fn new(ring: &mut Ring) -> io::Result<Sleeper> {
        match ring {
            Ring::Uring(uring) => count_completions(uring).map(Sleeper::Executor),
            Ring::Epoll(_) => Ok(Sleeper::InRing),
        }
    }

    /// Sleeps until a completion was signalled, and lets the executor do other things meanwhile.
    pub(in crate::runtime) async fn sleep(&self, ring: &mut Ring) {
        match self {
            // A failed read wakes too early, which costs a look at the ring.
            Sleeper::Executor(count) => drop(count.read_at(0, size_of::<u64>()).await),
            Sleeper::InRing => ring.wait(SLEEP_MAX),
        }
    }
}

/// Registers an event counter with the ring. Signalling begins with [`Ring::signal`].
fn count_completions(uring: &mut Uring) -> io::Result<BufferedFile> {
    let count: File = system::event_fd()?;
    uring.ring.submitter().register_eventfd(count.as_raw_fd())?;
    uring.signal(false);
    // SAFETY: the descriptor is open, and from here on only the new file owns it.
    Ok(unsafe { BufferedFile::from_raw_fd(count.into_raw_fd()) })
}

/// The longest sleep in one go. The alarm ends it earlier.
const SLEEP_MAX: Span = Span::from_secs(3600);
