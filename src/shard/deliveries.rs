//! Messages on their way to the sessions of a shard: which sessions get a message, what is sent or
//! queued, and which publishers wait for which subscribers.
//!
//! The shard lends it sessions and connections. Knows neither where a message comes from nor how
//! clients connect and disconnect.

mod audience;
mod hold_back;
mod pump;
mod receivers;

pub(super) use self::audience::{Audience, Placed};
use self::receivers::Receivers;
use super::{
    context::Context,
    deliver::{DeliveryBuffers, Fanout, Means},
    granted::Granted,
    interest::Interest,
    notices::Notices,
    ports::Ports,
    pressure::Pressure,
    replays::{Replay, Replays, SessionReplays},
    retained::Retained,
};
use crate::{
    base::{byte_count::ByteCount, hash::Seed, ids::SubscriberId},
    mqtt::RetainHandling,
    routing::Entry,
    session::{Session, message::MessageView, sessions::Sessions},
    topic::TopicFilter,
};

/// The deliveries of a shard.
#[derive(Debug)]
pub(super) struct Deliveries {
    buffers: DeliveryBuffers,
    pressure: Pressure,
    replays: Replays,
    receivers: Receivers,
    /// Memory for a PUBREL that is sent again, reused for each one.
    pubrel: Vec<u8>,
}

impl Deliveries {
    pub(super) fn new(seed: Seed) -> Deliveries {
        Deliveries {
            buffers: DeliveryBuffers::new(seed),
            pressure: Pressure::new(seed),
            replays: Replays::new(seed),
            receivers: Receivers::new(seed),
            pubrel: Vec::new(),
        }
    }

    /// Delivers to the sessions here whose filters matched, once to each, however many of its
    /// filters did. `update` is the number of the update that the message has made of the retained
    /// messages, if any. [MQTT-3.3.5-1@3.1.1]
    #[inline]
    pub(super) fn deliver_matches(
        &mut self,
        view: &MessageView<'_>,
        update: Option<u64>,
        (interest, sessions): (&Interest, &mut Sessions),
        context: &mut Context,
        ports: &mut impl Ports,
    ) {
        if interest.matched() == 0 {
            return;
        }
        let Deliveries { buffers, pressure, replays, receivers, .. } = self;
        let update = update.filter(|_| !replays.is_empty());
        if let Some(publisher) = view.publisher.filter(|_| update.is_some())
            && let Some(replays) = replays.of(publisher)
        {
            // With No Local the message may not be for its publisher, who then misses nothing.
            replays.missed.end_ranges();
        }
        if interest.matched() > 1 {
            receivers.clear();
            for index in 0..interest.matched() {
                let rights = (&mut context.rights, &mut context.counters);
                receivers.join(interest.subscribers(index), sessions, view, rights);
            }
        }
        let means = Means::new(context, buffers, pressure);
        let mut fanout = Fanout::new(view, means, ports);
        if let Some(update) = update {
            fanout = fanout.of_update(update, replays);
        }
        if interest.matched() == 1 {
            for entry in interest.subscribers(0) {
                let granted = Granted::unpack(entry.options);
                if let Some(session) = sessions.get_mut(entry.subscriber) {
                    let id = [entry.subscription_id];
                    let ids = if entry.subscription_id == 0 { &[][..] } else { &id };
                    fanout.deliver(entry.subscriber, session, granted, ids);
                }
            }
            return;
        }
        for receiver in receivers.drain() {
            if let Some(session) = sessions.get_mut(receiver.subscriber) {
                fanout.deliver(receiver.subscriber, session, receiver.granted, &receiver.ids);
            }
        }
    }

    /// Delivers to one session, if its filters are among those that matched.
    pub(super) fn deliver_to(
        &mut self,
        subscriber: SubscriberId,
        view: &MessageView<'_>,
        (interest, sessions): (&Interest, &mut Sessions),
        context: &mut Context,
        ports: &mut impl Ports,
    ) {
        let Deliveries { buffers, pressure, receivers, .. } = self;
        receivers.clear();
        for index in 0..interest.matched() {
            let own = interest.subscribers(index).iter().copied();
            let own: Vec<Entry> = own.filter(|entry| entry.subscriber == subscriber).collect();
            let rights = (&mut context.rights, &mut context.counters);
            receivers.join(&own, sessions, view, rights);
        }
        let means = Means::new(context, buffers, pressure);
        let mut fanout = Fanout::new(view, means, ports);
        for receiver in receivers.drain() {
            if let Some(session) = sessions.get_mut(receiver.subscriber) {
                fanout.deliver(receiver.subscriber, session, receiver.granted, &receiver.ids);
            }
        }
    }

    /// The message of an update of the retained messages comes to its receivers over several turns.
    pub(super) fn note_split(&mut self, update: u64) {
        self.replays.note_split(update);
    }

    /// One message, to be offered to sessions of the caller's choice.
    pub(super) fn fanout<'a, P: Ports>(
        &'a mut self,
        view: &MessageView<'a>,
        context: &'a mut Context,
        ports: &'a mut P,
    ) -> Fanout<'a, P> {
        let Deliveries { buffers, pressure, .. } = self;
        let means = Means::new(context, buffers, pressure);
        Fanout::new(view, means, ports)
    }

    /// A connected session is to be disconnected because its queue is full.
    pub(super) fn note_overrun(&mut self, subscriber: SubscriberId) {
        self.buffers.note_overrun(subscriber);
    }

    /// The next session with messages that were not sent before they were on disk, and are now.
    pub(super) fn next_durable(&mut self, mark: u64) -> Option<SubscriberId> {
        self.buffers.next_durable(mark)
    }

    #[inline]
    pub(super) fn has_overrun(&self) -> bool {
        self.buffers.has_overrun()
    }

    /// The next connected session that is to be disconnected because its queue is full.
    pub(super) fn next_overrun(&mut self) -> Option<SubscriberId> {
        self.buffers.next_overrun()
    }

    pub(super) fn notices_mut(&mut self) -> &mut Notices {
        self.buffers.notices_mut()
    }

    /// The memory of messages that are queued or in flight.
    pub(super) fn kept(&self) -> &ByteCount {
        self.buffers.kept()
    }

    /// How many messages were dropped for a session, as far as is remembered.
    pub(super) fn dropped(&self, subscriber: SubscriberId, session: &Session) -> u64 {
        self.buffers.drops().of(subscriber, session)
    }

    /// Whether publishers are held back for a session.
    pub(super) fn is_pressing(&self, subscriber: SubscriberId) -> bool {
        self.pressure.is_pressing(subscriber)
    }
}

/// The retained messages that subscriptions have asked for.
impl Deliveries {
    /// Begins to replay the retained messages that the subscription asks for, or changes the replay
    /// of the subscription that it replaces.
    /// [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]
    pub(super) fn open_replay(
        &mut self,
        filter: TopicFilter<'_>,
        entry: Entry,
        is_new: bool,
        retained: &Retained,
    ) {
        let granted = Granted::unpack(entry.options);
        let (options, is_partly) = (granted.options(), granted.is_partly());
        let wanted = match options.retain_handling {
            RetainHandling::SendAtSubscribe => true,
            RetainHandling::SendIfNew => is_new,
            RetainHandling::DoNotSend => false,
        };
        if let Some(mut cursor) = retained.open(filter).filter(|_| wanted) {
            cursor.set_no_local(options.no_local, retained.sequence());
            let subscription_id = entry.subscription_id;
            let replay = Replay { cursor, qos: options.qos, subscription_id, is_partly };
            self.replays.begin(entry.subscriber, replay);
        } else if let Some(replays) = self.replays.of(entry.subscriber) {
            let identifier = entry.subscription_id;
            replays.replace(filter.as_str(), options, identifier, retained.sequence());
        }
    }

    /// Whether a session waits for the replays of as many subscriptions as it may.
    pub(super) fn replays_are_full(&self, subscriber: SubscriberId) -> bool {
        self.replays.are_full(subscriber)
    }

    pub(super) fn has_replays(&self, subscriber: SubscriberId) -> bool {
        self.replays.has_any(subscriber)
    }

    /// A subscription of a session has ended.
    pub(super) fn end_replay(&mut self, subscriber: SubscriberId, filter: &str) {
        self.replays.end(subscriber, filter);
    }

    /// The session has ended. Returns the rest of its replays, which the caller drops in slices.
    pub(super) fn take_replays(&mut self, subscriber: SubscriberId) -> Option<SessionReplays> {
        debug_assert!(!self.is_pressing(subscriber), "its connection ended before it");
        self.replays.take(subscriber)
    }
}

#[cfg(test)]
pub(super) mod tests;
