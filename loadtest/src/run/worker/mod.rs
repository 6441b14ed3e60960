//! One thread and its share of the connections.
//!
//! A **turn**: wait for sockets, read and handle what has come, add to the shared counters, let
//! publishers publish what they may, and send: one write per connection.

mod connecting;
mod sending;

use std::{collections::VecDeque, sync::Arc};

use ringmq::base::time::{Moment, Span};

use super::{
    control::{Command, Link, Notice},
    opening::Opening,
    publishing::Publishing,
    slow_readers::SlowReaders,
};
use crate::{
    account::tally::Tally,
    clients::{
        connection::{Connection, Role, Stage},
        fault::Fault,
        removal::remove_sessions,
        subscriber::Subscriber,
    },
    machine::{clock, network::Poll},
    payload::Phase,
    request::{pacing::Pacing, plan::Plan, workload::Act},
};

#[derive(Debug)]
pub struct Worker {
    plan: Arc<Plan>,
    link: Link,
    poll: Poll,
    /// Where all sockets are read into.
    buffer: Vec<u8>,
    /// Publishers first.
    connections: Vec<Connection>,
    publishers: usize,
    opening: Opening,
    /// Connections are counted, not messages.
    counts_opening: bool,
    slow: SlowReaders,
    /// How often all clients ping, which follows from the shortest Keep Alive.
    ping_interval: Option<Span>,
    next_ping: Moment,
    /// Connections with perhaps more to read.
    unread: VecDeque<usize>,
    /// Publishers that may have something to send.
    eager: Vec<usize>,
    /// Connections with something to send.
    unsent: Vec<usize>,
    publishing: Option<Publishing>,
    tally: Tally,
    /// The tally of the measured phase, once another phase has begun.
    measured: Option<Tally>,
    /// Messages sent, and deliveries, that have been added to the shared counters.
    shared_sent: u64,
    shared_delivered: u64,
    quit: bool,
}

impl Worker {
    pub fn new(plan: Arc<Plan>, link: Link) -> Result<Worker, Fault> {
        let poll = Poll::new()?;
        poll.add(link.shared.doorbell(link.thread).fd(), DOORBELL)?;
        let mut opening = Opening::new(&plan, link.thread);
        if plan.workload.act == Act::Connect {
            opening.skip();
        }
        let publishers = plan.workload.publishers.len();
        Ok(Worker {
            poll,
            buffer: vec![0; READ_BYTES.max(plan.filling.bytes().len() + PACKET_HEAD_BYTES_MAX)],
            connections: Vec::with_capacity(opening.clients().len()),
            publishers: (0..publishers).skip(link.thread).step_by(plan.threads).count(),
            opening,
            counts_opening: false,
            slow: SlowReaders::default(),
            ping_interval: None,
            next_ping: Moment::default(),
            unread: VecDeque::new(),
            eager: Vec::new(),
            unsent: Vec::new(),
            publishing: None,
            tally: Tally::default(),
            measured: None,
            shared_sent: 0,
            shared_delivered: 0,
            quit: false,
            plan,
            link,
        })
    }

    /// Works until told to quit, and hands over what was counted in the measured phase.
    pub fn run(mut self) -> Result<Tally, Fault> {
        self.open_connections()?;
        while !self.quit {
            self.turn()?;
        }
        let mut tally = self.measured.take().unwrap_or_else(|| self.take_tally());
        self.disconnect(&mut tally)?;
        Ok(tally)
    }

    /// Disconnects all clients, and removes their sessions.
    fn disconnect(&mut self, tally: &mut Tally) -> Result<(), Fault> {
        for connection in &mut self.connections {
            connection.send_disconnect(&self.plan);
        }
        let lasting = self.lasting_sessions();
        self.connections.clear();
        match remove_sessions(&self.plan, &lasting)? {
            0 => {}
            left => tally.note(&Fault::SessionsLeft(left)),
        }
        Ok(())
    }

    /// The clients whose sessions have not ended with their connections: all of versions before
    /// 5.0, and of 5.0 those whose connections ended before this.
    fn lasting_sessions(&self) -> Vec<usize> {
        let Plan { version, terms, .. } = *self.plan;
        let lasts = |connection: &Connection| {
            terms.persistent && (!version.has_properties() || connection.stage == Stage::Closed)
        };
        let clients = self.opening.clients().iter().zip(&self.connections);
        clients.filter(|(_, connection)| lasts(connection)).map(|(client, _)| *client).collect()
    }

    fn take_tally(&mut self) -> Tally {
        let shares = self.subscribers().map(Subscriber::share).collect();
        Tally { shares, ..std::mem::take(&mut self.tally) }
    }

    /// The subscribers that should receive everything: all but slow readers.
    fn subscribers(&self) -> impl Iterator<Item = &Subscriber> {
        self.connections.iter().filter_map(|connection| match &connection.role {
            Role::Subscriber(subscriber) => subscriber.allowance().is_none().then_some(subscriber),
            Role::Publisher(_) => None,
        })
    }

    fn turn(&mut self) -> Result<(), Fault> {
        let patience = self.patience();
        self.poll.wait(patience)?;
        self.read_rest()?;
        for index in 0..self.poll.count() {
            let readiness = self.poll.readiness(index);
            if readiness.token == DOORBELL {
                self.handle_commands();
            } else {
                self.handle_readiness(readiness)?;
            }
        }
        self.read_slow_readers()?;
        self.ping();
        self.open_due()?;
        self.share_delivered();
        self.publish();
        self.flush()?;
        self.share_sent();
        self.report_published();
        Ok(())
    }

    /// How long the thread may wait for sockets until something else is due.
    fn patience(&self) -> Option<Span> {
        if !self.unread.is_empty() || !self.eager.is_empty() {
            return Some(Span::ZERO);
        }
        let now = clock::now();
        let due = self
            .publishing
            .as_ref()
            .and_then(|publishing| publishing.next_moment(&self.connections[..self.publishers]));
        let ping = self.ping_interval.map(|_| self.next_ping);
        let moments = [due, self.opening.next_moment(now), self.slow.next_moment(), ping];
        moments.into_iter().flatten().min().map(|next| next.since(now))
    }

    fn handle_commands(&mut self) {
        self.link.shared.doorbell(self.link.thread).silence();
        while let Ok(command) = self.link.commands.try_recv() {
            match command {
                Command::Prepare(phase) => self.prepare(phase),
                Command::Publish(start) => self.begin_publishing(start),
                Command::Subscribe(start) => self.subscribe_all(start),
                Command::Open(start) => self.begin_opening(start),
                Command::ReportLatencies => self.report_latencies(),
                Command::Stop => self.stop(),
                Command::Quit => self.quit = true,
            }
        }
    }

    fn prepare(&mut self, phase: Phase) {
        if self.tally.phase == Phase::Measured {
            self.measured = Some(self.take_tally());
        }
        self.publishing = None;
        (self.shared_sent, self.shared_delivered) = (0, 0);
        self.tally.reset(phase);
        for index in 0..self.connections.len() {
            match &mut self.connections[index].role {
                Role::Publisher(publisher) => publisher.reset(),
                Role::Subscriber(_) if phase == Phase::CleanUp => self.leave(index),
                Role::Subscriber(subscriber) => subscriber.reset(),
            }
        }
        self.notify(Notice::Prepared);
    }

    fn stop(&mut self) {
        if let Some(publishing) = &mut self.publishing {
            publishing.stop_waiting();
        }
    }

    /// Adds the deliveries of this turn to the shared counters.
    fn share_delivered(&mut self) {
        let news = self.tally.delivered - self.shared_delivered;
        if news > 0 {
            self.shared_delivered = self.tally.delivered;
            self.link.shared.note_progress();
            if self.link.shared.add_delivered(news) {
                self.notify(Notice::AllDelivered);
            }
        }
        if matches!(self.plan.pacing, Pacing::Rounds { .. }) {
            self.share_round(news > 0);
        }
    }

    fn share_sent(&mut self) {
        let sent = self.tally.sent.total();
        if sent > self.shared_sent {
            self.link.shared.add_sent(sent - self.shared_sent);
            self.shared_sent = sent;
        }
    }

    fn share_round(&mut self, has_news: bool) {
        let Some(publishing) = &mut self.publishing else { return };
        if has_news && self.link.shared.advance_round(&self.plan, self.tally.phase) {
            (0..self.plan.threads)
                .filter(|thread| *thread != self.link.thread)
                .for_each(|thread| self.link.shared.doorbell(thread).ring());
        }
        if publishing.enter_round(self.link.shared.round()) {
            self.list_all_eager();
        }
    }

    fn report_published(&mut self) {
        let Some(publishing) = &mut self.publishing else { return };
        if publishing.finish(&self.tally) {
            self.notify(Notice::Published { sent: self.tally.sent.total() });
        }
    }

    fn report_latencies(&mut self) {
        let latency = self.tally.take_latency();
        self.notify(Notice::Latencies(latency));
    }

    /// Nobody listens only when the run has failed already.
    fn notify(&self, notice: Notice) {
        let _ = self.link.notices.send(notice);
    }
}

/// The token of the doorbell; those of connections are their indices.
const DOORBELL: u64 = u64::MAX;

const READ_BYTES: usize = 64 * 1024;

/// What a PUBLISH may have before its payload: more than the longest topic of ours, with
/// properties to spare.
const PACKET_HEAD_BYTES_MAX: usize = 64 * 1024;
