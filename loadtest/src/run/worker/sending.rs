//! What the connections of one thread send, and which of them have something to send.

use ringmq::{base::time::Moment, mqtt::QoS};

use super::Worker;
use crate::{
    clients::{
        connection::{Role, Stage},
        fault::Fault,
    },
    machine::clock,
    run::publishing::Publishing,
};

impl Worker {
    pub(super) fn begin_publishing(&mut self, start: Moment) {
        let publishers = &self.connections[..self.publishers];
        self.publishing = Publishing::begin(&self.plan, self.tally.phase, start, publishers);
        self.list_all_eager();
    }

    pub(super) fn subscribe_all(&mut self, start: Moment) {
        for index in self.publishers..self.connections.len() {
            let connection = &mut self.connections[index];
            if let (Stage::Ready, Role::Subscriber(subscriber)) =
                (connection.stage, &mut connection.role)
            {
                subscriber.count_from(start);
                connection.subscribe(&self.plan);
                self.opening.begin_one();
                self.list_unsent(index);
            }
        }
    }

    pub(super) fn publish(&mut self) {
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
        let timing = publishing.timing(clock::now());
        let allowed = publishing.allowed(publisher, &self.plan, timing.now);
        let sent = publisher.publish(allowed, timing, &self.plan, &mut connection.outbox);
        if sent == 0 {
            return;
        }
        self.tally.sent[publisher.qos] += u64::from(sent);
        if publisher.qos == QoS::AtMostOnce {
            self.tally.acknowledged[publisher.qos] += u64::from(sent);
        }
        self.tally.last_sent = timing.now;
        self.list_unsent(index);
    }

    pub(super) fn flush(&mut self) -> Result<(), Fault> {
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

    pub(super) fn list_unsent(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if !connection.listed && connection.stage != Stage::Closed {
            connection.listed = true;
            self.unsent.push(index);
        }
    }

    pub(super) fn list_eager(&mut self, index: usize) {
        if let Role::Publisher(publisher) = &mut self.connections[index].role
            && self.publishing.is_some()
            && !publisher.listed
        {
            publisher.listed = true;
            self.eager.push(index);
        }
    }

    pub(super) fn list_all_eager(&mut self) {
        (0..self.publishers).for_each(|index| self.list_eager(index));
    }
}
