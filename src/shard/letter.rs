//! Letters from shard to shard, and the batches in which they travel.

/// Letters on their way to one shard, with the bytes that they speak of.
#[derive(Debug, Default)]
pub struct LetterBatch {
    letters: Vec<u8>,
}

impl LetterBatch {
    pub fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    /// Whether the batch is as large as one should become: publishers hold back until it is posted.
    pub fn is_crowded(&self) -> bool {
        self.letters.len() > 4096
    }

    /// Empties the batch and keeps its memory for the next one.
    pub fn clear(&mut self) {
        self.letters.clear();
    }
}
