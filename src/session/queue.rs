//! The queue of a session: messages that wait for the client to reconnect, or for its window.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    rc::Rc,
};

use super::{message::CountedMessage, ordinals::Ordinal, pace::Pace};
use crate::{
    base::time::{Moment, Span},
    mqtt::QoS,
    topic::GroupName,
};

/// One message for one session, with the QoS and options of its subscriptions.
#[derive(Clone, Debug)]
pub struct QueuedMessage {
    pub message: Rc<CountedMessage>,
    pub qos: QoS,
    pub retain: bool,
    /// The Subscription Identifiers of all matching subscriptions. Usually there are none.
    pub subscription_ids: Option<Rc<[u32]>>,
    /// The share group by which the message came. Other members may take the message over.
    pub group: Option<Rc<GroupName>>,
    /// Its place in the order of a session that survives a restart.
    pub ordinal: Ordinal,
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

/// The queue is at its limit. The message was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull;

/// A bounded queue, first in first out. It owns no memory until it is used: most sessions never
/// need one. [`Queue::expire`] removes expired messages from any place.
#[derive(Debug, Default)]
pub struct Queue(Option<Box<Waiting>>);

#[derive(Debug)]
struct Waiting {
    /// `None` in the place of a message that has expired. The first place is never `None`.
    places: VecDeque<Option<QueuedMessage>>,
    /// The number of the first place. Places are numbered in their order.
    first: u64,
    /// The places of messages that expire, the soonest first. Some of them have left the queue.
    expiries: BinaryHeap<Reverse<(Moment, u64)>>,
    messages: usize,
    bytes: usize,
    /// How many messages have left towards the client, and since when there have been any.
    taken: u64,
    since: Moment,
    /// Since when no message has left the queue, although one went to another member.
    stuck_since: Option<Moment>,
    /// Messages of share groups went to other members because it was behind.
    relieved: bool,
    pace: Pace,
}

impl Queue {
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |waiting| waiting.messages)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |waiting| waiting.bytes)
    }

    /// How many messages have left towards the client since the queue was empty.
    pub fn taken(&self) -> u64 {
        self.0.as_ref().map_or(0, |waiting| waiting.taken)
    }

    /// Since when messages have been waiting.
    pub fn since(&self) -> Option<Moment> {
        self.0.as_ref().map(|waiting| waiting.since)
    }

    /// How many messages have expired and are still in the queue.
    pub fn expired(&self, now: Moment) -> usize {
        let places = self.0.iter().flat_map(|waiting| waiting.places.iter().flatten());
        places.filter(|queued| queued.message.has_expired(now)).count()
    }

    /// Whether publishers are to be held back: more than half of what may wait does, or messages
    /// wait for longer than they would have to at the rate at which they leave.
    pub fn is_crowded(&self, now: Moment, limits: &QueueLimits) -> bool {
        self.is_half_full(limits) || self.backlog_max(now).is_some_and(|max| self.len() > max)
    }

    /// Whether publishers that were held back for it may go on.
    pub fn has_eased(&self, now: Moment, limits: &QueueLimits) -> bool {
        let is_long = self.backlog_max(now).is_some_and(|max| self.len() > max / 2);
        self.has_caught_up(limits) && !is_long
    }

    fn backlog_max(&self, now: Moment) -> Option<usize> {
        self.0.as_ref()?.pace.backlog_max(now)
    }

    /// Whether one more message would make the queue crowded.
    pub fn is_behind(&self, limits: &QueueLimits) -> bool {
        self.len().saturating_mul(2) >= limits.messages_max
            || self.bytes().saturating_mul(2) >= limits.bytes_max
    }

    /// Whether a queue that was behind has caught up: at most a quarter of what may wait does.
    pub fn has_caught_up(&self, limits: &QueueLimits) -> bool {
        !self.is_above(25, limits)
    }

    /// Whether more than half of what may wait does.
    pub fn is_half_full(&self, limits: &QueueLimits) -> bool {
        self.is_above(50, limits)
    }

    /// Whether more waits than `share` hundredths of the limits.
    fn is_above(&self, share: usize, limits: &QueueLimits) -> bool {
        self.len().saturating_mul(100) > limits.messages_max.saturating_mul(share)
            || self.bytes().saturating_mul(100) > limits.bytes_max.saturating_mul(share)
    }

    pub fn push(
        &mut self,
        queued: QueuedMessage,
        now: Moment,
        limits: &QueueLimits,
    ) -> Result<(), QueueFull> {
        let bytes = self.bytes().saturating_add(queued.message.size());
        if self.len() >= limits.messages_max || bytes > limits.bytes_max {
            return Err(QueueFull);
        }
        self.0.get_or_insert_with(|| Box::new(Waiting::new(Pace::new(now), now))).push(queued);
        Ok(())
    }

    /// Removes expired messages, and returns how many they were. [MQTT-3.3.2-5]
    pub fn expire(&mut self, now: Moment) -> usize {
        let expired = self.0.as_mut().map_or(0, |waiting| waiting.expire(now));
        self.forget_if_empty();
        expired
    }

    /// A message of a share group goes to another member, because this one is behind or full.
    /// Returns how long no message has left the queue, as far as is known.
    pub fn note_relief(&mut self, now: Moment) -> Span {
        let Some(waiting) = &mut self.0 else { return Span::ZERO };
        waiting.relieved = true;
        now.since(*waiting.stuck_since.get_or_insert(now))
    }

    /// Whether messages of share groups have gone to other members since it was behind.
    pub fn is_relieved(&self) -> bool {
        self.0.as_ref().is_some_and(|waiting| waiting.relieved)
    }

    /// It has caught up.
    pub fn end_relief(&mut self) {
        if let Some(waiting) = &mut self.0 {
            waiting.relieved = false;
        }
    }

    /// The message that has waited longest, expired or not.
    pub fn first(&self) -> Option<&QueuedMessage> {
        self.0.as_ref()?.places.front()?.as_ref()
    }

    /// All messages that wait, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &QueuedMessage> {
        self.0.iter().flat_map(|waiting| waiting.places.iter().flatten())
    }

    /// The next message that has not expired, and how many expired ones were removed before it.
    /// [MQTT-3.3.2-5]
    pub fn pop(&mut self, now: Moment) -> (Option<QueuedMessage>, usize) {
        let expired = self.expire(now);
        let next = self.0.as_mut().and_then(|waiting| waiting.pop_first(now));
        self.forget_if_empty();
        (next, expired)
    }

    /// All messages that wait.
    pub fn into_messages(self) -> impl Iterator<Item = QueuedMessage> {
        self.0.into_iter().flat_map(|waiting| waiting.places.into_iter().flatten())
    }

    fn forget_if_empty(&mut self) {
        self.0.take_if(|waiting| waiting.messages == 0);
    }
}

impl Waiting {
    fn new(pace: Pace, since: Moment) -> Waiting {
        Waiting {
            places: VecDeque::new(),
            first: 0,
            expiries: BinaryHeap::new(),
            messages: 0,
            bytes: 0,
            taken: 0,
            since,
            stuck_since: None,
            relieved: false,
            pace,
        }
    }

    fn push(&mut self, queued: QueuedMessage) {
        if let Some(expires_at) = queued.message.expires_at() {
            let number = self.first + self.places.len() as u64;
            self.expiries.push(Reverse((expires_at, number)));
        }
        self.messages += 1;
        self.bytes += queued.message.size();
        self.places.push_back(Some(queued));
    }

    fn pop_first(&mut self, now: Moment) -> Option<QueuedMessage> {
        let queued = self.places.front_mut()?.take()?;
        self.stuck_since = None;
        self.messages -= 1;
        self.taken += 1;
        self.bytes -= queued.message.size();
        self.pace.note_left(1, self.messages, now);
        self.tidy();
        Some(queued)
    }

    fn expire(&mut self, now: Moment) -> usize {
        let before = self.messages;
        while let Some(&Reverse((expires_at, number))) = self.expiries.peek()
            && expires_at <= now
        {
            self.expiries.pop();
            let place = number.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
            if let Some(queued) = place.and_then(|at| self.places.get_mut(at)?.take()) {
                self.messages -= 1;
                self.bytes -= queued.message.size();
            }
        }
        if before > self.messages {
            self.tidy();
        }
        before - self.messages
    }

    /// Frees memory: places before the first message, and expiries of messages that have left, once
    /// they outnumber the others.
    fn tidy(&mut self) {
        while let Some(None) = self.places.front() {
            self.places.pop_front();
            self.first += 1;
        }
        let wasted = SPARE_PLACES + 2 * self.messages;
        if self.places.len() > wasted || self.expiries.len() > wasted {
            let places = std::mem::take(&mut self.places);
            let Waiting { stuck_since, relieved, taken, since, pace, .. } = *self;
            *self = Waiting { taken, stuck_since, relieved, ..Waiting::new(pace, since) };
            places.into_iter().flatten().for_each(|queued| self.push(queued));
        }
    }
}

/// Places of messages that have left that are kept in any case.
const SPARE_PLACES: usize = 16;

#[cfg(test)]
mod tests {
    use super::{super::message::tests::view, *};
    use crate::base::byte_count::ByteCount;

    const START: Moment = Moment::from_nanos(0);
    const LIMITS: QueueLimits = QueueLimits { messages_max: 2, bytes_max: 1 << 20 };

    fn queued(payload: &[u8], expires_at: Option<Moment>) -> QueuedMessage {
        let mut view = view("t", payload, QoS::AtLeastOnce);
        view.expires_at = expires_at;
        QueuedMessage {
            message: Rc::new(CountedMessage::keep(&view, &ByteCount::default())),
            qos: QoS::AtLeastOnce,
            retain: false,
            subscription_ids: None,
            group: None,
            ordinal: Ordinal::NONE,
        }
    }

    #[test]
    fn a_full_queue_takes_nothing_more() {
        let mut queue = Queue::default();
        assert_eq!(queue.push(queued(b"1", None), START, &LIMITS), Ok(()));
        assert!(!queue.is_above(50, &LIMITS));
        assert_eq!(queue.push(queued(b"2", None), START, &LIMITS), Ok(()));
        assert!(queue.is_above(50, &LIMITS));
        assert_eq!(queue.push(queued(b"3", None), START, &LIMITS), Err(QueueFull));
        let narrow = QueueLimits { messages_max: 10, bytes_max: queue.bytes() };
        assert_eq!(queue.push(queued(b"3", None), START, &narrow), Err(QueueFull));
    }

    /// [MQTT-3.3.2-5]
    #[test]
    fn expired_messages_are_passed_over_and_counted() {
        let mut queue = Queue::default();
        let now = Moment::from_nanos(10);
        queue.push(queued(b"old", Some(now)), START, &LIMITS).unwrap();
        queue.push(queued(b"new", None), START, &LIMITS).unwrap();
        let (popped, expired) = queue.pop(now);
        assert_eq!(popped.unwrap().message.view().payload.as_slice(), b"new");
        assert_eq!(expired, 1);
        assert_eq!(queue.bytes(), 0);
        assert!(queue.pop(now).0.is_none());
    }

    #[test]
    fn what_has_expired_takes_no_place_whoever_waits_before_it() {
        let mut queue = Queue::default();
        let limits = QueueLimits { messages_max: 3, bytes_max: 1 << 20 };
        queue.push(queued(b"first", None), START, &limits).unwrap();
        for round in 1..1000 {
            let expires_at = Moment::from_nanos(round);
            queue.push(queued(b"old", Some(expires_at)), START, &limits).unwrap();
            queue.push(queued(b"older", Some(expires_at)), START, &limits).unwrap();
            assert_eq!(queue.push(queued(b"new", None), START, &limits), Err(QueueFull));
            assert_eq!(queue.expire(Moment::from_nanos(round - 1)), 0);
            assert_eq!(queue.expire(expires_at), 2);
            let waiting = queue.0.as_ref().unwrap();
            assert!(waiting.places.len() < 30 && waiting.expiries.len() < 30);
        }
        queue.push(queued(b"last", None), START, &limits).unwrap();
        for payload in [&b"first"[..], b"last"] {
            let popped = queue.pop(Moment::from_nanos(2000)).0.unwrap();
            assert_eq!(popped.message.view().payload.as_slice(), payload);
        }
        assert!(queue.is_empty());
    }
}
