//! Rules in a tree, level by level, so that one walk finds all that match a Topic Name.

use std::collections::BTreeMap;

use super::parse::Access;
use crate::topic::TopicName;

/// What the rules that match a name say, joined: six bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks(u8);

/// The bits of a user's own rules. Those of patterns are three places higher.
const READ: u8 = 1;
const WRITE: u8 = 2;
const DENY: u8 = 4;
const PATTERN: u32 = 3;

impl Marks {
    pub(super) const NONE: Marks = Marks(0);

    pub(super) fn own(access: Access) -> Marks {
        Marks(match access {
            Access::Read => READ,
            Access::Write => WRITE,
            Access::ReadWrite => READ | WRITE,
            Access::Deny => DENY,
        })
    }

    pub(super) fn pattern(access: Access) -> Marks {
        Marks(Marks::own(access).0 << PATTERN)
    }

    #[inline]
    #[must_use]
    pub(super) fn join(self, other: Marks) -> Marks {
        Marks(self.0 | other.0)
    }

    pub(super) fn may_read(self) -> bool {
        self.grants(READ)
    }

    pub(super) fn may_write(self) -> bool {
        self.grants(WRITE)
    }

    pub(super) fn has_denial(self) -> bool {
        self.0 & (DENY | DENY << PATTERN) != 0
    }

    fn grants(self, access: u8) -> bool {
        let (own, pattern) = (self.0, self.0 >> PATTERN);
        own & DENY == 0 && (own & access != 0 || pattern & DENY == 0 && pattern & access != 0)
    }
}

/// A tree that does not change. The root is node 0.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tree {
    nodes: Box<[Node]>,
    /// The edges of one node stand together, sorted by their text.
    edges: Box<[Edge]>,
    /// All marks of all rules.
    all: Marks,
}

/// A place in a [`Tree`].
pub(super) type NodeId = u32;

#[derive(Debug, PartialEq, Eq)]
struct Node {
    /// What rules say that end here.
    here: Marks,
    /// What rules say that end with `#` below this level. They match this level, too.
    below: Marks,
    /// The node after `+`; 0 if there is none.
    plus: NodeId,
    /// The first of its edges, and how many there are.
    edges: (u32, u32),
}

#[derive(Debug, PartialEq, Eq)]
struct Edge {
    level: Box<str>,
    node: NodeId,
}

impl Tree {
    /// What the rules say that match this name.
    pub(super) fn find(&self, topic: TopicName<'_>) -> Marks {
        let text = topic.as_str();
        if !topic.is_reserved() {
            return self.gather(0, Some(text));
        }
        // Wildcards do not match the first level of such a name. [MQTT-4.7.2-1]
        let (level, rest) = split(text);
        self.child(0, level).map_or(Marks::NONE, |node| self.gather(node, rest))
    }

    /// A rule has a bounded number of levels, and so has the recursion.
    fn gather(&self, at: NodeId, rest: Option<&str>) -> Marks {
        let Some(rest) = rest else { return self.at_end(at) };
        let mut marks = self.below(at);
        let (level, rest) = split(rest);
        if let Some(node) = self.child(at, level) {
            marks = marks.join(self.gather(node, rest));
        }
        if let Some(node) = self.plus(at) {
            marks = marks.join(self.gather(node, rest));
        }
        marks
    }

    /// What rules say about a name that ends at this node.
    pub(super) fn at_end(&self, at: NodeId) -> Marks {
        let node = self.node(at);
        node.here.join(node.below)
    }

    /// What rules say about all names that go on from this node, and about one that ends here.
    pub(super) fn below(&self, at: NodeId) -> Marks {
        self.node(at).below
    }

    pub(super) fn plus(&self, at: NodeId) -> Option<NodeId> {
        Some(self.node(at).plus).filter(|&node| node != 0)
    }

    pub(super) fn child(&self, at: NodeId, level: &str) -> Option<NodeId> {
        let edges = self.edges_of(at);
        let found = edges.binary_search_by(|edge| (*edge.level).cmp(level));
        found.ok().map(|place| edges[place].node)
    }

    /// The levels that lead on from this node.
    pub(super) fn levels(&self, at: NodeId) -> impl Iterator<Item = &str> {
        self.edges_of(at).iter().map(|edge| &*edge.level)
    }

    /// All marks of all rules.
    pub(super) fn all(&self) -> Marks {
        self.all
    }

    fn edges_of(&self, at: NodeId) -> &[Edge] {
        let (first, count) = self.node(at).edges;
        &self.edges[first as usize..][..count as usize]
    }

    fn node(&self, at: NodeId) -> &Node {
        &self.nodes[at as usize]
    }
}

/// A tree that is being made.
#[derive(Debug, Default)]
pub(super) struct TreeBuilder {
    root: Draft,
    all: Marks,
}

#[derive(Debug, Default)]
struct Draft {
    here: Marks,
    below: Marks,
    plus: Option<Box<Draft>>,
    levels: BTreeMap<Box<str>, Draft>,
}

impl TreeBuilder {
    /// Adds a rule with a valid Topic Filter.
    pub(super) fn add(&mut self, filter: &str, marks: Marks) {
        self.all = self.all.join(marks);
        let mut draft = &mut self.root;
        for level in filter.split('/') {
            draft = match level {
                "#" => {
                    draft.below = draft.below.join(marks);
                    return;
                }
                "+" => draft.plus.get_or_insert_default(),
                _ => draft.levels.entry(level.into()).or_default(),
            };
        }
        draft.here = draft.here.join(marks);
    }

    pub(super) fn build(self) -> Tree {
        let (mut nodes, mut edges) = (Vec::new(), Vec::new());
        self.root.lay_out(&mut nodes, &mut edges);
        Tree { nodes: nodes.into(), edges: edges.into(), all: self.all }
    }
}

impl Draft {
    /// Adds the node and all below it. Returns its place.
    fn lay_out(self, nodes: &mut Vec<Node>, edges: &mut Vec<Edge>) -> NodeId {
        let at = nodes.len();
        let first = edges.len();
        let count = self.levels.len();
        nodes.push(Node {
            here: self.here,
            below: self.below,
            plus: 0,
            edges: (number(first), number(count)),
        });
        let (levels, drafts): (Vec<_>, Vec<_>) = self.levels.into_iter().unzip();
        edges.extend(levels.into_iter().map(|level| Edge { level, node: 0 }));
        for (nth, draft) in drafts.into_iter().enumerate() {
            edges[first + nth].node = draft.lay_out(nodes, edges);
        }
        if let Some(draft) = self.plus {
            nodes[at].plus = draft.lay_out(nodes, edges);
        }
        number(at)
    }
}

fn number(index: usize) -> u32 {
    u32::try_from(index).expect("a file of rules has fewer than four billion levels")
}

/// The first level, and what follows it if anything does.
#[inline]
pub(super) fn split(text: &str) -> (&str, Option<&str>) {
    match text.bytes().position(|byte| byte == b'/') {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}
