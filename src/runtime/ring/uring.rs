//! Operations by `io_uring`: they go into a ring, and completions come out.
//!
//! All operations that touch memory begin in this file, so that it can say for each of them what
//! keeps the memory alive.
#![expect(unsafe_code, reason = "the kernel uses memory that the compiler does not know it uses")]

use std::{
    io,
    net::{TcpListener, TcpStream},
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    ptr,
};

use io_uring::{
    IoUring, Probe, cqueue, opcode,
    squeue::{Entry, Flags},
    types::{Fd, SubmitArgs, TimeoutFlags, Timespec},
};

use super::{
    Completion, Outcome,
    buffers::BufferId,
    operation::Operation,
    provided::{GROUP, Provided},
    reassembly::ReassemblyBuffer,
};
use crate::{
    base::{
        ids::ConnectionId,
        time::{Moment, Span},
    },
    runtime::{fault::Fault, outbox::Outbox},
};

/// The ring of one shard. It is made, used and dropped on the shard's own thread.
pub(in crate::runtime) struct Uring {
    pub(super) ring: IoUring,
    /// Completions that were taken out of the ring early, to make room for submissions.
    backlog: Vec<Completion>,
    /// Where the bell's bytes are read to; the kernel writes here.
    rings_heard: Box<[u8; RINGS_HEARD_MAX as usize]>,
    /// When the latest alarm goes off. The kernel reads it when the alarm is submitted.
    alarm: Box<Timespec>,
}

impl Uring {
    /// A ring with room for `entries` submissions at a time.
    pub(super) fn new(entries: u32) -> Result<Uring, Fault> {
        let ring = build(entries).map_err(|error| fault_of_ring(&error))?;
        check_operations(&ring)?;
        Ok(Uring {
            ring,
            backlog: Vec::new(),
            rings_heard: Box::new([0; RINGS_HEARD_MAX as usize]),
            alarm: Box::new(Timespec::new()),
        })
    }

    /// Memory for this ring to receive into.
    pub(super) fn lend_buffers(&self, count: u16, size: u32) -> Result<Provided, Fault> {
        Provided::lend(&self.ring, count, size).map_err(|error| fault_of_buffers(&error))
    }

    /// How other shards' rings reach this one.
    pub(super) fn address(&self) -> io::Result<OwnedFd> {
        // SAFETY: the ring keeps its descriptor open for as long as it is borrowed here.
        let descriptor = unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) };
        descriptor.try_clone_to_owned()
    }

    /// Accepts connections until it completes without `more`.
    pub(super) fn accept(&mut self, listener: u16, socket: &TcpListener) {
        let accept = opcode::AcceptMulti::new(Fd(socket.as_raw_fd())).flags(libc::SOCK_CLOEXEC);
        // SAFETY: uses no memory of ours.
        unsafe { self.push(&accept.build(), Operation::Accept(listener)) };
    }

    /// Receives once, into a provided buffer.
    pub(super) fn receive_once(&mut self, connection: ConnectionId, socket: &TcpStream) {
        let receive = opcode::Recv::new(Fd(socket.as_raw_fd()), ptr::null_mut(), 0)
            .buf_group(GROUP)
            .build()
            .flags(Flags::BUFFER_SELECT);
        // SAFETY: writes to provided buffers only, which outlive every receive.
        unsafe { self.push(&receive, Operation::Receive(connection)) };
    }

    /// Receives into provided buffers until it completes without `more`.
    pub(super) fn receive_many(&mut self, connection: ConnectionId, socket: &TcpStream) {
        let receive = opcode::RecvMulti::new(Fd(socket.as_raw_fd()), GROUP);
        // SAFETY: writes to provided buffers only, which outlive every receive.
        unsafe { self.push(&receive.build(), Operation::Receive(connection)) };
    }

    /// Receives the rest of one packet, once. The reassembly buffer does not move its memory until
    /// [`ReassemblyBuffer::complete`] is called.
    pub(super) fn receive_rest(
        &mut self,
        connection: ConnectionId,
        socket: &TcpStream,
        reassembly: &mut ReassemblyBuffer,
    ) {
        let (room, length) = reassembly.begin();
        let length = u32::try_from(length).expect("a packet has an upper limit");
        let receive = opcode::Recv::new(Fd(socket.as_raw_fd()), room, length).build();
        // SAFETY: a reassembly in flight frees and moves nothing, and leaks when it is dropped.
        unsafe { self.push(&receive, Operation::Receive(connection)) };
    }

    /// Cancels an operation. The operation still completes: with an error, unless it ended first.
    pub(super) fn cancel(&mut self, operation: Operation) {
        let cancel = opcode::AsyncCancel::new(operation.encode()).build();
        // SAFETY: uses no memory of ours.
        unsafe { self.push(&cancel.flags(Flags::SKIP_SUCCESS), Operation::Cancel) };
    }

    /// Sends the bytes at the front of the outbox. The outbox does not move them until
    /// [`Outbox::complete`] is called.
    pub(super) fn send(
        &mut self,
        connection: ConnectionId,
        socket: &TcpStream,
        outbox: &mut Outbox,
    ) {
        let fd = Fd(socket.as_raw_fd());
        let vector = outbox.begin();
        let entry = if let [only] = vector.parts() {
            let length = u32::try_from(only.iov_len).expect("a send has an upper limit");
            let send = opcode::Send::new(fd, only.iov_base.cast_const().cast(), length);
            send.flags(libc::MSG_NOSIGNAL).build()
        } else {
            let send = opcode::SendMsg::new(fd, vector.header());
            send.flags(libc::MSG_NOSIGNAL.cast_unsigned()).build()
        };
        // SAFETY: an outbox in flight frees and moves nothing, and leaks when it is dropped.
        unsafe { self.push(&entry, Operation::Send(connection)) };
    }

    /// Completes [`Operation::Bell`] when another thread rings `bell`.
    pub(super) fn watch_bell(&mut self, bell: &UnixStream) {
        let target = self.rings_heard.as_mut_ptr();
        let read = opcode::Read::new(Fd(bell.as_raw_fd()), target, RINGS_HEARD_MAX).build();
        // SAFETY: the bytes have an allocation of their own, and a shard waits for this read to end
        // before it drops its ring.
        unsafe { self.push(&read, Operation::Bell) };
    }

    /// Completes [`Operation::Wake`] in another shard's ring.
    pub(super) fn wake_peer(&mut self, address: &OwnedFd) {
        let data = Operation::Wake.encode();
        let wake_peer = opcode::MsgRingData::new(Fd(address.as_raw_fd()), 0, data, None).build();
        // SAFETY: uses no memory of ours.
        unsafe { self.push(&wake_peer.flags(Flags::SKIP_SUCCESS), Operation::Wake) };
    }

    /// Completes [`Operation::Alarm`] at `moment`.
    pub(super) fn set_alarm(&mut self, moment: Moment) {
        *self.alarm = timespec(moment.as_nanos());
        let at: *const Timespec = &raw const *self.alarm;
        let alarm = opcode::Timeout::new(at).flags(TimeoutFlags::ABS).build();
        // SAFETY: the time has an allocation of its own, and does not change before the kernel has
        // read it: the submission follows at once.
        unsafe { self.push(&alarm, Operation::Alarm) };
        self.submit();
    }

    /// Submits pending operations and collects completions, without waiting. Does not enter the
    /// kernel if there are neither.
    pub(super) fn turn_over(&mut self) {
        if self.has_news_in_kernel() || !self.ring.submission().is_empty() {
            self.submit();
        }
    }

    /// Submits pending operations and waits for a completion, for at most `patience`.
    pub(super) fn wait(&mut self, patience: Span) {
        let patience = timespec(patience.as_nanos());
        let args = SubmitArgs::new().timespec(&patience);
        match self.ring.submitter().submit_with_args(1, &args) {
            Ok(_) => {}
            Err(error) => check_enter_error(&error),
        }
    }

    /// Whether there is anything to [`Uring::reap`], or to submit.
    pub(super) fn has_news(&mut self) -> bool {
        self.has_completions() || self.has_news_in_kernel() || !self.ring.submission().is_empty()
    }

    /// Whether there is anything to [`Uring::reap`] without entering the kernel.
    pub(super) fn has_completions(&mut self) -> bool {
        !self.backlog.is_empty() || !self.ring.completion().is_empty()
    }

    /// Moves all completions into `completions`, oldest first.
    pub(super) fn reap(&mut self, completions: &mut Vec<Completion>) {
        completions.append(&mut self.backlog);
        completions.extend(self.ring.completion().map(|entry| decode(&entry)));
    }

    /// Switches on or off that completions are signalled to the event counter of
    /// [`Sleeper`](super::sleeper::Sleeper).
    pub(super) fn signal(&mut self, on: bool) {
        let completion = self.ring.completion();
        if on { completion.enable_eventfd() } else { completion.disable_eventfd() }
    }

    /// Whether the kernel has completions that it delivers only when it is entered.
    fn has_news_in_kernel(&mut self) -> bool {
        let submission = self.ring.submission();
        submission.taskrun() || submission.cq_overflow()
    }

    fn submit(&mut self) {
        match self.ring.submit() {
            Ok(_) => {}
            Err(error) => check_enter_error(&error),
        }
    }

    /// Puts an operation into the ring, making room first when it is full.
    ///
    /// # Safety
    ///
    /// The memory that the operation uses stays valid until it has completed.
    unsafe fn push(&mut self, entry: &Entry, operation: Operation) {
        let entry = entry.clone().user_data(operation.encode());
        while self.ring.submission().is_full() {
            self.submit();
            self.backlog.extend(self.ring.completion().map(|entry| decode(&entry)));
        }
        let mut submission = self.ring.submission();
        // SAFETY: the caller keeps the memory valid.
        let pushed = unsafe { submission.push(&entry) };
        pushed.expect("room was made for one more");
    }
}

fn decode(entry: &cqueue::Entry) -> Completion {
    let operation = Operation::decode(entry.user_data());
    Completion {
        operation,
        outcome: outcome(operation, entry.result()),
        buffer: cqueue::buffer_select(entry.flags()).map(BufferId),
        more: cqueue::more(entry.flags()),
    }
}

/// The result is what the system call of that name would return; an error number is negative.
fn outcome(operation: Operation, result: i32) -> Outcome {
    match (operation, usize::try_from(result)) {
        (Operation::Accept(_), Ok(_)) => {
            // SAFETY: the kernel has just made this descriptor, and reports it once.
            Outcome::Accepted(unsafe { TcpStream::from_raw_fd(result) })
        }
        (_, Ok(bytes)) => Outcome::Done(bytes),
        (_, Err(_)) if PASSING.contains(&-result) => Outcome::Passing,
        (_, Err(_)) => Outcome::Failed(io::Error::from_raw_os_error(-result)),
    }
}

/// Why a ring could not be made.
fn fault_of_ring(error: &io::Error) -> Fault {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => Fault::NoRing,
        Some(libc::EPERM | libc::EACCES) => Fault::RingForbidden(again(error)),
        Some(libc::EINVAL) => Fault::KernelTooOld,
        _ => Fault::Ring(again(error)),
    }
}

/// Why the provided buffers could not be registered.
fn fault_of_buffers(error: &io::Error) -> Fault {
    match error.raw_os_error() {
        Some(libc::EINVAL) => Fault::KernelTooOld,
        _ => Fault::Buffers(again(error)),
    }
}

/// Copies an error of the system: it is only a number.
fn again(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

/// Checks that entering the ring failed for a temporary reason only: a signal, the timeout, or
/// completions that have to be reaped first. Any other error is a defect of this broker.
fn check_enter_error(error: &io::Error) {
    let passing = [libc::EINTR, libc::ETIME, libc::EBUSY, libc::EAGAIN];
    let number = error.raw_os_error().unwrap_or(0);
    assert!(passing.contains(&number), "the ring refuses to be entered: {error}");
}

/// Makes a ring whose kernel work runs only when the ring is entered, if the kernel supports that.
fn build(entries: u32) -> io::Result<IoUring> {
    let deferred = IoUring::builder()
        .setup_cqsize(entries.saturating_mul(COMPLETIONS_PER_SUBMISSION))
        .setup_clamp()
        .setup_submit_all()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .build(entries);
    match deferred {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => IoUring::builder()
            .setup_cqsize(entries.saturating_mul(COMPLETIONS_PER_SUBMISSION))
            .setup_clamp()
            .setup_submit_all()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .build(entries),
        other => other,
    }
}

/// Support for multishot receive cannot be queried. It came in the same version of Linux as the
/// operation that is checked here.
fn check_operations(uring: &IoUring) -> Result<(), Fault> {
    let mut probe = Probe::new();
    uring.submitter().register_probe(&mut probe).map_err(|_| Fault::KernelTooOld)?;
    let parameters = uring.params();
    let features = parameters.is_feature_ext_arg()
        && parameters.is_feature_nodrop()
        && parameters.is_feature_submit_stable();
    if features && probe.is_supported(opcode::SendZc::CODE) {
        Ok(())
    } else {
        Err(Fault::KernelTooOld)
    }
}

fn timespec(nanos: u64) -> Timespec {
    let below_second = u32::try_from(nanos % 1_000_000_000).expect("less than a second");
    Timespec::new().sec(nanos / 1_000_000_000).nsec(below_second)
}

/// Errors of an operation after which the operation is tried again.
const PASSING: [i32; 4] = [libc::EINTR, libc::EAGAIN, libc::ECANCELED, libc::ENOBUFS];
/// How many rings of the bell one read takes.
const RINGS_HEARD_MAX: u32 = 64;
/// One send completes once; one multishot receive may complete many times in one turn.
const COMPLETIONS_PER_SUBMISSION: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_that_cannot_be_made_says_what_to_do() {
        let told = |number| fault_of_ring(&io::Error::from_raw_os_error(number)).to_string();
        assert!(told(libc::ENOSYS).contains("Linux 6.0"));
        assert!(told(libc::EPERM).contains("kernel.io_uring_disabled"));
        assert!(told(libc::EINVAL).contains("Linux 6.0"));
        assert!(told(libc::ENOMEM).contains("memory"));
    }

    #[test]
    fn results_are_told_apart_without_their_numbers() {
        let receive = Operation::Receive(ConnectionId { slot: 0, generation: 0 });
        assert_eq!(outcome(receive, 7).bytes(), 7);
        assert!(matches!(outcome(receive, 0), Outcome::Done(0)));
        assert!(matches!(outcome(receive, -libc::ENOBUFS), Outcome::Passing));
        assert!(matches!(outcome(receive, -libc::ECONNRESET), Outcome::Failed(_)));
    }
}
