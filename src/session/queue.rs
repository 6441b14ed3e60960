//! Messages that wait for a session: for its client to come back, or for its window to open.

use std::{collections::VecDeque, rc::Rc};

use super::message::Message;
use crate::{base::time::Moment, mqtt::QoS, topic::GroupName};

/// One message for one session, with what its subscriptions made of it.
#[derive(Clone, Debug)]
pub struct QueuedMessage {
    pub message: Rc<Message>,
    pub qos: QoS,
    pub retain: bool,
    /// The Subscription Identifiers of all subscriptions that it matched; mostly there are none.
    pub subscription_ids: Option<Rc<[u32]>>,
    /// The share group that it came by: its other members inherit it.
    pub group: Option<Rc<GroupName>>,
}

const _: () =
    assert!(size_of::<QueuedMessage>() <= 40, "every message in flight or queued pays for one");

/// How much may wait for one session.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimits {
    pub messages_max: usize,
    pub bytes_max: usize,
}

impl QueueLimits {
    pub const NONE: QueueLimits = QueueLimits { messages_max: usize::MAX, bytes_max: usize::MAX };
}

/// The limit is reached; the message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull;

/// A bounded queue, first in first out. While it is empty it owns no memory: most sessions never
/// need one.
#[derive(Debug, Default)]
pub struct Queue(Option<Box<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<QueuedMessage>,
    bytes: usize,
}

impl Queue {
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |waiting| waiting.messages.len())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |waiting| waiting.bytes)
    }

    /// Whether more waits than `share` hundredths of the limits.
    pub fn is_above(&self, share: usize, limits: &QueueLimits) -> bool {
        self.len().saturating_mul(100) > limits.messages_max.saturating_mul(share)
            || self.bytes().saturating_mul(100) > limits.bytes_max.saturating_mul(share)
    }

    pub fn push(&mut self, queued: QueuedMessage, limits: &QueueLimits) -> Result<(), QueueFull> {
        let bytes = self.bytes().saturating_add(queued.message.size());
        if self.len() >= limits.messages_max || bytes > limits.bytes_max {
            return Err(QueueFull);
        }
        let waiting = self.0.get_or_insert_default();
        waiting.bytes = bytes;
        waiting.messages.push_back(queued);
        Ok(())
    }

    /// The next message that has not expired, and how many before it had. [MQTT-3.3.2-5]
    pub fn pop(&mut self, now: Moment) -> (Option<QueuedMessage>, usize) {
        let mut expired = 0;
        while let Some(queued) = self.pop_front() {
            if !queued.message.has_expired(now) {
                return (Some(queued), expired);
            }
            expired += 1;
        }
        (None, expired)
    }

    /// Everything that waits, for another to take.
    pub fn into_parcels(self) -> impl Iterator<Item = QueuedMessage> {
        self.0.into_iter().flat_map(|waiting| waiting.messages)
    }

    fn pop_front(&mut self) -> Option<QueuedMessage> {
        let waiting = self.0.as_mut()?;
        let queued = waiting.messages.pop_front()?;
        waiting.bytes -= queued.message.size();
        if waiting.messages.is_empty() {
            self.0 = None;
        }
        Some(queued)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::message::tests::view, *};

    const LIMITS: QueueLimits = QueueLimits { messages_max: 2, bytes_max: 1 << 20 };

    fn queued(payload: &[u8], expires_at: Option<Moment>) -> QueuedMessage {
        let mut view = view("t", payload, QoS::AtLeastOnce);
        view.expires_at = expires_at;
        QueuedMessage {
            message: Rc::new(Message::keep(&view)),
            qos: QoS::AtLeastOnce,
            retain: false,
            subscription_ids: None,
            group: None,
        }
    }

    #[test]
    fn a_full_queue_takes_nothing_more() {
        let mut queue = Queue::default();
        assert_eq!(queue.push(queued(b"1", None), &LIMITS), Ok(()));
        assert!(!queue.is_above(50, &LIMITS));
        assert_eq!(queue.push(queued(b"2", None), &LIMITS), Ok(()));
        assert!(queue.is_above(50, &LIMITS));
        assert_eq!(queue.push(queued(b"3", None), &LIMITS), Err(QueueFull));
        let narrow = QueueLimits { messages_max: 10, bytes_max: queue.bytes() };
        assert_eq!(queue.push(queued(b"3", None), &narrow), Err(QueueFull));
    }

    /// [MQTT-3.3.2-5]
    #[test]
    fn expired_messages_are_passed_over_and_counted() {
        let mut queue = Queue::default();
        let now = Moment::from_nanos(10);
        queue.push(queued(b"old", Some(now)), &LIMITS).unwrap();
        queue.push(queued(b"new", None), &LIMITS).unwrap();
        let (popped, expired) = queue.pop(now);
        assert_eq!(popped.unwrap().message.view().payload.as_slice(), b"new");
        assert_eq!(expired, 1);
        assert_eq!(queue.bytes(), 0);
        assert!(queue.pop(now).0.is_none());
    }
}
