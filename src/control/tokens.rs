//! The file of tokens: who may read, and who may change something.

use std::path::Path;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use thiserror::Error;

use super::own_files::{OwnFileFault, lines_of, read_own};

/// What the bearer of a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// Look at everything.
    Reader,
    /// Change something, too.
    Admin,
}

/// The tokens of a file. Their hashes alone are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens(Vec<Token>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    role: Role,
    hash: [u8; 32],
    /// The line of the file, counted from one.
    line: u16,
}

/// Who has shown a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bearer {
    pub(super) role: Role,
    /// The line of the token in the file, counted from one.
    pub(super) line: u16,
}

/// What is wrong with a file of tokens.
#[derive(Debug, Error)]
pub enum TokenFault {
    #[error(transparent)]
    File(#[from] OwnFileFault),
    #[error("line {line}: {problem}")]
    Line { line: usize, problem: &'static str },
    #[error("it has no token")]
    Empty,
}

impl Tokens {
    pub fn read(path: &Path) -> Result<Tokens, TokenFault> {
        Tokens::parse(&read_own(path)?)
    }

    #[cfg(test)]
    pub(super) fn of(text: &str) -> Tokens {
        Tokens::parse(text).expect("a valid file")
    }

    fn parse(text: &str) -> Result<Tokens, TokenFault> {
        let mut tokens = Vec::new();
        for (line, text) in lines_of(text) {
            let token = Token::parse(text, line);
            tokens.push(token.map_err(|problem| TokenFault::Line { line, problem })?);
        }
        if tokens.is_empty() { Err(TokenFault::Empty) } else { Ok(Tokens(tokens)) }
    }

    /// Who shows this token. It takes as long whatever the token is, and whoever has it.
    pub(super) fn bearer(&self, shown: &[u8]) -> Option<Bearer> {
        let hash = hash_of(shown);
        let mut found = 0;
        for (place, token) in (1..).zip(&self.0) {
            found.conditional_assign(&place, token.hash.ct_eq(&hash));
        }
        let has_none: Choice = 0u16.ct_eq(&found);
        if has_none.into() {
            return None;
        }
        let token = &self.0[usize::from(found) - 1];
        Some(Bearer { role: token.role, line: token.line })
    }
}

impl Token {
    fn parse(text: &str, line: usize) -> Result<Token, &'static str> {
        let mut words = text.split_whitespace();
        let role = match words.next() {
            Some("admin") => Role::Admin,
            Some("reader") => Role::Reader,
            _ => return Err("the role is neither admin nor reader"),
        };
        let (Some(token), None) = (words.next(), words.next()) else {
            return Err("a line is ROLE TOKEN");
        };
        if token.len() < TOKEN_BYTES_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("a token has 16 or more ASCII characters");
        }
        let line = u16::try_from(line).map_err(|_| "there are more than 65,535 lines")?;
        Ok(Token { role, hash: hash_of(token.as_bytes()), line })
    }
}

fn hash_of(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

const TOKEN_BYTES_MIN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# who\nreader aaaaaaaaaaaaaaaa\n\n  admin\tbbbbbbbbbbbbbbbb  \n";

    #[test]
    fn a_token_has_the_role_of_its_line() {
        let tokens = Tokens::parse(FILE).unwrap();
        let bearer = |role, line| Some(Bearer { role, line });
        assert_eq!(tokens.bearer(b"aaaaaaaaaaaaaaaa"), bearer(Role::Reader, 2));
        assert_eq!(tokens.bearer(b"bbbbbbbbbbbbbbbb"), bearer(Role::Admin, 4));
        for wrong in [&b""[..], b"aaaaaaaaaaaaaaa", b"aaaaaaaaaaaaaaaab", b"reader"] {
            assert_eq!(tokens.bearer(wrong), None);
        }
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (text, words) in [
            ("reader aaaaaaaaaaaaaaaa\nroot bbbbbbbbbbbbbbbb", "line 2: the role"),
            ("admin", "line 1: a line is"),
            ("admin aaaaaaaaaaaaaaaa b", "line 1: a line is"),
            ("admin short", "line 1: a token has"),
            ("admin aaaaaaaaaaaaaaaä", "line 1: a token has"),
            ("# nobody\n", "no token"),
        ] {
            let said = Tokens::parse(text).unwrap_err().to_string();
            assert!(said.contains(words), "{text}: {said}");
        }
    }
}
