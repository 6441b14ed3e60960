//! What one client may read and write.

use std::sync::Arc;

use super::{
    Marks, Tree, Ways,
    coverage::Exploration,
    next_number,
    roles::{CONTROL, FilterRules},
};
use crate::{
    access::topics::Subscribable,
    topic::{TopicFilter, TopicName},
};

/// The rights of a client. Clients with the same rights may share them.
#[derive(Debug)]
pub struct Rights {
    number: u64,
    acl: u64,
    /// The rules of its token, which come before all others.
    claimed: Option<Tree>,
    /// The rules that do not depend on the Client Identifier.
    common: Arc<Tree>,
    /// The patterns with its Client Identifier in their places.
    bound: Option<Tree>,
    /// No rule counts: the client may do everything.
    are_all: bool,
    /// What holds where no rule matches, except under `$CONTROL`.
    fallback: Ways,
    /// What it may subscribe to. `None`: to all of which it may read something.
    filters: Option<Arc<FilterRules>>,
}

/// What a client may do with one topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permits(Ways);

impl Permits {
    pub const ALL: Permits = Permits(Ways::ALL);
    pub const NONE: Permits = Permits(Ways::NONE);

    /// Whether the client may do any of this.
    #[inline]
    pub fn any(self, of: Ways) -> bool {
        self.0.has_any(of)
    }
}

impl Rights {
    pub(super) fn new(acl: u64, common: Arc<Tree>, bound: Option<Tree>) -> Rights {
        Rights {
            number: next_number(),
            acl,
            claimed: None,
            common,
            bound,
            are_all: false,
            fallback: Ways::NONE,
            filters: None,
        }
    }

    /// Those of a client that may do everything, whatever the [`Acl`](super::Acl) with this number
    /// says.
    pub fn everything(acl: u64) -> Rights {
        Rights { are_all: true, ..Rights::new(acl, Arc::default(), None) }
    }

    /// Those of roles: their rules about messages, and those about subscriptions.
    pub(super) fn by_roles(
        acl: u64,
        common: Arc<Tree>,
        fallback: Ways,
        filters: Arc<FilterRules>,
    ) -> Rights {
        Rights { fallback, filters: Some(filters), ..Rights::new(acl, common, None) }
    }

    /// Those of a token, and after them those that an [`Acl`](super::Acl) with this number gives.
    pub(super) fn claimed(claimed: Tree, acl: u64, others: Option<Rights>) -> Rights {
        let (common, bound) = match others {
            Some(others) => (others.common, others.bound),
            None => (Arc::default(), None),
        };
        Rights { claimed: Some(claimed), ..Rights::new(acl, common, bound) }
    }

    /// The same once more. Only those of clients whose patterns are bound are not shared.
    pub(super) fn again(&self) -> Rights {
        Rights::new(self.acl, self.common(), None)
    }

    /// A number that no other rights have or have had.
    #[inline]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The number of the [`Acl`](super::Acl) that has given them; 0 if there was none.
    #[inline]
    pub fn acl(&self) -> u64 {
        self.acl
    }

    /// Whether both give the same rights.
    pub fn are_same_as(&self, other: &Rights) -> bool {
        self.are_all == other.are_all
            && self.claimed == other.claimed
            && self.common == other.common
            && self.bound == other.bound
            && self.fallback == other.fallback
            && self.filters == other.filters
    }

    /// What the client may do with this topic.
    pub fn permits(&self, topic: TopicName<'_>) -> Permits {
        if self.are_all {
            return Permits::ALL;
        }
        let marks = self.trees().fold(Marks::NONE, |marks, tree| marks.join(tree.find(topic)));
        Permits(marks.granted_or(self.fallback_for(topic.as_str())))
    }

    /// What holds for a topic or a filter that no rule matches.
    fn fallback_for(&self, text: &str) -> Ways {
        if text.starts_with(CONTROL) { Ways::NONE } else { self.fallback }
    }

    /// Whether the client may subscribe to this; `None` if no rule is about subscriptions. The
    /// text is that of the SUBSCRIBE, with `$share` if it has that.
    pub fn may_subscribe(&self, filter: &str) -> Option<bool> {
        self.filters.as_ref().map(|rules| rules.may_subscribe(filter))
    }

    /// Whether the client may end this subscription.
    pub fn may_unsubscribe(&self, filter: &str) -> bool {
        self.filters.as_ref().is_none_or(|rules| rules.may_unsubscribe(filter))
    }

    /// How many of the messages that match a Topic Filter the client may read at this QoS. Some, if
    /// that takes too long to find out.
    pub fn coverage(&self, filter: TopicFilter<'_>, qos: u8) -> Subscribable {
        if self.are_all {
            return Subscribable::Whole;
        }
        let fallback = self.fallback_for(filter.as_str());
        Exploration::new(self.trees(), Ways::read(qos), fallback).of(filter)
    }

    pub(super) fn common(&self) -> Arc<Tree> {
        Arc::clone(&self.common)
    }

    fn trees(&self) -> impl Iterator<Item = &Tree> {
        let trees = [self.claimed.as_ref(), Some(&*self.common), self.bound.as_ref()];
        trees.into_iter().flatten()
    }
}
