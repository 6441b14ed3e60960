//! UNSUBSCRIBE, and the end of all subscriptions of a session.

use super::{Client, Shard, ports::Ports, reason::Reason, suback::FilterAnswers};
use crate::{
    base::ids::SubscriberId,
    mqtt::{Malformed, ReasonCode, Unsubscribe},
    topic::Subscription,
};

impl Shard {
    pub(super) fn handle_unsubscribe(
        &mut self,
        client: Client,
        unsubscribe: &Unsubscribe<'_>,
        ports: &mut impl Ports,
    ) {
        let Client { connection: id, subscriber } = client;
        let version = self.connections.connected(id).terms().version();
        let mut answers = FilterAnswers::new(version, unsubscribe.filters.count());
        for text in unsubscribe.filters.iter() {
            let Ok(subscription) = Subscription::parse(text) else {
                // [MQTT-4.7.1-1] [MQTT-4.8.2-1]
                return self.refuse(id, Malformed::TopicFilter, ports);
            };
            let ended = self.unsubscribe(subscriber, text, subscription, ports);
            answers.push(ended.map(|()| ReasonCode::Success));
        }
        // [MQTT-3.10.4-4] [MQTT-3.10.4-5]
        let unsuback = answers.unsuback(unsubscribe.packet_id);
        self.answer(id, &unsuback, answers.reason(), ports);
    }

    /// Ends one subscription, if there is one with exactly this filter.
    /// [MQTT-3.10.4-1] [MQTT-3.10.4-2]
    fn unsubscribe(
        &mut self,
        subscriber: SubscriberId,
        text: &str,
        subscription: Subscription<'_>,
        ports: &mut impl Ports,
    ) -> Result<(), Reason> {
        if !self.sessions.of_connected_mut(subscriber).unsubscribe(text, subscription) {
            return Err(Reason::NoSubscription);
        }
        self.deliveries.end_replay(subscriber, text);
        self.context.counters.subscriptions -= 1;
        self.interest.unsubscribe(subscription, subscriber, ports);
        Ok(())
    }
}
