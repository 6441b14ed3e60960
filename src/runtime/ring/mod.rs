//! The ring of one shard: operations go in, completions come out.
//!
//! Only this folder knows that it is `io_uring`, or epoll where `io_uring` is forbidden. The rest
//! of the runtime asks for operations by the methods of [`Ring`], and is answered with
//! [`Completion`]s. Knows nothing of brains and packets.

pub(super) mod buffers;
mod epoll;
pub(super) mod operation;
mod pool;
mod provided;
pub(super) mod reassembly;
pub(super) mod sleeper;
pub(super) mod system;
mod uring;
pub(super) mod vector;

use std::{
    io,
    net::{TcpListener, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::Arc,
};

use mio::Waker;

use self::{
    buffers::{BufferId, Buffers},
    epoll::Epoll,
    operation::Operation,
    pool::Pool,
    reassembly::ReassemblyBuffer,
    uring::Uring,
};
use super::{Io, fault::Fault, outbox::Outbox};
use crate::base::{
    ids::ConnectionId,
    time::{Moment, Span},
};

/// What has become of an operation.
#[derive(Debug)]
pub(super) struct Completion {
    pub(super) operation: Operation,
    pub(super) outcome: Outcome,
    /// The provided buffer that holds what was received.
    pub(super) buffer: Option<BufferId>,
    /// The same operation will complete again.
    pub(super) more: bool,
}

/// How an operation has ended, or what it has brought.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The operation has moved so many bytes. A receive of none means the end of the stream.
    Done(usize),
    /// An accept has brought this connection.
    Accepted(TcpStream),
    /// The operation was cancelled, or was not possible at this moment. It may be begun again.
    Passing,
    Failed(io::Error),
}

impl Outcome {
    /// Bytes that were received or sent.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Outcome::Done(bytes) => *bytes,
            Outcome::Accepted(_) | Outcome::Passing | Outcome::Failed(_) => 0,
        }
    }
}

/// How other shards' rings reach a ring.
#[derive(Debug)]
pub(super) enum RingAddress {
    Uring(OwnedFd),
    Epoll(Arc<Waker>),
}

/// The ring of one shard. It is made, used and dropped on the shard's own thread. All shards of a
/// broker have the same kind.
pub(super) enum Ring {
    Uring(Box<Uring>),
    Epoll(Box<Epoll>),
}

/// The same of both kinds.
macro_rules! either {
    ($ring:expr, $it:ident => $call:expr) => {
        match $ring {
            Ring::Uring($it) => $call,
            Ring::Epoll($it) => $call,
        }
    };
}

impl Ring {
    /// A ring with room for `entries` submissions at a time. With epoll they are not limited.
    pub(super) fn new(io: Io, entries: u32) -> Result<Ring, Fault> {
        match io {
            Io::Ring => Uring::new(entries).map(|uring| Ring::Uring(Box::new(uring))),
            Io::Poll => Ok(Ring::Epoll(Box::new(Epoll::new()?))),
        }
    }

    /// Memory for this ring to receive into. With epoll `count` means nothing: the buffers are made
    /// as they are needed.
    pub(super) fn lend_buffers(&self, count: u16, size: u32) -> Result<Buffers, Fault> {
        match self {
            Ring::Uring(uring) => uring.lend_buffers(count, size).map(Buffers::Provided),
            Ring::Epoll(_) => Ok(Buffers::Pool(Pool::new(size))),
        }
    }

    /// How other shards' rings reach this one.
    pub(super) fn address(&self) -> io::Result<RingAddress> {
        match self {
            Ring::Uring(uring) => uring.address().map(RingAddress::Uring),
            Ring::Epoll(epoll) => Ok(RingAddress::Epoll(epoll.address())),
        }
    }

    /// Accepts connections until it completes without `more`.
    pub(super) fn accept(&mut self, listener: u16, socket: &TcpListener) {
        either!(self, it => it.accept(listener, socket));
    }

    /// Receives once, into a buffer that was lent.
    pub(super) fn receive_once(&mut self, connection: ConnectionId, socket: &TcpStream) {
        either!(self, it => it.receive_once(connection, socket));
    }

    /// Receives into buffers that were lent until it completes without `more`.
    pub(super) fn receive_many(&mut self, connection: ConnectionId, socket: &TcpStream) {
        either!(self, it => it.receive_many(connection, socket));
    }

    /// Receives the rest of one packet, once. The reassembly buffer does not move its memory until
    /// [`ReassemblyBuffer::complete`] is called.
    pub(super) fn receive_rest(
        &mut self,
        connection: ConnectionId,
        socket: &TcpStream,
        reassembly: &mut ReassemblyBuffer,
    ) {
        either!(self, it => it.receive_rest(connection, socket, reassembly));
    }

    /// Cancels an operation. The operation still completes: without any effect, unless it ended
    /// first.
    pub(super) fn cancel(&mut self, operation: Operation) {
        either!(self, it => it.cancel(operation));
    }

    /// Forgets a connection without operations, before its socket is closed or moved.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        match self {
            Ring::Uring(_) => {}
            Ring::Epoll(epoll) => epoll.forget(connection),
        }
    }

    /// Sends the bytes at the front of the outbox. The outbox does not move them until
    /// [`Outbox::complete`] is called.
    pub(super) fn send(
        &mut self,
        connection: ConnectionId,
        socket: &TcpStream,
        outbox: &mut Outbox,
    ) {
        either!(self, it => it.send(connection, socket, outbox));
    }

    /// Completes [`Operation::Bell`] when another thread rings `bell`.
    pub(super) fn watch_bell(&mut self, bell: &UnixStream) {
        either!(self, it => it.watch_bell(bell));
    }

    /// Completes [`Operation::Wake`] in another shard's ring.
    pub(super) fn wake_peer(&mut self, address: &RingAddress) {
        match (self, address) {
            (Ring::Uring(uring), RingAddress::Uring(address)) => uring.wake_peer(address),
            (Ring::Epoll(epoll), RingAddress::Epoll(waker)) => epoll.wake_peer(waker),
            _ => unreachable!("all shards have the same kind"),
        }
    }

    /// Completes [`Operation::Alarm`] at `moment`.
    pub(super) fn set_alarm(&mut self, moment: Moment) {
        either!(self, it => it.set_alarm(moment));
    }

    /// Begins pending operations and collects completions, without waiting.
    pub(super) fn turn_over(&mut self) {
        either!(self, it => it.turn_over());
    }

    /// Begins pending operations and waits for a completion, for at most `patience`.
    pub(super) fn wait(&mut self, patience: Span) {
        either!(self, it => it.wait(patience));
    }

    /// Whether there is anything to [`Ring::reap`], or to begin.
    pub(super) fn has_news(&mut self) -> bool {
        match self {
            Ring::Uring(uring) => uring.has_news(),
            Ring::Epoll(epoll) => epoll.has_completions(),
        }
    }

    /// Whether there is anything to [`Ring::reap`] without entering the kernel.
    pub(super) fn has_completions(&mut self) -> bool {
        either!(self, it => it.has_completions())
    }

    /// Moves completions into `completions`, oldest first: all of them, but no more than there are
    /// buffers for.
    pub(super) fn reap(&mut self, completions: &mut Vec<Completion>, buffers: &mut Buffers) {
        match (self, buffers) {
            (Ring::Uring(uring), _) => uring.reap(completions),
            (Ring::Epoll(epoll), Buffers::Pool(pool)) => epoll.reap(completions, pool),
            (Ring::Epoll(_), Buffers::Provided(_)) => {
                unreachable!("the buffers were lent by this ring")
            }
        }
    }

    /// Switches on or off that completions are signalled to the event counter of
    /// [`sleeper::Sleeper`].
    pub(super) fn signal(&mut self, on: bool) {
        match self {
            Ring::Uring(uring) => uring.signal(on),
            // The shard sleeps in epoll itself.
            Ring::Epoll(_) => {}
        }
    }
}
