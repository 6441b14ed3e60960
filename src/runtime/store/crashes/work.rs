//! What shards write: a workload of all kinds of records, in batches.

use std::collections::BTreeMap;

use super::{
    model::{PROGRESS, State, Twin},
    random::Random,
};
use crate::{
    base::{ids::ShardId, time::WallTime},
    mqtt::{PacketId, QoS},
    storage::{
        Kept, List, MessageId, MessageRecord, Record, RecordBatch, RefRecord, Restored,
        RetainRecord, SessionNumber, SessionRecord, Stamp, Target, WillRecord,
        group::{GROUP_HEADER, GroupHeader},
        segment::Origin,
    },
};

/// The shards, as far as they write records.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) twin: Twin,
    random: Random,
    shards: usize,
    epoch: u64,
    /// How many batches there are.
    batches: usize,
    next_session: u64,
    next_message: u64,
    next_ordinals: BTreeMap<u64, u64>,
    /// The latest number in each row from shard to shard.
    rows: BTreeMap<(usize, usize), u64>,
    /// Messages that were on their way between shards of the process before.
    asked: Vec<(u64, Kept)>,
    clock: u64,
    stamps: u64,
    /// The newest removal or change of each topic, in its order and by the clock.
    changed: BTreeMap<&'static str, (u64, u64)>,
}

/// Where the log is being written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Front {
    pub(super) segment: u32,
    pub(super) lsn: u64,
}

impl Work {
    pub(super) fn new(random: Random) -> Work {
        Work {
            twin: Twin::default(),
            random,
            shards: 1,
            epoch: 0,
            batches: 0,
            next_session: MARKERS + 1,
            next_message: 1,
            next_ordinals: BTreeMap::new(),
            rows: BTreeMap::new(),
            asked: Vec::new(),
            clock: 1,
            stamps: 0,
            changed: BTreeMap::new(),
        }
    }

    /// Goes on in a new process, with what has been found.
    pub(super) fn restart(&mut self, twin: Twin, found: &Restored, batches: usize, shards: usize) {
        self.twin = twin;
        self.batches = batches;
        self.shards = shards;
        self.epoch = found.epoch + 1;
        self.next_session = found.next_session.max(MARKERS + 1);
        self.next_message = found.next_message;
        let ordinals = found.sessions.iter().map(|it| (it.number.0, it.next_ordinal.max(1)));
        self.next_ordinals = ordinals.collect();
        self.rows.clear();
        let body = |id| {
            let body = MessageRecord { targets: List::default(), ..found.message(id)? };
            Some((id.0, Kept::new(&Record::Message(body))))
        };
        self.asked = found.intents.iter().filter_map(|intent| body(intent.message)).collect();
    }

    pub(super) fn set_clock(&mut self, nanos: u64) {
        self.clock = nanos;
    }

    /// What a process writes first.
    pub(super) fn first(&mut self) -> RecordBatch {
        let mut batch = RecordBatch::default();
        for (message, body) in std::mem::take(&mut self.asked) {
            if let Some(session) = self.session() {
                self.push(&body.record(), &mut batch);
                self.refer(session, message, &mut batch);
            }
        }
        let shards = u8::try_from(self.shards).unwrap();
        self.push(&Record::Epoch { number: self.epoch, shards }, &mut batch);
        if self.batches == 0 {
            for marker in 1..=MARKERS {
                self.push_terms(marker, None, &mut batch);
            }
        }
        self.end_batch(0, &batch)
    }

    /// What a shard has written in one turn.
    pub(super) fn batch(&mut self, shard: usize, front: Front) -> RecordBatch {
        let mut batch = RecordBatch::default();
        if self.random.one_in(6) {
            self.publish_forged(shard, front, &mut batch);
        }
        for _ in 0..=self.random.below(4) {
            self.act(shard, &mut batch);
        }
        self.end_batch(shard, &batch)
    }

    /// Numbers the batch.
    fn end_batch(&mut self, shard: usize, batch: &RecordBatch) -> RecordBatch {
        self.batches += 1;
        let subscription_id = Some(u32::try_from(self.batches).unwrap());
        let session = SessionNumber(shard as u64 + 1);
        let (filter, options) = (PROGRESS, 0);
        let marker = Record::Subscription { session, filter, options, subscription_id };
        let mut all = RecordBatch::default();
        let is_first = self.random.one_in(2);
        if is_first {
            self.push(&marker, &mut all);
        }
        batch.records().for_each(|record| all.push(&record.unwrap()));
        if !is_first {
            self.push(&marker, &mut all);
        }
        all
    }

    fn act(&mut self, shard: usize, batch: &mut RecordBatch) {
        let refs: usize = self.state().sessions.values().map(|session| session.refs.len()).sum();
        if refs > REFS_MAX {
            return self.acknowledge(batch);
        }
        let me = shard_id(shard);
        if self.state().intents.iter().filter(|intent| intent.1 == me).count() > ASKED_MAX {
            return self.take(shard, batch);
        }
        match self.random.below(16) {
            0 if self.sessions().len() < 12 => self.begin(batch),
            1 => self.connect_again(batch),
            2 => self.disconnect(batch),
            3 if self.random.one_in(4) => self.end(batch),
            4 => self.subscribe(batch),
            5 => self.hold(batch),
            6 => self.retain(shard, batch),
            7 => self.take(shard, batch),
            8 => self.pass_on(batch),
            9..12 => self.publish(shard, batch),
            _ => self.acknowledge(batch),
        }
    }

    /// Each record as soon as it is written.
    fn push(&mut self, record: &Record<'_>, batch: &mut RecordBatch) {
        batch.push(record);
        let mut one = RecordBatch::default();
        one.push(record);
        self.twin.apply_batch(one.as_bytes());
    }

    fn state(&self) -> &State {
        &self.twin.state
    }

    fn sessions(&self) -> Vec<u64> {
        self.state().sessions.keys().copied().filter(|number| *number > MARKERS).collect()
    }

    fn session(&mut self) -> Option<u64> {
        let sessions = self.sessions();
        self.random.pick(&sessions)
    }

    fn now(&self) -> WallTime {
        WallTime::from_nanos(self.clock)
    }

    fn begin(&mut self, batch: &mut RecordBatch) {
        let session = self.next_session;
        self.next_session += 1;
        self.next_ordinals.insert(session, 1);
        self.connect(session, batch);
    }

    fn connect_again(&mut self, batch: &mut RecordBatch) {
        if let Some(session) = self.session() {
            self.connect(session, batch);
        }
    }

    fn connect(&mut self, session: u64, batch: &mut RecordBatch) {
        let will = WillRecord {
            topic: "will",
            application: &[],
            payload: b"gone",
            qos: QoS::AtLeastOnce,
            retain: false,
            delay: 5,
            message_expiry: None,
        };
        let will = self.random.one_in(2).then_some(will);
        self.push_terms(session, will, batch);
    }

    fn push_terms(&mut self, session: u64, will: Option<WillRecord<'_>>, batch: &mut RecordBatch) {
        let client_id = format!("client-{session}");
        let terms = SessionRecord {
            session: SessionNumber(session),
            client_id: &client_id,
            user: None,
            peer: None,
            expiry_interval: 600,
            created_at: WallTime::from_nanos(session),
            connected_at: self.now(),
            will,
        };
        self.push(&Record::Session(terms), batch);
    }

    /// The Will waits for its delay, and then it is published.
    fn disconnect(&mut self, batch: &mut RecordBatch) {
        let Some(session) = self.session() else { return };
        let absence = self.state().sessions[&session].absence;
        let (at, keeps_will) = match absence {
            Some((at, _)) => (WallTime::from_nanos(at), false),
            None => (self.now(), true),
        };
        let session = SessionNumber(session);
        self.push(&Record::Disconnected { session, at, keeps_will }, batch);
    }

    /// It has expired, or its client wants no more of it.
    fn end(&mut self, batch: &mut RecordBatch) {
        let Some(session) = self.session() else { return };
        self.push(&Record::SessionEnd { session: SessionNumber(session) }, batch);
    }

    fn subscribe(&mut self, batch: &mut RecordBatch) {
        let Some(number) = self.session() else { return };
        let Some(filter) = self.random.pick(&["a/#", "b/+", "$share/group/c"]) else { return };
        let session = SessionNumber(number);
        let options = u8::try_from(self.random.below(3)).unwrap();
        let record = if self.state().sessions[&number].subscriptions.contains_key(filter) {
            Record::Unsubscribe { session, filter }
        } else {
            Record::Subscription { session, filter, options, subscription_id: None }
        };
        self.push(&record, batch);
    }

    /// A QoS 2 message from a client comes, or is released.
    fn hold(&mut self, batch: &mut RecordBatch) {
        let Some(number) = self.session() else { return };
        let id = u16::try_from(1 + self.random.below(4)).unwrap();
        let (session, packet_id) = (SessionNumber(number), PacketId::new(id).unwrap());
        let record = if self.state().sessions[&number].holds.contains(&id) {
            Record::Unhold { session, packet_id }
        } else {
            Record::Hold { session, packet_id }
        };
        self.push(&record, batch);
    }

    fn publish(&mut self, shard: usize, batch: &mut RecordBatch) {
        let bytes = if self.random.one_in(12) { 5_000 } else { self.random.below(600) };
        let payload: Vec<u8> =
            std::iter::repeat_with(|| self.random.next().to_le_bytes()[0]).take(bytes).collect();
        self.publish_payload(shard, &payload, batch);
    }

    fn publish_payload(&mut self, shard: usize, payload: &[u8], batch: &mut RecordBatch) {
        let message = self.next_message;
        self.next_message += 1;
        let sessions: Vec<u64> = (0..self.random.below(3)).filter_map(|_| self.session()).collect();
        let target = self.random.below(self.shards);
        let mut targets = Vec::new();
        if self.random.one_in(3) {
            let n = self.rows.entry((shard, target)).or_insert(0);
            *n += 1;
            targets.push(Target { shard: shard_id(target), n: *n, to_subscribers: true });
        }
        let record = message_record(message, shard, payload, &targets);
        self.push(&record, batch);
        for session in sessions {
            self.refer(session, message, batch);
        }
    }

    fn refer(&mut self, session: u64, message: u64, batch: &mut RecordBatch) {
        let next = self.next_ordinals.entry(session).or_insert(1);
        let ordinal = *next;
        *next += 1;
        let reference = RefRecord {
            session: SessionNumber(session),
            ordinal,
            message: MessageId(message),
            qos: QoS::ExactlyOnce,
            retain: false,
            subscription_ids: List::default(),
            group: None,
        };
        self.push(&Record::Ref(reference), batch);
    }

    /// A message is received or has been acknowledged by the client.
    fn acknowledge(&mut self, batch: &mut RecordBatch) {
        let Some(session) = self.session() else { return };
        let refs = &self.twin.state.sessions[&session].refs;
        let refs: Vec<(u64, bool)> = refs.iter().map(|(at, it)| (*at, it.is_none())).collect();
        let Some((ordinal, is_released)) = self.random.pick(&refs) else { return };
        let session = SessionNumber(session);
        let record = if is_released || self.random.one_in(2) {
            Record::Ack { session, ordinal }
        } else {
            Record::Released { session, ordinal }
        };
        self.push(&record, batch);
    }

    /// A message goes from one member of a share group to another.
    fn pass_on(&mut self, batch: &mut RecordBatch) {
        let (Some(from), Some(to)) = (self.session(), self.session()) else { return };
        let refs = &self.twin.state.sessions[&from].refs;
        let refs: Vec<(u64, u64)> =
            refs.iter().filter_map(|(at, body)| Some((*at, body.as_ref()?.id))).collect();
        let Some((ordinal, message)) = self.random.pick(&refs) else { return };
        self.refer(to, message, batch);
        self.push(&Record::Ack { session: SessionNumber(from), ordinal }, batch);
    }

    /// A shard gives the messages of another shard to its sessions, in their order.
    fn take(&mut self, shard: usize, batch: &mut RecordBatch) {
        let me = shard_id(shard);
        let asked = self.state().intents.iter().find(|intent| intent.1 == me).copied();
        let Some((from, to, n, body)) = asked else { return };
        for _ in 0..self.random.below(3) {
            if let Some(session) = self.session() {
                self.refer(session, body.id, batch);
            }
        }
        self.push(&Record::Taken { from, to, n }, batch);
    }

    /// Changes and removals, some of which come out of the order of their stamps.
    fn retain(&mut self, shard: usize, batch: &mut RecordBatch) {
        let Some(topic) = self.random.pick(&["a/1", "b/2", "c/3", "d/4"]) else { return };
        self.stamps += 2;
        let changed = self.changed.get(topic).copied();
        let raced = changed.filter(|(_, at)| self.clock < at + RACED && self.random.one_in(3));
        let time = raced.map_or(self.stamps, |(stamp, _)| stamp - 1);
        // No two changes have the same stamp.
        match raced {
            Some(_) => drop(self.changed.remove(topic)),
            None => drop(self.changed.insert(topic, (time, self.clock))),
        }
        let removes = self.random.one_in(3);
        let message = self.next_message;
        if !removes {
            self.next_message += 1;
            let payload = vec![7; self.random.below(2_000)];
            self.push(&message_record(message, shard, &payload, &[]), batch);
        }
        let expires = self.clock + 1 + self.random.below(60) as u64 * 1_000_000_000;
        let expires_at = self.random.one_in(4).then(|| WallTime::from_nanos(expires));
        let stamp = Stamp { time, shard: 0 };
        let message = (!removes).then_some(MessageId(message));
        self.push(&Record::Retain(RetainRecord { topic, message, stamp, expires_at }), batch);
    }

    /// A client knows how the store works, and sends groups of a store as its payload. At the
    /// beginning of a group they stand where groups begin.
    fn publish_forged(&mut self, shard: usize, front: Front, batch: &mut RecordBatch) {
        let id = self.next_message;
        let mut probe = RecordBatch::default();
        probe.push(&message_record(id, shard, &[b'p'; FORGED], &[]));
        let before = probe.as_bytes().windows(64).position(|it| it.iter().all(|it| *it == b'p'));
        let filler = before.unwrap().next_multiple_of(GROUP_HEADER) - before.unwrap();
        let mut payload = vec![b'p'; FORGED];
        for group in payload[filler..].chunks_exact_mut(GROUP_HEADER) {
            let segment = front.segment + u32::try_from(self.random.below(12)).unwrap();
            let lsn = front.lsn + self.random.below(40) as u64;
            let (oldest, written_at) = (segment, self.now());
            let origin = Origin::unknown(segment);
            GroupHeader { lsn, origin, oldest, durable: lsn - 1, written_at }.seal(group, 0);
        }
        self.publish_payload(shard, &payload, batch);
    }
}

fn message_record<'a>(
    id: u64,
    shard: usize,
    payload: &'a [u8],
    targets: &'a [Target],
) -> Record<'a> {
    Record::Message(MessageRecord {
        id: MessageId(id),
        publisher_hash: 0,
        publisher: SessionNumber(0),
        topic: "a/b",
        application: &[],
        payload,
        qos: QoS::ExactlyOnce,
        retain: false,
        expires_at: None,
        from: shard_id(shard),
        targets: List::Slice(targets),
        groups: "",
    })
}

pub(super) fn shard_id(shard: usize) -> ShardId {
    ShardId::new(shard).unwrap()
}

/// The sessions by which the shards number their batches: one for each shard that there may be.
pub(super) const MARKERS: u64 = 4;
/// Bytes of a payload that is made of groups.
const FORGED: usize = 5_000;
/// With more messages than this, clients acknowledge and nothing else.
const REFS_MAX: usize = 20;
/// With more messages from other shards than this, a shard takes them and does nothing else.
const ASKED_MAX: usize = 2;
/// For so long changes come out of order.
const RACED: u64 = 40_000_000_000;
