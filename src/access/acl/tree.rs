//! Rules in a tree, level by level, so that one walk finds all that match a Topic Name.

use std::collections::BTreeMap;

use super::parse::Access;
use crate::topic::TopicName;

/// What the rules that match a name say, joined: for each way of access, the rank of the first rule
/// that speaks about it.
///
/// An odd rank grants and an even one denies. A lower rank comes first. So joining is taking the
/// minimum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Marks([Rank; WAYS]);

pub(super) type Rank = u16;

/// A way of access: reading at each QoS, then writing at each QoS without and with RETAIN.
pub(super) const WAYS: usize = 9;

/// The rank of what no rule speaks about: it is denied.
const SILENT: Rank = Rank::MAX - 1;
/// Where the ranks of a file begin. Those of the rules in a token are lower.
const FILE: Rank = 0xFF00;
/// As many rules of one client can be told apart by their ranks.
pub(super) const RULES_MAX: usize = FILE as usize / 2;
/// How many ranks a pattern is behind a user's own rules.
const PATTERN: Rank = 2;

impl Marks {
    pub(super) const NONE: Marks = Marks([SILENT; WAYS]);

    pub(super) fn own(access: Access) -> Marks {
        Marks::of_file(access, FILE)
    }

    pub(super) fn pattern(access: Access) -> Marks {
        Marks::of_file(access, FILE + PATTERN)
    }

    /// Denials come before grants.
    fn of_file(access: Access, denial: Rank) -> Marks {
        match access {
            Access::Read => Marks::of(Ways::READ, denial + 1),
            Access::Write => Marks::of(Ways::WRITE, denial + 1),
            Access::ReadWrite => Marks::of(Ways::ALL, denial + 1),
            Access::Deny => Marks::of(Ways::ALL, denial),
        }
    }

    /// One of several rules in their order, the first of which is number 0.
    pub(super) fn nth(number: usize, ways: Ways, grants: bool) -> Marks {
        let rank = 2 * number + usize::from(grants);
        let rank = Rank::try_from(rank).ok().filter(|&rank| rank < FILE);
        Marks::of(ways, rank.expect("rules are counted before they have ranks"))
    }

    fn of(ways: Ways, rank: Rank) -> Marks {
        let mut marks = Marks::NONE;
        for (way, mark) in marks.0.iter_mut().enumerate() {
            if ways.0 & 1 << way != 0 {
                *mark = rank;
            }
        }
        marks
    }

    #[inline]
    #[must_use]
    pub(super) fn join(self, other: Marks) -> Marks {
        let mut joined = self;
        for (mark, other) in joined.0.iter_mut().zip(other.0) {
            *mark = (*mark).min(other);
        }
        joined
    }

    /// All that is granted, if this holds for what no rule speaks about.
    pub(super) fn granted_or(self, fallback: Ways) -> Ways {
        let is_granted = |way: usize, rank: Rank| match rank {
            SILENT => fallback.0 >> way & 1,
            _ => rank & 1,
        };
        let bit = |(way, rank): (usize, Rank)| is_granted(way, rank) << way;
        Ways(self.0.into_iter().enumerate().map(bit).sum())
    }

    fn has_denial(self) -> bool {
        self.0.iter().any(|&rank| rank & 1 == 0 && rank != SILENT)
    }
}

/// Some ways of access, a bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ways(u16);

/// How many QoS there are.
const QOS: usize = 3;

impl Ways {
    pub const NONE: Ways = Ways(0);
    pub const READ: Ways = Ways(0b111);
    pub const WRITE: Ways = Ways(0b111_111_000);
    pub const ALL: Ways = Ways(0b111_111_111);

    /// Reading at this QoS.
    #[inline]
    pub fn read(qos: u8) -> Ways {
        Ways(1 << qos)
    }

    /// Writing at this QoS, with RETAIN or without.
    #[inline]
    pub fn write(qos: u8, retain: bool) -> Ways {
        Ways(1 << (QOS + usize::from(qos) + QOS * usize::from(retain)))
    }

    #[inline]
    #[must_use]
    pub fn and(self, other: Ways) -> Ways {
        Ways(self.0 | other.0)
    }

    /// Whether any of these ways is among them.
    #[inline]
    pub fn has_any(self, of: Ways) -> bool {
        self.0 & of.0 != 0
    }
}

/// A tree that does not change. The root is node 0.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tree {
    nodes: Box<[Node]>,
    /// The edges of one node stand together, sorted by their text.
    edges: Box<[Edge]>,
    /// All that its nodes say, each once.
    marks: Box<[Marks]>,
    /// Some rule denies.
    has_denial: bool,
}

/// Without any rule.
impl Default for Tree {
    fn default() -> Tree {
        TreeBuilder::default().build()
    }
}

/// A place among the marks of a [`Tree`], counted from one; 0 is that no rule says anything.
type MarksId = u16;

/// A place in a [`Tree`].
pub(super) type NodeId = u32;

#[derive(Debug, PartialEq, Eq)]
struct Node {
    /// What rules say that end here.
    here: MarksId,
    /// What rules say that end with `#` below this level. They match this level, too.
    below: MarksId,
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
        self.marks(node.here).join(self.marks(node.below))
    }

    /// What rules say about all names that go on from this node, and about one that ends here.
    pub(super) fn below(&self, at: NodeId) -> Marks {
        self.marks(self.node(at).below)
    }

    fn marks(&self, id: MarksId) -> Marks {
        let place = usize::from(id).checked_sub(1);
        place.map_or(Marks::NONE, |place| self.marks[place])
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

    /// Whether some rule denies.
    pub(super) fn has_denial(&self) -> bool {
        self.has_denial
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
    has_denial: bool,
}

#[derive(Debug)]
struct Draft {
    here: Marks,
    below: Marks,
    plus: Option<Box<Draft>>,
    levels: BTreeMap<Box<str>, Draft>,
}

impl Default for Draft {
    fn default() -> Draft {
        let (here, below) = (Marks::NONE, Marks::NONE);
        Draft { here, below, plus: None, levels: BTreeMap::new() }
    }
}

impl TreeBuilder {
    /// Adds a rule with a valid Topic Filter.
    pub(super) fn add(&mut self, filter: &str, marks: Marks) {
        self.has_denial |= marks.has_denial();
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
        let mut plan = Plan::default();
        self.root.lay_out(&mut plan);
        let Plan { nodes, edges, marks, .. } = plan;
        let (nodes, edges, marks) = (nodes.into(), edges.into(), marks.into());
        Tree { nodes, edges, marks, has_denial: self.has_denial }
    }
}

/// A tree that is being laid out.
#[derive(Debug, Default)]
struct Plan {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    marks: Vec<Marks>,
    /// Where marks are among these.
    known: BTreeMap<Marks, MarksId>,
}

impl Plan {
    fn id_of(&mut self, marks: Marks) -> MarksId {
        if marks == Marks::NONE {
            return 0;
        }
        *self.known.entry(marks).or_insert_with(|| {
            self.marks.push(marks);
            MarksId::try_from(self.marks.len()).expect("rules say few different things")
        })
    }
}

impl Draft {
    /// Adds the node and all below it. Returns its place.
    fn lay_out(self, plan: &mut Plan) -> NodeId {
        let (at, first) = (plan.nodes.len(), plan.edges.len());
        let count = self.levels.len();
        let (here, below) = (plan.id_of(self.here), plan.id_of(self.below));
        let edges = (number(first), number(count));
        plan.nodes.push(Node { here, below, plus: 0, edges });
        let (levels, drafts): (Vec<_>, Vec<_>) = self.levels.into_iter().unzip();
        plan.edges.extend(levels.into_iter().map(|level| Edge { level, node: 0 }));
        for (nth, draft) in drafts.into_iter().enumerate() {
            plan.edges[first + nth].node = draft.lay_out(plan);
        }
        if let Some(draft) = self.plus {
            plan.nodes[at].plus = draft.lay_out(plan);
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
