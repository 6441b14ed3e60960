//! The password file: user names and password hashes, as `mosquitto_passwd` writes them.
//!
//! A file is loaded as a whole or not at all. An invalid line is not skipped, because its user
//! would be locked out without any message.

use std::{fs, io, path::Path, sync::Arc};

use subtle::Choice;
use thiserror::Error;

use super::{
    Finding, Verification,
    hash::{HashProblem, PasswordHash},
};

/// The users of one password file.
#[derive(Debug)]
pub struct Passwords {
    /// Sorted by name, each name once.
    users: Vec<PasswordEntry>,
}

#[derive(Debug)]
struct PasswordEntry {
    name: String,
    hash: PasswordHash,
    /// The line of the file, counted from one.
    line: usize,
}

impl Passwords {
    pub fn read(path: &Path) -> Result<Passwords, PasswordFileError> {
        Passwords::parse(&fs::read_to_string(path)?)
    }

    /// Parses lines of `user:hash`. Empty lines and lines that begin with `#` are skipped.
    pub fn parse(text: &str) -> Result<Passwords, PasswordFileError> {
        let users: Result<Vec<PasswordEntry>, _> =
            lines_of(text).map(|(line, text)| PasswordEntry::parse(line, text)).collect();
        let mut users = users?;
        users.sort_by(|one, other| one.name.cmp(&other.name));
        refuse_duplicates(&users)?;
        Ok(Passwords { users })
    }

    /// The passwords of these users, each of which is there once.
    pub(super) fn of_hashes(hashes: impl Iterator<Item = (String, PasswordHash)>) -> Passwords {
        let users = (1..).zip(hashes);
        let mut users: Vec<PasswordEntry> =
            users.map(|(line, (name, hash))| PasswordEntry { name, hash, line }).collect();
        users.sort_by(|one, other| one.name.cmp(&other.name));
        Passwords { users }
    }

    /// Whether there is no user at all.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Whether this is the hash of a password, and not a password.
    pub fn is_hash(text: &str) -> bool {
        PasswordHash::parse(text).is_ok()
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Returns the check whether `user_name` is a user and `password` its password.
    ///
    /// The password of an unknown name is checked against the hash of another user, and always
    /// refused, so that the time of a check does not tell which names exist.
    pub fn verification(
        passwords: &Arc<Passwords>,
        user_name: &str,
        password: Option<&[u8]>,
    ) -> Verification {
        let (index, known) = (passwords.place_of(user_name), passwords.find(user_name).is_ok());
        let may_pass = Choice::from(u8::from(known && password.is_some()));
        let passwords = Arc::clone(passwords);
        let password = password.unwrap_or_default().to_vec();
        Box::new(move || {
            let user = passwords.users.get(index);
            let is_right = |user: &PasswordEntry| user.hash.verify(&password) & may_pass;
            Finding::from(user.is_some_and(|user| is_right(user).into()))
        })
    }

    /// The hash of the user's password.
    pub(super) fn hash_of(&self, user_name: &str) -> Option<&PasswordHash> {
        self.find(user_name).ok().map(|index| &self.users[index].hash)
    }

    /// The same. An unknown name gets the hash of another user, if there is any.
    pub(super) fn hash_for(&self, user_name: &str) -> Option<&PasswordHash> {
        self.users.get(self.place_of(user_name)).map(|user| &user.hash)
    }

    /// The place of the user in the list, or of another one.
    fn place_of(&self, user_name: &str) -> usize {
        let last = self.users.len().saturating_sub(1);
        self.find(user_name).unwrap_or_else(|index| index.min(last))
    }

    /// The place of the user in the list, or the place where it would be.
    fn find(&self, user_name: &str) -> Result<usize, usize> {
        self.users.binary_search_by(|user| user.name.as_str().cmp(user_name))
    }
}

impl PasswordEntry {
    fn parse(line: usize, text: &str) -> Result<PasswordEntry, PasswordFileError> {
        let malformed = |problem| PasswordFileError::Malformed { line, problem };
        let (name, hash) = text.split_once(':').ok_or_else(|| malformed(Problem::NoSeparator))?;
        if name.is_empty() {
            return Err(malformed(Problem::EmptyName));
        }
        let hash = PasswordHash::parse(hash).map_err(|problem| malformed(problem.into()))?;
        Ok(PasswordEntry { name: name.to_owned(), hash, line })
    }
}

/// The lines that are neither empty nor comments, with their numbers, counted from one. A byte
/// order mark at the beginning is ignored.
pub(super) fn lines_of(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = (1..).zip(text.lines().map(str::trim_end));
    lines.filter(|(_, text)| !text.is_empty() && !text.starts_with('#'))
}

/// The users are sorted by name, and those of one name by line.
fn refuse_duplicates(users: &[PasswordEntry]) -> Result<(), PasswordFileError> {
    let duplicate = users.windows(2).find(|pair| pair[0].name == pair[1].name);
    duplicate.map_or(Ok(()), |pair| {
        let problem = Problem::DuplicateUser(pair[0].line);
        Err(PasswordFileError::Malformed { line: pair[1].line, problem })
    })
}

/// Why a password file is refused.
#[derive(Debug, Error)]
pub enum PasswordFileError {
    #[error(transparent)]
    Unreadable(#[from] io::Error),
    #[error("line {line}: {problem}")]
    Malformed { line: usize, problem: Problem },
}

/// What is wrong with a line of a password file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Problem {
    #[error("no `:` between user name and password hash")]
    NoSeparator,
    #[error("the user name is empty")]
    EmptyName,
    #[error("the user has a line already: line {0}")]
    DuplicateUser(usize),
    #[error(transparent)]
    Hash(#[from] HashProblem),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by `mosquitto_passwd` 2.0.11; `carol` with `-H sha512`.
    const FILE: &str = "\
# The users of the test.
bob:$7$101$z3vPmHwfgL3RmTPI$\
    XHhjNk9DREyuCemT4wHhmVKIeCkHvY2Ysn6oG6H2UlbT+wk/hZOkiAApIAK0yl33qtDeLxOMGpGVE1JaZAokfg==
alice:$7$101$PxkC23maIR3STJZx$\
    WWEGb43HNXbS9iXF693jd7G6h0EPrnoWMNoi/SVtX584YaWxQ8xbiKQiYwnC4bBitImJS1+K6nAlFjiYcDg3DA==

carol:$6$DTxTM5BlXpl1pU9+$\
    NTLj2u+YK8NbfCvFIx/pd/ODGyP9KtDTEqegpPErKVSchaSprO89R/j8trebhB4HddoUXZBLSLPO5vk12ky8wQ==\r
";

    fn passes(user_name: &str, password: Option<&str>) -> bool {
        let passwords = Arc::new(Passwords::parse(FILE).unwrap());
        Passwords::verification(&passwords, user_name, password.map(str::as_bytes))()
            == Finding::Right
    }

    #[test]
    fn what_mosquitto_passwd_wrote_verifies() {
        assert!(passes("alice", Some("correct-horse")));
        assert!(passes("bob", Some("pässwort")));
        assert!(passes("carol", Some("old-style")));
    }

    #[test]
    fn a_wrong_password_or_none_or_an_unknown_name_is_refused() {
        assert!(!passes("alice", Some("correct-hors")));
        assert!(!passes("alice", Some("")));
        assert!(!passes("alice", None));
        assert!(!passes("carol", Some("correct-horse")));
        // Unknown names before, between and after the known ones, with a neighbour's password.
        assert!(!passes("", Some("correct-horse")));
        assert!(!passes("alic", Some("correct-horse")));
        assert!(!passes("bo", Some("pässwort")));
        assert!(!passes("zoe", Some("old-style")));
    }

    #[test]
    fn a_file_without_users_refuses_everyone() {
        let passwords = Arc::new(Passwords::parse("# nobody\n\n").unwrap());
        assert!(passwords.is_empty());
        assert_eq!(Passwords::verification(&passwords, "alice", Some(b""))(), Finding::Wrong);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_name() {
        let text = FILE.replace("# The users of the test.\n", "\u{feff}");
        let passwords = Arc::new(Passwords::parse(&text).unwrap());
        let check = Passwords::verification(&passwords, "bob", Some("pässwort".as_bytes()));
        assert_eq!(check(), Finding::Right);
        assert!(Passwords::parse("\u{feff}").unwrap().is_empty());
    }

    #[test]
    fn a_malformed_line_is_named_and_nothing_is_loaded() {
        let salt = "PxkC23maIR3STJZx";
        let hash = "WWEGb43HNXbS9iXF693jd7G6h0EPrnoWMNoi/SVtX584YaWxQ8xbiKQiYwnC4bBitImJS1+K6nAlFj\
                    iYcDg3DA==";
        for (line, expected) in [
            ("alice".to_owned(), Problem::NoSeparator),
            (format!(":$6${salt}${hash}"), Problem::EmptyName),
            (format!("bob:$6${salt}${hash}"), Problem::DuplicateUser(2)),
            ("dave:plain text".to_owned(), HashProblem::NotHashed.into()),
            ("dave:".to_owned(), HashProblem::NotHashed.into()),
            (format!("dave:$argon2i$v=19$m=1${salt}${hash}"), HashProblem::UnknownHash.into()),
            (format!("dave:$argon2id$v=19$m=1${salt}${hash}"), HashProblem::Cost.into()),
            (format!("dave:$7$0${salt}${hash}"), HashProblem::Iterations.into()),
            (format!("dave:$7$-1${salt}${hash}"), HashProblem::Iterations.into()),
            (format!("dave:$7$+1${salt}${hash}"), HashProblem::Iterations.into()),
            (format!("dave:$7$1000001${salt}${hash}"), HashProblem::Iterations.into()),
            (format!("dave:$7$99999999999${salt}${hash}"), HashProblem::Iterations.into()),
            ("dave:$7".to_owned(), HashProblem::Iterations.into()),
            (format!("dave:$7$101$${hash}"), HashProblem::Salt.into()),
            (format!("dave:$7$101$~${hash}"), HashProblem::Salt.into()),
            (format!("dave:$7$101${salt}"), HashProblem::Hash.into()),
            (format!("dave:$7$101${salt}${salt}"), HashProblem::Hash.into()),
            (format!("dave:$6${salt}${hash}$"), HashProblem::ExtraField.into()),
        ] {
            match Passwords::parse(&format!("{FILE}{line}\n")) {
                Err(PasswordFileError::Malformed { line: 6, problem }) => {
                    assert_eq!(problem, expected, "{line}");
                }
                other => panic!("{line}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_unreadable() {
        let outcome = Passwords::read(Path::new("/proc/self/there/is/no/such/file"));
        assert!(matches!(outcome, Err(PasswordFileError::Unreadable(_))));
    }
}
