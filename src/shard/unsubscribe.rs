//! UNSUBSCRIBE, and the end of all subscriptions of a session.

use super::{Shard, ports::Ports, reason::Reason};
use crate::{
    base::ids::{ConnectionId, SubscriberId},
    mqtt::{DecodeError, Malformed, Packet, ReasonCode, ReasonProperties, Unsuback, Unsubscribe},
    topic::Subscription,
};

impl Shard {
    pub(super) fn handle_unsubscribe(
        &mut self,
        id: ConnectionId,
        subscriber: SubscriberId,
        unsubscribe: &Unsubscribe<'_>,
        ports: &mut impl Ports,
    ) {
        let mut reason_codes = Vec::with_capacity(unsubscribe.filters.count());
        let mut reason = None;
        for text in unsubscribe.filters.iter() {
            let Ok(subscription) = Subscription::parse(text) else {
                // [MQTT-4.7.1-1] [MQTT-4.8.2-1]
                let error = DecodeError::Malformed(Malformed::TopicFilter);
                return self.refuse(id, error, ports);
            };
            let ended = self.unsubscribe(subscriber, text, subscription, ports);
            reason_codes.push(ended.map_or_else(Reason::code, |()| ReasonCode::Success).value());
            reason = reason.or_else(|| ended.err());
        }
        // [MQTT-3.10.4-4] [MQTT-3.10.4-5]
        let unsuback = Unsuback {
            packet_id: unsubscribe.packet_id,
            properties: ReasonProperties::default(),
            reason_codes: &reason_codes,
        };
        self.answer_with(id, &Packet::Unsuback(unsuback), reason, ports);
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
        self.replays.end(subscriber, text);
        self.forget_subscription(subscriber, subscription, ports);
        Ok(())
    }

    /// A session has one subscription less.
    pub(super) fn forget_subscription(
        &mut self,
        subscriber: SubscriberId,
        subscription: Subscription<'_>,
        ports: &mut impl Ports,
    ) {
        self.context.counters.subscriptions -= 1;
        self.interest.unsubscribe(subscription, subscriber, ports);
    }
}
