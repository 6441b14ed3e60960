//! SUBSCRIBE: adds filters to the trie, tells the other shards, and begins to replay retained
//! messages.

use super::{
    Client, Shard,
    grant::{NotGranted, Wanted},
    notices::Notice,
    owed::Condition,
    ports::Ports,
    reason::Reason,
    suback::FilterAnswers,
};
use crate::{
    mqtt::{Malformed, Packet, ReasonCode, Subscribe},
    routing::Entry,
    topic::Subscription,
};

impl Shard {
    pub(super) fn handle_subscribe(
        &mut self,
        client: Client,
        subscribe: &Subscribe<'_>,
        ports: &mut impl Ports,
    ) {
        let Client { connection: id, subscriber } = client;
        let version = self.connections.connected(id).terms().version();
        let subscription_id = subscribe.subscription_identifier.map_or(0, u32::from);
        let filters_max = self.context.rules.limits.subscribe_filters_max;
        let mut answers = FilterAnswers::new(version, subscribe.filters.count());
        let mut told_at = 0;
        self.context.recorder.begin_packet();
        for (index, (text, options)) in subscribe.filters.iter().enumerate() {
            let Ok(subscription) = Subscription::parse(text) else {
                // [MQTT-4.7.1-1] [MQTT-4.8.2-1]
                return self.refuse(id, Malformed::TopicFilter, ports);
            };
            let session = self.sessions.of_connected_mut(subscriber);
            let rights = &self.context.rights;
            let readable = rights.coverage(session, (text, subscription.filter()), options.qos);
            let has_identifier = subscription_id != 0;
            let wanted = Wanted { subscription, options, has_identifier, readable };
            let outcome = match wanted.grant(self.connections.connected(id)) {
                Err(NotGranted::Wrong(error)) => return self.refuse(id, error, ports),
                Err(NotGranted::Refused(reason)) => Err(reason),
                Ok(_) if index >= filters_max => Err(Reason::SubscribeTooLong),
                Ok(granted) => {
                    let entry = Entry { subscriber, options: granted.pack(), subscription_id };
                    let (sessions, context) = (&mut self.sessions, &mut self.context);
                    let filter = (text, subscription);
                    let told_at = self.router.subscribe(filter, entry, sessions, context, ports);
                    told_at.map(|told_at| (told_at, ReasonCode::granted(granted.qos())))
                }
            };
            if let Err(reason) = outcome {
                self.context.counters.refused_subscriptions += 1;
                self.context.counters.count_refusal(reason);
                self.note(id, Notice::SubscriptionRefused(reason, text));
            }
            told_at = told_at.max(outcome.map_or(0, |(number, _)| number));
            answers.push(outcome.map(|(_, reason_code)| reason_code));
        }
        let suback = (&answers.suback(subscribe.packet_id), answers.reason());
        self.answer_subscribe(client, suback, told_at, ports);
    }

    /// Sends the SUBACK, now or once all other shards have applied the new interest.
    fn answer_subscribe(
        &mut self,
        client: Client,
        suback: (&Packet<'_>, Option<Reason>),
        told_at: u64,
        ports: &mut impl Ports,
    ) {
        let id = client.connection;
        let mark = self.context.recorder.take_promise();
        let is_applied = told_at <= self.router.interest().applied_everywhere();
        if is_applied && mark == 0 {
            // [MQTT-3.8.4-1]
            self.answer(id, suback.0, suback.1, ports);
            return self.pump(client.subscriber, ports);
        }
        let mut condition = Condition::Durable(mark);
        if !is_applied {
            // One answer after the other waits for its own condition.
            self.connections.hold_until_durable(id, mark, ports);
            condition = Condition::Applied(told_at);
        }
        if let Err(cause) = self.connections.answer_later(id, condition, suback, ports) {
            self.end(id, cause, ports);
        }
    }
}
