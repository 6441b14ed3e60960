//! Files of Unix sockets.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
};

/// A path for a socket, in a folder that is there. No file has it.
pub(crate) fn socket_file(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", process::id()));
    drop(fs::remove_file(&path));
    path
}
