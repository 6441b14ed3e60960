//! The settings in force, in words, each with where it comes from.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
};

use clap::Command;

use super::{keys::Key, source::Values};

/// One setting that is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The table of the configuration file.
    pub section: String,
    pub key: String,
    /// None if there is neither a value nor a fixed default.
    pub values: Vec<String>,
    /// `flag`, `environment`, `file` or `default`.
    pub source: &'static str,
}

/// Where each value that was given comes from, by its place in the list of keys.
pub(super) type Sources = BTreeMap<usize, &'static str>;

/// All settings, in the order of the keys.
pub(super) fn settings(
    command: &Command,
    keys: &[Key],
    values: &Values,
    sources: &Sources,
) -> Vec<Setting> {
    let setting = |(place, key): (usize, &Key)| {
        let given = values.get(&place).map(|values| words(values.iter().map(OsString::as_os_str)));
        Setting {
            section: key.section.clone(),
            key: key.flag.clone(),
            values: given.unwrap_or_else(|| default(command, key)),
            source: sources.get(&place).copied().unwrap_or("default"),
        }
    };
    keys.iter().enumerate().map(setting).collect()
}

fn default(command: &Command, key: &Key) -> Vec<String> {
    let argument = command.get_arguments().find(|argument| *argument.get_id() == *key.id);
    argument.map_or_else(Vec::new, |argument| {
        words(argument.get_default_values().iter().map(OsStr::new))
    })
}

fn words<'a>(values: impl Iterator<Item = &'a OsStr>) -> Vec<String> {
    values.map(|value| value.to_string_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use crate::config::tests::accepted;

    #[test]
    fn each_setting_says_where_it_comes_from() {
        let settings = accepted("--max-queued 7 --listen 1 --listen 2").settings;
        let find = |key: &str| {
            let setting = settings.iter().find(|setting| setting.key == key).unwrap();
            (setting.section.as_str(), setting.values.join(" "), setting.source)
        };
        assert_eq!(find("max-queued"), ("limits", "7".to_owned(), "flag"));
        assert_eq!(find("listen"), ("network", "1 2".to_owned(), "flag"));
        assert_eq!(find("max-inflight"), ("limits", "64".to_owned(), "default"));
        assert_eq!(find("data-dir"), ("store", String::new(), "default"));
    }
}
