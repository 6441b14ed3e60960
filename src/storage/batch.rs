//! The records of one turn of a shard, as bytes. They survive together or not at all.

use super::{Record, Unreadable, codec};

/// Records, one after the other. It keeps its memory when it is cleared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordBatch {
    bytes: Vec<u8>,
}

impl RecordBatch {
    /// Appends a record. Allocates only if the memory of the batch has to grow.
    #[inline]
    pub fn push(&mut self, record: &Record<'_>) {
        codec::encode(record, &mut self.bytes);
    }

    /// Bytes of all records.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Removes all records. A batch that was very large gives its memory back.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(IDLE_BYTES_MAX);
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The records, in the order in which they were pushed.
    pub fn records(&self) -> Records<'_> {
        Records::new(&self.bytes)
    }
}

/// The records in some bytes. It ends after the first that cannot be read.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    pub fn new(bytes: &'a [u8]) -> Records<'a> {
        Records { rest: bytes }
    }

    /// The next record, and its own bytes.
    pub fn next_with_bytes(&mut self) -> Option<(Result<Record<'a>, Unreadable>, &'a [u8])> {
        let before = self.rest;
        let record = self.next()?;
        Some((record, &before[..before.len() - self.rest.len()]))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, Unreadable>;

    fn next(&mut self) -> Option<Result<Record<'a>, Unreadable>> {
        if self.rest.is_empty() {
            return None;
        }
        let read = codec::decode(&mut self.rest);
        if read.is_err() {
            self.rest = &[];
        }
        Some(read)
    }
}

/// The memory of a batch that has been cleared, at most.
const IDLE_BYTES_MAX: usize = 1 << 20;
