//! PUBLISH: the way of a message from its publisher to its receivers.
//!
//! The message is judged and its topic is matched once. Then it is delivered to sessions of this
//! shard, and one letter goes to each other shard that wants it.

use super::{
    Client, Shard, end::Cause, owed::Answer, ports::Ports, pressure::Publisher,
    retained::Retention, share::GroupDelivery,
};
use crate::{
    base::{ids::ConnectionId, time::Span},
    mqtt::{ProtocolError, Publish, ReasonCode},
    session::{
        inbound::Admission,
        message::{MessageView, Payload, shared_payload},
    },
    topic::TopicName,
};

impl Shard {
    pub(super) fn handle_publish(
        &mut self,
        client: Client,
        publish: &Publish<'_>,
        ports: &mut impl Ports,
    ) {
        self.context.counters.publishes_received += 1;
        let id = client.connection;
        if let Err(error) = self.connections.connected(id).check_publish(publish) {
            return self.refuse(id, error, ports);
        }
        let Some(alias) = publish.properties.topic_alias else {
            let topic = TopicName::from_valid(publish.topic);
            return self.admit(client, topic, publish, ports);
        };
        let mut topic = std::mem::take(&mut self.topic);
        topic.clear();
        topic.push_str(publish.topic);
        match self.connections.connected_mut(id).resolve_topic(alias, &mut topic) {
            Ok(()) => {
                let topic = TopicName::from_valid(&topic);
                self.admit(client, topic, publish, ports);
            }
            Err(cause) => {
                if let Cause::Refused(reason) = cause {
                    self.context.counters.count_refusal(reason);
                }
                self.end(id, cause, ports);
            }
        }
        self.topic = topic;
    }

    /// Decides whether the message is routed, and acknowledges it. [MQTT-4.3.2-4] [MQTT-4.3.3-8]
    fn admit(
        &mut self,
        client: Client,
        topic: TopicName<'_>,
        publish: &Publish<'_>,
        ports: &mut impl Ports,
    ) {
        let id = client.connection;
        let maximum = self.connections.connected(id).receive_maximum();
        let session = self.sessions.of_connected_mut(client.subscriber);
        let (seed, client_hash) = (self.context.settings.seed, session.client_hash());
        let reason_code =
            match session.inbound_mut().handle_publish(publish.delivery, maximum, seed) {
                Admission::QuotaExceeded => {
                    let error = ProtocolError::ReceiveMaximumExceeded;
                    return self.refuse(id, error, ports);
                }
                Admission::AcknowledgeOnly => ReasonCode::Success,
                Admission::Route => {
                    if let Err(reason) = self.judge_publish(id, topic, publish) {
                        let delivery = publish.delivery;
                        return self.refuse_message(client, delivery, reason, ports);
                    }
                    self.route_publish((client, client_hash), topic, publish, ports)
                }
            };
        self.connections.acknowledge(id, publish.delivery, reason_code, ports);
    }

    fn route_publish(
        &mut self,
        (client, client_hash): (Client, u32),
        topic: TopicName<'_>,
        publish: &Publish<'_>,
        ports: &mut impl Ports,
    ) -> ReasonCode {
        let mut application = std::mem::take(&mut self.application);
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
            publisher: Some(client.subscriber),
            publisher_hash: client_hash,
        };
        let matched = self.route(&view, Some(client.connection), ports);
        self.application = application;
        if matched { ReasonCode::Success } else { ReasonCode::NoMatchingSubscribers }
    }

    /// Brings a message to all of its receivers, on all shards. Returns whether there are any.
    pub(super) fn route(
        &mut self,
        view: &MessageView<'_>,
        connection: Option<ConnectionId>,
        ports: &mut impl Ports,
    ) -> bool {
        let retention = if view.retain { self.retain(view) } else { None };
        let update = retention.map(|_| self.retained.sequence());
        self.interest.find(view.topic);
        self.deliver_matches(view, update, ports);
        self.deliver_to_groups(view, ports);
        let matched = self.interest.is_wanted();
        self.forward(view, retention, connection, ports);
        let shard = self.context.settings.shard;
        let publisher = connection.map(|connection| Publisher { shard, connection });
        self.hold_for_crowded(publisher, ports);
        matched
    }

    /// Delivers to the sessions here whose filters have matched.
    pub(super) fn deliver_matches(
        &mut self,
        view: &MessageView<'_>,
        update: Option<u64>,
        ports: &mut impl Ports,
    ) {
        let to = (&self.interest, &mut self.sessions);
        self.deliveries.deliver_matches(view, update, to, &mut self.context, ports);
    }

    fn deliver_to_groups(&mut self, view: &MessageView<'_>, ports: &mut impl Ports) {
        for at in 0..self.interest.matched() {
            if !self.interest.groups(at).is_empty() {
                self.groups().deliver_to_groups(at, view, ports);
            }
        }
    }

    /// What gives messages to the members of share groups.
    pub(super) fn groups(&mut self) -> GroupDelivery<'_> {
        let out = (&mut self.deliveries, &mut self.forwarding);
        let Shard { orphans, interest, sessions, context, unfinished, .. } = self;
        GroupDelivery::new(orphans, interest, sessions, out, context, !unfinished.is_empty())
    }

    /// Makes a publisher wait for all subscribers that its last message crowded.
    #[inline]
    pub(super) fn hold_for_crowded(
        &mut self,
        publisher: Option<Publisher>,
        ports: &mut impl Ports,
    ) {
        if !self.deliveries.has_crowded() {
            return;
        }
        let clients = (&self.sessions, &mut self.connections);
        self.deliveries.hold_for_crowded(publisher, clients, &mut self.context, ports);
    }

    fn retain(&mut self, view: &MessageView<'_>) -> Option<Retention> {
        let maximum = self.context.rules.limits.retained();
        let now = (self.context.now, self.context.settings.wall_clock.time_of(self.context.now));
        let (retention, stored) = self.retained.change(view, now, maximum);
        self.context.counters.refused_retained += u64::from(stored.is_err());
        self.context.counters.dropped_expired += self.retained.take_expired();
        retention
    }

    /// Writes letters to the other shards that want the message. The publisher waits for those
    /// batches that are crowded now.
    fn forward(
        &mut self,
        view: &MessageView<'_>,
        retention: Option<Retention>,
        connection: Option<ConnectionId>,
        ports: &mut impl Ports,
    ) {
        let interested = self.interest.shards();
        let crowded = self.forwarding.post(view, interested, retention, connection, ports);
        if let Some(connection) = connection.filter(|_| !crowded.is_empty()) {
            for shard in crowded.iter() {
                self.connections.owe_until_posted(connection, shard, Answer::ReadOn, ports);
            }
        }
    }
}
