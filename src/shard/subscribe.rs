//! SUBSCRIBE: the filter enters the trie, the other shards hear of it, retained messages follow.

use std::rc::Rc;

use super::{Shard, granted::Granted, log::Notice, ports::Ports, reason::Reason, replays::Replay};
use crate::{
    access::{
        Principal,
        topics::{self, Subscribable},
    },
    base::ids::{ConnectionId, SubscriberId},
    mqtt::{
        DecodeError, Malformed, Packet, ReasonCode, ReasonProperties, RetainHandling, Suback,
        Subscribe, SubscriptionOptions, Version,
    },
    routing::Entry,
    topic::{Subscription, TopicFilter},
};

impl Shard {
    pub(super) fn handle_subscribe(
        &mut self,
        id: ConnectionId,
        subscriber: SubscriberId,
        subscribe: &Subscribe<'_>,
        ports: &mut impl Ports,
    ) {
        let connection = self.connections.connected(id);
        let (terms, rules) = (connection.terms(), Rc::clone(connection.rules()));
        let is_bridge = connection.is_bridge();
        let principal = Rc::clone(connection.principal());
        let subscription_id = subscribe.subscription_identifier.map_or(0, u32::from);
        let mut reason_codes = Vec::with_capacity(subscribe.filters.count());
        // One Reason String stands for all refusals: the first one's.
        let (mut told_at, mut reason) = (0, None);
        let filters_max = self.context.rules.limits.subscribe_filters_max;
        for (index, (text, options)) in subscribe.filters.iter().enumerate() {
            let Ok(subscription) = Subscription::parse(text) else {
                // [MQTT-4.7.1-1] [MQTT-4.8.2-1]
                let error = DecodeError::Malformed(Malformed::TopicFilter);
                return self.refuse(id, error, ports);
            };
            let offer = &rules.offer;
            // A lower QoS than asked for is granted. [MQTT-3.2.2-10]
            let qos = options.qos.min(offer.maximum_qos);
            let mut options = SubscriptionOptions { qos, ..options };
            if is_bridge {
                // What it brings is not sent back to it. A shared subscription cannot ask for that.
                options.no_local = matches!(subscription, Subscription::Plain(_));
                options.retain_as_published = true;
            }
            let offered = offer.check_subscription(subscription, subscription_id != 0);
            let outcome = match offered {
                Ok(()) if index >= filters_max => Err(Reason::SubscribeTooLong),
                Ok(()) => grant(&principal, subscription, options).and_then(|granted| {
                    let entry = Entry { subscriber, options: granted.pack(), subscription_id };
                    self.subscribe(text, subscription, (entry, granted), ports)
                }),
                // CONNACK told it, so that this is a Protocol Error.
                Err(error) if terms.version() == Version::V5 => {
                    return self.refuse_packet(id, error, ports);
                }
                Err(error) => Err(Reason::Packet(error.into())),
            };
            if let Err(reason) = outcome {
                self.context.counters.refused_subscriptions += 1;
                self.context.counters.count_refusal(reason);
                self.note(id, Notice::SubscriptionRefused);
            }
            told_at = told_at.max(outcome.unwrap_or(0));
            reason = reason.or_else(|| outcome.err());
            let reason_code =
                outcome.map_or_else(Reason::code, |_| ReasonCode::granted(options.qos));
            reason_codes.push(suback_byte(reason_code, terms.version()));
        }
        let suback = Suback {
            packet_id: subscribe.packet_id,
            properties: ReasonProperties::default(),
            reason_codes: &reason_codes,
        };
        self.answer_subscribe((id, subscriber), &Packet::Suback(suback), reason, told_at, ports);
    }

    /// Sends the SUBACK, now or when every shard knows of all that other shards were told.
    fn answer_subscribe(
        &mut self,
        (id, subscriber): (ConnectionId, SubscriberId),
        suback: &Packet<'_>,
        reason: Option<Reason>,
        told_at: u64,
        ports: &mut impl Ports,
    ) {
        if told_at <= self.interest.applied_everywhere() {
            // [MQTT-3.8.4-1]
            self.answer_with(id, suback, reason, ports);
            return self.pump(subscriber, ports);
        }
        let answer = (suback, reason);
        if let Err(cause) = self.connections.answer_once_applied(id, told_at, answer, ports) {
            self.end(id, cause, ports);
        }
    }

    /// Subscribes to one filter, and says the number of the interest that its SUBACK waits for; 0
    /// for none.
    fn subscribe(
        &mut self,
        text: &str,
        subscription: Subscription<'_>,
        (entry, granted): (Entry, Granted),
        ports: &mut impl Ports,
    ) -> Result<u64, Reason> {
        let limits = &self.context.rules.limits;
        if limits.is_too_deep(text) {
            return Err(Reason::FilterTooDeep);
        }
        if self.replays.are_full(entry.subscriber) {
            return Err(Reason::ReplaysFull);
        }
        let session = self.sessions.of_connected_mut(entry.subscriber);
        let is_new = session
            .subscribe(text, subscription, limits.filters(), self.context.settings.seed)
            .map_err(|_| Reason::SubscriptionsFull)?;
        self.context.counters.subscriptions += u64::from(is_new);
        if let Subscription::Plain(filter) = subscription {
            self.open_replay(filter, entry, granted, is_new);
        }
        Ok(self.interest.subscribe(subscription, entry, ports))
    }

    /// Prepares the retained messages that the subscription asks for, or has what an earlier one
    /// asked for sent as this one says.
    /// [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]
    fn open_replay(
        &mut self,
        filter: TopicFilter<'_>,
        entry: Entry,
        granted: Granted,
        is_new: bool,
    ) {
        let (options, is_partly) = (granted.options(), granted.is_partly());
        let wanted = match options.retain_handling {
            RetainHandling::SendAtSubscribe => true,
            RetainHandling::SendIfNew => is_new,
            RetainHandling::DoNotSend => false,
        };
        if let Some(mut cursor) = self.retained.open(filter).filter(|_| wanted) {
            cursor.no_local = options.no_local;
            let subscription_id = entry.subscription_id;
            let replay = Replay { cursor, qos: options.qos, subscription_id, is_partly };
            self.replays.begin(entry.subscriber, replay);
        } else if let Some(replays) = self.replays.of(entry.subscriber) {
            replays.replace(filter.as_str(), options, entry.subscription_id);
        }
    }
}

/// What a client is granted of a subscription that it asks for. A share group gives a message to
/// one member alone, so each has to be one that may read all of them.
fn grant(
    principal: &Principal,
    subscription: Subscription<'_>,
    options: SubscriptionOptions,
) -> Result<Granted, Reason> {
    let is_partly = match topics::may_subscribe(principal, subscription.filter()) {
        Subscribable::Whole => false,
        Subscribable::Partly => true,
        Subscribable::No => return Err(Reason::SubscribeForbidden),
    };
    if is_partly && matches!(subscription, Subscription::Shared(_)) {
        return Err(Reason::SubscribeForbidden);
    }
    Ok(Granted::new(options, is_partly))
}

/// The byte in SUBACK: before 5.0 there is one failure only. [MQTT-3.9.3-2@3.1.1]
fn suback_byte(reason_code: ReasonCode, version: Version) -> u8 {
    if reason_code.is_error() && version < Version::V5 { 0x80 } else { reason_code.value() }
}
