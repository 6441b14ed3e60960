//! Retained messages: stored on every shard, from here and from the letters of the others.

use std::{num::NonZeroU64, rc::Rc};

use super::Shard;
use crate::{
    routing::{Stamp, Weigh},
    session::message::{Message, MessageView},
    topic::TopicName,
};

impl Weigh for Rc<Message> {
    fn bytes(&self) -> usize {
        self.size()
    }
}

impl Shard {
    /// Stores or deletes a retained message, and says when that was, for the other shards.
    pub(super) fn retain_here(
        &mut self,
        name: TopicName<'_>,
        view: &MessageView<'_>,
    ) -> NonZeroU64 {
        // Later than every change seen here, so that the newest wins on all shards.
        let time = self.now.as_nanos().max(self.retained_at + 1);
        self.retain(name, view, Stamp { time, shard: self.settings.shard });
        NonZeroU64::new(time).expect("one more than another")
    }

    /// Applies a change to the retained message of a topic, if the limits allow it.
    /// [MQTT-3.3.1-5] [MQTT-3.3.1-6]
    pub(super) fn retain(&mut self, name: TopicName<'_>, view: &MessageView<'_>, stamp: Stamp) {
        self.retained_at = self.retained_at.max(stamp.time);
        let deletes = view.payload.is_empty();
        let limits = &self.settings.limits;
        let full = self.retained.len() >= limits.retained_max
            || self.retained.bytes() + view.payload.len() > limits.retained_bytes_max;
        if !deletes && full && self.retained.get(name).is_none() {
            self.tallies.refused_retained += 1;
            return;
        }
        let message = (!deletes).then(|| Rc::new(Message::keep(view)));
        self.retained.apply(name, message, stamp);
    }
}
