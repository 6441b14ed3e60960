//! The text of an `acl_file`: its lines, and what is wrong with one.
//!
//! A file is taken as a whole or not at all. Only spaces separate words, as in mosquitto.

use std::{borrow::Cow, collections::BTreeMap, io};

use thiserror::Error;

use crate::topic::{TopicError, TopicFilter};

/// What a rule says about the topics that its filter matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
    ReadWrite,
    Deny,
}

/// One line with a Topic Filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) access: Access,
    filter: Box<str>,
}

/// The rules of one file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Rules {
    pub(super) anonymous: Vec<Rule>,
    pub(super) users: BTreeMap<Box<str>, Vec<Rule>>,
    pub(super) patterns: Vec<Rule>,
}

/// Why an ACL file is refused.
#[derive(Debug, Error)]
pub enum AclFileError {
    #[error(transparent)]
    Unreadable(#[from] io::Error),
    #[error("line {line}: {problem}")]
    Malformed { line: usize, problem: AclProblem },
}

/// What is wrong with a line of an ACL file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AclProblem {
    #[error("the line is not UTF-8 text")]
    NotText,
    #[error("a line begins with `user`, `topic`, `pattern` or `#`")]
    UnknownWord,
    #[error("`user` is followed by a user name")]
    NoUserName,
    #[error("`topic` and `pattern` are followed by a topic")]
    NoTopic,
    #[error("access is `read`, `write`, `readwrite` or `deny`, and a topic follows it")]
    UnknownAccess,
    #[error(transparent)]
    Topic(TopicError),
    #[error("a topic has at most {} levels", LEVELS_MAX)]
    TooDeep,
}

/// Levels of a Topic Filter in the file, as in mosquitto.
pub(super) const LEVELS_MAX: usize = 200;

/// One line that says something.
enum Line<'a> {
    User(&'a str),
    Topic(Rule),
    Pattern(Rule),
}

impl Rules {
    pub(super) fn parse(text: &[u8]) -> Result<Rules, AclFileError> {
        let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
        let mut rules = Rules::default();
        let mut user: Option<Box<str>> = None;
        for (number, line) in (1..).zip(text.split(|&byte| byte == b'\n')) {
            let malformed = |problem| AclFileError::Malformed { line: number, problem };
            match Line::parse(line).map_err(malformed)? {
                Some(Line::User(name)) => user = Some(name.into()),
                Some(Line::Topic(rule)) => rules.section(user.as_deref()).push(rule),
                Some(Line::Pattern(rule)) => rules.patterns.push(rule),
                None => {}
            }
        }
        Ok(rules)
    }

    /// The rules of a user, or of anonymous clients. A user may have several sections.
    fn section(&mut self, user: Option<&str>) -> &mut Vec<Rule> {
        match user {
            None => &mut self.anonymous,
            Some(name) => self.users.entry(name.into()).or_default(),
        }
    }

    pub(super) fn of(&self, user_name: Option<&str>) -> &[Rule] {
        match user_name {
            None => &self.anonymous,
            Some(name) => self.users.get(name).map_or(&[], Vec::as_slice),
        }
    }
}

impl Line<'_> {
    fn parse(bytes: &[u8]) -> Result<Option<Line<'_>>, AclProblem> {
        let text =
            str::from_utf8(bytes).map_err(|_| AclProblem::NotText)?.trim_end_matches(is_blank);
        if text.starts_with('#') {
            return Ok(None);
        }
        let (word, rest) = next_word(text);
        let rest = rest.trim_matches(is_blank);
        match word {
            "" => Ok(None),
            "user" if rest.is_empty() => Err(AclProblem::NoUserName),
            "user" => Ok(Some(Line::User(rest))),
            "topic" => Rule::parse(rest).map(|rule| Some(Line::Topic(rule))),
            "pattern" => Rule::parse(rest).map(|rule| Some(Line::Pattern(rule))),
            _ => Err(AclProblem::UnknownWord),
        }
    }
}

impl Rule {
    /// Parses what follows the first word. A single word is a topic, whatever it is.
    fn parse(text: &str) -> Result<Rule, AclProblem> {
        let (word, rest) = next_word(text);
        let rest = rest.trim_matches(is_blank);
        let (access, filter) = match word {
            "" => return Err(AclProblem::NoTopic),
            _ if rest.is_empty() => (Access::ReadWrite, word),
            "read" => (Access::Read, rest),
            "write" => (Access::Write, rest),
            "readwrite" => (Access::ReadWrite, rest),
            "deny" => (Access::Deny, rest),
            _ => return Err(AclProblem::UnknownAccess),
        };
        let levels = TopicFilter::parse(filter).map_err(AclProblem::Topic)?.level_count();
        if levels > LEVELS_MAX {
            return Err(AclProblem::TooDeep);
        }
        Ok(Rule { access, filter: filter.into() })
    }

    pub(super) fn filter(&self) -> &str {
        &self.filter
    }

    pub(super) fn names_client(&self) -> bool {
        self.filter.contains("%c")
    }

    pub(super) fn names_user(&self) -> bool {
        self.filter.contains("%u")
    }

    /// The filter of a pattern with these names in the places of `%u` and `%c`; `None` if it needs
    /// a user and there is none.
    pub(super) fn filter_for(
        &self,
        user_name: Option<&str>,
        client_id: &str,
    ) -> Option<Cow<'_, str>> {
        if !self.names_user() && !self.names_client() {
            return Some(Cow::Borrowed(&self.filter));
        }
        let (mut filter, mut rest) = (String::new(), &*self.filter);
        while let Some(at) = rest.find('%') {
            let name = match rest.as_bytes().get(at + 1) {
                Some(b'c') => Some(client_id),
                Some(b'u') => Some(user_name?),
                _ => None,
            };
            filter.push_str(&rest[..at]);
            filter.push_str(name.unwrap_or("%"));
            rest = &rest[at + if name.is_some() { 2 } else { 1 }..];
        }
        filter.push_str(rest);
        Some(Cow::Owned(filter))
    }
}

/// The first word, without the spaces before it, and what follows it.
fn next_word(text: &str) -> (&str, &str) {
    let text = text.trim_start_matches(' ');
    text.split_once(' ').unwrap_or((text, ""))
}

/// What C's `isspace` takes for a space.
fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t'..='\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Rules {
        Rules::parse(text.as_bytes()).unwrap()
    }

    fn rule(access: Access, filter: &str) -> Rule {
        Rule { access, filter: filter.into() }
    }

    #[test]
    fn lines_mean_what_they_mean_to_mosquitto() {
        let rules = parse(
            "\u{feff}# a comment\r\ntopic read a/#\r\n\r\n  topic  write  b c \n\
             user  ada lovelace \ntopic d\ntopic deny\ntopic deny e\npattern readwrite f/%u\n\
             user bob\nuser ada lovelace\ntopic read g",
        );
        let anonymous = [rule(Access::Read, "a/#"), rule(Access::Write, "b c")];
        assert_eq!(rules.anonymous, anonymous);
        let ada = [
            rule(Access::ReadWrite, "d"),
            rule(Access::ReadWrite, "deny"),
            rule(Access::Deny, "e"),
            rule(Access::Read, "g"),
        ];
        assert_eq!(rules.of(Some("ada lovelace")), ada);
        assert_eq!(rules.patterns, [rule(Access::ReadWrite, "f/%u")]);
        assert!(rules.of(Some("bob")).is_empty() && rules.of(Some("eve")).is_empty());
    }

    #[test]
    fn a_line_that_means_nothing_is_told_with_its_number() {
        let deep = format!("topic {}a", "a/".repeat(LEVELS_MAX));
        for (line, expected) in [
            ("topics a", AclProblem::UnknownWord),
            (" # a comment begins the line", AclProblem::UnknownWord),
            ("topic\tread\ta", AclProblem::UnknownWord),
            ("user", AclProblem::NoUserName),
            ("topic ", AclProblem::NoTopic),
            ("pattern", AclProblem::NoTopic),
            ("topic reed a", AclProblem::UnknownAccess),
            ("topic read\ta", AclProblem::Topic(TopicError::DisallowedCodePoint)),
            ("topic a#", AclProblem::Topic(TopicError::MisplacedMultiLevelWildcard)),
            ("pattern read +%c/a", AclProblem::Topic(TopicError::MisplacedSingleLevelWildcard)),
            (&deep, AclProblem::TooDeep),
        ] {
            let text = format!("topic a\n\n{line}\ntopic b");
            match Rules::parse(text.as_bytes()) {
                Err(AclFileError::Malformed { line: 3, problem }) => assert_eq!(problem, expected),
                other => panic!("{line}: {other:?}"),
            }
        }
        let error = Rules::parse(b"user a\ntopic \xFF").unwrap_err();
        assert_eq!(error.to_string(), "line 2: the line is not UTF-8 text");
    }

    #[test]
    fn patterns_take_the_names_of_a_client() {
        let filter = |pattern, user| {
            let rule = rule(Access::Read, pattern);
            rule.filter_for(user, "one").map(Cow::into_owned)
        };
        assert_eq!(filter("%u/a%c/%%c/%x%", Some("ada")).unwrap(), "ada/aone/%one/%x%");
        assert_eq!(filter("a/%c", None).unwrap(), "a/one");
        assert_eq!(filter("a/%u", None), None);
        assert_eq!(filter("a/b", None).unwrap(), "a/b");
    }
}
