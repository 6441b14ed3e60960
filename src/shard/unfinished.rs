//! Work that is too much for one turn, and goes on in the next.
//!
//! ```text
//!   push ---> rows: one for each client, its works in order ---> a slice ---> done
//!                ^                                                  |
//!                '---------- behind the rows of all others ---------'
//! ```
//! Each client that has caused work has a row. The works of a row are done one after the other, and
//! the rows take turns by slices of [`Steps`]. A turn of the shard does a bounded number of steps,
//! so that other events are handled in between.
//!
//! Knows whose work it is and which row is next. Each kind of work knows how it is done.

use std::collections::VecDeque;

use super::{
    router::{Leaving, Members, Placement},
    rules::Limits,
};
use crate::base::hash::{Map, Seed};

/// Work that goes on in the next turn.
#[derive(Debug)]
pub(super) enum Work {
    /// Remove what an ended session held.
    Leave(Box<Leaving>),
    /// Tell the share groups of a session whether it is connected and has room. The filters at
    /// places below this number are left.
    Members(Members),
    /// Bring a message to all who want it.
    Place(Box<Placement>),
}

/// The owner of a row: the hash of a Client Identifier, or 0 for the broker itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Owner(pub(super) u32);

/// Steps that may still be done. A step takes some hundred nanoseconds.
#[derive(Debug)]
pub(super) struct Steps(usize);

/// Slices of unfinished work in one turn, from one row or several.
pub(super) const SLICES_PER_TURN: usize = 2;

impl Steps {
    pub(super) const FILTER: usize = 8;
    pub(super) const GROUP: usize = 8;
    /// A share group of which many members are asked whether they have room.
    pub(super) const LONG_GROUP: usize = 128;
    pub(super) const RECEIVER: usize = 2;
    pub(super) const LOOK: usize = 1;

    pub(super) fn new(steps: usize) -> Steps {
        Steps(steps)
    }

    pub(super) fn left(&self) -> usize {
        self.0
    }

    pub(super) fn left_mut(&mut self) -> &mut usize {
        &mut self.0
    }

    pub(super) fn is_spent(&self) -> bool {
        self.0 == 0
    }

    pub(super) fn spend(&mut self, steps: usize) {
        self.0 = self.0.saturating_sub(steps);
    }
}

impl Limits {
    /// Nodes of the trie that a message may reach while it is handled at once. More are reached
    /// within slices.
    pub(super) fn nodes_at_once(&self) -> usize {
        self.slice_steps / 8
    }
}

/// The unfinished work of a shard. Usually there is none.
#[derive(Debug)]
pub(super) struct Unfinished {
    rows: Map<Owner, VecDeque<Work>>,
    /// The order of the rows. Each row is in it once, except the one that is worked on.
    round: VecDeque<Owner>,
    /// Nothing can be done before a crowded batch of letters has been posted.
    waits_for_post: bool,
}

impl Unfinished {
    pub(super) fn new(seed: Seed) -> Unfinished {
        Unfinished { rows: Map::with_hasher(seed), round: VecDeque::new(), waits_for_post: false }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The number of works.
    pub(super) fn len(&self) -> usize {
        self.rows.values().map(VecDeque::len).sum()
    }

    /// Whether the next turn can do some of it.
    pub(super) fn can_go_on(&self) -> bool {
        !self.is_empty() && !self.waits_for_post
    }

    /// Adds work at the end of its owner's row.
    pub(super) fn push(&mut self, owner: Owner, work: Work) {
        let row = self.rows.entry(owner).or_insert_with(|| {
            self.round.push_back(owner);
            VecDeque::new()
        });
        row.push_back(work);
    }

    /// Whether a message of this client is being brought to those who want it.
    pub(super) fn is_placing(&self, owner: Owner) -> bool {
        let mut row = self.rows.get(&owner).into_iter().flatten();
        row.any(|work| matches!(work, Work::Place(_)))
    }

    /// Adds the work to tell all share groups of a session.
    pub(super) fn push_members(&mut self, owner: Owner, members: Members) {
        let row = self.rows.get_mut(&owner).into_iter().flatten();
        for work in row {
            if let Work::Members(earlier) = work
                && earlier.subscriber == members.subscriber
            {
                *earlier = members;
                return;
            }
        }
        self.push(owner, Work::Members(members));
    }

    /// Nothing can be done before a crowded batch of letters has been posted.
    pub(super) fn wait_for_post(&mut self) {
        self.waits_for_post = true;
    }

    /// A crowded batch of letters has been posted.
    pub(super) fn note_posted(&mut self) {
        self.waits_for_post = false;
    }

    /// The next work. The caller gives the rest of it back by [`Unfinished::put_back`].
    pub(super) fn next(&mut self) -> Option<(Owner, Work)> {
        let owner = self.round.pop_front()?;
        let work = self.rows.get_mut(&owner).and_then(VecDeque::pop_front);
        Some((owner, work.expect("a row in the round has work")))
    }

    /// Puts the rest of a work back, if there is any.
    pub(super) fn put_back(&mut self, owner: Owner, rest: Option<Work>) {
        let row = self.rows.get_mut(&owner).expect("a row lasts while its work is done");
        if let Some(work) = rest {
            row.push_front(work);
        }
        if row.is_empty() {
            self.rows.remove(&owner);
        } else {
            self.round.push_back(owner);
        }
        if self.rows.is_empty() {
            self.rows.shrink_to(ROWS_KEPT);
            self.round.shrink_to(ROWS_KEPT);
        }
    }
}

/// Capacity for rows that is kept while there are none.
const ROWS_KEPT: usize = 64;
