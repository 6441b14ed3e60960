//! Completions of shells and man pages, made from the definitions of the flags.

use std::{io::Write, path::PathBuf};

use clap::{Arg, ArgMatches, Command, ValueEnum, builder::StyledStr, value_parser};
use clap_complete::{Generator, shells};
use clap_mangen::Man;

use super::flags::command_line;

/// A shell that can complete commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    /// The script that completes `ringmq` in this shell.
    pub fn completions(self) -> Vec<u8> {
        match self {
            Shell::Bash => generate(shells::Bash),
            Shell::Zsh => generate(shells::Zsh),
            Shell::Fish => generate(shells::Fish),
        }
    }
}

fn generate(shell: impl Generator) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command_line(), NAME, &mut script);
    script
}

/// A page of section 1 of the manual.
#[derive(Clone, Debug)]
pub struct ManPage {
    /// The name of its file.
    pub file: String,
    pub text: String,
}

/// A page for the command, and for each of its subcommands.
pub fn man_pages() -> Vec<ManPage> {
    let mut command = command_line().disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    add_pages(&command, &mut pages);
    pages
}

fn add_pages(command: &Command, pages: &mut Vec<ManPage>) {
    pages.push(page(command));
    for subcommand in command.get_subcommands().filter(|one| !one.is_hide_set()) {
        add_pages(subcommand, pages);
    }
}

fn page(command: &Command) -> ManPage {
    let name = command.get_display_name().unwrap_or(NAME).to_owned();
    let mut text = format!(".TH {} 1 \"\" \"ringmq {VERSION}\" \"ringmq\"\n", name.to_uppercase());
    text.push_str(&sections(command));
    if BROKERS.contains(&name.as_str()) {
        text.push_str(BROKER_SECTIONS);
    }
    ManPage { file: format!("{name}.1"), text }
}

/// What is made from the definitions alone.
fn sections(command: &Command) -> String {
    let man = Man::new(with_summary(command));
    let mut text = Vec::new();
    let rendered = man
        .render_name_section(&mut text)
        .and_then(|()| write!(text, ".SH SYNOPSIS\n{}", synopsis(command)))
        .and_then(|()| man.render_description_section(&mut text))
        .and_then(|()| man.render_options_section(&mut text));
    rendered.expect("a Vec takes all that is written to it");
    if command.get_subcommands().any(|one| !one.is_hide_set()) {
        man.render_subcommands_section(&mut text).expect("a Vec takes all that is written to it");
    }
    // In roff a backtick is an opening quotation mark.
    String::from_utf8(text).expect("a page is text").replace('`', "\\(ga")
}

/// The lines of usage that --help shows.
fn synopsis(command: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").replace('-', "\\-");
    let lines: Vec<&str> = usage.lines().map(str::trim).collect();
    format!("{}\n", lines.join("\n.br\n"))
}

/// The line of a page's name has the first sentence only.
fn with_summary(command: &Command) -> Command {
    let text = |part: Option<&StyledStr>| part.map(ToString::to_string).unwrap_or_default();
    let about = text(command.get_about());
    let summary = about.split(". ").next().unwrap_or_default().trim_end_matches('.').to_owned();
    let about = format!("{}.\n\n{}", about.trim_end_matches('.'), text(command.get_after_help()));
    command.clone().about(summary).long_about(about.trim_end().to_owned())
}

/// `ringmq man DIR`, which packages are made with.
pub(super) fn man_command() -> Command {
    Command::new(MAN)
        .hide(true)
        .about("Writes the man pages to a directory")
        .arg(Arg::new(DIR).value_name("DIR").value_parser(value_parser!(PathBuf)).required(true))
}

/// The directory of `ringmq man`.
pub(super) fn man_directory(matches: &ArgMatches) -> PathBuf {
    matches.get_one(DIR).cloned().expect("clap requires it")
}

const NAME: &str = "ringmq";
const VERSION: &str = env!("CARGO_PKG_VERSION");
pub(super) const MAN: &str = "man";
const DIR: &str = "dir";
/// The pages of commands that run a broker.
const BROKERS: [&str; 2] = ["ringmq", "ringmq-run"];
const BROKER_SECTIONS: &str = "\
.SH SIGNALS
.TP
\\fBSIGTERM\\fR, \\fBSIGINT\\fR
The broker stops in order, within \\fB\\-\\-stop\\-timeout\\fR. A second one ends it at once.
.TP
\\fBSIGHUP\\fR
The broker reads its configuration and all files that it names again. Connections stay. If \\
anything is wrong, all stays as it was, and the log says why.
.SH \"EXIT STATUS\"
.TP
\\fB0\\fR
The broker was told to stop.
.TP
\\fB1\\fR
The machine or a file does not let it run.
.TP
\\fB2\\fR
A flag, a variable or a key of the configuration file is wrong.
.SH FILES
.TP
\\fI/etc/ringmq/ringmq.toml\\fR
The configuration of the service \\fBringmq.service\\fR.
.TP
\\fI/var/lib/ringmq\\fR
What its sessions and retained messages are kept in.
.SH \"SEE ALSO\"
\\fBmosquitto_pub\\fR(1), \\fBmosquitto_sub\\fR(1), \\fBsystemctl\\fR(1)
";
