//! One turn of a shard: everything that has come is told to the brain, and what the brain wants is
//! begun.
//!
//! Knows what happens in a turn and in which order; when to take one, and when to sleep, is known
//! to the executor.

use std::{io, mem, net::TcpStream, os::fd::RawFd};

use tracing::warn;

use super::{
    connection::{Census, Connection},
    hands::{Due, Hands, is_passing},
    listen::Listeners,
    mailbox::Parcel,
    ring::{Completion, buffers::Buffers, operation::Operation, system},
    thrift::{self, Thrift},
    verify::Bells,
};
use crate::{
    base::{
        ids::{ConnectionId, ShardId},
        time::{Moment, Span},
    },
    shard::ports::{Brain, Closing, Ports},
};

/// A brain with its hands, and what the hands must not hold while the brain uses them.
pub(super) struct Turner<B> {
    pub(super) brain: B,
    pub(super) hands: Hands,
    pub(super) buffers: Buffers,
    completions: Vec<Completion>,
    due: Vec<Due>,
    pub(super) listeners: Listeners,
    census: Census,
    bells: Bells,
    bell_watched: bool,
    /// When the ring will have a completion whatever comes.
    alarm: Option<Moment>,
    /// When a stop that was begun must have come to its end.
    stopping: Option<Moment>,
    thrift: Thrift,
    /// No more turns are taken.
    ending: bool,
}

impl<B: Brain> Turner<B> {
    pub(super) fn new(
        brain: B,
        hands: Hands,
        buffers: Buffers,
        listeners: Listeners,
        census: Census,
        bells: Bells,
    ) -> Turner<B> {
        Turner {
            brain,
            hands,
            buffers,
            completions: Vec::new(),
            due: Vec::new(),
            listeners,
            census,
            bells,
            bell_watched: false,
            alarm: None,
            stopping: None,
            thrift: Thrift::default(),
            ending: false,
        }
    }

    /// Begins to listen, to clients and to other threads.
    pub(super) fn begin(&mut self) {
        self.hands.now = system::now();
        self.listeners.accept_on_all(&mut self.hands.ring);
        self.watch_bell();
    }

    /// Takes one turn. The ring has been entered before; what the turn begins is submitted when
    /// it is entered next.
    pub(super) fn turn(&mut self, now: Moment) {
        self.hands.now = now;
        self.handle_due();
        self.handle_completions();
        self.handle_mail();
        self.handle_verdicts();
        self.handle_time();
        self.hands.flush();
    }

    /// When the shard wants to be awake, whatever comes.
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        let stop = self.stopping.filter(|until| *until > self.hands.now);
        let wanted =
            [self.brain.next_deadline(), self.hands.next_deadline(), self.listeners.next_retry()];
        let others = [stop, self.gives_up_at(), self.thrift.due()];
        wanted.into_iter().chain(others).flatten().min()
    }

    /// Sees to it that the ring has a completion when the shard wants to be awake.
    pub(super) fn set_alarm(&mut self) {
        let Some(deadline) = self.next_deadline() else { return };
        if self.alarm.is_none_or(|alarm| deadline < alarm || alarm <= self.hands.now) {
            self.alarm = Some(deadline);
            self.hands.ring.set_alarm(deadline);
        }
    }

    /// Whether the next turn has something to do, whatever comes.
    pub(super) fn has_work(&self) -> bool {
        self.hands.has_due() || self.hands.mail.has_unread()
    }

    fn handle_due(&mut self) {
        mem::swap(&mut self.due, &mut self.hands.due);
        let mut due = mem::take(&mut self.due);
        for due in due.drain(..) {
            self.handle_one_due(due);
        }
        self.due = due;
    }

    fn handle_one_due(&mut self, due: Due) {
        let now = self.hands.now;
        match due {
            Due::Feed(id) => self.hands.feed_kept(id, &mut self.brain),
            Due::Drained(id) => {
                if self.hands.get(id).is_some_and(|connection| connection.is_open()) {
                    self.brain.handle_drained(now, id, &mut self.hands);
                }
            }
            Due::Posted(shard) => self.brain.handle_posted(now, shard, &mut self.hands),
        }
    }

    fn handle_completions(&mut self) {
        let mut completions = mem::take(&mut self.completions);
        self.hands.ring.reap(&mut completions);
        if !completions.is_empty() {
            self.thrift.note_activity(self.hands.now);
        }
        for completion in completions.drain(..) {
            self.handle_completion(completion);
        }
        self.completions = completions;
    }

    fn handle_completion(&mut self, completion: Completion) {
        match completion.operation {
            Operation::Receive(id) => self.handle_received(id, completion),
            Operation::Send(id) => {
                self.hands.handle_sent(id, completion.result);
                self.hands.break_off_if_deaf(id, &mut self.brain);
            }
            Operation::Accept(listener) => self.handle_accept(listener, completion),
            Operation::Bell => self.handle_bell(),
            // A peer that sleeps has not been woken.
            Operation::Nudge if completion.result < 0 => self.bells.ring_all(),
            Operation::Alarm | Operation::Nudge | Operation::Cancel => {}
        }
    }

    fn handle_accept(&mut self, listener: u16, completion: Completion) {
        if !completion.more {
            self.listeners.handle_ended(listener);
        }
        if completion.result >= 0 {
            self.handle_accepted(listener, completion.result);
        } else if !is_passing(completion.result) {
            self.hands.tallies.accept_errors += 1;
            let error = io::Error::from_raw_os_error(-completion.result);
            warn!(listener, %error, "cannot accept connections, trying again soon");
            if self.stopping.is_none() {
                self.listeners.retry_later(listener, self.hands.now + ACCEPT_RETRY);
            }
        }
        if self.stopping.is_none() {
            self.listeners.accept_again(listener, &mut self.hands.ring);
        }
    }

    fn handle_accepted(&mut self, listener: u16, fd: RawFd) {
        let Ok(socket) = system::accepted(fd).map(TcpStream::from) else { return };
        let Some(place) = self.census.enter() else {
            self.hands.tallies.connections_refused += 1;
            return;
        };
        if self.stopping.is_some() {
            return;
        }
        let mut connection = Connection::new(socket, listener, place);
        if self.listeners.is_for_websocket(listener) {
            connection.websocket = Some(Box::default());
        }
        let arrival = connection.arrival();
        let id = self.hands.insert(connection);
        self.brain.handle_accepted(self.hands.now, id, arrival, &mut self.hands);
    }

    fn handle_mail(&mut self) {
        for from in self.hands.mail.senders().iter() {
            for _ in 0..PARCELS_PER_TURN {
                let Some(parcel) = self.hands.mail.receive(from) else { break };
                self.handle_parcel(from, parcel);
            }
        }
    }

    fn handle_parcel(&mut self, from: ShardId, parcel: Parcel) {
        let now = self.hands.now;
        match parcel {
            Parcel::Letters(letters) => {
                self.brain.handle_letters(now, from, &letters, &mut self.hands);
                self.hands.mail.recycle(from, letters);
            }
            Parcel::Connection(moved) => {
                let id = self.hands.adopt(*moved);
                let arrival = self.hands.get(id).map(|connection| connection.arrival());
                if let Some(arrival) = arrival {
                    self.brain.handle_accepted(now, id, arrival, &mut self.hands);
                }
                self.hands.feed_kept(id, &mut self.brain);
                if self.stopping.is_some() {
                    self.hands.close(id, Closing::Flush);
                }
            }
        }
    }

    fn handle_bell(&mut self) {
        self.bell_watched = false;
        if !self.ending {
            self.watch_bell();
        }
    }

    fn watch_bell(&mut self) {
        self.bell_watched = true;
        self.hands.ring.watch_bell(self.bells.listen(self.hands.mail.me()));
    }

    fn handle_verdicts(&mut self) {
        while let Some((id, passed)) = self.hands.verdict() {
            if self.hands.get(id).is_some_and(|connection| connection.is_open()) {
                self.brain.handle_verdict(self.hands.now, id, passed, &mut self.hands);
            }
        }
    }

    fn handle_time(&mut self) {
        let now = self.hands.now;
        if self.brain.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.brain.handle_time(now, &mut self.hands);
        }
        self.hands.handle_time();
        self.handle_thrift();
        if self.stopping.is_none() {
            self.listeners.handle_time(now, &mut self.hands.ring);
        }
        if self.stopping.is_some_and(|until| until <= now) {
            self.close_all(Closing::Abort);
        }
    }

    /// Gives back what is not needed any more, now and then.
    fn handle_thrift(&mut self) {
        if let Some(measure) = self.thrift.take(self.hands.now) {
            self.hands.free_idle();
            self.completions.shrink_to(COMPLETIONS_KEPT);
            thrift::collect(measure);
        }
    }

    /// Begins the orderly stop: no new clients, a farewell to the present ones.
    pub(super) fn stop(&mut self, now: Moment, flush_time_max: Span) {
        if self.stopping.is_some() {
            return;
        }
        self.hands.now = now;
        self.hands.stopping = true;
        self.stopping = Some(now + flush_time_max);
        self.listeners.end_all(&mut self.hands.ring);
        self.brain.handle_stop(now, &mut self.hands);
        self.close_all(Closing::Flush);
        self.hands.flush();
    }

    fn close_all(&mut self, closing: Closing) {
        let ids: Vec<ConnectionId> = self.hands.connections.iter().map(|(id, _)| id).collect();
        for id in ids {
            match closing {
                Closing::Flush => self.hands.close(id, closing),
                Closing::Abort => self.hands.kill(id),
            }
        }
    }

    /// When a stop is over even if not all shards have come to their end.
    pub(super) fn gives_up_at(&self) -> Option<Moment> {
        self.stopping.map(|until| until + GRACE)
    }

    /// Whether all connections have been closed after a stop.
    pub(super) fn is_done(&self) -> bool {
        self.stopping.is_some()
            && self.hands.connections.is_empty()
            && !self.hands.mail.is_held_up()
    }

    /// Ends the operations that are not about a connection. True: they have ended, and so nothing
    /// uses the shard's memory any more.
    pub(super) fn end_operations(&mut self) -> bool {
        self.ending = true;
        self.handle_completions();
        if self.bell_watched {
            self.hands.ring.cancel(Operation::Bell);
        }
        !self.bell_watched && self.listeners.have_ended() && self.is_done()
    }
}

/// Parcels of one peer in one turn.
const PARCELS_PER_TURN: usize = 8;
/// What a shard that does not come to its end in time is given before it is left.
pub(super) const GRACE: Span = Span::from_secs(1);
/// Completions that a turn finds room for without asking the allocator, after a quiet time.
const COMPLETIONS_KEPT: usize = 256;
/// How long to wait when the system has no descriptor for another connection.
const ACCEPT_RETRY: Span = Span::from_millis(100);
