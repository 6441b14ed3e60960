//! Removes the subscriptions of an ended session, a bounded number in a turn.
//!
//! An ended session gets no messages, and its client does not find it any more. Its number stays in
//! the trie and in share groups until its last filter has been removed. No other session gets the
//! number before that.

use super::{
    super::{
        connections::Connections,
        context::Context,
        interest::Interest,
        ports::Ports,
        replays::SessionReplays,
        timers::Timer,
        unfinished::{Owner, SLICES_PER_TURN, Steps, Work},
    },
    Router,
};
use crate::{
    base::ids::SubscriberId,
    session::{Session, queue::QueueLimits, sessions::Sessions},
    topic::Subscription,
};

/// What is left of an ended session.
#[derive(Debug)]
pub(in crate::shard) struct Leaving {
    subscriber: SubscriberId,
    filters: Vec<Box<str>>,
    replays: Option<SessionReplays>,
}

impl Leaving {
    /// The steps that it takes to remove everything.
    fn steps(&self) -> usize {
        let replays = self.replays.as_ref().map_or(0, SessionReplays::len);
        self.filters.len().saturating_mul(Steps::FILTER).saturating_add(replays)
    }

    /// Removes some subscriptions. True: all of them have been removed.
    fn go_on(
        &mut self,
        interest: &mut Interest,
        context: &mut Context,
        steps: &mut Steps,
        ports: &mut impl Ports,
    ) -> bool {
        while let Some(text) = self.filters.pop() {
            context.discount_subscription(&text);
            interest.unsubscribe(Subscription::from_valid(&text), self.subscriber, ports);
            steps.spend(Steps::FILTER);
            if steps.is_spent() {
                return false;
            }
        }
        while self.replays.as_mut().is_some_and(SessionReplays::drop_one) {
            steps.spend(Steps::LOOK);
            if steps.is_spent() {
                return false;
            }
        }
        true
    }
}

/// A session whose share groups are told whether it is connected, and whether it has room again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shard) struct Members {
    pub(in crate::shard) subscriber: SubscriberId,
    /// The groups of the filters before this one have not been told.
    pub(in crate::shard) next: usize,
}

impl Members {
    /// Tells some of the groups, from the last filter down. Returns what is left.
    fn go_on(
        mut self,
        (sessions, interest): (&Sessions, &mut Interest),
        limits: &QueueLimits,
        steps: &mut Steps,
        ports: &mut impl Ports,
    ) -> Option<Members> {
        // The session may have ended meanwhile.
        let session = sessions.get(self.subscriber)?;
        let online = session.link().is_some();
        let has_room = !session.outbound().queue.is_half_full(limits);
        // The list may have become shorter.
        self.next = self.next.min(session.filters().len());
        while let Some(place) = self.next.checked_sub(1) {
            if steps.is_spent() {
                return Some(self);
            }
            self.next = place;
            steps.spend(Steps::LOOK);
            let Some(text) = session.shared_filter_at(place) else { continue };
            let Subscription::Shared(shared) = Subscription::from_valid(text) else { continue };
            steps.spend(Steps::FILTER - Steps::LOOK);
            interest.set_online(shared, self.subscriber, online, ports);
            if online && has_room {
                interest.set_room(shared, ports);
            }
        }
        None
    }
}

impl Router {
    /// A session has ended. A few of its subscriptions are removed at once. The other members of
    /// its share groups get what it leaves, unless the broker stops: then they end, too.
    pub(in crate::shard) fn end_session(
        &mut self,
        subscriber: SubscriberId,
        mut session: Session,
        sessions: &mut Sessions,
        context: &mut Context,
        ports: &mut impl Ports,
    ) {
        let replays = self.deliveries.take_replays(subscriber);
        let leaving = Box::new(Leaving { subscriber, filters: session.take_filters(), replays });
        if leaving.steps() > context.rules.limits.slice_steps {
            self.unfinished.push(Owner(session.client_hash()), Work::Leave(leaving));
        } else {
            let steps = &mut Steps::new(usize::MAX);
            let rest = self.leave(leaving, steps, (sessions, context), ports);
            debug_assert!(rest.is_none(), "there were steps enough for all of it");
        }
        if !context.stopping && self.orphans.take_from(session.into_outbound()) {
            context.timers.set(context.now, Timer::Orphans);
        }
    }

    /// Tells the share groups of a session whether it is connected.
    pub(in crate::shard) fn set_members_online(
        &mut self,
        subscriber: SubscriberId,
        sessions: &Sessions,
        context: &Context,
        ports: &mut impl Ports,
    ) {
        let session = sessions.get(subscriber).expect("it has just come or gone");
        if !session.has_shared_filters() {
            return;
        }
        let limits = &context.rules.limits;
        let members = Members { subscriber, next: session.filters().len() };
        if members.next * Steps::FILTER > limits.slice_steps {
            return self.unfinished.push_members(Owner(session.client_hash()), members);
        }
        let steps = &mut Steps::new(usize::MAX);
        let rest = members.go_on((sessions, &mut self.interest), &limits.queue, steps, ports);
        debug_assert!(rest.is_none(), "there were steps enough for all of it");
    }

    /// A member has sent some queued messages. Tells its groups once it has caught up.
    pub(super) fn resume_member(
        &mut self,
        member: SubscriberId,
        sessions: &mut Sessions,
        context: &Context,
        ports: &mut impl Ports,
    ) {
        let Some(session) = sessions.get_mut(member) else { return };
        if !session.outbound().queue.has_caught_up(&context.rules.limits.queue) {
            return;
        }
        session.outbound_mut().queue.end_relief();
        self.set_members_online(member, sessions, context, ports);
    }

    /// Whether there is unfinished work that the next turn can go on with.
    pub(in crate::shard) fn can_go_on(&self) -> bool {
        self.unfinished.can_go_on()
    }

    /// A crowded batch of letters has been posted.
    pub(in crate::shard) fn note_posted(&mut self) {
        self.unfinished.note_posted();
    }

    /// Does some of the unfinished work.
    #[cold]
    pub(in crate::shard) fn go_on(
        &mut self,
        (sessions, connections): (&mut Sessions, &mut Connections),
        context: &mut Context,
        ports: &mut impl Ports,
    ) {
        let slice = context.rules.limits.slice_steps;
        let mut left = slice * SLICES_PER_TURN;
        while left > 0 && self.unfinished.can_go_on() {
            if context.crowded_peer(ports).is_some() {
                return self.unfinished.wait_for_post();
            }
            let Some((owner, work)) = self.unfinished.next() else { return };
            let given = slice.min(left);
            let mut steps = Steps::new(given);
            left -= given;
            let clients = (&mut *sessions, &mut *connections);
            let rest = self.do_some(work, &mut steps, clients, context, ports);
            left += steps.left();
            context.counters.other_steps += (given - steps.left()) as u64;
            self.unfinished.put_back(owner, rest);
        }
    }

    /// Does some of a work, and returns the rest.
    fn do_some(
        &mut self,
        work: Work,
        steps: &mut Steps,
        (sessions, connections): (&mut Sessions, &mut Connections),
        context: &mut Context,
        ports: &mut impl Ports,
    ) -> Option<Work> {
        match work {
            Work::Leave(leaving) => {
                self.leave(leaving, steps, (sessions, context), ports).map(Work::Leave)
            }
            Work::Members(members) => {
                let limits = &context.rules.limits.queue;
                let told = members.go_on((sessions, &mut self.interest), limits, steps, ports);
                told.map(Work::Members)
            }
            Work::Place(placement) => {
                let clients = (sessions, connections);
                self.place(placement, steps, clients, context, ports).map(Work::Place)
            }
        }
    }

    /// Removes some subscriptions, and returns what is left.
    fn leave(
        &mut self,
        mut leaving: Box<Leaving>,
        steps: &mut Steps,
        (sessions, context): (&mut Sessions, &mut Context),
        ports: &mut impl Ports,
    ) -> Option<Box<Leaving>> {
        if !leaving.go_on(&mut self.interest, context, steps, ports) {
            return Some(leaving);
        }
        sessions.release(leaving.subscriber);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{super::super::deliveries::tests::World, *};
    use crate::mqtt::QoS;

    const FILTERS: [&str; 3] = ["a", "$share/g/b", "$share/g/c"];

    fn world() -> World {
        World::new(&FILTERS.map(|filter| (filter, QoS::AtLeastOnce)))
    }

    #[test]
    fn an_ended_session_loses_its_subscriptions_in_slices() {
        let mut world = world();
        for filter in FILTERS {
            world.context.count_subscription(filter);
        }
        let filters = FILTERS.map(Box::from).to_vec();
        let mut leaving = Leaving { subscriber: world.subscriber, filters, replays: None };
        let World { interest, context, ports, .. } = &mut world;
        let mut go_on = |steps| {
            let steps = &mut Steps::new(steps);
            let ended = leaving.go_on(interest, context, steps, ports);
            (ended, context.counters.subscriptions, interest.group_count())
        };
        assert_eq!(go_on(2 * Steps::FILTER), (false, 1, 0));
        assert_eq!(go_on(usize::MAX), (true, 0, 0));
    }

    #[test]
    fn the_groups_of_a_session_are_told_in_slices_that_it_has_gone() {
        let mut world = world();
        let now = world.context.now;
        let session = world.sessions.of_connected_mut(world.subscriber);
        for filter in FILTERS {
            let subscription = Subscription::parse(filter).unwrap();
            let (seed, limits) = (world.context.settings.seed, &world.context.rules.limits);
            session.subscribe(filter, subscription, limits.filters(), seed).unwrap();
        }
        session.disconnect(now, false);
        let World { interest, sessions, context, ports, subscriber, .. } = &mut world;
        let limits = &context.rules.limits.queue;
        let mut members = Some(Members { subscriber: *subscriber, next: FILTERS.len() });
        let mut slices = 0;
        while let Some(left) = members {
            let steps = &mut Steps::new(Steps::FILTER);
            members = left.go_on((sessions, interest), limits, steps, ports);
            slices += 1;
        }
        assert_eq!(slices, 3);
        for filter in &FILTERS[1..] {
            let Ok(Subscription::Shared(shared)) = Subscription::parse(filter) else { panic!() };
            assert!(interest.find_group(shared).is_some_and(|group| !interest.has_online(group)));
        }
    }
}
