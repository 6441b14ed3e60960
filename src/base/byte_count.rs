//! Bytes of memory that are in use, counted where they are taken and given back.

use std::{cell::Cell, rc::Rc};

/// A count of bytes of one kind on one shard. All clones are the same count.
#[derive(Clone, Debug, Default)]
pub struct ByteCount(Rc<Cell<usize>>);

impl ByteCount {
    #[inline]
    pub fn add(&self, bytes: usize) {
        self.0.update(|taken| taken + bytes);
    }

    /// # Panics
    /// If fewer bytes are in use.
    #[inline]
    pub fn subtract(&self, bytes: usize) {
        self.0.update(|taken| taken.checked_sub(bytes).expect("what is given back was taken"));
    }

    pub fn bytes(&self) -> usize {
        self.0.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_are_one_count() {
        let count = ByteCount::default();
        let other = count.clone();
        count.add(5);
        other.add(7);
        count.subtract(6);
        assert_eq!((count.bytes(), other.bytes()), (6, 6));
    }
}
