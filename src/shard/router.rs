//! Where messages go: to sessions of this shard, to members of share groups, to other shards, and
//! into the store of retained messages.
//!
//! It keeps who wants what, what is stored and what is on its way. Sessions and connections are
//! lent to it. It does not know how a client comes or goes, nor how a packet is answered.

mod allowance;
mod leave;
mod place;
mod placements;

use self::{allowance::Allowance, place::Scope, placements::Placements};
pub(super) use self::{
    leave::{Leaving, Members},
    place::Placement,
};
use super::{
    connections::Connections,
    context::Context,
    deliveries::Deliveries,
    forwarding::Forwarding,
    granted::Granted,
    interest::{Interest, Weight},
    letter::{Arrived, GroupKeys, PublishLetter},
    memory::subscription_bytes,
    notices::Notices,
    orphans::Orphans,
    owed::Answer,
    ports::Ports,
    pressure::Publisher,
    reason::Reason,
    retained::{Retained, Retention},
    rules::Limits,
    share::GroupDelivery,
    unfinished::{Steps, Unfinished},
};
use crate::{
    access::{Kind, topics},
    base::{
        byte_count::ByteCount,
        ids::{ConnectionId, ShardId, ShardSet, SubscriberId},
        time::Span,
    },
    mqtt::QoS,
    routing::Entry,
    session::{
        Session,
        message::{MessageView, Payload, shared_payload},
        sessions::Sessions,
    },
    topic::{Subscription, TopicName},
};

/// The messages of a shard, and who wants them.
#[derive(Debug)]
pub(super) struct Router {
    interest: Interest,
    retained: Retained,
    deliveries: Deliveries,
    orphans: Orphans,
    forwarding: Forwarding,
    unfinished: Unfinished,
    placements: Placements,
    allowance: Allowance,
}

impl Router {
    pub(super) fn new(context: &Context) -> Router {
        let settings = &context.settings;
        Router {
            interest: Interest::new(settings, context.rules.strategies.clone()),
            retained: Retained::new(settings.shard, settings.started_at),
            deliveries: Deliveries::new(settings.seed),
            orphans: Orphans::default(),
            forwarding: Forwarding::new(settings.shards, settings.peers()),
            unfinished: Unfinished::new(settings.seed),
            placements: Placements::new(settings.seed),
            allowance: Allowance::of_batch(&context.rules.limits),
        }
    }

    pub(super) fn interest(&self) -> &Interest {
        &self.interest
    }

    pub(super) fn interest_mut(&mut self) -> &mut Interest {
        &mut self.interest
    }

    pub(super) fn retained(&self) -> &Retained {
        &self.retained
    }

    pub(super) fn retained_mut(&mut self) -> &mut Retained {
        &mut self.retained
    }

    pub(super) fn deliveries(&self) -> &Deliveries {
        &self.deliveries
    }

    /// The memory of messages that are queued or in flight.
    pub(super) fn kept_bytes(&self) -> usize {
        self.deliveries.kept().bytes()
    }

    /// The memory of the lists of those who are to get messages that take several turns.
    pub(super) fn placed_bytes(&self) -> usize {
        self.placements.kept() * size_of::<Entry>()
    }

    /// Where the memory of messages that are queued or in flight is counted.
    pub(super) fn kept_count(&self) -> &ByteCount {
        self.deliveries.kept()
    }

    /// How many orphaned messages wait, and how many works go on in the next turn.
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.orphans.len(), self.unfinished.len())
    }

    /// The events that are too frequent for one line of the log each.
    pub(super) fn notices_mut(&mut self) -> &mut Notices {
        self.deliveries.notices_mut()
    }
}

/// The way of a message.
impl Router {
    /// Brings a message to all of its receivers, on all shards, or begins to. Returns whether there
    /// are any, as far as is known.
    #[inline]
    pub(super) fn route(
        &mut self,
        view: &MessageView<'_>,
        publisher: Option<ConnectionId>,
        clients: (&mut Sessions, &mut Connections),
        context: &mut Context,
        ports: &mut impl Ports,
    ) -> bool {
        let steps_max = context.rules.limits.slice_steps;
        self.route_within((view, publisher), steps_max, clients, context, ports)
    }

    /// As [`Router::route`], with so many steps at most at once.
    #[inline]
    fn route_within(
        &mut self,
        (view, publisher): (&MessageView<'_>, Option<ConnectionId>),
        steps_max: usize,
        (sessions, connections): (&mut Sessions, &mut Connections),
        context: &mut Context,
        ports: &mut impl Ports,
    ) -> bool {
        context.recorder.begin_message();
        let retention = if view.retain { self.retain(view, sessions, context) } else { None };
        if let Some(retention) = &retention
            && !topics::is_of_the_broker(view.topic)
        {
            context.recorder.note_retention(retention, ports);
        }
        let update = retention.as_ref().map(|_| self.retained.sequence());
        let weight = self.find(view, context);
        let shard = context.settings.shard;
        let sender = || publisher.map(|connection| Publisher { shard, connection });
        if self.is_too_much(weight.steps, view.publisher_hash, steps_max) {
            let (message, way) = ((view, update), (None, sender(), Scope::Everyone(retention)));
            self.place_later(message, way, (sessions, connections), context, ports);
            return true;
        }
        self.deliveries.deliver_matches(view, update, (&self.interest, sessions), context, ports);
        context.watch_memory(ports);
        if weight.groups > 0 {
            self.deliver_to_groups(view, sessions, context, ports);
        }
        let matched = self.interest.is_wanted();
        let interested = self.interest.shards();
        if retention.is_some() || self.forwarding.is_needed(interested) {
            let letter = (interested, retention.as_ref());
            self.forward(view, letter, (publisher, &mut *connections), context, ports);
        }
        context.recorder.end_message(view, ports);
        if self.deliveries.has_crowded() {
            let clients = (&*sessions, connections);
            self.deliveries.hold_for_crowded(sender(), clients, context, ports);
        }
        matched
    }

    /// Finds who wants a message here.
    #[inline]
    fn find(&mut self, view: &MessageView<'_>, context: &mut Context) -> Weight {
        context.counters.other_steps +=
            self.interest.find(view.topic, context.rules.limits.nodes_at_once());
        self.interest.weight()
    }

    /// Publishes the Will of a session, once. [MQTT-3.1.2-8] [MQTT-3.1.2-14] [MQTT-3.1.2-15]
    pub(super) fn publish_will(
        &mut self,
        subscriber: SubscriberId,
        (sessions, connections): (&mut Sessions, &mut Connections),
        context: &mut Context,
        ports: &mut impl Ports,
    ) {
        let session = sessions.get_mut(subscriber).expect("a session outlives its Will");
        let client_hash = session.client_hash();
        let Some(will) = session.take_will() else { return };
        let message = will.message.view();
        // The rules may have changed since its CONNECT.
        let payload = message.payload.as_slice();
        let way = || (message.qos, message.retain);
        let permitted = context.rights.judge_publish(session, message.topic, way).is_ok()
            && !context.has_lost_token(session.principal());
        if !topics::may_publish(session.principal(), message.topic, payload) || !permitted {
            context.counters.refused_publish += 1;
            context.counters.denied_wills += u64::from(!permitted);
            return;
        }
        let shared = shared_payload(message.payload.as_slice(), |payload| ports.share(payload));
        let view = MessageView {
            payload: shared.as_ref().map_or(message.payload, Payload::Shared),
            expires_at: will.message_expiry.map(|span| context.now + span),
            publisher: Some(subscriber),
            publisher_hash: client_hash,
            ..message
        };
        self.route(&view, None, (&mut *sessions, connections), context, ports);
        if let Some(session) = sessions.get_mut(subscriber).filter(|it| it.stored().is_some()) {
            context.recorder.note_absence(session, context.now, ports);
        }
    }

    /// Brings a message of the broker to one session here, if a subscription of it matches.
    /// Whether it may read the message was asked before.
    pub(super) fn route_to(
        &mut self,
        subscriber: SubscriberId,
        view: &MessageView<'_>,
        sessions: &mut Sessions,
        context: &mut Context,
        ports: &mut impl Ports,
    ) {
        self.find(view, context);
        self.deliveries.deliver_to(subscriber, view, (&self.interest, sessions), context, ports);
    }

    /// Publishes a value of the broker's own. Many come at a time, so each takes little at once.
    pub(super) fn publish_value(
        &mut self,
        (topic, value, retain): (TopicName<'_>, &str, bool),
        clients: (&mut Sessions, &mut Connections),
        context: &mut Context,
        ports: &mut impl Ports,
    ) {
        let view = MessageView {
            topic,
            application: &[],
            payload: Payload::Small(value.as_bytes()),
            qos: QoS::AtMostOnce,
            retain,
            expires_at: None,
            publisher: None,
            publisher_hash: 0,
        };
        let steps_max = context.rules.limits.slice_steps / VALUES_PER_SLICE;
        self.route_within((&view, None), steps_max, clients, context, ports);
    }

    /// Another batch of letters begins.
    pub(super) fn begin_batch(&mut self, limits: &Limits) {
        self.allowance = Allowance::of_batch(limits);
    }

    /// Brings a message that another shard has sent to its receivers here.
    pub(super) fn read_publish(
        &mut self,
        (from, letter, arrived): (ShardId, &PublishLetter, &Arrived<'_>),
        (sessions, connections): (&mut Sessions, &mut Connections),
        context: &mut Context,
        ports: &mut impl Ports,
    ) {
        let view = &arrived.view;
        context.recorder.begin_letter(from, arrived.recorded);
        let applied = arrived.retention.is_some_and(|change| {
            context.counters.other_steps += STEPS_OF_RETAINING;
            self.retained.apply(change)
        });
        let update = applied.then(|| self.retained.sequence());
        let sender = || arrived.publisher.map(|connection| Publisher { shard: from, connection });
        let weight =
            if letter.to_subscribers { self.find(view, context) } else { Weight::default() };
        let steps_max = self.allowance.of_message();
        if self.is_too_much(weight.of_sessions(), view.publisher_hash, steps_max) {
            let (subscribers, groups) = (letter.to_subscribers, arrived.groups.as_text().into());
            let scope = Scope::Here { subscribers, groups, served: 0, hops: letter.hops };
            let (message, way) = ((view, update), (Some(from), sender(), scope));
            return self.place_later(message, way, (sessions, connections), context, ports);
        }
        let mut steps = weight.of_sessions();
        if letter.to_subscribers {
            let is_in_vain = self.interest.matched() == 0 && arrived.retention.is_none();
            context.counters.letters_in_vain += u64::from(is_in_vain);
            let to = (&self.interest, &mut *sessions);
            self.deliveries.deliver_matches(view, update, to, context, ports);
            context.watch_memory(ports);
        }
        if !arrived.groups.as_text().is_empty() {
            let message = (view, (from, sender()), arrived.groups, letter.hops);
            let limits = (&mut steps, steps_max);
            self.serve_groups_of_letter(message, limits, (sessions, connections), context, ports);
        }
        self.allowance.note(steps);
        context.recorder.end_message(view, ports);
        if self.deliveries.has_crowded() {
            let clients = (&*sessions, connections);
            self.deliveries.hold_for_crowded(sender(), clients, context, ports);
        }
    }

    /// Gives a message to the share groups that its letter names: at once, until it has taken
    /// `steps_max`, and then in slices.
    fn serve_groups_of_letter(
        &mut self,
        (view, (from, sender), groups, hops): MessageOfLetter<'_>,
        (steps, steps_max): (&mut usize, usize),
        (sessions, connections): (&mut Sessions, &mut Connections),
        context: &mut Context,
        ports: &mut impl Ports,
    ) {
        let mut served = 0;
        for group in groups.iter() {
            if *steps > steps_max {
                let rest = groups.as_text()[served..].into();
                let scope = Scope::Here { subscribers: false, groups: rest, served: 0, hops };
                let (message, way) = ((view, None), (Some(from), sender, scope));
                return self.place_later(message, way, (sessions, connections), context, ports);
            }
            let mut delivery = self.groups(sessions, context);
            delivery.serve_group(view, group, hops, ports);
            let looks = delivery.looks();
            *steps += Steps::GROUP + looks;
            context.counters.other_steps += looks as u64;
            served += GroupKeys::len_of(group);
        }
    }

    #[inline]
    fn deliver_to_groups(
        &mut self,
        view: &MessageView<'_>,
        sessions: &mut Sessions,
        context: &mut Context,
        ports: &mut impl Ports,
    ) {
        for at in 0..self.interest.matched() {
            if !self.interest.groups(at).is_empty() {
                let mut delivery = self.groups(sessions, context);
                delivery.deliver_to_groups(at, view, ports);
                let looks = delivery.looks();
                context.counters.other_steps += looks as u64;
            }
        }
    }

    /// What gives messages to the members of share groups.
    fn groups<'a>(
        &'a mut self,
        sessions: &'a mut Sessions,
        context: &'a mut Context,
    ) -> GroupDelivery<'a> {
        let Router { orphans, interest, deliveries, forwarding, unfinished, .. } = self;
        let out = (deliveries, forwarding);
        GroupDelivery::new(orphans, interest, sessions, out, context, !unfinished.is_empty())
    }

    fn retain(
        &mut self,
        view: &MessageView<'_>,
        sessions: &Sessions,
        context: &mut Context,
    ) -> Option<Retention> {
        let publisher = view.publisher.and_then(|publisher| sessions.get(publisher));
        let source = publisher.and_then(|session| {
            context.rights.source_of(session.principal(), &context.rules.policy)
        });
        let maximum = context.retained_max();
        let now = (context.now, context.settings.wall_clock.time_of(context.now));
        let (retention, stored) = self.retained.change(view, source, now, maximum);
        context.counters.refused_retained += u64::from(stored.is_err());
        context.counters.other_steps += STEPS_OF_RETAINING;
        context.counters.dropped_expired += self.retained.take_expired();
        retention
    }

    /// Writes letters to the other shards that want the message. The publisher waits for those
    /// batches that are crowded now.
    fn forward(
        &mut self,
        view: &MessageView<'_>,
        (interested, retention): (ShardSet, Option<&Retention>),
        (publisher, connections): (Option<ConnectionId>, &mut Connections),
        context: &mut Context,
        ports: &mut impl Ports,
    ) {
        let recorder = &mut context.recorder;
        let crowded =
            self.forwarding.post(view, (interested, retention), publisher, recorder, ports);
        let Some(publisher) = publisher else { return };
        for shard in crowded.iter() {
            connections.owe_until_posted(publisher, shard, Answer::ReadOn, ports);
        }
    }
}

/// What sessions are owed.
impl Router {
    /// Sends to a connected session what it is owed, and eases the pressure that it causes.
    #[inline]
    pub(super) fn pump(
        &mut self,
        subscriber: SubscriberId,
        (sessions, connections): (&mut Sessions, &mut Connections),
        context: &mut Context,
        ports: &mut impl Ports,
    ) {
        let pumped = self.deliveries.pump(subscriber, sessions, &self.retained, context, ports);
        let Some(relieved) = pumped else { return };
        if relieved {
            self.resume_member(subscriber, sessions, context, ports);
        }
        self.deliveries.ease(subscriber, (sessions, connections), context, ports);
    }

    /// Patience with a subscriber may be at its end.
    pub(super) fn look_at_patience(
        &mut self,
        subscriber: SubscriberId,
        clients: (&mut Sessions, &mut Connections),
        context: &mut Context,
        ports: &mut impl Ports,
    ) {
        self.deliveries.look_at_patience(subscriber, clients, context, ports);
    }

    /// The connection of a session has ended: nobody waits for it any longer, and its share groups
    /// are told.
    pub(super) fn note_disconnected(
        &mut self,
        subscriber: SubscriberId,
        (sessions, connections): (&Sessions, &mut Connections),
        context: &mut Context,
        ports: &mut impl Ports,
    ) {
        self.deliveries.give_up(subscriber, connections, context, ports);
        self.set_members_online(subscriber, sessions, context, ports);
    }

    /// The next session with messages that were not sent before they were on disk, and are now.
    pub(super) fn next_durable(&mut self, mark: u64) -> Option<SubscriberId> {
        self.deliveries.next_durable(mark)
    }

    #[inline]
    pub(super) fn has_overrun(&self) -> bool {
        self.deliveries.has_overrun()
    }

    /// A connected session is to be disconnected because of its queue.
    pub(super) fn note_overrun(&mut self, subscriber: SubscriberId) {
        self.deliveries.note_overrun(subscriber);
    }

    /// Takes the connection of a client that is to be disconnected because its queue is full.
    pub(super) fn next_overrun(&mut self, sessions: &Sessions) -> Option<ConnectionId> {
        loop {
            let subscriber = self.deliveries.next_overrun()?;
            // The session may have been disconnected for an earlier delivery.
            let link = sessions.get(subscriber).and_then(Session::link);
            if let Some(link) = link {
                return Some(link.connection);
            }
        }
    }

    /// Brings some orphaned messages to other members. Returns the time until the next turn, if any
    /// are left.
    pub(super) fn redistribute(
        &mut self,
        sessions: &mut Sessions,
        context: &mut Context,
        ports: &mut impl Ports,
    ) -> Option<Span> {
        self.groups(sessions, context).redistribute(ports)
    }

    /// Removes some retained messages that have expired, and writes to the log what is due. Returns
    /// whether more have expired.
    pub(super) fn sweep(&mut self, context: &mut Context) -> bool {
        self.deliveries.notices_mut().report(context.now);
        let more = self.retained.sweep(context.now);
        context.counters.dropped_expired += self.retained.take_expired();
        more
    }
}

/// A message that came by a letter: the sender of the letter, the publisher, the share groups that
/// the message is for, and how often it was passed on.
type MessageOfLetter<'a> = (&'a MessageView<'a>, (ShardId, Option<Publisher>), GroupKeys<'a>, u8);

/// What it takes to store a retained message or to remove one: some microseconds.
const STEPS_OF_RETAINING: u64 = 8;
/// As many values of the broker's own take a slice of steps at once, if many want them.
const VALUES_PER_SLICE: usize = 64;

/// Subscriptions.
impl Router {
    /// Subscribes a session to one filter. Returns the number of the interest that its SUBACK waits
    /// for; 0 for none.
    pub(super) fn subscribe(
        &mut self,
        (text, subscription): (&str, Subscription<'_>),
        entry: Entry,
        sessions: &mut Sessions,
        context: &mut Context,
        ports: &mut impl Ports,
    ) -> Result<u64, Reason> {
        let limits = &context.rules.limits;
        if limits.is_too_deep(text) {
            return Err(Reason::FilterTooDeep);
        }
        if self.deliveries.replays_are_full(entry.subscriber) {
            return Err(Reason::ReplaysFull);
        }
        let session = sessions.of_connected_mut(entry.subscriber);
        if context.memory.scarcity().is_full()
            && !session.filters().contains(text)
            && !may_subscribe_more(session, text, context)
        {
            return Err(Reason::MemoryFull);
        }
        let is_new = session
            .subscribe(text, subscription, limits.filters(), context.settings.seed)
            .map_err(Reason::from)?;
        if is_new {
            context.count_subscription(text);
        }
        if let Subscription::Plain(filter) = subscription {
            self.deliveries.open_replay(filter, entry, is_new, &self.retained);
        }
        let options = (Granted::unpack(entry.options).options().to_bits(), entry.subscription_id);
        context.recorder.note_subscription(session, text, options, ports);
        let told_at = self.interest.subscribe(subscription, entry, ports);
        if let Subscription::Plain(filter) = subscription
            && is_new
        {
            let target = || self.interest.target(filter);
            self.placements.note_subscription(target, entry.subscriber);
        }
        Ok(told_at)
    }

    /// Ends one subscription of a session, if it has one with exactly this filter.
    /// [MQTT-3.10.4-1] [MQTT-3.10.4-2]
    pub(super) fn unsubscribe(
        &mut self,
        (text, subscription): (&str, Subscription<'_>),
        subscriber: SubscriberId,
        sessions: &mut Sessions,
        context: &mut Context,
        ports: &mut impl Ports,
    ) -> Result<(), Reason> {
        let seed = context.settings.seed;
        let session = sessions.of_connected_mut(subscriber);
        if !session.unsubscribe(text, subscription, seed) {
            return Err(Reason::NoSubscription);
        }
        context.recorder.note_unsubscribed(session, text, ports);
        self.deliveries.end_replay(subscriber, text);
        context.discount_subscription(text);
        self.interest.unsubscribe(subscription, subscriber, ports);
        Ok(())
    }
}

/// Whether the account of a session has less than its share of subscriptions. All of its sessions
/// are taken to have as many as this one.
#[cold]
fn may_subscribe_more(session: &Session, text: &str, context: &Context) -> bool {
    let account = session.principal().account();
    let filters = session.filters();
    let bytes = filters.len() * subscription_bytes(0) + 2 * filters.bytes();
    let of_each = bytes + subscription_bytes(text.len());
    let of_all = of_each.saturating_mul(account.held(Kind::Sessions).max(1));
    context.memory.has_share_of_subscriptions(of_all, account.sharers(Kind::Sessions))
}

#[cfg(test)]
mod tests;
