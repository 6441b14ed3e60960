//! Takes over what a mosquitto has left: its persistence file becomes records of ours.
//!
//! Pure: bytes in, records out. What cannot be taken over is counted and told.

mod read;

use std::collections::BTreeMap;

pub use self::read::Damaged;
use self::read::{
    Chunk, Chunks, Delivery, StoredClient, StoredMessage, StoredSubscription, subscription_ids,
};
use super::{
    List, MessageId, MessageRecord, Record, RecordBatch, RefRecord, RetainRecord, SessionNumber,
    SessionRecord, Stamp,
};
use crate::{
    base::{ids::ShardId, time::WallTime},
    mqtt::{ApplicationProperties, PacketId, QoS},
    topic::{Subscription, TopicName},
};

/// What a file becomes.
#[derive(Debug, Default)]
pub struct Takeover {
    /// Each fits into a group.
    pub batches: Vec<RecordBatch>,
    pub counts: Counts,
}

/// How much was taken over, and how much was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub sessions: u64,
    pub subscriptions: u64,
    /// Messages that wait for a session or are in flight to it.
    pub messages: u64,
    pub retained: u64,
    /// QoS 2 messages from clients that were not released: they are delivered now.
    pub unreleased: u64,
    left_out: [u64; LEFT_OUT.len()],
}

/// Why something is left out, in the order of [`LEFT_OUT`].
#[derive(Clone, Copy, Debug)]
enum Left {
    ExpiredSessions,
    EndedSessions,
    Subscriptions,
    ExpiredMessages,
    QosZero,
    Homeless,
    Names,
    Properties,
    Sys,
    Chunks,
}

const LEFT_OUT: [&str; 10] = [
    "sessions that have expired",
    "sessions that end with their connection",
    "subscriptions that ringmq does not take, or of no session",
    "messages that have expired, or are not in the file",
    "messages at QoS 0 that wait for a client: ringmq keeps none",
    "messages for no session",
    "messages with a topic that ringmq does not take",
    "properties of messages that ringmq does not take",
    "retained messages under $SYS, which are the broker's own",
    "chunks of an unknown kind",
];

impl Counts {
    /// What was left out, in words, with how many there were.
    pub fn left_out(&self) -> impl Iterator<Item = (u64, &'static str)> {
        let all = self.left_out.into_iter().zip(LEFT_OUT);
        all.filter(|(count, _)| *count > 0)
    }

    fn leave(&mut self, left: Left) {
        self.left_out[left as usize] += 1;
    }
}

/// Makes records of a persistence file of mosquitto 2.0.
///
/// # Errors
/// If the file is damaged, or of another format.
pub fn take_over(bytes: &[u8], now: WallTime) -> Result<Takeover, Damaged> {
    let mut file = File::default();
    let mut takeover = Takeover::default();
    for chunk in Chunks::open(bytes)? {
        match chunk? {
            Chunk::Config => {}
            Chunk::Message(message) => drop(file.messages.insert(message.id, message)),
            Chunk::Delivery(delivery) => file.deliveries.push(delivery),
            Chunk::Retained(id) => file.retained.push(id),
            Chunk::Subscription(subscription) => file.subscriptions.push(subscription),
            Chunk::Client(client) => file.clients.push(client),
            Chunk::Unknown => takeover.counts.leave(Left::Chunks),
        }
    }
    let mut writer = Writer {
        takeover,
        now,
        sessions: BTreeMap::new(),
        written: BTreeMap::new(),
        next_message: 1,
        stamp: now.as_nanos(),
    };
    writer.push(&Record::Epoch { number: 1, shards: 1 });
    writer.write(&file);
    Ok(writer.takeover)
}

/// What the file has, in its order.
#[derive(Debug, Default)]
struct File<'a> {
    messages: BTreeMap<u64, StoredMessage<'a>>,
    deliveries: Vec<Delivery<'a>>,
    retained: Vec<u64>,
    subscriptions: Vec<StoredSubscription<'a>>,
    clients: Vec<StoredClient<'a>>,
}

/// A session that is taken over.
#[derive(Debug)]
struct Session<'a> {
    number: SessionNumber,
    next_ordinal: u64,
    subscriptions: Vec<(Subscription<'a>, StoredSubscription<'a>)>,
}

#[derive(Debug)]
struct Writer<'a> {
    takeover: Takeover,
    now: WallTime,
    sessions: BTreeMap<&'a str, Session<'a>>,
    /// The messages that have a record, by their numbers in the file. `None`: it is left out.
    written: BTreeMap<u64, Option<MessageId>>,
    next_message: u64,
    stamp: u64,
}

impl<'a> Writer<'a> {
    fn write(&mut self, file: &File<'a>) {
        for client in &file.clients {
            self.write_session(client);
        }
        for subscription in &file.subscriptions {
            self.write_subscription(subscription);
        }
        for id in &file.retained {
            self.write_retained(file, *id);
        }
        for delivery in file.deliveries.iter().filter(|delivery| delivery.to_client) {
            self.write_delivery(file, delivery);
        }
        for delivery in file.deliveries.iter().filter(|delivery| !delivery.to_client) {
            self.write_unreleased(file, delivery);
        }
    }

    fn push(&mut self, record: &Record<'_>) {
        let batches = &mut self.takeover.batches;
        if batches.last().is_none_or(|batch| batch.len() > BATCH_BYTES) {
            batches.push(RecordBatch::default());
        }
        if let Some(batch) = batches.last_mut() {
            batch.push(record);
        }
    }

    fn write_session(&mut self, client: &StoredClient<'a>) {
        let StoredClient { client_id, user, expiry_time, expiry_interval } = *client;
        if expiry_interval == 0 {
            return self.takeover.counts.leave(Left::EndedSessions);
        }
        let ends = expiry_interval != u32::MAX;
        let at = match wall_time(expiry_time).filter(|_| ends) {
            Some(until) if until <= self.now => {
                return self.takeover.counts.leave(Left::ExpiredSessions);
            }
            Some(until) => {
                let lasts = u64::from(expiry_interval) * NANOS;
                WallTime::from_nanos(until.as_nanos().saturating_sub(lasts)).min(self.now)
            }
            None => self.now,
        };
        if client_id.is_empty() || self.sessions.contains_key(client_id) {
            return self.takeover.counts.leave(Left::EndedSessions);
        }
        let session = SessionNumber(self.sessions.len() as u64 + 1);
        self.push(&Record::Session(SessionRecord {
            session,
            client_id,
            user,
            peer: None,
            expiry_interval,
            created_at: at,
            connected_at: at,
            will: None,
        }));
        self.push(&Record::Disconnected { session, at, keeps_will: false });
        let begun = Session { number: session, next_ordinal: FIRST, subscriptions: Vec::new() };
        self.sessions.insert(client_id, begun);
        self.takeover.counts.sessions += 1;
    }

    fn write_subscription(&mut self, stored: &StoredSubscription<'a>) {
        let parsed = Subscription::parse(stored.filter).ok();
        let session = self.sessions.get_mut(stored.client_id);
        let (Some(session), Some(parsed)) = (session, parsed) else {
            return self.takeover.counts.leave(Left::Subscriptions);
        };
        let number = session.number;
        session.subscriptions.push((parsed, stored.clone()));
        self.push(&Record::Subscription {
            session: number,
            filter: stored.filter,
            options: stored.qos | stored.options & (NO_LOCAL | RETAIN_AS_PUBLISHED),
            subscription_id: (stored.identifier > 0).then_some(stored.identifier),
        });
        self.takeover.counts.subscriptions += 1;
    }

    /// The record of a message, which is written when the first one needs it.
    fn message(&mut self, file: &File<'a>, id: u64) -> Option<MessageId> {
        if let Some(written) = self.written.get(&id) {
            return *written;
        }
        let written = file.messages.get(&id).and_then(|message| self.write_message(message));
        if !file.messages.contains_key(&id) {
            self.takeover.counts.leave(Left::ExpiredMessages);
        }
        self.written.insert(id, written);
        written
    }

    fn write_message(&mut self, message: &StoredMessage<'_>) -> Option<MessageId> {
        let expires_at = wall_time(message.expiry_time);
        if expires_at.is_some_and(|at| at <= self.now) {
            self.takeover.counts.leave(Left::ExpiredMessages);
            return None;
        }
        if TopicName::parse(message.topic).is_err() {
            self.takeover.counts.leave(Left::Names);
            return None;
        }
        let mut application = Vec::new();
        match ApplicationProperties::decode(message.properties) {
            Ok(properties) => properties.encode(&mut application),
            Err(_) => self.takeover.counts.leave(Left::Properties),
        }
        let id = MessageId(self.next_message);
        self.next_message += 1;
        self.push(&Record::Message(MessageRecord {
            id,
            publisher_hash: 0,
            publisher: SessionNumber(0),
            topic: message.topic,
            application: &application,
            payload: message.payload,
            qos: qos(message.qos),
            retain: message.retain,
            expires_at,
            from: ShardId::FIRST,
            targets: List::default(),
            groups: "",
        }));
        Some(id)
    }

    fn write_retained(&mut self, file: &File<'a>, id: u64) {
        let Some(message) = file.messages.get(&id) else {
            return self.takeover.counts.leave(Left::ExpiredMessages);
        };
        if message.topic.starts_with("$SYS") {
            return self.takeover.counts.leave(Left::Sys);
        }
        let Some(record) = self.message(file, id) else { return };
        self.retain(message, record);
        self.takeover.counts.retained += 1;
    }

    fn retain(&mut self, message: &StoredMessage<'_>, record: MessageId) {
        self.stamp += 1;
        let is_removal = message.payload.is_empty();
        self.push(&Record::Retain(RetainRecord {
            topic: message.topic,
            message: (!is_removal).then_some(record),
            stamp: Stamp { time: self.stamp, shard: 0 },
            expires_at: wall_time(message.expiry_time),
        }));
    }

    /// A message that waits for a client, or is in flight to it. The ordinal decides the Packet
    /// Identifier, so that a message in flight gets one that leads to its own.
    fn write_delivery(&mut self, file: &File<'a>, delivery: &Delivery<'a>) {
        if delivery.qos == 0 {
            return self.takeover.counts.leave(Left::QosZero);
        }
        let Some(session) = self.sessions.get_mut(delivery.client_id) else {
            return self.takeover.counts.leave(Left::Homeless);
        };
        let number = session.number;
        let is_in_flight = delivery.state != QUEUED && delivery.packet_id > 0;
        let ordinal = if is_in_flight {
            ordinal_of(delivery.packet_id, session.next_ordinal)
        } else {
            session.next_ordinal
        };
        let Some(message) = self.message(file, delivery.message) else { return };
        let ids = subscription_ids(delivery.properties).unwrap_or_else(|| {
            self.takeover.counts.leave(Left::Properties);
            Vec::new()
        });
        self.push(&Record::Ref(RefRecord {
            session: number,
            ordinal,
            message,
            qos: qos(delivery.qos),
            retain: delivery.retain,
            subscription_ids: List::Slice(&ids),
            group: None,
        }));
        if RELEASED.contains(&delivery.state) {
            self.push(&Record::Released { session: number, ordinal });
        }
        self.advance(delivery.client_id, ordinal);
        self.takeover.counts.messages += 1;
    }

    fn advance(&mut self, client_id: &str, ordinal: u64) {
        if let Some(session) = self.sessions.get_mut(client_id) {
            session.next_ordinal = ordinal + 1;
        }
    }

    /// A QoS 2 message from a client that has not released it. Mosquitto delivers it when the
    /// client does; ringmq delivers when it comes. So those who want it get it now, and its Packet
    /// Identifier is held until the client releases it.
    fn write_unreleased(&mut self, file: &File<'a>, delivery: &Delivery<'a>) {
        let packet_id = PacketId::new(delivery.packet_id).filter(|_| delivery.qos == 2);
        let publisher = self.sessions.get(delivery.client_id).map(|session| session.number);
        let (Some(packet_id), Some(session)) = (packet_id, publisher) else {
            return self.takeover.counts.leave(Left::Homeless);
        };
        self.push(&Record::Hold { session, packet_id });
        let Some(stored) = file.messages.get(&delivery.message) else {
            return self.takeover.counts.leave(Left::ExpiredMessages);
        };
        let Some(message) = self.message(file, delivery.message) else { return };
        self.takeover.counts.unreleased += 1;
        for (client_id, wanted) in self.wanted_by(stored, session) {
            let Some(session) = self.sessions.get(client_id) else { continue };
            let (number, ordinal) = (session.number, session.next_ordinal);
            self.push(&Record::Ref(RefRecord {
                session: number,
                ordinal,
                message,
                qos: wanted.qos,
                retain: wanted.retain,
                subscription_ids: List::Slice(&wanted.ids),
                group: wanted.group.as_deref(),
            }));
            self.advance(client_id, ordinal);
        }
        if stored.retain {
            self.retain(stored, message);
        }
    }

    /// Who wants a message at QoS 1 or 2, and how. Of a share group it is one.
    fn wanted_by(
        &self,
        message: &StoredMessage<'_>,
        publisher: SessionNumber,
    ) -> Vec<(&'a str, WantedMessage)> {
        let mut all = Vec::new();
        let mut groups: Vec<&str> = Vec::new();
        for (client_id, session) in &self.sessions {
            let mut own = WantedMessage::default();
            for (subscription, stored) in &session.subscriptions {
                let is_own = stored.options & NO_LOCAL != 0 && session.number == publisher;
                let name = TopicName::from_valid(message.topic);
                if stored.qos == 0 || is_own || !subscription.filter().matches(name) {
                    continue;
                }
                match stored.filter.strip_prefix(SHARE) {
                    Some(group) if groups.contains(&group) => {}
                    Some(group) => {
                        groups.push(group);
                        let mut shared = WantedMessage::default();
                        shared.add(stored, message);
                        shared.group = Some(group.to_owned());
                        all.push((*client_id, shared));
                    }
                    None => own.add(stored, message),
                }
            }
            if own.qos != QoS::AtMostOnce {
                all.push((*client_id, own));
            }
        }
        all
    }
}

/// How a session wants a message.
#[derive(Debug)]
struct WantedMessage {
    qos: QoS,
    retain: bool,
    ids: Vec<u32>,
    group: Option<String>,
}

impl Default for WantedMessage {
    fn default() -> WantedMessage {
        WantedMessage { qos: QoS::AtMostOnce, retain: false, ids: Vec::new(), group: None }
    }
}

impl WantedMessage {
    fn add(&mut self, stored: &StoredSubscription<'_>, message: &StoredMessage<'_>) {
        self.qos = self.qos.max(qos(stored.qos.min(message.qos)));
        self.retain |= message.retain && stored.options & RETAIN_AS_PUBLISHED != 0;
        self.ids.extend((stored.identifier > 0).then_some(stored.identifier));
    }
}

/// The QoS with this number. A reader has checked it.
fn qos(number: u8) -> QoS {
    QoS::from_bits(number).unwrap_or(QoS::AtMostOnce)
}

/// Seconds since 1970; `None` for 0, which stands for never.
fn wall_time(seconds: i64) -> Option<WallTime> {
    let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0)?;
    Some(WallTime::from_nanos(seconds.saturating_mul(NANOS)))
}

/// The first ordinal from this one on that leads to a Packet Identifier.
fn ordinal_of(packet_id: u16, from: u64) -> u64 {
    let wanted = u64::from(packet_id) - 1;
    from + (IDENTIFIERS + wanted - from % IDENTIFIERS) % IDENTIFIERS
}

const NANOS: u64 = 1_000_000_000;
/// Packet Identifier = ordinal mod 65,535 + 1.
const IDENTIFIERS: u64 = 65_535;
/// The first ordinal of a session.
const FIRST: u64 = IDENTIFIERS;
const NO_LOCAL: u8 = 0b0100;
const RETAIN_AS_PUBLISHED: u8 = 0b1000;
const SHARE: &str = "$share/";
/// States of messages in mosquitto: it waits for its turn; the client has sent PUBREC.
const QUEUED: u8 = 11;
const RELEASED: [u8; 2] = [6, 9];
/// Bytes of records after which the next batch begins.
const BATCH_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests;
