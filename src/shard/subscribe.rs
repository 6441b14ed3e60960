//! SUBSCRIBE: the filter enters the trie, the other shards hear of it, retained messages follow.

use std::rc::Rc;

use super::{Shard, end::Cause, ports::Ports, reason::Reason, replay::Replay};
use crate::{
    access,
    base::ids::{ConnectionId, SubscriberId},
    mqtt::{
        DecodeError, Malformed, Packet, ReasonCode, ReasonProperties, RetainHandling, Suback,
        Subscribe, SubscriptionOptions, Version,
    },
    routing::{Counts, Entry, GroupId, Options},
    topic::{SharedFilter, Subscription, TopicFilter},
};

/// A SUBACK that waits until every shard knows of the subscriptions.
#[derive(Debug)]
pub(super) struct PendingSuback {
    connection: ConnectionId,
    subscriber: SubscriberId,
    /// The number of the interest that has to be applied everywhere first.
    told_at: u64,
    frame: Vec<u8>,
}

impl Shard {
    pub(super) fn handle_subscribe(
        &mut self,
        id: ConnectionId,
        subscriber: SubscriberId,
        subscribe: &Subscribe<'_>,
        ports: &mut impl Ports,
    ) {
        let Some(connection) = self.connections.get(id) else { return };
        let (terms, rules) = (connection.terms, Rc::clone(&connection.rules));
        let subscription_id = subscribe.subscription_identifier.map_or(0, u32::from);
        let mut reason_codes = Vec::with_capacity(subscribe.filters.count());
        // One Reason String stands for all refusals: the first one's.
        let (mut told_at, mut reason) = (0, None);
        let filters_max = self.rules.limits.subscribe_filters_max;
        for (index, (text, options)) in subscribe.filters.iter().enumerate() {
            let Ok(subscription) = Subscription::parse(text) else {
                // [MQTT-4.7.1-1] [MQTT-4.8.2-1]
                let error = DecodeError::Malformed(Malformed::TopicFilter);
                return self.refuse(id, error, ports);
            };
            let offer = &rules.offer;
            // A lower QoS than asked for is granted. [MQTT-3.2.2-10]
            let qos = options.qos.min(offer.maximum_qos);
            let options = SubscriptionOptions { qos, ..options };
            let offered = offer.check_subscription(subscription, subscription_id != 0);
            let entry = Entry { subscriber, options: Options(options.to_bits()), subscription_id };
            let outcome = match offered {
                Ok(()) if index >= filters_max => Err(Reason::SubscribeTooLong),
                Ok(()) => self.subscribe(text, subscription, entry, options, ports),
                // CONNACK told it, so that this is a Protocol Error.
                Err(error) if terms.version == Version::V5 => {
                    return self.refuse_packet(id, error, ports);
                }
                Err(error) => Err(Reason::Packet(error.into())),
            };
            if let Err(reason) = outcome {
                self.counters.refused_subscriptions += 1;
                self.counters.count_refusal(reason);
            }
            told_at = told_at.max(outcome.unwrap_or(0));
            reason = reason.or_else(|| outcome.err());
            let reason_code =
                outcome.map_or_else(Reason::code, |_| ReasonCode::granted(options.qos));
            reason_codes.push(suback_byte(reason_code, terms.version));
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
        if told_at <= self.interest_acks.applied_everywhere() {
            // [MQTT-3.8.4-1]
            self.answer_with(id, suback, reason, ports);
            return self.pump(subscriber, ports);
        }
        let Some(connection) = self.connections.get(id) else { return };
        let mut frame = Vec::new();
        // Whether the client takes it is for the moment when it is sent.
        let _ = connection.terms.write(suback, reason, &mut frame);
        let pending = PendingSuback { connection: id, subscriber, told_at, frame };
        self.pending_subacks.push_back(pending);
        self.hold(id, ports);
    }

    /// Sends the SUBACKs whose subscriptions every shard knows of now.
    pub(super) fn send_pending_subacks(&mut self, ports: &mut impl Ports) {
        let applied = self.interest_acks.applied_everywhere();
        // Each waits for the number that was the latest when it came, or an earlier one; so a
        // later one may be ready before the first.
        for _ in 0..self.pending_subacks.len() {
            let Some(pending) = self.pending_subacks.pop_front() else { return };
            if pending.told_at > applied {
                self.pending_subacks.push_back(pending);
                continue;
            }
            let Some(connection) = self.connections.get(pending.connection) else { continue };
            if !connection.terms.takes(pending.frame.len()) {
                self.end(pending.connection, Cause::AnswerTooLarge, ports);
                continue;
            }
            ports.send(pending.connection, &pending.frame);
            self.release(pending.connection, ports);
            self.pump(pending.subscriber, ports);
        }
    }

    /// Subscribes to one filter, and says the number of the interest that its SUBACK waits for; 0
    /// for none.
    fn subscribe(
        &mut self,
        text: &str,
        subscription: Subscription<'_>,
        entry: Entry,
        options: SubscriptionOptions,
        ports: &mut impl Ports,
    ) -> Result<u64, Reason> {
        if !access::topics::may_subscribe(text) {
            return Err(Reason::SubscribeForbidden);
        }
        let limits = &self.rules.limits;
        if limits.is_too_deep(text) {
            return Err(Reason::FilterTooDeep);
        }
        let session = self.sessions.get_mut(entry.subscriber).ok_or(Reason::SubscribeForbidden)?;
        let known = session.filters.contains(text);
        let busy = session.replays.as_ref().is_some_and(|replays| replays.is_full());
        if busy {
            return Err(Reason::ReplaysFull);
        }
        let has_room = session.filters.len() < limits.subscriptions_max
            && session.filters.bytes() + text.len() <= limits.subscription_bytes_max;
        if !known && !has_room {
            return Err(Reason::SubscriptionsFull);
        }
        if !known {
            session.filters.add(text, self.settings.seed);
            session.shared_filters += u32::from(matches!(subscription, Subscription::Shared(_)));
            self.counters.subscriptions += 1;
        }
        Ok(match subscription {
            Subscription::Plain(filter) => {
                self.open_replay(filter, entry, options, known);
                self.subscribe_plain(filter, entry, ports)
            }
            Subscription::Shared(shared) => self.join_group(shared, entry, ports),
        })
    }

    /// [MQTT-3.8.4-3]
    fn subscribe_plain(
        &mut self,
        filter: TopicFilter<'_>,
        entry: Entry,
        ports: &mut impl Ports,
    ) -> u64 {
        if self.trie.subscribe(filter, entry).first {
            let number = self.tell_interest(filter, true, ports);
            self.trie.set_told_at(filter, number);
        }
        self.trie.told_at(filter)
    }

    fn join_group(
        &mut self,
        shared: SharedFilter<'_>,
        entry: Entry,
        ports: &mut impl Ports,
    ) -> u64 {
        let joined = self.groups.join(&mut self.trie, shared, entry, true);
        if joined.changed {
            self.tell_members(shared, joined.group, ports);
        }
        // Others may not have heard of a member that has subscribed before, either.
        self.groups.told_at(joined.group)
    }

    /// Tells all other shards how many members a group has here, and notes under which number.
    pub(super) fn tell_members(
        &mut self,
        shared: SharedFilter<'_>,
        group: GroupId,
        ports: &mut impl Ports,
    ) {
        let number = self.tell_group(shared, self.groups.counts(group), ports);
        self.groups.set_told_at(group, number);
    }

    /// Tells all other shards that a filter has its first subscriber here, or has lost its last.
    pub(super) fn tell_interest(
        &mut self,
        filter: TopicFilter<'_>,
        wanted: bool,
        ports: &mut impl Ports,
    ) -> u64 {
        for peer in self.settings.peers() {
            ports.letters(peer).push_interest(filter, wanted);
        }
        self.interest_acks.told()
    }

    /// Tells all other shards how many members a group has here: none, once it is gone.
    pub(super) fn tell_group(
        &mut self,
        shared: SharedFilter<'_>,
        counts: Counts,
        ports: &mut impl Ports,
    ) -> u64 {
        for peer in self.settings.peers() {
            ports.letters(peer).push_group(shared, counts);
        }
        self.interest_acks.told()
    }

    /// Prepares the retained messages that the subscription asks for.
    /// [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]
    fn open_replay(
        &mut self,
        filter: TopicFilter<'_>,
        entry: Entry,
        options: SubscriptionOptions,
        known: bool,
    ) {
        let wanted = match options.retain_handling {
            RetainHandling::SendAtSubscribe => true,
            RetainHandling::SendIfNew => !known,
            RetainHandling::DoNotSend => false,
        };
        if !wanted || self.retained.is_empty() {
            return;
        }
        let Some(session) = self.sessions.get_mut(entry.subscriber) else { return };
        let replay = Replay {
            cursor: self.retained.open(filter),
            qos: options.qos,
            subscription_id: entry.subscription_id,
        };
        session.replays.get_or_insert_default().begin(replay);
    }
}

/// The byte in SUBACK: before 5.0 there is one failure only. [MQTT-3.9.3-2@3.1.1]
fn suback_byte(reason_code: ReasonCode, version: Version) -> u8 {
    if reason_code.is_error() && version < Version::V5 { 0x80 } else { reason_code.value() }
}
