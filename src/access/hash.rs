//! The hash of a password, as the password file has it: salted, and slow to compute.

use base64ct::{Base64, Encoding};
use pbkdf2::pbkdf2_hmac;
use sha2::{Digest, Sha512};
use subtle::{Choice, ConstantTimeEq};
use thiserror::Error;

/// What is kept of a password.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PasswordHash {
    scheme: Scheme,
    salt: Vec<u8>,
    hash: [u8; HASH_BYTES],
}

/// What is wrong with the text of a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HashProblem {
    #[error("the password is not hashed: run `mosquitto_passwd -U` on the file")]
    NotHashed,
    #[error("unknown kind of hash: write it with `mosquitto_passwd -H sha512-pbkdf2`")]
    UnknownHash,
    #[error("the iterations are not a number from 1 to {ITERATIONS_MAX}")]
    Iterations,
    #[error("the salt is missing or is not base64")]
    Salt,
    #[error("the hash is missing or is not base64 of 64 bytes")]
    Hash,
    #[error("something follows the hash")]
    ExtraField,
}

/// How the hash was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    /// `$6$`: SHA-512 over the password and then the salt.
    Salted,
    /// `$7$`: PBKDF2 with HMAC-SHA-512.
    Pbkdf2 { iterations: u32 },
}

impl PasswordHash {
    /// Parses `$7$iterations$salt$hash` or `$6$salt$hash`.
    pub(super) fn parse(text: &str) -> Result<PasswordHash, HashProblem> {
        let mut fields = text.strip_prefix('$').ok_or(HashProblem::NotHashed)?.split('$');
        let scheme = match fields.next() {
            Some("6") => Scheme::Salted,
            Some("7") => Scheme::Pbkdf2 { iterations: parse_iterations(fields.next())? },
            _ => return Err(HashProblem::UnknownHash),
        };
        let salt = parse_salt(fields.next())?;
        let hash = parse_hash(fields.next())?;
        let parsed = PasswordHash { scheme, salt, hash };
        fields.next().map_or(Ok(parsed), |_| Err(HashProblem::ExtraField))
    }

    /// All that there is of it, in bytes.
    pub(super) fn parts(&self) -> [Vec<u8>; 3] {
        let iterations = match self.scheme {
            Scheme::Salted => 0,
            Scheme::Pbkdf2 { iterations } => iterations,
        };
        [iterations.to_be_bytes().to_vec(), self.salt.clone(), self.hash.to_vec()]
    }

    /// Whether this is the hash of `password`. Takes as long for a wrong one as for the right one.
    pub(super) fn verify(&self, password: &[u8]) -> Choice {
        self.scheme.hash(password, &self.salt).ct_eq(&self.hash)
    }
}

impl Scheme {
    fn hash(self, password: &[u8], salt: &[u8]) -> [u8; HASH_BYTES] {
        match self {
            Scheme::Salted => {
                Sha512::new().chain_update(password).chain_update(salt).finalize().into()
            }
            Scheme::Pbkdf2 { iterations } => {
                let mut hash = [0; HASH_BYTES];
                pbkdf2_hmac::<Sha512>(password, salt, iterations, &mut hash);
                hash
            }
        }
    }
}

fn parse_iterations(field: Option<&str>) -> Result<u32, HashProblem> {
    let digits = field.filter(|field| field.bytes().all(|byte| byte.is_ascii_digit()));
    let iterations = digits.and_then(|digits| digits.parse().ok());
    iterations.filter(|n| (1..=ITERATIONS_MAX).contains(n)).ok_or(HashProblem::Iterations)
}

fn parse_salt(field: Option<&str>) -> Result<Vec<u8>, HashProblem> {
    let salt = field.and_then(|field| Base64::decode_vec(field).ok());
    salt.filter(|salt| !salt.is_empty()).ok_or(HashProblem::Salt)
}

fn parse_hash(field: Option<&str>) -> Result<[u8; HASH_BYTES], HashProblem> {
    let hash = field.and_then(|field| Base64::decode_vec(field).ok());
    hash.and_then(|hash| hash.try_into().ok()).ok_or(HashProblem::Hash)
}

/// With so many, checking one password takes about a second. More is taken for a typing error.
const ITERATIONS_MAX: u32 = 1_000_000;
const HASH_BYTES: usize = 64;
