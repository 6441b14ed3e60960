//! What an `acl_file` allows, as mosquitto reads it: a list of rules, walked.

use super::matching::matches;

/// Whether a client may `read` or `write` a topic.
pub(crate) fn may(
    text: &str,
    (user, client_id): (Option<&str>, &str),
    wanted: &str,
    topic: &str,
) -> bool {
    let (own, patterns) = rules(text, user);
    if let Some(verdict) = verdict(&own, wanted, topic) {
        return verdict;
    }
    let is_dangerous = |name: &str| name.contains(['+', '#', '/']);
    if is_dangerous(client_id) || user.is_some_and(is_dangerous) {
        return false;
    }
    let mut bound = Vec::new();
    for (access, pattern) in patterns {
        let filter = match user {
            None if pattern.contains("%u") => continue,
            // No placeholder in a name is replaced.
            _ => pattern.replace("%c", "\u{1}").replace("%u", user.unwrap_or_default()),
        };
        let filter = filter.replace('\u{1}', client_id);
        if !filter.starts_with('$') || pattern.starts_with('$') {
            bound.push((access, filter));
        }
    }
    verdict(&bound, wanted, topic).unwrap_or(false)
}

/// An access and a filter.
type Rule = (String, String);

/// The rules of a user, and the patterns.
fn rules(text: &str, user: Option<&str>) -> (Vec<Rule>, Vec<Rule>) {
    let (mut own, mut patterns, mut section) = (Vec::new(), Vec::new(), None);
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
        let rule = |words: &[&str]| match words {
            [access, topic @ ..] if !topic.is_empty() => ((*access).to_owned(), topic.join(" ")),
            _ => ("readwrite".to_owned(), words.concat()),
        };
        match words.as_slice() {
            ["user", name @ ..] => section = Some(name.join(" ")),
            ["topic", words @ ..] if section.as_deref() == user => own.push(rule(words)),
            ["pattern", words @ ..] => patterns.push(rule(words)),
            _ => {}
        }
    }
    (own, patterns)
}

/// What the first rules that match say: a denial before a grant.
fn verdict(rules: &[Rule], wanted: &str, topic: &str) -> Option<bool> {
    let mut matching = rules.iter().filter(|(_, filter)| matches(filter, topic));
    let grants = |access: &str| access == wanted || access == "readwrite";
    if matching.clone().any(|(access, _)| access == "deny") {
        return Some(false);
    }
    matching.any(|(access, _)| grants(access)).then_some(true)
}
