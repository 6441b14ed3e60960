//! Holds publishers back for the subscribers that their messages crowd, and lets them go on again.

use super::{
    super::{
        connections::Connections,
        context::Context,
        ports::Ports,
        pressure::{FIRST_LOOK, Looked, Publisher},
        timers::Timer,
    },
    Deliveries,
};
use crate::{
    base::ids::SubscriberId,
    session::{Session, sessions::Sessions},
};

impl Deliveries {
    /// Makes a publisher wait for all subscribers that its last message crowded.
    #[inline]
    pub(in crate::shard) fn hold_for_crowded(
        &mut self,
        publisher: Option<Publisher>,
        clients: (&Sessions, &mut Connections),
        context: &mut Context,
        ports: &mut impl Ports,
    ) {
        if self.buffers.has_crowded() {
            self.hold_for_each_crowded(publisher, clients, context, ports);
        }
    }

    #[cold]
    #[inline(never)]
    fn hold_for_each_crowded(
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
        let pressed = self.pressure.press(subscriber, session.client_id(), publisher, context.now);
        if pressed.begins {
            let due = context.now + context.rules.limits.patience.min(FIRST_LOOK);
            context.timers.set(due, Timer::Patience(subscriber));
            ports.notify_drained(link.connection);
        }
        if pressed.holds {
            context.counters.holds += 1;
            connections.hold(publisher, context.settings.shard, ports);
        }
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
        let before = queue.len();
        context.counters.dropped_expired += queue.expire(context.now) as u64;
        context.counters.note_queue(before, queue.len());
        if queue.has_eased(context.now, &limits.queue) {
            connections.release(self.pressure.ease(subscriber), context, ports);
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
        let patience = context.rules.limits.patience;
        match self.pressure.look(subscriber, patience, context.now) {
            Looked::Nothing => {}
            Looked::Again(due) => context.timers.set(due, Timer::Patience(subscriber)),
            Looked::Over(released) => {
                context.counters.patience_exhausted += 1;
                connections.release(released, context, ports);
            }
        }
    }

    /// The connection of a session has ended, so its publishers go on.
    pub(in crate::shard) fn give_up(
        &mut self,
        (subscriber, session): (SubscriberId, &Session),
        connections: &mut Connections,
        context: &Context,
        ports: &mut impl Ports,
    ) {
        let released = self.pressure.give_up(subscriber, session.client_id(), context.now);
        connections.release(released, context, ports);
    }
}
