//! The store on real files, in a directory of each test's own.

use std::{
    fs::{self, File},
    io,
    ops::Range,
    os::unix::fs::FileExt,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::{
    layer::{Disk, Layer, StoreFile},
    *,
};
use crate::{
    base::{ids::ShardId, time::WallTime},
    mqtt::QoS,
    storage::{
        List, MessageId, MessageRecord, Record, RecordBatch, RefRecord, SessionNumber,
        SessionRecord, log::Damage,
    },
};

/// A data directory that goes with the test.
pub(super) struct Place(PathBuf);

impl Place {
    pub(super) fn new() -> Place {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ringmq-store-{}-{count}", std::process::id());
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tmp").join(name);
        fs::create_dir_all(&path).unwrap();
        Place(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn config(&self) -> StoreConfig {
        StoreConfig {
            data_dir: self.0.clone(),
            durability: Durability::Always,
            segment_bytes: None,
            bytes_max: usize::MAX,
            shards: 2,
        }
    }

    /// Of a store that becomes full soon.
    fn small(&self) -> StoreConfig {
        StoreConfig { segment_bytes: Some(64 << 10), bytes_max: 1 << 20, ..self.config() }
    }

    pub(super) fn segment(&self, number: u32) -> PathBuf {
        self.0.join(format!("store/{number}.seg"))
    }

    fn bytes(&self) -> u64 {
        let files = fs::read_dir(self.0.join("store")).unwrap();
        let length = |file: fs::DirEntry| match file.metadata() {
            Ok(metadata) => metadata.len(),
            // The store at work has removed or renamed it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => panic!("{error}"),
        };
        files.map(|file| length(file.unwrap())).sum()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// A store at work.
struct Running {
    handles: Vec<StoreHandle>,
    thread: StoreThread,
    bells: Bells,
    stop: Stop,
}

impl Running {
    fn start(store: Store) -> Running {
        let bells = Bells::new(2).unwrap();
        let stop = Stop::new(2, bells.clone());
        let (handles, thread) = store.start(&bells, stop.clone()).unwrap();
        Running { handles, thread, bells, stop }
    }

    fn post(&mut self, shard: usize, records: &[Record<'_>]) -> Mark {
        let mut batch = RecordBatch::default();
        for record in records {
            batch.push(record);
        }
        self.handles[shard].try_post(&mut batch).unwrap()
    }

    /// Waits for the bell of a shard until this is safe, or the store has failed.
    fn wait(&self, shard: usize, mark: Mark) {
        self.listen_until(shard, |store| {
            store.durable() >= mark || store.condition() == StoreCondition::Failed
        });
    }

    /// Waits for the bell of a shard until this holds.
    fn listen_until(&self, shard: usize, holds: impl Fn(&StoreHandle) -> bool) {
        use std::io::Read;
        let me = ShardId::new(shard).unwrap();
        while !holds(&self.handles[shard]) {
            self.bells.listen(me).read_exact(&mut [0; 1]).unwrap();
        }
    }

    /// Posts messages of 4 KiB for the first session, beginning with this ordinal, until the store
    /// is full. Returns the next ordinal.
    fn fill(&mut self, from: u64) -> u64 {
        let mut next = from;
        while self.handles[0].condition() == StoreCondition::Running {
            let mark = self.post(0, &[reference(1, next), message(next, &[7; 4 << 10])]);
            self.wait(0, mark);
            next += 1;
            assert!(next < from + 1_000, "the store becomes full");
        }
        next
    }

    /// Posts messages for session 1, in the order in which a shard writes them. From one on, each
    /// that comes has another one go. The store is not full at any time.
    fn come_and_go(&mut self, ordinals: Range<u64>, first: u64, payload: &[u8]) {
        let mut mark = Mark::default();
        for ordinal in ordinals {
            mark = self.post(0, &[reference(1, ordinal), message(ordinal, payload)]);
            if ordinal > first {
                mark = self.post(0, &[ack(1, ordinal - 10)]);
            }
            if ordinal % 8 == 0 {
                self.wait(0, mark);
            }
            assert_eq!(self.handles[0].condition(), StoreCondition::Running);
        }
        self.wait(0, mark);
    }

    fn wait_for_room(&self) {
        self.listen_until(0, |store| store.condition() == StoreCondition::Running);
    }
}

fn session(number: u64) -> Record<'static> {
    Record::Session(SessionRecord {
        session: SessionNumber(number),
        client_id: "client",
        user: None,
        peer: None,
        expiry_interval: u32::MAX,
        created_at: WallTime::from_nanos(1),
        connected_at: WallTime::from_nanos(1),
        will: None,
    })
}

fn message(id: u64, payload: &[u8]) -> Record<'_> {
    Record::Message(MessageRecord {
        id: MessageId(id),
        publisher_hash: 0,
        publisher: SessionNumber(0),
        topic: "t",
        application: &[],
        payload,
        qos: QoS::AtLeastOnce,
        retain: false,
        expires_at: None,
        from: ShardId::FIRST,
        targets: List::default(),
        groups: "",
    })
}

fn reference(session: u64, ordinal: u64) -> Record<'static> {
    Record::Ref(RefRecord {
        session: SessionNumber(session),
        ordinal,
        message: MessageId(ordinal),
        qos: QoS::AtLeastOnce,
        retain: false,
        subscription_ids: List::default(),
        group: None,
    })
}

fn ack(session: u64, ordinal: u64) -> Record<'static> {
    Record::Ack { session: SessionNumber(session), ordinal }
}

#[test]
fn what_was_safe_is_there_at_the_next_start() {
    let place = Place::new();
    let opened = open(&place.config(), 77).unwrap();
    assert_eq!((opened.seed, opened.epoch, opened.restored.epoch), (77, 1, 0));
    let mut running = Running::start(opened.store);
    let first = running.post(0, &[Record::Epoch { number: 1, shards: 2 }, session(5)]);
    let second = running.post(1, &[message(9, b"payload"), reference(5, 9)]);
    running.wait(0, first);
    running.wait(1, second);
    running.thread.end().unwrap();
    let again = open(&place.config(), 78).unwrap();
    assert_eq!((again.seed, again.epoch), (77, 2));
    assert_eq!((again.restored.epoch, again.restored.shards), (1, 2));
    assert_eq!(again.restored.sessions[0].terms.record(), session(5));
    assert_eq!(again.restored.messages[0].record(), message(9, b"payload"));
    assert_eq!((again.restored.next_session, again.restored.next_message), (6, 10));
}

#[test]
fn a_second_process_is_refused_while_the_first_has_the_store() {
    let place = Place::new();
    let first = open(&place.config(), 1).unwrap();
    assert!(matches!(open(&place.config(), 1), Err(StoreFault::InUse { .. })));
    drop(first);
    drop(open(&place.config(), 1).unwrap());
}

#[test]
fn a_directory_that_is_none_is_refused() {
    let place = Place::new();
    fs::write(place.0.join("store"), b"a file").unwrap();
    let refused = open(&place.config(), 1).unwrap_err();
    assert!(matches!(refused, StoreFault::Directory { .. }), "{refused}");
}

#[test]
fn damage_is_named_with_its_file() {
    let place = Place::new();
    let mut running = Running::start(open(&place.config(), 1).unwrap().store);
    for number in 1..4 {
        let mark = running.post(0, &[session(number)]);
        running.wait(0, mark);
    }
    running.thread.end().unwrap();
    let file = File::options().write(true).open(place.segment(1)).unwrap();
    file.write_all_at(b"?", BLOCK as u64 + 70).unwrap();
    let refused = open(&place.config(), 1).unwrap_err();
    let StoreFault::Damaged { damage, .. } = refused else { panic!("{refused}") };
    assert_eq!(damage, Damage::Group { segment: 1, offset: BLOCK, lsn: 1 });
}

#[test]
fn a_store_tells_what_it_has_written_and_what_of_it_counts() {
    let place = Place::new();
    let mut running = Running::start(open(&place.config(), 1).unwrap().store);
    for number in 1..=3 {
        let records = [session(number), message(number, b"payload"), reference(number, number)];
        let mark = running.post(0, &records);
        running.wait(0, mark);
    }
    let mark = running.post(1, &[ack(1, 1)]);
    running.wait(1, mark);
    let mut figures = running.handles[0].figures();
    assert_eq!((figures.records, figures.live_records), (10, 3 + 2 + 2));
    assert_eq!((figures.groups, figures.syncs), (4, 4));
    assert_eq!((figures.written_bytes, figures.queued_bytes), (4 * BLOCK as u64, 0));
    assert_eq!((figures.segments, figures.cleaned_segments, figures.filled), (1, 0, 0));
    assert_eq!(figures.condition, StoreCondition::Running);
    assert!(figures.sync_nanos_max > 0 && figures.sync_nanos >= figures.sync_nanos_max);
    let live_bytes = figures.live_bytes;
    while figures.ready_segments < supply::READY as u64 {
        let mark = running.post(0, &[Record::Epoch { number: 1, shards: 2 }]);
        running.wait(0, mark);
        figures = running.handles[1].figures();
    }
    assert_eq!((figures.bytes, figures.live_bytes), (place.bytes(), live_bytes));
    running.thread.end().unwrap();
    // What counts is known before anything is written.
    let mut again = Running::start(open(&place.config(), 1).unwrap().store);
    let mark = again.post(0, &[Record::Epoch { number: 2, shards: 2 }]);
    again.wait(0, mark);
    let figures = again.handles[0].figures();
    assert_eq!((figures.live_records, figures.live_bytes, figures.records), (7, live_bytes, 1));
    assert_eq!((figures.segments, figures.groups), (2, 1));
    again.thread.end().unwrap();
}

/// Far more is written than counts: the log stays short, and nothing is lost.
#[test]
fn a_log_of_what_has_ended_is_cleaned() {
    let place = Place::new();
    let config =
        StoreConfig { segment_bytes: Some(256 << 10), bytes_max: 16 << 20, ..place.config() };
    let mut running = Running::start(open(&config, 1).unwrap().store);
    let payload = [7; 16 << 10];
    running.post(0, &[session(1), message(1, b"old"), reference(1, 1)]);
    running.come_and_go(2..2_000, 12, &payload);
    let figures = running.handles[0].figures();
    assert_eq!((figures.records, figures.live_records), (3 + 2 * 1_998 + 1_987, 1 + 2 * 12));
    // The session and its oldest message are written again each time.
    assert!(figures.cleaned_segments > 50, "{figures:?}");
    assert!(figures.rewritten_records >= 3 * figures.cleaned_segments / 50, "{figures:?}");
    assert!(figures.bytes <= 16 << 20 && figures.written_bytes > 32 << 20, "{figures:?}");
    running.thread.end().unwrap();
    assert!(place.bytes() <= 16 << 20, "{} bytes", place.bytes());
    let restored = open(&config, 1).unwrap().restored;
    let left: Vec<Record<'_>> =
        restored.sessions[0].refs.iter().map(crate::storage::Kept::record).collect();
    let expected: Vec<u64> = [1, 2].into_iter().chain(1_990..2_000).collect();
    assert_eq!(left, expected.into_iter().map(|n| reference(1, n)).collect::<Vec<_>>());
}

/// Nearly half of what the store may take counts and stays. What comes and goes beside it does not
/// fill the store, because cleaning begins before that.
#[test]
fn a_store_with_a_limit_is_cleaned_before_it_is_full() {
    let place = Place::new();
    let config =
        StoreConfig { segment_bytes: Some(256 << 10), bytes_max: 16 << 20, ..place.config() };
    let mut running = Running::start(open(&config, 1).unwrap().store);
    let payload = [7; 16 << 10];
    running.post(0, &[session(1)]);
    let stay = 7 << 6;
    running.come_and_go(1..1_400, stay + 10, &payload);
    let figures = running.handles[0].figures();
    assert_eq!((figures.filled, figures.live_records), (0, 1 + 2 * (stay + 10)));
    assert!(figures.bytes <= 16 << 20, "{figures:?}");
    // As much as came was cleaned, and what stays was written again a few times at most.
    assert!(figures.written_bytes < 6 * (1_400 << 14), "{figures:?}");
    running.thread.end().unwrap();
    let restored = open(&config, 1).unwrap().restored;
    assert_eq!(restored.messages.len() as u64, stay + 10);
}

/// So many small messages wait that each acknowledgement takes more room than it frees. The
/// segments that are kept for acknowledgements are enough until cleaning has something to free.
#[test]
fn a_full_store_of_small_messages_takes_all_acknowledgements() {
    let place = Place::new();
    let config = place.small();
    let mut running = Running::start(open(&config, 1).unwrap().store);
    running.post(0, &[session(1)]);
    let mut next = 1;
    while running.handles[0].condition() == StoreCondition::Running {
        let mut mark = Mark::default();
        for _ in 0..100 {
            mark = running.post(0, &[reference(1, next), message(next, &[7; 100])]);
            next += 1;
        }
        running.wait(0, mark);
        assert!(next < 10_000, "the store becomes full");
    }
    // One by one, so that each is a group of its own.
    let mut gone = 1;
    while running.handles[0].condition() == StoreCondition::Full {
        assert!(gone < next, "all messages are gone, and the store is full");
        let mark = running.post(0, &[ack(1, gone)]);
        running.wait(0, mark);
        gone += 1;
    }
    running.thread.end().unwrap();
    assert!(place.bytes() <= 1 << 20);
    let restored = open(&config, 1).unwrap().restored;
    assert_eq!(restored.messages.len() as u64, next - gone);
}

#[test]
fn a_full_store_says_so_and_goes_on_when_there_is_room_again() {
    let place = Place::new();
    let config = place.small();
    let mut running = Running::start(open(&config, 1).unwrap().store);
    running.post(0, &[session(1)]);
    let next = running.fill(1);
    assert!(place.bytes() <= 1 << 20);
    let figures = running.handles[1].figures();
    assert_eq!((figures.condition, figures.filled), (StoreCondition::Full, 1));
    let acks: Vec<Record<'_>> = (1..next).map(|ordinal| ack(1, ordinal)).collect();
    let mark = running.post(0, &acks);
    running.wait(0, mark);
    running.wait_for_room();
    let mark = running.post(0, &[reference(1, next), message(next, b"last")]);
    running.wait(0, mark);
    running.thread.end().unwrap();
    let restored = open(&config, 1).unwrap().restored;
    assert_eq!(restored.messages.len(), 1);
}

/// Each message that goes frees a little, and cleaning takes room before it gives some back.
#[test]
fn a_store_that_was_full_has_room_for_more_than_a_moment() {
    let place = Place::new();
    let config = place.small();
    let mut running = Running::start(open(&config, 1).unwrap().store);
    running.post(0, &[session(1)]);
    let next = running.fill(1);
    let mut gone = 1;
    while running.handles[0].condition() == StoreCondition::Full && gone < next {
        let mark = running.post(0, &[ack(1, gone)]);
        running.wait(0, mark);
        gone += 1;
    }
    running.wait_for_room();
    assert_eq!(running.handles[0].figures().filled, 1);
    // Seven messages fit into a segment.
    let taken = running.fill(next) - next;
    assert!(taken > 2 * 7, "full again after {taken} messages");
    assert_eq!(running.handles[0].figures().filled, 2);
    running.thread.end().unwrap();
    assert!(place.bytes() <= 1 << 20);
}

/// A disk that fails once.
#[derive(Clone, Debug)]
struct Failing {
    disk: Disk,
    left: Arc<AtomicUsize>,
    at: Doing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// A write of a group.
    Write,
    /// A sync of groups.
    Sync,
    /// A sync of the names of files.
    SyncNames,
}

impl Failing {
    fn count(&self, doing: Doing) -> io::Result<()> {
        if doing == self.at && self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            return Err(io::Error::from_raw_os_error(5));
        }
        Ok(())
    }
}

#[derive(Debug)]
struct FailingFile {
    file: Box<dyn StoreFile>,
    of: Failing,
    has_groups: bool,
}

impl Layer for Failing {
    fn create(&self, path: &Path) -> io::Result<Box<dyn StoreFile>> {
        self.disk.create(path)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn StoreFile>> {
        let file = self.disk.open(path)?;
        Ok(Box::new(FailingFile { file, of: self.clone(), has_groups: false }))
    }

    fn read(&self, path: &Path, bytes: &mut Vec<u8>) -> io::Result<()> {
        self.disk.read(path, bytes)
    }

    fn bytes_of(&self, path: &Path) -> io::Result<usize> {
        self.disk.bytes_of(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        self.disk.list(folder)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_names(&self, folder: &Path) -> io::Result<()> {
        self.count(Doing::SyncNames)?;
        self.disk.sync_names(folder)
    }

    fn room_below(&self, folder: &Path) -> usize {
        self.disk.room_below(folder)
    }

    fn now(&self) -> WallTime {
        self.disk.now()
    }
}

impl StoreFile for FailingFile {
    fn reserve(&mut self, bytes: usize) -> io::Result<()> {
        self.file.reserve(bytes)
    }

    fn write(&mut self, bytes: &[u8], offset: usize) -> io::Result<()> {
        self.has_groups |= offset >= BLOCK;
        if self.has_groups {
            self.of.count(Doing::Write)?;
        }
        self.file.write(bytes, offset)
    }

    fn read(&self, into: &mut [u8], offset: usize) -> io::Result<usize> {
        self.file.read(into, offset)
    }

    /// The process does not end, so nothing has to be on disk.
    fn sync(&mut self) -> io::Result<()> {
        if self.has_groups { self.of.count(Doing::Sync) } else { Ok(()) }
    }

    fn bytes(&self) -> io::Result<usize> {
        self.file.bytes()
    }
}

/// After a write or a sync that has failed, nothing more is said to be safe. What was said to be
/// safe is there.
#[test]
fn a_failed_write_or_sync_ends_the_store() {
    let first_syncs = (1..=200).map(|left| (left, Doing::Sync));
    for (left, at) in first_syncs.chain([(1, Doing::Write), (3, Doing::Write)]) {
        let place = Place::new();
        let config = StoreConfig { segment_bytes: Some(256 << 10), ..place.config() };
        let mut running = Running::start(open_failing(&config, left, at));
        for number in 1..=left as u64 {
            let mark = running.post(0, &[session(number)]);
            running.wait(0, mark);
        }
        let safe = running.handles[0].durable().0;
        assert_eq!(safe, left as u64 - 1);
        assert_eq!(running.handles[0].figures().condition, StoreCondition::Failed);
        let fault = running.thread.end().unwrap_err();
        assert!(running.stop.is_asked());
        assert!(matches!(fault, StoreFault::Write { .. }), "{fault}");
        let restored = open(&place.config(), 1).unwrap().restored;
        assert!(restored.sessions.len() as u64 >= safe);
    }
}

/// The disk fails while the segment after the first one is made: what the names of files are is not
/// known any more. That is no lack of room.
#[test]
fn a_disk_that_fails_while_a_segment_is_made_ends_the_store() {
    let place = Place::new();
    let running = Running::start(open_failing(&place.config(), 3, Doing::SyncNames));
    running.listen_until(0, |store| store.condition() == StoreCondition::Failed);
    let fault = running.thread.end().unwrap_err();
    assert!(matches!(fault, StoreFault::Make { .. }), "{fault}");
    assert!(running.stop.is_asked());
    assert_eq!(open(&place.config(), 1).unwrap().restored.sessions.len(), 0);
}

fn open_failing(config: &StoreConfig, left: usize, at: Doing) -> Store {
    let folder = config.data_dir.join("store");
    fs::create_dir(&folder).unwrap();
    let disk = Disk::below(&folder).unwrap();
    let layer = Failing { disk, left: Arc::new(AtomicUsize::new(left)), at };
    let directory = Arc::new(Directory::on(Arc::new(layer), folder));
    open_with(config, 1, directory, Supply::start).unwrap().store
}

/// In the modes that do not wait for the disk, an orderly end waits for it.
#[test]
fn the_other_modes_answer_after_the_write_and_end_with_a_sync() {
    for durability in [Durability::None, Durability::Interval(Span::from_millis(1))] {
        let place = Place::new();
        let config = StoreConfig { durability, ..place.config() };
        let mut running = Running::start(open(&config, 1).unwrap().store);
        let mark = running.post(1, &[session(3)]);
        running.wait(1, mark);
        running.thread.end().unwrap();
        assert_eq!(open(&config, 1).unwrap().restored.sessions.len(), 1);
    }
}

/// What a tool of `ringmq store` says of a data directory.
fn told(
    place: &Path,
    tool: impl FnOnce(&Path, &mut Vec<u8>) -> Result<(), StoreFault>,
) -> Result<String, StoreFault> {
    let mut out = Vec::new();
    tool(place, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

/// A store with two sessions and a message for each.
fn filled(place: &Place) -> Running {
    let mut running = Running::start(open(&place.config(), 1).unwrap().store);
    for number in 1..=2 {
        let records = [session(number), message(number, b"payload"), reference(number, number)];
        let mark = running.post(0, &records);
        running.wait(0, mark);
    }
    running
}

#[test]
fn the_tools_tell_what_a_store_has() {
    let place = Place::new();
    filled(&place).thread.end().unwrap();
    let inspected = told(&place.0, tools::inspect).unwrap();
    assert!(inspected.contains("2 sessions, 2 messages, 0 of them retained"), "{inspected}");
    assert!(inspected.contains("2 Ref\n"), "{inspected}");
    let verified = told(&place.0, tools::verify).unwrap();
    assert_eq!(verified, "the store can be read: 1 segments, up to group 2\n");
    let exported = told(&place.0, tools::export).unwrap();
    assert_eq!(exported.lines().count(), 4);
    assert!(exported.contains("\"payload\":\"cGF5bG9hZA==\""), "{exported}");
    let missing = place.0.join("none");
    assert!(told(&missing, tools::verify).is_err());
    assert!(!missing.exists());
}

#[test]
fn a_backup_of_a_running_store_has_what_was_safe_before() {
    let (place, target) = (Place::new(), Place::new());
    let running = filled(&place);
    let to = target.0.join("copy");
    told(&place.0, |path, out| tools::backup(path, &to, out)).unwrap();
    assert!(told(&place.0, tools::verify).is_err(), "it is in use");
    running.thread.end().unwrap();
    let digest = |path: &Path| told(path, tools::digest).unwrap();
    assert_eq!(digest(&to), digest(&place.0));
    // A place that has a store already is no place for a backup.
    assert!(told(&place.0, |path, out| tools::backup(path, &to, out)).is_err());
    assert_eq!(open(&StoreConfig { data_dir: to, ..place.config() }, 1).unwrap().epoch, 2);
}

#[test]
fn repair_keeps_what_can_be_read_and_sets_the_rest_aside() {
    let place = Place::new();
    let mut running = filled(&place);
    let mark = running.post(1, &[session(3)]);
    running.wait(1, mark);
    running.thread.end().unwrap();
    let file = File::options().write(true).open(place.segment(1)).unwrap();
    file.write_all_at(b"?", 2 * BLOCK as u64 + 70).unwrap();
    assert!(told(&place.0, tools::verify).is_err());
    let repaired = told(&place.0, tools::repair).unwrap();
    assert!(
        repaired.starts_with("groups 2 to 2 are lost\n2 groups are kept, 1 are lost"),
        "{repaired}"
    );
    let restored = open(&place.config(), 1).unwrap().restored;
    let numbers: Vec<u64> = restored.sessions.iter().map(|session| session.number.0).collect();
    assert_eq!(numbers, [1, 3]);
    let aside = fs::read_dir(place.0.join("store")).unwrap();
    let is_aside = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with("aside-");
    assert_eq!(aside.filter(|entry| is_aside(&entry.as_ref().unwrap().file_name())).count(), 1);
}
