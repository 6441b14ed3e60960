//! `ringmq store`: what to do with a store.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What to do with the store of a data directory.
#[derive(Clone, Debug, Subcommand)]
pub enum StoreOrder {
    /// Says what the store has: segments, records by kind, and what of them counts
    Inspect(DataDir),
    /// Reads everything. The exit status is 1 if something is damaged
    Verify(DataDir),
    /// Writes sessions, messages and retained messages as lines of JSON
    Export(DataDir),
    /// Writes a digest of what the store holds, whatever number of shards wrote it
    Digest(DataDir),
    /// Copies the store to a new data directory, also while a broker runs. The copy has all that
    /// was acknowledged before
    Backup {
        #[command(flatten)]
        from: DataDir,
        /// The new data directory
        #[arg(value_name = "TO")]
        to: PathBuf,
    },
    /// Makes a store of the persistence file of a mosquitto 2.0: retained messages, sessions,
    /// subscriptions and queues. Says what it leaves out
    Import {
        /// The file, such as /var/lib/mosquitto/mosquitto.db, of a mosquitto that has stopped
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The data directory, which has no store yet
        #[arg(value_name = "DIR")]
        to: PathBuf,
    },
    /// Makes a store of all that can be read, sets the damaged files aside, and says what is lost
    Repair(DataDir),
    /// Measures what a store costs on the disk of a directory: processor time and time of records
    /// in groups of 1, 16 and 256, and the time of a start. Needs 1 GiB, and removes it
    Measure(DataDir),
}

/// A directory as `--data-dir` names it.
#[derive(Args, Clone, Debug)]
pub struct DataDir {
    /// The data directory
    #[arg(value_name = "DIR")]
    pub path: PathBuf,
}
