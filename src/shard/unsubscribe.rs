//! UNSUBSCRIBE, and the end of all subscriptions of a session.

use super::{Shard, ports::Ports};
use crate::{
    base::ids::{ConnectionId, SubscriberId},
    mqtt::{Packet, ReasonCode, ReasonProperties, Unsuback, Unsubscribe},
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
        for text in unsubscribe.filters.iter() {
            let ended = self.unsubscribe(subscriber, text, ports);
            let reason_code =
                if ended { ReasonCode::Success } else { ReasonCode::NoSubscriptionExisted };
            reason_codes.push(reason_code.value());
        }
        // [MQTT-3.10.4-4] [MQTT-3.10.4-5]
        let unsuback = Unsuback {
            packet_id: unsubscribe.packet_id,
            properties: ReasonProperties::default(),
            reason_codes: &reason_codes,
        };
        self.answer(id, &Packet::Unsuback(unsuback), ports);
    }

    /// Ends one subscription. False when there was none with exactly this filter.
    /// [MQTT-3.10.4-1] [MQTT-3.10.4-2]
    fn unsubscribe(
        &mut self,
        subscriber: SubscriberId,
        text: &str,
        ports: &mut impl Ports,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(subscriber) else { return false };
        if !session.filters.contains(text) {
            return false;
        }
        session.filters.remove(text);
        let subscription = Subscription::parse(text).expect("it was parsed when it was subscribed");
        session.shared_filters -= u32::from(matches!(subscription, Subscription::Shared(_)));
        self.undo(subscriber, subscription, ports);
        true
    }

    /// Takes a subscription out of the trie, and tells the other shards if it was the last one.
    pub(super) fn undo(
        &mut self,
        subscriber: SubscriberId,
        subscription: Subscription<'_>,
        ports: &mut impl Ports,
    ) {
        self.tallies.subscriptions -= 1;
        match subscription {
            Subscription::Plain(filter) => {
                let ended = self.trie.unsubscribe(filter, subscriber);
                if ended.is_some_and(|ended| ended.last) {
                    self.tell_interest(filter, false, ports);
                }
            }
            Subscription::Shared(shared) => {
                if let Some(left) = self.groups.leave(&mut self.trie, shared, subscriber) {
                    self.tell_group(shared, left.counts, ports);
                }
            }
        }
    }
}
