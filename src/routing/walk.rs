//! The walk of one Topic Name through the trie, in slices.
//!
//! Between two slices the trie may change in any way, because a walk remembers the levels that it
//! has taken, and no node. A filter that is there all the time is found exactly once. A filter that
//! comes or goes meanwhile may be found or not. [`Trie::matches`] is faster, and does all at once.

use super::{
    levels::LevelId,
    target::TargetId,
    trie::{Node, NodeId, Trie},
};
use crate::topic::TopicName;

/// The place that a walk has reached.
#[derive(Debug, Default)]
pub struct Walk {
    /// How each level was taken, from the root.
    path: Vec<Way>,
    next: Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Literal,
    Plus,
}

/// What the walk looks at next, at the node that it has reached. A node has these stops, in this
/// order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stop {
    /// The filter that ends in `#` after this level.
    #[default]
    Rest,
    /// The filter that ends here.
    End,
    Literal,
    Plus,
    /// Nothing is left: the walk goes back to the level before.
    Up,
}

impl Way {
    /// The stop after all that lies this way.
    fn next(self) -> Stop {
        match self {
            Way::Literal => Stop::Plus,
            Way::Plus => Stop::Up,
        }
    }
}

/// A name and the nodes of its walk, during one slice.
struct Course<'a> {
    trie: &'a Trie,
    levels: Vec<Option<LevelId>>,
    /// Whether wildcards match the first level. [MQTT-4.7.2-1]
    wildcards: bool,
    /// The nodes on the path of the walk, the root first.
    nodes: Vec<NodeId>,
}

impl Trie {
    /// Goes on with a walk, and hands each filter that matches to `found`, which returns the steps
    /// that this filter takes. A node takes one step. Subtracts what was taken from `steps`, and
    /// stops when none is left. True: the walk has ended.
    pub fn walk_on(
        &self,
        name: TopicName<'_>,
        walk: &mut Walk,
        steps: &mut usize,
        mut found: impl FnMut(TargetId) -> usize,
    ) -> bool {
        let levels: Vec<_> = name.levels().map(|level| self.levels.find(level)).collect();
        // Each slice begins at the root, so a long name needs long slices.
        *steps = (*steps).max(levels.len() / 8);
        let wildcards = !name.is_reserved();
        let mut course = Course { trie: self, levels, wildcards, nodes: vec![self.root] };
        course.retrace(walk);
        loop {
            if let Some(target) = course.target(walk) {
                *steps = steps.saturating_sub(found(target));
            }
            if !course.move_on(walk, steps) {
                return true;
            }
            if *steps == 0 {
                return false;
            }
        }
    }
}

impl Course<'_> {
    /// Comes back to the place that the walk has reached, or as far as there are nodes.
    fn retrace(&mut self, walk: &mut Walk) {
        for depth in 0..walk.path.len() {
            let way = walk.path[depth];
            let Some(node) = self.child(way) else {
                walk.path.truncate(depth);
                walk.next = way.next();
                return;
            };
            self.nodes.push(node);
        }
    }

    /// The filter at the present stop, if there is one that matches.
    fn target(&self, walk: &Walk) -> Option<TargetId> {
        match walk.next {
            Stop::Rest => self.node().rest.filter(|_| self.takes_wildcards()),
            Stop::End => self.node().end.filter(|_| self.depth() == self.levels.len()),
            Stop::Literal | Stop::Plus | Stop::Up => None,
        }
    }

    /// Goes to the next stop. False: there is none.
    fn move_on(&mut self, walk: &mut Walk, steps: &mut usize) -> bool {
        match walk.next {
            Stop::Rest => walk.next = Stop::End,
            Stop::End => walk.next = Stop::Literal,
            Stop::Literal => self.descend(Way::Literal, walk, steps),
            Stop::Plus => self.descend(Way::Plus, walk, steps),
            Stop::Up => {
                let Some(way) = walk.path.pop() else { return false };
                self.nodes.pop();
                walk.next = way.next();
            }
        }
        true
    }

    fn descend(&mut self, way: Way, walk: &mut Walk, steps: &mut usize) {
        let Some(node) = self.child(way) else {
            walk.next = way.next();
            return;
        };
        *steps = steps.saturating_sub(1);
        self.nodes.push(node);
        walk.path.push(way);
        walk.next = Stop::Rest;
    }

    fn child(&self, way: Way) -> Option<NodeId> {
        let level = self.levels.get(self.depth())?;
        match way {
            Way::Literal => self.trie.child(*self.nodes.last()?, (*level)?),
            Way::Plus => self.node().plus.filter(|_| self.takes_wildcards()),
        }
    }

    fn node(&self) -> &Node {
        self.trie.node(*self.nodes.last().expect("the root is always there"))
    }

    fn depth(&self) -> usize {
        self.nodes.len() - 1
    }

    fn takes_wildcards(&self) -> bool {
        self.wildcards || self.depth() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::{hash::Seed, ids::SubscriberId},
        routing::{Entry, Matches, Options},
        topic::{TopicFilter, twin},
    };

    fn entry(subscriber: u32) -> Entry {
        Entry { subscriber: SubscriberId(subscriber), options: Options(0), subscription_id: 0 }
    }

    fn trie(filters: &[String]) -> Trie {
        let mut trie = Trie::new(Seed::new(1));
        for (number, text) in (0..).zip(filters) {
            trie.subscribe(TopicFilter::parse(text).unwrap(), entry(number));
        }
        trie
    }

    /// Everything that a walk by slices of `steps` finds. `between` is called between two slices.
    fn walk(
        trie: &mut Trie,
        name: TopicName<'_>,
        steps: usize,
        mut between: impl FnMut(&mut Trie),
    ) -> Vec<TargetId> {
        let (mut walk, mut found) = (Walk::default(), Vec::new());
        let collect = |target, found: &mut Vec<TargetId>| {
            found.push(target);
            1
        };
        while !trie.walk_on(name, &mut walk, &mut steps.clone(), |it| collect(it, &mut found)) {
            between(trie);
        }
        found
    }

    #[test]
    fn it_finds_what_matches_whatever_its_slices() {
        let mut trie = trie(&twin::filters());
        let mut matches = Matches::default();
        for text in twin::names() {
            let name = TopicName::parse(&text).unwrap();
            trie.matches(name, &mut matches);
            let mut expected = matches.targets().to_vec();
            expected.sort_unstable();
            for steps in [0, 1, 3, 1_000] {
                let mut found = walk(&mut trie, name, steps, |_| {});
                found.sort_unstable();
                assert_eq!(found, expected, "{text} {steps}");
            }
        }
    }

    /// Every other filter goes and comes back, in another place.
    #[test]
    fn what_is_there_all_the_time_is_found_once_whatever_else_comes_and_goes() {
        let filters = twin::filters();
        for text in twin::names() {
            let mut trie = trie(&filters);
            let name = TopicName::parse(&text).unwrap();
            let mut slices = 0;
            let found = walk(&mut trie, name, 1, |trie| {
                for (number, text) in (0..).zip(&filters).skip(1).step_by(2) {
                    let filter = TopicFilter::parse(text).unwrap();
                    if slices % 2 == 0 {
                        trie.unsubscribe(filter, SubscriberId(number));
                    } else {
                        trie.subscribe(filter, entry(number));
                    }
                }
                slices += 1;
            });
            for (number, filter) in (0..).zip(&filters).step_by(2) {
                let is_its = |&&target: &&TargetId| trie.subscribers(target) == [entry(number)];
                let times = found.iter().filter(is_its).count();
                assert_eq!(times, usize::from(twin::matches(filter, &text)), "{filter} {text}");
            }
        }
    }

    #[test]
    fn a_slice_ends_after_its_steps() {
        let mut trie = trie(&["a/b/c/d".into(), "+/+/+/+".into()]);
        let name = TopicName::parse("a/b/c/d").unwrap();
        let mut slices = 1;
        assert_eq!(walk(&mut trie, name, 2, |_| slices += 1).len(), 2);
        assert_eq!(slices, 6, "eight nodes, two filters, and the end");
    }
}
