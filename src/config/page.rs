//! The pages about the configuration, made from the flags: `docs/configuration.md` and the default
//! file for packages. `UPDATE_EXPECT=1 cargo test --lib config::page` writes both.

use std::{env, fmt::Write, fs, path::Path};

use clap::{Arg, Command};

use super::{
    check_text,
    flags::broker_flags,
    keys::{Key, Takes},
    listener::listener_flags,
};

#[test]
fn the_page_of_the_documentation_has_all_keys() {
    let intro = include_str!("page.md");
    assert_written(
        "docs/configuration.md",
        &format!("{intro}{}{LISTENERS}{}", tables(&broker_flags()), rows(&listener_flags())),
    );
}

#[test]
fn the_default_file_has_all_keys() {
    assert_written("packaging/ringmq.toml", &default_file(&broker_flags()));
}

#[test]
fn the_default_file_says_the_defaults() {
    let file = default_file(&broker_flags());
    let is_key = |line: &str| line.starts_with('#') && !line.starts_with("# ");
    let has_default = |line: &&str| !is_key(line) || !line.contains('<');
    let lines: Vec<&str> = file.lines().filter(has_default).collect();
    let defaults: String = lines
        .iter()
        .map(|line| if is_key(line) { format!("{}\n", &line[1..]) } else { format!("{line}\n") })
        .collect();
    assert_eq!(check_text(&file), Ok(()));
    assert_eq!(check_text(&defaults), Ok(()), "{defaults}");
    let command = broker_flags();
    let values = super::source::parse_file(&defaults, Path::new(""), &command).unwrap();
    for (place, key) in Key::all(&command).iter().enumerate() {
        let default = argument(&command, key).get_default_values();
        let values = &values.values;
        assert_eq!(values.get(&place).map_or(&[][..], Vec::as_slice), default, "{}", key.flag);
    }
}

/// Compares with a file of the repository, or writes it.
fn assert_written(path: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, expected).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let command = "UPDATE_EXPECT=1 cargo test --lib config::page";
    assert!(written == expected, "{} is not as the flags say: run {command}", path.display());
}

fn argument<'a>(command: &'a Command, key: &Key) -> &'a Arg {
    command.get_arguments().find(|argument| *argument.get_id() == *key.id).unwrap()
}

fn help(argument: &Arg) -> String {
    argument.get_help().unwrap().to_string()
}

fn value_name(argument: &Arg) -> String {
    let names = argument.get_value_names().unwrap_or_default();
    names.iter().map(clap::builder::Str::as_str).collect()
}

/// The default as TOML, if there is one.
fn default(argument: &Arg) -> Option<String> {
    let value = argument.get_default_values().first()?.to_str().unwrap();
    let bare = value == "false" || value.parse::<u64>().is_ok();
    Some(if bare { value.to_owned() } else { format!("{value:?}") })
}

/// One table of the page for each table of the file.
fn tables(command: &Command) -> String {
    let mut page = String::new();
    let mut section = String::new();
    for key in Key::all(command) {
        if key.section != section {
            section.clone_from(&key.section);
            writeln!(page, "\n## `[{section}]`\n\n{HEAD}").unwrap();
        }
        page.push_str(&row(command, &key));
    }
    page
}

fn rows(command: &Command) -> String {
    Key::all(command).iter().map(|key| row(command, key)).collect()
}

fn row(command: &Command, key: &Key) -> String {
    let argument = argument(command, key);
    let name = match key.takes {
        Takes::Values => format!("array of {}", value_name(argument)),
        _ => value_name(argument),
    };
    let default = default(argument).map(|value| format!("`{value}`")).unwrap_or_default();
    let cells = [name, default, help(argument)].map(|cell| cell.replace('|', "\\|"));
    format!("| `{}` | {} |\n", key.flag, cells.join(" | "))
}

fn default_file(command: &Command) -> String {
    let mut file = String::from(include_str!("page.toml"));
    let mut section = String::new();
    for key in Key::all(command) {
        if key.section != section {
            section.clone_from(&key.section);
            writeln!(file, "\n[{section}]").unwrap();
        }
        let argument = argument(command, &key);
        let example = match key.takes {
            Takes::Values => format!("[\"<{}>\"]", value_name(argument)),
            _ => format!("\"<{}>\"", value_name(argument)),
        };
        let value = default(argument).unwrap_or(example);
        writeln!(file, "\n{}#{} = {value}", comment(&help(argument)), key.flag).unwrap();
    }
    file
}

/// The lines of a comment.
fn comment(text: &str) -> String {
    let mut lines = String::from("#");
    let mut columns = 1;
    for word in text.split_whitespace() {
        if columns + 1 + word.len() > COLUMNS {
            lines.push_str("\n#");
            columns = 1;
        }
        write!(lines, " {word}").unwrap();
        columns += 1 + word.len();
    }
    lines + "\n"
}

const COLUMNS: usize = 100;
const HEAD: &str = "| key | value | default | meaning |\n|---|---|---|---|";
const LISTENERS: &str = "\n## `[[listener]]`\n\n\
    One table for each listener that has settings of its own. It comes to those of `[network]`.\n\n\
    | key | value | default | meaning |\n|---|---|---|---|\n";
