//! Faults that are planted between the shards and the disk, and between the disk and the shards of
//! the next process.

use ringmq::{
    base::{hash::Seed, ids::ShardId},
    storage::{List, MessageRecord, Record, RecordBatch, Restored, RetainRecord},
};

use crate::{
    plan::Plan,
    planted::faults,
    random::{Random, purpose},
};

faults! { RecordFault:
    EarlyAnswer = "an answer does not wait for the disk",
    LoseSession = "a session is not written down",
    LoseSessionEnd = "the end of a session is not written down",
    LoseAbsence = "that a client has gone is not written down",
    LoseSubscription = "a subscription is not written down",
    LoseUnsubscribe = "the end of a subscription is not written down",
    LoseRef = "a message for a session is not written down",
    LoseAck = "the acknowledgement of a receiver is not written down",
    LoseReleased = "the PUBREC of a receiver is not written down",
    LoseHold = "the Packet Identifier of a QoS 2 message is not written down",
    LoseUnhold = "the PUBREL of a publisher is not written down",
    LoseRetained = "a retained message is not written down",
    LoseDeletion = "the deletion of a retained message is not written down",
    LoseTargets = "a message does not say which other shards have to take it",
    LoseTaken = "that another shard has taken a message is not written down",
    TearBatch = "the records of a turn do not survive together",
    SwapRecords = "the records of two shards change places",
    ForgetIntents = "a start forgets what shards had not taken",
    MistakeShards = "a start mistakes how many shards there were",
    LoseFirst = "what a start has done is not written down",
    ReuseNumbers = "numbers of sessions and messages are used again after a start",
    MistakeHome = "a shard looks for the homes of sessions in its own way after a start",
}

/// The planted fault of a run, if any.
#[derive(Debug)]
pub(crate) struct PlantedRecords {
    fault: Option<RecordFault>,
    random: Random,
    /// Records that let others go first, with their shard and mark.
    held: Option<(usize, u64, RecordBatch)>,
}

/// Records that are posted, with their shard and mark.
pub(crate) type Posts = Vec<(usize, u64, RecordBatch)>;

impl PlantedRecords {
    pub(crate) fn new(plan: &Plan) -> PlantedRecords {
        PlantedRecords {
            fault: plan.planted_records,
            random: Random::new(plan.seed, purpose::PLANTED),
            held: None,
        }
    }

    fn is(&self, fault: RecordFault) -> bool {
        self.fault == Some(fault)
    }

    /// What is posted instead of the records of a turn.
    pub(crate) fn alter(&mut self, shard: usize, mark: u64, records: &RecordBatch) -> Posts {
        match self.fault {
            None => return vec![(shard, mark, records.clone())],
            Some(RecordFault::TearBatch) => return torn(shard, mark, records),
            Some(RecordFault::SwapRecords) => return self.swap(shard, mark, records),
            Some(_) => {}
        }
        let mut altered = RecordBatch::default();
        for record in records.records() {
            let record = record.expect("a shard writes whole records");
            if !self.loses(&record) {
                altered.push(&self.rewrite(record));
            }
        }
        vec![(shard, mark, altered)]
    }

    fn loses(&self, record: &Record<'_>) -> bool {
        let Some(fault) = self.fault else { return false };
        let lost = match record {
            Record::Session(_) => RecordFault::LoseSession,
            Record::SessionEnd { .. } => RecordFault::LoseSessionEnd,
            Record::Disconnected { .. } => RecordFault::LoseAbsence,
            Record::Subscription { .. } => RecordFault::LoseSubscription,
            Record::Unsubscribe { .. } => RecordFault::LoseUnsubscribe,
            Record::Ref(_) => RecordFault::LoseRef,
            Record::Ack { .. } => RecordFault::LoseAck,
            Record::Released { .. } => RecordFault::LoseReleased,
            Record::Hold { .. } => RecordFault::LoseHold,
            Record::Unhold { .. } => RecordFault::LoseUnhold,
            Record::Retain(RetainRecord { message: None, .. }) => RecordFault::LoseDeletion,
            Record::Retain(_) => RecordFault::LoseRetained,
            Record::Taken { .. } => RecordFault::LoseTaken,
            Record::Epoch { .. } | Record::Message(_) => return false,
        };
        fault == lost
    }

    fn rewrite<'a>(&self, record: Record<'a>) -> Record<'a> {
        match record {
            Record::Message(message) if self.is(RecordFault::LoseTargets) => {
                Record::Message(MessageRecord { targets: List::default(), ..message })
            }
            other => other,
        }
    }

    fn swap(&mut self, shard: usize, mark: u64, records: &RecordBatch) -> Posts {
        let own = (shard, mark, records.clone());
        match self.held.take() {
            Some(held) if held.0 == shard => vec![held, own],
            Some(held) => vec![own, held],
            None if self.random.chance(50) => {
                self.held = Some(own);
                Vec::new()
            }
            None => vec![own],
        }
    }

    /// Records that have let others go first for long enough.
    pub(crate) fn take_held(&mut self) -> Option<(usize, u64, RecordBatch)> {
        self.held.take()
    }

    /// The process has ended.
    pub(crate) fn crash(&mut self) {
        self.held = None;
    }

    /// Whether a shard is told that records are on disk when they are posted.
    pub(crate) fn tells_early(&self) -> bool {
        self.is(RecordFault::EarlyAnswer)
    }

    /// Whether the records with which a process begins are not written.
    pub(crate) fn loses_first(&self) -> bool {
        self.is(RecordFault::LoseFirst)
    }

    /// The seed by which a shard finds the homes of sessions.
    pub(crate) fn seed_of(&self, shard: ShardId, seed: u64) -> Seed {
        let strays = self.is(RecordFault::MistakeHome) && shard.index() == 1;
        Seed::new(if strays { !seed } else { seed })
    }

    /// What a start has read is changed.
    pub(crate) fn alter_restored(&self, restored: &mut Restored) {
        match self.fault {
            Some(RecordFault::ForgetIntents) => restored.intents.clear(),
            Some(RecordFault::MistakeShards) => restored.shards = restored.shards % 4 + 1,
            Some(RecordFault::ReuseNumbers) => {
                (restored.next_session, restored.next_message) = (1, 1);
            }
            _ => {}
        }
    }
}

/// The first half of the records, and the second one.
fn torn(shard: usize, mark: u64, records: &RecordBatch) -> Posts {
    let count = records.records().count();
    let mut halves = [RecordBatch::default(), RecordBatch::default()];
    for (at, record) in records.records().enumerate() {
        let half = usize::from(at * 2 >= count && at > 0);
        halves[half].push(&record.expect("a shard writes whole records"));
    }
    let [first, second] = halves;
    vec![(shard, mark - 1, first), (shard, mark, second)]
}
