//! The keys that tokens are verified with: a secret, a public key in PEM, or a JWK Set.
//!
//! A key fits some algorithms only. So a public key is never taken for a secret.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use base64ct::{Base64, Encoding};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, crypto,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse},
};
use serde_json::Value;
use thiserror::Error;

use super::{Parts, TokenFault};

/// All keys.
#[derive(Debug)]
pub(super) struct Keys(Vec<Key>);

/// One key. Its `Debug` shows nothing of it.
#[derive(Debug)]
struct Key {
    /// Only for tokens with this key identifier, if it has one.
    id: Option<String>,
    /// The algorithms that it is for.
    algorithms: Vec<Algorithm>,
    material: DecodingKey,
}

/// Why a key file is refused.
#[derive(Debug, Error)]
#[error("{}: {fault}", path.display())]
pub struct KeyFileError {
    path: PathBuf,
    #[source]
    fault: KeyFault,
}

/// What is wrong with the content of a key file.
#[derive(Debug, Error)]
pub enum KeyFault {
    #[error(transparent)]
    Unreadable(#[from] io::Error),
    #[error("the file is larger than {} KiB", FILE_BYTES_MAX >> 10)]
    TooLarge,
    #[error(
        "the secret has less than {SECRET_BYTES_MIN} bytes, so that it can be guessed: \
         `openssl rand -hex 32` makes one"
    )]
    SecretShort,
    #[error("the file holds a private key: give the public one (`openssl pkey -in KEY -pubout`)")]
    PrivateKey,
    #[error(
        "the file holds a certificate: give its public key (`openssl x509 -in CERT -pubkey -noout`)"
    )]
    Certificate,
    #[error("the public key is none of RSA with 2048 bits or more, P-256, P-384 or Ed25519")]
    KeyUnknown,
    #[error("the file holds a key without the lines of PEM, which is no secret: give it in PEM")]
    NoPem,
    #[error("the file holds several keys in PEM: give each in a file of its own, or a JWK Set")]
    SeveralKeys,
    #[error("the JWK Set cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the JWK Set has no key that can verify tokens")]
    NoKeys,
    #[error("the JWK Set holds a secret, which whoever can fetch it would know")]
    SecretInSet,
    #[error("there are more than {KEYS_MAX} keys")]
    TooManyKeys,
    #[error("the key identifier (kid) {0:?} is there twice")]
    KeyTwice(String),
}

impl Keys {
    pub(super) fn read(paths: &[PathBuf]) -> Result<Keys, KeyFileError> {
        let mut all = Keys(Vec::new());
        for path in paths {
            let fault = |fault| KeyFileError { path: path.clone(), fault };
            let keys = read_file(path).and_then(|content| Keys::parse(&content)).map_err(fault)?;
            all.0.extend(keys.0);
            all.check().map_err(fault)?;
        }
        Ok(all)
    }

    /// The keys of one file.
    pub(super) fn parse(content: &[u8]) -> Result<Keys, KeyFault> {
        if is_der(content) {
            return Err(KeyFault::NoPem);
        }
        let keys = Keys(match str::from_utf8(content).map(str::trim) {
            Ok(text) if text.contains("-----BEGIN ") => vec![Key::from_pem(text)?],
            Ok(text) if text.starts_with('{') => parse_set(text, Odd::Refused)?,
            Ok(text) if is_bare_key(text) => return Err(KeyFault::NoPem),
            Ok(text) => vec![Key::from_secret(text.as_bytes())?],
            Err(_) => vec![Key::from_secret(content)?],
        });
        keys.check()?;
        Ok(keys)
    }

    /// The keys of a JWK Set that everybody may read. Those that are of no use here are passed
    /// over, as RFC 7517 wants it (section 5): they do not keep others from being replaced.
    pub(super) fn parse_public_set(content: &[u8]) -> Result<Keys, KeyFault> {
        let text = str::from_utf8(content).map_err(|_| KeyFault::NoKeys)?;
        let keys = Keys(parse_set(text.trim(), Odd::PassedOver)?);
        keys.check()?;
        let is_secret = |key: &Key| key.material.family() == AlgorithmFamily::Hmac;
        if keys.0.iter().any(is_secret) { Err(KeyFault::SecretInSet) } else { Ok(keys) }
    }

    fn check(&self) -> Result<(), KeyFault> {
        if self.0.len() > KEYS_MAX {
            return Err(KeyFault::TooManyKeys);
        }
        let mut ids: Vec<&String> = self.0.iter().filter_map(|key| key.id.as_ref()).collect();
        ids.sort_unstable();
        let twice = ids.windows(2).find(|pair| pair[0] == pair[1]);
        twice.map_or(Ok(()), |pair| Err(KeyFault::KeyTwice(pair[0].clone())))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Verifies the signature. A key with an identifier is for tokens that name it; one without is
    /// for all tokens of its algorithms.
    pub(super) fn verify(&self, parts: &Parts<'_>) -> Result<(), TokenFault> {
        let header = parts.header()?;
        let is_named = |key: &&Key| key.id.is_none() || key.id == header.key_id;
        let mut named = self.0.iter().filter(is_named).peekable();
        if named.peek().is_none() {
            return Err(TokenFault::KeyUnknown);
        }
        let mut fitting = named.filter(|key| key.algorithms.contains(&header.algorithm)).peekable();
        if fitting.peek().is_none() {
            return Err(TokenFault::Algorithm);
        }
        let is_of = |key: &Key| {
            let signed = parts.signed.as_bytes();
            crypto::verify(parts.signature, signed, &key.material, header.algorithm)
                .unwrap_or(false)
        };
        if fitting.any(is_of) { Ok(()) } else { Err(TokenFault::Signature) }
    }
}

impl Key {
    fn from_secret(secret: &[u8]) -> Result<Key, KeyFault> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err(KeyFault::SecretShort);
        }
        let key = DecodingKey::from_secret(secret).map_err(|_| KeyFault::SecretShort)?;
        Ok(Key { id: None, algorithms: algorithms_of(AlgorithmFamily::Hmac), material: key })
    }

    fn from_pem(text: &str) -> Result<Key, KeyFault> {
        if text.contains("PRIVATE KEY-----") {
            return Err(KeyFault::PrivateKey);
        }
        if text.contains("-----BEGIN CERTIFICATE") {
            return Err(KeyFault::Certificate);
        }
        if text.matches("-----BEGIN ").count() > 1 {
            return Err(KeyFault::SeveralKeys);
        }
        let pem = text.as_bytes();
        let rsa = DecodingKey::from_rsa_pem(pem).or_else(|_| DecodingKey::from_ec_pem(pem));
        let key =
            rsa.or_else(|_| DecodingKey::from_ed_pem(pem)).map_err(|_| KeyFault::KeyUnknown)?;
        let algorithms = match (key.family(), key.try_get_as_bytes().map_or(0, <[u8]>::len)) {
            (AlgorithmFamily::Rsa, RSA_BYTES_MIN..) => algorithms_of(AlgorithmFamily::Rsa),
            (AlgorithmFamily::Ec, P256_BYTES) => vec![Algorithm::ES256],
            (AlgorithmFamily::Ec, P384_BYTES) => vec![Algorithm::ES384],
            (AlgorithmFamily::Ed, ED25519_BYTES) => vec![Algorithm::EdDSA],
            _ => return Err(KeyFault::KeyUnknown),
        };
        Ok(Key { id: None, algorithms, material: key })
    }

    /// A key of a JWK Set; `None` if it is for something else than the signatures of tokens.
    fn from_jwk(jwk: &Jwk) -> Result<Option<Key>, KeyFault> {
        let is_for_other = |usage: &PublicKeyUse| *usage != PublicKeyUse::Signature;
        if jwk.common.public_key_use.as_ref().is_some_and(is_for_other) {
            return Ok(None);
        }
        let mut algorithms = match &jwk.algorithm {
            AlgorithmParameters::OctetKey(_) => algorithms_of(AlgorithmFamily::Hmac),
            AlgorithmParameters::RSA(_) => algorithms_of(AlgorithmFamily::Rsa),
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
                vec![Algorithm::ES256]
            }
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => {
                vec![Algorithm::ES384]
            }
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                vec![Algorithm::EdDSA]
            }
            _ => return Ok(None),
        };
        if let Some(only) = jwk.common.key_algorithm {
            algorithms
                .retain(|&algorithm| Algorithm::try_from(only).is_ok_and(|it| it == algorithm));
        }
        if algorithms.is_empty() {
            return Ok(None);
        }
        let key = DecodingKey::from_jwk(jwk).map_err(|_| KeyFault::KeyUnknown)?;
        let length = key.try_get_as_bytes().map_or(0, <[u8]>::len);
        match &jwk.algorithm {
            AlgorithmParameters::OctetKey(_) if length < SECRET_BYTES_MIN => {
                return Err(KeyFault::SecretShort);
            }
            AlgorithmParameters::RSA(rsa) if rsa.n.len() < RSA_TEXT_MIN => {
                return Err(KeyFault::KeyUnknown);
            }
            _ => {}
        }
        Ok(Some(Key { id: jwk.common.key_id.clone(), algorithms, material: key }))
    }
}

/// What becomes of keys that cannot be read, or are too weak.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Odd {
    Refused,
    PassedOver,
}

/// A JWK Set, or a single JWK.
fn parse_set(text: &str, odd: Odd) -> Result<Vec<Key>, KeyFault> {
    let mut json: Value = serde_json::from_str(text)?;
    if json.get("d").is_some() || has_private_key(&json) {
        return Err(KeyFault::PrivateKey);
    }
    let set: Vec<Value> = match json.get_mut("keys").map(Value::take) {
        Some(list) => serde_json::from_value(list)?,
        None => vec![json],
    };
    let mut keys = Vec::new();
    for jwk in set {
        let jwk: Result<Jwk, _> = serde_json::from_value(jwk);
        match jwk.map_err(KeyFault::Json).and_then(|jwk| Key::from_jwk(&jwk)) {
            Err(KeyFault::Json(_) | KeyFault::KeyUnknown) if odd == Odd::PassedOver => {}
            key => keys.extend(key?),
        }
    }
    if keys.is_empty() { Err(KeyFault::NoKeys) } else { Ok(keys) }
}

fn has_private_key(json: &Value) -> bool {
    let keys = json.get("keys").and_then(Value::as_array);
    keys.is_some_and(|keys| keys.iter().any(|key| key.get("d").is_some()))
}

fn algorithms_of(family: AlgorithmFamily) -> Vec<Algorithm> {
    family.algorithms().to_vec()
}

/// Whether this is a key in DER: everybody may know a public key, so it must not become a secret.
fn is_der(content: &[u8]) -> bool {
    let length = match content {
        [0x30, 0x81, length, ..] => 3 + usize::from(*length),
        [0x30, 0x82, high, low, ..] => 4 + usize::from(u16::from_be_bytes([*high, *low])),
        [0x30, length @ ..=0x7F, ..] => 2 + usize::from(*length),
        _ => return false,
    };
    length == content.len()
}

/// Whether this is the text of a key in PEM without its first and its last line.
fn is_bare_key(text: &str) -> bool {
    let text: String = text.split_whitespace().collect();
    Base64::decode_vec(&text).is_ok_and(|content| is_der(&content))
}

fn read_file(path: &Path) -> Result<Vec<u8>, KeyFault> {
    let content = fs::read(path)?;
    if content.len() > FILE_BYTES_MAX { Err(KeyFault::TooLarge) } else { Ok(content) }
}

const FILE_BYTES_MAX: usize = 1 << 20;
/// So many keys may be tried for a token without a key identifier.
const KEYS_MAX: usize = 64;
/// As many as the hash of HS256 has: RFC 7518, section 3.2.
const SECRET_BYTES_MIN: usize = 32;
/// The modulus of 2048 bits alone, in bytes and in base64url.
const RSA_BYTES_MIN: usize = 256;
const RSA_TEXT_MIN: usize = 342;
/// Points on these curves, which are not compressed.
const P256_BYTES: usize = 65;
const P384_BYTES: usize = 97;
const ED25519_BYTES: usize = 32;
