//! What a store has to hold, by a naive reading of the records: the judge of recovery.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    base::ids::ShardId,
    storage::{Kept, MessageId, Record, RecordBatch, Records, Restored, RestoredSession, Stamp},
};

/// All that counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) sessions: BTreeMap<u64, Session>,
    pub(super) retained: BTreeMap<String, RetainedMessage>,
    /// For which shard a message of which one is on its way, its number, and the message.
    pub(super) intents: BTreeSet<(ShardId, ShardId, u64, Body)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Session {
    /// The `Session` record.
    pub(super) terms: Vec<u8>,
    pub(super) absence: Option<(u64, bool)>,
    /// `Subscription` records by filter.
    pub(super) subscriptions: BTreeMap<String, Vec<u8>>,
    /// By ordinal. `None`: it has been released.
    pub(super) refs: BTreeMap<u64, Option<Body>>,
    pub(super) holds: BTreeSet<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RetainedMessage {
    pub(super) stamp: Stamp,
    pub(super) body: Body,
    pub(super) expires_at: Option<u64>,
}

/// A message by its number, with a checksum of its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Body {
    pub(super) id: u64,
    pub(super) sum: u64,
}

impl Body {
    fn new(id: MessageId, payload: &[u8]) -> Body {
        let sum = payload.iter().fold(0xCBF2_9CE4_8422_2325, |sum, byte| {
            (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3)
        });
        Body { id: id.0, sum }
    }
}

impl State {
    /// What counts at this time. What has expired may be there or not.
    pub(super) fn at(&self, clock: u64) -> State {
        let mut state = self.clone();
        state.retained.retain(|_, retained| retained.expires_at.is_none_or(|at| at > clock));
        state
    }

    /// How many batches are in it, as the batches themselves say.
    pub(super) fn batches(&self) -> usize {
        let markers = self.sessions.values().filter_map(|it| it.subscriptions.get(PROGRESS));
        let numbers = markers.filter_map(|bytes| match Records::new(bytes).next() {
            Some(Ok(Record::Subscription { subscription_id, .. })) => subscription_id,
            _ => None,
        });
        numbers.max().map_or(0, |number| usize::try_from(number).unwrap())
    }

    /// Each fact in words.
    pub(super) fn parts(&self) -> BTreeSet<String> {
        let mut parts = BTreeSet::new();
        for (number, session) in &self.sessions {
            let mut add = |part: String| {
                parts.insert(format!("session {number}: {part}"));
            };
            add(format!("terms {:?}", session.terms));
            add(format!("absence {:?}", session.absence));
            for (filter, bytes) in &session.subscriptions {
                add(format!("{filter} {bytes:?}"));
            }
            session.refs.iter().for_each(|reference| add(format!("{reference:?}")));
            session.holds.iter().for_each(|id| add(format!("holds {id}")));
        }
        parts.extend(self.retained.iter().map(|retained| format!("retained {retained:?}")));
        parts.extend(self.intents.iter().map(|intent| format!("on its way {intent:?}")));
        parts
    }

    /// What recovery has found, in the same words.
    pub(super) fn of(restored: &Restored) -> State {
        let body = |id| restored.message(id).map(|it| Body::new(it.id, it.payload));
        let lost = |id: MessageId| Body { id: id.0, sum: 0 };
        let body = |id| body(id).unwrap_or_else(|| lost(id));
        let sessions = restored.sessions.iter().map(|it| (it.number.0, session_of(it, &body)));
        let retained = restored.retained.iter().filter_map(|kept| match kept.record.record() {
            Record::Retain(retain) => {
                let expires_at = retain.expires_at.map(crate::base::time::WallTime::as_nanos);
                let body = body(retain.message?);
                Some((
                    retain.topic.to_owned(),
                    RetainedMessage { stamp: kept.stamp, body, expires_at },
                ))
            }
            _ => None,
        });
        let intents = restored.intents.iter().map(|it| (it.from, it.to, it.n, body(it.message)));
        State {
            sessions: sessions.collect(),
            retained: retained.collect(),
            intents: intents.collect(),
        }
    }
}

fn session_of(session: &RestoredSession, body: &impl Fn(MessageId) -> Body) -> Session {
    let subscriptions = session.subscriptions.iter().filter_map(|kept| match kept.record() {
        Record::Subscription { filter, .. } => Some((filter.to_owned(), bytes_of(kept))),
        _ => None,
    });
    let refs = session.refs.iter().filter_map(|kept| match kept.record() {
        Record::Ref(reference) => Some((reference.ordinal, Some(body(reference.message)))),
        Record::Released { ordinal, .. } => Some((ordinal, None)),
        _ => None,
    });
    Session {
        terms: bytes_of(&session.terms),
        absence: session.disconnected.map(|(at, keeps_will)| (at.as_nanos(), keeps_will)),
        subscriptions: subscriptions.collect(),
        refs: refs.collect(),
        holds: session.holds.iter().copied().collect(),
    }
}

fn bytes_of(kept: &Kept) -> Vec<u8> {
    encoded(&kept.record())
}

fn encoded(record: &Record<'_>) -> Vec<u8> {
    let mut batch = RecordBatch::default();
    batch.push(record);
    batch.as_bytes().to_vec()
}

/// Reads records one by one, and forgets nothing that it may need.
#[derive(Clone, Debug, Default)]
pub(super) struct Twin {
    pub(super) state: State,
    bodies: BTreeMap<u64, Body>,
    stamps: BTreeMap<String, Stamp>,
}

impl Twin {
    /// All records of a batch. Messages come first: references to them may stand before them.
    pub(super) fn apply_batch(&mut self, bytes: &[u8]) {
        for record in Records::new(bytes) {
            if let Record::Message(message) = record.unwrap() {
                let body = Body::new(message.id, message.payload);
                self.bodies.insert(message.id.0, body);
                for target in message.targets.iter() {
                    self.state.intents.insert((message.from, target.shard, target.n, body));
                }
            }
        }
        for record in Records::new(bytes) {
            self.apply(&record.unwrap());
        }
    }

    fn apply(&mut self, record: &Record<'_>) {
        match *record {
            Record::Message(_) => {}
            Record::Epoch { .. } => self.state.intents.clear(),
            Record::Session(terms) => {
                let session = self.session(terms.session.0);
                session.terms = encoded(record);
                session.absence = None;
            }
            Record::SessionEnd { session } => drop(self.state.sessions.remove(&session.0)),
            Record::Disconnected { session, at, keeps_will } => {
                self.session(session.0).absence = Some((at.as_nanos(), keeps_will));
            }
            Record::Subscription { session, filter, .. } => {
                let subscriptions = &mut self.session(session.0).subscriptions;
                subscriptions.insert(filter.to_owned(), encoded(record));
            }
            Record::Unsubscribe { session, filter } => {
                self.session(session.0).subscriptions.remove(filter);
            }
            Record::Ref(reference) => {
                let body = self.bodies[&reference.message.0];
                self.session(reference.session.0).refs.insert(reference.ordinal, Some(body));
            }
            Record::Ack { session, ordinal } => {
                self.session(session.0).refs.remove(&ordinal);
            }
            Record::Released { session, ordinal } => {
                self.session(session.0).refs.insert(ordinal, None);
            }
            Record::Hold { session, packet_id } => {
                self.session(session.0).holds.insert(packet_id.value());
            }
            Record::Unhold { session, packet_id } => {
                self.session(session.0).holds.remove(&packet_id.value());
            }
            Record::Retain(retain) => {
                let known = self.stamps.get(retain.topic);
                if known.is_none_or(|known| *known < retain.stamp) {
                    self.stamps.insert(retain.topic.to_owned(), retain.stamp);
                    self.state.retained.remove(retain.topic);
                    if let Some(message) = retain.message {
                        let body = self.bodies[&message.0];
                        let expires_at =
                            retain.expires_at.map(crate::base::time::WallTime::as_nanos);
                        let kept = RetainedMessage { stamp: retain.stamp, body, expires_at };
                        self.state.retained.insert(retain.topic.to_owned(), kept);
                    }
                }
            }
            Record::Taken { from, to, n } => {
                self.state.intents.retain(|it| (it.0, it.1) != (from, to) || it.2 > n);
            }
        }
    }

    fn session(&mut self, number: u64) -> &mut Session {
        self.state.sessions.entry(number).or_default()
    }
}

/// The filter of the subscription by which each shard numbers its batches.
pub(super) const PROGRESS: &str = "progress";
