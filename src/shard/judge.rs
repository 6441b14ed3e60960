//! Whether a message that the protocol allows is refused: for want of rights, because of a limit,
//! or by a check that a flag asks for. Also how its publisher is told.

use super::{
    Client, Shard,
    connection::MqttConnection,
    context::Context,
    end::Cause,
    notices::Notice,
    ports::Ports,
    reason::Reason,
    retained::{Retained, RetainedMax},
    rules::{Limits, Rules},
};
use crate::{
    access::{Principal, topics},
    mqtt::{
        ApplicationProperties, Connect, Delivery, Malformed, Publish, QoS, ReasonCode,
        UserProperties, Version, Will,
    },
    session::filters::FiltersMax,
    topic::TopicName,
};

/// A message that a client wants published, now or as its Will.
#[derive(Clone, Copy, Debug)]
struct Candidate<'a> {
    topic: TopicName<'a>,
    application: &'a ApplicationProperties<'a>,
    payload: &'a [u8],
}

impl Rules {
    /// Judges what a CONNECT shows by itself, and whether its connection lets any client in.
    pub(super) fn judge_connect(
        &self,
        connect: &Connect<'_>,
        is_surplus: bool,
    ) -> Result<(), Reason> {
        if self.referral.is_permanent() {
            return Err(Reason::Moved);
        }
        if is_surplus {
            return Err(Reason::ConnectionsFull);
        }
        let may_be_empty = match connect.version {
            // 3.1 asks for 1 to 23 characters.
            Version::V31 => false,
            // [MQTT-3.1.3-8@3.1.1]
            Version::V311 => connect.clean_start,
            Version::V5 => true,
        };
        if connect.client_id.is_empty() && !may_be_empty {
            return Err(Reason::ClientIdentifierMissing);
        }
        connect.will.as_ref().map_or(Ok(()), |will| self.judge_will(will))
    }

    fn judge_will(&self, will: &Will<'_>) -> Result<(), Reason> {
        let topic = TopicName::parse(will.topic)
            .map_err(|_| Reason::Packet(Malformed::TopicName.into()))?;
        let application = &will.properties.application;
        let candidate = Candidate { topic, application, payload: will.payload };
        self.judge_message(&candidate)?;
        let offered = self.offer.check_message(will.qos, will.retain);
        offered.map_err(|error| Reason::Packet(error.into()))
    }

    /// Judges a PUBLISH by the rights of its client, and by limits and checks.
    #[inline]
    fn judge_publish(
        &self,
        principal: &Principal,
        topic: TopicName<'_>,
        publish: &Publish<'_>,
    ) -> Result<(), Reason> {
        if !topics::may_publish(principal, topic, publish.payload) {
            return Err(Reason::PublishForbidden);
        }
        self.judge_message(&Candidate::of(topic, publish))
    }

    /// Judges a message by the limits and checks that are the same for all clients.
    #[inline]
    fn judge_message(&self, candidate: &Candidate<'_>) -> Result<(), Reason> {
        if self.limits.is_too_deep(candidate.topic.as_str()) {
            return Err(Reason::TopicTooDeep);
        }
        if !self.limits.has_room_for(candidate.application.user_properties) {
            return Err(Reason::UserPropertiesFull);
        }
        if self.offer.validates_payload_format && !candidate.is_what_it_says() {
            return Err(Reason::PayloadNotText);
        }
        Ok(())
    }
}

/// What stands against a PUBLISH of the client of a connection.
#[inline]
pub(super) fn judge_publish(
    connection: &MqttConnection,
    topic: TopicName<'_>,
    publish: &Publish<'_>,
    retained: &mut Retained,
    context: &Context,
) -> Result<(), Reason> {
    let rules = &context.rules;
    rules.judge_publish(connection.principal(), topic, publish)?;
    let version = connection.terms().version();
    let is_told = || publish.delivery.qos() > QoS::AtMostOnce && version == Version::V5;
    if publish.retain && !publish.payload.is_empty() && is_told() {
        let bytes = Candidate::of(topic, publish).bytes();
        let maximum = context.retained_max();
        // A client that can be told is refused a message that there is no room for. For other
        // clients the message is delivered and not stored.
        if !retained.make_room(topic, bytes, maximum, context.now) {
            return Err(Reason::RetainedFull);
        }
    }
    Ok(())
}

impl Shard {
    /// Refuses a message. A 5.0 client is told; an earlier one gets a normal acknowledgement. At
    /// QoS 0 only DISCONNECT can tell a client. If the topic is forbidden, a QoS 0 message is
    /// discarded and the client stays connected. [MQTT-3.3.5-2@3.1.1]
    pub(super) fn refuse_message(
        &mut self,
        client: Client,
        (topic, delivery): (TopicName<'_>, Delivery),
        reason: Reason,
        ports: &mut impl Ports,
    ) {
        let id = client.connection;
        self.context.counters.refused_publish += 1;
        self.context.counters.count_refusal(reason);
        self.note(id, Notice::PublishRefused(reason, topic.as_str()));
        if self.connections.connected(id).terms().version() != Version::V5 {
            let reason_code = ReasonCode::Success;
            return self.connections.acknowledge(id, (delivery, 0), reason_code, ports);
        }
        if let Delivery::ExactlyOnce(packet_id) = delivery {
            self.sessions.of_connected_mut(client.subscriber).inbound_mut().refuse(packet_id);
        }
        match delivery {
            Delivery::AtMostOnce if reason.is_about_rights() => {}
            Delivery::AtMostOnce => self.end(id, Cause::Refused(reason), ports),
            _ => self.connections.acknowledge_refused(id, delivery, reason, ports),
        }
    }
}

impl Limits {
    /// Whether a Topic Name or Topic Filter has more levels than there may be.
    #[inline]
    pub(super) fn is_too_deep(&self, topic: &str) -> bool {
        let separators = || topic.bytes().filter(|&byte| byte == b'/').count();
        topic.len() >= self.topic_levels_max && separators() >= self.topic_levels_max
    }

    pub(super) fn filters(&self) -> FiltersMax {
        FiltersMax {
            count: self.subscriptions_max,
            bytes: self.subscription_bytes_max,
            patterns: self.wildcard_patterns_max,
        }
    }

    pub(super) fn retained(&self) -> RetainedMax {
        RetainedMax { messages: self.retained_max, bytes: self.retained_bytes_max }
    }

    #[inline]
    fn has_room_for(&self, user_properties: UserProperties<'_>) -> bool {
        user_properties.is_empty()
            || user_properties.bytes() <= self.user_property_bytes_max
                && user_properties.count() <= self.user_properties_max
    }
}

impl<'a> Candidate<'a> {
    #[inline]
    fn of(topic: TopicName<'a>, publish: &'a Publish<'a>) -> Candidate<'a> {
        let application = &publish.properties.application;
        Candidate { topic, application, payload: publish.payload }
    }

    /// What a retained message of it takes.
    fn bytes(&self) -> usize {
        self.topic.as_str().len() + self.application.bytes() + self.payload.len()
    }

    /// Whether the payload is valid UTF-8, if the Payload Format Indicator says that it is text.
    fn is_what_it_says(&self) -> bool {
        self.application.payload_format_indicator != Some(1)
            || std::str::from_utf8(self.payload).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::{super::connection::tests::connected, *};
    use crate::{
        base::ids::ShardId,
        mqtt::{PacketId, PublishProperties},
    };

    fn judge(
        version: Version,
        topic: &str,
        change: impl FnOnce(&mut Publish<'_>),
    ) -> Option<Reason> {
        let mut context = Context::of_shard(1);
        let rules = Rc::make_mut(&mut context.rules);
        rules.limits.retained_max = 0;
        rules.offer.validates_payload_format = true;
        let connection = connected(&Connect::new(version, "client"), rules.clone());
        let mut retained = Retained::new(ShardId::FIRST, context.now);
        let delivery = Delivery::AtLeastOnce(PacketId::MIN);
        let properties = PublishProperties::default();
        let (dup, retain, payload) = (false, false, &b"\xFF"[..]);
        let mut publish = Publish { dup, retain, delivery, topic, properties, payload };
        change(&mut publish);
        let topic = TopicName::from_valid(topic);
        judge_publish(&connection, topic, &publish, &mut retained, &context).err()
    }

    #[test]
    fn what_is_forbidden_too_deep_or_not_what_it_says_is_refused() {
        assert_eq!(judge(Version::V5, "a", |_| ()), None);
        assert_eq!(judge(Version::V5, "$SYS/a", |_| ()), Some(Reason::PublishForbidden));
        assert_eq!(judge(Version::V5, "1/2/3/4/5/6/7/8/9", |_| ()), Some(Reason::TopicTooDeep));
        let text = |publish: &mut Publish<'_>| {
            publish.properties.application.payload_format_indicator = Some(1);
        };
        assert_eq!(judge(Version::V5, "a", text), Some(Reason::PayloadNotText));
    }

    #[test]
    fn only_a_client_that_can_be_told_is_refused_a_retained_message_without_room() {
        let retain = |publish: &mut Publish<'_>| publish.retain = true;
        let untold = |publish: &mut Publish<'_>| {
            (publish.retain, publish.delivery) = (true, Delivery::AtMostOnce);
        };
        assert_eq!(judge(Version::V5, "a", retain), Some(Reason::RetainedFull));
        assert_eq!(judge(Version::V5, "a", untold), None);
        assert_eq!(judge(Version::V311, "a", retain), None);
    }
}
