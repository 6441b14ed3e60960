//! The verifier of a password for SCRAM. It can check a proof, and cannot make one.

use std::fmt;

use base64ct::{Base64, Encoding};
use pbkdf2::pbkdf2_hmac;
use sha2::{Sha256, Sha512};

use super::{Mechanism, ScramProblem as Problem};

/// The keys of one user for one mechanism.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verifier {
    pub(super) mechanism: Mechanism,
    pub(super) iterations: u32,
    pub(super) salt: Vec<u8>,
    /// Both keys have the length of the mechanism's hash.
    pub(super) stored_key: Vec<u8>,
    pub(super) server_key: Vec<u8>,
}

impl Verifier {
    /// Parses `SCRAM-SHA-256$iterations:salt$stored_key:server_key`, as PostgreSQL keeps it.
    pub(super) fn parse(text: &str) -> Result<Verifier, Problem> {
        let (name, rest) = text.split_once('$').ok_or(Problem::UnknownMechanism)?;
        let mechanism = Mechanism::from_name(name).ok_or(Problem::UnknownMechanism)?;
        let (iterations, rest) = rest.split_once(':').ok_or(Problem::Iterations)?;
        let (salt, keys) = rest.split_once('$').ok_or(Problem::Salt)?;
        let (stored_key, server_key) = keys.split_once(':').ok_or(Problem::StoredKey)?;
        Ok(Verifier {
            mechanism,
            iterations: parse_iterations(iterations)?,
            salt: parse_salt(salt)?,
            stored_key: parse_key(mechanism, stored_key).ok_or(Problem::StoredKey)?,
            server_key: parse_key(mechanism, server_key).ok_or(Problem::ServerKey)?,
        })
    }

    /// Makes the keys of a password, as whoever writes a SCRAM file does.
    pub(super) fn derive(
        mechanism: Mechanism,
        password: &[u8],
        salt: &[u8],
        iterations: u32,
    ) -> Verifier {
        let mut salted = vec![0; mechanism.key_bytes()];
        match mechanism {
            Mechanism::Sha256 => pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut salted),
            Mechanism::Sha512 => pbkdf2_hmac::<Sha512>(password, salt, iterations, &mut salted),
        }
        let client_key = mechanism.hmac(&salted, &[b"Client Key"]);
        Verifier {
            mechanism,
            iterations,
            salt: salt.to_vec(),
            stored_key: mechanism.hash(&client_key),
            server_key: mechanism.hmac(&salted, &[b"Server Key"]),
        }
    }
}

/// As a line of the file has it.
impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [salt, stored_key, server_key] =
            [&self.salt, &self.stored_key, &self.server_key].map(|key| Base64::encode_string(key));
        let (name, iterations) = (self.mechanism.name(), self.iterations);
        write!(f, "{name}${iterations}:{salt}${stored_key}:{server_key}")
    }
}

fn parse_iterations(digits: &str) -> Result<u32, Problem> {
    let digits = Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let iterations = digits.and_then(|digits| digits.parse().ok());
    let range = ITERATIONS_MIN..=ITERATIONS_MAX;
    iterations.filter(|n| range.contains(n)).ok_or(Problem::Iterations)
}

fn parse_salt(text: &str) -> Result<Vec<u8>, Problem> {
    let salt = Base64::decode_vec(text).ok();
    salt.filter(|salt| (1..=SALT_BYTES_MAX).contains(&salt.len())).ok_or(Problem::Salt)
}

fn parse_key(mechanism: Mechanism, text: &str) -> Option<Vec<u8>> {
    Base64::decode_vec(text).ok().filter(|key| key.len() == mechanism.key_bytes())
}

/// The minimum that RFC 7677 requires.
pub(super) const ITERATIONS_MIN: u32 = 4096;
/// The client has to do the same work. More is taken for a typing error.
pub(super) const ITERATIONS_MAX: u32 = 1_000_000;
/// A made-up salt is as long as one hash of SHA-512.
pub(super) const SALT_BYTES_MAX: usize = 64;
