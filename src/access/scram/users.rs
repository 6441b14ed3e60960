//! The SCRAM file: user names and verifiers, and made-up verifiers for unknown names.
//!
//! A file is loaded as a whole or not at all, like a password file.

use std::{fs, io, path::Path};

use thiserror::Error;

use super::{
    Mechanism, Verifier,
    verifier::{ITERATIONS_MAX, ITERATIONS_MIN, SALT_BYTES_MAX},
};
use crate::access::passwords::lines_of;

/// The users of one SCRAM file. One user may have a line for each mechanism.
#[derive(Debug)]
pub struct ScramUsers {
    /// For each mechanism, sorted by name, each name once.
    users: [Vec<ScramEntry>; Mechanism::ALL.len()],
    /// The key for made-up verifiers. It is derived from the file, so that an unknown name keeps
    /// its salt when the broker restarts, as known names do.
    mock_key: Vec<u8>,
}

#[derive(Debug)]
struct ScramEntry {
    name: String,
    verifier: Verifier,
    /// The line of the file, counted from one.
    line: usize,
}

impl ScramUsers {
    pub fn read(path: &Path) -> Result<ScramUsers, ScramFileError> {
        ScramUsers::parse(&fs::read_to_string(path)?)
    }

    /// Keeps the made-up verifiers of the former file. Otherwise a client that asks before and
    /// after a reload would see a changed salt, and know that its name is not in the file.
    #[must_use]
    pub fn after(mut self, former: Option<&ScramUsers>) -> ScramUsers {
        if let Some(former) = former {
            self.mock_key.clone_from(&former.mock_key);
        }
        self
    }

    /// Parses lines of `user:verifier`. Empty lines and lines that begin with `#` are skipped.
    pub fn parse(text: &str) -> Result<ScramUsers, ScramFileError> {
        let mut users = [Vec::new(), Vec::new()];
        for (line, text) in lines_of(text) {
            let user = ScramEntry::parse(line, text)?;
            users[user.verifier.mechanism as usize].push(user);
        }
        for users in &mut users {
            users.sort_by(|one, other| one.name.cmp(&other.name));
            refuse_duplicates(users)?;
        }
        Ok(ScramUsers { users, mock_key: Mechanism::Sha512.hash(text.as_bytes()) })
    }

    /// Whether there is no user at all.
    pub fn is_empty(&self) -> bool {
        self.users.iter().all(Vec::is_empty)
    }

    /// How many lines name a user. A user may have one for each mechanism.
    pub fn len(&self) -> usize {
        self.users.iter().map(Vec::len).sum()
    }

    /// Whether anyone can authenticate by this mechanism.
    pub fn offer(&self, mechanism: Mechanism) -> bool {
        !self.users[mechanism as usize].is_empty()
    }

    /// The user's verifier or a made-up one, and whether the user exists. Takes the same time for
    /// both.
    pub(super) fn find(&self, mechanism: Mechanism, name: &str) -> (Verifier, bool) {
        let users = &self.users[mechanism as usize];
        let mock = self.mock(mechanism, name);
        match users.binary_search_by(|user| user.name.as_str().cmp(name)) {
            Ok(index) => (users[index].verifier.clone(), true),
            Err(_) => (mock, false),
        }
    }

    /// A made-up verifier that looks like those of the file, always the same for one name.
    fn mock(&self, mechanism: Mechanism, name: &str) -> Verifier {
        let label = mechanism.name().as_bytes();
        let make = |use_of: &[u8]| {
            Mechanism::Sha512.hmac(&self.mock_key, &[use_of, label, b":", name.as_bytes()])
        };
        let (choice, mut salt) = (make(b"model:"), make(b"salt:"));
        let choice = choice.iter().fold(0, |sum: usize, &byte| sum << 8 ^ usize::from(byte));
        let users = &self.users[mechanism as usize];
        let model = &users[choice % users.len()].verifier;
        salt.truncate(model.salt.len());
        let key = vec![0; mechanism.key_bytes()];
        Verifier { salt, stored_key: key.clone(), server_key: key, ..*model }
    }
}

impl ScramEntry {
    fn parse(line: usize, text: &str) -> Result<ScramEntry, ScramFileError> {
        let malformed = |problem| ScramFileError::Malformed { line, problem };
        let (name, verifier) =
            text.split_once(':').ok_or_else(|| malformed(ScramProblem::NoSeparator))?;
        if name.is_empty() {
            return Err(malformed(ScramProblem::EmptyName));
        }
        let verifier = Verifier::parse(verifier).map_err(malformed)?;
        Ok(ScramEntry { name: name.to_owned(), verifier, line })
    }
}

/// The users are sorted by name, and those of one name by line.
fn refuse_duplicates(users: &[ScramEntry]) -> Result<(), ScramFileError> {
    let duplicate = users.windows(2).find(|pair| pair[0].name == pair[1].name);
    duplicate.map_or(Ok(()), |pair| {
        let problem = ScramProblem::DuplicateUser(pair[0].line);
        Err(ScramFileError::Malformed { line: pair[1].line, problem })
    })
}

/// Why a SCRAM file is refused.
#[derive(Debug, Error)]
pub enum ScramFileError {
    #[error(transparent)]
    Unreadable(#[from] io::Error),
    #[error("line {line}: {problem}")]
    Malformed { line: usize, problem: ScramProblem },
}

/// What is wrong with a line of a SCRAM file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ScramProblem {
    #[error("no `:` between user name and verifier")]
    NoSeparator,
    #[error("the user name is empty")]
    EmptyName,
    #[error("the user has a line for this mechanism already: line {0}")]
    DuplicateUser(usize),
    #[error("the verifier does not begin with `SCRAM-SHA-256$` or `SCRAM-SHA-512$`")]
    UnknownMechanism,
    #[error("the iterations are not a number from {ITERATIONS_MIN} to {ITERATIONS_MAX}")]
    Iterations,
    #[error("the salt is missing or is not base64 of 1 to {SALT_BYTES_MAX} bytes")]
    Salt,
    #[error("the stored key is missing or is not base64 of as many bytes as the hash has")]
    StoredKey,
    #[error("the server key is missing or is not base64 of as many bytes as the hash has")]
    ServerKey,
}
