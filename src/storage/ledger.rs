//! Which records count, and where each of them is.
//!
//! A ledger is told every record of the log in order, and forgets what later records make void.
//! Recovery has one whose places are the records themselves; the storage thread has one whose
//! places are positions in segments, and asks it which records of an old segment to write again.

use std::{collections::BTreeMap, fmt::Debug};

use super::record::{
    MessageId, MessageRecord, Record, RefRecord, RetainRecord, SessionNumber, Stamp,
};
use crate::base::{
    hash::{Map, Seed},
    ids::ShardId,
    time::WallTime,
};

/// Where a record is, as a ledger remembers it.
pub trait Place: Clone + Debug {
    /// Bytes of the record.
    fn bytes(&self) -> usize;

    /// The number of the segment that has it. Larger numbers are newer.
    fn segment(&self) -> u32;
}

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub segment: u32,
    /// Of the record, from the start of the segment, in bytes.
    pub offset: u32,
    pub bytes: u32,
}

impl Place for Position {
    fn bytes(&self) -> usize {
        self.bytes as usize
    }

    fn segment(&self) -> u32 {
        self.segment
    }
}

/// All records that count.
#[derive(Debug)]
pub struct Ledger<P> {
    pub(super) sessions: Map<SessionNumber, SessionEntry<P>>,
    pub(super) messages: Map<MessageId, MessageEntry<P>>,
    pub(super) retained: Map<Fingerprint, RetainEntry<P>>,
    pub(super) rows: BTreeMap<(ShardId, ShardId), Row<P>>,
    pub(super) epoch: u64,
    /// The smallest numbers that no session and no message has had.
    pub(super) next_session: u64,
    pub(super) next_message: u64,
    live_bytes: usize,
    live_records: usize,
    /// The records of the past are complete, in any order that cleaning has made of them.
    settled: bool,
    seeds: [Seed; 2],
}

/// A text by its hash. Two texts of one broker do not have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Fingerprint(u64, u64);

#[derive(Debug)]
pub(super) struct SessionEntry<P> {
    /// `None` until its `Session` record comes.
    pub(super) terms: Option<P>,
    pub(super) absence: Option<Absence<P>>,
    pub(super) subscriptions: BTreeMap<Fingerprint, P>,
    pub(super) refs: BTreeMap<u64, RefEntry<P>>,
    pub(super) holds: BTreeMap<u16, P>,
    pub(super) next_ordinal: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Absence<P> {
    pub(super) at: WallTime,
    pub(super) keeps_will: bool,
    pub(super) place: P,
}

#[derive(Debug)]
pub(super) struct RefEntry<P> {
    /// `None` if the message is released.
    pub(super) message: Option<MessageId>,
    pub(super) place: P,
}

#[derive(Debug)]
pub(super) struct MessageEntry<P> {
    /// `None` until its `Message` record comes.
    pub(super) place: Option<P>,
    /// Refs, retained topics and targets that need it.
    pub(super) needed_by: u32,
}

#[derive(Debug)]
pub(super) struct RetainEntry<P> {
    pub(super) stamp: Stamp,
    pub(super) message: Option<MessageId>,
    pub(super) place: P,
    /// The newest segment with a change that is older by its stamp.
    pub(super) outdated_in: Option<u32>,
}

/// The messages that one shard has for another, by their numbers.
#[derive(Debug)]
pub(super) struct Row<P> {
    pub(super) open: BTreeMap<u64, MessageId>,
    pub(super) taken: u64,
    pub(super) place: Option<P>,
}

impl<P> Default for SessionEntry<P> {
    fn default() -> SessionEntry<P> {
        SessionEntry {
            terms: None,
            absence: None,
            subscriptions: BTreeMap::new(),
            refs: BTreeMap::new(),
            holds: BTreeMap::new(),
            next_ordinal: 0,
        }
    }
}

impl<P> Default for MessageEntry<P> {
    fn default() -> MessageEntry<P> {
        MessageEntry { place: None, needed_by: 0 }
    }
}

impl<P> Default for Row<P> {
    fn default() -> Row<P> {
        Row { open: BTreeMap::new(), taken: 0, place: None }
    }
}

impl<P: Place> Ledger<P> {
    /// A ledger without records. The seed is secret, so that clients cannot make texts collide.
    pub fn new(seed: Seed) -> Ledger<P> {
        let seeds = [0, 1].map(|which: u64| Seed::new(seed.hash(&which)));
        Ledger {
            sessions: Map::with_hasher(seed),
            messages: Map::with_hasher(seed),
            retained: Map::with_hasher(seed),
            rows: BTreeMap::new(),
            epoch: 0,
            next_session: 1,
            next_message: 1,
            live_bytes: 0,
            live_records: 0,
            settled: false,
            seeds,
        }
    }

    /// Bytes of all records that count.
    pub fn live_bytes(&self) -> usize {
        self.live_bytes
    }

    /// The records that count.
    pub fn live_records(&self) -> usize {
        self.live_records
    }

    /// Takes the next record of the log, which a process of this epoch has written.
    pub fn apply(&mut self, record: &Record<'_>, epoch: u64, place: P) {
        self.enter(epoch);
        match *record {
            Record::Epoch { .. } => {}
            Record::Session(session) => self.set_terms(session.session, place),
            Record::SessionEnd { session } => self.end_session(session),
            Record::Disconnected { session, at, keeps_will } => {
                self.set_absence(session, Absence { at, keeps_will, place });
            }
            Record::Subscription { session, filter, .. } => {
                let filter = self.fingerprint(filter);
                self.change(session, |entry| entry.subscriptions.insert(filter, place.clone()));
                self.count_in_of(session, &place);
            }
            Record::Unsubscribe { session, filter } => {
                let filter = self.fingerprint(filter);
                self.change(session, |entry| entry.subscriptions.remove(&filter));
            }
            Record::Message(message) => self.add_message(&message, place),
            Record::Ref(reference) => self.add_ref(&reference, place),
            Record::Ack { session, ordinal } => self.remove_ref(session, ordinal),
            Record::Released { session, ordinal } => self.release(session, ordinal, place),
            Record::Hold { session, packet_id } => {
                let id = packet_id.value();
                self.change(session, |entry| entry.holds.insert(id, place.clone()));
                self.count_in_of(session, &place);
            }
            Record::Unhold { session, packet_id } => {
                self.change(session, |entry| entry.holds.remove(&packet_id.value()));
            }
            Record::Retain(retain) => self.retain(&retain, place),
            Record::Taken { from, to, n } => self.take(from, to, n, place),
        }
    }

    /// All records of the past have come. What belongs to nothing is forgotten.
    pub fn settle(&mut self) {
        self.settled = true;
        let lost = self.sessions.iter().filter(|(_, entry)| entry.terms.is_none());
        let lost: Vec<SessionNumber> = lost.map(|(&session, _)| session).collect();
        for session in lost {
            self.end_session(session);
        }
        let unneeded = self.messages.iter();
        let unneeded = unneeded.filter(|(_, entry)| entry.needed_by == 0 || entry.place.is_none());
        let unneeded: Vec<MessageId> = unneeded.map(|(&id, _)| id).collect();
        for id in unneeded {
            self.forget_message(id);
        }
    }

    /// The targets of all earlier epochs are void.
    fn enter(&mut self, epoch: u64) {
        if epoch <= self.epoch {
            return;
        }
        self.epoch = epoch;
        for row in std::mem::take(&mut self.rows).into_values() {
            self.count_out(row.place.as_ref());
            for message in row.open.into_values() {
                self.need_less(message);
            }
        }
    }

    pub(super) fn fingerprint(&self, text: &str) -> Fingerprint {
        Fingerprint(self.seeds[0].hash(text), self.seeds[1].hash(text))
    }

    /// The entry of a session; `None` if there is none and none can come.
    fn session(&mut self, session: SessionNumber) -> Option<&mut SessionEntry<P>> {
        self.next_session = self.next_session.max(session.0.saturating_add(1));
        if self.settled {
            return self.sessions.get_mut(&session);
        }
        Some(self.sessions.entry(session).or_default())
    }

    /// Replaces or removes a record of a session, whose former place `work` returns.
    fn change(
        &mut self,
        session: SessionNumber,
        work: impl FnOnce(&mut SessionEntry<P>) -> Option<P>,
    ) {
        let former = self.session(session).and_then(work);
        self.count_out(former.as_ref());
    }

    fn count_in_of(&mut self, session: SessionNumber, place: &P) {
        if self.sessions.contains_key(&session) {
            self.count_in(place.bytes());
        }
    }

    fn count_in(&mut self, bytes: usize) {
        self.live_bytes += bytes;
        self.live_records += 1;
    }

    fn count_out(&mut self, place: Option<&P>) {
        self.live_bytes -= place.map_or(0, P::bytes);
        self.live_records -= usize::from(place.is_some());
    }

    fn set_terms(&mut self, session: SessionNumber, place: P) {
        self.next_session = self.next_session.max(session.0.saturating_add(1));
        self.count_in(place.bytes());
        let entry = self.sessions.entry(session).or_default();
        let absence = entry.absence.take().map(|absence| absence.place);
        let former = entry.terms.replace(place);
        self.count_out(former.as_ref());
        self.count_out(absence.as_ref());
    }

    fn set_absence(&mut self, session: SessionNumber, absence: Absence<P>) {
        let place = absence.place.clone();
        self.change(session, |entry| entry.absence.replace(absence).map(|former| former.place));
        self.count_in_of(session, &place);
    }

    fn end_session(&mut self, session: SessionNumber) {
        self.next_session = self.next_session.max(session.0.saturating_add(1));
        let Some(entry) = self.sessions.remove(&session) else { return };
        self.count_out(entry.terms.as_ref());
        self.count_out(entry.absence.map(|absence| absence.place).as_ref());
        for place in entry.subscriptions.values().chain(entry.holds.values()) {
            self.count_out(Some(place));
        }
        for reference in entry.refs.into_values() {
            self.drop_ref(&reference);
        }
    }

    fn add_message(&mut self, record: &MessageRecord<'_>, place: P) {
        self.next_message = self.next_message.max(record.id.0.saturating_add(1));
        self.count_in(place.bytes());
        let former = self.messages.entry(record.id).or_default().place.replace(place);
        self.count_out(former.as_ref());
        for target in record.targets.iter() {
            let row = self.rows.entry((record.from, target.shard)).or_default();
            if target.n > row.taken && row.open.insert(target.n, record.id).is_none() {
                self.need(record.id);
            }
        }
    }

    fn add_ref(&mut self, record: &RefRecord<'_>, place: P) {
        let entry = RefEntry { message: Some(record.message), place };
        self.put_ref(record.session, record.ordinal, entry);
    }

    fn release(&mut self, session: SessionNumber, ordinal: u64, place: P) {
        self.put_ref(session, ordinal, RefEntry { message: None, place });
    }

    fn put_ref(&mut self, session: SessionNumber, ordinal: u64, reference: RefEntry<P>) {
        let known = reference.message.is_none_or(|id| self.can_need(id));
        let message = reference.message;
        let bytes = reference.place.bytes();
        let Some(entry) = self.session(session).filter(|_| known) else { return };
        entry.next_ordinal = entry.next_ordinal.max(ordinal.saturating_add(1));
        let former = entry.refs.insert(ordinal, reference);
        self.count_in(bytes);
        if let Some(message) = message {
            self.need(message);
        }
        if let Some(former) = former {
            self.drop_ref(&former);
        }
    }

    fn remove_ref(&mut self, session: SessionNumber, ordinal: u64) {
        let Some(entry) = self.session(session) else { return };
        entry.next_ordinal = entry.next_ordinal.max(ordinal.saturating_add(1));
        if let Some(reference) = entry.refs.remove(&ordinal) {
            self.drop_ref(&reference);
        }
    }

    /// Counts a reference out that is no longer in its session.
    fn drop_ref(&mut self, reference: &RefEntry<P>) {
        self.count_out(Some(&reference.place));
        if let Some(message) = reference.message {
            self.need_less(message);
        }
    }

    fn retain(&mut self, record: &RetainRecord<'_>, place: P) {
        let topic = self.fingerprint(record.topic);
        let former = self.retained.get_mut(&topic);
        if let Some(former) = former
            && former.stamp >= record.stamp
            && !(former.stamp == record.stamp && former.message == record.message)
        {
            former.outdated_in = former.outdated_in.max(Some(place.segment()));
            return;
        }
        self.count_in(place.bytes());
        if let Some(message) = record.message {
            self.need(message);
        }
        let outdated_in = self.retained.get(&topic).and_then(|former| former.outdated_in);
        let entry =
            RetainEntry { stamp: record.stamp, message: record.message, place, outdated_in };
        if let Some(former) = self.retained.insert(topic, entry) {
            self.count_out(Some(&former.place));
            if let Some(message) = former.message {
                self.need_less(message);
            }
        }
    }

    fn take(&mut self, from: ShardId, to: ShardId, n: u64, place: P) {
        let row = self.rows.entry((from, to)).or_default();
        if n < row.taken {
            return;
        }
        row.taken = n;
        let open = row.open.split_off(&n.saturating_add(1));
        let done = std::mem::replace(&mut row.open, open);
        let bytes = place.bytes();
        let former = row.place.replace(place);
        self.count_in(bytes);
        self.count_out(former.as_ref());
        for message in done.into_values() {
            self.need_less(message);
        }
    }

    /// Whether a message can still be referred to.
    fn can_need(&self, id: MessageId) -> bool {
        !self.settled || self.messages.contains_key(&id)
    }

    fn need(&mut self, id: MessageId) {
        if self.can_need(id) {
            self.messages.entry(id).or_default().needed_by += 1;
        }
    }

    fn need_less(&mut self, id: MessageId) {
        let Some(entry) = self.messages.get_mut(&id) else { return };
        entry.needed_by = entry.needed_by.saturating_sub(1);
        // Until all records of the past have come, a reference may follow.
        if entry.needed_by == 0 && self.settled {
            self.forget_message(id);
        }
    }

    /// The record of a message has a new place. Its size may differ.
    pub(super) fn move_message(&mut self, id: MessageId, place: P) {
        let bytes = place.bytes();
        let entry = self.messages.get_mut(&id);
        if let Some(former) = entry.and_then(|entry| entry.place.replace(place)) {
            self.live_bytes = self.live_bytes + bytes - former.bytes();
        }
    }

    pub(super) fn move_retained(&mut self, topic: Fingerprint, place: P) {
        let Some(entry) = self.retained.get_mut(&topic) else { return };
        let bytes = place.bytes();
        let former = std::mem::replace(&mut entry.place, place);
        self.live_bytes = self.live_bytes + bytes - former.bytes();
    }

    /// The topic has no message any more, and no entry unless its stamp is still needed.
    pub(super) fn drop_retained(&mut self, topic: Fingerprint, keeps_stamp: bool) {
        let Some(entry) = self.retained.get_mut(&topic) else { return };
        if let Some(message) = entry.message.take() {
            self.need_less(message);
        }
        if !keeps_stamp && let Some(entry) = self.retained.remove(&topic) {
            self.count_out(Some(&entry.place));
        }
    }

    pub(super) fn forget_message(&mut self, id: MessageId) {
        if let Some(entry) = self.messages.remove(&id) {
            self.count_out(entry.place.as_ref());
        }
    }
}
