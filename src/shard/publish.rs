//! A message's way from its publisher to everyone it is for.
//!
//! Decode, authorise, match the local trie once; then local sessions, and one letter for each
//! other shard that wants it.

use super::{
    Shard,
    context::Context,
    deliver::{Fanout, Means},
    end::Cause,
    granted::Granted,
    interest::Interest,
    letter::{Address, GroupKeys},
    owed::Answer,
    ports::Ports,
    pressure::Publisher,
    retained::Retention,
};
use crate::{
    base::{
        hash::{Map, Seed},
        ids::{ConnectionId, ShardId, ShardSet, SubscriberId},
        time::Span,
    },
    mqtt::{ProtocolError, Publish, ReasonCode},
    session::{
        Session,
        inbound::Admission,
        message::{MessageView, Payload, shared_payload},
        sessions::Sessions,
    },
    topic::TopicName,
};

/// Who gets the message that is being routed. The memory is used again.
#[derive(Debug)]
pub(super) struct Routes {
    /// The number of the update that the message has made of the retained messages here, if any.
    update: Option<u64>,
    /// Receivers when several filters matched, each session once.
    receivers: Vec<Receiver>,
    place_of: Map<SubscriberId, usize>,
    /// The share groups that each other shard is to serve, and which shards have any.
    pub(super) group_keys: Vec<String>,
    pub(super) group_shards: ShardSet,
    topic: String,
    application: Vec<u8>,
}

/// One session that a message is for, by one or more subscriptions.
#[derive(Debug)]
struct Receiver {
    subscriber: SubscriberId,
    granted: Granted,
    /// The Subscription Identifiers of all of them; mostly none or one.
    ids: Vec<u32>,
}

impl Routes {
    pub(super) fn new(seed: Seed, shards: usize) -> Routes {
        Routes {
            update: None,
            receivers: Vec::new(),
            place_of: Map::with_hasher(seed),
            group_keys: vec![String::new(); shards],
            group_shards: ShardSet::EMPTY,
            topic: String::new(),
            application: Vec::new(),
        }
    }

    /// Collects the receivers of all matching filters, each session once.
    fn join_receivers(&mut self, interest: &Interest, sessions: &Sessions, view: &MessageView<'_>) {
        self.place_of.clear();
        for index in 0..interest.matched() {
            for entry in interest.subscribers(index) {
                let granted = Granted::unpack(entry.options);
                // [MQTT-3.8.3-3]
                if granted.no_local() && view.publisher == Some(entry.subscriber) {
                    continue;
                }
                let principal = || sessions.get(entry.subscriber).map(Session::principal);
                if granted.is_partly()
                    && !principal().is_some_and(|principal| granted.admits(principal, view.topic))
                {
                    continue;
                }
                let receivers = &mut self.receivers;
                let place = *self.place_of.entry(entry.subscriber).or_insert(receivers.len());
                if place == receivers.len() {
                    receivers.push(Receiver::new(entry.subscriber, granted));
                }
                receivers[place].join(granted, entry.subscription_id);
            }
        }
    }
}

impl Receiver {
    fn new(subscriber: SubscriberId, granted: Granted) -> Receiver {
        Receiver { subscriber, granted, ids: Vec::new() }
    }

    /// The highest QoS of all subscriptions, and all their identifiers. [MQTT-3.3.4-2]
    /// [MQTT-3.3.4-3]
    fn join(&mut self, granted: Granted, subscription_id: u32) {
        self.granted = self.granted.join(granted);
        if subscription_id != 0 {
            self.ids.push(subscription_id);
        }
    }
}

impl Shard {
    pub(super) fn handle_publish(
        &mut self,
        id: ConnectionId,
        subscriber: SubscriberId,
        publish: &Publish<'_>,
        ports: &mut impl Ports,
    ) {
        self.context.counters.messages_received += 1;
        if !publish.properties.subscription_identifiers.is_empty() {
            // [MQTT-3.3.4-6]
            let error = ProtocolError::SubscriptionIdentifierFromClient;
            return self.refuse_packet(id, error, ports);
        }
        let (qos, retain) = (publish.delivery.qos(), publish.retain);
        let rules = self.connections.connected(id).rules();
        if let Err(error) = rules.offer.check_message(qos, retain) {
            return self.refuse_packet(id, error, ports);
        }
        let Some(alias) = publish.properties.topic_alias else {
            let topic = TopicName::from_valid(publish.topic);
            return self.admit(id, subscriber, topic, publish, ports);
        };
        let mut topic = std::mem::take(&mut self.routes.topic);
        topic.clear();
        topic.push_str(publish.topic);
        match self.connections.connected_mut(id).resolve_topic(alias, &mut topic) {
            Ok(()) => {
                let topic = TopicName::from_valid(&topic);
                self.admit(id, subscriber, topic, publish, ports);
            }
            Err(cause) => {
                if let Cause::Refused(reason) = cause {
                    self.context.counters.count_refusal(reason);
                }
                self.end(id, cause, ports);
            }
        }
        self.routes.topic = topic;
    }

    /// Decides whether the message is routed, and acknowledges it. [MQTT-4.3.2-4] [MQTT-4.3.3-8]
    fn admit(
        &mut self,
        id: ConnectionId,
        subscriber: SubscriberId,
        topic: TopicName<'_>,
        publish: &Publish<'_>,
        ports: &mut impl Ports,
    ) {
        let maximum = self.connections.connected(id).receive_maximum();
        let session = self.sessions.of_connected_mut(subscriber);
        let (seed, client_hash) = (self.context.settings.seed, session.client_hash());
        let reason_code =
            match session.inbound_mut().handle_publish(publish.delivery, maximum, seed) {
                Admission::QuotaExceeded => {
                    let error = ProtocolError::ReceiveMaximumExceeded;
                    return self.refuse_packet(id, error, ports);
                }
                Admission::AcknowledgeOnly => ReasonCode::Success,
                Admission::Route => {
                    if let Err(reason) = self.judge_publish(id, topic, publish) {
                        let delivery = publish.delivery;
                        return self.refuse_message(id, subscriber, delivery, reason, ports);
                    }
                    let publisher = (id, subscriber, client_hash);
                    self.route_publish(publisher, topic, publish, ports)
                }
            };
        self.connections.acknowledge(id, publish.delivery, reason_code, ports);
    }

    fn route_publish(
        &mut self,
        (id, subscriber, client_hash): (ConnectionId, SubscriberId, u32),
        topic: TopicName<'_>,
        publish: &Publish<'_>,
        ports: &mut impl Ports,
    ) -> ReasonCode {
        let mut application = std::mem::take(&mut self.routes.application);
        application.clear();
        if !publish.properties.application.is_empty() {
            publish.properties.application.encode(&mut application);
        }
        let shared = shared_payload(publish.payload, |payload| ports.share(payload));
        let payload = shared.as_ref().map_or(Payload::Small(publish.payload), Payload::Shared);
        let expiry = publish.properties.message_expiry_interval;
        let view = MessageView {
            topic,
            application: &application,
            payload,
            qos: publish.delivery.qos(),
            retain: publish.retain,
            expires_at: expiry
                .map(|seconds| self.context.now + Span::from_secs(u64::from(seconds))),
            publisher: Some(subscriber),
            publisher_hash: client_hash,
        };
        let matched = self.route(&view, Some(id), ports);
        self.routes.application = application;
        if matched { ReasonCode::Success } else { ReasonCode::NoMatchingSubscribers }
    }

    /// Brings a message to everyone it is for, on all shards. Says whether there is anyone.
    pub(super) fn route(
        &mut self,
        view: &MessageView<'_>,
        connection: Option<ConnectionId>,
        ports: &mut impl Ports,
    ) -> bool {
        let retention = if view.retain { self.retain(view) } else { None };
        self.interest.find(view.topic);
        self.deliver_matches(view, ports);
        self.deliver_to_groups(view, ports);
        let matched = self.interest.is_wanted();
        self.post_message(view, retention, connection, ports);
        let shard = self.context.settings.shard;
        let publisher = connection.map(|connection| Publisher { shard, connection });
        self.hold_for_crowded(publisher, ports);
        matched
    }

    fn retain(&mut self, view: &MessageView<'_>) -> Option<Retention> {
        let maximum = self.context.rules.limits.retained();
        let now = (self.context.now, self.context.settings.wall_clock.time_of(self.context.now));
        let (retention, stored) = self.retained.change(view, now, maximum);
        self.context.counters.refused_retained += u64::from(stored.is_err());
        self.context.counters.dropped_expired += self.retained.take_expired();
        self.routes.update = retention.map(|_| self.retained.sequence());
        retention
    }

    /// One letter for each other shard that the message is for. What changes a retained message
    /// is for all of them.
    fn post_message(
        &mut self,
        view: &MessageView<'_>,
        retention: Option<Retention>,
        connection: Option<ConnectionId>,
        ports: &mut impl Ports,
    ) {
        let interested = self.interest.shards();
        let mut shards = interested.union(self.routes.group_shards);
        if retention.is_some() {
            self.context.settings.peers().for_each(|peer| shards.insert(peer));
        }
        for shard in shards.iter() {
            let keys = &mut self.routes.group_keys[shard.index()];
            let address = Address {
                to_subscribers: retention.is_some() || interested.contains(shard),
                groups: GroupKeys::from_text(keys),
                retained_at: retention.map(|retention| retention.time),
                removes_retained: retention.is_some_and(|retention| retention.removes),
                publisher: connection,
                hops: 0,
            };
            let letters = ports.letters(shard);
            letters.push_publish(view, &address);
            keys.clear();
            if letters.is_crowded()
                && let Some(connection) = connection
            {
                self.connections.owe_until_posted(connection, shard, Answer::ReadOn, ports);
            }
        }
        self.routes.group_shards = ShardSet::EMPTY;
    }

    /// Takes note of a change of a retained message that another shard has told of.
    pub(super) fn retain_as_told(
        &mut self,
        view: &MessageView<'_>,
        retention: Retention,
        by: ShardId,
    ) {
        let applied = self.retained.apply(view, retention, by);
        self.routes.update = applied.then(|| self.retained.sequence());
    }

    /// Delivers to the sessions here whose filters matched, once to each, however many of its
    /// filters did. [MQTT-3.3.5-1@3.1.1]
    pub(super) fn deliver_matches(&mut self, view: &MessageView<'_>, ports: &mut impl Ports) {
        let Shard { interest, routes, sessions, buffers, pressure, context, .. } = self;
        let Context { rules, counters, .. } = context;
        let update = routes.update.take().filter(|_| !self.replays.is_empty());
        if interest.matched() == 0 {
            return;
        }
        if let Some(publisher) = view.publisher.filter(|_| update.is_some())
            && let Some(replays) = self.replays.of(publisher)
        {
            // By No Local it may not be for the publisher: then nothing of it is missed.
            replays.missed.end_ranges();
        }
        let means = Means { now: context.now, limits: &rules.limits, buffers, pressure, counters };
        let mut fanout = Fanout::new(view, means, ports);
        if let Some(update) = update {
            fanout = fanout.of_update(update, &mut self.replays);
        }
        if interest.matched() == 1 {
            for entry in interest.subscribers(0) {
                let granted = Granted::unpack(entry.options);
                if let Some(session) = sessions.get_mut(entry.subscriber)
                    && granted.admits(session.principal(), view.topic)
                {
                    let id = [entry.subscription_id];
                    let ids = if entry.subscription_id == 0 { &[][..] } else { &id };
                    fanout.deliver(entry.subscriber, session, granted, ids);
                }
            }
            return;
        }
        routes.join_receivers(interest, sessions, view);
        for receiver in routes.receivers.drain(..) {
            if let Some(session) = sessions.get_mut(receiver.subscriber) {
                fanout.deliver(receiver.subscriber, session, receiver.granted, &receiver.ids);
            }
        }
    }
}
