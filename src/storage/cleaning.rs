//! Cleaning: the records of the oldest segment that still count are written again, and the segment
//! is free.
//!
//! Segments are cleaned strictly oldest first. So a record that ends something is not needed once
//! its segment is the oldest: what it ends is not in the log any more.

use super::{
    MessageRecord, Record, RecordBatch, RetainRecord, SessionNumber, Target, Unreadable,
    batch::Records,
    field::List,
    ledger::{Ledger, Position},
};
use crate::base::time::{Span, WallTime};

/// A group that is cleaned.
#[derive(Clone, Copy, Debug)]
pub struct OldGroup<'a> {
    pub records: &'a [u8],
    pub segment: u32,
    /// Where its records begin in the segment, in bytes.
    pub offset: u32,
    /// It was written less than [`RACE`] ago.
    pub is_recent: bool,
}

/// Within this time, changes of one retained message may come out of the order of their stamps.
pub const RACE: Span = Span::from_secs(60);

/// Where records that are written again go to.
#[derive(Debug)]
pub struct Rewriting<'a> {
    pub batch: &'a mut RecordBatch,
    /// The segment of the group that the batch will be in.
    pub segment: u32,
    /// Where the batch begins in that segment, in bytes.
    pub offset: u32,
    /// How many records were written again.
    pub records: u64,
}

impl Rewriting<'_> {
    /// Writes a record again. Returns its new place.
    fn push(&mut self, record: &Record<'_>) -> Position {
        let before = self.batch.len();
        self.batch.push(record);
        self.records += 1;
        let bytes = small(self.batch.len() - before);
        Position { segment: self.segment, offset: self.offset + small(before), bytes }
    }
}

impl Ledger<Position> {
    /// Takes the records of a batch that has been written at this offset of a segment. Returns how
    /// many there are.
    pub fn apply_batch(
        &mut self,
        bytes: &[u8],
        epoch: u64,
        segment: u32,
        offset: u32,
    ) -> Result<u64, Unreadable> {
        // A shard writes a message behind the references to it. A reference to a message that is
        // not known would not be kept.
        each_placed(bytes, segment, offset, |record, place| {
            if let Record::Message(_) = record {
                self.apply(record, epoch, place);
            }
        })?;
        let mut count = 0;
        each_placed(bytes, segment, offset, |record, place| {
            count += 1;
            match record {
                Record::Message(_) => {}
                _ => self.apply(record, epoch, place),
            }
        })?;
        Ok(count)
    }

    /// Writes the records of an old group that still count again.
    pub fn rewrite(
        &mut self,
        old: OldGroup<'_>,
        now: WallTime,
        to: &mut Rewriting<'_>,
    ) -> Result<(), Unreadable> {
        let OldGroup { records, segment, offset, is_recent } = old;
        each_placed(records, segment, offset, |record, place| match record {
            Record::Retain(retain) => self.rewrite_retain(retain, place, is_recent, now, to),
            _ => self.rewrite_one(record, place, to),
        })
    }

    fn rewrite_one(&mut self, record: &Record<'_>, place: Position, to: &mut Rewriting<'_>) {
        match record {
            Record::Session(terms) => self.rewrite_session(record, terms.session, place, to),
            Record::Disconnected { session, .. } => {
                let entry = self.sessions.get_mut(session).and_then(|it| it.absence.as_mut());
                move_place(entry.map(|absence| &mut absence.place), record, place, to);
            }
            Record::Subscription { session, filter, .. } => {
                let filter = self.fingerprint(filter);
                let entry = self.sessions.get_mut(session);
                let held = entry.and_then(|entry| entry.subscriptions.get_mut(&filter));
                move_place(held, record, place, to);
            }
            Record::Message(message) => self.rewrite_message(message, place, to),
            Record::Ref(reference) => {
                self.rewrite_ref(record, reference.session, reference.ordinal, place, to);
            }
            Record::Released { session, ordinal } => {
                self.rewrite_ref(record, *session, *ordinal, place, to);
            }
            Record::Hold { session, packet_id } => {
                let entry = self.sessions.get_mut(session);
                let held = entry.and_then(|entry| entry.holds.get_mut(&packet_id.value()));
                move_place(held, record, place, to);
            }
            Record::Taken { from, to: shard, .. } => {
                let row = self.rows.get_mut(&(*from, *shard));
                move_place(row.and_then(|row| row.place.as_mut()), record, place, to);
            }
            Record::Retain(_)
            | Record::Epoch { .. }
            | Record::SessionEnd { .. }
            | Record::Unsubscribe { .. }
            | Record::Ack { .. }
            | Record::Unhold { .. } => {}
        }
    }

    /// The terms of a session say that its client is connected, so its absence follows them.
    fn rewrite_session(
        &mut self,
        record: &Record<'_>,
        session: SessionNumber,
        place: Position,
        to: &mut Rewriting<'_>,
    ) {
        let Some(entry) = self.sessions.get_mut(&session) else { return };
        if !move_place(entry.terms.as_mut(), record, place, to) {
            return;
        }
        if let Some(absence) = &mut entry.absence {
            let (at, keeps_will) = (absence.at, absence.keeps_will);
            absence.place = to.push(&Record::Disconnected { session, at, keeps_will });
        }
    }

    fn rewrite_ref(
        &mut self,
        record: &Record<'_>,
        session: SessionNumber,
        ordinal: u64,
        place: Position,
        to: &mut Rewriting<'_>,
    ) {
        let entry = self.sessions.get_mut(&session);
        let held = entry.and_then(|entry| entry.refs.get_mut(&ordinal));
        move_place(held.map(|held| &mut held.place), record, place, to);
    }

    /// A message goes on with the targets that have not taken it.
    fn rewrite_message(
        &mut self,
        record: &MessageRecord<'_>,
        place: Position,
        to: &mut Rewriting<'_>,
    ) {
        let Some(entry) = self.messages.get_mut(&record.id) else { return };
        if entry.place != Some(place) {
            return;
        }
        if entry.needed_by == 0 {
            self.forget_message(record.id);
            return;
        }
        let is_open = |target: &Target| self.is_open(record, target);
        let targets: Vec<Target> = record.targets.iter().filter(is_open).collect();
        let again = MessageRecord { targets: List::Slice(&targets), ..*record };
        let new = to.push(&Record::Message(again));
        self.move_message(record.id, new);
    }

    /// Rows begin anew with each epoch, so the number alone does not tell.
    fn is_open(&self, record: &MessageRecord<'_>, target: &Target) -> bool {
        let row = self.rows.get(&(record.from, target.shard));
        row.is_some_and(|row| row.open.get(&target.n) == Some(&record.id))
    }

    /// A message that has expired leaves its stamp, as a removal does. A removal is needed while a
    /// change that is older by its stamp stands in a later segment, or may still come.
    fn rewrite_retain(
        &mut self,
        record: &RetainRecord<'_>,
        place: Position,
        is_recent: bool,
        now: WallTime,
        to: &mut Rewriting<'_>,
    ) {
        let topic = self.fingerprint(record.topic);
        let Some(entry) = self.retained.get_mut(&topic).filter(|entry| entry.place == place) else {
            return;
        };
        let outdated = entry.outdated_in.is_some_and(|segment| segment > place.segment);
        let keeps_stamp = outdated || is_recent;
        let has_expired = record.expires_at.is_some_and(|at| at <= now);
        let message = record.message.filter(|_| !has_expired);
        if message.is_none() {
            self.drop_retained(topic, keeps_stamp);
        }
        if message.is_some() || keeps_stamp {
            let new = to.push(&Record::Retain(RetainRecord { message, ..*record }));
            self.move_retained(topic, new);
        }
    }
}

/// Writes a record again if its place is the one that counts, which then is its new place.
fn move_place(
    held: Option<&mut Position>,
    record: &Record<'_>,
    place: Position,
    to: &mut Rewriting<'_>,
) -> bool {
    let Some(held) = held.filter(|held| **held == place) else { return false };
    *held = to.push(record);
    true
}

/// Calls `work` with each record and its place.
fn each_placed(
    bytes: &[u8],
    segment: u32,
    offset: u32,
    mut work: impl FnMut(&Record<'_>, Position),
) -> Result<(), Unreadable> {
    let mut records = Records::new(bytes);
    let mut at = offset;
    while let Some((record, raw)) = records.next_with_bytes() {
        let place = Position { segment, offset: at, bytes: small(raw.len()) };
        work(&record?, place);
        at += place.bytes;
    }
    Ok(())
}

fn small(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a segment has less than 4 GiB")
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{
        base::{hash::Seed, ids::ShardId},
        mqtt::{PacketId, QoS},
        storage::{MessageId, Recovery, RefRecord, Restored, SessionRecord, Stamp, ledger::Place},
    };

    const SEED: Seed = Seed::new(9);
    const TOPICS: [&str; 3] = ["a", "b", "c"];

    /// One segment as its records, with the epoch of its process.
    struct Segment {
        number: u32,
        epoch: u64,
        bytes: Vec<u8>,
        /// When it was written to last.
        clock: u64,
    }

    /// A log that is cleaned, and one that never is.
    struct Twins {
        ledger: Ledger<Position>,
        segments: Vec<Segment>,
        all: Vec<(u64, Vec<u8>)>,
        epoch: u64,
        sessions: Vec<u64>,
        next: u64,
        clock: u64,
        row: [u64; 2],
        taken: [u64; 2],
    }

    impl Twins {
        fn new() -> Twins {
            let mut ledger = Ledger::new(SEED);
            ledger.settle();
            let segments = vec![Segment { number: 1, epoch: 1, bytes: Vec::new(), clock: 10 }];
            Twins {
                ledger,
                segments,
                all: Vec::new(),
                epoch: 1,
                sessions: Vec::new(),
                next: 1,
                clock: 10,
                row: [0; 2],
                taken: [0; 2],
            }
        }

        fn write(&mut self, batch: &RecordBatch) {
            let segment = self.segments.last_mut().unwrap();
            let offset = small(segment.bytes.len());
            segment.bytes.extend_from_slice(batch.as_bytes());
            segment.clock = self.clock;
            self.ledger.apply_batch(batch.as_bytes(), self.epoch, segment.number, offset).unwrap();
            self.all.push((self.epoch, batch.as_bytes().to_vec()));
        }

        fn open_segment(&mut self) {
            let number = self.segments.last().unwrap().number + 1;
            let (epoch, clock) = (self.epoch, self.clock);
            self.segments.push(Segment { number, epoch, bytes: Vec::new(), clock });
        }

        /// Cleans the oldest segment into the newest one.
        fn clean(&mut self) {
            if self.segments.len() < 2 {
                return;
            }
            let oldest = self.segments.remove(0);
            let newest = self.segments.last_mut().unwrap();
            let mut batch = RecordBatch::default();
            let offset = small(newest.bytes.len());
            let mut to =
                Rewriting { batch: &mut batch, segment: newest.number, offset, records: 0 };
            let is_recent = self.clock - oldest.clock < 8;
            let (records, segment) = (&oldest.bytes[..], oldest.number);
            let old = OldGroup { records, segment, offset: 0, is_recent };
            self.ledger.rewrite(old, WallTime::default(), &mut to).unwrap();
            newest.bytes.extend_from_slice(batch.as_bytes());
            newest.clock = self.clock;
        }

        fn session(&self, choice: u8) -> Option<SessionNumber> {
            let place = usize::from(choice).checked_rem(self.sessions.len())?;
            Some(SessionNumber(self.sessions[place]))
        }

        fn step(&mut self, [kind, one, two]: [u8; 3]) {
            let mut batch = RecordBatch::default();
            match kind % 16 {
                0 => self.begin(&mut batch),
                1 => return self.open_segment(),
                2 => return self.clean(),
                3 if kind > 200 => self.restart(&mut batch),
                4 => self.end(one, &mut batch),
                5..8 => self.publish(one, two, &mut batch),
                8 => self.take(usize::from(one % 2), &mut batch),
                _ => {}
            }
            if let Some(session) = self.session(one) {
                self.of_session(kind, session, two, &mut batch);
            }
            self.next += 1;
            self.write(&batch);
        }

        fn begin(&mut self, batch: &mut RecordBatch) {
            let session = SessionNumber(self.next + 1_000);
            self.sessions.push(session.0);
            batch.push(&self.terms(session));
        }

        fn terms(&self, session: SessionNumber) -> Record<'static> {
            let at = WallTime::from_nanos(self.clock);
            Record::Session(SessionRecord {
                session,
                client_id: "client",
                user: None,
                peer: None,
                expiry_interval: 9,
                created_at: at,
                connected_at: at,
                will: None,
            })
        }

        fn restart(&mut self, batch: &mut RecordBatch) {
            self.epoch += 1;
            self.open_segment();
            (self.row, self.taken) = ([0; 2], [0; 2]);
            batch.push(&Record::Epoch { number: self.epoch, shards: 3 });
        }

        fn end(&mut self, choice: u8, batch: &mut RecordBatch) {
            let Some(session) = self.session(choice) else { return };
            self.sessions.retain(|number| *number != session.0);
            batch.push(&Record::SessionEnd { session });
        }

        fn publish(&mut self, one: u8, two: u8, batch: &mut RecordBatch) {
            let (id, topic) = (MessageId(self.next), TOPICS[usize::from(two % 3)]);
            self.clock += u64::from(one % 4);
            let row = usize::from(two % 2);
            let targets = if one.is_multiple_of(5) { &[self.target(row)][..] } else { &[] };
            batch.push(&Record::Message(MessageRecord {
                id,
                publisher_hash: 0,
                publisher: SessionNumber(0),
                topic,
                application: &[],
                payload: &[one; 9],
                qos: QoS::AtLeastOnce,
                retain: false,
                expires_at: None,
                from: ShardId::FIRST,
                targets: List::Slice(targets),
                groups: "",
            }));
            if one.is_multiple_of(3) {
                let lag = u64::from(two % 8);
                // No two changes of one shard have the same stamp.
                let time = (self.clock - lag) * 100_000 + self.next;
                let stamp = Stamp { time, shard: two % 2 };
                let message = (!two.is_multiple_of(4)).then_some(id);
                batch.push(&Record::Retain(RetainRecord {
                    topic,
                    message,
                    stamp,
                    expires_at: None,
                }));
            }
            for &session in
                self.sessions.iter().filter(|session| !(**session + self.next).is_multiple_of(3))
            {
                batch.push(&Record::Ref(RefRecord {
                    session: SessionNumber(session),
                    ordinal: self.next,
                    message: id,
                    qos: QoS::ExactlyOnce,
                    retain: false,
                    subscription_ids: List::default(),
                    group: None,
                }));
            }
        }

        fn target(&mut self, row: usize) -> Target {
            self.row[row] += 1;
            Target { shard: ShardId::new(row + 1).unwrap(), n: self.row[row], to_subscribers: true }
        }

        fn take(&mut self, row: usize, batch: &mut RecordBatch) {
            self.taken[row] = (self.taken[row] + 1).min(self.row[row]);
            let (from, to) = (ShardId::FIRST, ShardId::new(row + 1).unwrap());
            batch.push(&Record::Taken { from, to, n: self.taken[row] });
        }

        fn of_session(&self, kind: u8, session: SessionNumber, two: u8, batch: &mut RecordBatch) {
            let ordinal = self.next.saturating_sub(u64::from(two % 8));
            let packet_id = PacketId::new(u16::from(two % 4) + 1).unwrap();
            let filter = TOPICS[usize::from(two % 3)];
            let at = WallTime::from_nanos(self.clock);
            batch.push(&match kind % 16 {
                0 | 9 => self.terms(session),
                10 => Record::Disconnected { session, at, keeps_will: two > 99 },
                11 => Record::Subscription { session, filter, options: two, subscription_id: None },
                12 => Record::Unsubscribe { session, filter },
                13 => Record::Hold { session, packet_id },
                14 => Record::Unhold { session, packet_id },
                15 if self.has_ref(session, ordinal) => Record::Released { session, ordinal },
                _ => Record::Ack { session, ordinal },
            });
        }

        fn has_ref(&self, session: SessionNumber, ordinal: u64) -> bool {
            let entry = self.ledger.sessions.get(&session);
            entry.is_some_and(|entry| entry.refs.contains_key(&ordinal))
        }

        fn check(&self) {
            let mut cleaned = Recovery::new(SEED);
            for segment in &self.segments {
                cleaned.apply_all(&segment.bytes, segment.epoch).unwrap();
            }
            let mut whole = Recovery::new(SEED);
            for (epoch, bytes) in &self.all {
                whole.apply_all(bytes, *epoch).unwrap();
            }
            assert_eq!(words_of(&cleaned.finish()), words_of(&whole.finish()));
        }

        /// The records that count are those of the places in the ledger.
        fn check_bytes(&self) {
            let ledger = &self.ledger;
            let sessions = ledger.sessions.values().flat_map(|entry| {
                let absence = entry.absence.as_ref().map(|absence| absence.place);
                let refs = entry.refs.values().map(|held| held.place);
                let others = entry.subscriptions.values().chain(entry.holds.values()).copied();
                entry.terms.into_iter().chain(absence).chain(refs).chain(others)
            });
            let messages = ledger.messages.values().filter_map(|entry| entry.place);
            let retained = ledger.retained.values().map(|entry| entry.place);
            let rows = ledger.rows.values().filter_map(|row| row.place);
            let places: Vec<Position> =
                sessions.chain(messages).chain(retained).chain(rows).collect();
            assert_eq!(ledger.live_records(), places.len());
            assert_eq!(ledger.live_bytes(), places.iter().map(Place::bytes).sum::<usize>());
        }
    }

    /// All that a start begins with, without what cleaning may change.
    fn words_of(restored: &Restored) -> Vec<String> {
        let sessions = restored.sessions.iter().map(|session| {
            let of = |kept: &[crate::storage::Kept]| {
                let mut words: Vec<_> =
                    kept.iter().map(|kept| format!("{:?}", kept.record())).collect();
                words.sort();
                words
            };
            let (terms, since) = (session.terms.record(), session.disconnected);
            let (subscriptions, refs) = (of(&session.subscriptions), of(&session.refs));
            format!("{terms:?} {since:?} {subscriptions:?} {refs:?} {:?}", session.holds)
        });
        let messages = restored.messages.iter().map(|kept| match kept.record() {
            Record::Message(message) => format!("{:?} {:?}", message.id, message.payload),
            other => panic!("{other:?} is no message"),
        });
        let retained = restored.retained.iter().filter_map(|retain| match retain.record.record() {
            Record::Retain(RetainRecord { topic, message: Some(id), .. }) => {
                Some(format!("{topic} {id:?} {:?}", retain.stamp))
            }
            _ => None,
        });
        let mut retained: Vec<String> = retained.collect();
        retained.sort();
        let intents = restored.intents.iter().map(|intent| format!("{intent:?}"));
        sessions.chain(messages).chain(retained).chain(intents).collect()
    }

    proptest! {
        #[test]
        fn a_log_that_is_cleaned_restores_what_the_whole_log_restores(
            steps in vec(any::<[u8; 3]>(), 1..160)
        ) {
            let mut twins = Twins::new();
            for step in steps {
                twins.step(step);
                twins.check_bytes();
            }
            twins.check();
            for _ in 0..4 {
                twins.open_segment();
                twins.clean();
                twins.check_bytes();
                twins.check();
            }
        }
    }
}
