//! One turn of a shard: the event loop tells the brain everything that has come, and begins the
//! operations that the brain asks for.
//!
//! Knows what happens in a turn, and in which order. The executor decides when to take a turn and
//! when to sleep.

use std::{collections::VecDeque, mem, net::TcpStream};

use tracing::warn;

use super::{
    ask::Asked,
    bell::Bells,
    connection::{ConnectionCount, ConnectionPermit, SocketConnection},
    driver::Driver,
    due::Due,
    last_words,
    listen::ListeningSockets,
    mailbox::MailboxItem,
    reload::{Renewal, RenewalReceiver},
    ring::{Completion, Outcome, buffers::Buffers, operation::Operation, system},
    stop::{Draining, Stop, StopTimes},
    trim::{self, Trimmer},
    turn::{Phase, TurnSteps},
};
use crate::{
    base::{
        ids::{ConnectionId, ShardId},
        time::{Moment, Span},
    },
    shard::{
        ports::{Arrival, Brain, Closing, Ports},
        store_figures::StoreCondition,
    },
    transport::Transport,
};

/// A brain with its driver, and the state that cannot be part of the driver, because the brain
/// borrows the driver during a call.
pub(super) struct EventLoop<B> {
    pub(super) brain: B,
    pub(super) driver: Driver,
    pub(super) buffers: Buffers,
    /// What the turn is spent on.
    pub(super) steps: TurnSteps,
    completions: Vec<Completion>,
    /// Completions that the last turn had no time for, in order.
    late: VecDeque<Completion>,
    /// The shard whose letters were the latest that a turn had time for.
    latest_sender: ShardId,
    pub(super) listeners: ListeningSockets,
    connection_count: ConnectionCount,
    inbox: Inbox,
    bell_watched: bool,
    opening: Opening,
    /// When the alarm that is set in the ring goes off.
    alarm: Option<Moment>,
    /// A stop has begun, and messages that wait for clients are sent first.
    draining: Option<Draining>,
    /// When the connections are being closed: when that must be over.
    stopping: Option<Moment>,
    trimmer: Trimmer,
    /// No more turns are taken.
    ending: bool,
}

/// How far a shard has come at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    /// The other shards have not applied all that it has told them.
    Begins,
    /// It waits for the others.
    Ready,
    /// It accepts clients.
    Open,
}

/// What other threads than shards send to a shard, except verdicts.
pub(super) struct Inbox {
    pub(super) bells: Bells,
    pub(super) renewals: RenewalReceiver,
}

impl<B: Brain> EventLoop<B> {
    pub(super) fn new(
        brain: B,
        driver: Driver,
        buffers: Buffers,
        listeners: ListeningSockets,
        connection_count: ConnectionCount,
        inbox: Inbox,
    ) -> EventLoop<B> {
        EventLoop {
            brain,
            driver,
            buffers,
            steps: TurnSteps::default(),
            completions: Vec::new(),
            late: VecDeque::new(),
            latest_sender: ShardId::FIRST,
            listeners,
            connection_count,
            inbox,
            bell_watched: false,
            opening: Opening::Begins,
            alarm: None,
            draining: None,
            stopping: None,
            trimmer: Trimmer::default(),
            ending: false,
        }
    }

    /// Begins to hear the bell that other threads ring. The brain begins with what an earlier
    /// process has left.
    pub(super) fn begin(&mut self) {
        self.driver.now = system::now();
        self.watch_bell();
        self.brain.handle_start(self.driver.now, &mut self.driver);
        self.driver.flush();
    }

    /// Begins to accept clients once all shards are ready: whichever shard takes a message then
    /// knows who wants it.
    #[inline]
    pub(super) fn open(&mut self, stop: &Stop) {
        if self.opening != Opening::Open {
            self.open_if_ready(stop);
        }
    }

    #[cold]
    fn open_if_ready(&mut self, stop: &Stop) {
        if self.opening == Opening::Begins && self.brain.is_ready() {
            self.opening = Opening::Ready;
            stop.tell_ready();
        }
        if self.opening == Opening::Ready && stop.are_ready() {
            self.opening = Opening::Open;
            if self.draining.is_none() {
                self.listeners.accept_on_all(&mut self.driver.ring);
            }
        }
    }

    /// Takes one turn. The caller has entered the ring before. Operations that the turn begins are
    /// submitted when the ring is entered next.
    pub(super) fn turn(&mut self, now: Moment) {
        self.driver.now = now;
        self.driver.chunks.now = now;
        self.steps.begin(self.brain.steps());
        self.handle_due();
        self.handle_completions();
        if self.late.is_empty() {
            self.driver.release_followers();
        }
        self.steps.end_phase(Phase::Connections, self.brain.steps());
        self.handle_mail();
        self.steps.end_phase(Phase::Letters, self.brain.steps());
        self.driver.relieve(&mut self.brain);
        self.handle_renewals();
        self.handle_store();
        self.handle_verdicts();
        self.handle_handshakes();
        self.handle_time();
        self.brain.handle_turn(now, &mut self.driver);
        self.steps.end_phase(Phase::Time, self.brain.steps());
        self.driver.flush();
    }

    /// When the shard has to be awake, even if nothing comes.
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        let stop = self.stopping.filter(|until| *until > self.driver.now);
        let wanted =
            [self.brain.next_deadline(), self.driver.next_deadline(), self.listeners.next_retry()];
        let look = self.draining.as_ref().filter(|_| self.stopping.is_none());
        let look = look.map(|draining| draining.next_look);
        let others = [stop, look, self.gives_up_at(), self.trimmer.due()];
        wanted.into_iter().chain(others).flatten().min()
    }

    /// Sets an alarm in the ring for the moment when the shard has to be awake.
    pub(super) fn set_alarm(&mut self) {
        let Some(deadline) = self.next_deadline() else { return };
        if self.alarm.is_none_or(|alarm| deadline < alarm || alarm <= self.driver.now) {
            self.alarm = Some(deadline);
            self.driver.ring.set_alarm(deadline);
        }
    }

    /// Whether the next turn has something to do, even if nothing comes.
    pub(super) fn has_work(&self) -> bool {
        let is_due = |deadline| deadline <= self.driver.now;
        self.driver.has_due()
            || !self.late.is_empty()
            || self.driver.mail.has_unread()
            || self.brain.next_deadline().is_some_and(is_due)
    }

    /// Does what is due, up to [`PHASE_STEPS`]; the rest comes first in the next turn.
    fn handle_due(&mut self) {
        // What becomes due meanwhile is for the next turn.
        let count = self.driver.due.len();
        let until = self.brain.steps() + PHASE_STEPS;
        let mut done = 0;
        while done < count && self.brain.steps() <= until {
            self.handle_one_due(self.driver.due[done]);
            done += 1;
        }
        self.driver.due.drain(..done);
    }

    fn handle_one_due(&mut self, due: Due) {
        let now = self.driver.now;
        match due {
            Due::Feed(id) => {
                let before = self.brain.steps();
                self.driver.feed_kept(id, &mut self.brain);
                self.steps.note(id, self.brain.steps() - before);
            }
            Due::Drained(id) => {
                if self.driver.begin_drained(id) {
                    self.brain.handle_drained(now, id, &mut self.driver);
                }
            }
            Due::Posted(shard) => self.brain.handle_posted(now, shard, &mut self.driver),
        }
    }

    /// Handles what has come, up to [`PHASE_STEPS`]; the rest comes first in the next turn.
    fn handle_completions(&mut self) {
        let mut completions = mem::take(&mut self.completions);
        self.driver.ring.reap(&mut completions, &mut self.buffers);
        if !completions.is_empty() {
            self.trimmer.note_activity(self.driver.now);
        }
        self.driver.reaping = true;
        let mut late = mem::take(&mut self.late);
        let until = self.brain.steps() + PHASE_STEPS;
        while self.brain.steps() <= until
            && let Some(completion) = late.pop_front()
        {
            self.handle_completion(completion);
        }
        for completion in completions.drain(..) {
            if late.is_empty() && self.brain.steps() <= until {
                self.handle_completion(completion);
            } else {
                late.push_back(completion);
            }
        }
        self.driver.reaping = !late.is_empty();
        self.late = late;
        self.completions = completions;
    }

    fn handle_completion(&mut self, completion: Completion) {
        match completion.operation {
            Operation::Receive(id) => {
                let before = self.brain.steps();
                self.handle_received(id, &completion);
                self.steps.note(id, self.brain.steps() - before);
            }
            Operation::Send(id) => {
                self.driver.handle_sent(id, &completion.outcome);
                self.driver.break_off_if_send_failed(id, &mut self.brain);
            }
            Operation::Accept(listener) => self.handle_accept(listener, completion),
            Operation::Bell => self.handle_bell(),
            // A peer that sleeps has not been woken.
            Operation::Wake if !matches!(completion.outcome, Outcome::Done(_)) => {
                self.inbox.bells.ring_all();
            }
            Operation::Alarm | Operation::Wake | Operation::Cancel => {}
        }
    }

    fn handle_accept(&mut self, listener: u16, completion: Completion) {
        if !completion.more {
            self.listeners.handle_ended(listener);
        }
        match completion.outcome {
            Outcome::Accepted(socket) => self.handle_accepted(listener, socket),
            Outcome::Failed(error) => {
                self.driver.counters.accept_errors += 1;
                warn!(listener, %error, "cannot accept connections, trying again soon");
                if self.draining.is_none() {
                    self.listeners.retry_later(listener, self.driver.now + ACCEPT_RETRY);
                }
            }
            Outcome::Done(_) | Outcome::Passing => {}
        }
        if self.draining.is_none() {
            self.listeners.accept_again(listener, &mut self.driver.ring);
        }
    }

    fn handle_accepted(&mut self, listener: u16, socket: TcpStream) {
        let permit = self.connection_count.enter();
        if permit.as_ref().is_none_or(ConnectionPermit::is_surplus) {
            self.note_full();
        }
        let Some(permit) = permit else {
            self.driver.counters.connections_refused += 1;
            return;
        };
        if self.draining.is_some() {
            return;
        }
        let transport = Transport::of(self.listeners.listener(listener));
        let connection = SocketConnection::new(socket, listener, transport, permit);
        let arrival = connection.arrival(self.connection_count.max());
        let id = self.driver.insert(connection);
        self.brain.handle_accepted(self.driver.now, id, arrival, &mut self.driver);
        if self.listeners.listener(listener).is_for_others_than(arrival.peer.ip()) {
            self.driver.refuse_stranger(id, arrival.peer.ip(), &mut self.brain);
        }
    }

    /// Logs that the broker is full, now and then.
    fn note_full(&self) {
        if self.connection_count.tells_full(self.driver.now) {
            let connections_max = self.connection_count.max();
            warn!(
                connections_max,
                "the limit of connections is reached: further ones are refused \
                 (--max-connections, or `ulimit -n` if that allows fewer)"
            );
        }
    }

    /// Handles what other shards have sent, up to [`PHASE_STEPS`]. The shards take turns by items.
    /// The next turn begins with the shard after the one that was handled last.
    fn handle_mail(&mut self) {
        let until = self.brain.steps() + PHASE_STEPS;
        let mut senders = self.driver.mail.senders();
        for _ in 0..ITEMS_PER_TURN {
            for from in senders.iter_after(self.latest_sender) {
                let Some(item) = self.driver.mail.receive(from) else {
                    senders.remove(from);
                    continue;
                };
                last_words::note_letters(from);
                self.handle_mailbox_item(from, item);
                last_words::note_time();
                if self.brain.steps() > until {
                    self.latest_sender = from;
                    return;
                }
            }
            if senders.is_empty() {
                return;
            }
        }
    }

    fn handle_mailbox_item(&mut self, from: ShardId, item: MailboxItem) {
        let now = self.driver.now;
        match item {
            MailboxItem::Letters(mut letters) => {
                let handled = self.brain.handle_letters(now, from, &letters, &mut self.driver);
                if letters.note_handled(handled) {
                    self.driver.mail.recycle(from, letters);
                } else {
                    self.driver.mail.put_back(from, letters);
                }
            }
            MailboxItem::Connection(moved) => {
                // The other shard may have had a renewal first. This shard has been sent it.
                if !self.listeners.has(moved.listener) {
                    self.handle_renewals();
                }
                let id = self.driver.adopt(*moved);
                let arrival = self
                    .driver
                    .get(id)
                    .map(|connection| connection.arrival(self.connection_count.max()));
                if let Some(arrival) = arrival {
                    let arrival = Arrival { handed_over: true, ..arrival };
                    self.brain.handle_accepted(now, id, arrival, &mut self.driver);
                }
                self.driver.feed_kept(id, &mut self.brain);
                if self.stopping.is_some() {
                    self.driver.close(id, Closing::Flush);
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
        self.driver.ring.watch_bell(self.inbox.bells.listen(self.driver.mail.me()));
    }

    fn handle_renewals(&mut self) {
        while let Some(renewal) = self.inbox.renewals.receive() {
            match renewal {
                Renewal::Rules(rules) => {
                    self.brain.handle_rules(self.driver.now, &rules, &mut self.driver);
                    self.listeners.renew(&rules.listeners, &mut self.driver.ring);
                }
                // A broker that stops accepts no more.
                Renewal::Sockets(_) if self.draining.is_some() => {}
                Renewal::Sockets(sockets) => self.listeners.add(sockets, &mut self.driver.ring),
                Renewal::Asked(Asked { question, reply }) => {
                    let now = self.driver.now;
                    reply(self.brain.handle_question(now, &question, &mut self.driver));
                }
            }
        }
    }

    /// After a write that has failed nothing is sent any more: it could be what the store lacks.
    fn handle_store(&mut self) {
        let Some(news) = self.driver.records.take_news() else { return };
        let now = self.driver.now;
        match news.condition {
            Some(StoreCondition::Failed) => return self.close_all(Closing::Abort),
            Some(condition) => {
                let has_room = condition == StoreCondition::Running;
                self.brain.handle_store_room(now, has_room, &mut self.driver);
            }
            None => {}
        }
        if let Some(mark) = news.durable {
            self.brain.handle_durable(now, mark, &mut self.driver);
        }
    }

    fn handle_verdicts(&mut self) {
        while let Some((id, finding)) = self.driver.verdict() {
            self.brain.handle_verdict(self.driver.now, id, finding, &mut self.driver);
        }
    }

    fn handle_time(&mut self) {
        let now = self.driver.now;
        if self.brain.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.brain.handle_time(now, &mut self.driver);
        }
        self.driver.handle_time();
        self.driver.look_at_packets(&mut self.brain);
        self.driver.look_at_readers(&mut self.brain);
        self.trim_memory();
        if self.draining.is_none() {
            self.listeners.handle_time(now, &mut self.driver.ring);
        }
        if self.stopping.is_some_and(|until| until <= now) {
            self.close_all(Closing::Abort);
        }
    }

    /// Gives unused memory back, when the trimmer says that it is time.
    fn trim_memory(&mut self) {
        if let Some(measure) = self.trimmer.take(self.driver.now) {
            self.driver.chunks.free_idle();
            self.completions.shrink_to(COMPLETIONS_KEPT);
            trim::collect(measure);
        }
    }

    /// Goes on with the orderly stop: accepts no new client, has the brain send what waits for its
    /// clients, and then take leave of all of them.
    pub(super) fn stop(&mut self, now: Moment, times: StopTimes, stop: &Stop) {
        if self.stopping.is_some() {
            return;
        }
        self.driver.now = now;
        if self.draining.is_none() {
            self.draining = Some(Draining::new(now, times));
            self.listeners.end_all(&mut self.driver.ring);
            self.brain.handle_drain(now, &mut self.driver);
            self.driver.flush();
        }
        if let Some(over) = self.drain(now, stop) {
            self.driver.stopping = true;
            self.stopping = Some(over.min(now + times.flush_time_max));
            stop.tell_undelivered(self.brain.undelivered());
            self.brain.handle_stop(now, &mut self.driver);
            self.close_all(Closing::Flush);
            self.driver.flush();
        }
    }

    /// When the whole stop must be over, once all shards have sent what waits for their clients or
    /// the time for that is over.
    fn drain(&mut self, now: Moment, stop: &Stop) -> Option<Moment> {
        let draining = self.draining.as_mut().expect("a stop begins with draining");
        if draining.until <= now {
            return Some(draining.over);
        }
        if now < draining.next_look && !stop.is_drained() {
            return None;
        }
        draining.next_look = now + DRAIN_LOOK;
        let mail = &self.driver.mail;
        let drained = !mail.is_held_up() && !mail.has_unread() && self.brain.is_drained();
        if drained && !draining.told {
            draining.told = true;
            stop.tell_drained();
        }
        (drained && stop.is_drained()).then_some(draining.over)
    }

    fn close_all(&mut self, closing: Closing) {
        let ids: Vec<ConnectionId> = self.driver.connections.iter().map(|(id, _)| id).collect();
        for id in ids {
            match closing {
                Closing::Flush => self.driver.close(id, closing),
                Closing::Abort => self.driver.kill(id),
            }
        }
    }

    /// When this shard ends its stop even if other shards have not ended theirs.
    pub(super) fn gives_up_at(&self) -> Option<Moment> {
        self.stopping.map(|until| until + GRACE)
    }

    /// Whether all connections have been closed after a stop.
    pub(super) fn is_done(&self) -> bool {
        self.stopping.is_some()
            && self.driver.connections.is_empty()
            && !self.driver.mail.is_held_up()
    }

    /// Ends the operations that are not about a connection. True: they have ended, so the kernel no
    /// longer uses any memory of the shard.
    pub(super) fn end_operations(&mut self) -> bool {
        self.ending = true;
        self.handle_completions();
        if self.bell_watched {
            self.driver.ring.cancel(Operation::Bell);
        }
        !self.bell_watched && self.listeners.have_ended() && self.is_done()
    }
}

/// Steps after which a turn goes on to what comes after its kept bytes, after what has been
/// received, and after the letters: a few milliseconds each.
const PHASE_STEPS: u64 = 32_768;
/// How often a shard looks whether messages still wait for clients.
const DRAIN_LOOK: Span = Span::from_millis(20);
/// Mailbox items of one peer, or parts of them, that one turn handles.
const ITEMS_PER_TURN: usize = 8;
/// Time that a shard whose stop is overdue has before it is abandoned.
pub(super) const GRACE: Span = Span::from_secs(1);
/// Capacity of the list of completions that is kept when the shard is quiet.
const COMPLETIONS_KEPT: usize = 256;
/// How long to wait when the system has no descriptor for another connection.
const ACCEPT_RETRY: Span = Span::from_millis(100);
