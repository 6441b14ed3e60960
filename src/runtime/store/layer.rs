//! What the store asks of the disk and of the clock, one call for each thing that it relies on.
//! Tests have a disk that fails, lies and crashes.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FallocateFlags, OFlags, fallocate, statvfs},
    io::Errno,
};

use super::files::Aligned;
use crate::{base::time::WallTime, runtime::ring::system, storage::segment::BLOCK};

/// The disk and the clock.
pub(super) trait Layer: fmt::Debug + Send + Sync {
    /// A new file without bytes, instead of one that may be there.
    fn create(&self, path: &Path) -> io::Result<Box<dyn StoreFile>>;
    /// A file that there is, to read and write at multiples of a block.
    fn open(&self, path: &Path) -> io::Result<Box<dyn StoreFile>>;
    /// Replaces `bytes` by the whole file.
    fn read(&self, path: &Path, bytes: &mut Vec<u8>) -> io::Result<()>;
    /// Bytes of a file.
    fn bytes_of(&self, path: &Path) -> io::Result<usize>;
    /// The paths of all files in a folder.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes names of files durable.
    fn sync_names(&self, folder: &Path) -> io::Result<()>;
    /// Bytes that may still be written to the disk of a folder.
    fn room_below(&self, folder: &Path) -> usize;
    fn now(&self) -> WallTime;
}

/// An open file.
pub(super) trait StoreFile: fmt::Debug + Send {
    /// Finds out whether there is room for so many bytes, if the file system can tell.
    fn reserve(&mut self, bytes: usize) -> io::Result<()>;
    fn write(&mut self, bytes: &[u8], offset: usize) -> io::Result<()>;
    /// Reads up to this many bytes. Fewer came if the file ends.
    fn read(&self, into: &mut [u8], offset: usize) -> io::Result<usize>;
    /// Makes what was written durable.
    fn sync(&mut self) -> io::Result<()>;
    fn bytes(&self) -> io::Result<usize>;
}

/// The disk itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Disk {
    /// Whether files are read and written without the page cache.
    direct: bool,
}

impl Disk {
    /// The disk of a folder, which files can be made in.
    pub(super) fn below(folder: &Path) -> io::Result<Disk> {
        takes_direct_writes(folder).map(|direct| Disk { direct })
    }

    /// A disk that is only read.
    pub(super) const BUFFERED: Disk = Disk { direct: false };

    pub(super) fn is_direct(self) -> bool {
        self.direct
    }
}

impl Layer for Disk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn StoreFile>> {
        Ok(Box::new(private().create(true).truncate(true).write(true).open(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn StoreFile>> {
        let flags = direct_flag(self.direct);
        Ok(Box::new(private().read(true).write(true).custom_flags(flags).open(path)?))
    }

    fn read(&self, path: &Path, bytes: &mut Vec<u8>) -> io::Result<()> {
        bytes.clear();
        File::open(path)?.read_to_end(bytes).map(drop)
    }

    fn bytes_of(&self, path: &Path) -> io::Result<usize> {
        fs::metadata(path).map(|data| length(&data))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_names(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    /// A file system that does not say it has enough.
    fn room_below(&self, folder: &Path) -> usize {
        let Ok(disk) = statvfs(folder) else { return usize::MAX };
        usize::try_from(disk.f_bavail.saturating_mul(disk.f_frsize)).unwrap_or(usize::MAX)
    }

    fn now(&self) -> WallTime {
        now()
    }
}

impl StoreFile for File {
    fn reserve(&mut self, bytes: usize) -> io::Result<()> {
        match fallocate(&*self, FallocateFlags::empty(), 0, bytes as u64) {
            Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => Err(error.into()),
            // Some file systems cannot reserve room.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn write(&mut self, bytes: &[u8], offset: usize) -> io::Result<()> {
        self.write_all_at(bytes, offset as u64)
    }

    fn read(&self, into: &mut [u8], offset: usize) -> io::Result<usize> {
        let mut read = 0;
        while read < into.len() {
            match self.read_at(&mut into[read..], (offset + read) as u64) {
                Ok(0) => break,
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn bytes(&self) -> io::Result<usize> {
        self.metadata().map(|data| length(&data))
    }
}

pub(super) fn now() -> WallTime {
    system::wall_clock().time_of(system::now())
}

/// Options for files that only the user of the broker may read.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

fn length(data: &fs::Metadata) -> usize {
    usize::try_from(data.len()).unwrap_or(usize::MAX)
}

fn direct_flag(direct: bool) -> i32 {
    if direct { i32::try_from(OFlags::DIRECT.bits()).unwrap_or(0) } else { 0 }
}

/// Whether the file system takes writes that bypass the page cache. A full disk takes no write at
/// all: there it counts that the file can be opened for them.
fn takes_direct_writes(folder: &Path) -> io::Result<bool> {
    let path = folder.join(PROBE);
    let mut block = Aligned::with_room(BLOCK);
    let file = private().create(true).write(true).custom_flags(direct_flag(true)).open(&path);
    let is_open = file.is_ok();
    let wrote = file.and_then(|file| file.write_all_at(&block.all_mut()[..BLOCK], 0));
    let removed = fs::remove_file(&path);
    match wrote {
        Ok(()) => removed.map(|()| true),
        Err(error) => match error.kind() {
            io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported => Ok(false),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded if is_open => Ok(true),
            _ => Err(error),
        },
    }
}

const PROBE: &str = "probe";
