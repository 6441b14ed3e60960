//! Share groups: one member of each group gets a message. When the session of a member ends, other
//! members take over its messages.
//!
//! The publisher's shard chooses a shard, and that shard chooses the member, both by the group's
//! strategy. Orphaned messages go the same way again, a bounded number in a turn.

use std::rc::Rc;

use super::{
    context::Context,
    deliver::{Dropped, Origin, Share},
    deliveries::Deliveries,
    forwarding::Forwarding,
    granted::Granted,
    interest::Interest,
    letter::{Address, GroupKeys},
    orphans::Orphans,
    ports::Ports,
    rules::WhenQueueFull,
    timers::Timer,
    unfinished::Steps,
};
use crate::{
    base::{
        ids::{ShardId, SubscriberId},
        time::Span,
    },
    mqtt::QoS,
    routing::{Entry, GroupId, Selector},
    session::{
        Session,
        message::{CountedMessage, MessageView},
        ordinals::Ordinal,
        queue::QueuedMessage,
        sessions::Sessions,
    },
    topic::{SharedFilter, Subscription},
};

/// How many connected members, and how many absent ones, are asked whether they have room.
const LOOKS_MAX: usize = 1024;

/// How a message is offered to the members of a group on one shard.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    selector: Selector,
    origin: Origin,
    /// Whether no other shard is tried after this one.
    is_last: bool,
}

/// The outcome of an attempt.
#[derive(Clone, Copy, Debug)]
enum Offered {
    Taken {
        /// The member that was chosen first, and was behind or had no room in its queue.
        instead_of: Option<SubscriberId>,
        /// All connected members here are behind, this one among them.
        behind: Option<SubscriberId>,
    },
    Refused {
        member: SubscriberId,
        dropped: Dropped,
    },
    /// All connected members here are behind, and another shard has one that is not. This member
    /// was chosen first.
    Behind {
        member: SubscriberId,
    },
    NoMember,
}

/// Gives messages to the members of share groups. It borrows parts of the shard for one call.
#[derive(Debug)]
pub(super) struct GroupDelivery<'a> {
    orphans: &'a mut Orphans,
    interest: &'a mut Interest,
    sessions: &'a mut Sessions,
    deliveries: &'a mut Deliveries,
    forwarding: &'a mut Forwarding,
    context: &'a mut Context,
    /// Some members may belong to sessions that have ended, connected or disconnected since,
    /// because the groups were not told yet.
    is_behind: bool,
    /// How many members were asked in vain whether they have room.
    looks: usize,
}

impl<'a> GroupDelivery<'a> {
    pub(super) fn new(
        orphans: &'a mut Orphans,
        interest: &'a mut Interest,
        sessions: &'a mut Sessions,
        (deliveries, forwarding): (&'a mut Deliveries, &'a mut Forwarding),
        context: &'a mut Context,
        is_behind: bool,
    ) -> GroupDelivery<'a> {
        let looks = 0;
        GroupDelivery {
            orphans,
            interest,
            sessions,
            deliveries,
            forwarding,
            context,
            is_behind,
            looks,
        }
    }

    /// How many members were asked in vain whether they have room, since this was made.
    pub(super) fn looks(&self) -> usize {
        self.looks
    }

    /// Brings a message to one member of each share group on the filter that matched as number
    /// `at`: to members here directly, and to members that another shard chooses by letter.
    pub(super) fn deliver_to_groups(
        &mut self,
        at: usize,
        view: &MessageView<'_>,
        ports: &mut impl Ports,
    ) {
        let mut nth = 0;
        // A group may end during this loop, which leaves its place empty.
        while let Some(place) = self.interest.groups(at).get(nth) {
            if let Some(group) = place.group {
                self.deliver_to_group(view, group, ports);
            }
            nth += 1;
        }
    }

    pub(super) fn deliver_to_group(
        &mut self,
        view: &MessageView<'_>,
        group: GroupId,
        ports: &mut impl Ports,
    ) {
        let selector = self.interest.selector(view, group, ports);
        match self.interest.choose_shard(group, selector) {
            Some(shard) if shard == self.context.settings.shard => {
                self.serve(view, group, selector, 0, ports);
            }
            Some(shard) => {
                self.forwarding.add_group(shard, self.interest.name(group).as_shared());
            }
            None => self.context.counters.dropped_no_member += 1,
        }
    }

    /// Gives a message to the chosen member of a group on this shard. If that member is behind or
    /// has no room, another one gets it, here or on another shard. If no member has room, it is
    /// dropped. Returns the shard that a letter was written to, if any. [MQTT-4.8.2-3]
    fn serve(
        &mut self,
        view: &MessageView<'_>,
        group: GroupId,
        selector: Selector,
        hops: u8,
        ports: &mut impl Ports,
    ) -> Option<ShardId> {
        let is_last = usize::from(hops) >= self.context.settings.shards;
        let attempt = Attempt { selector, origin: Origin::of(hops), is_last };
        match self.offer_to_members(view, group, attempt, ports) {
            Offered::Taken { instead_of, behind } => {
                self.note_behind(group, behind, ports);
                self.relieve_member(instead_of?);
                None
            }
            Offered::Behind { member } => {
                self.interest.set_full(group, true, ports);
                self.relieve_member(member);
                let next = self.next_shard(group, selector)?;
                Some(self.send_to_group(view, group, next, hops + 1, ports))
            }
            Offered::NoMember => {
                // The last member here may have ended since the shard was chosen.
                if let Some(next) = self.next_shard(group, selector).filter(|_| !is_last) {
                    return Some(self.send_to_group(view, group, next, hops + 1, ports));
                }
                self.context.counters.dropped_no_member += 1;
                None
            }
            Offered::Refused { member, dropped } => {
                let full = matches!(dropped, Dropped::QueueFull | Dropped::MemoryShort);
                if full {
                    self.interest.set_full(group, true, ports);
                }
                let next = if is_last { None } else { self.next_shard(group, selector) };
                if full && next.is_some() && self.interest.others_take(group) {
                    self.relieve_member(member);
                } else if full && hops == 0 && self.drops_clients() {
                    self.deliveries.note_overrun(member);
                }
                if let Some(next) = next {
                    return Some(self.send_to_group(view, group, next, hops + 1, ports));
                }
                if full && self.keep_for_later(view, group) {
                    return None;
                }
                self.context.counters.count_drop(dropped);
                None
            }
        }
    }

    /// Keeps a message until a member has room: while a member here is connected, and as much as
    /// one session may queue. True: it was kept.
    fn keep_for_later(&mut self, view: &MessageView<'_>, group: GroupId) -> bool {
        let is_short = self.context.memory.scarcity().is_full();
        if is_short || self.context.stopping || !self.interest.has_online(group) {
            return false;
        }
        let message = CountedMessage::keep(view, self.deliveries.kept());
        if !self.orphans.have_room_for(message.size(), &self.context.rules.limits.queue) {
            return false;
        }
        let queued = QueuedMessage {
            message: Rc::new(message),
            qos: view.qos,
            retain: view.retain,
            subscription_ids: None,
            group: Some(Rc::clone(self.interest.name(group))),
            ordinal: Ordinal::NONE,
        };
        if self.orphans.keep(queued) {
            self.context.timers.set(self.context.now, Timer::Orphans);
        }
        true
    }

    /// Offers a message to the member that is chosen, then to others here until one takes it. A
    /// member that is behind is passed over while a connected one is not.
    fn offer_to_members(
        &mut self,
        view: &MessageView<'_>,
        group: GroupId,
        attempt: Attempt,
        ports: &mut impl Ports,
    ) -> Offered {
        let Some(mut first) = self.choose_member(group, attempt.selector, ports) else {
            return Offered::NoMember;
        };
        let (mut instead_of, mut behind) = (None, None);
        if self.passes_over(first, view.qos, group) {
            let member = first.subscriber;
            match self.find_one_that_keeps_up(member, group) {
                Some(other) => (instead_of, first) = (Some(member), other),
                None if !attempt.is_last && self.interest.others_take(group) => {
                    return Offered::Behind { member };
                }
                None => behind = Some(member),
            }
        }
        let GroupDelivery { interest, sessions, deliveries, context, .. } = self;
        let share = Share { group: interest.name(group), origin: attempt.origin };
        let mut fanout = deliveries.fanout(view, context, ports).by(share);
        let mut offer = |entry: Entry| {
            // A session that has ended remains a member until its subscriptions are removed.
            let session = sessions.get_mut(entry.subscriber).ok_or(Dropped::Absent)?;
            let id = [entry.subscription_id];
            let ids = if entry.subscription_id == 0 { &[][..] } else { &id };
            let granted = Granted::unpack(entry.options);
            if !fanout.admits(granted, session) {
                return Err(Dropped::Forbidden);
            }
            fanout.offer(entry.subscriber, session, granted, ids)
        };
        let dropped = match offer(first) {
            Ok(()) => return Offered::Taken { instead_of, behind },
            Err(dropped) => dropped,
        };
        let member = first.subscriber;
        let [online, absent] = interest.others(group, member);
        let looks = if attempt.is_last || !interest.others_take(group) { LOOKS_MAX } else { 0 };
        let absent = absent.take(looks);
        let mut looks = 0;
        let taken = online.take(LOOKS_MAX).chain(absent).any(|entry| {
            looks += 1;
            offer(entry).is_ok()
        });
        self.looks += looks;
        match dropped {
            Dropped::QueueFull if taken => Offered::Taken { instead_of: Some(member), behind },
            _ if taken => Offered::Taken { instead_of, behind },
            _ => Offered::Refused { member, dropped },
        }
    }

    /// Whether a member that was chosen is behind, and the group may as well take another one.
    fn passes_over(&self, chosen: Entry, qos: QoS, group: GroupId) -> bool {
        qos > QoS::AtMostOnce
            && self.is_behind_member(chosen.subscriber)
            && self.interest.spreads(group)
    }

    /// Whether a connected member is behind: half of what may wait for it does.
    fn is_behind_member(&self, member: SubscriberId) -> bool {
        let session = self.sessions.get(member).filter(|session| session.link().is_some());
        let limits = &self.context.rules.limits.queue;
        session.is_some_and(|session| session.outbound().queue.is_behind(limits))
    }

    /// A connected member here, after this one, that is not behind.
    #[cold]
    fn find_one_that_keeps_up(&mut self, after: SubscriberId, group: GroupId) -> Option<Entry> {
        let [online, _] = self.interest.others(group, after);
        let mut looks = 0;
        let found = online.take(LOOKS_MAX).find(|entry| {
            looks += 1;
            !self.is_behind_member(entry.subscriber)
        });
        self.looks += looks;
        found
    }

    /// Notes whether all connected members here are behind, one of which was chosen. It tells its
    /// groups once it is not.
    fn note_behind(
        &mut self,
        group: GroupId,
        chosen: Option<SubscriberId>,
        ports: &mut impl Ports,
    ) {
        self.interest.set_full(group, chosen.is_some(), ports);
        if let Some(session) = chosen.and_then(|member| self.sessions.get_mut(member)) {
            session.outbound_mut().queue.note_relief(self.context.now);
        }
    }

    /// The member here that gets the next message. While there is unfinished work, members may
    /// belong to sessions that have ended or lost their connection. This is put right for each
    /// such member that would be chosen, and another one is chosen.
    fn choose_member(
        &mut self,
        group: GroupId,
        selector: Selector,
        ports: &mut impl Ports,
    ) -> Option<Entry> {
        for _ in 0..LOOKS_MAX {
            let GroupDelivery { interest, sessions, .. } = self;
            let load = |member| sessions.get(member).map_or(usize::MAX, Session::load);
            let chosen = interest.choose_member(group, selector, load)?;
            if !self.is_behind {
                return Some(chosen);
            }
            self.looks += 1;
            let member = chosen.subscriber;
            let name = Rc::clone(interest.name(group));
            let Some(session) = sessions.get(member) else {
                interest.unsubscribe(Subscription::Shared(name.as_shared()), member, ports);
                continue;
            };
            let online = session.link().is_some();
            if !interest.set_online(name.as_shared(), member, online, ports) {
                return Some(chosen);
            }
        }
        None
    }

    /// Notes that another member got a message because this one had no room. A member that has
    /// acknowledged nothing for longer than the patience is disconnected, so that others get the
    /// messages that it holds.
    fn relieve_member(&mut self, member: SubscriberId) {
        let Some(session) = self.sessions.get_mut(member) else { return };
        let stuck_for = session.outbound_mut().queue.note_relief(self.context.now);
        if session.link().is_some() && stuck_for >= self.context.rules.limits.patience {
            self.deliveries.note_overrun(member);
        }
    }

    /// Another shard that is to choose a member: one that is believed to have room, or else the
    /// next one.
    fn next_shard(&mut self, group: GroupId, selector: Selector) -> Option<ShardId> {
        let here = self.context.settings.shard;
        let chosen = self.interest.choose_shard(group, selector).filter(|&shard| shard != here);
        chosen.or_else(|| self.interest.next_shard(group))
    }

    /// Gives a message to a member of one group. If this shard has no member any more, and another
    /// shard has one, the message is passed on.
    pub(super) fn serve_group(
        &mut self,
        view: &MessageView<'_>,
        shared: SharedFilter<'_>,
        hops: u8,
        ports: &mut impl Ports,
    ) {
        let Some(group) = self.interest.find_group(shared) else {
            self.context.counters.dropped_no_member += 1;
            return;
        };
        if self.interest.may_serve(group) || usize::from(hops) > self.context.settings.shards {
            let selector = self.interest.selector(view, group, ports);
            self.serve(view, group, selector, hops, ports);
        } else {
            self.pass_to_group(view, group, hops + 1, ports);
        }
    }

    fn drops_clients(&self) -> bool {
        self.context.rules.limits.when_queue_full == WhenQueueFull::Disconnect
    }

    /// Brings an orphaned message to another member. Returns the shard that a letter was written
    /// to, if any.
    fn pass_to_group(
        &mut self,
        view: &MessageView<'_>,
        group: GroupId,
        hops: u8,
        ports: &mut impl Ports,
    ) -> Option<ShardId> {
        let selector = self.interest.selector(view, group, ports);
        let Some(shard) = self.interest.choose_shard(group, selector) else {
            self.context.counters.dropped_no_member += 1;
            return None;
        };
        if shard == self.context.settings.shard {
            return self.serve(view, group, selector, hops, ports);
        }
        Some(self.send_to_group(view, group, shard, hops, ports))
    }

    fn send_to_group(
        &mut self,
        view: &MessageView<'_>,
        group: GroupId,
        shard: ShardId,
        hops: u8,
        ports: &mut impl Ports,
    ) -> ShardId {
        let mut keys = String::new();
        self.interest.write_key(group, &mut keys);
        let address = Address {
            to_subscribers: false,
            groups: GroupKeys::from_text(&keys),
            retention: None,
            publisher: None,
            hops,
            recorded: self.context.recorder.aim(view.qos, (shard, false), &keys),
        };
        ports.letters(shard).push_publish(view, &address);
        shard
    }

    /// Brings a slice of orphaned messages to other members. Returns the time until the next turn,
    /// if any are left.
    pub(super) fn redistribute(&mut self, ports: &mut impl Ports) -> Option<Span> {
        let before = self.orphans.len();
        let mut steps = Steps::new(self.context.rules.limits.slice_steps);
        // Those that no member has room for are put behind the others.
        for _ in 0..before {
            if steps.is_spent() {
                break;
            }
            let Some(queued) = self.orphans.next() else { break };
            let looks = self.looks;
            let written_to = self.pass_on(&queued, ports);
            let taken = Steps::GROUP + self.looks - looks;
            steps.spend(taken);
            self.context.counters.other_steps += taken as u64;
            if written_to.is_some_and(|shard| ports.letters(shard).is_crowded()) {
                break;
            }
        }
        // No publisher has caused this, so none is held back for it.
        self.deliveries.forget_crowded();
        self.orphans.end_turn(before)
    }

    fn pass_on(&mut self, queued: &QueuedMessage, ports: &mut impl Ports) -> Option<ShardId> {
        if queued.message.has_expired(self.context.now) {
            self.context.counters.dropped_expired += 1;
            return None;
        }
        let name = queued.group.as_ref()?;
        let Some(group) = self.interest.find_group(name.as_shared()) else {
            self.context.counters.dropped_no_member += 1;
            return None;
        };
        let view = queued.message.view();
        self.context.recorder.begin_message();
        let written_to = self.pass_to_group(&view, group, 1, ports);
        self.context.recorder.end_message(&view, ports);
        written_to
    }
}

#[cfg(test)]
mod tests;
