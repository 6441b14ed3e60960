//! The compiled rights against their twin.

use super::*;
use crate::{
    access::topics::Subscribable,
    topic::{TopicFilter, TopicName},
};

mod matching {
    pub(super) use crate::topic::twin::matches;
}
#[path = "../../../tests/support/rights.rs"]
mod twin;

/// How many files are generated; the test that is built with `RINGMQ_ACL_FILES` makes more. Each is
/// tried for two clients with ten topics, so that 50,000 make a million cases.
const FILES: u64 = 2_000;

/// A small generator, so that a failed case is found again by its number.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::from((mixed >> 48) as u16) % bound
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn text(&mut self, levels: &[&str]) -> String {
        let mut parts: Vec<&str> = (0..=self.below(3)).map(|_| self.pick(levels)).collect();
        if let Some(last) = parts.iter().position(|&part| part == "#") {
            parts.truncate(last + 1);
        }
        Some(parts.join("/")).filter(|text| !text.is_empty()).unwrap_or_else(|| "/".to_owned())
    }

    fn file(&mut self) -> String {
        let mut text = String::new();
        for _ in 0..self.below(9) {
            let access = self.pick(&["", "read ", "write ", "readwrite ", "deny "]);
            let line = match self.below(8) {
                0 => format!("user {}", self.pick(&USERS)),
                1..=3 => {
                    let levels = ["a", "b", "+", "#", "%c", "%u", "x%c", "%u-y", "$s", ""];
                    format!("pattern {access}{}", self.text(&levels))
                }
                _ => format!("topic {access}{}", self.text(&["a", "b", "+", "#", "$s", "", "one"])),
            };
            text.push_str(&line);
            text.push('\n');
        }
        text
    }
}

const USERS: [&str; 4] = ["ada", "bob", "b", "a/b"];
const CLIENTS: [&str; 7] = ["one", "a", "b", "+", "a/b", "$s", "%u"];
/// The levels that the generated rules can tell apart, and one that no rule has.
const NAMES: [&str; 17] = [
    "a", "b", "", "$s", "one", "ada", "xa", "xb", "xone", "x$s", "x%u", "%u", "ada-y", "bob",
    "bob-y", "b-y", "other",
];

fn cases() -> u64 {
    let asked = option_env!("RINGMQ_ACL_FILES");
    asked.map_or(FILES, |number| number.parse().expect("a number of files"))
}

/// Calls `check` with a file, a user, a Client Identifier and the rights that they make.
fn for_each_case(check: impl Fn(&str, Option<&str>, &str, &Rights, &mut Dice)) {
    for case in 0..cases() {
        let mut dice = Dice(case);
        let text = dice.file();
        let acl = Acl::parse(text.as_bytes()).unwrap();
        for _ in 0..2 {
            let user = Some(dice.pick(&USERS)).filter(|_| dice.below(4) > 0);
            let client_id = dice.pick(&CLIENTS);
            check(&text, user, client_id, &acl.rights_of(user, client_id), &mut dice);
        }
    }
}

#[test]
fn compiled_rights_agree_with_a_list_that_is_walked() {
    for_each_case(|text, user, client_id, rights, dice| {
        for _ in 0..10 {
            let topic = dice.text(&NAMES);
            let permits = rights.permits(TopicName::parse(&topic).unwrap());
            let [read, write] =
                ["read", "write"].map(|wanted| twin::may(text, (user, client_id), wanted, &topic));
            let found = (permits.any(Ways::READ), permits.any(Ways::WRITE));
            assert_eq!(found, (read, write), "{text}\n{user:?} {client_id} {topic}");
        }
    });
}

#[test]
fn a_filter_is_covered_as_the_names_that_match_it_say() {
    let names: Vec<String> = crate::topic::twin::texts(&NAMES);
    for_each_case(|text, user, client_id, rights, dice| {
        if dice.below(10) > 0 {
            return;
        }
        let filter = dice.text(&["a", "b", "+", "+", "#", "$s", "", "one"]);
        let parsed = TopicFilter::parse(&filter).unwrap();
        let mut found = [false; 2];
        for name in names.iter().filter(|name| matching::matches(&filter, name)) {
            let name = TopicName::parse(name).unwrap();
            found[usize::from(rights.permits(name).any(Ways::READ))] = true;
        }
        let expected = match found {
            [false, true] => Subscribable::Whole,
            [true, true] => Subscribable::Partly,
            [_, false] => Subscribable::No,
        };
        let told = rights.coverage(parsed, 0);
        assert_eq!(told, expected, "{text}\n{user:?} {client_id} {filter}");
    });
}

fn permits(acl: &Acl, user: Option<&str>, client_id: &str, topic: &str) -> (bool, bool) {
    let permits = acl.rights_of(user, client_id).permits(TopicName::parse(topic).unwrap());
    (permits.any(Ways::READ), permits.any(Ways::WRITE))
}

#[test]
fn the_rules_of_mosquitto_hold_in_their_order() {
    let acl = Acl::parse(
        b"topic read public/#\n\
          user ada\ntopic deny a/secret/#\ntopic a/#\ntopic read p/mine\n\
          pattern deny p/#\npattern p/%u/x\npattern write $SYS/%c\npattern %c/own",
    )
    .unwrap();
    assert_eq!(permits(&acl, None, "c", "public/x"), (true, false));
    assert_eq!(permits(&acl, Some("ada"), "c", "public/x"), (false, false), "not for users");
    assert_eq!(permits(&acl, Some("ada"), "c", "a/x"), (true, true));
    assert_eq!(permits(&acl, Some("ada"), "c", "a/secret"), (false, false));
    assert_eq!(permits(&acl, Some("ada"), "c", "p/mine"), (true, false), "before the pattern");
    assert_eq!(permits(&acl, Some("ada"), "c", "p/ada/x"), (false, false), "denied first");
    assert_eq!(permits(&acl, Some("eve"), "c", "c/own"), (true, true), "a user without a section");
    assert_eq!(permits(&acl, Some("eve"), "c", "$SYS/c"), (false, true));
    assert_eq!(permits(&acl, Some("eve"), "$SYS", "$SYS/own"), (false, false));
    for dangerous in ["a/b", "+", "#"] {
        assert_eq!(permits(&acl, Some("eve"), dangerous, "c/own"), (false, false));
        assert_eq!(permits(&acl, Some(dangerous), "c", "c/own"), (false, false));
        assert_eq!(permits(&acl, Some("ada"), dangerous, "a/x"), (true, true));
    }
}

#[test]
fn clients_with_the_same_rights_share_them() {
    let acl = Acl::parse(b"user ada\ntopic a\npattern b").unwrap();
    let [one, other] = ["one", "other"].map(|client| acl.rights_of(Some("ada"), client));
    assert!(Arc::ptr_eq(&one, &other));
    let [eve, bob] = ["eve", "bob"].map(|user| acl.rights_of(Some(user), "c"));
    assert!(Arc::ptr_eq(&eve, &bob) && eve.number() != one.number());
    let again = Acl::parse(b"# the same\nuser ada\ntopic a\npattern b").unwrap();
    assert!(again.is_same_as(&acl) && again.number() != acl.number());
    assert!(again.rights_of(None, "c").are_same_as(&acl.rights_of(None, "c")));
    assert!(!eve.are_same_as(&one));
    assert_eq!(again.general_patterns().collect::<Vec<_>>(), ["b"]);
}

#[test]
fn a_filter_that_takes_too_long_is_covered_partly() {
    use std::fmt::Write;
    let mut text = String::from("topic deny x\n");
    for nth in 0..2_000 {
        writeln!(text, "topic read a/{nth}").unwrap();
    }
    writeln!(text, "topic read a/+").unwrap();
    let acl = Acl::parse(text.as_bytes()).unwrap();
    let coverage =
        |filter| acl.rights_of(None, "c").coverage(TopicFilter::parse(filter).unwrap(), 0);
    assert_eq!(coverage("a/+"), Subscribable::Partly);
    assert_eq!(coverage("a/7"), Subscribable::Whole);
    assert_eq!(coverage("b/#"), Subscribable::No);
}
