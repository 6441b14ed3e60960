//! A file with one line for each user, `NAME:SECRET`. Comments, empty lines and the order of the
//! lines stay as they are.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

/// The lines of a file of users.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct UsersFile {
    lines: Vec<String>,
}

impl UsersFile {
    pub(super) fn read(path: &Path) -> Result<UsersFile> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        Ok(UsersFile::parse(&text))
    }

    fn parse(text: &str) -> UsersFile {
        UsersFile { lines: text.lines().map(str::to_owned).collect() }
    }

    /// Writes the line of a user. `is_it` says which secret it replaces.
    pub(super) fn set(&mut self, name: &str, secret: &str, is_it: impl Fn(&str) -> bool) {
        let line = format!("{name}:{secret}");
        let known = |line: &&mut String| {
            entry(line).is_some_and(|(user, secret)| user == name && is_it(secret))
        };
        match self.lines.iter_mut().find(known) {
            Some(known) => *known = line,
            None => self.lines.push(line),
        }
    }

    /// Removes all lines of a user. False: there is none.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        let before = self.lines.len();
        self.lines.retain(|line| entry(line).is_none_or(|(user, _)| user != name));
        self.lines.len() < before
    }

    /// Replaces each secret. An error names its line.
    pub(super) fn replace_all(
        &mut self,
        mut replace: impl FnMut(&str) -> Result<Option<String>>,
    ) -> Result<()> {
        for (number, line) in (1..).zip(&mut self.lines) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((name, secret)) = entry(line) else {
                bail!("line {number}: no `:` between user name and password");
            };
            if let Some(secret) = replace(secret)? {
                *line = format!("{name}:{secret}");
            }
        }
        Ok(())
    }

    /// Writes the file as a whole or not at all. A new file can be read by its owner only.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let mut text = self.lines.join("\n");
        text.push('\n');
        replace_file(path, &text).with_context(|| format!("{} cannot be written", path.display()))
    }
}

/// The user name and the secret of a line, if it is about a user.
fn entry(line: &str) -> Option<(&str, &str)> {
    line.split_once(':').filter(|(name, _)| !name.starts_with('#'))
}

fn replace_file(path: &Path, text: &str) -> io::Result<()> {
    // A link stays one, and its target is replaced.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut beside = path.clone().into_os_string();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let written = write_new(&beside, text, &path).and_then(|()| fs::rename(&beside, &path));
    if written.is_err() {
        // The file may not be there.
        drop(fs::remove_file(&beside));
    }
    written
}

/// With the owner and the mode of the file that it replaces.
fn write_new(beside: &Path, text: &str, old: &Path) -> io::Result<()> {
    drop(fs::remove_file(beside));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(beside)?;
    file.write_all(text.as_bytes())?;
    if let Ok(old) = File::open(old).and_then(|old| old.metadata()) {
        keep_owner(&file, &old)?;
        file.set_permissions(fs::Permissions::from_mode(old.permissions().mode() & 0o7777))?;
    }
    file.sync_all()
}

/// Only root can give a file to another user; for others the file is theirs afterwards.
fn keep_owner(file: &File, old: &fs::Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, fchown};
    let own = file.metadata()?;
    if (own.uid(), own.gid()) == (old.uid(), old.gid()) {
        return Ok(());
    }
    match fchown(file, Some(old.uid()), Some(old.gid())) {
        Err(error) if error.kind() != io::ErrorKind::PermissionDenied => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# users\nalice:1\n\nbob:2\nalice:x3\n";

    fn text(file: &UsersFile) -> String {
        file.lines.join("\n") + "\n"
    }

    #[test]
    fn a_user_is_set_and_removed_and_all_else_stays() {
        let mut file = UsersFile::parse(FILE);
        file.set("bob", "9", |_| true);
        file.set("carol", "8", |_| true);
        file.set("alice", "x7", |secret| secret.starts_with('x'));
        assert_eq!(text(&file), "# users\nalice:1\n\nbob:9\nalice:x7\ncarol:8\n");
        assert!(file.remove("alice") && !file.remove("alice") && !file.remove("# users"));
        assert_eq!(text(&file), "# users\n\nbob:9\ncarol:8\n");
    }

    #[test]
    fn all_secrets_are_replaced_or_the_line_is_named() {
        let mut file = UsersFile::parse(FILE);
        file.replace_all(|secret| Ok((secret != "2").then(|| format!("<{secret}>")))).unwrap();
        assert_eq!(text(&file), "# users\nalice:<1>\n\nbob:2\nalice:<x3>\n");
        let error = UsersFile::parse("a:1\nb\n").replace_all(|_| Ok(None)).unwrap_err();
        assert_eq!(error.to_string(), "line 2: no `:` between user name and password");
    }
}
