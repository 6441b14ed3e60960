//! The keys of the configuration file and the variables of the environment. They are made from the
//! flags, so that a flag, its key and its variable cannot differ.

use std::{any::TypeId, path::PathBuf};

use clap::{Arg, ArgAction, Command, ValueHint};

/// A flag, as a key of the configuration file.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// What clap calls it.
    pub(super) id: String,
    /// The long name of the flag, without dashes before it. The key is the same.
    pub(super) flag: String,
    /// The table of the file: the heading of the flag in the help.
    pub(super) section: String,
    pub(super) takes: Takes,
    /// Its value is the path of a file.
    pub(super) is_path: bool,
}

/// What stands behind a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// `true` or `false`.
    Switch,
    OneValue,
    /// One value or an array.
    Values,
}

impl Key {
    /// All keys, in the order of the help.
    pub(super) fn all(command: &Command) -> Vec<Key> {
        let arguments = command.get_arguments().filter(|argument| argument.get_id() != FILE_FLAG);
        arguments.filter_map(Key::of).collect()
    }

    fn of(argument: &Arg) -> Option<Key> {
        let values = argument.get_value_parser().type_id();
        let takes = match argument.get_action() {
            ArgAction::Append => Takes::Values,
            _ if values == TypeId::of::<bool>() => Takes::Switch,
            _ => Takes::OneValue,
        };
        Some(Key {
            id: argument.get_id().to_string(),
            flag: argument.get_long()?.to_owned(),
            section: section(argument.get_help_heading()?),
            takes,
            is_path: values == TypeId::of::<PathBuf>(),
        })
    }

    /// The variable of the environment.
    pub(super) fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.flag.to_uppercase().replace('-', "_"))
    }

    /// Whether it makes listeners for MQTT.
    pub(super) fn makes_listeners(&self) -> bool {
        self.flag == "listen" || (self.flag.starts_with("listen-") && self.flag != "listen-http")
    }
}

/// The table of a heading.
pub(super) fn section(heading: &str) -> String {
    heading.to_lowercase().replace(' ', "-")
}

/// Lets a flag without a value be set to false as well, over a variable or a file that sets it.
pub(super) fn with_switches(command: Command) -> Command {
    command.mut_args(|argument| {
        if !matches!(argument.get_action(), ArgAction::SetTrue) {
            return argument;
        }
        let switch = argument.action(ArgAction::Set).num_args(0..=1).require_equals(true);
        let switch = switch.default_value("false").default_missing_value("true");
        switch
            .value_name("true|false")
            .value_hint(ValueHint::Other)
            .hide_default_value(true)
            .hide_possible_values(true)
    })
}

/// The known word that a wrong one is nearest to, if it is near.
pub(super) fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distances = known.map(|word| (distance(wrong, word), word));
    let (distance, word) = distances.min_by_key(|&(distance, _)| distance)?;
    (distance <= wrong.len().max(word.len()) / 3).then_some(word)
}

/// Letters to add, remove or replace to make one of the words the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in (1..).zip(one.chars().take(WORD_MAX)) {
        let mut diagonal = row[0];
        row[0] = line;
        for (column, &wanted) in (1..).zip(&other) {
            let replaced = diagonal + usize::from(letter != wanted);
            diagonal = row[column];
            row[column] = replaced.min(row[column] + 1).min(row[column - 1] + 1);
        }
    }
    row[other.len()]
}

/// The flag that names the configuration file.
pub(super) const FILE_FLAG: &str = "config";
pub(super) const VARIABLE_PREFIX: &str = "RINGMQ_";
/// Letters of a wrong word that are looked at.
const WORD_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_levenshtein() {
        for (one, other, expected) in
            [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("ab", "ba", 2), ("ä", "a", 1)]
        {
            assert_eq!(distance(one, other), expected, "{one} {other}");
            assert_eq!(distance(other, one), expected, "{other} {one}");
        }
    }

    #[test]
    fn a_word_is_suggested_if_it_is_near() {
        let known = || ["max-queued", "max-queued-bytes", "listen"].into_iter();
        assert_eq!(nearest("max-queue", known()), Some("max-queued"));
        assert_eq!(nearest("max_queued_bytes", known()), Some("max-queued-bytes"));
        assert_eq!(nearest("listener", known()), Some("listen"));
        assert_eq!(nearest("retain", known()), None);
        assert_eq!(nearest("", known()), None);
    }
}
