//! The bells of the shards: how any thread wakes a shard that may sleep.

use std::{io, io::Write, os::unix::net::UnixStream, sync::Arc};

use crate::base::ids::ShardId;

/// The bells of all shards, which any thread may ring.
///
/// A bell is a pair of sockets, and the shard's ring reads one end. An event counter would not
/// work: the ring signals its completions to an event counter, and the kernel does not signal one
/// event counter while it wakes up the readers of another.
#[derive(Clone, Debug)]
pub(super) struct Bells(Arc<[Bell]>);

#[derive(Debug)]
struct Bell {
    button: UnixStream,
    sound: UnixStream,
}

impl Bells {
    pub(super) fn new(shards: usize) -> io::Result<Bells> {
        (0..shards).map(|_| Bell::new()).collect::<io::Result<_>>().map(Bells)
    }

    pub(super) fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        ShardId::all(self.0.len())
    }

    /// The end that the shard reads. Each ring of the bell is one byte.
    pub(super) fn listen(&self, shard: ShardId) -> &UnixStream {
        &self.0[shard.index()].sound
    }

    pub(super) fn ring(&self, shard: ShardId) {
        // The write fails only if many rings are unread. The shard then wakes up anyway.
        let _heard = (&self.0[shard.index()].button).write(&[1]);
    }

    pub(super) fn ring_all(&self) {
        self.shards().for_each(|shard| self.ring(shard));
    }
}

impl Bell {
    fn new() -> io::Result<Bell> {
        let (button, sound) = UnixStream::pair()?;
        button.set_nonblocking(true)?;
        Ok(Bell { button, sound })
    }
}
