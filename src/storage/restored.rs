//! What a start begins with: all that earlier processes have written and that still counts.

use super::{
    MessageId, MessageRecord, Record, Records, RetainRecord, SessionNumber, Stamp, Unreadable,
    ledger::{Ledger, Place, Row, SessionEntry},
};
use crate::base::{hash::Seed, ids::ShardId, time::WallTime};

/// One record that still counts, as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept(Box<[u8]>);

impl Kept {
    pub fn new(record: &Record<'_>) -> Kept {
        let mut batch = super::RecordBatch::default();
        batch.push(record);
        Kept(batch.as_bytes().into())
    }

    pub fn record(&self) -> Record<'_> {
        let mut records = Records::new(&self.0);
        records.next().and_then(Result::ok).expect("it was a record when it was kept")
    }
}

impl Place for Kept {
    fn bytes(&self) -> usize {
        self.0.len()
    }

    fn segment(&self) -> u32 {
        0
    }
}

/// The state that a start begins with.
#[derive(Debug)]
pub struct Restored {
    /// The process that wrote last, and how many shards it had. Both are 0 for an empty store.
    pub epoch: u64,
    pub shards: u8,
    /// By number.
    pub sessions: Vec<RestoredSession>,
    /// `Message` records by id, all that a session, a topic or an intent needs.
    pub messages: Vec<Kept>,
    pub retained: Vec<RestoredRetain>,
    /// What shards were asked for and have not done, in the order of their rows.
    pub intents: Vec<Intent>,
    /// The smallest numbers that no session and no message has had.
    pub next_session: u64,
    pub next_message: u64,
}

impl Restored {
    /// A message by its id.
    pub fn message(&self, id: MessageId) -> Option<MessageRecord<'_>> {
        let id_of = |kept: &Kept| match kept.record() {
            Record::Message(message) => message.id,
            _ => MessageId::default(),
        };
        let place = self.messages.binary_search_by_key(&id, id_of).ok()?;
        match self.messages[place].record() {
            Record::Message(message) => Some(message),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub struct RestoredSession {
    pub number: SessionNumber,
    /// Its latest `Session` record.
    pub terms: Kept,
    /// Since when its client has no connection, and whether its Will waits. `None`: the client was
    /// connected when the process ended.
    pub disconnected: Option<(WallTime, bool)>,
    /// `Subscription` records.
    pub subscriptions: Vec<Kept>,
    /// `Ref` and `Released` records by ordinal.
    pub refs: Vec<Kept>,
    /// Packet Identifiers of QoS 2 messages from the client.
    pub holds: Vec<u16>,
    /// An ordinal above all that the session has had lately.
    pub next_ordinal: u64,
}

/// A topic with its latest change.
#[derive(Debug)]
pub struct RestoredRetain {
    /// The `Retain` record. It removes the message if it has none.
    pub record: Kept,
    pub stamp: Stamp,
}

impl RestoredRetain {
    /// Whether the topic has a message; otherwise the record removes it.
    pub fn has_message(&self) -> bool {
        matches!(self.record.record(), Record::Retain(RetainRecord { message: Some(_), .. }))
    }
}

/// A message that shard `to` of the former process has not taken from shard `from`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Intent {
    pub from: ShardId,
    pub to: ShardId,
    pub n: u64,
    pub message: MessageId,
}

/// Reads a log, oldest record first.
#[derive(Debug)]
pub struct Recovery {
    ledger: Ledger<Kept>,
    shards: u8,
}

impl Recovery {
    /// `seed` is the one that the store keeps.
    pub fn new(seed: Seed) -> Recovery {
        Recovery { ledger: Ledger::new(seed), shards: 0 }
    }

    /// The next record, from a process of this epoch.
    pub fn apply(&mut self, record: &Record<'_>, epoch: u64) {
        let kept = if record.is_kept() { Kept::new(record) } else { Kept::default() };
        self.apply_kept(record, epoch, kept);
    }

    /// All records of a batch or a group.
    pub fn apply_all(&mut self, bytes: &[u8], epoch: u64) -> Result<(), Unreadable> {
        let mut records = Records::new(bytes);
        while let Some((record, raw)) = records.next_with_bytes() {
            let record = record?;
            let kept = if record.is_kept() { Kept(raw.into()) } else { Kept::default() };
            self.apply_kept(&record, epoch, kept);
        }
        Ok(())
    }

    fn apply_kept(&mut self, record: &Record<'_>, epoch: u64, kept: Kept) {
        if let Record::Epoch { shards, .. } = record {
            self.shards = *shards;
        }
        self.ledger.apply(record, epoch, kept);
    }

    pub fn finish(mut self) -> Restored {
        self.ledger.settle();
        let ledger = self.ledger;
        let mut sessions: Vec<RestoredSession> = ledger
            .sessions
            .into_iter()
            .filter_map(|(number, entry)| session(number, entry))
            .collect();
        sessions.sort_unstable_by_key(|session| session.number);
        let messages =
            ledger.messages.into_iter().filter_map(|(id, entry)| Some((id, entry.place?)));
        let mut messages: Vec<(MessageId, Kept)> = messages.collect();
        messages.sort_unstable_by_key(|(id, _)| *id);
        let retained = ledger.retained.into_values();
        let retained =
            retained.map(|entry| RestoredRetain { record: entry.place, stamp: entry.stamp });
        let mut retained: Vec<RestoredRetain> = retained.collect();
        retained.sort_unstable_by_key(|retain| retain.stamp);
        Restored {
            epoch: ledger.epoch,
            shards: self.shards,
            sessions,
            messages: messages.into_iter().map(|(_, kept)| kept).collect(),
            retained,
            intents: ledger.rows.into_iter().flat_map(intents).collect(),
            next_session: ledger.next_session,
            next_message: ledger.next_message,
        }
    }
}

fn session(number: SessionNumber, entry: SessionEntry<Kept>) -> Option<RestoredSession> {
    Some(RestoredSession {
        number,
        terms: entry.terms?,
        disconnected: entry.absence.map(|absence| (absence.at, absence.keeps_will)),
        subscriptions: entry.subscriptions.into_values().collect(),
        refs: entry.refs.into_values().map(|reference| reference.place).collect(),
        holds: entry.holds.into_keys().collect(),
        next_ordinal: entry.next_ordinal,
    })
}

fn intents(((from, to), row): ((ShardId, ShardId), Row<Kept>)) -> impl Iterator<Item = Intent> {
    row.open.into_iter().map(move |(n, message)| Intent { from, to, n, message })
}
