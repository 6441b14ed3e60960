//! A counter that all shards share.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A shared counter. All clones are the same counter.
#[derive(Clone, Debug, Default)]
pub struct SharedCount(Arc<AtomicUsize>);

impl SharedCount {
    /// Adds one, unless the count is at `maximum`.
    pub fn try_add(&self, maximum: usize) -> bool {
        let add = |count: usize| (count < maximum).then(|| count + 1);
        // Relaxed: the number guards no other memory.
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }

    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Subtracts one.
    ///
    /// # Panics
    /// If the count is zero.
    pub fn remove(&self) {
        let before = self.0.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "each removal answers one that was added");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_one_limit() {
        let count = SharedCount::default();
        let other = count.clone();
        assert!(count.try_add(2) && other.try_add(2));
        assert!(!count.try_add(2) && !other.try_add(1));
        other.remove();
        assert!(count.try_add(2));
    }
}
