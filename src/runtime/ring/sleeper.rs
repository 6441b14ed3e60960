//! Sleeping in the executor until the ring has something.
#![expect(unsafe_code, reason = "the executor's file takes a raw descriptor")]

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, FromRawFd, IntoRawFd},
};

use glommio::io::BufferedFile;

use super::{Ring, system};

/// An event counter that counts completions of a ring, read by the executor.
pub(in crate::runtime) struct Sleeper {
    count: BufferedFile,
}

impl Sleeper {
    /// Registers an event counter with `ring`. Signalling begins with [`Ring::signal`].
    pub(in crate::runtime) fn new(ring: &mut Ring) -> io::Result<Sleeper> {
        let count: File = system::event_fd()?;
        ring.uring.submitter().register_eventfd(count.as_raw_fd())?;
        ring.signal(false);
        // SAFETY: the descriptor is open, and from here on only the new file owns it.
        let count = unsafe { BufferedFile::from_raw_fd(count.into_raw_fd()) };
        Ok(Sleeper { count })
    }

    /// Lets the executor do other things until a completion was signalled.
    pub(in crate::runtime) async fn sleep(&self) {
        // A failed read wakes too early, which costs a look at the ring.
        drop(self.count.read_at(0, size_of::<u64>()).await);
    }
}
