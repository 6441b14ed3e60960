//! The topic trie of one shard: the filters of its own subscribers and of share groups, level by
//! level. What other shards want is kept as digests.
//!
//! ```text
//!   (root) --a--> ( ) --+--> ( )      a/+      ends at a node
//!                  |
//!                  '- rest            a/#      is the rest below a node
//! ```
//! All nodes are in one arena, and one table for the whole trie finds their children. So a filter
//! takes memory for its own nodes, its own level texts and one target only. Nothing is left of a
//! filter that has lost its last user.

use super::{
    arena::{Arena, Slot},
    digests::Digests,
    group::GroupId,
    index::Index,
    levels::{LevelId, LevelTable},
    subscriber_list::Entry,
    target::{GroupPlace, Target, TargetId},
};
use crate::{
    base::{
        hash::Seed,
        ids::{ShardId, ShardSet, SubscriberId},
    },
    topic::{TopicFilter, TopicName},
};

/// Who wants which topics: this shard's subscribers and groups, and the other shards.
#[derive(Debug)]
pub struct Trie {
    pub(super) seed: Seed,
    pub(super) nodes: Arena<Node>,
    pub(super) levels: LevelTable,
    targets: Arena<Target>,
    /// The children that are reached by a literal level.
    children: Index<NodeId>,
    pub(super) root: NodeId,
    subscriptions: usize,
    /// What the other shards want. The few filters that are not kept there are in the trie.
    pub(super) others: Digests,
    /// Counts how often a filter has gained its first user or lost its last one. The cache of
    /// matched names is valid while this does not change.
    pub(super) changes: u64,
}

/// What a subscription has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribed {
    /// The same subscriber's earlier subscription to this filter.
    pub replaced: Option<Entry>,
    /// The first subscription to this filter on this shard: the other shards must be told.
    pub first: bool,
}

/// What an unsubscription has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribed {
    pub entry: Entry,
    /// The last subscription to this filter on this shard has ended: the other shards must be told.
    pub last: bool,
}

/// How large a trie is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// This shard's own subscriptions, without those of share groups.
    pub subscriptions: usize,
    /// Filters in use, here and on each other shard.
    pub targets: usize,
    /// Different levels of all filters.
    pub levels: usize,
    /// Nodes, without the root.
    pub nodes: usize,
}

impl Sizes {
    /// What the trie takes, with its tables, but without texts of levels.
    pub fn bytes(&self) -> usize {
        self.nodes * NODE_BYTES + self.levels * LEVEL_BYTES + self.targets * TARGET_BYTES
    }
}

/// A node and its entry in the table of children.
const NODE_BYTES: usize = size_of::<Node>() + 16;
/// A level and its entry in the table of texts.
const LEVEL_BYTES: usize = 48;
/// A filter with one subscriber.
const TARGET_BYTES: usize = size_of::<Target>() + 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeId(Slot);

/// One level of one or more filters.
#[derive(Debug, Default)]
pub(super) struct Node {
    parent: Option<NodeId>,
    /// The level that leads to this node from its parent; `None` for `+` and for the root.
    level: Option<LevelId>,
    /// The child for `+`.
    pub(super) plus: Option<NodeId>,
    /// The filter that ends here.
    pub(super) end: Option<TargetId>,
    /// The filter that ends in `#` after this level.
    pub(super) rest: Option<TargetId>,
    /// How many children are reached by a literal level.
    pub(super) children: u32,
}

const _: () = assert!(size_of::<Node>() <= 24, "every level of every filter pays for a node");

/// The place of a filter in the trie.
#[derive(Clone, Copy)]
enum NodePlace {
    End(NodeId),
    Rest(NodeId),
}

impl Trie {
    pub fn new(seed: Seed) -> Trie {
        let mut nodes = Arena::default();
        let root = NodeId(nodes.insert(Node::default()));
        let (levels, targets) = (LevelTable::new(seed), Arena::default());
        let (children, others) = (Index::default(), Digests::new(seed));
        Trie { seed, nodes, levels, targets, children, root, subscriptions: 0, others, changes: 0 }
    }

    /// Adds a subscriber of this shard, or replaces its subscription. [MQTT-3.8.4-3]
    pub fn subscribe(&mut self, filter: TopicFilter<'_>, entry: Entry) -> Subscribed {
        let seed = self.seed;
        let subscribers = &mut self.target_mut(filter).subscribers;
        let first = subscribers.is_empty();
        let replaced = subscribers.insert(entry, seed);
        self.subscriptions += usize::from(replaced.is_none());
        self.changes += u64::from(first);
        Subscribed { replaced, first }
    }

    /// Removes a subscriber of this shard; `None` if it has no such subscription.
    pub fn unsubscribe(
        &mut self,
        filter: TopicFilter<'_>,
        subscriber: SubscriberId,
    ) -> Option<Unsubscribed> {
        let (place, id) = self.find(filter)?;
        let subscribers = &mut self.targets[id.0].subscribers;
        let entry = subscribers.remove(subscriber)?;
        let last = subscribers.is_empty();
        self.subscriptions -= 1;
        self.changes += u64::from(last);
        self.settle(place, id);
        Some(Unsubscribed { entry, last })
    }

    /// Another shard has its first subscriber of this filter.
    pub fn add_interest(&mut self, filter: TopicFilter<'_>, shard: ShardId) {
        self.changes += 1;
        if !self.others.add(filter, shard) {
            self.target_mut(filter).interest.insert(shard);
        }
    }

    /// Another shard has lost its last subscriber of this filter. False: none was known.
    pub fn remove_interest(&mut self, filter: TopicFilter<'_>, shard: ShardId) -> bool {
        self.changes += 1;
        let Some((place, id)) = self.find(filter) else { return self.others.remove(filter, shard) };
        let interest = &mut self.targets[id.0].interest;
        if !interest.contains(shard) {
            return self.others.remove(filter, shard);
        }
        interest.remove(shard);
        self.settle(place, id);
        true
    }

    /// The number of the update that told the other shards of this filter, 0 if never. Once all
    /// shards have applied it, a new subscriber gets messages from all shards.
    pub fn told_at(&self, filter: TopicFilter<'_>) -> u64 {
        self.find(filter).map_or(0, |(_, id)| self.targets[id.0].told_at)
    }

    /// Notes the number of the update that told the other shards of this filter. Does nothing if
    /// the filter has no user.
    pub fn set_told_at(&mut self, filter: TopicFilter<'_>, number: u64) {
        if let Some((_, id)) = self.find(filter) {
            self.targets[id.0].told_at = number;
        }
    }

    /// This shard's subscribers of one filter, in no particular order.
    pub fn subscribers(&self, target: TargetId) -> &[Entry] {
        self.targets[target.0].subscribers.entries()
    }

    /// The subscription that this subscriber has to exactly this filter.
    pub fn subscription(&self, filter: TopicFilter<'_>, subscriber: SubscriberId) -> Option<Entry> {
        let (_, id) = self.find(filter)?;
        self.targets[id.0].subscribers.find(subscriber)
    }

    /// How many sessions of this shard subscribe to exactly this filter, and which other shards
    /// have subscribers of it.
    pub fn interest(&self, filter: TopicFilter<'_>) -> (usize, ShardSet) {
        let others = self.others.of_filter(filter);
        let Some((_, id)) = self.find(filter) else { return (0, others) };
        let target = &self.targets[id.0];
        (target.subscribers.entries().len(), others.union(target.interest))
    }

    /// The number of a filter that somebody uses.
    pub fn target_of(&self, filter: TopicFilter<'_>) -> Option<TargetId> {
        self.find(filter).map(|(_, id)| id)
    }

    /// The other shards that have subscribers of one filter, without those that
    /// [`Self::others_of`] knows.
    pub fn shards(&self, target: TargetId) -> ShardSet {
        self.targets[target.0].interest
    }

    /// The other shards that want messages with this name, as far as no walk is needed to find
    /// them.
    pub fn others_of(&self, name: TopicName<'_>) -> ShardSet {
        self.others.of_name(name)
    }

    /// How many subscribers of this shard one filter has, and how many share groups.
    #[inline]
    pub fn lens(&self, target: TargetId) -> (usize, usize) {
        let target = &self.targets[target.0];
        (target.subscribers.entries().len(), target.groups().len())
    }

    /// The share groups on one filter, in the order in which they were opened.
    pub fn groups(&self, target: TargetId) -> &[GroupPlace] {
        self.targets[target.0].groups()
    }

    pub fn sizes(&self) -> Sizes {
        Sizes {
            subscriptions: self.subscriptions,
            targets: self.targets.len() + self.others.len(),
            levels: self.levels.len(),
            nodes: self.nodes.len() - 1,
        }
    }

    pub(super) fn target(&self, id: TargetId) -> &Target {
        &self.targets[id.0]
    }

    pub(super) fn attach_group(&mut self, filter: TopicFilter<'_>, number: u64, group: GroupId) {
        self.changes += 1;
        self.target_mut(filter).add_group(number, group);
    }

    pub(super) fn detach_group(&mut self, filter: TopicFilter<'_>, number: u64) {
        let Some((place, id)) = self.find(filter) else { return };
        self.changes += 1;
        self.targets[id.0].remove_group(number);
        self.settle(place, id);
    }

    #[inline]
    pub(super) fn child(&self, parent: NodeId, level: LevelId) -> Option<NodeId> {
        self.children.find(edge_hash(self.seed, parent, level), |id| {
            let node = &self.nodes[id.0];
            node.level == Some(level) && node.parent == Some(parent)
        })
    }

    #[inline]
    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    fn find(&self, filter: TopicFilter<'_>) -> Option<(NodePlace, TargetId)> {
        let mut node = self.root;
        for level in filter.levels() {
            node = match level {
                "#" => return Some((NodePlace::Rest(node), self.node(node).rest?)),
                "+" => self.node(node).plus?,
                literal => self.child(node, self.levels.find(literal)?)?,
            };
        }
        Some((NodePlace::End(node), self.node(node).end?))
    }

    /// The target of a filter. It is made if the filter has no user yet.
    fn target_mut(&mut self, filter: TopicFilter<'_>) -> &mut Target {
        let place = self.grow(filter);
        let id = match self.occupant(place) {
            Some(id) => *id,
            None => self.occupy(place),
        };
        &mut self.targets[id.0]
    }

    fn occupy(&mut self, place: NodePlace) -> TargetId {
        let id = TargetId(self.targets.insert(Target::default()));
        *self.occupant(place) = Some(id);
        id
    }

    fn occupant(&mut self, place: NodePlace) -> &mut Option<TargetId> {
        match place {
            NodePlace::End(node) => &mut self.nodes[node.0].end,
            NodePlace::Rest(node) => &mut self.nodes[node.0].rest,
        }
    }

    fn grow(&mut self, filter: TopicFilter<'_>) -> NodePlace {
        let mut node = self.root;
        for level in filter.levels() {
            node = match level {
                "#" => return NodePlace::Rest(node),
                "+" => self.grow_plus(node),
                literal => self.grow_literal(node, literal),
            };
        }
        NodePlace::End(node)
    }

    fn grow_plus(&mut self, parent: NodeId) -> NodeId {
        if let Some(child) = self.node(parent).plus {
            return child;
        }
        let node = Node { parent: Some(parent), ..Node::default() };
        let child = NodeId(self.nodes.insert(node));
        self.nodes[parent.0].plus = Some(child);
        child
    }

    fn grow_literal(&mut self, parent: NodeId, literal: &str) -> NodeId {
        let known = self.levels.find(literal).and_then(|level| self.child(parent, level));
        if let Some(child) = known {
            return child;
        }
        let level = self.levels.acquire(literal);
        let node = Node { parent: Some(parent), level: Some(level), ..Node::default() };
        let child = NodeId(self.nodes.insert(node));
        self.nodes[parent.0].children += 1;
        self.insert_edge(parent, level, child);
        child
    }

    fn insert_edge(&mut self, parent: NodeId, level: LevelId, child: NodeId) {
        let rehash = |id: &NodeId| self.nodes[id.0].edge_hash(self.seed);
        self.children.insert(edge_hash(self.seed, parent, level), child, rehash);
    }

    /// Removes a target without users, and the nodes that led to this target only.
    fn settle(&mut self, place: NodePlace, id: TargetId) {
        if self.targets[id.0].is_unused() {
            self.targets.remove(id.0);
            *self.occupant(place) = None;
            let (NodePlace::End(node) | NodePlace::Rest(node)) = place;
            self.prune(node);
        }
    }

    fn prune(&mut self, from: NodeId) {
        let mut node = from;
        while let (true, Some(parent)) = (self.node(node).is_bare(), self.node(node).parent) {
            self.unlink(node, parent);
            self.nodes.remove(node.0);
            node = parent;
        }
    }

    fn unlink(&mut self, node: NodeId, parent: NodeId) {
        let Some(level) = self.node(node).level else {
            self.nodes[parent.0].plus = None;
            return;
        };
        let rehash = |id: &NodeId| self.nodes[id.0].edge_hash(self.seed);
        self.children.remove(edge_hash(self.seed, parent, level), node, rehash);
        self.nodes[parent.0].children -= 1;
        self.levels.release(level);
    }
}

impl Node {
    fn is_bare(&self) -> bool {
        self.children == 0 && self.plus.is_none() && self.end.is_none() && self.rest.is_none()
    }

    /// The hash by which the index finds a node that a literal level leads to.
    fn edge_hash(&self, seed: Seed) -> u64 {
        let edge = self.parent.zip(self.level);
        let (parent, level) = edge.expect("only children of a literal level are in the index");
        edge_hash(seed, parent, level)
    }
}

#[inline]
fn edge_hash(seed: Seed, parent: NodeId, level: LevelId) -> u64 {
    seed.hash(&(u64::from(parent.0.number()) << 32 | u64::from(level.number())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::{Matches, Options};

    fn trie() -> Trie {
        Trie::new(Seed::new(1))
    }

    fn filter(text: &str) -> TopicFilter<'_> {
        TopicFilter::parse(text).unwrap()
    }

    fn entry(subscriber: u32) -> Entry {
        Entry { subscriber: SubscriberId(subscriber), options: Options(0), subscription_id: 0 }
    }

    fn assert_empty(trie: &Trie) {
        let empty = Sizes { subscriptions: 0, targets: 0, levels: 0, nodes: 0 };
        assert_eq!(trie.sizes(), empty);
    }

    /// [MQTT-3.8.4-3] [MQTT-3.8.4-3@3.1.1]
    #[test]
    fn a_second_subscription_to_the_same_filter_replaces_the_first() {
        let mut trie = trie();
        let first = trie.subscribe(filter("a/+"), entry(1));
        assert_eq!(first, Subscribed { replaced: None, first: true });
        let newer = Entry { options: Options(2), ..entry(1) };
        let second = trie.subscribe(filter("a/+"), newer);
        assert_eq!(second, Subscribed { replaced: Some(entry(1)), first: false });
        assert_eq!(trie.subscription(filter("a/+"), SubscriberId(1)), Some(newer));
        assert_eq!(trie.sizes().subscriptions, 1);
    }

    /// [MQTT-3.10.4-1] [MQTT-3.10.4-1@3.1.1]
    #[test]
    fn a_subscription_is_ended_by_the_same_filter_only() {
        let mut trie = trie();
        trie.subscribe(filter("a/+"), entry(1));
        for other in ["a/b", "a/#", "a", "+/+", "a/+/", "A/+"] {
            assert_eq!(trie.unsubscribe(filter(other), SubscriberId(1)), None, "{other}");
        }
        assert_eq!(trie.unsubscribe(filter("a/+"), SubscriberId(2)), None);
        let ended = trie.unsubscribe(filter("a/+"), SubscriberId(1));
        assert_eq!(ended, Some(Unsubscribed { entry: entry(1), last: true }));
        assert_empty(&trie);
    }

    #[test]
    fn a_filter_remembers_its_number_while_somebody_uses_it() {
        let mut trie = trie();
        trie.set_told_at(filter("a"), 6);
        assert_eq!(trie.told_at(filter("a")), 0);
        trie.subscribe(filter("a"), entry(1));
        trie.set_told_at(filter("a"), 7);
        trie.subscribe(filter("a"), entry(2));
        assert_eq!(trie.told_at(filter("a")), 7);
    }

    #[test]
    fn many_random_filters_leave_nothing_behind() {
        let (mut trie, seed) = (trie(), Seed::new(3));
        let text = |number: u32| {
            let dice = seed.hash(&number);
            let level = |shift: u32| match (dice >> shift) % 8 {
                0 => "+".to_owned(),
                _ => ((dice >> shift) % 4_000).to_string(),
            };
            let end = if dice % 5 == 0 { "#".to_owned() } else { level(36) };
            format!("{}/{}/{end}", level(0), level(18))
        };
        for number in 0..FILTERS {
            trie.subscribe(filter(&text(number)), entry(number));
        }
        assert_eq!(trie.sizes().subscriptions, FILTERS as usize);
        for number in (0..FILTERS).rev() {
            let ended = trie.unsubscribe(filter(&text(number)), SubscriberId(number));
            assert_eq!(ended.map(|ended| ended.entry), Some(entry(number)));
        }
        assert_empty(&trie);
    }

    /// One list for all: searching it from end to end each time would take minutes.
    #[test]
    fn a_hundred_thousand_subscribers_share_one_filter() {
        let mut trie = trie();
        for number in 0..100_000 {
            assert_eq!(trie.subscribe(filter("a"), entry(number)).first, number == 0);
        }
        let mut matches = Matches::default();
        trie.matches(crate::topic::TopicName::parse("a").unwrap(), &mut matches);
        assert_eq!(trie.subscribers(matches.targets()[0]).len(), 100_000);
        for number in 0..100_000 {
            let ended = trie.unsubscribe(filter("a"), SubscriberId(number)).unwrap();
            assert_eq!(ended.last, number == 99_999);
        }
        assert_empty(&trie);
    }

    #[test]
    fn the_deepest_filters_come_and_go_without_recursion() {
        let mut trie = trie();
        let slashes = "/".repeat(65_535);
        let plusses = format!("{}/#", vec!["+"; 32_767].join("/"));
        let name = crate::topic::TopicName::parse(&slashes).unwrap();
        let mut matches = Matches::default();
        for (number, text) in (1..).zip([&slashes, &plusses]) {
            trie.subscribe(filter(text), entry(number));
            trie.matches(name, &mut matches);
            assert_eq!(matches.targets().len(), number as usize);
        }
        trie.unsubscribe(filter(&slashes), SubscriberId(1));
        trie.unsubscribe(filter(&plusses), SubscriberId(2));
        assert_empty(&trie);
    }

    /// Every node of the tree of `a` and `+` is reached, but none twice.
    #[test]
    fn a_trie_full_of_wildcards_is_walked_once() {
        let mut trie = trie();
        for number in 0..1u32 << DEPTH {
            let level = |bit: u32| if number >> bit & 1 == 1 { "+" } else { "a" };
            let levels: Vec<&str> = (0..DEPTH).map(level).collect();
            trie.subscribe(filter(&levels.join("/")), entry(number));
        }
        let name = vec!["a"; DEPTH as usize].join("/");
        let mut matches = Matches::default();
        trie.matches(crate::topic::TopicName::parse(&name).unwrap(), &mut matches);
        assert_eq!(matches.targets().len(), 1 << DEPTH);
        assert!(!matches.is_cut());
        let name = crate::topic::TopicName::parse(&name).unwrap();
        trie.matches_within(name, 1 << (DEPTH - 1), &mut matches);
        assert!(matches.is_cut() && matches.is_empty());
    }

    const FILTERS: u32 = 100_000;
    const DEPTH: u32 = 12;
}
