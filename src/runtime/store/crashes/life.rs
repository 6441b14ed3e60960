//! The life of a store: processes that write to it, are killed, or lose their power.

use std::{cell::RefCell, path::PathBuf, sync::Arc, time::Duration};

use super::{
    super::{
        Durability, Opened, StoreConfig, StoreFault,
        files::Directory,
        handle::{Ender, Posts, queue},
        open_with,
        supply::Supply,
        writer::Writer,
    },
    disk::{Crashed, Handles, Image, MemoryDisk, Noted, Step},
    laws::{Violation, judge},
    model::{State, Twin},
    planted::Fault,
    random::Random,
    replay::Replay,
    work::{Front, Work},
};
use crate::{
    base::time::Span, runtime::bell::Bells, shard::store_figures::StoreCondition,
    storage::RecordBatch,
};

/// What was done to a disk from one power cut to the next, and by whom.
#[derive(Debug)]
pub(super) struct Stretch {
    pub(super) base: Replay,
    pub(super) steps: Vec<Noted>,
    /// One more than there are restarts in the steps.
    pub(super) processes: Vec<Process>,
    /// How many batches were told as durable before all this.
    pub(super) told: usize,
}

/// What one process has posted.
#[derive(Clone, Debug, Default)]
pub(super) struct Process {
    /// The state after each number of batches, from the first batch of all on.
    pub(super) history: Vec<Arc<State>>,
    /// For each shard, how many batches there are when this post of it is there.
    pub(super) posts: Vec<Vec<usize>>,
    /// What is told is on disk. Otherwise it survives the end of the process only.
    pub(super) is_durable: bool,
}

impl Process {
    /// How many batches are safe when these marks are told.
    pub(super) fn told(&self, marks: &[u64]) -> usize {
        let of_shard = |(posts, mark): (&Vec<usize>, &u64)| {
            usize::try_from(*mark).unwrap().checked_sub(1).map(|at| posts[at])
        };
        self.posts.iter().zip(marks).filter_map(of_shard).max().unwrap_or(0)
    }
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Orderly,
    Killed,
    PowerCut,
}

/// A store, its disk, and all that is known of it.
pub(super) struct Life {
    random: Random,
    planted: Option<Fault>,
    disk: MemoryDisk,
    work: Work,
    twins: Vec<Twin>,
    stretch: Stretch,
    told: usize,
    pub(super) done: Vec<Stretch>,
    /// The sync of the first process that fails.
    failing: Option<usize>,
    has_failed: bool,
}

/// A process at work.
struct Running {
    writer: Writer,
    posts: Posts,
    handles: Handles,
    /// Its queue ends when this is dropped.
    _ender: Ender,
    /// A batch that waits for the next one of its shard.
    held: RefCell<Option<(usize, RecordBatch)>>,
    /// Posts that the storage thread has not taken.
    waiting: usize,
}

impl Life {
    pub(super) fn new(seed: u64, planted: Option<Fault>, failing: Option<usize>) -> Life {
        let mut random = Random::new(seed);
        let work = Work::new(Random::new(random.next()));
        Life {
            random,
            planted,
            disk: MemoryDisk::new(Image::default(), planted),
            work,
            twins: vec![Twin::default()],
            stretch: Stretch::new(Image::default(), Process::new(), 0),
            told: 0,
            done: Vec::new(),
            failing,
            has_failed: false,
        }
    }

    /// Some processes, one after the other.
    pub(super) fn run(&mut self, processes: usize) -> Result<(), Violation> {
        for _ in 0..processes {
            let end = match self.random.below(4) {
                0 => End::Orderly,
                1 => End::Killed,
                _ => End::PowerCut,
            };
            if let Some(failing) = self.failing {
                self.disk.fail_sync(failing);
            }
            let running = match self.start() {
                Ok(running) => running?,
                Err(fault) => {
                    self.expect_failed_sync(&fault)?;
                    self.failing = None;
                    continue;
                }
            };
            self.work_and_end(running, end)?;
            if self.failing.take().is_some() && self.planted.is_none() && !self.has_failed {
                return Err(Violation::new("the sync fails", String::new()));
            }
        }
        self.end_stretch();
        Ok(())
    }

    fn expect_failed_sync(&mut self, fault: &StoreFault) -> Result<(), Violation> {
        if self.disk.has_failed() {
            self.has_failed = true;
            return Ok(());
        }
        Err(Violation::new("the store works while its disk does", fault.to_string()))
    }

    /// Opens the store, and checks what was found.
    fn start(&mut self) -> Result<Result<Running, Violation>, StoreFault> {
        self.disk.serve(&Handles::default());
        let shards = 1 + self.random.below(4);
        let config = StoreConfig {
            data_dir: PathBuf::new(),
            durability: match self.random.below(6) {
                _ if self.failing.is_some() => Durability::Always,
                0 => Durability::None,
                1 => Durability::Interval(Span::from_secs(3600)),
                _ => Durability::Always,
            },
            segment_bytes: Some(SEGMENT_BYTES),
            bytes_max: BYTES_MAX,
            shards: u8::try_from(shards).unwrap(),
        };
        let directory = Directory::on(Arc::new(self.disk.clone()), FOLDER.into());
        let without_thread =
            |directory, header, free| Ok(Supply::without_thread(directory, header, free));
        let opened = open_with(&config, SEED, Arc::new(directory), without_thread)?;
        Ok(self.take_over(opened, shards, config.durability))
    }

    fn take_over(
        &mut self,
        opened: Opened,
        shards: usize,
        durability: Durability,
    ) -> Result<Running, Violation> {
        let former = self.stretch.processes.last().unwrap();
        let batches = judge(&opened.restored, former, self.told, self.disk.clock())?;
        let Opened { restored, store, .. } = opened;
        self.twins.truncate(batches + 1);
        let twin = self.twins[batches].clone();
        self.work.restart(twin, &restored, batches, shards);
        let mut process = Process {
            history: former.history[..=batches].to_vec(),
            posts: vec![Vec::new(); shards],
            is_durable: durability == Durability::Always,
        };
        process.history.truncate(batches + 1);
        self.disk.set_posted(batches);
        self.disk.note(Step::Restart);
        self.stretch.processes.push(process);
        let bells = Bells::new(shards).unwrap();
        let (handles, posts, ender) = queue(&bells);
        let handles = Handles::new(handles.into());
        self.disk.serve(&handles);
        let held = RefCell::default();
        Ok(Running { writer: store.writer, posts, handles, _ender: ender, held, waiting: 0 })
    }

    fn work_and_end(&mut self, mut running: Running, end: End) -> Result<(), Violation> {
        if self.planted == Some(Fault::CleanEarly) {
            running.writer.tally.records = 1;
        }
        if self.random.one_in(2) {
            // The thread works before the first post comes.
            self.clean(&mut running)?;
        }
        let first = self.work.first();
        self.post(&mut running, 0, first);
        let mut goes_on = self.turn(&mut running)?;
        let turns = self.failing.map_or_else(|| 10 + self.random.below(50), |sync| sync + 10);
        for _ in 0..turns {
            if !goes_on {
                break;
            }
            self.act(&mut running);
            goes_on = self.turn(&mut running)?;
        }
        self.has_failed |= self.disk.has_failed();
        let told_last = self.told_by(&running);
        if goes_on && end == End::Orderly && running.writer.finish().is_err() {
            goes_on = false;
        }
        if !goes_on {
            // It ends by itself.
            return Ok(());
        }
        match end {
            End::Orderly => self.told = self.told.max(told_last),
            End::Killed => self.end_killed(told_last)?,
            End::PowerCut => self.cut_power(),
        }
        Ok(())
    }

    fn told_by(&self, running: &Running) -> usize {
        let marks: Vec<u64> =
            running.handles.lock().unwrap().iter().map(|handle| handle.durable().0).collect();
        self.stretch.processes.last().unwrap().told(&marks)
    }

    /// What was told survives the end of the process in each mode.
    fn end_killed(&mut self, told: usize) -> Result<(), Violation> {
        let process = self.stretch.processes.last().unwrap();
        self.disk.serve(&Handles::default());
        let crashed = Crashed { image: self.disk.image(), planted: self.planted };
        super::laws::check(crashed, process, told, self.disk.clock()).map(drop)
    }

    fn cut_power(&mut self) {
        let stretch = self.end_stretch();
        let mut replay = stretch.0;
        let image = replay.crash(&mut self.random);
        replay = Replay::of(image.clone());
        let process = self.done.last().unwrap().processes.last().unwrap().clone();
        self.told = self.told.max(stretch.1);
        self.stretch =
            Stretch { base: replay, ..Stretch::new(Image::default(), process, self.told) };
        let clock = self.disk.clock();
        self.disk = MemoryDisk::new(image, self.planted);
        self.disk.set_clock(clock);
    }

    /// Returns the disk at the end of the stretch, and how many batches were told as durable.
    fn end_stretch(&mut self) -> (Replay, usize) {
        // What was told last stands at a step of its own.
        self.disk.note(Step::End);
        let steps = self.disk.take_steps();
        let next = Stretch::new(Image::default(), Process::new(), 0);
        let mut stretch = std::mem::replace(&mut self.stretch, next);
        stretch.steps = steps;
        let mut replay = stretch.base.clone();
        let mut told = stretch.teller();
        for noted in &stretch.steps {
            told.hear(noted);
            replay.apply(&noted.step);
        }
        let told = told.told;
        self.done.push(stretch);
        (replay, told)
    }

    /// Some shards post what they have written.
    fn act(&mut self, running: &mut Running) {
        let clock = self.disk.clock() + self.random.below(3_000_000_000) as u64;
        self.disk.set_clock(clock);
        self.work.set_clock(clock);
        let shards = running.handles.lock().unwrap().len();
        let more = if self.failing.is_some() { 0 } else { self.random.below(4) };
        for _ in 0..=more {
            let front =
                Front { segment: running.writer.active.number, lsn: running.writer.next_lsn };
            let shard = self.random.below(shards);
            let batch = self.work.batch(shard, front);
            self.post(running, shard, batch);
        }
        if self.random.one_in(3) {
            running.writer.supply.collect(Duration::from_nanos(1));
        }
    }

    fn post(&mut self, running: &mut Running, shard: usize, batch: RecordBatch) {
        self.twins.push(self.work.twin.clone());
        let process = self.stretch.processes.last_mut().unwrap();
        process.history.push(Arc::new(self.work.twin.state.clone()));
        let count = process.history.len() - 1;
        self.disk.set_posted(count);
        let posts = running.send(self.planted, shard, batch);
        process.posts[shard].extend(std::iter::repeat_n(count, posts));
        running.waiting += posts;
    }

    /// One turn of the storage thread. False: the store cannot be written any more.
    fn turn(&mut self, running: &mut Running) -> Result<bool, Violation> {
        let writer = &running.writer;
        let waits = writer.is_stuck || writer.room.is_full || !writer.is_sweep_due();
        if running.waiting == 0 && waits {
            return Ok(true);
        }
        running.waiting = 0;
        let had_failed = self.disk.has_failed();
        match running.writer.turn(&mut running.posts) {
            Ok(_) => {}
            Err(fault) => {
                self.expect_failed_sync(&fault)?;
                let told = self.stretch.processes.last().unwrap().told(&self.disk.told_then());
                let later = self.told_by(running);
                if later > told {
                    let words = format!("{told} batches were told before it, {later} after it");
                    return Err(Violation::new("nothing is told after a failed sync", words));
                }
                return Ok(false);
            }
        }
        let condition = running.handles.lock().unwrap()[0].condition();
        if condition == StoreCondition::Full && !had_failed && !self.disk.has_failed() {
            return Err(Violation::new("the store has room", format!("{condition:?}")));
        }
        Ok(true)
    }

    fn clean(&mut self, running: &mut Running) -> Result<(), Violation> {
        while running.writer.is_sweep_due() {
            let is_stuck = running.writer.is_stuck || running.writer.room.is_full;
            if is_stuck || !self.turn(running)? {
                break;
            }
        }
        Ok(())
    }
}

impl Running {
    /// Posts a batch. Returns how many posts have come of it.
    fn send(&self, planted: Option<Fault>, shard: usize, mut batch: RecordBatch) -> usize {
        let handle = &mut self.handles.lock().unwrap()[shard];
        let mut held = self.held.borrow_mut();
        match planted {
            Some(Fault::SplitBatches) => {
                let (first, second) = halves(&batch);
                batch = first;
                let former = held.take();
                if let Some((_, mut former)) = former {
                    batch.records().for_each(|record| former.push(&record.unwrap()));
                    batch = former;
                }
                *held = Some((shard, second));
            }
            Some(Fault::SwapBatches) => match held.take() {
                None => {
                    *held = Some((shard, batch));
                    return 0;
                }
                Some((_, mut former)) => {
                    handle.try_post(&mut batch).unwrap();
                    handle.try_post(&mut former).unwrap();
                    return 2;
                }
            },
            Some(fault) => batch = fault.lose_records(&batch),
            None => {}
        }
        handle.try_post(&mut batch).unwrap();
        1
    }
}

fn halves(batch: &RecordBatch) -> (RecordBatch, RecordBatch) {
    let middle = batch.records().count() / 2;
    let mut halves = (RecordBatch::default(), RecordBatch::default());
    for (at, record) in batch.records().enumerate() {
        let half = if at < middle { &mut halves.0 } else { &mut halves.1 };
        half.push(&record.unwrap());
    }
    halves
}

impl Process {
    fn new() -> Process {
        Process { history: vec![Arc::default()], posts: Vec::new(), is_durable: true }
    }
}

impl Stretch {
    fn new(image: Image, process: Process, told: usize) -> Stretch {
        Stretch { base: Replay::of(image), steps: Vec::new(), processes: vec![process], told }
    }

    /// Tells how many batches were told as durable by each step.
    pub(super) fn teller(&self) -> Teller<'_> {
        Teller { stretch: self, process: 0, told: self.told }
    }
}

/// Walks through the steps of a stretch.
pub(super) struct Teller<'a> {
    stretch: &'a Stretch,
    process: usize,
    pub(super) told: usize,
}

impl Teller<'_> {
    pub(super) fn process(&self) -> &Process {
        &self.stretch.processes[self.process]
    }

    pub(super) fn hear(&mut self, noted: &Noted) {
        if matches!(noted.step, Step::Restart) {
            self.process += 1;
        } else if self.process().is_durable {
            self.told = self.told.max(self.process().told(&noted.told));
        }
    }
}

pub(super) const FOLDER: &str = "/store";
pub(super) const SEED: u64 = 5;
const SEGMENT_BYTES: usize = 32 << 10;
const BYTES_MAX: usize = 384 << 10;
