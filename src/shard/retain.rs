//! Retained messages: stored on every shard, from here and from the letters of the others.

use std::{num::NonZeroU64, rc::Rc};

use super::Shard;
use crate::{
    base::ids::ShardId,
    routing::{MemorySize, Stamp},
    session::message::{Message, MessageView},
    topic::TopicName,
};

impl MemorySize for Rc<Message> {
    fn bytes(&self) -> usize {
        self.size()
    }
}

/// A change of a retained message, as the other shards are told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retention {
    pub(super) time: NonZeroU64,
    /// The topic has no retained message any more, whatever the payload.
    pub(super) removes: bool,
}

impl Shard {
    /// Stores or removes a retained message here, and says what the other shards are to do. They
    /// ask no limits of their own, so that all have the same. [MQTT-3.3.1-5] [MQTT-3.3.1-6]
    pub(super) fn retain_here(&mut self, view: &MessageView<'_>) -> Option<Retention> {
        let name = view.topic;
        let mut removes = view.payload.is_empty();
        let bytes = name.as_str().len() + view.application.len() + view.payload.len();
        if !removes && !self.has_room_to_retain(name, bytes) {
            self.counters.refused_retained += 1;
            // Better none than one that is out of date.
            self.retained.get(name)?;
            removes = true;
        }
        // Later than every change seen here, so that the newest wins on all shards.
        let time = self.now.as_nanos().max(self.retained_at + 1);
        let time = NonZeroU64::new(time).expect("one more than another");
        let retention = Retention { time, removes };
        self.retain(view, retention, self.settings.shard);
        Some(retention)
    }

    /// Applies a change that was made on shard `by`.
    pub(super) fn retain(&mut self, view: &MessageView<'_>, retention: Retention, by: ShardId) {
        let time = retention.time.get();
        self.retained_at = self.retained_at.max(time);
        let message = (!retention.removes).then(|| Rc::new(Message::keep(view)));
        self.retained.apply(view.topic, message, Stamp { time, shard: by });
    }

    /// Whether a message of so many bytes, those of its topic among them, can be stored.
    pub(super) fn has_room_to_retain(&self, name: TopicName<'_>, bytes: usize) -> bool {
        let limits = &self.rules.limits;
        let is_known = || self.retained.get(name).is_some();
        self.retained.bytes_with(name, Message::size_of(bytes)) <= limits.retained_bytes_max
            && (self.retained.len() < limits.retained_max || is_known())
    }

    /// Removes retained messages whose time has passed, a bounded number of topics at a time.
    pub(super) fn sweep_retained(&mut self) {
        let now = self.now;
        let swept = self.retained.sweep(SWEPT_AT_ONCE, |message| message.has_expired(now));
        self.counters.dropped_expired += swept as u64;
    }
}

/// Topics that one sweep looks at.
const SWEPT_AT_ONCE: usize = 4096;
