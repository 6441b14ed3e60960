//! The retained messages of a shard. Every shard has all of them: changes that are made on one
//! shard go to the others by letter. The shards share the memory of the messages.

use std::sync::Arc;

use crate::{
    access::topics,
    base::{
        ids::ShardId,
        time::{Moment, Span, WallTime},
    },
    routing::{Change, Cursor, Missed, Retainable, RetainedStore, Stamp, Step, Tally},
    session::message::{Message, MessageView, Source},
    topic::{TopicFilter, TopicName},
};

impl Retainable for Message {
    fn bytes(&self) -> usize {
        self.size()
    }

    fn expires_at(&self) -> Option<Moment> {
        Message::expires_at(self)
    }

    fn is_limited(&self) -> bool {
        !topics::is_of_the_broker(self.view().topic)
    }
}

/// A change of a retained message. All shards apply the same one.
pub(super) type Retention = Arc<Change<Message>>;

/// How many messages may be retained, and how many bytes of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct RetainedMax {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

/// The limit of retained messages is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RetainedFull;

/// The retained messages of this shard.
#[derive(Debug)]
pub(super) struct Retained {
    here: ShardId,
    store: RetainedStore<Message>,
    /// The time of the latest change made or seen here.
    latest: u64,
    /// Expired messages that were removed and have not been counted yet.
    expired: u64,
    /// A moment, and the latest change at that moment. It becomes `old` when [`TOMBSTONE_SPAN`] has
    /// passed.
    noted: (Moment, u64),
    /// All changes up to this one are older than [`TOMBSTONE_SPAN`].
    old: u64,
}

/// Messages that one sweep removes.
const SWEPT_AT_ONCE: usize = 4096;
/// A tombstone is kept for at least this long: all older letters have arrived by then.
pub(super) const TOMBSTONE_SPAN: Span = Span::from_secs(60);

impl Retained {
    pub(super) fn new(here: ShardId, now: Moment) -> Retained {
        let store = RetainedStore::default();
        Retained { here, store, latest: 0, expired: 0, noted: (now, 0), old: 0 }
    }

    /// Stores or removes a retained message. Returns first what the other shards have to do, if
    /// anything: they check no limits, so that all shards have the same messages. Returns second
    /// whether there was room to store the message. [MQTT-3.3.1-5] [MQTT-3.3.1-6]
    pub(super) fn change(
        &mut self,
        view: &MessageView<'_>,
        source: Option<Arc<Source>>,
        (now, wall_time): (Moment, WallTime),
        maximum: RetainedMax,
    ) -> (Option<Retention>, Result<(), RetainedFull>) {
        let mut removes = view.payload.is_empty();
        let mut stored = Ok(());
        let name = view.topic;
        let bytes = name.as_str().len() + view.application.len() + view.payload.len();
        let limited = !topics::is_of_the_broker(name);
        if !removes && limited && !self.make_room(name, bytes, maximum, now) {
            stored = Err(RetainedFull);
            if self.store.get(name).is_none() {
                return (None, stored);
            }
            // The earlier message is out of date, so it is removed.
            removes = true;
        }
        // Later than every change seen here, so that the newest change wins on all shards, even if
        // the clock was set back or begins in 1970.
        let time = wall_time.as_nanos().max(self.latest + 1);
        let message = (!removes).then(|| Message::keep(view).by(source));
        let stamp = Stamp { time, shard: self.here };
        let retention = Arc::new(Change::new(name, message, stamp));
        self.apply(&retention);
        (Some(retention), stored)
    }

    /// Applies a change that was made on any shard. False: a newer one is known.
    pub(super) fn apply(&mut self, retention: &Retention) -> bool {
        self.latest = self.latest.max(retention.stamp().time);
        self.store.apply(retention)
    }

    /// The number of the latest update here.
    pub(super) fn sequence(&self) -> u64 {
        self.store.sequence()
    }

    /// Whether a message can be stored that has `bytes` bytes with its topic. Removes expired
    /// messages to make room.
    pub(super) fn make_room(
        &mut self,
        name: TopicName<'_>,
        bytes: usize,
        maximum: RetainedMax,
        now: Moment,
    ) -> bool {
        while !self.has_room(name, bytes, maximum, now) {
            if !self.store.expire_next(now) {
                return false;
            }
            self.expired += 1;
        }
        true
    }

    fn has_room(
        &self,
        name: TopicName<'_>,
        bytes: usize,
        maximum: RetainedMax,
        now: Moment,
    ) -> bool {
        let is_known = || self.store.get(name).is_some_and(|former| !former.has_expired(now));
        self.store.bytes_with(name, Message::size_of(bytes)) <= maximum.bytes
            && (self.store.limited().messages < maximum.messages || is_known())
    }

    /// Removes expired messages, a bounded number. True: there may be more.
    pub(super) fn sweep(&mut self, now: Moment) -> bool {
        let swept = (0..SWEPT_AT_ONCE).take_while(|_| self.store.expire_next(now)).count();
        self.expired += swept as u64;
        swept == SWEPT_AT_ONCE
    }

    /// How many expired messages were removed since the last call.
    pub(super) fn take_expired(&mut self) -> u64 {
        std::mem::take(&mut self.expired)
    }

    /// Forgets a bounded number of old tombstones. True: there may be more. Their stamps do not
    /// tell their age, because stamps may be ahead of the clock.
    pub(super) fn forget_tombstones(&mut self, now: Moment) -> bool {
        let (noted_at, latest) = self.noted;
        if now.since(noted_at) >= TOMBSTONE_SPAN {
            self.old = latest;
            self.noted = (now, self.latest);
        }
        self.store.forget_tombstones(self.old.saturating_add(1))
    }

    /// Begins to read the messages that match a filter; `None` if no message is retained at all.
    /// [MQTT-3.3.1-9]
    pub(super) fn open(&self, filter: TopicFilter<'_>) -> Option<Cursor> {
        (!self.store.is_empty()).then(|| self.store.open(filter))
    }

    /// The next message of a cursor. Looks at no more than `looks` topics.
    pub(super) fn next(
        &self,
        cursor: &mut Cursor,
        missed: &Missed,
        looks: &mut usize,
    ) -> Step<'_, Message> {
        self.store.next(cursor, missed, looks)
    }

    /// Every topic with the stamp of its latest change, and its message if it has one.
    pub(super) fn iter(&self) -> impl Iterator<Item = (TopicName<'_>, Stamp, Option<&Message>)> {
        self.store.iter()
    }

    /// The messages that count against limits, and their bytes.
    pub(super) fn limited(&self) -> Tally {
        self.store.limited()
    }

    /// Bytes of all messages and tombstones.
    pub(super) fn bytes(&self) -> usize {
        self.store.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{mqtt::QoS, session::message::tests::view};

    const START: Moment = Moment::from_nanos(7);
    const NOW: WallTime = WallTime::from_nanos(1_000);
    const AT: (Moment, WallTime) = (START, NOW);

    fn shard(index: usize) -> ShardId {
        ShardId::new(index).unwrap()
    }

    fn retained() -> Retained {
        Retained::new(shard(0), START)
    }

    /// A change that another shard has made.
    fn theirs(time: u64) -> Retention {
        let message = view("a", b"1", QoS::AtMostOnce);
        let stamp = Stamp { time, shard: shard(1) };
        Arc::new(Change::new(message.topic, Some(Message::keep(&message)), stamp))
    }

    const ONE: RetainedMax = RetainedMax { messages: 1, bytes: 1_000 };

    fn payloads(retained: &Retained) -> Vec<Option<Vec<u8>>> {
        let payload = |message: &Message| message.view().payload.as_slice().to_vec();
        retained.iter().map(|(_, _, message)| message.map(payload)).collect()
    }

    #[test]
    fn a_change_here_is_later_than_every_change_seen() {
        let mut retained = retained();
        retained.apply(&theirs(9_000));
        let later = view("a", b"2", QoS::AtMostOnce);
        let (change, stored) = retained.change(&later, None, AT, ONE);
        assert_eq!((change.map(|it| it.stamp().time), stored), (Some(9_001), Ok(())));
        assert_eq!(payloads(&retained), [Some(b"2".to_vec())]);
    }

    #[test]
    fn what_has_no_room_is_not_stored_and_takes_the_place_of_what_is_out_of_date() {
        let mut retained = retained();
        let message = view("a", b"1", QoS::AtMostOnce);
        assert_eq!(retained.change(&message, None, AT, ONE).1, Ok(()));
        let other = view("b", b"1", QoS::AtMostOnce);
        let (change, stored) = retained.change(&other, None, AT, ONE);
        assert!(change.is_none() && stored == Err(RetainedFull));
        let small = RetainedMax { bytes: 1, ..ONE };
        let (change, stored) = retained.change(&message, None, AT, small);
        assert!(change.is_some_and(|change| change.message().is_none()) && stored.is_err());
        assert_eq!((retained.limited().messages, payloads(&retained)), (0, vec![None]));
    }

    #[test]
    fn expired_messages_become_tombstones_and_those_are_forgotten_in_time() {
        let mut retained = retained();
        let soon = START + Span::from_secs(1);
        let message = MessageView { expires_at: Some(soon), ..view("a", b"1", QoS::AtMostOnce) };
        retained.change(&message, None, AT, ONE).1.unwrap();
        assert!(!retained.sweep(START));
        assert_eq!(retained.take_expired(), 0);
        assert!(!retained.sweep(soon));
        assert_eq!((retained.take_expired(), retained.take_expired()), (1, 0));
        assert!(retained.open(TopicFilter::parse("#").unwrap()).is_none());
        retained.forget_tombstones(START + TOMBSTONE_SPAN);
        assert_eq!(payloads(&retained), [None]);
        let later = START + TOMBSTONE_SPAN + TOMBSTONE_SPAN;
        retained.forget_tombstones(Moment::from_nanos(later.as_nanos() - 1));
        assert_eq!(payloads(&retained), [None]);
        retained.forget_tombstones(later);
        assert!(payloads(&retained).is_empty());
    }

    /// A process that ran in 2026 has left a change; the next one begins in 1970.
    #[test]
    fn a_clock_that_is_behind_neither_loses_updates_nor_keeps_tombstones() {
        let mut retained = retained();
        let left = theirs(1_790_000_000 << 30);
        retained.apply(&left);
        for payload in [b"2", b"3"] {
            let (change, stored) =
                retained.change(&view("a", payload, QoS::AtMostOnce), None, AT, ONE);
            assert!(change.is_some_and(|change| change.stamp() > left.stamp()) && stored.is_ok());
            assert_eq!(payloads(&retained), [Some(payload.to_vec())]);
        }
        retained.change(&view("a", b"", QoS::AtMostOnce), None, AT, ONE).1.unwrap();
        assert_eq!(payloads(&retained), [None]);
        retained.forget_tombstones(START + TOMBSTONE_SPAN);
        retained.forget_tombstones(START + TOMBSTONE_SPAN + TOMBSTONE_SPAN);
        assert!(payloads(&retained).is_empty());
    }
}
