//! What a shard is told at its start.

use crate::{
    access::Policy,
    base::{
        hash::Seed,
        ids::ShardId,
        time::{Moment, Span},
    },
    routing::Strategies,
    session::queue::QueueLimits,
    transport::Listener,
};

use super::{offer::Offer, referral::Referral};

/// The place of one shard in its broker, and the rules that it keeps to.
#[derive(Clone, Debug)]
pub struct Settings {
    pub shard: ShardId,
    /// How many shards the broker has.
    pub shards: usize,
    /// The same on all shards: a Client Identifier is at home where this hash says.
    pub seed: Seed,
    pub started_at: Moment,
    pub limits: Limits,
    pub offer: Offer,
    pub referral: Referral,
    pub policy: Policy,
    /// How share groups choose among their members.
    pub strategies: Strategies,
    /// Where clients connect; an [`Arrival`](super::ports::Arrival) names a listener by its place.
    pub listeners: Vec<Listener>,
    /// How often `$SYS` is published; `None` for never.
    pub sys_interval: Option<Span>,
}

/// How much of everything. Each limit names what happens beyond it.
#[derive(Clone, Debug)]
pub struct Limits {
    /// A larger packet closes the connection with Packet too large.
    pub packet_size_max: usize,
    /// Unsent bytes of one connection; beyond it a message at QoS 0 is dropped and counted, and
    /// one at QoS 1 or 2 waits in the queue.
    pub outbox_bytes_max: usize,
    /// Messages in flight to one client; more wait in its queue.
    pub inflight_max: u16,
    /// What waits for one session. Beyond it a connected client is disconnected with Quota
    /// exceeded, and a message for an absent one is dropped and counted.
    pub queue: QueueLimits,
    /// QoS 2 messages that a client may have unreleased; beyond it Receive Maximum exceeded.
    pub receive_maximum: u16,
    /// Topic Aliases that a client may use; a larger one is Topic Alias invalid.
    pub topic_alias_maximum: u16,
    /// Topic Aliases that are used towards one client, within its own Topic Alias Maximum; further
    /// topics are sent in full. 0 is for none.
    pub topic_aliases_max: u16,
    /// A longer Session Expiry Interval is cut to this many seconds; `u32::MAX` never expires.
    pub session_expiry_max: u32,
    /// A connection without CONNECT after this time is closed.
    pub connect_timeout: Span,
    /// How long publishers are held back for a subscriber that cannot keep up.
    pub patience: Span,
    /// Sessions on one shard; beyond it CONNECT is refused with Quota exceeded.
    pub sessions_max: usize,
    /// Levels of a topic; beyond it Topic Name invalid or Topic Filter invalid.
    pub topic_levels_max: usize,
    /// User Properties of one message or Will; with more it is refused with Quota exceeded.
    pub user_properties_max: usize,
    /// Bytes that they take in the packet, likewise.
    pub user_property_bytes_max: usize,
    /// Topic Filters of one SUBSCRIBE; those beyond are answered Quota exceeded.
    pub subscribe_filters_max: usize,
    /// Subscriptions of one session; beyond it SUBSCRIBE is answered Quota exceeded.
    pub subscriptions_max: usize,
    /// Bytes of their Topic Filters, likewise.
    pub subscription_bytes_max: usize,
    /// Retained messages; beyond it one for a new topic is refused with Quota exceeded, or not
    /// stored where the client cannot be told.
    pub retained_max: usize,
    /// Bytes of retained messages, likewise.
    pub retained_bytes_max: usize,
}

impl Settings {
    /// The shard where a Client Identifier is at home.
    pub fn home(&self, client_id: &str) -> ShardId {
        let shards = u64::try_from(self.shards).expect("few shards");
        let index = self.seed.hash(client_id) % shards;
        usize::try_from(index).ok().and_then(ShardId::new).expect("an index below the shard count")
    }

    /// All other shards.
    pub fn peers(&self) -> impl Iterator<Item = ShardId> + use<> {
        let own = self.shard;
        ShardId::all(self.shards).filter(move |&shard| shard != own)
    }

    /// Whether clients on this listener come from this machine.
    pub fn is_loopback(&self, listener: u16) -> bool {
        self.listeners.get(usize::from(listener)).is_some_and(Listener::is_loopback)
    }
}
