//! The files of a store: its directory, its lock, and segments that are read and written at
//! multiples of a block.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use tracing::info;

use super::{
    fault::StoreFault,
    layer::{Disk, Layer, StoreFile, private},
};
use crate::storage::{
    group::Group,
    log::{Segments, origin_of},
    segment::{BLOCK, SegmentHeader},
};

/// The directory of a store. While the process has it, no other one has.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    layer: Arc<dyn Layer>,
    _lock: Option<File>,
}

impl Directory {
    /// Opens the store of a data directory to write, and makes it if there is none.
    pub(super) fn open(data_dir: &Path) -> Result<Directory, StoreFault> {
        let path = data_dir.join(FOLDER);
        let fault = |error| StoreFault::Directory { path: path.clone(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(fault)?;
        let lock = private().create(true).write(true).open(path.join(LOCK)).map_err(fault)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreFault::InUse { path }),
            Err(TryLockError::Error(error)) => return Err(fault(error)),
        }
        let disk = Disk::below(&path).map_err(fault)?;
        if !disk.is_direct() {
            let store = path.display();
            info!(%store, "the file system takes no direct writes: they are buffered");
        }
        Ok(Directory { path, layer: Arc::new(disk), _lock: Some(lock) })
    }

    /// A store on another disk, which nobody else has.
    #[cfg(test)]
    pub(super) fn on(layer: Arc<dyn Layer>, path: PathBuf) -> Directory {
        Directory { path, layer, _lock: None }
    }

    /// A store that there is, for this process alone.
    pub(super) fn existing(data_dir: &Path) -> Result<Directory, StoreFault> {
        let path = data_dir.join(FOLDER);
        match fs::metadata(&path) {
            Ok(_) => Directory::open(data_dir),
            Err(error) => Err(StoreFault::Directory { path, error }),
        }
    }

    /// A new store in a data directory that has none.
    pub(super) fn create(data_dir: &Path) -> Result<Directory, StoreFault> {
        let directory = Directory::open(data_dir)?;
        if (&directory).numbers()?.is_empty() {
            Ok(directory)
        } else {
            Err(directory.fault(io::ErrorKind::AlreadyExists.into()))
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn layer(&self) -> &dyn Layer {
        &*self.layer
    }

    /// Whether another process copies the segments: then none may be written anew.
    pub(super) fn is_pinned(&self) -> bool {
        let pin = File::open(self.path.join(PIN));
        pin.is_ok_and(|pin| matches!(pin.try_lock(), Err(TryLockError::WouldBlock)))
    }

    pub(super) fn segment_path(&self, number: u32) -> PathBuf {
        self.path.join(format!("{number}.{SEGMENT}"))
    }

    pub(super) fn fault(&self, error: io::Error) -> StoreFault {
        StoreFault::Directory { path: self.path.clone(), error }
    }

    /// A segment to read and write at multiples of a block.
    pub(super) fn open_segment(&self, number: u32) -> io::Result<Box<dyn StoreFile>> {
        self.layer.open(&self.segment_path(number))
    }

    /// The paths of files with this extension.
    pub(super) fn files(&self, extension: &str) -> io::Result<Vec<PathBuf>> {
        let mut paths = self.layer.list(&self.path)?;
        paths.retain(|path| path.extension().is_some_and(|it| it == extension));
        Ok(paths)
    }

    /// Makes names of files durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.layer.sync_names(&self.path)
    }

    /// A segment that can be written, and its bytes: a file that is used again, or a new one of
    /// zeros, so that later writes change data only and no tables of the file system.
    pub(super) fn make_segment(
        &self,
        header: &SegmentHeader,
        bytes: usize,
        former: Option<&Path>,
    ) -> io::Result<(Box<dyn StoreFile>, usize)> {
        let new = self.path.join(format!("{}.{UNFINISHED}", header.number));
        match former {
            Some(former) => self.layer.rename(former, &new)?,
            None => self.write_zeros(&new, bytes).inspect_err(|_| drop(self.layer.remove(&new)))?,
        }
        let mut file = self.layer.open(&new)?;
        let mut block = Aligned::with_room(BLOCK);
        block.all_mut()[..BLOCK].copy_from_slice(&header.encode()[..]);
        file.write(&block.all_mut()[..BLOCK], 0)?;
        file.sync()?;
        self.layer.rename(&new, &self.segment_path(header.number))?;
        self.sync()?;
        let bytes = file.bytes()?;
        Ok((file, bytes))
    }

    fn write_zeros(&self, path: &Path, bytes: usize) -> io::Result<()> {
        let mut file = self.layer.create(path)?;
        // If room cannot be reserved, the zeros find out whether there is any.
        file.reserve(bytes)?;
        let zeros = vec![0; ZEROS.min(bytes)];
        for offset in (0..bytes).step_by(ZEROS) {
            let count = zeros.len().min(bytes - offset);
            file.write(&zeros[..count], offset)?;
        }
        file.sync()
    }
}

impl Segments for &Directory {
    type Error = StoreFault;

    fn numbers(&mut self) -> Result<Vec<u32>, StoreFault> {
        let files = self.files(SEGMENT).map_err(|error| self.fault(error))?;
        let number = |path: &PathBuf| path.file_stem()?.to_str()?.parse().ok();
        let mut numbers: Vec<u32> = files.iter().filter_map(number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn read(&mut self, number: u32, bytes: &mut Vec<u8>) -> Result<(), StoreFault> {
        let path = self.segment_path(number);
        self.layer.read(&path, bytes).map_err(|error| StoreFault::Directory { path, error })
    }
}

/// The segments of a store as they are being written. While they are pinned, none is used again.
#[derive(Debug)]
pub(super) struct Pin {
    path: PathBuf,
    files: Vec<(u32, File)>,
    _lock: File,
}

impl Pin {
    pub(super) fn take(data_dir: &Path) -> Result<Pin, StoreFault> {
        let path = data_dir.join(FOLDER);
        let fault = |error| StoreFault::Directory { path: path.clone(), error };
        let pin = private().create(true).write(true).open(path.join(PIN)).map_err(fault)?;
        pin.lock().map_err(fault)?;
        let layer = Arc::new(Disk::BUFFERED);
        let directory = Directory { path: path.clone(), layer, _lock: None };
        let mut files = Vec::new();
        for number in (&directory).numbers()? {
            match File::open(directory.segment_path(number)) {
                Ok(file) => files.push((number, file)),
                // It does not count any more since the numbers were read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(fault(error)),
            }
        }
        Ok(Pin { path, files, _lock: pin })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this group is there now.
    pub(super) fn has_group(&mut self, segment: u32, offset: usize, lsn: u64) -> bool {
        let mut bytes = Vec::new();
        let read = self.read(segment, &mut bytes).is_ok();
        let origin = origin_of(&bytes, segment);
        let group = bytes.get(offset..).and_then(|bytes| Group::read(bytes, origin));
        read && group.is_some_and(|group| group.header.lsn == lsn)
    }
}

impl Segments for Pin {
    type Error = StoreFault;

    fn numbers(&mut self) -> Result<Vec<u32>, StoreFault> {
        Ok(self.files.iter().map(|(number, _)| *number).collect())
    }

    fn read(&mut self, number: u32, bytes: &mut Vec<u8>) -> Result<(), StoreFault> {
        bytes.clear();
        let fault = |error| StoreFault::Directory { path: self.path.clone(), error };
        let Some((_, file)) = self.files.iter_mut().find(|(known, _)| *known == number) else {
            return Err(fault(io::ErrorKind::NotFound.into()));
        };
        file.seek(SeekFrom::Start(0)).map_err(fault)?;
        file.read_to_end(bytes).map(drop).map_err(fault)
    }
}

/// Memory that begins at a multiple of a block, as direct reads and writes want it.
#[derive(Debug)]
pub(super) struct Aligned {
    memory: Vec<u8>,
    start: usize,
}

impl Aligned {
    pub(super) fn with_room(bytes: usize) -> Aligned {
        let memory = vec![0; bytes.next_multiple_of(BLOCK) + BLOCK];
        let start = memory.as_ptr().align_offset(BLOCK);
        Aligned { memory, start }
    }

    pub(super) fn room(&self) -> usize {
        self.memory.len() - BLOCK
    }

    pub(super) fn all_mut(&mut self) -> &mut [u8] {
        let room = self.room();
        &mut self.memory[self.start..self.start + room]
    }

    /// Makes room for so many bytes, and keeps the first `keep`.
    pub(super) fn grow(&mut self, bytes: usize, keep: usize) {
        if bytes > self.room() {
            let mut grown = Aligned::with_room(bytes.max(2 * self.room()));
            grown.all_mut()[..keep].copy_from_slice(&self.all_mut()[..keep]);
            *self = grown;
        }
    }

    /// Frees memory beyond this.
    pub(super) fn shrink(&mut self, bytes: usize) {
        if self.room() > 2 * bytes {
            *self = Aligned::with_room(bytes);
        }
    }
}

const FOLDER: &str = "store";
const LOCK: &str = "lock";
const PIN: &str = "pin";
/// The extensions of segments, of files that can become segments, and of those in the making.
pub(super) const SEGMENT: &str = "seg";
pub(super) const FREE: &str = "free";
pub(super) const UNFINISHED: &str = "new";
/// Bytes of zeros that are written at once.
const ZEROS: usize = 1 << 20;
