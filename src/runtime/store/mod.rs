//! The durable store: one thread that writes what all shards post, and tells them when it is safe.
//!
//! ```text
//!   shard: StoreHandle::try_post --> queue --> the storage thread: one write, one fdatasync
//!            StoreHandle::durable <-- mark, bell ---+
//! ```
//! The order of the queue is the order of the log. Whoever has posted before a letter leaves can
//! rely on it: no effect survives without its cause.

#[cfg(test)]
mod crashes;
mod fault;
mod figures;
mod files;
#[cfg(test)]
mod golden;
mod handle;
mod import;
mod layer;
mod measure;
mod room;
mod supply;
mod sweep;
#[cfg(test)]
mod tests;
pub mod tools;
mod writer;

use std::{
    collections::VecDeque,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tracing::{error, info, warn};

pub use self::{
    fault::StoreFault,
    handle::{Mark, StoreFull, StoreHandle},
};
use self::{
    files::{Aligned, Directory},
    handle::{Ender, Posts, queue},
    room::{Room, SpaceLimits},
    supply::{READY, Supply},
    writer::{Active, GROUP_BYTES_MAX, Used, Writer},
};
use super::{bell::Bells, ring::system, signals, stop::Stop};
use crate::{
    base::{hash::Seed, time::Span},
    shard::store_figures::{StoreCondition, StoreFigures},
    storage::{
        Recovery, Restored,
        group::{GROUP_HEADER, Group},
        ledger::{Ledger, Position},
        log::{LogEnd, ReadFault, Segments, origin_of, read_log},
        segment::{BLOCK, MINOR, SegmentHeader},
    },
};

/// When an answer may leave that promises that something survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When it is on disk: it survives a power cut.
    Always,
    /// When it is written: it survives the end of the process. A power cut loses what came in
    /// about this time.
    Interval(Span),
    /// When it is written. The system decides when it is on disk.
    None,
}

impl Durability {
    fn interval(self) -> Option<Span> {
        match self {
            Durability::Interval(interval) => Some(interval),
            Durability::Always | Durability::None => None,
        }
    }
}

/// How the store works.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// `--data-dir`: the store is its folder `store`.
    pub data_dir: PathBuf,
    pub durability: Durability,
    /// Bytes of each new segment; `None`: an eighth of what counts, from 1 to 64 MiB.
    pub segment_bytes: Option<usize>,
    /// Bytes that the store may take on disk.
    pub bytes_max: usize,
    pub shards: u8,
}

/// A store that has been read.
#[derive(Debug)]
pub struct Opened {
    pub restored: Restored,
    /// The seed of the hash that finds the homes of sessions: the same at each start.
    pub seed: u64,
    /// This process. The first batch has the record `Epoch` with it.
    pub epoch: u64,
    pub store: Store,
}

/// A store that this process may write.
pub struct Store {
    writer: Writer,
    shards: u8,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("epoch", &self.writer.epoch).finish_non_exhaustive()
    }
}

/// The thread of the store.
#[derive(Debug)]
pub(super) struct StoreThread {
    thread: JoinHandle<Result<(), StoreFault>>,
    ender: Ender,
}

/// Opens the store, and reads it. `new_seed` is the seed if there is no store yet.
pub fn open(config: &StoreConfig, new_seed: u64) -> Result<Opened, StoreFault> {
    let path = &config.data_dir;
    let fault = |error| StoreFault::Directory { path: path.clone(), error };
    signals::survive_file_limit().map_err(fault)?;
    let directory = Arc::new(Directory::open(&config.data_dir)?);
    open_with(config, new_seed, directory, Supply::start)
}

/// Opens the store in a directory. `supply` begins to make its segments.
fn open_with(
    config: &StoreConfig,
    new_seed: u64,
    directory: Arc<Directory>,
    supply: impl FnOnce(Arc<Directory>, SegmentHeader, Vec<PathBuf>) -> io::Result<Supply>,
) -> Result<Opened, StoreFault> {
    let began = system::now();
    let Log { end, ledger, restored } = read(&directory, new_seed)?;
    tell_what_was_read(&end, &restored, system::now().since(began));
    let last = end.segments.last().map_or(0, |last| last.number);
    let behind = (&*directory).numbers()?.into_iter().filter(|number| *number > last);
    let behind: Vec<u32> = behind.collect();
    secure_end(&directory, &end).map_err(|error| directory.fault(error))?;
    let free = supply::set_aside(&directory, &behind).map_err(|error| directory.fault(error))?;
    let (seed, epoch) = end.last.map_or((new_seed, 1), |last| (last.seed, last.epoch + 1));
    let (number, shards) = (last + 1, config.shards);
    let (made_at, minor) = (directory.layer().now(), MINOR);
    let header = SegmentHeader { number, epoch, seed, shards, made_at, minor };
    let supply = supply(Arc::clone(&directory), header, free);
    let supply = supply.map_err(|error| directory.fault(error))?;
    let writer = writer(config, directory, supply, ledger, &end, epoch)?;
    Ok(Opened { restored, seed, epoch, store: Store { writer, shards } })
}

/// A log that has been read to its end.
struct Log {
    end: LogEnd,
    ledger: Ledger<Position>,
    restored: Restored,
}

fn read(directory: &Directory, new_seed: u64) -> Result<Log, StoreFault> {
    let mut ledger = Ledger::new(Seed::new(new_seed));
    let mut recovery = Recovery::new(Seed::new(new_seed));
    let mut told = system::now();
    let mut source = directory;
    let end = read_log(&mut source, |placed| {
        let records = placed.group.records;
        let (number, epoch) = (placed.segment.number, placed.segment.epoch);
        let offset = u32::try_from(placed.offset + GROUP_HEADER).unwrap_or(u32::MAX);
        ledger.apply_batch(records, epoch, number, offset)?;
        recovery.apply_all(records, epoch)?;
        if system::now().since(told) > PROGRESS {
            told = system::now();
            info!(segment = number, "the store is being read");
        }
        Ok(())
    });
    let end = end.map_err(|fault| fault_of(directory.path(), fault))?;
    ledger.settle();
    Ok(Log { end, ledger, restored: recovery.finish() })
}

/// Writes the latest groups once more, and syncs them. They may not be on disk, though they can be
/// read: a process may be killed before its sync, and a sync that has failed tells nothing of what
/// later ones cover. What follows says that all groups before it are safe.
fn secure_end(directory: &Directory, end: &LogEnd) -> io::Result<()> {
    let Some(last) = end.segments.last() else { return Ok(()) };
    let mut bytes = Vec::new();
    directory.layer().read(&directory.segment_path(last.number), &mut bytes)?;
    let origin = origin_of(&bytes, last.number);
    let mut groups = Vec::new();
    let mut offset = BLOCK;
    while offset < last.end
        && let Some(group) = Group::read(&bytes[offset..], origin)
    {
        groups.push((offset, group.header));
        offset += group.bytes();
    }
    let durable = groups.last().map_or(0, |(_, newest)| newest.durable);
    let unsafe_from = groups.iter().find(|(_, header)| header.lsn > durable);
    let Some((from, _)) = unsafe_from else { return Ok(()) };
    let mut file = directory.open_segment(last.number)?;
    let mut window = Aligned::with_room(SECURED.min(last.end - from));
    for at in (*from..last.end).step_by(SECURED) {
        let part = &bytes[at..last.end.min(at + SECURED)];
        window.all_mut()[..part.len()].copy_from_slice(part);
        file.write(&window.all_mut()[..part.len()], at)?;
    }
    file.sync()
}

fn fault_of(path: &Path, fault: ReadFault<StoreFault>) -> StoreFault {
    match fault {
        ReadFault::Damage(damage) => StoreFault::Damaged { path: path.into(), damage },
        ReadFault::Source(fault) => fault,
    }
}

fn tell_what_was_read(end: &LogEnd, restored: &Restored, took: Span) {
    if let Some(torn) = end.torn {
        let (segment, offset, lsn) = (torn.segment, torn.offset, torn.lsn);
        warn!(segment, offset, lsn, "the store was cut at a write that had not ended");
    }
    let (sessions, messages) = (restored.sessions.len(), restored.messages.len());
    let (retained, took) = (restored.retained.len(), took.as_millis());
    info!(sessions, messages, retained, took_ms = took, "the store was read");
}

fn writer(
    config: &StoreConfig,
    directory: Arc<Directory>,
    mut supply: Supply,
    ledger: Ledger<Position>,
    end: &LogEnd,
    epoch: u64,
) -> Result<Writer, StoreFault> {
    let limits = SpaceLimits { segment_bytes: config.segment_bytes, bytes_max: config.bytes_max };
    let path = directory.path().to_path_buf();
    let mut used = VecDeque::new();
    for segment in &end.segments {
        let bytes = directory.layer().bytes_of(&directory.segment_path(segment.number));
        let bytes = bytes.map_err(|error| directory.fault(error))?;
        used.push_back(Used { number: segment.number, end: segment.end, bytes });
    }
    supply.order(limits.bytes_of_next(ledger.live_bytes()), READY);
    supply.collect(OPEN_PATIENCE);
    if let Some(error) = supply.take_failure() {
        return Err(StoreFault::Make { path, error });
    }
    let Some(ready) = supply.take() else {
        let error = supply.take_shortage().unwrap_or_else(|| io::ErrorKind::TimedOut.into());
        return Err(StoreFault::NoRoom { path, error });
    };
    Ok(Writer {
        directory,
        ledger,
        supply,
        active: Active::from(ready),
        used,
        epoch,
        next_lsn: end.next_lsn,
        durable: end.next_lsn - 1,
        durability: config.durability,
        group: Aligned::with_room(GROUP_BYTES_MAX),
        records: 0,
        marks: vec![None; usize::from(config.shards)],
        rewritten: crate::storage::RecordBatch::default(),
        sweep: None,
        to_sweep: 0,
        freed: None,
        unsafe_since: None,
        room: Room::new(limits),
        tally: StoreFigures::default(),
        is_stuck: false,
    })
}

impl Store {
    /// Starts the thread. Returns the ends of the shards, in their order. If the store cannot be
    /// written, it asks for a stop.
    pub(super) fn start(
        self,
        bells: &Bells,
        stop: Stop,
    ) -> io::Result<(Vec<StoreHandle>, StoreThread)> {
        debug_assert_eq!(bells.shards().count(), usize::from(self.shards), "one end for each");
        let (handles, posts, ender) = queue(bells);
        let name = "ringmq-store".to_owned();
        let run = move || run(self.writer, posts, &stop);
        let thread = thread::Builder::new().name(name).spawn(run)?;
        Ok((handles, StoreThread { thread, ender }))
    }
}

fn run(writer: Writer, mut posts: Posts, stop: &Stop) -> Result<(), StoreFault> {
    let ended = writer.run(&mut posts);
    if let Err(fault) = &ended {
        error!("{fault}");
        posts.set_condition(StoreCondition::Failed);
        stop.ask();
    }
    ended
}

impl StoreThread {
    /// Waits until all that was posted is on disk.
    pub(super) fn end(self) -> Result<(), StoreFault> {
        self.ender.end();
        self.thread.join().unwrap_or(Err(StoreFault::Lost))
    }
}

/// Bytes of the latest groups that are written again at once.
const SECURED: usize = 1 << 20;
/// How often a start says how far it has read.
const PROGRESS: Span = Span::from_secs(2);
/// How long the first segment may take.
const OPEN_PATIENCE: Duration = Duration::from_mins(1);
