//! The inventory of a shard, so that tests can check that it holds what it should and no more.
//!
//! Reads everything and changes nothing. The shard itself does not use it.

use super::{Shard, deliveries::Deliveries, retained::Retained};
use crate::{
    base::{
        ids::{ShardId, ShardSet, SubscriberId},
        time::Moment,
    },
    routing::{Counts, Sizes, Stamp},
    session::{Session, message::Message},
    topic::{SharedFilter, TopicFilter, TopicName},
};

/// Everything that one shard holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    pub connections: usize,
    /// Connections that are not read from, or whose acknowledgements are kept back.
    pub held_back: usize,
    /// Topic Aliases that all clients have set.
    pub aliases: usize,
    pub sessions: Vec<SessionInventory>,
    pub trie: Sizes,
    pub groups: usize,
    pub retained: Vec<RetainedInventory>,
    /// Bytes of retained messages and tombstones.
    pub retained_bytes: usize,
    pub timers: usize,
    /// Orphaned messages: messages of ended sessions that no other member has taken over yet.
    pub orphans: usize,
    /// Works that go on in the next turn.
    pub unfinished: usize,
    pub pending_subacks: usize,
    /// Connections that wait until a crowded batch of letters has been posted.
    pub waiting_for_post: usize,
}

/// What one session holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInventory {
    pub client_id: String,
    pub connected: bool,
    pub subscriptions: usize,
    /// QoS 2 messages from the client that it has not released.
    pub held: usize,
    /// Messages to the client that are not complete.
    pub in_flight: usize,
    pub queued: usize,
    pub queued_bytes: usize,
    /// How many of the queued messages have expired and have not been removed.
    pub queued_expired: usize,
    /// Whether retained messages still have to be sent.
    pub replays: bool,
    /// Whether publishers are held back for this session.
    pub presses: bool,
}

/// A retained message, or the tombstone of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetainedInventory {
    pub topic: String,
    pub stamp: Stamp,
    pub payload: Option<Vec<u8>>,
    pub expired: bool,
}

impl Shard {
    /// What the shard holds at this moment.
    pub fn inventory(&self, now: Moment) -> Inventory {
        let (held_back, aliases) = self.connections.held_back_and_aliases();
        let (interest, retained) = (self.router.interest(), self.router.retained());
        let (orphans, unfinished) = self.router.waiting();
        let session = |it| SessionInventory::of(it, self.router.deliveries(), now);
        Inventory {
            connections: self.connections.len(),
            held_back,
            aliases,
            sessions: self.sessions.iter().map(session).collect(),
            trie: interest.sizes(),
            groups: interest.group_count(),
            retained: retained.inventory(now),
            retained_bytes: retained.bytes(),
            timers: self.context.timers.len(),
            orphans,
            unfinished,
            pending_subacks: self.connections.waiting_for_applied(),
            waiting_for_post: self.connections.waiting_for_posted(),
        }
    }

    /// How many sessions here subscribe to exactly this filter, and which other shards want it.
    pub fn interest(&self, filter: TopicFilter<'_>) -> (usize, ShardSet) {
        self.router.interest().of_filter(filter)
    }

    /// How many members this shard believes that each shard has of a group.
    pub fn members(&self, shared: SharedFilter<'_>) -> Vec<(ShardId, Counts)> {
        self.router.interest().members(shared)
    }
}

impl SessionInventory {
    fn of(
        (id, session): (SubscriberId, &Session),
        deliveries: &Deliveries,
        now: Moment,
    ) -> SessionInventory {
        let (outbound, queue) = (session.outbound(), &session.outbound().queue);
        SessionInventory {
            client_id: session.client_id().to_owned(),
            connected: session.link().is_some(),
            subscriptions: session.filters().len(),
            held: session.inbound().held(),
            in_flight: outbound.in_flight(),
            queued: queue.len(),
            queued_bytes: queue.bytes(),
            queued_expired: queue.expired(now),
            replays: deliveries.has_replays(id),
            presses: deliveries.is_pressing(id),
        }
    }
}

impl Retained {
    fn inventory(&self, now: Moment) -> Vec<RetainedInventory> {
        let entry =
            |(topic, stamp, message): (TopicName<'_>, Stamp, Option<&Message>)| RetainedInventory {
                topic: topic.as_str().to_owned(),
                stamp,
                payload: message.map(|message| message.view().payload.as_slice().to_vec()),
                expired: message.is_some_and(|message| message.has_expired(now)),
            };
        self.iter().map(entry).collect()
    }
}
