//! Holds publishers back for the subscribers that their messages crowd, and lets them go on again.

use super::{
    super::{
        connections::Connections,
        context::Context,
        notices::Notice,
        patience::{Patience, Terms},
        ports::Ports,
        pressure::{Change, Looked, Publisher, QueueSeen, Seen},
        timers::Timer,
    },
    Deliveries,
};
use crate::{
    base::{hash::Seed, ids::SubscriberId},
    session::{Session, sessions::Sessions},
};

impl Deliveries {
    /// Whether the last message has crowded a subscriber.
    #[inline]
    pub(in crate::shard) fn has_crowded(&self) -> bool {
        self.buffers.has_crowded()
    }

    /// Makes a publisher wait for all subscribers that its last message crowded.
    #[cold]
    #[inline(never)]
    pub(in crate::shard) fn hold_for_crowded(
        &mut self,
        publisher: Option<Publisher>,
        (sessions, connections): (&Sessions, &mut Connections),
        context: &mut Context,
        ports: &mut impl Ports,
    ) {
        let crowded = self.buffers.take_crowded();
        if let Some(publisher) = publisher.filter(|_| !context.rules.limits.patience.is_zero()) {
            for &subscriber in &crowded {
                // The session may have gone meanwhile.
                let Some(session) = sessions.get(subscriber) else { continue };
                self.hold_for((subscriber, session), publisher, connections, context, ports);
            }
        }
        self.buffers.give_back(crowded);
    }

    /// No publisher is held back for what was delivered last.
    pub(in crate::shard) fn forget_crowded(&mut self) {
        let crowded = self.buffers.take_crowded();
        self.buffers.give_back(crowded);
    }

    fn hold_for(
        &mut self,
        (subscriber, session): (SubscriberId, &Session),
        publisher: Publisher,
        connections: &mut Connections,
        context: &mut Context,
        ports: &mut impl Ports,
    ) {
        // No publisher waits for a session without a connection.
        let Some(link) = session.link() else { return };
        // A client that publishes to itself must not wait for itself.
        if publisher.shard == context.settings.shard && publisher.connection == link.connection {
            return;
        }
        if !self.pressure.is_pressing(subscriber) {
            self.begin_press((subscriber, session), context, ports);
            ports.notify_drained(link.connection);
        }
        if let Some(patience) = self.pressure.hold(subscriber, publisher) {
            context.counters.holds += 1;
            connections.hold(publisher, patience, context, ports);
        }
    }

    fn begin_press(
        &mut self,
        (subscriber, session): (SubscriberId, &Session),
        context: &mut Context,
        ports: &mut impl Ports,
    ) {
        let terms = Terms::of(&context.rules.limits);
        let account = account_of(session, context.settings.seed);
        let press = (account, look_at(session, ports));
        let due = self.pressure.begin(subscriber, press, &terms, context.now);
        context.timers.set(due, Timer::Patience(subscriber));
    }

    /// Lets the publishers go on once the subscriber has caught up.
    #[inline]
    pub(in crate::shard) fn ease(
        &mut self,
        subscriber: SubscriberId,
        (sessions, connections): (&mut Sessions, &mut Connections),
        context: &mut Context,
        ports: &mut impl Ports,
    ) {
        if self.pressure.is_pressing(subscriber) {
            let session = sessions.of_connected_mut(subscriber);
            self.ease_pressing((subscriber, session), connections, context, ports);
        }
    }

    fn ease_pressing(
        &mut self,
        (subscriber, session): (SubscriberId, &mut Session),
        connections: &mut Connections,
        context: &mut Context,
        ports: &mut impl Ports,
    ) {
        let limits = &context.rules.limits;
        let link = session.link().expect("nobody waits for a session whose client is away");
        if ports.outbox_room(link.connection) < limits.outbox_bytes_max / 4 * 3 {
            return ports.notify_drained(link.connection);
        }
        let queue = &mut session.outbound_mut().queue;
        context.counters.drop_expired(queue, context.now);
        if queue.has_eased(context.now, &limits.queue) {
            let (terms, seen) = (Terms::of(limits), look_at(session, ports));
            let held = self.pressure.end(subscriber, Some(seen), &terms, context.now);
            connections.release(held, context, ports);
        }
    }

    /// Looks whether a subscriber has caught up, or patience with it is at its end.
    pub(in crate::shard) fn look_at_patience(
        &mut self,
        subscriber: SubscriberId,
        (sessions, connections): (&mut Sessions, &mut Connections),
        context: &mut Context,
        ports: &mut impl Ports,
    ) {
        self.ease(subscriber, (sessions, connections), context, ports);
        if !self.pressure.is_pressing(subscriber) {
            return;
        }
        let session = sessions.of_connected_mut(subscriber);
        let (terms, seen) = (Terms::of(&context.rules.limits), look_at(session, ports));
        let looked = self.pressure.look(subscriber, seen, &terms, context.now);
        let Some(Looked { again, change }) = looked else { return };
        context.timers.set(again, Timer::Patience(subscriber));
        match change {
            Change::Nothing => {}
            Change::Patience(before) => {
                self.change_patience((subscriber, before), connections, context, ports);
            }
            Change::LetGo(held) => connections.release(Some(held), context, ports),
            Change::Over(held) => {
                context.counters.patience_exhausted += 1;
                let principal = session.principal();
                self.buffers.notices_mut().note(Notice::PatienceOver, principal, context.now);
                connections.release(Some(held), context, ports);
            }
        }
    }

    /// Those that wait for a subscriber with this patience go on waiting with another one.
    fn change_patience(
        &self,
        (subscriber, before): (SubscriberId, Patience),
        connections: &mut Connections,
        context: &mut Context,
        ports: &mut impl Ports,
    ) {
        let Some((patience, publishers)) = self.pressure.held(subscriber) else { return };
        for &publisher in publishers {
            connections.hold(publisher, patience, context, ports);
            connections.let_go(publisher, before, context, ports);
        }
    }

    /// The connection of a session has ended, so its publishers go on.
    pub(in crate::shard) fn give_up(
        &mut self,
        subscriber: SubscriberId,
        connections: &mut Connections,
        context: &mut Context,
        ports: &mut impl Ports,
    ) {
        if self.pressure.is_pressing(subscriber) {
            let terms = Terms::of(&context.rules.limits);
            let held = self.pressure.end(subscriber, None, &terms, context.now);
            connections.release(held, context, ports);
        }
    }
}

/// How a connected session takes what it is sent.
fn look_at(session: &Session, ports: &mut impl Ports) -> Seen {
    let queue = &session.outbound().queue;
    let queue = QueueSeen { since: queue.since(), taken: queue.taken(), waiting: queue.len() };
    let outbox = session.link().map(|link| ports.take_backlog(link.connection));
    Seen { outbox: outbox.unwrap_or_default(), queue }
}

/// The account of a session, by its hash.
fn account_of(session: &Session, seed: Seed) -> u64 {
    seed.hash(session.principal().account().name())
}
