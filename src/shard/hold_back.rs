//! Publishers are held back for the subscribers that their messages crowd, and let go again.

use super::{Shard, letter::Letter, ports::Ports, pressure::Publisher, timers::Timer};
use crate::base::{hash::Set, ids::SubscriberId};

impl Shard {
    /// Makes a publisher wait for all subscribers that its last message crowded.
    pub(super) fn hold_for_crowded(
        &mut self,
        publisher: Option<Publisher>,
        ports: &mut impl Ports,
    ) {
        let crowded = self.buffers.take_crowded();
        if let Some(publisher) = publisher.filter(|_| !self.context.rules.limits.patience.is_zero())
        {
            for subscriber in &crowded {
                self.hold_for(*subscriber, publisher, ports);
            }
        }
        self.buffers.give_back(crowded);
    }

    fn hold_for(&mut self, subscriber: SubscriberId, publisher: Publisher, ports: &mut impl Ports) {
        // Nobody waits for a session whose client is away.
        let Some(session) = self.sessions.get(subscriber) else { return };
        let Some(link) = session.link() else { return };
        // A client that publishes to itself reads its own answers: it must not wait for itself.
        if publisher.shard == self.context.settings.shard && publisher.connection == link.connection
        {
            return;
        }
        let pressed =
            self.pressure.press(subscriber, session.client_id(), publisher, self.context.now);
        if pressed.begins {
            let due = self.context.now + self.context.rules.limits.patience;
            self.context.timers.set(due, Timer::Patience(subscriber));
            ports.notify_drained(link.connection);
        }
        if !pressed.holds {
            return;
        }
        self.context.counters.holds += 1;
        if publisher.shard == self.context.settings.shard {
            self.connections.press(publisher.connection);
        } else {
            let letter = Letter::Press { publisher: publisher.connection };
            ports.letters(publisher.shard).push(letter);
        }
    }

    /// Lets the publishers go on once the subscriber has caught up.
    pub(super) fn ease(&mut self, subscriber: SubscriberId, ports: &mut impl Ports) {
        if !self.pressure.is_pressing(subscriber) {
            return;
        }
        let limits = &self.context.rules.limits;
        let session = self.sessions.of_connected_mut(subscriber);
        let link = session.link().expect("nobody waits for a session whose client is away");
        if ports.outbox_room(link.connection) < limits.outbox_bytes_max / 4 * 3 {
            return ports.notify_drained(link.connection);
        }
        let queue = &mut session.outbound_mut().queue;
        self.context.counters.dropped_expired += queue.expire(self.context.now) as u64;
        if !queue.is_above(25, &limits.queue) {
            let released = self.pressure.ease(subscriber);
            self.release_publishers(released, ports);
        }
    }

    /// Patience may be at its end.
    pub(super) fn look_at_patience(&mut self, subscriber: SubscriberId, ports: &mut impl Ports) {
        self.ease(subscriber, ports);
        let patience = self.context.rules.limits.patience;
        if let Some(released) = self.pressure.lose_patience(subscriber, patience, self.context.now)
        {
            self.context.counters.patience_exhausted += 1;
            self.release_publishers(released, ports);
        }
    }

    /// Publishers that have waited for a subscriber go on.
    pub(super) fn release_publishers(&mut self, released: Set<Publisher>, ports: &mut impl Ports) {
        for publisher in released {
            if publisher.shard == self.context.settings.shard {
                self.connections.ease(publisher.connection, self.context.now, ports);
            } else {
                let letter = Letter::Ease { publisher: publisher.connection };
                ports.letters(publisher.shard).push(letter);
            }
        }
    }
}
