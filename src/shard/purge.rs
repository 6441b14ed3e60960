//! What goes when memory is short: on each shard, the account that holds most there loses first.
//!
//! ```text
//!            all counted                    all seen
//!   Counting ----------> Waiting(heaviest) ----------> Sessions(heaviest)
//!      ^                                                    | all seen
//!      +----------------------------------------------------+
//! ```
//! Each step goes over the sessions of the shard, some in each turn, while memory has to be given
//! back. Does not know when that is.

use std::collections::BTreeMap;

use super::{Shard, notices::Notice, ports::Ports};
use crate::{base::ids::SubscriberId, session::Session};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    /// Adds up what the sessions of each account hold.
    #[default]
    Counting,
    /// Takes what waits for the clients of the account with this number.
    Waiting(u64),
    /// Ends its absent sessions.
    Sessions(u64),
}

/// Which step it is, and how far it has come.
#[derive(Debug, Default)]
pub(super) struct Purge {
    step: Step,
    /// The next session to look at.
    next: u32,
    /// The bytes that each account holds, by its number, as far as they are counted.
    held: BTreeMap<u64, usize>,
}

impl Purge {
    /// The next of so many sessions to look at.
    fn next(&mut self, places: u32) -> SubscriberId {
        if self.next >= places {
            self.next = 0;
            self.step = match self.step {
                Step::Counting => self.heaviest().map_or(Step::Counting, Step::Waiting),
                Step::Waiting(account) => Step::Sessions(account),
                Step::Sessions(_) => Step::Counting,
            };
        }
        self.next += 1;
        SubscriberId(self.next - 1)
    }

    /// The account that holds most. The next count begins at zero.
    fn heaviest(&mut self) -> Option<u64> {
        let held = std::mem::take(&mut self.held);
        held.into_iter().max_by_key(|&(_, bytes)| bytes).map(|(account, _)| account)
    }

    fn count(&mut self, account: u64, bytes: usize) {
        *self.held.entry(account).or_default() += bytes;
    }

    /// Memory is not short any more: the next purge begins with a count.
    fn rest(&mut self) {
        if self.next > 0 {
            *self = Purge::default();
        }
    }
}

impl Shard {
    /// Takes some memory back from who holds most, if this shard has to.
    pub(super) fn purge(&mut self, ports: &mut impl Ports) {
        if !self.context.memory.has_to_purge() {
            return self.context.memory.purge.rest();
        }
        self.purge_slice(ports);
        self.settle(ports);
    }

    #[cold]
    fn purge_slice(&mut self, ports: &mut impl Ports) {
        let enough = self.context.memory.purged_at_once();
        let (mut looks, mut freed) = (0, 0);
        while looks < LOOKS_PER_TURN && freed < enough {
            let next = self.context.memory.purge.next(self.sessions.places());
            let bytes = self.purge_session(next, ports);
            looks += if bytes > 0 { LOOKS_OF_LOSS } else { 1 };
            freed += bytes;
        }
    }

    /// Does the present step for one session. Returns how many bytes it has lost.
    fn purge_session(&mut self, subscriber: SubscriberId, ports: &mut impl Ports) -> usize {
        let Some(session) = self.sessions.get(subscriber) else { return 0 };
        let account = session.principal().account().number();
        let waiting = session.outbound().queue.bytes() + self.unsent(session, ports);
        let held = waiting + session.will_bytes() + LEAST_BYTES;
        let is_absent = session.link().is_none();
        match self.context.memory.purge.step {
            Step::Counting => self.context.memory.purge.count(account, held),
            Step::Waiting(heaviest) if heaviest == account && waiting > LEAST_BYTES => {
                self.drop_waiting(subscriber, ports);
                return waiting;
            }
            Step::Sessions(heaviest) if heaviest == account && is_absent => {
                self.end_evicted(subscriber, ports);
                return held;
            }
            Step::Waiting(_) | Step::Sessions(_) => {}
        }
        0
    }

    fn unsent(&self, session: &Session, ports: &mut impl Ports) -> usize {
        let maximum = self.context.rules.limits.outbox_bytes_max;
        let room = session.link().map(|link| ports.outbox_room(link.connection));
        room.map_or(0, |room| maximum.saturating_sub(room))
    }

    /// Empties the queue of an absent client, and disconnects a connected one.
    fn drop_waiting(&mut self, subscriber: SubscriberId, ports: &mut impl Ports) {
        let session = self.sessions.get_mut(subscriber).expect("the purge has found it");
        let notices = self.router.notices_mut();
        notices.note(Notice::MemoryFull, session.principal(), self.context.now);
        if session.link().is_some() {
            return self.router.note_overrun(subscriber);
        }
        let queue = std::mem::take(&mut session.outbound_mut().queue);
        let dropped = queue.len();
        for queued in queue.iter() {
            self.context.recorder.note_ack(session, queued.ordinal, ports);
        }
        self.context.counters.note_queue(dropped, 0);
        self.context.counters.dropped_memory += dropped as u64;
    }
}

/// Sessions that one turn looks at.
const LOOKS_PER_TURN: usize = 1024;
/// A session that loses something counts as so many looks.
const LOOKS_OF_LOSS: usize = 16;
/// A session is taken to hold so much by itself. What waits for a client stays if it is no more.
const LEAST_BYTES: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_that_holds_most_loses_what_waits_and_then_its_sessions() {
        let mut purge = Purge::default();
        for (place, account, bytes) in [(0, 7, 10), (1, 8, 15), (2, 7, 6)] {
            assert_eq!((purge.next(3), purge.step), (SubscriberId(place), Step::Counting));
            purge.count(account, bytes);
        }
        for step in [Step::Waiting(7), Step::Sessions(7), Step::Counting] {
            for place in 0..3 {
                assert_eq!((purge.next(3), purge.step), (SubscriberId(place), step));
            }
        }
    }

    #[test]
    fn a_rest_begins_anew() {
        let mut purge = Purge::default();
        purge.next(2);
        purge.count(7, 10);
        purge.rest();
        assert_eq!((purge.next(2), purge.held.len()), (SubscriberId(0), 0));
    }
}
