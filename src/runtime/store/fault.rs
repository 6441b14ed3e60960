//! What keeps a store from being opened or written. Each text names the file and the remedy.

use std::{io, path::PathBuf};

use thiserror::Error;

use crate::storage::log::Damage;

#[derive(Debug, Error)]
pub enum StoreFault {
    #[error("the store {} cannot be used: {error}", .path.display())]
    Directory { path: PathBuf, error: io::Error },
    #[error("the store {} is in use by another process", .path.display())]
    InUse { path: PathBuf },
    #[error("the store {} is not empty: name a new data directory", .path.display())]
    NotEmpty { path: PathBuf },
    /// What is to be taken over cannot be read.
    #[error("{}: {what}", .path.display())]
    Foreign { path: PathBuf, what: String },
    #[error("the store {} cannot be read: {damage}; see `ringmq store repair`", .path.display())]
    Damaged { path: PathBuf, damage: Damage },
    #[error("there is no room for the store in {}: {error}", .path.display())]
    NoRoom { path: PathBuf, error: io::Error },
    #[error(
        "the store could not be written, and nothing more is acknowledged: {action} of {}: {error}",
        .path.display()
    )]
    Write { action: &'static str, path: PathBuf, error: io::Error },
    #[error(
        "no segment could be made in {}, and nothing more is acknowledged: {error}",
        .path.display()
    )]
    Make { path: PathBuf, error: io::Error },
    #[error("the store could not be cleaned: {}, offset {offset}: {error}", .path.display())]
    Clean { path: PathBuf, offset: usize, error: io::Error },
    #[error("the thread of the store has ended unexpectedly")]
    Lost,
}
