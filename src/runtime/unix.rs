//! Listening on Unix sockets: files that are made at the start and removed at the end.

use std::{
    fs::{self, Permissions},
    io,
    net::TcpListener,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt, MetadataExt, PermissionsExt, chown},
            net::{UnixListener, UnixStream},
        },
    },
    path::Path,
    sync::Arc,
};

use super::{listen::Listening, ring::system};
use crate::transport::listener::FileAccess;

/// The file of a Unix socket. It is removed when this is dropped, after the socket, unless another
/// program has put its own there.
#[derive(Debug)]
pub struct SocketFile {
    path: Arc<Path>,
    /// Device and number of the file.
    identity: (u64, u64),
}

/// One socket for each shard, all of which accept from the same file.
pub(super) fn bind(
    path: &Arc<Path>,
    access: FileAccess,
    shards: usize,
) -> io::Result<Vec<Listening>> {
    let (socket, file) = listen_unix(path, access)?;
    let (socket, file) = (TcpListener::from(OwnedFd::from(socket)), Arc::new(file));
    let of_shard = |_| Ok(Listening::unix(socket.try_clone()?, Arc::clone(&file)));
    (0..shards).map(of_shard).collect()
}

/// A Unix socket that listens, and its file.
pub fn listen_unix(path: &Arc<Path>, access: FileAccess) -> io::Result<(UnixListener, SocketFile)> {
    remove_stale(path)?;
    let socket = system::bound_unix_socket(path)?;
    let file = SocketFile { path: Arc::clone(path), identity: identity(path)? };
    // Nobody can connect before the socket listens, so the file is never open to more than asked.
    fs::set_permissions(path, Permissions::from_mode(access.mode))?;
    if let Some(owner) = access.owner {
        chown(path, Some(owner.uid), owner.gid)?;
    }
    Ok((UnixListener::from(system::listen_unix(socket)?), file))
}

impl SocketFile {
    /// The user that owns the file.
    pub fn owner(&self) -> io::Result<u32> {
        Ok(fs::symlink_metadata(&self.path)?.uid())
    }
}

/// Removes the file of a broker that was killed. The file of a program that listens is an error.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        let text = "there is a file that is no socket";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            // A file that cannot be removed is found to be stale at the next start.
            drop(fs::remove_file(&self.path));
        }
    }
}
