//! The hash of a password, as the password file has it: salted, and slow to compute.

use base64ct::{Base64, Base64Unpadded, Encoding};
use pbkdf2::pbkdf2_hmac;
use sha2::{Digest, Sha512};
use subtle::{Choice, ConstantTimeEq};
use thiserror::Error;

use super::memory_hard::Cost;

/// What is kept of a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PasswordHash {
    scheme: Scheme,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

/// What is wrong with the text of a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HashProblem {
    #[error("the password is not hashed: run `ringmq passwd -U` on the file")]
    NotHashed,
    #[error("unknown kind of hash: write it with `ringmq passwd`")]
    UnknownHash,
    #[error("the iterations are not a number from 1 to {ITERATIONS_MAX}")]
    Iterations,
    #[error("the salt is missing or is not base64")]
    Salt,
    #[error("the hash is missing or is not base64 of as many bytes as it should have")]
    Hash,
    #[error("the version of argon2 is not `v=19`")]
    Version,
    #[error(
        "the cost of argon2 is not `m=KIB,t=PASSES,p=LANES`, with at most 262144 KiB, 16 lanes and \
         1048576 KiB times passes"
    )]
    Cost,
    #[error("something follows the hash")]
    ExtraField,
}

/// How the hash was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    /// `$6$`: SHA-512 over the password and then the salt.
    Salted,
    /// `$7$`: PBKDF2 with HMAC-SHA-512.
    Pbkdf2 {
        iterations: u32,
    },
    Argon2id(Cost),
}

impl PasswordHash {
    /// Parses `$7$iterations$salt$hash`, `$6$salt$hash` or `$argon2id$v=19$cost$salt$hash`.
    pub(super) fn parse(text: &str) -> Result<PasswordHash, HashProblem> {
        let mut fields = text.strip_prefix('$').ok_or(HashProblem::NotHashed)?.split('$');
        let scheme = match fields.next() {
            Some("6") => Scheme::Salted,
            Some("7") => Scheme::Pbkdf2 { iterations: parse_iterations(fields.next())? },
            Some("argon2id") => Scheme::Argon2id(parse_cost(&mut fields)?),
            _ => return Err(HashProblem::UnknownHash),
        };
        let salt = scheme.parse_salt(fields.next())?;
        let hash = scheme.parse_hash(fields.next())?;
        let parsed = PasswordHash { scheme, salt, hash };
        fields.next().map_or(Ok(parsed), |_| Err(HashProblem::ExtraField))
    }

    /// All that there is of it, in bytes.
    pub(super) fn parts(&self) -> [Vec<u8>; 3] {
        let cost = match self.scheme {
            Scheme::Salted => 0_u32.to_be_bytes().to_vec(),
            Scheme::Pbkdf2 { iterations } => iterations.to_be_bytes().to_vec(),
            Scheme::Argon2id(cost) => cost.text().into_bytes(),
        };
        [cost, self.salt.clone(), self.hash.clone()]
    }

    /// Hash and salt in base64, and the iterations, if it was made by PBKDF2.
    pub(super) fn pbkdf2_parts(&self) -> Option<(String, String, u32)> {
        let Scheme::Pbkdf2 { iterations } = self.scheme else { return None };
        let [hash, salt] = [&self.hash, &self.salt].map(|bytes| self.scheme.encode(bytes));
        Some((hash, salt, iterations))
    }

    /// Whether this is the hash of `password`. Takes as long for a wrong one as for the right one.
    pub(super) fn verify(&self, password: &[u8]) -> Choice {
        let hash = self.scheme.hash(password, &self.salt, self.hash.len());
        hash.ct_eq(&self.hash)
    }

    fn text(&self) -> String {
        let scheme = match self.scheme {
            Scheme::Salted => "6".to_owned(),
            Scheme::Pbkdf2 { iterations } => format!("7${iterations}"),
            Scheme::Argon2id(cost) => format!("argon2id$v=19${}", cost.text()),
        };
        let [salt, hash] = [&self.salt, &self.hash].map(|bytes| self.scheme.encode(bytes));
        format!("${scheme}${salt}${hash}")
    }
}

/// How a new hash is made. The text is what a password file has behind the user name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashKind {
    /// With 1 to [`ITERATIONS_MAX`] iterations.
    Pbkdf2 {
        iterations: u32,
    },
    Argon2id,
}

/// Unpredictable bytes for one hash.
pub type Salt = [u8; 16];

/// The text of a new hash of this password.
pub fn hash_password(kind: HashKind, password: &[u8], salt: Salt) -> String {
    let scheme = match kind {
        HashKind::Pbkdf2 { iterations } => Scheme::Pbkdf2 { iterations },
        HashKind::Argon2id => Scheme::Argon2id(Cost::USUAL),
    };
    // The older `mosquitto_passwd` takes salts of 12 bytes only.
    let salt = if matches!(scheme, Scheme::Pbkdf2 { .. }) { &salt[..12] } else { &salt[..] };
    let hash = scheme.hash(password, salt, HASH_BYTES);
    PasswordHash { scheme, salt: salt.to_vec(), hash }.text()
}

impl Scheme {
    fn hash(self, password: &[u8], salt: &[u8], hash_bytes: usize) -> Vec<u8> {
        let mut hash = vec![0; hash_bytes];
        match self {
            Scheme::Salted => {
                hash = Sha512::new().chain_update(password).chain_update(salt).finalize().to_vec();
            }
            Scheme::Pbkdf2 { iterations } => {
                pbkdf2_hmac::<Sha512>(password, salt, iterations, &mut hash);
            }
            Scheme::Argon2id(cost) => cost.hash(password, salt, &mut hash),
        }
        hash
    }

    /// Argon2 leaves the padding of base64 out.
    fn decode(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Scheme::Argon2id(_) => Base64Unpadded::decode_vec(text).ok(),
            _ => Base64::decode_vec(text).ok(),
        }
    }

    fn encode(self, bytes: &[u8]) -> String {
        match self {
            Scheme::Argon2id(_) => Base64Unpadded::encode_string(bytes),
            _ => Base64::encode_string(bytes),
        }
    }

    fn parse_salt(self, field: Option<&str>) -> Result<Vec<u8>, HashProblem> {
        let bytes = match self {
            Scheme::Argon2id(_) => 8..=SALT_BYTES_MAX,
            _ => 1..=usize::MAX,
        };
        let salt = field.and_then(|field| self.decode(field));
        salt.filter(|salt| bytes.contains(&salt.len())).ok_or(HashProblem::Salt)
    }

    fn parse_hash(self, field: Option<&str>) -> Result<Vec<u8>, HashProblem> {
        let bytes = match self {
            Scheme::Argon2id(_) => 16..=HASH_BYTES_MAX,
            _ => HASH_BYTES..=HASH_BYTES,
        };
        let hash = field.and_then(|field| self.decode(field));
        hash.filter(|hash| bytes.contains(&hash.len())).ok_or(HashProblem::Hash)
    }
}

fn parse_cost<'a>(fields: &mut impl Iterator<Item = &'a str>) -> Result<Cost, HashProblem> {
    let version = fields.next();
    version.filter(|&version| version == "v=19").ok_or(HashProblem::Version)?;
    Cost::parse(fields.next().unwrap_or_default())
}

fn parse_iterations(field: Option<&str>) -> Result<u32, HashProblem> {
    let digits = field.filter(|field| field.bytes().all(|byte| byte.is_ascii_digit()));
    let iterations = digits.and_then(|digits| digits.parse().ok());
    iterations.filter(|n| (1..=ITERATIONS_MAX).contains(n)).ok_or(HashProblem::Iterations)
}

/// With so many, checking one password takes about a second. More is taken for a typing error.
pub const ITERATIONS_MAX: u32 = 1_000_000;
const HASH_BYTES: usize = 64;
/// Bytes of a hash and of a salt of Argon2 that are taken.
pub(super) const HASH_BYTES_MAX: usize = 128;
const SALT_BYTES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the tests of the reference implementation of Argon2: `password` and `somesalt`.
    const ARGON2ID: &str =
        "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

    fn verifies(text: &str, password: &str) -> bool {
        PasswordHash::parse(text).unwrap().verify(password.as_bytes()).into()
    }

    #[test]
    fn argon2id_agrees_with_the_reference_implementation() {
        assert!(verifies(ARGON2ID, "password"));
        assert!(!verifies(ARGON2ID, "passwore"));
        assert_eq!(PasswordHash::parse(ARGON2ID).unwrap().text(), ARGON2ID);
        for (from, to, problem) in [
            ("v=19", "v=16", HashProblem::Version),
            ("v=19$", "", HashProblem::Version),
            ("m=256", "m=1", HashProblem::Cost),
            ("c29tZXNhbHQ", "c29t", HashProblem::Salt),
            ("c29tZXNhbHQ", "c29tZXNhbHQ=", HashProblem::Salt),
            ("nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", "nf65", HashProblem::Hash),
            ("Gi/4", "Gi/4$", HashProblem::ExtraField),
            ("argon2id", "argon2i", HashProblem::UnknownHash),
        ] {
            assert_eq!(PasswordHash::parse(&ARGON2ID.replace(from, to)), Err(problem), "{to}");
        }
    }

    #[test]
    fn a_new_hash_verifies_its_password_alone() {
        for (kind, start) in [
            (HashKind::Pbkdf2 { iterations: 7 }, "$7$7$"),
            (HashKind::Argon2id, "$argon2id$v=19$m=47104,t=1,p=1$"),
        ] {
            let text = hash_password(kind, b"secret", [5; 16]);
            assert!(text.starts_with(start), "{text}");
            assert!(verifies(&text, "secret") && !verifies(&text, "Secret"));
            assert_ne!(text, hash_password(kind, b"secret", [6; 16]));
        }
    }
}
