//! Operations by epoll, for machines that forbid `io_uring`.
//!
//! An operation is tried when it is asked for, or when epoll says that its socket is ready. It
//! completes as in a ring: a send at once if the socket has room, a receive or an accept when
//! completions are reaped, so that nothing is read that was not asked for.
//!
//! ```text
//!              ready                     nothing more to read
//!   waiting ----------> in line -- reap -----------------------> waiting (until it is cancelled)
//!                          ^                  | more to read
//!                          +------------------+
//! ```
//! Epoll tells each change of a socket once. What it has told is kept with the socket until the
//! kernel says that there is nothing, so that an operation that is asked for later finds it. The
//! sockets themselves stay blocking: each system call says that it must not wait.
#![expect(unsafe_code, reason = "operations use memory that is not borrowed meanwhile")]

mod calls;
mod socket;
#[cfg(test)]
mod tests;
mod timer;

use std::{
    collections::VecDeque,
    io::{self, ErrorKind},
    mem,
    net::{TcpListener, TcpStream},
    os::{
        fd::{AsRawFd, RawFd},
        unix::net::UnixStream,
    },
    sync::Arc,
    time::Duration,
};

use mio::{Events, Interest, Poll, Registry, Token, Waker, event::Event, unix::SourceFd};

use self::{
    socket::{Receive, Sockets},
    timer::Timer,
};
use super::{
    Completion, Outcome, operation::Operation, pool::Pool, reassembly::ReassemblyBuffer, system,
};
use crate::{
    base::{
        ids::ConnectionId,
        time::{Moment, Span},
    },
    runtime::outbox::Outbox,
};

/// What stands in for the ring of one shard.
pub(in crate::runtime) struct Epoll {
    poll: Poll,
    events: Events,
    waker: Arc<Waker>,
    alarm: Timer,
    /// Ends waits that are shorter than epoll can count.
    nap: Timer,
    sockets: Sockets,
    /// The listeners, by number.
    listeners: Vec<Listener>,
    bell: Bell,
    /// Receives and accepts that are tried next.
    line: VecDeque<Operation>,
    completed: Vec<Completion>,
    /// The latest look at the kernel was left out, because there were completions.
    has_skipped: bool,
}

/// A listener on which connections are accepted, as long as `fd` is there.
#[derive(Default)]
struct Listener {
    fd: Option<RawFd>,
    is_in_line: bool,
}

#[derive(Default)]
struct Bell {
    fd: Option<RawFd>,
    /// Somebody waits for it.
    is_watched: bool,
    /// There may be unread rings.
    is_rung: bool,
}

impl Epoll {
    pub(super) fn new() -> io::Result<Epoll> {
        let poll = Poll::new()?;
        let registry = poll.registry();
        let waker = Arc::new(Waker::new(registry, token(Operation::Wake))?);
        let alarm = Timer::new(registry, token(Operation::Alarm))?;
        // The end of a nap is told by the end of the wait, and completes nothing.
        let nap = Timer::new(registry, token(Operation::Cancel))?;
        Ok(Epoll {
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            waker,
            alarm,
            nap,
            sockets: Sockets::default(),
            listeners: Vec::new(),
            bell: Bell::default(),
            line: VecDeque::new(),
            completed: Vec::new(),
            has_skipped: false,
        })
    }

    pub(super) fn address(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    pub(super) fn accept(&mut self, number: u16, socket: &TcpListener) {
        let fd = socket.as_raw_fd();
        // Accepting has no flag that says that it must not wait.
        let watched = socket
            .set_nonblocking(true)
            .and_then(|()| watch(self.poll.registry(), fd, Operation::Accept(number)));
        if let Err(error) = watched {
            return self.complete(Operation::Accept(number), Outcome::Failed(error));
        }
        let place = usize::from(number);
        if self.listeners.len() <= place {
            self.listeners.resize_with(place + 1, Listener::default);
        }
        self.listeners[place].fd = Some(fd);
    }

    pub(super) fn receive_once(&mut self, connection: ConnectionId, socket: &TcpStream) {
        self.receive(connection, socket, Receive::Once);
    }

    pub(super) fn receive_many(&mut self, connection: ConnectionId, socket: &TcpStream) {
        self.receive(connection, socket, Receive::Many);
    }

    pub(super) fn receive_rest(
        &mut self,
        connection: ConnectionId,
        socket: &TcpStream,
        reassembly: &mut ReassemblyBuffer,
    ) {
        let (room, length) = reassembly.begin();
        self.receive(connection, socket, Receive::Rest { room, length });
    }

    fn receive(&mut self, id: ConnectionId, socket: &TcpStream, receive: Receive) {
        let operation = Operation::Receive(id);
        let fd = socket.as_raw_fd();
        match self.sockets.watched(id, fd, self.poll.registry()) {
            Ok(socket) => {
                socket.receive = Some(receive);
                if socket.may_read && !mem::replace(&mut socket.is_in_line, true) {
                    self.line.push_back(operation);
                }
            }
            Err(error) => self.complete(operation, Outcome::Failed(error)),
        }
    }

    pub(super) fn send(&mut self, id: ConnectionId, socket: &TcpStream, outbox: &mut Outbox) {
        let fd = socket.as_raw_fd();
        let vector = outbox.begin();
        let sent = if let [only] = vector.parts() {
            // SAFETY: the part lies in the outbox, which is borrowed.
            unsafe { calls::send(fd, only) }
        } else {
            // SAFETY: the header and all parts lie in the outbox, which is borrowed.
            unsafe { calls::send_all(fd, vector.header()) }
        };
        let sent = match sent {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                match self.sockets.await_room(id, fd, self.poll.registry()) {
                    Ok(socket) => return socket.send = Some(vector.header()),
                    Err(error) => Err(error),
                }
            }
            sent => sent,
        };
        self.complete(Operation::Send(id), outcome(sent));
    }

    pub(super) fn cancel(&mut self, operation: Operation) {
        let was_pending = match operation {
            Operation::Accept(number) => self.end_accept(number),
            Operation::Receive(id) => {
                self.sockets.get(id).is_some_and(|socket| socket.receive.take().is_some())
            }
            Operation::Bell => mem::take(&mut self.bell.is_watched),
            Operation::Send(_) | Operation::Alarm | Operation::Wake | Operation::Cancel => false,
        };
        if was_pending {
            self.complete(operation, Outcome::Passing);
        }
    }

    /// False: no connections were accepted.
    fn end_accept(&mut self, number: u16) -> bool {
        let listener = self.listeners.get_mut(usize::from(number));
        let Some(fd) = listener.and_then(|listener| listener.fd.take()) else { return false };
        unwatch(self.poll.registry(), fd);
        true
    }

    pub(super) fn forget(&mut self, id: ConnectionId) {
        if let Some(fd) = self.sockets.forget(id) {
            unwatch(self.poll.registry(), fd);
        }
    }

    pub(super) fn watch_bell(&mut self, bell: &UnixStream) {
        let fd = bell.as_raw_fd();
        if self.bell.fd.is_none() {
            watch(self.poll.registry(), fd, Operation::Bell)
                .expect("the system lets a shard watch its bell");
            self.bell.fd = Some(fd);
        }
        self.bell.is_watched = true;
        self.hear_bell();
    }

    /// Takes the rings of the bell, if somebody waits for them.
    fn hear_bell(&mut self) {
        let Some(fd) = self.bell.fd.filter(|_| self.bell.is_watched && self.bell.is_rung) else {
            return;
        };
        let mut rings = [0; RINGS_HEARD_MAX];
        // SAFETY: the room is borrowed, and as long.
        let heard = unsafe { calls::receive(fd, rings.as_mut_ptr(), rings.len()) };
        self.bell.is_rung = heard.as_ref().is_ok_and(|heard| *heard == rings.len());
        if heard.is_ok() {
            self.bell.is_watched = false;
            self.complete(Operation::Bell, outcome(heard));
        }
    }

    pub(super) fn wake_peer(&mut self, waker: &Waker) {
        if let Err(error) = waker.wake() {
            self.complete(Operation::Wake, Outcome::Failed(error));
        }
    }

    pub(super) fn set_alarm(&mut self, moment: Moment) {
        self.alarm.set(moment);
    }

    pub(super) fn turn_over(&mut self) {
        self.look(Span::ZERO);
    }

    pub(super) fn wait(&mut self, patience: Span) {
        self.look(patience);
    }

    pub(super) fn has_completions(&self) -> bool {
        !self.completed.is_empty() || !self.line.is_empty()
    }

    /// Asks the kernel what has become ready. Waits for it only if nothing is there already. After
    /// a turn that has sent something there is, and most of the time nothing else is new: so every
    /// second look is left out while there are completions.
    fn look(&mut self, patience: Span) {
        let has_completions = self.has_completions();
        self.has_skipped = has_completions && !self.has_skipped;
        if self.has_skipped {
            return;
        }
        let patience = if has_completions { Span::ZERO } else { patience };
        if !patience.is_zero() && patience < TICK {
            self.nap.set(system::now() + patience);
        }
        match self.poll.poll(&mut self.events, Some(Duration::from(patience))) {
            Ok(()) => self.take_events(),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Interrupted, "epoll refuses to wait: {error}");
            }
        }
    }

    fn take_events(&mut self) {
        let events = mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            self.take_event(event);
        }
        self.events = events;
    }

    fn take_event(&mut self, event: &Event) {
        let operation = operation(event.token());
        match operation {
            Operation::Receive(id) => self.take_socket_event(id, event),
            Operation::Accept(number) => {
                let listener = self.listeners.get_mut(usize::from(number));
                if let Some(listener) = listener.filter(|listener| listener.fd.is_some())
                    && !mem::replace(&mut listener.is_in_line, true)
                {
                    self.line.push_back(operation);
                }
            }
            Operation::Bell => {
                self.bell.is_rung = true;
                self.hear_bell();
            }
            Operation::Alarm | Operation::Wake => self.complete(operation, Outcome::Done(0)),
            Operation::Send(_) | Operation::Cancel => {}
        }
    }

    /// What was told of a connection that has gone meanwhile is ignored.
    fn take_socket_event(&mut self, id: ConnectionId, event: &Event) {
        let Some(socket) = self.sockets.get(id) else { return };
        let has_ended = event.is_read_closed() || event.is_error();
        socket.has_ended |= has_ended;
        socket.may_read |= event.is_readable() || has_ended;
        if socket.may_read
            && socket.receive.is_some()
            && !mem::replace(&mut socket.is_in_line, true)
        {
            self.line.push_back(Operation::Receive(id));
        }
        let has_room = event.is_writable() || event.is_write_closed() || event.is_error();
        if let Some(header) = socket.send.filter(|_| has_room) {
            // SAFETY: the outbox does not move what is in flight.
            let sent = unsafe { calls::send_all(socket.fd, header) };
            if !is_not_ready(&sent) {
                socket.send = None;
                self.complete(Operation::Send(id), outcome(sent));
            }
        }
    }

    /// Tries what is in line, as long as there are buffers. A socket from which more can be read
    /// comes again after all others.
    pub(super) fn reap(&mut self, completions: &mut Vec<Completion>, pool: &mut Pool) {
        completions.append(&mut self.completed);
        while let Some(operation) = self.line.pop_front() {
            let next = match operation {
                Operation::Receive(id) => self.try_receive(id, completions, pool),
                Operation::Accept(number) => self.try_accept(number, completions),
                _ => Next::Waits,
            };
            match next {
                Next::Waits => {}
                Next::Again => self.line.push_back(operation),
                Next::NoBuffer => return self.line.push_front(operation),
            }
        }
    }

    fn try_receive(
        &mut self,
        id: ConnectionId,
        completions: &mut Vec<Completion>,
        pool: &mut Pool,
    ) -> Next {
        let Some(socket) = self.sockets.get(id) else { return Next::Waits };
        let Some(receive) = socket.receive else {
            socket.is_in_line = false;
            return Next::Waits;
        };
        let (buffer, room, length) = match receive {
            Receive::Rest { room, length } => (None, room, length),
            Receive::Once | Receive::Many => {
                let Some(buffer) = pool.take() else { return Next::NoBuffer };
                let room = pool.whole(buffer);
                (Some(buffer), room.as_mut_ptr(), room.len())
            }
        };
        // SAFETY: the room is in a buffer that was taken, or in a reassembly in flight, which frees
        // and moves nothing. It is as long.
        let received = unsafe { calls::receive(socket.fd, room, length) };
        socket.note_received(&received, length);
        let more = receive == Receive::Many && received.as_ref().is_ok_and(|bytes| *bytes > 0);
        let is_filled = received.as_ref().is_ok_and(|bytes| *bytes > 0);
        if let Some(buffer) = buffer.filter(|_| !is_filled) {
            pool.give_back(buffer);
        }
        socket.is_in_line = more && socket.may_read;
        let next = if socket.is_in_line { Next::Again } else { Next::Waits };
        if is_not_ready(&received) {
            return next;
        }
        if !more {
            socket.receive = None;
        }
        let (operation, buffer) = (Operation::Receive(id), buffer.filter(|_| is_filled));
        completions.push(Completion { operation, outcome: outcome(received), buffer, more });
        next
    }

    fn try_accept(&mut self, number: u16, completions: &mut Vec<Completion>) -> Next {
        let operation = Operation::Accept(number);
        let listener = &mut self.listeners[usize::from(number)];
        listener.is_in_line = false;
        let Some(fd) = listener.fd else { return Next::Waits };
        for _ in 0..ACCEPTS_MAX {
            let (outcome, more) = match calls::accept(fd) {
                Ok(socket) => (Outcome::Accepted(socket), true),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Next::Waits,
                Err(error) => (Outcome::Failed(error), false),
            };
            completions.push(Completion { operation, outcome, buffer: None, more });
            if !more {
                self.end_accept(number);
                return Next::Waits;
            }
        }
        self.listeners[usize::from(number)].is_in_line = true;
        Next::Again
    }

    fn complete(&mut self, operation: Operation, outcome: Outcome) {
        self.completed.push(Completion { operation, outcome, buffer: None, more: false });
    }
}

/// What becomes of an operation that was in line.
enum Next {
    /// It waits until its socket is ready, or has ended.
    Waits,
    Again,
    NoBuffer,
}

fn outcome(result: io::Result<usize>) -> Outcome {
    match result {
        Ok(bytes) => Outcome::Done(bytes),
        Err(error) => Outcome::Failed(error),
    }
}

fn is_not_ready(result: &io::Result<usize>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// Has epoll tell when something can be read from `fd`.
fn watch(registry: &Registry, fd: RawFd, operation: Operation) -> io::Result<()> {
    registry.register(&mut SourceFd(&fd), token(operation), Interest::READABLE)
}

/// Has epoll tell no more of `fd`.
fn unwatch(registry: &Registry, fd: RawFd) {
    // This fails only for a descriptor that epoll does not watch.
    let _ = registry.deregister(&mut SourceFd(&fd));
}

/// What epoll tells is marked with the operation that it is for.
fn token(operation: Operation) -> Token {
    Token(usize::try_from(operation.encode()).expect("a token has 64 bits"))
}

fn operation(Token(token): Token) -> Operation {
    Operation::decode(token as u64)
}

const _: () = assert!(size_of::<usize>() == size_of::<u64>(), "a token has 64 bits");
/// Events that one look takes.
const EVENTS_MAX: usize = 1024;
/// How many rings of the bell one read takes.
const RINGS_HEARD_MAX: usize = 64;
/// Connections that are accepted before other sockets have their turn.
const ACCEPTS_MAX: usize = 64;
/// Epoll counts time in milliseconds.
const TICK: Span = Span::from_millis(1);
