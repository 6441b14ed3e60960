//! The rules of the broker: limits, optional features, users. They may change while it runs.

use std::rc::Rc;

use super::{Shard, events::Presence, offer::Offer, referral::Referral, throttle::Throttle};
use crate::{
    access::Policy,
    base::time::Span,
    routing::Strategies,
    session::queue::QueueLimits,
    transport::{Address, Listener, Listeners},
};

/// The rules of the whole broker. All of them are replaced at once, by
/// [`Brain::handle_rules`](super::ports::Brain::handle_rules) on every shard.
///
/// Some fields are told to clients in CONNACK, and say so. A connected client keeps the values that
/// its CONNACK has told it. No change of a rule ends a connection or a session, or removes a
/// message or a subscription.
#[derive(Clone, Debug)]
pub struct Rules {
    pub limits: Limits,
    /// Told in CONNACK. A change holds for connections that come after it; a subscription keeps
    /// the QoS that it was granted.
    pub offer: Offer,
    /// A change holds for the next client that is refused or referred.
    pub referral: Referral,
    /// A change holds for the next CONNECT, and the next AUTH that begins an exchange. Connected
    /// clients stay connected. Other rights by topic hold at once: for messages that wait, for
    /// subscriptions that stand, and for Wills.
    pub policy: Policy,
    /// How share groups choose among their members. A group keeps the strategy that it began with
    /// until its last member has left.
    pub strategies: Strategies,
    /// How often `$SYS` is published; `None` for never. What was published stays retained.
    pub sys_interval: Option<Span>,
    /// How clients that come and go are announced under `$SYS`.
    pub presence: Presence,
    /// All listeners. An [`Arrival`](super::ports::Arrival) refers to one by its place here. The
    /// runtime opens and closes them; connections of a closed one stay.
    pub listeners: Listeners,
}

impl Rules {
    /// Where this listener listens, as it was configured.
    pub(super) fn listener_address(&self, listener: u16) -> Address {
        let listener = self.listeners.get(listener);
        listener.expect("a connection names one of the listeners").address.clone()
    }

    /// Whether the headers of proxies say who the clients of this listener are.
    pub(super) fn is_behind_proxies(&self, listener: u16) -> bool {
        self.listeners.get(listener).is_some_and(|it| it.proxies.is_some())
    }

    /// What a client of this listener has sent, if its rates are limited.
    pub(super) fn throttle_on(&self, listener: u16) -> Option<Throttle> {
        self.listeners.get(listener).and_then(|it| Throttle::new(it.rates.of_client))
    }

    /// Whether clients without authentication are let in on this listener.
    pub fn lets_anonymous_in(&self, listener: u16) -> bool {
        let by_policy =
            |listener: &Listener| self.policy.anonymous.is_let_in(listener.is_loopback());
        let listener = self.listeners.get(listener);
        listener.is_some_and(|it| it.anonymous.unwrap_or_else(|| by_policy(it)))
    }
}

/// A slice of work in which one message comes to a thousand share groups, or one session loses a
/// thousand subscriptions: less than a millisecond.
pub const SLICE_STEPS: usize = 8192;

/// Password checks that wait: each takes the memory of one CONNECT.
pub const PASSWORD_CHECKS_MAX: usize = 1024;

/// What happens to a connected client whose queue is full when a message comes for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenQueueFull {
    /// The client stays connected. The message is dropped and counted.
    #[default]
    Drop,
    /// The client is disconnected, so that it knows that it has missed something.
    Disconnect,
}

/// The limits. Each field says what happens beyond the limit. A change holds from the next packet
/// or message on, unless the field says otherwise.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a packet from a client. A larger packet closes the connection with Packet too
    /// large. Told in CONNACK: a change holds for later connections.
    pub packet_size_max: usize,
    /// Bytes of a packet of a client whose CONNECT has not been accepted. A larger packet closes
    /// the connection. A change holds for later connections.
    pub connect_size_max: usize,
    /// Unsent bytes of one connection. Beyond it, a QoS 0 message is dropped and counted, and a
    /// QoS 1 or 2 message waits in the queue. The runtime reads this limit once, so a change holds
    /// from the next start of the broker.
    pub outbox_bytes_max: usize,
    /// QoS 1 and 2 messages in flight to one client. The client's Receive Maximum may lower it.
    /// Further messages wait in the queue. A change holds for later connections.
    pub inflight_max: u16,
    /// Messages that wait for one session, and their bytes. Beyond it, a message is dropped and
    /// counted, and a connected client may be disconnected with Quota exceeded. Messages that
    /// already wait stay.
    pub queue: QueueLimits,
    /// Whether such a client is disconnected.
    pub when_queue_full: WhenQueueFull,
    /// Unreleased QoS 2 messages of a client. Beyond it, the client is disconnected with Receive
    /// Maximum exceeded. The specification also counts unacknowledged QoS 1 messages. The broker
    /// does not, because only the broker decides how long their acknowledgement takes. Told in
    /// CONNACK: a change holds for later connections. Clients before 5.0 have no such limit.
    /// [MQTT-3.3.4-7] [MQTT-3.3.4-9]
    pub receive_maximum: u16,
    /// Topic Aliases that a client may use. A larger one is answered Topic Alias invalid. Told in
    /// CONNACK: a change holds for later connections.
    pub topic_alias_maximum: u16,
    /// Topic Aliases to one client, which its Topic Alias Maximum may lower. Further topics are
    /// sent in full. 0 disables aliases. A change holds for later connections.
    pub topic_aliases_max: u16,
    /// Seconds. A longer Session Expiry Interval is reduced to this; `u32::MAX` never expires. A
    /// change holds for the next CONNECT, and the next DISCONNECT with an interval.
    pub session_expiry_max: u32,
    /// A connection without CONNECT after this time is closed. A change holds for later
    /// connections.
    pub connect_timeout: Span,
    /// Password checks of one shard that wait for a thread. Beyond it, the address that has most
    /// of them loses the last one, and its client is refused with Server busy. A shard reads this
    /// limit once, when it starts.
    pub password_checks_max: usize,
    /// A client that was held back for so long because it sends more than its rates allow is
    /// disconnected with Message rate too high, and a connection that would have to wait for longer
    /// is refused. Zero: there is no such time, but a minute for connections.
    pub rate_timeout: Span,
    /// How long publishers are held back in a minute for the subscribers of one account that cannot
    /// keep up. A change holds from the next check of a subscriber on.
    pub patience: Span,
    /// Sessions of the whole broker. Beyond it, an absent session of the account that has most of
    /// them ends. If none has to go, CONNECT is refused with Quota exceeded. Sessions beyond a
    /// lowered limit stay until there are new ones.
    pub sessions_max: usize,
    /// Levels of a topic. Beyond it, the answer is Topic Name invalid or Topic Filter invalid.
    /// Subscriptions and retained messages beyond a lowered limit stay.
    pub topic_levels_max: usize,
    /// User Properties of one message or Will. With more, it is refused with Quota exceeded.
    pub user_properties_max: usize,
    /// Bytes of the User Properties of one message or Will. With more, it is refused likewise.
    pub user_property_bytes_max: usize,
    /// Topic Filters of one SUBSCRIBE. Further ones are answered Quota exceeded.
    pub subscribe_filters_max: usize,
    /// Subscriptions of one session. Further filters are answered Quota exceeded. Subscriptions
    /// beyond a lowered limit stay.
    pub subscriptions_max: usize,
    /// Bytes of the Topic Filters of one session, with the same answers.
    pub subscription_bytes_max: usize,
    /// Patterns of text and `+` that the Topic Filters of one session begin with, with the same
    /// answers.
    pub wildcard_patterns_max: usize,
    /// Retained messages. Beyond it, a message for a new topic is refused with Quota exceeded, or
    /// not stored if the client cannot be told. Messages beyond a lowered limit stay.
    pub retained_max: usize,
    /// Bytes of retained messages, with the same answers.
    pub retained_bytes_max: usize,
    /// Steps of the work for one packet, one session or one letter in one turn. Further work is
    /// done in the next turns. A step takes some hundred nanoseconds.
    pub slice_steps: usize,
}

impl Shard {
    /// Keeps to these rules from now on.
    pub(super) fn adopt(&mut self, rules: &Rules) {
        let mut rules = rules.clone();
        rules.limits.outbox_bytes_max = self.context.rules.limits.outbox_bytes_max;
        self.authenticator.forget_changed(&self.context.rules.policy, &rules.policy);
        self.context.rights.adopt(&rules.policy);
        self.router.interest_mut().set_strategies(rules.strategies.clone());
        self.context.rules = Rc::new(rules);
        self.watch_sys();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Rules for tests of a shard's parts.
    pub(in crate::shard) fn rules() -> Rules {
        Rules {
            limits: Limits {
                packet_size_max: 1 << 20,
                connect_size_max: 128 << 10,
                outbox_bytes_max: 64 << 10,
                inflight_max: 100,
                queue: QueueLimits { messages_max: 100, bytes_max: 1 << 20 },
                when_queue_full: WhenQueueFull::Drop,
                receive_maximum: 10,
                topic_alias_maximum: 10,
                topic_aliases_max: 10,
                session_expiry_max: 1_000,
                connect_timeout: Span::from_secs(10),
                password_checks_max: 100,
                rate_timeout: Span::from_secs(10),
                patience: Span::from_secs(10),
                sessions_max: 100,
                topic_levels_max: 8,
                user_properties_max: 8,
                user_property_bytes_max: 100,
                subscribe_filters_max: 8,
                subscriptions_max: 100,
                subscription_bytes_max: 1_000,
                wildcard_patterns_max: 100,
                retained_max: 100,
                retained_bytes_max: 1 << 20,
                slice_steps: SLICE_STEPS,
            },
            offer: Offer::default(),
            referral: Referral::default(),
            policy: Policy::default(),
            strategies: Strategies::default(),
            sys_interval: None,
            presence: Presence::Off,
            listeners: vec![Listener::tcp(([127, 0, 0, 1], 1883).into())].into(),
        }
    }
}
