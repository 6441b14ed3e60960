//! Faults that are planted between the store and the disk, so that the laws can be seen to find
//! them. Each is something that a store could get wrong.

use super::disk::{Step, SyncKind, is_recycled};
use crate::{
    base::time::WallTime,
    storage::{
        Record, RecordBatch,
        group::{GROUP_HEADER, Group, GroupHeader},
        log::origin_of,
        segment::{BLOCK, Origin, SegmentHeader},
    },
};

/// Declares the faults once: the name in the code, and the words in the table.
macro_rules! faults {
    ($($name:ident = $words:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Fault {
            $($name,)*
        }

        impl Fault {
            pub(super) const ALL: &[Fault] = &[$(Fault::$name,)*];

            pub(super) fn words(self) -> &'static str {
                match self {
                    $(Fault::$name => $words,)*
                }
            }
        }
    };
}

faults! {
    TellEarly = "a mark is told before the sync",
    ForgetNames = "the directory is not synced after a new segment",
    ForgetHeader = "a segment has its name before its header is on disk",
    FreeEarly = "a segment is free before what replaces its contents is on disk",
    CountTooFew = "a group says too early that the oldest segment does not count",
    JudgeByLength = "a torn group is judged by its length, not by its checksum",
    TrustPayloads = "a payload, or what a file had before, passes for a group",
    BuildOnSand = "a start builds on what may not be on disk",
    CleanEarly = "cleaning begins before the first batch of a process",
    LoseDeletions = "acknowledgements are not written",
    LoseEnds = "the end of a session is not written",
    LoseRemovals = "the removal of a retained message is not written",
    LoseReleases = "that a QoS 2 message was received is not written",
    LoseHolds = "the identifier of a QoS 2 message is not written",
    SplitBatches = "one half of a batch comes with the next one",
    SwapBatches = "two batches change places",
    IgnoreFailedSync = "a failed sync is not noticed",
}

impl Fault {
    pub(super) fn skips_sync(self, kind: SyncKind) -> bool {
        match self {
            Fault::TellEarly => kind == SyncKind::Groups,
            Fault::ForgetNames => kind == SyncKind::Names,
            Fault::BuildOnSand => kind == SyncKind::FoundSegment,
            Fault::ForgetHeader => kind == SyncKind::NewSegment,
            _ => false,
        }
    }

    /// Before which earlier step this one is done.
    pub(super) fn place_of<T>(self, step: &Step, steps: &[T]) -> Option<usize>
    where
        T: AsRef<Step>,
    {
        let is_early = self == Fault::FreeEarly && is_recycled(step);
        let is_sync = |step: &T| matches!(step.as_ref(), Step::Sync { .. });
        steps.iter().rposition(is_sync).filter(|_| is_early)
    }

    /// Changes a group that is written.
    pub(super) fn miswrite(self, bytes: &mut [u8], file: &[u8]) {
        if self != Fault::CountTooFew {
            return;
        }
        let segment = u32_at(bytes, 12);
        let origin = origin_of(file, segment);
        let Some(group) = Group::read(bytes, origin) else { return };
        let (header, records) = (group.header, group.records.len());
        let oldest = (header.oldest + 1).min(segment);
        GroupHeader { oldest, ..header }.seal(bytes, records);
    }

    /// Changes a segment that is read.
    pub(super) fn misread(self, bytes: &mut [u8]) {
        if self != Fault::JudgeByLength && self != Fault::TrustPayloads {
            return;
        }
        let Ok(header) = SegmentHeader::decode(bytes) else { return };
        let origin = header.origin();
        let any = Origin::unknown(header.number);
        for offset in (BLOCK..bytes.len()).step_by(BLOCK) {
            let group = &mut bytes[offset..];
            let length = usize::try_from(u32_at(group, 8)).unwrap();
            let is_taken = if self == Fault::JudgeByLength {
                Group::is_begun(group, origin)
            } else {
                Group::read(group, any).is_some()
            };
            if is_taken && length <= group.len() - GROUP_HEADER {
                let header = GroupHeader {
                    lsn: u64_at(group, 16),
                    origin,
                    oldest: u32_at(group, 40),
                    durable: u64_at(group, 24),
                    written_at: WallTime::from_nanos(u64_at(group, 32)),
                };
                header.seal(group, length);
            }
        }
    }

    /// What is left of a batch.
    pub(super) fn lose_records(self, batch: &RecordBatch) -> RecordBatch {
        let mut left = RecordBatch::default();
        for record in batch.records() {
            let record = record.unwrap();
            let is_lost = match record {
                Record::Ack { .. } => self == Fault::LoseDeletions,
                Record::SessionEnd { .. } => self == Fault::LoseEnds,
                Record::Retain(retain) => self == Fault::LoseRemovals && retain.message.is_none(),
                Record::Released { .. } => self == Fault::LoseReleases,
                Record::Hold { .. } => self == Fault::LoseHolds,
                _ => false,
            };
            if !is_lost {
                left.push(&record);
            }
        }
        left
    }
}

fn u32_at(bytes: &[u8], place: usize) -> u32 {
    u32::from_le_bytes(bytes[place..place + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], place: usize) -> u64 {
    u64::from_le_bytes(bytes[place..place + 8].try_into().unwrap())
}
