//! The man pages and the completions, as a package gets them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

/// A page for each name of a command.
fn pages(directory: &str) -> BTreeMap<String, String> {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(directory);
    drop(fs::remove_dir_all(&directory));
    printed(ringmq(&["man", directory.to_str().unwrap()]));
    let entries = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap());
    let page = |path: PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        (name.strip_suffix(".1").unwrap().to_owned(), fs::read_to_string(path).unwrap())
    };
    entries.map(|entry| page(entry.path())).collect()
}

fn ringmq(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringmq"));
    command.args(arguments);
    command
}

/// What a command prints. It has to succeed and to complain about nothing.
fn printed(mut command: Command) -> String {
    let output = command.output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{command:?}: {complaints}");
    String::from_utf8(output.stdout).unwrap()
}

/// The answer of a program that reads a script, or `None` if this machine has no such program.
fn fed(program: &str, arguments: &[&str], script: &str) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().ok()?;
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{program}: {complaints}");
    Some(String::from_utf8(output.stdout).unwrap())
}

/// The flags and arguments that --help lists, and the subcommands.
struct Help {
    flags: BTreeSet<String>,
    subcommands: BTreeSet<String>,
}

impl Help {
    fn of(words: &[&str]) -> Help {
        let text = printed(ringmq(&[words, &["--help"]].concat()));
        // Further right stand the words that explain a flag.
        let is_flag = |line: &&str| line.starts_with("  -") || line.starts_with("      -");
        let flags = text.lines().filter(is_flag);
        let flags = flags.map(str::trim_start).flat_map(|line| {
            let names = line.split([' ', ',', '[']).take_while(|word| !word.starts_with('<'));
            names.filter(|word| word.starts_with('-')).map(str::to_owned).collect::<Vec<_>>()
        });
        let commands = text.lines().skip_while(|line| *line != "Commands:").skip(1);
        let commands = commands.take_while(|line| !line.is_empty());
        let names = commands.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        let subcommands = names.filter_map(|line| line.split_whitespace().next());
        let subcommands = subcommands.filter(|name| *name != "help").map(str::to_owned).collect();
        Help { flags: flags.collect(), subcommands }
    }
}

#[test]
fn each_command_has_a_page_that_names_all_its_flags_and_subcommands() {
    let pages = pages("man-flags");
    let mut open = vec![vec!["ringmq".to_owned()]];
    let mut seen = BTreeSet::new();
    let mut flags_seen = 0;
    while let Some(words) = open.pop() {
        let name = words.join("-");
        let page = pages.get(&name).unwrap_or_else(|| panic!("there is no page {name}"));
        let page = page.replace("\\-", "-");
        let arguments: Vec<&str> = words[1..].iter().map(String::as_str).collect();
        let help = Help::of(&arguments);
        for flag in &help.flags {
            assert!(page.contains(&format!("\\fB{flag}\\fR")), "{name}(1) does not name {flag}");
        }
        for subcommand in help.subcommands {
            assert!(page.contains(&format!("{name}-{subcommand}(1)")), "{name} {subcommand}");
            open.push([&words[..], &[subcommand]].concat());
        }
        flags_seen += help.flags.len();
        seen.insert(name);
    }
    assert_eq!(seen, pages.keys().cloned().collect(), "a page is of no command");
    assert!(flags_seen > 100 && seen.len() > 10, "the help is not read as it is: {flags_seen}");
}

#[test]
fn troff_finds_nothing_wrong_with_a_page() {
    for (name, page) in pages("man-troff") {
        let shown = fed("groff", &["-man", "-ww", "-Tutf8", "-P-cbou"], &page);
        let shown = shown.unwrap_or_else(|| panic!("this test needs groff"));
        assert!(shown.contains("SYNOPSIS") && shown.contains("DESCRIPTION"), "{name}: {shown}");
    }
}

#[test]
fn a_bad_page_is_noticed() {
    let outcome = std::panic::catch_unwind(|| fed("groff", &["-man", "-ww", "-z"], ".nonsense\n"));
    assert!(outcome.is_err());
}

#[test]
fn bash_completes_subcommands_flags_and_values() {
    let script = printed(ringmq(&["completions", "bash"]));
    for (words, expected) in [
        ("ringmq comp", "completions"),
        ("ringmq --data-", "--data-dir"),
        ("ringmq kick --a", "--at"),
        ("ringmq store ba", "backup"),
        ("ringmq --log-format j", "json"),
    ] {
        let last = words.split(' ').count() - 1;
        let asked = format!(
            "{script}\nCOMP_WORDS=({words})\nCOMP_CWORD={last}\n\
             _ringmq ringmq \"${{COMP_WORDS[{last}]}}\" \"${{COMP_WORDS[{last}-1]}}\"\n\
             printf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
        );
        assert_eq!(fed("bash", &["--norc"], &asked).unwrap().trim(), expected, "{words}");
    }
}

/// Those of them that this machine has.
#[test]
fn other_shells_can_read_their_completions() {
    for shell in ["zsh", "fish"] {
        let script = printed(ringmq(&["completions", shell]));
        assert!(script.contains("data-dir") && script.contains("kick"), "{script}");
        fed(shell, &["-n"], &script);
    }
}
