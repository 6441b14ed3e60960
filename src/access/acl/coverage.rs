//! How many of the names that match a Topic Filter may be read: all, some or none.
//!
//! The names are tried level by level. In each level only those texts matter that a rule has, and
//! one that no rule has. So a few names stand for all.

use super::{
    Marks, Tree, Ways,
    tree::{NodeId, split},
};
use crate::{access::topics::Subscribable, topic::TopicFilter};

/// Levels of names that are tried for one filter. More take too long.
const STEPS_MAX: usize = 1024;

/// The search for a name that may be read, and for one that may not.
#[derive(Debug)]
pub(super) struct Exploration<'a> {
    trees: Vec<&'a Tree>,
    /// How the names would be read.
    way: Ways,
    /// What holds where no rule matches.
    fallback: Ways,
    has_denial: bool,
    steps: usize,
    found_readable: bool,
    found_unreadable: bool,
}

/// Where the rules stand that have matched a name so far, each with its tree.
type Places = Vec<(usize, NodeId)>;

/// The beginning of a name.
#[derive(Debug)]
struct Beginning {
    places: Places,
    /// What rules say about every name that begins so.
    marks: Marks,
    levels: usize,
    /// The only level is the empty text, which is no name by itself.
    is_empty: bool,
}

impl<'a> Exploration<'a> {
    pub(super) fn new(
        trees: impl Iterator<Item = &'a Tree>,
        way: Ways,
        fallback: Ways,
    ) -> Exploration<'a> {
        let trees: Vec<&Tree> = trees.collect();
        let has_denial = trees.iter().any(|tree| tree.has_denial());
        let (steps, found_readable, found_unreadable) = (STEPS_MAX, false, false);
        Exploration { trees, way, fallback, has_denial, steps, found_readable, found_unreadable }
    }

    pub(super) fn of(mut self, filter: TopicFilter<'_>) -> Subscribable {
        let places = (0..self.trees.len()).map(|tree| (tree, 0)).collect();
        let nothing = Beginning { places, marks: Marks::NONE, levels: 0, is_empty: true };
        self.explore(&nothing, Some(filter.as_str()));
        match (self.found_readable, self.found_unreadable) {
            _ if self.steps == 0 => Subscribable::Partly,
            (true, true) => Subscribable::Partly,
            (true, false) => Subscribable::Whole,
            (false, _) => Subscribable::No,
        }
    }

    /// Tries the names that begin so and go on as the rest of the filter says.
    fn explore(&mut self, beginning: &Beginning, rest: Option<&str>) {
        if self.is_over() {
            return;
        }
        let Some(rest) = rest else { return self.judge_end(beginning) };
        let (level, after) = split(rest);
        match level {
            "#" => self.explore_all(beginning),
            "+" => {
                for level in self.levels_of(beginning) {
                    let next = self.step(beginning, level);
                    self.explore(&next, after);
                }
            }
            _ => {
                let next = self.step(beginning, Some(level));
                self.explore(&next, after);
            }
        }
    }

    /// Tries all names that begin so.
    fn explore_all(&mut self, beginning: &Beginning) {
        if self.is_over() {
            return;
        }
        self.judge_end(beginning);
        let is_settled = beginning.levels > 0 && beginning.places.is_empty();
        if is_settled || (!self.has_denial && self.may_read(self.marks_below(beginning))) {
            // All longer names are judged alike.
            return self.judge(self.marks_below(beginning));
        }
        for level in self.levels_of(beginning) {
            let next = self.step(beginning, level);
            self.explore_all(&next);
        }
    }

    /// The texts that matter as the next level; `None` is one that no rule has.
    fn levels_of(&self, beginning: &Beginning) -> Vec<Option<&'a str>> {
        let places = beginning.places.iter();
        let mut levels: Vec<&str> =
            places.flat_map(|&(tree, node)| self.trees[tree].levels(node)).collect();
        levels.sort_unstable();
        levels.dedup();
        // [MQTT-4.7.2-1]
        levels.retain(|level| beginning.levels > 0 || !level.starts_with('$'));
        std::iter::once(None).chain(levels.into_iter().map(Some)).collect()
    }

    fn step(&mut self, from: &Beginning, level: Option<&str>) -> Beginning {
        self.steps = self.steps.saturating_sub(1);
        let is_first = from.levels == 0;
        // [MQTT-4.7.2-1]
        let is_reserved = is_first && level.is_some_and(|level| level.starts_with('$'));
        let mut places = Places::new();
        for &(tree, node) in &from.places {
            let child = level.and_then(|level| self.trees[tree].child(node, level));
            let plus = self.trees[tree].plus(node).filter(|_| !is_reserved);
            places.extend(child.into_iter().chain(plus).map(|node| (tree, node)));
        }
        let marks = if is_reserved { Marks::NONE } else { self.marks_below(from) };
        let is_empty = is_first && level == Some("");
        Beginning { places, marks, levels: from.levels + 1, is_empty }
    }

    fn marks_below(&self, beginning: &Beginning) -> Marks {
        let places = beginning.places.iter();
        let below = places.map(|&(tree, node)| self.trees[tree].below(node));
        below.fold(beginning.marks, Marks::join)
    }

    /// Judges the name that ends so.
    fn judge_end(&mut self, beginning: &Beginning) {
        if !beginning.is_empty {
            let places = beginning.places.iter();
            let ends = places.map(|&(tree, node)| self.trees[tree].at_end(node));
            self.judge(ends.fold(beginning.marks, Marks::join));
        }
    }

    fn judge(&mut self, marks: Marks) {
        let found = if self.may_read(marks) {
            &mut self.found_readable
        } else {
            &mut self.found_unreadable
        };
        *found = true;
    }

    fn may_read(&self, marks: Marks) -> bool {
        marks.granted_or(self.fallback).has_any(self.way)
    }

    fn is_over(&self) -> bool {
        self.steps == 0 || (self.found_readable && self.found_unreadable)
    }
}
