//! One thread and its share of the connections.
//!
//! A **turn**: wait for sockets, read and handle what has come, settle the counters, let publishers
//! publish what they may, and send: one write per connection.

use std::{collections::VecDeque, sync::Arc};

use ringmq::{
    base::time::{Moment, Span},
    mqtt::QoS,
};

use crate::{
    account::{stream::Arrival, tally::Tally},
    clients::{
        connection::{Connection, Rest, Role, Stage},
        fault::Fault,
        publisher::Publisher,
        removal::remove_sessions,
        subscriber::Subscriber,
    },
    control::{Command, Link, Report},
    machine::{
        clock,
        network::{Poll, Readiness},
    },
    opening::{Opened, Opening},
    payload::Phase,
    publishing::Publishing,
    request::{pacing::Pacing, plan::Plan, workload::Act},
    slow_readers::{SIPS_PER_SECOND, SlowReaders},
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
    /// What is opened is counted.
    counts_opening: bool,
    slow: SlowReaders,
    /// How often everybody pings: as the shortest Keep Alive wants it.
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
    /// What the measured phase came to, once another has begun.
    measured: Option<Tally>,
    /// Messages sent, and deliveries, that the shared counters know of.
    settled_sent: u64,
    settled: u64,
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
            settled_sent: 0,
            settled: 0,
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

    /// Lets everybody go, and leaves no sessions behind.
    fn disconnect(&mut self, tally: &mut Tally) -> Result<(), Fault> {
        for connection in &mut self.connections {
            connection.say_farewell(&self.plan);
        }
        let lasting = self.lasting_sessions();
        self.connections.clear();
        match remove_sessions(&self.plan, &lasting)? {
            0 => {}
            left => tally.note(&Fault::SessionsLeft(left)),
        }
        Ok(())
    }

    /// The clients whose sessions have not ended with their connections: of versions before 5.0
    /// all, and otherwise those that have not said so themselves.
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

    /// Those to whom everything is owed.
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
                self.obey();
            } else {
                self.handle_readiness(readiness)?;
            }
        }
        self.sip()?;
        self.ping();
        self.open_due()?;
        self.settle();
        self.publish();
        self.flush()?;
        self.settle_sent();
        self.report_published();
        Ok(())
    }

    /// How long there is nothing to do unless something happens.
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

    fn open_connections(&mut self) -> Result<(), Fault> {
        while let Some(opened) = self.opening.take_due(clock::now()) {
            self.open(opened)?;
        }
        if self.opening.is_over() {
            self.report(Report::Ready);
        }
        Ok(())
    }

    fn open(&mut self, opened: Opened) -> Result<(), Fault> {
        let index = self.connections.len();
        let connection = Connection::open(&self.plan, opened, role(&self.plan, opened.client))?;
        self.poll.add(&connection.socket, index as u64)?;
        if connection.role.allowance().is_some() {
            self.slow.add(index);
        }
        self.connections.push(connection);
        if self.counts_opening {
            self.tally.record_opened(clock::now());
        }
        Ok(())
    }

    /// Opens what has become due since the last connection was ready.
    fn open_due(&mut self) -> Result<(), Fault> {
        if self.opening.next_moment(clock::now()).is_some() {
            self.open_connections()
        } else {
            Ok(())
        }
    }

    /// Lets the broker know in time that everybody is still there.
    fn ping(&mut self) {
        let Some(interval) = self.ping_interval else { return };
        let now = clock::now();
        if now < self.next_ping {
            return;
        }
        self.next_ping = now + interval;
        for index in 0..self.connections.len() {
            self.connections[index].ping(&self.plan);
            self.list_unsent(index);
        }
    }

    /// Lets slow readers read a little from time to time.
    fn sip(&mut self) -> Result<(), Fault> {
        if !self.slow.is_due(clock::now()) {
            return Ok(());
        }
        for place in 0..self.slow.indices().len() {
            let index = self.slow.indices()[place];
            let connection = &mut self.connections[index];
            if !connection.is_sipping() {
                continue;
            }
            let buffer = &mut self.buffer;
            match connection.sip(SIPS_PER_SECOND, buffer, &self.plan, &mut self.tally) {
                Ok(()) => self.list_unsent(index),
                Err(fault) => self.close(index, fault)?,
            }
        }
        Ok(())
    }

    fn read_rest(&mut self) -> Result<(), Fault> {
        for _ in 0..self.unread.len() {
            if let Some(index) = self.unread.pop_front() {
                self.receive(index, false)?;
            }
        }
        Ok(())
    }

    fn handle_readiness(&mut self, readiness: Readiness) -> Result<(), Fault> {
        let index = usize::try_from(readiness.token).expect("tokens are indices");
        // Of a connection that was lost in this very turn.
        if index >= self.connections.len() {
            return Ok(());
        }
        if readiness.writable {
            self.connections[index].outbox.unblock();
            self.list_unsent(index);
        }
        if readiness.readable { self.receive(index, readiness.ended) } else { Ok(()) }
    }

    /// Reads once. A connection that has `ended` is read again until its last byte has come.
    fn receive(&mut self, index: usize, ended: bool) -> Result<(), Fault> {
        let connection = &mut self.connections[index];
        let before = connection.stage;
        if before == Stage::Closed {
            return Ok(());
        }
        if connection.is_sipping() {
            return if ended { self.close(index, Fault::Closed) } else { Ok(()) };
        }
        let received = connection.receive(&mut self.buffer, &self.plan, &mut self.tally);
        let ready = before != Stage::Ready && connection.stage == Stage::Ready;
        match received {
            Ok(Rest::Nothing) if !ended => {}
            Ok(_) => self.unread.push_back(index),
            Err(fault) => return self.close(index, fault),
        }
        self.list_unsent(index);
        self.list_eager(index);
        if ready { self.handle_ready(index) } else { Ok(()) }
    }

    fn handle_ready(&mut self, index: usize) -> Result<(), Fault> {
        self.heed_keep_alive(index);
        if self.counts_opening {
            let due = self.connections[index].due;
            self.tally.record(Arrival::InOrder, QoS::AtMostOnce, due, clock::now());
        }
        self.end_opening()
    }

    /// The broker may want to hear of a client more often than the client thought.
    fn heed_keep_alive(&mut self, index: usize) {
        let Some(interval) = self.connections[index].ping_interval() else { return };
        if self.ping_interval.is_none_or(|shortest| interval < shortest) {
            self.ping_interval = Some(interval);
            self.next_ping = clock::now() + interval;
        }
    }

    fn end_opening(&mut self) -> Result<(), Fault> {
        self.opening.end_one();
        self.link.shared.note_progress();
        self.open_connections()
    }

    /// Goes on without a connection; but a run that cannot even begin has failed.
    fn close(&mut self, index: usize, fault: Fault) -> Result<(), Fault> {
        let connection = &mut self.connections[index];
        let before = connection.stage;
        if before != Stage::Ready && !self.counts_opening {
            return Err(fault);
        }
        connection.stage = Stage::Closed;
        self.poll.remove(&connection.socket)?;
        if connection.role.allowance().is_some() {
            self.tally.slow.slow_disconnected += 1;
            return Ok(());
        }
        self.tally.note(&fault);
        self.tally.disconnected += 1;
        if let (Role::Publisher(publisher), Some(publishing)) =
            (&connection.role, &mut self.publishing)
        {
            publishing.forgo(publisher);
        }
        if before == Stage::Ready { Ok(()) } else { self.end_opening() }
    }

    fn list_unsent(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if !connection.listed && connection.stage != Stage::Closed {
            connection.listed = true;
            self.unsent.push(index);
        }
    }

    fn list_eager(&mut self, index: usize) {
        if let Role::Publisher(publisher) = &mut self.connections[index].role
            && self.publishing.is_some()
            && !publisher.listed
        {
            publisher.listed = true;
            self.eager.push(index);
        }
    }

    fn list_all_eager(&mut self) {
        (0..self.publishers).for_each(|index| self.list_eager(index));
    }

    fn obey(&mut self) {
        self.link.shared.doorbell(self.link.thread).silence();
        while let Ok(command) = self.link.commands.try_recv() {
            match command {
                Command::Prepare(phase) => self.prepare(phase),
                Command::Publish(start) => self.begin_publishing(start),
                Command::Subscribe(start) => self.subscribe_all(start),
                Command::Open(start) => self.begin_opening(start),
                Command::Report => self.report_latencies(),
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
        (self.settled_sent, self.settled) = (0, 0);
        self.tally.reset(phase);
        for index in 0..self.connections.len() {
            match &mut self.connections[index].role {
                Role::Publisher(publisher) => publisher.reset(),
                Role::Subscriber(_) if phase == Phase::CleanUp => self.leave(index),
                Role::Subscriber(subscriber) => subscriber.reset(),
            }
        }
        self.report(Report::Prepared);
    }

    /// A client that has seen enough.
    fn leave(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if connection.stage != Stage::Closed {
            connection.say_farewell(&self.plan);
            connection.stage = Stage::Closed;
            // A socket that is gone already need not be removed.
            let _ = self.poll.remove(&connection.socket);
        }
    }

    fn begin_publishing(&mut self, start: Moment) {
        let publishers = &self.connections[..self.publishers];
        self.publishing = Publishing::begin(&self.plan, self.tally.phase, start, publishers);
        self.list_all_eager();
    }

    fn subscribe_all(&mut self, start: Moment) {
        for index in self.publishers..self.connections.len() {
            let connection = &mut self.connections[index];
            if let (Stage::Ready, Role::Subscriber(subscriber)) =
                (connection.stage, &mut connection.role)
            {
                subscriber.count_from(start);
                connection.subscribe(&self.plan);
                self.opening.hold_open();
                self.list_unsent(index);
            }
        }
    }

    /// Loses every connection without a word, and opens them all.
    fn begin_opening(&mut self, start: Moment) {
        self.connections.clear();
        self.unread.clear();
        self.unsent.clear();
        self.opening.begin_again(self.plan.opening_schedule(start));
        self.counts_opening = true;
        if self.opening.is_over() {
            self.report(Report::Ready);
        }
    }

    fn stop(&mut self) {
        if let Some(publishing) = &mut self.publishing {
            publishing.abandon();
        }
    }

    /// Tells the other threads what this turn has brought.
    fn settle(&mut self) {
        let news = self.tally.delivered - self.settled;
        if news > 0 {
            self.settled = self.tally.delivered;
            self.link.shared.note_progress();
            if self.link.shared.add_delivered(news) {
                self.report(Report::AllDelivered);
            }
        }
        if matches!(self.plan.pacing, Pacing::Rounds { .. }) {
            self.settle_round(news > 0);
        }
    }

    fn settle_sent(&mut self) {
        let sent = self.tally.sent.total();
        if sent > self.settled_sent {
            self.link.shared.add_sent(sent - self.settled_sent);
            self.settled_sent = sent;
        }
    }

    fn settle_round(&mut self, has_news: bool) {
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

    fn publish(&mut self) {
        let Some(publishing) = &mut self.publishing else { return };
        let now = clock::now();
        publishing.pass_time(now);
        for index in publishing.take_due(now, &self.connections[..self.publishers]) {
            if let Role::Publisher(publisher) = &mut self.connections[index].role
                && !publisher.listed
            {
                publisher.listed = true;
                self.eager.push(index);
            }
        }
        while let Some(index) = self.eager.pop() {
            self.publish_from(index);
        }
    }

    fn publish_from(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let (Role::Publisher(publisher), Some(publishing)) =
            (&mut connection.role, &mut self.publishing)
        else {
            return;
        };
        publisher.listed = false;
        if connection.stage == Stage::Closed {
            return;
        }
        let occasion = publishing.occasion(clock::now());
        let allowed = publishing.allowed(publisher, &self.plan, occasion.now);
        let sent = publisher.publish(allowed, occasion, &self.plan, &mut connection.outbox);
        if sent == 0 {
            return;
        }
        self.tally.sent[publisher.qos] += u64::from(sent);
        if publisher.qos == QoS::AtMostOnce {
            self.tally.acknowledged[publisher.qos] += u64::from(sent);
        }
        self.tally.last_sent = occasion.now;
        self.list_unsent(index);
    }

    fn flush(&mut self) -> Result<(), Fault> {
        while let Some(index) = self.unsent.pop() {
            let connection = &mut self.connections[index];
            connection.listed = false;
            let flushed = connection.flush(&self.plan);
            let goes_on = connection.outbox.has_room()
                && matches!(&connection.role, Role::Publisher(publisher) if publisher.wants_room());
            match flushed {
                Ok(()) if goes_on => self.list_eager(index),
                Ok(()) => {}
                Err(fault) => self.close(index, fault)?,
            }
        }
        Ok(())
    }

    fn report_published(&mut self) {
        let Some(publishing) = &mut self.publishing else { return };
        if publishing.finish(&self.tally) {
            self.report(Report::Published { sent: self.tally.sent.total() });
        }
    }

    fn report_latencies(&mut self) {
        let latency = self.tally.take_latency();
        self.report(Report::Latencies(latency));
    }

    /// Nobody listens only when the run has failed already.
    fn report(&self, report: Report) {
        let _ = self.link.reports.send(report);
    }
}

/// Who the connection with this index in the whole run is.
fn role(plan: &Plan, index: usize) -> Role {
    let publishers = &plan.workload.publishers;
    if let Some(topics) = publishers.get(index) {
        let number = u32::try_from(index).expect("publishers are numbered in 32 bits");
        Role::Publisher(Publisher::new(number, topics, plan))
    } else {
        let subscription = &plan.workload.subscribers[index - publishers.len()];
        Role::Subscriber(Subscriber::new(subscription))
    }
}

/// The token of the doorbell; those of connections are their indices.
const DOORBELL: u64 = u64::MAX;

const READ_BYTES: usize = 64 * 1024;

/// What a PUBLISH may have before its payload: more than the longest topic of ours, with
/// properties to spare.
const PACKET_HEAD_BYTES_MAX: usize = 64 * 1024;
