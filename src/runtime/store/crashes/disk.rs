//! A disk in memory that notes every step: what the store has written, renamed and synced, in its
//! order, and what was told as durable by then.

#![expect(clippy::disallowed_types, reason = "the store may be used from its threads")]

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    super::{
        files::{FREE, SEGMENT},
        handle::StoreHandle,
        layer::{Layer, StoreFile},
    },
    planted::Fault,
};
use crate::{base::time::WallTime, storage::segment::BLOCK};

/// A file, whatever names it has.
pub(super) type Inode = usize;

/// The disk as programs see it.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    pub(super) names: BTreeMap<PathBuf, Inode>,
    pub(super) files: Vec<Arc<Vec<u8>>>,
}

/// A change of names.
#[derive(Clone, Debug)]
pub(super) enum Naming {
    Create { name: PathBuf, inode: Inode },
    Rename { from: PathBuf, to: PathBuf, inode: Inode },
    Remove { name: PathBuf, inode: Inode },
}

/// What was done to the disk.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Name(Naming),
    Write {
        inode: Inode,
        offset: usize,
        bytes: Arc<[u8]>,
    },
    Sync {
        inode: Inode,
    },
    /// What it should have made durable may be lost, whatever later syncs say.
    FailedSync {
        inode: Inode,
    },
    SyncNames,
    /// The process has ended, and another one has read what there is.
    Restart,
    /// Nothing more is done.
    End,
}

/// A step, and what was so before it.
#[derive(Clone, Debug)]
pub(super) struct Noted {
    pub(super) step: Step,
    /// The mark of each shard.
    pub(super) told: Vec<u64>,
    /// How many batches the shards have posted.
    pub(super) posted: usize,
    pub(super) clock: u64,
}

impl AsRef<Step> for Noted {
    fn as_ref(&self) -> &Step {
        &self.step
    }
}

impl Step {
    pub(super) fn words(&self) -> String {
        match self {
            Step::Write { inode, offset, bytes } => {
                format!("file {inode}: {} bytes at {offset}", bytes.len())
            }
            other => format!("{other:?}"),
        }
    }
}

/// The disk, and what is done to it.
#[derive(Clone, Debug)]
pub(super) struct MemoryDisk(Arc<Mutex<Inner>>, Arc<AtomicU64>);

/// The ends of the shards.
pub(super) type Handles = Arc<Mutex<Vec<StoreHandle>>>;

/// What a sync makes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SyncKind {
    Names,
    NewSegment,
    /// What a start has found.
    FoundSegment,
    Groups,
}

#[derive(Debug)]
struct Inner {
    image: Image,
    steps: Vec<Noted>,
    handles: Handles,
    posted: usize,
    planted: Option<Fault>,
    syncs: usize,
    /// The sync that fails.
    failing: Option<usize>,
    /// The mark of each shard when it failed.
    told_then: Vec<u64>,
}

impl MemoryDisk {
    pub(super) fn new(image: Image, planted: Option<Fault>) -> MemoryDisk {
        let inner = Inner {
            image,
            steps: Vec::new(),
            handles: Handles::default(),
            posted: 0,
            planted,
            syncs: 0,
            failing: None,
            told_then: Vec::new(),
        };
        MemoryDisk(Arc::new(Mutex::new(inner)), Arc::new(AtomicU64::new(1)))
    }

    pub(super) fn fail_sync(&self, number: usize) {
        self.inner(|inner| inner.failing = Some(inner.syncs + number));
    }

    pub(super) fn has_failed(&self) -> bool {
        self.inner(|inner| inner.failing.is_some_and(|failing| inner.syncs >= failing))
    }

    /// The mark of each shard when a sync failed.
    pub(super) fn told_then(&self) -> Vec<u64> {
        self.inner(|inner| inner.told_then.clone())
    }

    pub(super) fn serve(&self, handles: &Handles) {
        self.inner(|inner| inner.handles = Arc::clone(handles));
    }

    pub(super) fn set_posted(&self, posted: usize) {
        self.inner(|inner| inner.posted = posted);
    }

    pub(super) fn clock(&self) -> u64 {
        self.1.load(Ordering::Relaxed)
    }

    pub(super) fn set_clock(&self, nanos: u64) {
        self.1.store(nanos, Ordering::Relaxed);
    }

    pub(super) fn note(&self, step: Step) {
        let clock = self.clock();
        self.inner(|inner| inner.note(step, clock));
    }

    /// The disk as it is if no power is lost.
    pub(super) fn image(&self) -> Image {
        self.inner(|inner| inner.image.clone())
    }

    pub(super) fn take_steps(&self) -> Vec<Noted> {
        self.inner(|inner| std::mem::take(&mut inner.steps))
    }

    fn inner<R>(&self, work: impl FnOnce(&mut Inner) -> R) -> R {
        work(&mut self.0.lock().unwrap())
    }

    fn file(&self, inode: Inode) -> Box<dyn StoreFile> {
        Box::new(MemoryFile { disk: self.clone(), inode })
    }
}

impl Inner {
    fn note(&mut self, step: Step, clock: u64) {
        let noted = Noted { step, told: self.told(), posted: self.posted, clock };
        match self.planted.and_then(|fault| fault.place_of(&noted.step, &self.steps)) {
            Some(place) => {
                let Noted { told, posted, .. } = self.steps[place].clone();
                self.steps.insert(place, Noted { told, posted, ..noted });
            }
            None => self.steps.push(noted),
        }
    }

    fn told(&self) -> Vec<u64> {
        self.handles.lock().unwrap().iter().map(|handle| handle.durable().0).collect()
    }

    fn name(&mut self, naming: Naming, clock: u64) {
        self.image.apply(&naming);
        self.note(Step::Name(naming), clock);
    }

    fn name_of(&self, inode: Inode) -> Option<&Path> {
        let named = self.image.names.iter().find(|(_, known)| **known == inode);
        named.map(|(name, _)| name.as_path())
    }

    fn kind_of(&self, inode: Option<Inode>) -> SyncKind {
        let name =
            inode.map(|inode| self.name_of(inode).is_some_and(|it| has_extension(it, SEGMENT)));
        match name {
            None => SyncKind::Names,
            Some(false) => SyncKind::NewSegment,
            Some(true) if self.handles.lock().unwrap().is_empty() => SyncKind::FoundSegment,
            Some(true) => SyncKind::Groups,
        }
    }

    fn sync(&mut self, inode: Option<Inode>, clock: u64) -> io::Result<()> {
        self.syncs += 1;
        let fails = self.failing == Some(self.syncs);
        if fails {
            self.told_then = self.told();
        }
        if self.planted.is_some_and(|fault| fault.skips_sync(self.kind_of(inode))) {
            return Ok(());
        }
        if let Some(inode) = inode {
            let step = if fails { Step::FailedSync { inode } } else { Step::Sync { inode } };
            self.note(step, clock);
        } else if !fails {
            self.note(Step::SyncNames, clock);
        }
        if fails && self.planted != Some(Fault::IgnoreFailedSync) {
            return Err(io::Error::from_raw_os_error(5));
        }
        Ok(())
    }
}

pub(super) fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|it| it == extension)
}

/// Whether a segment that does not count any more changes its name.
pub(super) fn is_recycled(step: &Step) -> bool {
    let Step::Name(Naming::Rename { from, to, .. }) = step else { return false };
    has_extension(from, SEGMENT) && has_extension(to, FREE)
}

impl Image {
    pub(super) fn apply(&mut self, naming: &Naming) {
        match naming {
            Naming::Create { name, inode } => drop(self.names.insert(name.clone(), *inode)),
            Naming::Rename { from, to, inode } => {
                self.names.remove(from);
                self.names.insert(to.clone(), *inode);
            }
            Naming::Remove { name, .. } => drop(self.names.remove(name)),
        }
    }

    pub(super) fn write(&mut self, inode: Inode, offset: usize, bytes: &[u8]) {
        let file = Arc::make_mut(&mut self.files[inode]);
        if file.len() < offset + bytes.len() {
            file.resize(offset + bytes.len(), 0);
        }
        file[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn inode(&self, path: &Path) -> io::Result<Inode> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// A new file under this name.
    fn create(&mut self, path: &Path) -> Naming {
        self.files.push(Arc::default());
        Naming::Create { name: path.into(), inode: self.files.len() - 1 }
    }
}

impl Layer for MemoryDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn StoreFile>> {
        let clock = self.clock();
        let inode = self.inner(|inner| {
            let naming = inner.image.create(path);
            inner.name(naming, clock);
            inner.image.inode(path)
        })?;
        Ok(self.file(inode))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn StoreFile>> {
        self.inner(|inner| inner.image.inode(path)).map(|inode| self.file(inode))
    }

    fn read(&self, path: &Path, bytes: &mut Vec<u8>) -> io::Result<()> {
        self.inner(|inner| {
            bytes.clone_from(&inner.image.files[inner.image.inode(path)?]);
            Ok(())
        })
    }

    fn bytes_of(&self, path: &Path) -> io::Result<usize> {
        self.inner(|inner| Ok(inner.image.files[inner.image.inode(path)?].len()))
    }

    fn list(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        self.inner(|inner| Ok(inner.image.names.keys().cloned().collect()))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let clock = self.clock();
        self.inner(|inner| {
            let inode = inner.image.inode(from)?;
            inner.name(Naming::Rename { from: from.into(), to: to.into(), inode }, clock);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let clock = self.clock();
        self.inner(|inner| {
            let inode = inner.image.inode(path)?;
            inner.name(Naming::Remove { name: path.into(), inode }, clock);
            Ok(())
        })
    }

    fn sync_names(&self, _: &Path) -> io::Result<()> {
        let clock = self.clock();
        self.inner(|inner| inner.sync(None, clock))
    }

    fn room_below(&self, _: &Path) -> usize {
        usize::MAX
    }

    fn now(&self) -> WallTime {
        WallTime::from_nanos(self.clock())
    }
}

#[derive(Debug)]
struct MemoryFile {
    disk: MemoryDisk,
    inode: Inode,
}

impl StoreFile for MemoryFile {
    fn reserve(&mut self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn write(&mut self, bytes: &[u8], offset: usize) -> io::Result<()> {
        assert!(
            offset.is_multiple_of(BLOCK) && bytes.len().is_multiple_of(BLOCK),
            "whole blocks are written"
        );
        let (clock, inode) = (self.disk.clock(), self.inode);
        self.disk.inner(|inner| {
            let mut bytes: Arc<[u8]> = bytes.into();
            if let Some(fault) = inner.planted.filter(|_| offset > 0) {
                fault.miswrite(Arc::make_mut(&mut bytes), &inner.image.files[inode]);
            }
            inner.image.write(inode, offset, &bytes);
            inner.note(Step::Write { inode, offset, bytes }, clock);
        });
        Ok(())
    }

    fn read(&self, into: &mut [u8], offset: usize) -> io::Result<usize> {
        self.disk.inner(|inner| {
            let rest = inner.image.files[self.inode].get(offset..).unwrap_or_default();
            let count = into.len().min(rest.len());
            into[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        let (clock, inode) = (self.disk.clock(), self.inode);
        self.disk.inner(|inner| inner.sync(Some(inode), clock))
    }

    fn bytes(&self) -> io::Result<usize> {
        self.disk.inner(|inner| Ok(inner.image.files[self.inode].len()))
    }
}

/// A disk after a crash, which is only read.
#[derive(Debug)]
pub(super) struct Crashed {
    pub(super) image: Image,
    pub(super) planted: Option<Fault>,
}

impl Layer for Crashed {
    fn create(&self, _: &Path) -> io::Result<Box<dyn StoreFile>> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn open(&self, _: &Path) -> io::Result<Box<dyn StoreFile>> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn read(&self, path: &Path, bytes: &mut Vec<u8>) -> io::Result<()> {
        bytes.clone_from(&self.image.files[self.image.inode(path)?]);
        if let Some(fault) = self.planted {
            fault.misread(bytes);
        }
        Ok(())
    }

    fn bytes_of(&self, path: &Path) -> io::Result<usize> {
        Ok(self.image.files[self.image.inode(path)?].len())
    }

    fn list(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.image.names.keys().cloned().collect())
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_names(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn room_below(&self, _: &Path) -> usize {
        usize::MAX
    }

    fn now(&self) -> WallTime {
        WallTime::default()
    }
}
