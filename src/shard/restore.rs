//! What a shard begins with when an earlier process has left something in the store.
//!
//! ```text
//!   storage::Restored --redo--> Restoration --restore--> sessions, interest, retained messages
//! ```
//! [`Restoration`] is made once for all shards. Each shard takes the sessions that are at home
//! there now, however many shards there were before, and all retained messages.

mod redo;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU64,
    rc::Rc,
    sync::Arc,
};

pub use self::redo::redo;
use super::{Shard, context::Context, granted::Granted, ports::Ports, retained::Retention};
use crate::{
    access::Principal,
    base::{
        byte_count::ByteCount,
        hash::{Map, Seed},
        ids::{ShardId, SubscriberId},
        time::{Moment, Span, WallClock, WallTime},
    },
    mqtt::{PacketId, SubscriptionOptions},
    routing::{Change, Entry, Stamp},
    session::{
        filters::FiltersMax,
        message::{CountedMessage, Message, MessageView, Payload, shared_payload},
        ordinals::Ordinal,
        queue::{QueueLimits, QueuedMessage},
        will::Will,
    },
    storage::{
        MessageId, MessageRecord, Record, RefRecord, Restored, RestoredSession, SessionRecord,
        WillRecord,
    },
    topic::{GroupName, Subscription, TopicName},
};

/// The state that the shards begin with.
#[derive(Debug, Default)]
pub struct Restoration {
    sessions: Vec<RestoredSession>,
    messages: Vec<crate::storage::Kept>,
    retained: Vec<Retention>,
}

impl Restoration {
    /// The state of which all shards take their part. The retained messages share their memory.
    pub fn new(restored: Restored, clock: WallClock) -> Restoration {
        let Restored { sessions, messages, retained, .. } = restored;
        let retained = {
            let bodies = bodies_of(&messages, Seed::new(0));
            let changes =
                retained.iter().filter_map(|it| change_of(&it.record.record(), &bodies, clock));
            changes.map(Arc::new).collect()
        };
        Restoration { sessions, messages, retained }
    }
}

type Bodies<'a> = Map<MessageId, MessageRecord<'a>>;

fn bodies_of(messages: &[crate::storage::Kept], seed: Seed) -> Bodies<'_> {
    let mut bodies = Map::with_hasher(seed);
    for kept in messages {
        if let Record::Message(message) = kept.record() {
            bodies.insert(message.id, message);
        }
    }
    bodies
}

/// The message as it was, from a record of it.
fn view_of<'a>(record: &MessageRecord<'a>, clock: WallClock) -> MessageView<'a> {
    MessageView {
        topic: TopicName::from_valid(record.topic),
        application: record.application,
        payload: Payload::Small(record.payload),
        qos: record.qos,
        retain: record.retain,
        expires_at: record.expires_at.map(|at| clock.moment_of(at)),
        publisher: None,
        publisher_hash: record.publisher_hash,
    }
}

fn change_of(
    record: &Record<'_>,
    bodies: &Bodies<'_>,
    clock: WallClock,
) -> Option<Change<Message>> {
    let Record::Retain(record) = record else { return None };
    let message = record.message.and_then(|id| bodies.get(&id));
    let message = message.map(|body| keep(&view_of(body, clock)));
    let shard = ShardId::new(usize::from(record.stamp.shard))?;
    let stamp = Stamp { time: record.stamp.time, shard };
    Some(Change::new(TopicName::from_valid(record.topic), message, stamp))
}

fn keep(view: &MessageView<'_>) -> Message {
    let shared = shared_payload(view.payload.as_slice(), bytes::Bytes::copy_from_slice);
    let payload = shared.as_ref().map_or(view.payload, Payload::Shared);
    Message::keep(&MessageView { payload, ..*view })
}

/// Restored sessions keep all that they had, whatever the limits are now.
const NO_MAXIMUM: FiltersMax =
    FiltersMax { count: usize::MAX, bytes: usize::MAX, patterns: usize::MAX };

impl Shard {
    /// The shard begins with its part of this when it is started.
    pub fn begin_with(&mut self, restoration: Arc<Restoration>) {
        self.restoration = Some(restoration);
    }

    /// Takes the part of this shard of what an earlier process has left.
    pub(super) fn restore(&mut self, ports: &mut impl Ports) {
        let Some(restoration) = self.restoration.take() else { return };
        for change in &restoration.retained {
            self.router.retained_mut().apply(change);
        }
        let mut messages = Messages {
            bodies: bodies_of(&restoration.messages, self.context.settings.seed),
            kept: Map::with_hasher(self.context.settings.seed),
            clock: self.context.settings.wall_clock,
        };
        for restored in &restoration.sessions {
            let Record::Session(terms) = restored.terms.record() else { continue };
            if self.context.settings.home(terms.client_id) == self.context.settings.shard {
                self.restore_session(restored, &terms, &mut messages, ports);
            }
        }
    }

    fn restore_session(
        &mut self,
        restored: &RestoredSession,
        terms: &SessionRecord<'_>,
        messages: &mut Messages<'_>,
        ports: &mut impl Ports,
    ) {
        let Some(number) = NonZeroU64::new(restored.number.0) else { return };
        let subscriber = self.begin_restored(terms);
        let session = self.sessions.of_connected_mut(subscriber);
        session.begin_storing(number, restored.next_ordinal.max(Ordinal::FIRST));
        self.context.recorder.count_lasting();
        let absence = Absence::of(restored, terms, &self.context);
        let will = absence.will.map(|due| will_of(terms.will, due, &self.context.memory.wills));
        session.set_terms(terms.expiry_interval, will.flatten());
        session.set_absent(absence.ends_at);
        for packet_id in restored.holds.iter().filter_map(|&id| PacketId::new(id)) {
            let held = (self.context.settings.seed, &self.context.memory.identifiers);
            session.inbound_mut().restore(packet_id, held);
        }
        if restored.disconnected.is_none() {
            self.context.recorder.note_absence(session, self.context.now, ports);
        }
        self.restore_messages(subscriber, restored, messages, ports);
        self.restore_subscriptions(subscriber, restored, ports);
        if !self.look_at_absent(subscriber, ports) {
            self.sessions.note_absent(subscriber);
        }
    }

    fn begin_restored(&mut self, terms: &SessionRecord<'_>) -> SubscriberId {
        let peer = terms.peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let accounts = &self.context.settings.accounts;
        let stranger = Principal::stranger(0, SocketAddr::new(peer, 0), accounts).restored();
        let principal = Rc::new(stranger.named(terms.client_id, terms.user, accounts));
        self.context.rights.note_restored();
        // Sessions that were there are let in whatever the limit is now.
        self.context.settings.sessions.try_add(usize::MAX);
        self.sessions.create(principal)
    }

    fn restore_messages(
        &mut self,
        subscriber: SubscriberId,
        restored: &RestoredSession,
        messages: &mut Messages<'_>,
        ports: &mut impl Ports,
    ) {
        let Context { now, recorder, rules, counters, .. } = &mut self.context;
        let session = self.sessions.of_connected_mut(subscriber);
        // So many were in flight at the most. It is not known which of them were sent.
        let window = rules.limits.inflight_max;
        session.outbound_mut().connect(window);
        for kept in &restored.refs {
            let reference = match kept.record() {
                Record::Released { ordinal, .. } => {
                    session.outbound_mut().restore_released(Ordinal::new(ordinal));
                    continue;
                }
                Record::Ref(reference) => reference,
                _ => continue,
            };
            let ordinal = Ordinal::new(reference.ordinal);
            let count = self.router.kept_count();
            let queued = messages.queued(&reference, ordinal, count);
            let Some(queued) = queued.filter(|it| !it.message.has_expired(*now)) else {
                recorder.note_ack(session, ordinal, ports);
                continue;
            };
            let outbound = session.outbound_mut();
            let may_be_sent = outbound.queue.is_empty()
                && outbound.has_room()
                && outbound.is_free(ordinal.packet_id());
            if may_be_sent {
                outbound.restore_sent(queued);
            } else if outbound.queue.push(queued, *now, &QueueLimits::NONE).is_ok() {
                counters.note_queue(0, 1);
            }
        }
        session.outbound_mut().connect(window);
    }

    fn restore_subscriptions(
        &mut self,
        subscriber: SubscriberId,
        restored: &RestoredSession,
        ports: &mut impl Ports,
    ) {
        for kept in &restored.subscriptions {
            let Record::Subscription { filter, options, subscription_id, .. } = kept.record()
            else {
                continue;
            };
            let Ok(subscription) = Subscription::parse(filter) else { continue };
            let Ok(options) = SubscriptionOptions::from_bits(options) else { continue };
            let session = self.sessions.of_connected_mut(subscriber);
            let seed = self.context.settings.seed;
            if session.subscribe(filter, subscription, NO_MAXIMUM, seed) == Ok(true) {
                self.context.count_subscription(filter);
            }
            // The rights may have changed, so that each message is looked at.
            let options = Granted::new(options, true).pack();
            let subscription_id = subscription_id.unwrap_or(0);
            let entry = Entry { subscriber, options, subscription_id };
            self.router.interest_mut().subscribe(subscription, entry, ports);
        }
        self.router.set_members_online(subscriber, &self.sessions, &self.context, ports);
    }
}

/// Since when the client of a restored session is away, and what follows from that.
struct Absence {
    ends_at: Option<Moment>,
    /// When its Will is due, if it waits.
    will: Option<Moment>,
}

impl Absence {
    /// Times go on while the broker is down. A client that was connected counts as disconnected
    /// since now. Wills wait for the grace at each start: nobody could come back before.
    fn of(restored: &RestoredSession, terms: &SessionRecord<'_>, context: &Context) -> Absence {
        let (clock, now) = (context.settings.wall_clock, context.now);
        let grace = context.settings.store.as_ref().map_or(Span::ZERO, |store| store.will_grace);
        let delay = u64::from(terms.will.map_or(0, |will| will.delay));
        let after = |at: WallTime, secs: u64| {
            let nanos = at.as_nanos().saturating_add(Span::from_secs(secs).as_nanos());
            clock.moment_of(WallTime::from_nanos(nanos))
        };
        let connected = || (clock.time_of(now), Some(now + grace.max(Span::from_secs(delay))));
        let due = |at: WallTime| after(at, delay).max(now + grace);
        let (since, will) = restored
            .disconnected
            .map_or_else(connected, |(at, keeps_will)| (at, keeps_will.then(|| due(at))));
        let lasts = (terms.expiry_interval != u32::MAX).then(|| terms.expiry_interval.into());
        Absence { ends_at: lasts.map(|secs| after(since, secs)), will }
    }
}

fn will_of(record: Option<WillRecord<'_>>, due_at: Moment, wills: &ByteCount) -> Option<Box<Will>> {
    let record = record?;
    let view = MessageView {
        topic: TopicName::from_valid(record.topic),
        application: record.application,
        payload: Payload::Small(record.payload),
        qos: record.qos,
        retain: record.retain,
        expires_at: None,
        publisher: None,
        publisher_hash: 0,
    };
    Some(Box::new(Will {
        message: Rc::new(CountedMessage::keep(&view, wills)),
        delay: Span::from_secs(record.delay.into()),
        message_expiry: record.message_expiry.map(|secs| Span::from_secs(secs.into())),
        due_at: Some(due_at),
    }))
}

/// The messages of restored sessions, each in memory once on a shard.
struct Messages<'a> {
    bodies: Bodies<'a>,
    kept: Map<MessageId, Rc<CountedMessage>>,
    clock: WallClock,
}

impl Messages<'_> {
    fn queued(
        &mut self,
        reference: &RefRecord<'_>,
        ordinal: Ordinal,
        count: &ByteCount,
    ) -> Option<QueuedMessage> {
        let body = self.bodies.get(&reference.message)?;
        let clock = self.clock;
        let message = self.kept.entry(reference.message).or_insert_with(|| {
            let view = view_of(body, clock);
            let shared = shared_payload(view.payload.as_slice(), bytes::Bytes::copy_from_slice);
            let payload = shared.as_ref().map_or(view.payload, Payload::Shared);
            Rc::new(CountedMessage::keep(&MessageView { payload, ..view }, count))
        });
        let ids: Vec<u32> = reference.subscription_ids.iter().collect();
        Some(QueuedMessage {
            message: Rc::clone(message),
            qos: reference.qos,
            retain: reference.retain,
            subscription_ids: (!ids.is_empty()).then(|| ids.into()),
            group: reference.group.and_then(group_of),
            ordinal,
        })
    }
}

/// The share group that a record names.
fn group_of(name: &str) -> Option<Rc<GroupName>> {
    match Subscription::parse(&format!("$share/{name}")) {
        Ok(Subscription::Shared(shared)) => Some(Rc::new(shared.into())),
        _ => None,
    }
}
