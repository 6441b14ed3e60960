//! Removes the subscriptions of an ended session, a bounded number in a turn.
//!
//! An ended session gets no messages, and its client does not find it any more. Its number stays in
//! the trie and in share groups until its last filter has been removed. No other session gets the
//! number before that.

use super::{
    Shard,
    ports::Ports,
    replays::SessionReplays,
    unfinished::{Owner, Steps, Work},
};
use crate::{base::ids::SubscriberId, session::Session, topic::Subscription};

/// What is left of an ended session.
#[derive(Debug)]
pub(super) struct Leaving {
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
}

impl Shard {
    /// Begins to remove the subscriptions of an ended session. A few of them are removed at once.
    pub(super) fn begin_leaving(
        &mut self,
        subscriber: SubscriberId,
        session: &mut Session,
        ports: &mut impl Ports,
    ) {
        let replays = self.deliveries.take_replays(subscriber);
        let leaving = Box::new(Leaving { subscriber, filters: session.take_filters(), replays });
        let needed = leaving.steps();
        if needed > self.context.rules.limits.slice_steps {
            let owner = Owner(session.client_hash());
            return self.unfinished.push(owner, Work::Leave(leaving));
        }
        let rest = self.leave(leaving, &mut Steps::new(usize::MAX), ports);
        debug_assert!(rest.is_none(), "there were steps enough for all of it");
    }

    /// Removes some subscriptions, and returns what is left.
    pub(super) fn leave(
        &mut self,
        mut leaving: Box<Leaving>,
        steps: &mut Steps,
        ports: &mut impl Ports,
    ) -> Option<Box<Leaving>> {
        while let Some(text) = leaving.filters.pop() {
            let subscription = Subscription::from_valid(&text);
            self.forget_subscription(leaving.subscriber, subscription, ports);
            steps.spend(Steps::FILTER);
            if steps.is_spent() {
                return Some(leaving);
            }
        }
        while leaving.replays.as_mut().is_some_and(SessionReplays::drop_one) {
            steps.spend(Steps::LOOK);
            if steps.is_spent() {
                return Some(leaving);
            }
        }
        self.sessions.release(leaving.subscriber);
        None
    }

    /// Tells the share groups of a session whether it is connected.
    pub(super) fn set_members_online(&mut self, subscriber: SubscriberId, ports: &mut impl Ports) {
        let session = self.sessions.get(subscriber).expect("it has just come or gone");
        if !session.has_shared_filters() {
            return;
        }
        let filters = session.filters().len();
        if filters * Steps::FILTER > self.context.rules.limits.slice_steps {
            let owner = Owner(session.client_hash());
            return self.unfinished.push_members(owner, subscriber, filters);
        }
        let rest = self.tell_members(subscriber, filters, &mut Steps::new(usize::MAX), ports);
        debug_assert!(rest.is_none(), "there were steps enough for all of it");
    }

    /// Tells some share groups of a session whether it is connected, and whether it has room again:
    /// the groups of the filters before `next`, from the last one down. Returns where to go on.
    pub(super) fn tell_members(
        &mut self,
        subscriber: SubscriberId,
        mut next: usize,
        steps: &mut Steps,
        ports: &mut impl Ports,
    ) -> Option<usize> {
        // The session may have ended meanwhile.
        let session = self.sessions.get(subscriber)?;
        let online = session.link().is_some();
        let has_room = !session.outbound().queue.is_above(50, &self.context.rules.limits.queue);
        // The list may have become shorter.
        next = next.min(session.filters().len());
        while let Some(place) = next.checked_sub(1) {
            if steps.is_spent() {
                return Some(next);
            }
            next = place;
            steps.spend(Steps::LOOK);
            let Some(text) = session.shared_filter_at(place) else { continue };
            let Subscription::Shared(shared) = Subscription::from_valid(text) else { continue };
            steps.spend(Steps::FILTER - Steps::LOOK);
            self.interest.set_online(shared, subscriber, online, ports);
            if online && has_room {
                self.interest.set_room(shared, ports);
            }
        }
        None
    }

    /// A member has sent some queued messages. Tells its groups, if the queue has room again.
    pub(super) fn resume_member(&mut self, member: SubscriberId, ports: &mut impl Ports) {
        let Some(session) = self.sessions.get_mut(member) else { return };
        if session.outbound().queue.is_above(50, &self.context.rules.limits.queue) {
            return;
        }
        session.outbound_mut().queue.end_relief();
        self.set_members_online(member, ports);
    }
}
