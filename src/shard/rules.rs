//! What a shard keeps to, and what may change while the broker runs.

use std::rc::Rc;

use super::{Shard, offer::Offer, referral::Referral};
use crate::{access::Policy, base::time::Span, routing::Strategies, session::queue::QueueLimits};

/// The rules of the whole broker. All of them are replaced at once, by
/// [`Brain::handle_rules`](super::ports::Brain::handle_rules) on every shard.
///
/// A client is held to what its CONNACK has told it for as long as it is connected; a field that
/// is told there says so. What has been let in stays in: no change of a rule ends a connection or a
/// session, or removes a message or a subscription.
#[derive(Clone, Debug)]
pub struct Rules {
    pub limits: Limits,
    /// Told in CONNACK. A change holds for connections that come after it; a subscription keeps
    /// the QoS that it was granted.
    pub offer: Offer,
    /// A change holds for the next client that is refused or sent away.
    pub referral: Referral,
    /// A change holds for the next CONNECT and the next AUTH that begins an exchange. Who is
    /// connected stays connected.
    pub policy: Policy,
    /// How share groups choose among their members. A group keeps the strategy that it began with
    /// until its last member has left.
    pub strategies: Strategies,
    /// How often `$SYS` is published; `None` for never. What was published stays retained.
    pub sys_interval: Option<Span>,
}

/// A slice of work in which one message comes to a thousand share groups, or one session loses a
/// thousand subscriptions: less than a millisecond.
pub const SLICE_STEPS: usize = 8192;

/// What happens to a connected client for which a message comes when its queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenQueueFull {
    /// It stays, and the message is dropped and counted.
    #[default]
    Drop,
    /// It is disconnected, so that it knows that it has missed something.
    Disconnect,
}

/// How much of everything. Each limit says what happens beyond it, and what a change of it does
/// where that is not "it holds from the next packet or message on".
#[derive(Clone, Debug)]
pub struct Limits {
    /// Of a whole packet from a client, in bytes. A larger one closes the connection with Packet
    /// too large. Told in CONNACK: a change holds for connections that come after it.
    pub packet_size_max: usize,
    /// Unsent bytes of one connection; beyond it a message at QoS 0 is dropped and counted, and
    /// one at QoS 1 or 2 waits in the queue. The outboxes are the runtime's, which reads its
    /// settings once: a change holds from the next start of the broker.
    pub outbox_bytes_max: usize,
    /// QoS 1 and 2 messages in flight to one client, whose Receive Maximum may lower it; more wait
    /// in its queue. A change holds for connections that come after it.
    pub inflight_max: u16,
    /// What waits for one session. Beyond it a message is dropped and counted, and a connected
    /// client may be disconnected with Quota exceeded. What waits already stays.
    pub queue: QueueLimits,
    /// Whether it is.
    pub when_queue_full: WhenQueueFull,
    /// QoS 2 messages that a client may have unreleased; beyond it Receive Maximum exceeded. The
    /// specification counts QoS 1 messages, too, until they are acknowledged; here the broker alone
    /// decides how long that takes, so a client is not disconnected for them. Told in CONNACK as
    /// Receive Maximum: a change holds for connections that come after it. Clients before 5.0 are
    /// told no limit and held to none. [MQTT-3.3.4-7] [MQTT-3.3.4-9]
    pub receive_maximum: u16,
    /// Topic Aliases that a client may use; a larger one is Topic Alias invalid. Told in CONNACK: a
    /// change holds for connections that come after it.
    pub topic_alias_maximum: u16,
    /// Topic Aliases that are used towards one client, within its own Topic Alias Maximum; further
    /// topics are sent in full. 0 is for none. A change holds for connections that come after it.
    pub topic_aliases_max: u16,
    /// A longer Session Expiry Interval is cut to this many seconds; `u32::MAX` never expires. A
    /// change holds for the next CONNECT, and for the next DISCONNECT that names an interval.
    pub session_expiry_max: u32,
    /// A connection without CONNECT after this time is closed. A change holds for connections that
    /// are accepted after it.
    pub connect_timeout: Span,
    /// How long publishers are held back for a subscriber that cannot keep up.
    pub patience: Span,
    /// Sessions of the whole broker; beyond it CONNECT is refused with Quota
    /// exceeded. Sessions beyond a lowered limit stay.
    pub sessions_max: usize,
    /// Levels of a topic; beyond it Topic Name invalid or Topic Filter invalid. Subscriptions and
    /// retained messages beyond a lowered limit stay.
    pub topic_levels_max: usize,
    /// User Properties of one message or Will; with more it is refused with Quota exceeded.
    pub user_properties_max: usize,
    /// Bytes that they take in the packet, likewise.
    pub user_property_bytes_max: usize,
    /// Topic Filters of one SUBSCRIBE; those beyond are answered Quota exceeded.
    pub subscribe_filters_max: usize,
    /// Subscriptions of one session; beyond it SUBSCRIBE is answered Quota exceeded. Subscriptions
    /// beyond a lowered limit stay.
    pub subscriptions_max: usize,
    /// Bytes of their Topic Filters, likewise.
    pub subscription_bytes_max: usize,
    /// Retained messages; beyond it one for a new topic is refused with Quota exceeded, or not
    /// stored where the client cannot be told. Messages beyond a lowered limit stay.
    pub retained_max: usize,
    /// Bytes of retained messages, likewise.
    pub retained_bytes_max: usize,
    /// Steps of the work for one packet, one session or one letter that are taken in a turn; what
    /// goes beyond goes on in the next one. A step takes some hundred nanoseconds.
    pub slice_steps: usize,
}

impl Shard {
    /// Keeps to these rules from now on.
    pub(super) fn adopt(&mut self, rules: &Rules) {
        let mut rules = rules.clone();
        rules.limits.outbox_bytes_max = self.context.rules.limits.outbox_bytes_max;
        self.interest.set_strategies(rules.strategies.clone());
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
                outbox_bytes_max: 64 << 10,
                inflight_max: 100,
                queue: QueueLimits { messages_max: 100, bytes_max: 1 << 20 },
                when_queue_full: WhenQueueFull::Drop,
                receive_maximum: 10,
                topic_alias_maximum: 10,
                topic_aliases_max: 10,
                session_expiry_max: 1_000,
                connect_timeout: Span::from_secs(10),
                patience: Span::from_secs(10),
                sessions_max: 100,
                topic_levels_max: 8,
                user_properties_max: 8,
                user_property_bytes_max: 100,
                subscribe_filters_max: 8,
                subscriptions_max: 100,
                subscription_bytes_max: 1_000,
                retained_max: 100,
                retained_bytes_max: 1 << 20,
                slice_steps: SLICE_STEPS,
            },
            offer: Offer::default(),
            referral: Referral::default(),
            policy: Policy::default(),
            strategies: Strategies::default(),
            sys_interval: None,
        }
    }
}
