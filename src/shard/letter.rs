//! Letters from shard to shard, and the batches in which they travel.
//!
//! A batch is a vector of letters and a vector of the bytes that they refer to. Emptied batches are
//! reused, so that writing a letter usually allocates nothing. Large payloads and retained messages
//! are sent by reference.

use std::{num::NonZeroU32, sync::Arc};

use bytes::Bytes;

use super::{patience::Patience, stats::Counters};
use crate::{
    base::{
        ids::{ConnectionId, SHARDS_MAX},
        time::Moment,
    },
    mqtt::QoS,
    routing::{Change, Counts},
    session::{
        absent::Newcomer,
        message::{Message, MessageView, Payload},
    },
    storage::MessageId,
    topic::{ShareName, SharedFilter, TopicFilter, TopicName},
};

/// A batch with this many letters is crowded: publishers wait until it has been posted.
pub const BATCH_LETTERS_MAX: usize = 4096;
/// A batch with this many bytes is crowded, large payloads included.
pub const BATCH_BYTES_MAX: usize = 256 << 10;
/// Bytes of memory that an emptied batch keeps for the next use.
const BATCH_BYTES_KEPT: usize = 2 * BATCH_BYTES_MAX;

const _: () = assert!(size_of::<Letter>() <= 64, "a letter travels in one cache line");
const _: () = assert!(SHARDS_MAX <= u8::MAX as usize, "hops are counted in a byte");

/// Letters to one shard, with the bytes that they refer to.
#[derive(Debug, Default)]
pub struct LetterBatch {
    letters: Vec<Letter>,
    /// How many of them the receiver has handled.
    handled: usize,
    text: Vec<u8>,
    payloads: Vec<Bytes>,
    /// Changes of retained messages.
    changes: Vec<Arc<Change<Message>>>,
    /// Bytes of shared payloads and of retained messages.
    shared_bytes: usize,
}

/// What one shard tells another.
#[derive(Debug)]
pub enum Letter {
    /// A message for subscribers on the other shard.
    Publish(PublishLetter),
    /// The sender has its first subscriber of a filter, or has lost its last one.
    Interest { filter: TextRange, wanted: bool },
    /// The sender has applied all interest up to this number.
    InterestApplied { upto: u64 },
    /// How many members of a share group the sender has.
    Group { share: TextRange, filter: TextRange, counts: Counts },
    /// A subscriber of the sender cannot keep up with this publisher, which is to be held back.
    Press { publisher: ConnectionId, patience: Patience },
    /// The publisher may go on.
    Ease { publisher: ConnectionId, patience: Patience },
    /// The sender has no place for a session of the client on this connection. The receiver ends an
    /// absent session, if one has to go.
    AskPlace { connection: ConnectionId, newcomer: Newcomer, is_lasting: bool },
    /// The answer, whether a session has gone or not.
    PlaceLookedFor { connection: ConnectionId },
    /// The first shard asks what this one has counted.
    AskCounters,
    /// The counters of the sender.
    Counters(Box<Counters>),
}

/// A message on its way to another shard.
#[derive(Debug)]
pub struct PublishLetter {
    /// Where the text of this letter begins in the batch: topic, properties, small payload and
    /// groups, in this order.
    start: u32,
    topic_len: u16,
    application_len: u32,
    payload_len: u32,
    groups_len: u32,
    /// The place of a large payload in the batch, counted from 1.
    shared: Option<NonZeroU32>,
    /// In nanoseconds; 0 for never.
    expires_at: u64,
    /// The publisher's connection on the shard that sends the letter.
    publisher: Option<ConnectionId>,
    qos: QoS,
    retain: bool,
    publisher_hash: u32,
    /// How often the message has been passed on from shard to shard for a member of its group; 0
    /// if it comes directly from its publisher.
    pub hops: u8,
    /// Whether all subscribers get the message, and not only the share groups that it names.
    pub to_subscribers: bool,
    /// The place of the change of a retained message in the batch, counted from 1. If the change
    /// stores a message, this is the message of the letter, too, and its bytes are there only.
    change: Option<NonZeroU32>,
    /// The sender has written down that the receiver has to take the message. 0: it has not.
    recorded: u64,
}

/// A piece of a batch's text.
#[derive(Clone, Copy, Debug)]
pub struct TextRange {
    start: u32,
    len: u32,
}

/// A [`PublishLetter`] with its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Arrived<'a> {
    pub view: MessageView<'a>,
    pub publisher: Option<ConnectionId>,
    pub groups: GroupKeys<'a>,
    /// The change that the message makes of the retained message of its topic.
    pub retention: Option<&'a Arc<Change<Message>>>,
    /// The sender has written down that the receiver has to take it.
    pub recorded: Option<MessageId>,
}

/// The receivers of a message on another shard.
#[derive(Clone, Copy, Debug)]
pub struct Address<'a> {
    pub to_subscribers: bool,
    pub groups: GroupKeys<'a>,
    /// The change that the message makes of the retained message of its topic.
    pub retention: Option<&'a Arc<Change<Message>>>,
    pub publisher: Option<ConnectionId>,
    pub hops: u8,
    /// It is written down that the receiver has to take the message.
    pub recorded: Option<MessageId>,
}

/// Names of share groups, as text: ShareName, U+0000, Topic Filter, U+0000. Neither may contain
/// U+0000 itself. [MQTT-1.5.4-2]
#[derive(Clone, Copy, Debug, Default)]
pub struct GroupKeys<'a>(&'a str);

impl<'a> GroupKeys<'a> {
    pub fn from_text(text: &'a str) -> GroupKeys<'a> {
        GroupKeys(text)
    }

    /// Appends one group to the text of many.
    pub fn write(text: &mut String, group: SharedFilter<'_>) {
        for part in [group.share.as_str(), group.filter.as_str()] {
            text.push_str(part);
            text.push('\0');
        }
    }

    /// Bytes of one group in the text of many.
    pub fn len_of(group: SharedFilter<'_>) -> usize {
        group.share.as_str().len() + group.filter.as_str().len() + 2
    }

    pub fn as_text(self) -> &'a str {
        self.0
    }

    pub fn iter(self) -> impl Iterator<Item = SharedFilter<'a>> {
        let mut parts = self.0.split_terminator('\0');
        std::iter::from_fn(move || {
            let share = parts.next()?;
            let filter = parts.next().expect("a Topic Filter follows each ShareName");
            Some(shared_filter(share, filter))
        })
    }
}

impl LetterBatch {
    pub fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    /// Whether the batch is so large that publishers have to wait until it is posted.
    pub fn is_crowded(&self) -> bool {
        self.letters.len() >= BATCH_LETTERS_MAX
            || self.text.len() + self.shared_bytes >= BATCH_BYTES_MAX
    }

    /// What the batch takes, without large payloads.
    pub fn bytes(&self) -> usize {
        self.letters.len() * size_of::<Letter>() + self.text.len()
    }

    /// Empties the batch and keeps its memory for the next one.
    pub fn clear(&mut self) {
        self.handled = 0;
        self.letters.clear();
        self.letters.shrink_to(2 * BATCH_LETTERS_MAX);
        self.text.clear();
        self.text.shrink_to(BATCH_BYTES_KEPT);
        self.payloads.clear();
        self.payloads.shrink_to(BATCH_LETTERS_MAX);
        self.changes.clear();
        self.changes.shrink_to(BATCH_LETTERS_MAX);
        self.shared_bytes = 0;
    }

    /// The letters that have not been handled.
    pub fn iter(&self) -> impl Iterator<Item = &Letter> {
        self.letters[self.handled..].iter()
    }

    /// The receiver has handled so many more letters. True: all of them.
    pub fn note_handled(&mut self, letters: usize) -> bool {
        self.handled += letters;
        self.handled == self.letters.len()
    }

    /// Whether the receiver has handled some letters.
    pub fn is_begun(&self) -> bool {
        self.handled > 0
    }

    pub fn push_publish(&mut self, view: &MessageView<'_>, address: &Address<'_>) {
        let start = self.position();
        let change = address.retention.map(|change| self.push_change(change));
        let kept = address.retention.and_then(|change| change.message());
        let [topic, application] = match kept {
            Some(_) => [&[][..]; 2],
            None => [view.topic.as_str().as_bytes(), view.application],
        };
        self.text.extend_from_slice(topic);
        self.text.extend_from_slice(application);
        let payload = if kept.is_some() { Payload::Small(&[]) } else { view.payload };
        let (payload_len, shared) = self.push_payload(payload);
        self.text.extend_from_slice(address.groups.0.as_bytes());
        self.letters.push(Letter::Publish(PublishLetter {
            start,
            topic_len: u16::try_from(topic.len()).expect("a Topic Name has a 16-bit length"),
            application_len: length(application.len()),
            payload_len,
            groups_len: length(address.groups.0.len()),
            shared,
            change,
            expires_at: view.expires_at.map_or(0, Moment::as_nanos),
            publisher: address.publisher,
            publisher_hash: view.publisher_hash,
            qos: view.qos,
            retain: view.retain,
            hops: address.hops,
            to_subscribers: address.to_subscribers,
            recorded: address.recorded.map_or(0, |message| message.0),
        }));
    }

    pub fn push_interest(&mut self, filter: TopicFilter<'_>, wanted: bool) {
        let filter = self.push_text(filter.as_str());
        self.letters.push(Letter::Interest { filter, wanted });
    }

    pub fn push_group(&mut self, group: SharedFilter<'_>, counts: Counts) {
        let share = self.push_text(group.share.as_str());
        let filter = self.push_text(group.filter.as_str());
        self.letters.push(Letter::Group { share, filter, counts });
    }

    /// Adds a letter that carries no text.
    pub fn push(&mut self, letter: Letter) {
        debug_assert!(
            !matches!(letter, Letter::Publish(_) | Letter::Interest { .. } | Letter::Group { .. }),
            "letters with text are written by their own functions"
        );
        self.letters.push(letter);
    }

    /// The filter that a letter of this batch refers to.
    pub fn filter(&self, filter: TextRange) -> TopicFilter<'_> {
        TopicFilter::from_valid(self.text(filter))
    }

    /// The share group that a letter of this batch refers to.
    pub fn group(&self, share: TextRange, filter: TextRange) -> SharedFilter<'_> {
        shared_filter(self.text(share), self.text(filter))
    }

    fn text(&self, text: TextRange) -> &str {
        str_of(&self.text[text.start as usize..][..text.len as usize])
    }

    /// A publish letter of this batch with its bytes.
    pub fn open<'a>(&'a self, letter: &PublishLetter) -> Arrived<'a> {
        let rest = &self.text[letter.start as usize..];
        let (topic, rest) = rest.split_at(usize::from(letter.topic_len));
        let (application, rest) = rest.split_at(letter.application_len as usize);
        let (payload, rest) = rest.split_at(letter.payload_len as usize);
        let groups = GroupKeys(str_of(&rest[..letter.groups_len as usize]));
        let (publisher, retention) = (letter.publisher, self.change_of(letter));
        let recorded = (letter.recorded != 0).then_some(MessageId(letter.recorded));
        if let Some(kept) = retention.and_then(|change| change.message()) {
            return Arrived { view: kept.view(), publisher, groups, retention, recorded };
        }
        let shared = letter.shared.map(|place| &self.payloads[index_of(place)]);
        let view = MessageView {
            topic: TopicName::from_valid(str_of(topic)),
            application,
            payload: shared.map_or(Payload::Small(payload), Payload::Shared),
            qos: letter.qos,
            retain: letter.retain,
            expires_at: (letter.expires_at != 0).then(|| Moment::from_nanos(letter.expires_at)),
            publisher: None,
            publisher_hash: letter.publisher_hash,
        };
        Arrived { view, publisher, groups, retention, recorded }
    }

    fn change_of(&self, letter: &PublishLetter) -> Option<&Arc<Change<Message>>> {
        letter.change.map(|place| &self.changes[index_of(place)])
    }

    fn push_change(&mut self, change: &Arc<Change<Message>>) -> NonZeroU32 {
        self.changes.push(Arc::clone(change));
        self.shared_bytes += change.message().map_or(0, Message::size);
        place_of_last(&self.changes)
    }

    fn push_payload(&mut self, payload: Payload<'_>) -> (u32, Option<NonZeroU32>) {
        match payload {
            Payload::Small(bytes) => {
                self.text.extend_from_slice(bytes);
                (length(bytes.len()), None)
            }
            Payload::Shared(bytes) => {
                self.payloads.push(bytes.clone());
                self.shared_bytes += bytes.len();
                (0, Some(place_of_last(&self.payloads)))
            }
        }
    }

    fn push_text(&mut self, text: &str) -> TextRange {
        let start = self.position();
        self.text.extend_from_slice(text.as_bytes());
        TextRange { start, len: length(text.len()) }
    }

    fn position(&self) -> u32 {
        length(self.text.len())
    }
}

fn shared_filter<'a>(share: &'a str, filter: &'a str) -> SharedFilter<'a> {
    let share = ShareName::from_valid(share);
    SharedFilter { share, filter: TopicFilter::from_valid(filter) }
}

#[inline]
fn str_of(bytes: &[u8]) -> &str {
    // Most letters name no groups.
    if bytes.is_empty() {
        return "";
    }
    std::str::from_utf8(bytes).expect("only whole strs are written there")
}

/// The place of the last element, counted from 1.
fn place_of_last<T>(list: &[T]) -> NonZeroU32 {
    NonZeroU32::new(length(list.len())).expect("it has just been added")
}

fn index_of(place: NonZeroU32) -> usize {
    place.get() as usize - 1
}

fn length(len: usize) -> u32 {
    u32::try_from(len).expect("publishers hold back long before a batch has 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{base::ids::ShardId, routing::Stamp, session::message::tests::view};

    #[test]
    fn a_message_arrives_as_it_was_sent() {
        let large = Bytes::from(vec![9; 8 << 10]);
        let mut groups = String::new();
        let [workers, audit] =
            [("workers", "jobs/#"), ("audit", "+")].map(|(share, it)| shared_filter(share, it));
        GroupKeys::write(&mut groups, workers);
        GroupKeys::write(&mut groups, audit);
        let mut batch = LetterBatch::default();
        let payloads = [Payload::Small(b"5"), Payload::Shared(&large), Payload::Small(b"")];
        for payload in payloads {
            let view = MessageView {
                payload,
                application: b"\x01\x01",
                publisher_hash: 77,
                ..view("jobs", b"", QoS::ExactlyOnce)
            };
            let address = Address {
                to_subscribers: true,
                groups: GroupKeys::from_text(&groups),
                retention: None,
                publisher: None,
                hops: 0,
                recorded: None,
            };
            batch.push_publish(&view, &address);
        }
        for (letter, payload) in batch.iter().zip(payloads) {
            let Letter::Publish(letter) = letter else { panic!("a publish letter") };
            let arrived = batch.open(letter);
            assert_eq!(arrived.view.topic.as_str(), "jobs");
            assert_eq!(arrived.view.application, b"\x01\x01");
            assert_eq!(arrived.view.publisher_hash, 77);
            assert_eq!(arrived.view.payload.as_slice(), payload.as_slice());
            assert!(arrived.groups.iter().eq([workers, audit]));
        }
    }

    #[test]
    fn a_retained_message_is_shared_and_one_that_is_removed_arrives_all_the_same() {
        let mut batch = LetterBatch::default();
        let sent = MessageView { retain: true, ..view("a", b"20.5", QoS::AtLeastOnce) };
        let stamp = Stamp { time: 7, shard: ShardId::FIRST };
        for message in [Some(Message::keep(&sent)), None] {
            let change = Arc::new(Change::new(sent.topic, message, stamp));
            let address = Address {
                to_subscribers: true,
                groups: GroupKeys::default(),
                retention: Some(&change),
                publisher: None,
                hops: 0,
                recorded: None,
            };
            batch.push_publish(&sent, &address);
            let Some(Letter::Publish(letter)) = batch.letters.last() else { panic!("a message") };
            let arrived = batch.open(letter);
            assert!(arrived.retention.is_some_and(|it| Arc::ptr_eq(it, &change)));
            let MessageView { topic, payload, qos, retain, .. } = arrived.view;
            assert_eq!((topic.as_str(), payload.as_slice()), ("a", &b"20.5"[..]));
            assert_eq!((qos, retain), (QoS::AtLeastOnce, true));
        }
        assert_eq!(batch.text, b"a20.5");
        batch.clear();
        assert!(batch.changes.is_empty() && batch.shared_bytes == 0);
    }

    #[test]
    fn a_batch_is_crowded_by_letters_and_by_bytes() {
        let mut batch = LetterBatch::default();
        for _ in 0..BATCH_LETTERS_MAX {
            assert!(!batch.is_crowded());
            batch.push(Letter::InterestApplied { upto: 1 });
        }
        assert!(batch.is_crowded());
        batch.clear();
        assert!(batch.is_empty() && !batch.is_crowded());
        let filter = "x".repeat(BATCH_BYTES_MAX / 8);
        (0..8).for_each(|_| batch.push_interest(TopicFilter::from_valid(&filter), true));
        assert!(batch.is_crowded());
    }
}
