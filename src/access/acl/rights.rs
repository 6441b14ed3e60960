//! What one client may read and write.

use std::sync::Arc;

use super::{Marks, Tree, coverage::Exploration, next_number};
use crate::{
    access::topics::Subscribable,
    topic::{TopicFilter, TopicName},
};

/// The rights of a client. Clients with the same rights may share them.
#[derive(Debug)]
pub struct Rights {
    number: u64,
    acl: u64,
    /// The rules that do not depend on the Client Identifier.
    common: Arc<Tree>,
    /// The patterns with its Client Identifier in their places.
    bound: Option<Tree>,
}

/// What a client may do with one topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permits {
    pub read: bool,
    pub write: bool,
}

impl Rights {
    pub(super) fn new(acl: u64, common: Arc<Tree>, bound: Option<Tree>) -> Rights {
        Rights { number: next_number(), acl, common, bound }
    }

    /// A number that no other rights have or have had.
    #[inline]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The number of the [`Acl`](super::Acl) that has given them.
    #[inline]
    pub fn acl(&self) -> u64 {
        self.acl
    }

    /// Whether both give the same rights.
    pub fn are_same_as(&self, other: &Rights) -> bool {
        self.common == other.common && self.bound == other.bound
    }

    /// What the client may do with this topic.
    pub fn permits(&self, topic: TopicName<'_>) -> Permits {
        let common = self.common.find(topic);
        let bound = self.bound.as_ref().map_or(Marks::NONE, |tree| tree.find(topic));
        let marks = common.join(bound);
        Permits { read: marks.may_read(), write: marks.may_write() }
    }

    /// How many of the messages that match a Topic Filter the client may read. Some, if that takes
    /// too long to find out.
    pub fn coverage(&self, filter: TopicFilter<'_>) -> Subscribable {
        let trees = [Some(&*self.common), self.bound.as_ref()];
        Exploration::new(trees.into_iter().flatten()).of(filter)
    }

    pub(super) fn common(&self) -> Arc<Tree> {
        Arc::clone(&self.common)
    }
}
