//! Matching one Topic Name against all filters at once.
//!
//! The walk goes down the trie level by level, with the set of nodes that the name has reached. It
//! does not recurse, ends as soon as no node is left, and allocates nothing once its lists have
//! grown. The result for a name that was matched lately is reused without a walk.

use std::ops::Range;

use super::{
    recent::Recent,
    target::TargetId,
    trie::{NodeId, Trie},
};
use crate::{base::ids::ShardSet, topic::TopicName};

/// What a name has matched. The caller keeps it, and fills it again for each message from the same
/// trie.
#[derive(Debug, Default)]
pub struct Matches {
    targets: Vec<TargetId>,
    shards: ShardSet,
    /// All nodes that the name has reached; those of the latest level are at the end.
    reached: Vec<NodeId>,
    /// The walk was given up, because it had reached too many nodes.
    is_cut: bool,
    recent: Recent,
}

impl Matches {
    /// The filters that match and have subscribers or share groups here, each once.
    pub fn targets(&self) -> &[TargetId] {
        &self.targets
    }

    /// The other shards that have subscribers of any filter that matches.
    pub fn shards(&self) -> ShardSet {
        self.shards
    }

    /// Whether the walk was given up, so that nothing is known but that it is long.
    #[inline]
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// How many nodes the latest walk has reached.
    pub fn reached(&self) -> usize {
        self.reached.len()
    }

    /// Whether no client wants this message, on this shard or another.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.shards.is_empty()
    }

    fn begin(&mut self, root: NodeId) {
        self.targets.clear();
        self.shards = ShardSet::EMPTY;
        self.reached.clear();
        self.reached.push(root);
    }
}

impl Trie {
    /// Finds all filters that match this name.
    pub fn matches(&self, name: TopicName<'_>, matches: &mut Matches) {
        self.matches_within(name, usize::MAX, matches);
    }

    /// As [`Trie::matches`], but gives the walk up when it has reached more than `nodes_max` nodes.
    /// False: it was not needed, because the result of an earlier walk was reused.
    pub fn matches_within(
        &self,
        name: TopicName<'_>,
        nodes_max: usize,
        matches: &mut Matches,
    ) -> bool {
        let Matches { targets, shards, recent, is_cut, .. } = matches;
        *is_cut = false;
        if let Some(found) = recent.find(name, self.seed, self.changes) {
            targets.clear();
            targets.extend(found.targets());
            *shards = found.shards;
            return false;
        }
        if !self.walk(name, nodes_max, matches) {
            matches.targets.clear();
            matches.shards = ShardSet::EMPTY;
            matches.is_cut = true;
            return true;
        }
        let Matches { targets, shards, recent, .. } = matches;
        if !self.others.is_empty() {
            *shards = shards.union(self.others_of(name));
        }
        recent.keep(name, self.seed, self.changes, (targets, *shards));
        true
    }

    /// False: the walk was given up.
    fn walk(&self, name: TopicName<'_>, nodes_max: usize, matches: &mut Matches) -> bool {
        matches.begin(self.root);
        // [MQTT-4.7.2-1]
        let mut wildcards = !name.is_reserved();
        if wildcards {
            self.collect(self.node(self.root).rest, matches);
        }
        let mut latest = 0..1;
        for level in name.levels() {
            self.descend(level, wildcards, latest.clone(), matches);
            latest = latest.end..matches.reached.len();
            if latest.is_empty() {
                return true;
            }
            if latest.end > nodes_max {
                return false;
            }
            wildcards = true;
        }
        for index in latest {
            self.collect(self.node(matches.reached[index]).end, matches);
        }
        true
    }

    /// Follows one level of the name, from the nodes that the level before it has reached.
    fn descend(&self, level: &str, wildcards: bool, latest: Range<usize>, matches: &mut Matches) {
        let literal = self.levels.find(level);
        for index in latest {
            let id = matches.reached[index];
            let node = self.node(id);
            if let Some(literal) = literal.filter(|_| node.children > 0) {
                self.reach(self.child(id, literal), matches);
            }
            if wildcards {
                self.reach(node.plus, matches);
            }
        }
    }

    /// Adds a node, and with it the filter that ends in `#` after its level, because that filter
    /// matches the level itself and all below it.
    #[inline]
    fn reach(&self, node: Option<NodeId>, matches: &mut Matches) {
        let Some(id) = node else { return };
        matches.reached.push(id);
        self.collect(self.node(id).rest, matches);
    }

    #[inline]
    fn collect(&self, target: Option<TargetId>, matches: &mut Matches) {
        let Some(id) = target else { return };
        let target = self.target(id);
        matches.shards = matches.shards.union(target.interest);
        if target.is_local() {
            matches.targets.push(id);
        }
    }
}
