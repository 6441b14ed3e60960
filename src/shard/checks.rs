//! Password checks that wait for a thread: in turn by address, and within a limit.
//!
//! ```text
//!   CONNECT --> the row of its address --> one row after the other --> a thread
//! ```
//! A client waits for the checks of its own address, and for one check of each other address at a
//! time. Knows neither packets nor threads.

use std::{collections::VecDeque, fmt, hash::Hash};

use crate::{
    access::{HookCall, Mark, Verification},
    base::{
        hash::{Map, Seed},
        ids::ConnectionId,
    },
};

/// The checks of a shard that wait. `K` is what tells addresses apart.
#[derive(Debug)]
pub(super) struct Checks<K> {
    rows: Map<K, VecDeque<Check>>,
    /// The addresses that have checks, the next one first.
    turns: VecDeque<K>,
    len: usize,
    max: usize,
}

/// The check of one CONNECT.
pub(super) struct Check {
    pub(super) connection: ConnectionId,
    pub(super) work: Work,
    pub(super) claim: Claim,
}

/// What has to be done for a check.
pub(super) enum Work {
    Verify(Verification),
    Ask(Question),
}

/// A question to the hook.
pub(super) struct Question {
    pub(super) call: HookCall,
    /// What is done if the hook leaves the decision to others.
    pub(super) next: Option<Next>,
    /// What both hold.
    pub(super) bytes: usize,
}

impl Work {
    /// What it holds besides the CONNECT.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Work::Verify(_) => 0,
            Work::Ask(question) => question.bytes,
        }
    }
}

/// The check of a password that follows on a question to the hook.
pub(super) struct Next {
    pub(super) verification: Verification,
    pub(super) mark: Option<Mark>,
}

/// What a client says with its User Name and its password.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) user_name: Box<str>,
    /// What is remembered if the check passes.
    pub(super) mark: Option<Mark>,
    /// So many logins had failed when CONNECT came that it was let through in its turn.
    pub(super) in_turn: bool,
}

/// So many checks wait that no other one can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChecksFull;

impl<K: Clone + Eq + Hash> Checks<K> {
    pub(super) fn new(max: usize, seed: Seed) -> Checks<K> {
        Checks { rows: Map::with_hasher(seed), turns: VecDeque::new(), len: 0, max }
    }

    /// Adds a check to the row of its address. When as many wait as may, it takes the place of the
    /// last check in the longest row, whose connection is returned, unless its own is the longest.
    pub(super) fn push(
        &mut self,
        address: K,
        check: Check,
    ) -> Result<Option<ConnectionId>, ChecksFull> {
        let displaced = if self.len < self.max { None } else { Some(self.displace_for(&address)?) };
        let row = self.rows.entry(address.clone()).or_default();
        if row.is_empty() {
            self.turns.push_back(address);
        }
        row.push_back(check);
        self.len += 1;
        Ok(displaced)
    }

    fn displace_for(&mut self, address: &K) -> Result<ConnectionId, ChecksFull> {
        let own = self.rows.get(address).map_or(0, VecDeque::len);
        let longest = self.rows.iter().max_by_key(|(_, row)| row.len()).ok_or(ChecksFull)?;
        // With its check the own row must not become longer than the other one was.
        if own + 1 >= longest.1.len() {
            return Err(ChecksFull);
        }
        let address = longest.0.clone();
        let last = self.rows.get(&address).and_then(VecDeque::back).map(|check| check.connection);
        let connection = last.ok_or(ChecksFull)?;
        self.forget(&address, connection);
        Ok(connection)
    }

    /// The next check: the oldest one of the address whose turn it is.
    pub(super) fn pop(&mut self) -> Option<Check> {
        let address = self.turns.pop_front()?;
        let row = self.rows.get_mut(&address)?;
        let check = row.pop_front()?;
        self.len -= 1;
        if row.is_empty() {
            self.rows.remove(&address);
        } else {
            self.turns.push_back(address);
        }
        Some(check)
    }

    /// Removes the check of a connection. False: it has none that waits.
    pub(super) fn forget(&mut self, address: &K, connection: ConnectionId) -> bool {
        let Some(row) = self.rows.get_mut(address) else { return false };
        let Some(place) = row.iter().position(|check| check.connection == connection) else {
            return false;
        };
        drop(row.remove(place));
        self.len -= 1;
        if row.is_empty() {
            self.rows.remove(address);
            self.turns.retain(|turn| turn != address);
        }
        true
    }

    /// Removes all checks.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.turns.clear();
        self.len = 0;
    }
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").finish_non_exhaustive()
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check").field("connection", &self.connection).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(slot: u32) -> ConnectionId {
        ConnectionId { slot, generation: 0 }
    }

    fn check(slot: u32) -> Check {
        let claim = Claim { user_name: "ada".into(), mark: None, in_turn: false };
        Check { connection: id(slot), work: Work::Verify(Box::new(|| true.into())), claim }
    }

    fn slots(checks: &mut Checks<char>) -> Vec<u32> {
        std::iter::from_fn(|| checks.pop()).map(|check| check.connection.slot).collect()
    }

    #[test]
    fn addresses_take_turns_and_each_keeps_its_order() {
        let mut checks = Checks::new(10, Seed::new(1));
        for (address, slot) in [('a', 1), ('a', 2), ('a', 3), ('b', 4), ('c', 5), ('b', 6)] {
            assert_eq!(checks.push(address, check(slot)), Ok(None));
        }
        assert_eq!(slots(&mut checks), [1, 4, 5, 2, 6, 3]);
        assert_eq!(checks.len, 0);
    }

    #[test]
    fn whoever_has_fewest_finds_room_at_the_cost_of_whoever_has_most() {
        let mut checks = Checks::new(4, Seed::new(1));
        for slot in 1..=4 {
            assert_eq!(checks.push('a', check(slot)), Ok(None));
        }
        assert_eq!(checks.push('a', check(5)), Err(ChecksFull));
        assert_eq!(checks.push('b', check(6)), Ok(Some(id(4))));
        assert_eq!(checks.push('c', check(7)), Ok(Some(id(3))));
        assert_eq!(checks.push('b', check(8)), Err(ChecksFull));
        assert_eq!(checks.push('d', check(9)), Ok(Some(id(2))));
        assert_eq!(checks.push('e', check(10)), Err(ChecksFull));
        assert_eq!(slots(&mut checks), [1, 6, 7, 9]);
    }

    #[test]
    fn a_forgotten_check_leaves_the_others_in_their_order() {
        let mut checks = Checks::new(10, Seed::new(1));
        for (address, slot) in [('a', 1), ('b', 2), ('b', 3), ('c', 4)] {
            assert_eq!(checks.push(address, check(slot)), Ok(None));
        }
        assert!(checks.forget(&'a', id(1)) && !checks.forget(&'a', id(1)));
        assert!(checks.forget(&'b', id(2)) && !checks.forget(&'c', id(3)));
        assert_eq!(checks.len, 2);
        assert_eq!(slots(&mut checks), [3, 4]);
        assert_eq!(checks.push('a', check(5)), Ok(None));
        checks.clear();
        assert_eq!(checks.len, 0);
        assert!(checks.pop().is_none());
    }
}
