//! Rules that a client brings along in its token, in their order: the first one that matches
//! decides.
//!
//! Knows neither tokens nor their text.

use thiserror::Error;

use super::{
    Acl, Rights, is_dangerous,
    parse::LEVELS_MAX,
    tree::{Marks, Tree, TreeBuilder, Ways},
};
use crate::topic::TopicFilter;

/// The rules of one token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimedRules {
    rules: Vec<ClaimedRule>,
    filters: usize,
    /// What no rule matches is for the ACL file. Else it is denied.
    falls_through: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ClaimedRule {
    grants: bool,
    ways: Ways,
    filter: Box<str>,
    /// Its number among the rules, which several filters of one rule share.
    number: usize,
}

/// Why the rules of a token are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ClaimProblem {
    #[error("a topic is no Topic Filter, or has too many levels")]
    Filter,
    #[error("there are more than {FILTERS_MAX} topics")]
    TooMany,
}

/// Topic Filters of one token.
const FILTERS_MAX: usize = 1_000;

impl ClaimedRules {
    /// Rules that leave what they do not match to the ACL file, or that deny it.
    pub fn new(falls_through: bool) -> ClaimedRules {
        ClaimedRules { falls_through, ..ClaimedRules::default() }
    }

    /// Adds a rule behind those that are there.
    pub fn push<'a>(
        &mut self,
        grants: bool,
        ways: Ways,
        filters: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), ClaimProblem> {
        let number = self.rules.last().map_or(0, |last| last.number + 1);
        for text in filters {
            self.filters += 1;
            if self.filters > FILTERS_MAX {
                return Err(ClaimProblem::TooMany);
            }
            let filter = TopicFilter::parse(text).map_err(|_| ClaimProblem::Filter)?;
            if filter.level_count() > LEVELS_MAX {
                return Err(ClaimProblem::Filter);
            }
            self.rules.push(ClaimedRule { grants, ways, filter: text.into(), number });
        }
        Ok(())
    }

    /// The rights of a client with these rules, and behind them with those of the ACL file.
    pub fn rights_of(&self, user_name: Option<&str>, client_id: &str, acl: Option<&Acl>) -> Rights {
        let number = acl.map_or(0, Acl::number);
        let Some(tree) = self.compile(user_name.unwrap_or_default(), client_id) else {
            return Rights::claimed(Tree::default(), number, None);
        };
        let others = acl.filter(|_| self.falls_through);
        let others = others.map(|acl| acl.rights_apart(user_name, client_id));
        Rights::claimed(tree, number, others)
    }

    /// The rules with the names of a client in their places; `None` if a name could reach beyond
    /// its place.
    fn compile(&self, user_name: &str, client_id: &str) -> Option<Tree> {
        let mut tree = TreeBuilder::default();
        for rule in &self.rules {
            let filter = filled(&rule.filter, user_name, client_id)?;
            // A client does not gain the broker's own topics by its name.
            if !filter.starts_with('$') || rule.filter.starts_with('$') && !names(&rule.filter) {
                tree.add(&filter, Marks::nth(rule.number, rule.ways, rule.grants));
            }
        }
        Some(tree.build())
    }
}

/// What stands for the Client Identifier and for the user name.
const CLIENT: [&str; 2] = ["%c", "${clientid}"];
const USER: [&str; 2] = ["%u", "${username}"];

/// Whether a filter begins with a name.
fn names(filter: &str) -> bool {
    CLIENT.iter().chain(&USER).any(|place| filter.starts_with(place))
}

fn filled(filter: &str, user_name: &str, client_id: &str) -> Option<String> {
    let (mut filled, mut rest) = (String::with_capacity(filter.len()), filter);
    while let Some(at) = rest.find(['%', '$']) {
        filled.push_str(&rest[..at]);
        rest = &rest[at..];
        let place = |places: [&'static str; 2]| places.into_iter().find(|it| rest.starts_with(it));
        let named = place(CLIENT).map(|place| (place, client_id));
        let named = named.or_else(|| place(USER).map(|place| (place, user_name)));
        match named {
            Some((_, name)) if name.is_empty() || is_dangerous(name) => return None,
            Some((place, name)) => {
                filled.push_str(name);
                rest = &rest[place.len()..];
            }
            None => {
                filled.push_str(&rest[..1]);
                rest = &rest[1..];
            }
        }
    }
    filled.push_str(rest);
    Some(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        access::topics::Subscribable,
        topic::{TopicName, twin::matches},
    };

    fn rules(falls_through: bool, rules: &[(bool, Ways, &str)]) -> ClaimedRules {
        let mut claimed = ClaimedRules::new(falls_through);
        for &(grants, ways, filter) in rules {
            claimed.push(grants, ways, [filter]).unwrap();
        }
        claimed
    }

    fn may(rights: &Rights, way: Ways, topic: &str) -> bool {
        rights.permits(TopicName::parse(topic).unwrap()).any(way)
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let claimed = rules(
            false,
            &[
                (true, Ways::ALL, "a/b"),
                (false, Ways::WRITE, "a/#"),
                (true, Ways::READ, "a/+/c"),
                (true, Ways::write(1, false), "#"),
                (true, Ways::ALL, "$b"),
            ],
        );
        let rights = claimed.rights_of(Some("ada"), "one", None);
        for (topic, read, write) in [
            ("a/b", true, true),
            ("a/c", false, false),
            ("a/x/c", true, false),
            ("b", false, true),
            ("$b", true, true),
            ("$c", false, false),
        ] {
            assert_eq!(may(&rights, Ways::READ, topic), read, "{topic}");
            assert_eq!(may(&rights, Ways::write(1, false), topic), write, "{topic}");
        }
        assert!(
            !may(&rights, Ways::write(1, true), "b") && !may(&rights, Ways::write(0, false), "b")
        );
    }

    #[test]
    fn names_take_their_places_and_reach_no_further() {
        let claimed = rules(
            true,
            &[(true, Ways::ALL, "d/%c/${username}x"), (true, Ways::ALL, "${clientid}/100%/$")],
        );
        let acl = Acl::parse(b"topic read a\npattern read p/%c").unwrap();
        let rights = claimed.rights_of(Some("ada"), "one", Some(&acl));
        assert_eq!(rights.acl(), acl.number());
        for (topic, expected) in
            [("d/one/adax", true), ("one/100%/$", true), ("d/two/adax", false), ("p/one", true)]
        {
            assert_eq!(may(&rights, Ways::READ, topic), expected, "{topic}");
        }
        for (user, client) in [("a/b", "one"), ("ada", "+"), ("", "one"), ("ada", "#")] {
            let rights = claimed.rights_of(Some(user), client, Some(&acl));
            assert!(!may(&rights, Ways::ALL, "p/one") && !may(&rights, Ways::ALL, "one/100%/$"));
        }
        let rights = claimed.rights_of(Some("ada"), "$SYS", None);
        assert!(!may(&rights, Ways::ALL, "$SYS/100%/$"));
    }

    #[test]
    fn what_no_rule_matches_is_for_the_file_or_denied() {
        let acl = Acl::parse(b"user ada\ntopic readwrite a/#").unwrap();
        for falls_through in [false, true] {
            let claimed = rules(falls_through, &[(false, Ways::READ, "a/b")]);
            let rights = claimed.rights_of(Some("ada"), "one", Some(&acl));
            assert!(!may(&rights, Ways::READ, "a/b"));
            assert_eq!(may(&rights, Ways::WRITE, "a/b"), falls_through);
            assert_eq!(may(&rights, Ways::READ, "a/c"), falls_through);
            let filter = TopicFilter::parse("a/#").unwrap();
            let partly = if falls_through { Subscribable::Partly } else { Subscribable::No };
            assert_eq!(rights.coverage(filter, 0), partly);
            assert!(!may(&claimed.rights_of(Some("ada"), "one", None), Ways::ALL, "a/c"));
        }
    }

    #[test]
    fn a_subscription_is_judged_at_its_qos() {
        let claimed = rules(
            false,
            &[(true, Ways::read(0), "a/#"), (true, Ways::READ, "b"), (false, Ways::READ, "c/d")],
        );
        let rights = claimed.rights_of(Some("ada"), "one", None);
        let coverage = |filter, qos| rights.coverage(TopicFilter::parse(filter).unwrap(), qos);
        assert_eq!(
            (coverage("a/b", 0), coverage("a/b", 1)),
            (Subscribable::Whole, Subscribable::No)
        );
        assert_eq!(
            (coverage("b", 2), coverage("#", 0)),
            (Subscribable::Whole, Subscribable::Partly)
        );
    }

    #[test]
    fn too_many_topics_and_wrong_ones_are_refused() {
        let mut claimed = ClaimedRules::new(true);
        assert_eq!(claimed.push(true, Ways::ALL, ["a/#/b"]), Err(ClaimProblem::Filter));
        let deep = "a/".repeat(LEVELS_MAX);
        assert_eq!(claimed.push(true, Ways::ALL, [&*deep]), Err(ClaimProblem::Filter));
        let many = std::iter::repeat_n("a", FILTERS_MAX);
        assert_eq!(ClaimedRules::new(true).push(true, Ways::ALL, many), Ok(()));
        let more = std::iter::repeat_n("a", FILTERS_MAX + 1);
        assert_eq!(ClaimedRules::new(true).push(true, Ways::ALL, more), Err(ClaimProblem::TooMany));
        claimed.rights_of(None, "one", None);
    }

    /// Rules in their order against a list that is walked.
    #[test]
    fn the_tree_agrees_with_a_walk_through_the_list() {
        let filters = ["a", "b", "a/b", "a/#", "+/b", "#", "+", "a/+", "%c/b"];
        let topics = ["a", "b", "a/b", "b/b", "a/b/c", "one/b", "c"];
        let mut state = 7u64;
        let mut below = |bound: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::from((state >> 48) as u16) % bound
        };
        for _ in 0..2_000 {
            let list: Vec<(bool, Ways, &str)> = (0..below(6))
                .map(|_| {
                    let ways = [Ways::READ, Ways::WRITE, Ways::ALL, Ways::read(1)][below(4)];
                    (below(2) == 0, ways, filters[below(filters.len())])
                })
                .collect();
            let rights = rules(false, &list).rights_of(None, "one", None);
            for topic in topics {
                for way in [Ways::read(1), Ways::read(2), Ways::write(0, true)] {
                    let first = list.iter().find(|(_, ways, filter)| {
                        ways.has_any(way) && matches(&filter.replace("%c", "one"), topic)
                    });
                    let expected = first.is_some_and(|(grants, ..)| *grants);
                    assert_eq!(may(&rights, way, topic), expected, "{list:?} {topic}");
                }
            }
        }
    }
}
