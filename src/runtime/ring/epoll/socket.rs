//! The sockets of connections that epoll watches, by the slots of their connections.

use std::{io, os::fd::RawFd};

use mio::{Interest, Registry, unix::SourceFd};

use super::{Operation, is_not_ready, token, watch};
use crate::base::ids::ConnectionId;

#[derive(Default)]
pub(super) struct Sockets(Vec<Option<Socket>>);

/// A socket, what is known of it, and which operations wait for it. It stays open until they have
/// ended, and [`Sockets::forget`] is called before it is closed.
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
pub(super) struct Socket {
    generation: u32,
    pub(super) fd: RawFd,
    /// Epoll also tells when there is room to send.
    tells_room: bool,
    /// There may be something to read.
    pub(super) may_read: bool,
    /// The peer sends nothing more, so that there will always be something: the end.
    pub(super) has_ended: bool,
    /// The receive is tried when completions are reaped next.
    pub(super) is_in_line: bool,
    pub(super) receive: Option<Receive>,
    /// What is sent when there is room.
    pub(super) send: Option<*const libc::msghdr>,
}

/// A receive that was asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Receive {
    Once,
    Many,
    /// Once, to memory of its own.
    Rest {
        room: *mut u8,
        length: usize,
    },
}

impl Sockets {
    pub(super) fn get(&mut self, id: ConnectionId) -> Option<&mut Socket> {
        let socket = self.0.get_mut(id.slot as usize)?.as_mut();
        socket.filter(|socket| socket.generation == id.generation)
    }

    /// The socket of a connection, which is watched from now on.
    pub(super) fn watched(
        &mut self,
        id: ConnectionId,
        fd: RawFd,
        registry: &Registry,
    ) -> io::Result<&mut Socket> {
        let slot = id.slot as usize;
        if self.0.len() <= slot {
            self.0.resize_with(slot + 1, || None);
        }
        let place = &mut self.0[slot];
        if place.as_ref().is_none_or(|socket| socket.generation != id.generation) {
            // What can be read already is told at the next look.
            watch(registry, fd, Operation::Receive(id))?;
            *place = None;
        }
        Ok(place.get_or_insert(Socket {
            generation: id.generation,
            fd,
            tells_room: false,
            may_read: false,
            has_ended: false,
            is_in_line: false,
            receive: None,
            send: None,
        }))
    }

    /// The same. Epoll also tells when there is room to send: at once, if there is some meanwhile.
    pub(super) fn await_room(
        &mut self,
        id: ConnectionId,
        fd: RawFd,
        registry: &Registry,
    ) -> io::Result<&mut Socket> {
        let socket = self.watched(id, fd, registry)?;
        if !socket.tells_room {
            let both = Interest::READABLE | Interest::WRITABLE;
            registry.reregister(&mut SourceFd(&fd), token(Operation::Receive(id)), both)?;
            socket.tells_room = true;
        }
        Ok(socket)
    }

    /// Forgets a connection, and returns its socket if it is watched.
    pub(super) fn forget(&mut self, id: ConnectionId) -> Option<RawFd> {
        self.get(id)?;
        let socket = self.0[id.slot as usize].take()?;
        Some(socket.fd)
    }
}

impl Socket {
    /// A receive of at most `asked` bytes was tried. One that brought fewer has emptied the socket:
    /// epoll tells when more comes. It has told of the end once, and does not do so again.
    pub(super) fn note_received(&mut self, received: &io::Result<usize>, asked: usize) {
        let is_short = received.as_ref().is_ok_and(|bytes| *bytes < asked);
        if is_not_ready(received) || is_short && !self.has_ended {
            self.may_read = false;
        }
    }
}
