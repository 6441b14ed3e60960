//! A limit for the memory of one kind that all clients of a shard share.

use std::{cell::Cell, rc::Rc};

/// What may still be taken.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    max: usize,
    left: Rc<Cell<usize>>,
}

/// A part of a budget, given back when it is dropped.
#[derive(Debug)]
pub(super) struct BudgetShare {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Budget {
        Budget { max: bytes, left: Rc::new(Cell::new(bytes)) }
    }

    /// How many bytes are taken.
    pub(super) fn taken(&self) -> usize {
        self.max - self.left.get()
    }

    /// Takes this many bytes; `None` if fewer are left.
    pub(super) fn take(&self, bytes: usize) -> Option<BudgetShare> {
        let left = self.left.get().checked_sub(bytes)?;
        self.left.set(left);
        Some(BudgetShare { budget: self.clone(), bytes })
    }
}

impl Drop for BudgetShare {
    fn drop(&mut self) {
        self.budget.left.update(|left| left + self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back_when_it_is_dropped() {
        let budget = Budget::new(10);
        let six = budget.take(6).unwrap();
        assert!(budget.take(5).is_none());
        let four = budget.take(4).unwrap();
        assert_eq!(budget.taken(), 10);
        drop(six);
        assert!(budget.take(7).is_none() && budget.take(6).is_some());
        drop(four);
        assert!(budget.take(10).is_some());
    }
}
