//! `ringmq store import`: a new store of what a mosquitto has left.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use super::{fault::StoreFault, files::Directory, layer::now, tools::Copy};
use crate::storage::{
    RecordBatch,
    group::{GroupHeader, padded},
    log::Segments,
    mosquitto::{Takeover, take_over},
    segment::{BLOCK, MINOR, SegmentHeader},
};

/// Makes a store in a data directory that has none, of the persistence file of a mosquitto 2.0, and
/// says what was taken over and what was not. `seed` is the one that the store keeps.
pub fn import(
    file: &Path,
    data_dir: &Path,
    seed: u64,
    out: &mut impl Write,
) -> Result<(), StoreFault> {
    let unread = |what: String| StoreFault::Foreign { path: file.to_owned(), what };
    let bytes = fs::read(file).map_err(|error| unread(error.to_string()))?;
    let takeover = take_over(&bytes, now()).map_err(|damaged| unread(damaged.to_string()))?;
    let directory = Directory::open(data_dir)?;
    if !(&directory).numbers()?.is_empty() {
        return Err(StoreFault::NotEmpty { path: directory.path().to_owned() });
    }
    let written = write(&directory, &takeover.batches, seed);
    let told = written.and_then(|()| tell(&takeover, out));
    told.map_err(|error| directory.fault(error))
}

/// Writes a group for each batch. What is unfinished when that fails does not stay.
fn write(directory: &Directory, batches: &[RecordBatch], seed: u64) -> io::Result<()> {
    let mut copy = Copy::to(directory);
    let (mut number, mut offset) = (1, BLOCK);
    let mut put = || {
        for (lsn, batch) in (1..).zip(batches) {
            if offset > BLOCK && offset + padded(batch.len()) > SEGMENT_BYTES {
                (number, offset) = (number + 1, BLOCK);
            }
            let (made_at, minor) = (now(), MINOR);
            let segment = SegmentHeader { number, epoch: 1, seed, shards: 1, made_at, minor };
            let (origin, durable) = (segment.origin(), lsn - 1);
            let header = GroupHeader { lsn, origin, oldest: 1, durable, written_at: made_at };
            copy.put(&segment, offset, &header, batch.as_bytes())?;
            offset += padded(batch.len());
        }
        copy.end()
    };
    let written = put();
    if written.is_err() {
        for number in 1..=number {
            // It may not be there.
            drop(fs::remove_file(directory.segment_path(number)));
        }
    }
    written
}

fn tell(takeover: &Takeover, out: &mut impl Write) -> io::Result<()> {
    let counts = &takeover.counts;
    for (count, what) in [
        (counts.sessions, "sessions"),
        (counts.subscriptions, "subscriptions"),
        (counts.messages, "messages that wait for sessions"),
        (counts.retained, "retained messages"),
        (counts.unreleased, "messages at QoS 2 that clients have not released"),
    ] {
        writeln!(out, "taken over: {count} {what}")?;
    }
    for (count, what) in counts.left_out() {
        writeln!(out, "left out: {count} {what}")?;
    }
    Ok(())
}

/// The largest segment that a broker makes by itself.
const SEGMENT_BYTES: usize = 64 << 20;
