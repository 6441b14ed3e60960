//! How much a turn sends. The kernel copies what is sent before the shard goes on.

/// What is left of the bytes that a turn sends.
#[derive(Debug)]
pub(super) struct SendBudget {
    left: usize,
}

impl SendBudget {
    /// The budget of one turn.
    pub(super) fn of_turn() -> SendBudget {
        SendBudget { left: TURN_BYTES_MAX }
    }

    /// Whether a send of so many bytes begins in this turn. A small one always does.
    pub(super) fn takes(&mut self, bytes: usize) -> bool {
        let takes = bytes <= self.left.max(SMALL_BYTES_MAX);
        if takes {
            self.left = self.left.saturating_sub(bytes);
        }
        takes
    }
}

/// The kernel copies so many bytes in about a millisecond.
const TURN_BYTES_MAX: usize = 4 << 20;
/// A connection with no more to send does not wait for the next turn.
const SMALL_BYTES_MAX: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_sends_wait_for_the_next_turn_and_small_ones_do_not() {
        let mut budget = SendBudget::of_turn();
        assert!((0..8).all(|_| budget.takes(TURN_BYTES_MAX / 8)));
        assert!(!budget.takes(SMALL_BYTES_MAX + 1));
        assert!(budget.takes(SMALL_BYTES_MAX));
        assert!(SendBudget::of_turn().takes(TURN_BYTES_MAX));
    }
}
