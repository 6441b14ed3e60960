//! Orphaned messages: messages of ended sessions that wait for other members of their share groups,
//! and messages that found all members full. Oldest first.

use std::collections::VecDeque;

use crate::{
    base::time::Span,
    session::{
        outbound::Outbound,
        queue::{QueueLimits, QueuedMessage},
    },
};

/// Messages that no other member has taken over yet.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    waiting: VecDeque<QueuedMessage>,
    /// Bytes of them.
    bytes: usize,
    /// A turn for them has been arranged.
    is_arranged: bool,
}

/// The time between two turns that bring some of them to other members.
pub(super) const ORPHANS_PAUSE: Span = Span::from_millis(1);

/// The time between two such turns while no member has room.
pub(super) const ORPHANS_LONG_PAUSE: Span = Span::from_millis(20);

impl Orphans {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes the messages of an ended session. True: the caller has to arrange a turn for them.
    pub(super) fn take_from(&mut self, outbound: Outbound) -> bool {
        for queued in outbound.into_shared() {
            self.push(queued);
        }
        self.arrange()
    }

    /// Whether another message of so many bytes may wait until a member has room: as many as in
    /// one session.
    pub(super) fn have_room_for(&self, bytes: usize, limits: &QueueLimits) -> bool {
        self.len() < limits.messages_max && self.bytes.saturating_add(bytes) <= limits.bytes_max
    }

    /// Keeps a message that no member has room for now. True: the caller has to arrange a turn.
    pub(super) fn keep(&mut self, queued: QueuedMessage) -> bool {
        self.push(queued);
        self.arrange()
    }

    fn push(&mut self, queued: QueuedMessage) {
        self.bytes += queued.message.size();
        self.waiting.push_back(queued);
    }

    fn arrange(&mut self) -> bool {
        !self.is_empty() && !std::mem::replace(&mut self.is_arranged, true)
    }

    /// Ends a turn that began with `before` messages. Returns the time to the next turn, if any
    /// messages are left.
    pub(super) fn end_turn(&mut self, before: usize) -> Option<Span> {
        self.is_arranged = !self.is_empty();
        let pause = if self.len() < before { ORPHANS_PAUSE } else { ORPHANS_LONG_PAUSE };
        self.is_arranged.then_some(pause)
    }

    /// The next message to give to another member. Frees the memory with the last one.
    pub(super) fn next(&mut self) -> Option<QueuedMessage> {
        let next = self.waiting.pop_front();
        match &next {
            Some(queued) => self.bytes -= queued.message.size(),
            None => self.waiting = VecDeque::new(),
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::{
        base::{byte_count::ByteCount, time::Moment},
        mqtt::QoS,
        session::{
            message::{CountedMessage, tests::view},
            ordinals::Ordinal,
            queue::QueueLimits,
        },
        topic::Subscription,
    };

    fn outbound(topics: &[&str], is_shared: bool) -> Outbound {
        let Ok(Subscription::Shared(shared)) = Subscription::parse("$share/g/#") else {
            panic!("a shared subscription")
        };
        let group = is_shared.then(|| Rc::new(shared.into()));
        let mut outbound = Outbound::default();
        for topic in topics {
            let message = Rc::new(CountedMessage::keep(
                &view(topic, b"", QoS::AtLeastOnce),
                &ByteCount::default(),
            ));
            let group = group.clone();
            let queued = QueuedMessage {
                message,
                qos: QoS::AtLeastOnce,
                retain: false,
                subscription_ids: None,
                group,
                ordinal: Ordinal::NONE,
            };
            outbound.queue.push(queued, Moment::from_nanos(0), &QueueLimits::NONE).unwrap();
        }
        outbound
    }

    #[test]
    fn what_came_by_a_share_group_is_inherited_in_order() {
        let mut orphans = Orphans::default();
        assert!(!orphans.take_from(outbound(&["own"], false)));
        assert!(orphans.take_from(outbound(&["1", "2"], true)));
        assert!(!orphans.take_from(outbound(&["3"], true)));
        assert_eq!(orphans.len(), 3);
        let next = std::iter::from_fn(|| orphans.next());
        let topics: Vec<_> = next.map(|it| it.message.view().topic.as_str().to_owned()).collect();
        assert_eq!(topics, ["1", "2", "3"]);
        assert_eq!((orphans.waiting.capacity(), orphans.bytes), (0, 0));
    }
}
