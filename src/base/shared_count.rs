//! A number that all shards share: how many of something the broker has.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// How many of something there are. Clones count the same.
#[derive(Clone, Debug, Default)]
pub struct SharedCount(Arc<AtomicUsize>);

impl SharedCount {
    /// Counts one more, unless there are as many as there may be.
    pub fn try_add(&self, maximum: usize) -> bool {
        let add = |count: usize| (count < maximum).then(|| count + 1);
        // Relaxed: the number stands for itself.
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }

    /// Counts one less.
    ///
    /// # Panics
    /// When there is none.
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
