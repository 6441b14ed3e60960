//! Asks for a password.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::{Context, Result, bail};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// A password from the terminal, typed twice and not shown; or else the first line of the input.
pub(super) fn password() -> Result<String> {
    if !io::stdin().is_terminal() {
        return line().context("no password on standard input");
    }
    let quiet = Quiet::begin()?;
    let first = ask("Password: ")?;
    let second = ask("Password again: ")?;
    drop(quiet);
    if first != second {
        bail!("the two passwords differ");
    }
    Ok(first)
}

fn ask(words: &str) -> Result<String> {
    eprint!("{words}");
    io::stderr().flush()?;
    let answer = line();
    eprintln!();
    answer
}

fn line() -> Result<String> {
    let mut line = String::new();
    if io::stdin().lock().read_line(&mut line)? == 0 {
        bail!("the input has ended");
    }
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// The terminal does not show what is typed, until this is dropped.
struct Quiet(Termios);

impl Quiet {
    fn begin() -> Result<Quiet> {
        let usual = tcgetattr(io::stdin())?;
        let mut quiet = usual.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Quiet(usual))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // Nothing is left to do about a terminal that has gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}
