//! Questions about messages: to publish one, and what is retained.

use bytes::Bytes;

use super::{Answer, Shard};
use crate::{
    access::topics,
    base::time::{Moment, Span},
    mqtt::{ApplicationProperties, QoS},
    routing::{Missed, Step},
    session::message::{Message, MessageView, Payload, shared_payload},
    shard::{ports::Ports, reason::Reason},
    topic::{TopicFilter, TopicName},
};

/// A message that is to be published.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub topic: String,
    /// As MQTT 5.0 encodes them.
    pub application: Bytes,
    pub payload: Bytes,
    pub qos: QoS,
    pub retain: bool,
    /// Message Expiry Interval, in seconds.
    pub expiry: Option<u32>,
}

/// Some retained messages, in the order of their topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetainedPage {
    pub messages: Vec<RetainedReport>,
    /// The topic behind which to go on; `None` if there are no more.
    pub next: Option<String>,
}

/// A retained message without its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetainedReport {
    pub topic: String,
    pub qos: QoS,
    pub payload_bytes: usize,
    /// Seconds until it expires.
    pub expires_in: Option<u64>,
}

/// A retained message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetainedMessage {
    pub report: RetainedReport,
    pub payload: Bytes,
    pub content_type: Option<String>,
}

impl RetainedReport {
    fn of(message: &Message, now: Moment) -> RetainedReport {
        let view = message.view();
        RetainedReport {
            topic: view.topic.as_str().to_owned(),
            qos: view.qos,
            payload_bytes: view.payload.len(),
            expires_in: view.expires_at.map(|at| at.since(now).as_secs()),
        }
    }
}

impl Shard {
    /// Publishes a message in the name of the broker.
    pub(super) fn publish(&mut self, message: &Outgoing, ports: &mut impl Ports) -> Answer {
        let topic = match self.judge(message, ports) {
            Ok(topic) => topic,
            Err(refused) => return Answer::Refused(refused),
        };
        let shared = shared_payload(&message.payload, |payload| ports.share(payload));
        let payload = Payload::Small(&message.payload);
        let view = MessageView {
            topic,
            application: &message.application,
            payload: shared.as_ref().map_or(payload, Payload::Shared),
            qos: message.qos,
            retain: message.retain,
            expires_at: message.expiry.map(|seconds| self.after(seconds)),
            publisher: None,
            publisher_hash: 0,
        };
        let clients = (&mut self.sessions, &mut self.connections);
        let matched = self.router.route(&view, None, clients, &mut self.context, ports);
        if matched { Answer::Done } else { Answer::Nothing }
    }

    /// What stands against a message, in words.
    fn judge<'a>(
        &mut self,
        message: &'a Outgoing,
        ports: &impl Ports,
    ) -> Result<TopicName<'a>, &'static str> {
        let wrong = |_| "the topic is empty, too long, or has a wildcard or a control character";
        let topic = TopicName::parse(&message.topic).map_err(wrong)?;
        let rules = &self.context.rules;
        let bytes = topic.as_str().len() + message.application.len() + message.payload.len();
        let removes = message.payload.is_empty();
        if topics::is_brokers_own(topic) || topics::is_control(topic) {
            return Err(Reason::PublishForbidden.text());
        }
        if rules.limits.is_too_deep(topic.as_str()) {
            return Err(Reason::TopicTooDeep.text());
        }
        if rules.offer.check_message(message.qos, message.retain).is_err() {
            return Err("the QoS is above --max-qos, or retained messages are disabled");
        }
        if bytes > rules.limits.packet_size_max {
            return Err("the message is larger than --max-packet-size");
        }
        if self.context.stopping || ports.are_records_crowded() {
            return Err("no message is taken now: the broker stops, or its disk is behind");
        }
        let (maximum, now) = (self.context.retained_max(), self.context.now);
        let retained = self.router.retained_mut();
        if message.retain && !removes && !retained.make_room(topic, bytes, maximum, now) {
            return Err(Reason::RetainedFull.text());
        }
        Ok(topic)
    }

    fn after(&self, seconds: u32) -> Moment {
        self.context.now + Span::from_secs(u64::from(seconds))
    }

    /// Some of the retained messages that match, from behind the topic `after` on.
    pub(super) fn retained_page(&self, filter: &str, after: Option<&str>, count: usize) -> Answer {
        let Ok(filter) = TopicFilter::parse(filter) else {
            return Answer::Refused("`filter` is not a Topic Filter");
        };
        let (now, retained) = (self.context.now, self.router.retained());
        let Some(mut cursor) = retained.open(filter) else {
            return Answer::Retained(RetainedPage::default());
        };
        if let Some(after) = after {
            cursor.go_on_after(after);
        }
        let mut messages = Vec::new();
        let (missed, mut looks) = (Missed::default(), LOOKS_MAX);
        while messages.len() < count.min(MESSAGES_MAX) {
            match retained.next(&mut cursor, &missed, &mut looks) {
                Step::Found(_, message) if message.has_expired(now) => {}
                Step::Found(_, message) => messages.push(RetainedReport::of(message, now)),
                Step::Pause => break,
                Step::End => return Answer::Retained(RetainedPage { messages, next: None }),
            }
        }
        Answer::Retained(RetainedPage { messages, next: Some(cursor.position().to_owned()) })
    }

    pub(super) fn retained_message(&self, topic: &str) -> Answer {
        let retained = self.router.retained();
        let opened = TopicName::parse(topic).ok();
        let opened = opened.and_then(|name| retained.open(TopicFilter::parse(name.as_str()).ok()?));
        let Some(mut cursor) = opened else { return Answer::Nothing };
        match retained.next(&mut cursor, &Missed::default(), &mut 1) {
            Step::Found(_, message) if !message.has_expired(self.context.now) => {
                Answer::Message(Box::new(self.retained_whole(message)))
            }
            _ => Answer::Nothing,
        }
    }

    fn retained_whole(&self, message: &Message) -> RetainedMessage {
        let view = message.view();
        let properties = ApplicationProperties::decode(view.application).unwrap_or_default();
        RetainedMessage {
            report: RetainedReport::of(message, self.context.now),
            payload: match view.payload {
                Payload::Small(payload) => Bytes::copy_from_slice(payload),
                Payload::Shared(payload) => payload.clone(),
            },
            content_type: properties.content_type.map(str::to_owned),
        }
    }
}

/// Topics that one question looks at.
const LOOKS_MAX: usize = 256;
/// Messages that one answer tells of.
const MESSAGES_MAX: usize = 64;
