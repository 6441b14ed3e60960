//! The connections of one thread: opened, read, kept alive, and closed.

use ringmq::{base::time::Moment, mqtt::QoS};

use super::Worker;
use crate::{
    account::stream::Arrival,
    clients::{
        connection::{Connection, Rest, Role, Stage},
        fault::Fault,
        publisher::Publisher,
        subscriber::Subscriber,
    },
    machine::{clock, network::Readiness},
    request::plan::Plan,
    run::{control::Notice, opening::DueClient, slow_readers::SLOW_READS_PER_SECOND},
};

impl Worker {
    pub(super) fn open_connections(&mut self) -> Result<(), Fault> {
        while let Some(due) = self.opening.take_due(clock::now()) {
            self.open(due)?;
        }
        if self.opening.is_over() {
            self.notify(Notice::Ready);
        }
        Ok(())
    }

    fn open(&mut self, DueClient { client, due }: DueClient) -> Result<(), Fault> {
        let index = self.connections.len();
        let connection = Connection::open(&self.plan, client, due, role(&self.plan, client))?;
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
    pub(super) fn open_due(&mut self) -> Result<(), Fault> {
        if self.opening.next_moment(clock::now()).is_some() {
            self.open_connections()
        } else {
            Ok(())
        }
    }

    /// Closes all connections without DISCONNECT, and opens all.
    pub(super) fn begin_opening(&mut self, start: Moment) {
        self.connections.clear();
        self.unread.clear();
        self.unsent.clear();
        self.opening.begin_again(self.plan.opening_schedule(start));
        self.counts_opening = true;
        if self.opening.is_over() {
            self.notify(Notice::Ready);
        }
    }

    fn end_opening(&mut self) -> Result<(), Fault> {
        self.opening.end_one();
        self.link.shared.note_progress();
        self.open_connections()
    }

    pub(super) fn read_rest(&mut self) -> Result<(), Fault> {
        for _ in 0..self.unread.len() {
            if let Some(index) = self.unread.pop_front() {
                self.receive(index, false)?;
            }
        }
        Ok(())
    }

    pub(super) fn handle_readiness(&mut self, readiness: Readiness) -> Result<(), Fault> {
        let index = usize::try_from(readiness.token).expect("tokens are indices");
        // The connection was closed in this turn.
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
        if connection.reads_slowly() {
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
        self.note_keep_alive(index);
        if self.counts_opening {
            let due = self.connections[index].due;
            self.tally.record(Arrival::InOrder, QoS::AtMostOnce, due, clock::now());
        }
        self.end_opening()
    }

    /// The broker may ask for a shorter Keep Alive than the client has.
    fn note_keep_alive(&mut self, index: usize) {
        let Some(interval) = self.connections[index].ping_interval() else { return };
        if self.ping_interval.is_none_or(|shortest| interval < shortest) {
            self.ping_interval = Some(interval);
            self.next_ping = clock::now() + interval;
        }
    }

    /// Sends a PINGREQ from each client, when it is time.
    pub(super) fn ping(&mut self) {
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
    pub(super) fn read_slow_readers(&mut self) -> Result<(), Fault> {
        if !self.slow.is_due(clock::now()) {
            return Ok(());
        }
        for place in 0..self.slow.indices().len() {
            let index = self.slow.indices()[place];
            let connection = &mut self.connections[index];
            if !connection.reads_slowly() {
                continue;
            }
            let buffer = &mut self.buffer;
            match connection.read_a_little(
                SLOW_READS_PER_SECOND,
                buffer,
                &self.plan,
                &mut self.tally,
            ) {
                Ok(()) => self.list_unsent(index),
                Err(fault) => self.close(index, fault)?,
            }
        }
        Ok(())
    }

    /// Goes on without a connection. Before the run has begun this is a failure.
    pub(super) fn close(&mut self, index: usize, fault: Fault) -> Result<(), Fault> {
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
            publishing.give_up(publisher);
        }
        if before == Stage::Ready { Ok(()) } else { self.end_opening() }
    }

    /// Closes the connection of a client that is not needed any more.
    pub(super) fn leave(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if connection.stage != Stage::Closed {
            connection.send_disconnect(&self.plan);
            connection.stage = Stage::Closed;
            // A socket that is gone already need not be removed.
            let _ = self.poll.remove(&connection.socket);
        }
    }
}

/// What the client with this index in the whole run does.
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
