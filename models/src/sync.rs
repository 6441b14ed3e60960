//! What the sources take from `std::sync`.

pub use alloc::sync::Arc;

/// The real one: its own orders are not tried. Other threads wait while it makes its value.
pub use real_std::sync::OnceLock;

pub mod atomic {
    use core::sync::atomic::{AtomicBool as Switch, Ordering::Relaxed};

    pub use loom::sync::atomic::Ordering;

    /// Planted fault: fences do nothing.
    pub static FORGET_FENCES: Switch = Switch::new(false);
    /// Planted fault: a mark does not show what was done before it.
    pub static FORGET_RELEASE: Switch = Switch::new(false);

    pub fn fence(order: Ordering) {
        if !FORGET_FENCES.load(Relaxed) {
            loom::sync::atomic::fence(order);
        }
    }

    /// The marks of a doorbell.
    #[derive(Debug, Default)]
    pub struct AtomicU64(loom::sync::atomic::AtomicU64);

    impl AtomicU64 {
        pub fn load(&self, order: Ordering) -> u64 {
            self.0.load(order)
        }

        pub fn swap(&self, value: u64, order: Ordering) -> u64 {
            self.0.swap(value, order)
        }

        pub fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
            let forgotten = FORGET_RELEASE.load(Relaxed);
            self.0.fetch_or(value, if forgotten { Relaxed } else { order })
        }
    }

    /// A flag whose stores are swaps, each of which has its place among all others.
    ///
    /// loom orders a store and a swap of two threads only if the threads are ordered. It would let
    /// a third one see what was swapped in before the store, and still not what was stored. As only
    /// the owner of a doorbell stores, no order of its stores and the swaps is left out.
    #[derive(Debug, Default)]
    pub struct AtomicBool(loom::sync::atomic::AtomicBool);

    impl AtomicBool {
        pub fn load(&self, order: Ordering) -> bool {
            self.0.load(order)
        }

        pub fn store(&self, value: bool, order: Ordering) {
            self.0.swap(value, order);
        }

        pub fn swap(&self, value: bool, order: Ordering) -> bool {
            self.0.swap(value, order)
        }
    }
}
