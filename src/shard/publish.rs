//! PUBLISH: the way of a message from its publisher to its receivers.
//!
//! The message is judged and its topic is matched once. Then it is delivered to sessions of this
//! shard, and one letter goes to each other shard that wants it.

use super::{Client, Shard, end::Cause, judge::judge_publish, ports::Ports};
use crate::{
    access::topics,
    base::{ids::ConnectionId, time::Span},
    mqtt::{Delivery, ProtocolError, Publish, ReasonCode},
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
        let room = self.context.memory.alias_room();
        match self.connections.connected_mut(id).resolve_topic(alias, &mut topic, room) {
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
        self.context.recorder.begin_packet();
        let connection = self.connections.connected(id);
        let maximum = connection.receive_maximum();
        let session = self.sessions.of_connected_mut(client.subscriber);
        let client_hash = session.client_hash();
        let held = (self.context.settings.seed, &self.context.memory.identifiers);
        let reason_code =
            match session.inbound_mut().handle_publish(publish.delivery, maximum, held) {
                Admission::QuotaExceeded => {
                    let error = ProtocolError::ReceiveMaximumExceeded;
                    return self.refuse(id, error, ports);
                }
                Admission::AcknowledgeOnly => ReasonCode::Success,
                Admission::Route => {
                    let message = (topic, publish.delivery);
                    let way = || (publish.delivery.qos(), publish.retain);
                    let permitted = self.context.rights.judge_publish(session, topic, way);
                    if let Err(reason) = permitted {
                        return self.refuse_message(client, message, reason, ports);
                    }
                    if topics::is_control(topic) {
                        let taken = self.take_commands(client, topic, publish.payload);
                        if let Err(reason) = taken {
                            return self.refuse_message(client, message, reason, ports);
                        }
                        let delivery = (publish.delivery, 0);
                        let success = ReasonCode::Success;
                        return self.connections.acknowledge(id, delivery, success, ports);
                    }
                    let (retained, context) = (self.router.retained_mut(), &self.context);
                    let judged = judge_publish(connection, topic, publish, retained, context);
                    if let Err(reason) = judged {
                        return self.refuse_message(client, message, reason, ports);
                    }
                    self.route_publish((client, client_hash), topic, publish, ports)
                }
            };
        let mark = self.context.recorder.take_promise();
        if mark > 0 {
            return self.acknowledge_recorded(client, (publish.delivery, mark), reason_code, ports);
        }
        self.connections.acknowledge(id, (publish.delivery, 0), reason_code, ports);
    }

    /// Acknowledges a message that was written down, once it is on disk. While too many records
    /// wait for the disk, nothing more is read from the client.
    #[cold]
    #[inline(never)]
    fn acknowledge_recorded(
        &mut self,
        client: Client,
        (delivery, mark): (Delivery, u64),
        reason_code: ReasonCode,
        ports: &mut impl Ports,
    ) {
        let id = client.connection;
        if let Delivery::ExactlyOnce(packet_id) = delivery {
            let session = self.sessions.of_connected_mut(client.subscriber);
            self.context.recorder.note_hold(session, packet_id, ports);
        }
        self.connections.acknowledge(id, (delivery, mark), reason_code, ports);
        if ports.are_records_crowded() {
            self.connections.hold_until_durable(id, mark, ports);
        }
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
        let clients = (&mut self.sessions, &mut self.connections);
        self.router.route(view, connection, clients, &mut self.context, ports)
    }
}
