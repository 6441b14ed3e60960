//! JSON Web Tokens in the place of passwords: who the client is, until when, and what it may do.
//!
//! ```text
//!   token --> its form --> a key for its algorithm --> the signature --> the claims --> Bearer
//! ```
//! Keeps no token, and says nothing of one but why it is refused. Reads no clock.

mod claims;
mod fetched;
mod keys;
mod rights;
#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc};

use base64ct::{Base64UrlUnpadded, Encoding};
use jsonwebtoken::Algorithm;
use serde_json::Value;
use thiserror::Error;

pub use self::fetched::{FetchedKeys, KeyAddress};
pub use self::keys::{KeyFault, KeyFileError};
use self::{claims::Claims, keys::Keys};
use super::{Finding, Verification, acl::ClaimedRules};
use crate::base::time::{Span, WallTime};

/// How tokens are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRules {
    /// The keys: a secret, a public key in PEM, or a JWK Set in each file. At least one, unless
    /// keys are fetched.
    pub key_files: Vec<PathBuf>,
    pub from: TokenFrom,
    /// What the claim `iss` has to be, if anything.
    pub issuer: Option<String>,
    /// What the claim `aud` has to be or hold, if anything.
    pub audience: Option<String>,
    /// The claim that names the user.
    pub user_claim: String,
    /// By how much the clocks of issuer and broker may differ.
    pub leeway: Span,
    /// A token without `exp` is refused.
    pub requires_expiry: bool,
    /// A connection ends when its token expires.
    pub ends_connections: bool,
}

/// As the flags are by default, without a key.
impl Default for TokenRules {
    fn default() -> TokenRules {
        TokenRules {
            key_files: Vec::new(),
            from: TokenFrom::Password,
            issuer: None,
            audience: None,
            user_claim: "sub".to_owned(),
            leeway: Span::ZERO,
            requires_expiry: true,
            ends_connections: true,
        }
    }
}

/// Where in CONNECT the token is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenFrom {
    #[default]
    Password,
    UserName,
}

/// The rules with their keys.
#[derive(Debug)]
pub struct Tokens {
    rules: TokenRules,
    keys: Keys,
    /// More keys, which may change.
    fetched: Option<Arc<FetchedKeys>>,
}

/// Whom a token lets in.
#[derive(Debug, PartialEq, Eq)]
pub struct Bearer {
    pub user_name: Box<str>,
    /// What its connection is held to; `None` if that is nothing.
    pub grant: Option<Arc<Grant>>,
}

/// What a connection is held to because of its token, or of what the hook has answered.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// When it ends: the connection, or the rights by the token.
    pub ends_at: Option<WallTime>,
    /// The connection ends then, too.
    pub ends_connection: bool,
    /// The rights by the token; `None` if it says nothing of them.
    pub rules: Option<ClaimedRules>,
    /// The client may do everything. The hook can say so, and no token.
    pub is_superuser: bool,
}

impl Grant {
    /// What is left when it has ended, and the connection goes on: no right at all.
    pub fn spent() -> Grant {
        Grant { rules: Some(ClaimedRules::new(false)), ..Grant::default() }
    }

    /// Whether it says what the client may do, so that the ACL file is not asked, or not alone.
    pub fn has_rights(&self) -> bool {
        self.rules.is_some() || self.is_superuser
    }

    /// Whether its rights end while its client stays connected.
    pub fn outlasts_rights(&self) -> bool {
        self.ends_at.is_some() && !self.ends_connection
    }

    /// Whether it has ended.
    pub fn has_ended(&self, now: WallTime) -> bool {
        self.ends_at.is_some_and(|end| end <= now)
    }
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TokenFault {
    #[error("it is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    #[error("it is no JSON Web Token")]
    Malformed,
    #[error("its algorithm is none that the keys are for")]
    Algorithm,
    #[error("there is no key with its key identifier (kid)")]
    KeyUnknown,
    #[error("no keys have been fetched yet")]
    KeysMissing,
    #[error("its signature is wrong")]
    Signature,
    #[error("it has expired (exp)")]
    Expired,
    #[error("it is not valid yet (nbf)")]
    TooEarly,
    #[error("it has no expiration time (exp)")]
    Endless,
    #[error("it has another issuer (iss)")]
    Issuer,
    #[error("it is for another audience (aud)")]
    Audience,
    #[error("it does not name a user")]
    Nameless,
    #[error("it names another user than CONNECT")]
    OfAnother,
    #[error("its claim `acl` cannot be read")]
    Rights,
}

impl Tokens {
    /// Reads the keys.
    pub fn read(rules: &TokenRules) -> Result<Tokens, KeyFileError> {
        Ok(Tokens { keys: Keys::read(&rules.key_files)?, rules: rules.clone(), fetched: None })
    }

    /// The same with the content of one key file, for tests.
    pub fn with_key(rules: TokenRules, key: &[u8]) -> Result<Tokens, KeyFault> {
        Ok(Tokens { keys: Keys::parse(key)?, rules, fetched: None })
    }

    /// The same with keys that are fetched.
    #[must_use]
    pub fn with_fetched(self, fetched: Option<Arc<FetchedKeys>>) -> Tokens {
        Tokens { fetched, ..self }
    }

    pub fn fetched(&self) -> Option<&Arc<FetchedKeys>> {
        self.fetched.as_ref()
    }

    /// How many keys there are.
    pub fn key_count(&self) -> usize {
        self.keys.len()
    }

    pub fn from(&self) -> TokenFrom {
        self.rules.from
    }

    /// Whether a text has the form of a token, even of a wrong one.
    pub fn has_form(text: &[u8]) -> bool {
        let is_part =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let parts = || text.split(|&byte| byte == b'.').count();
        begins_as_token(text) && text.iter().all(is_part) && parts() == 3
    }

    /// Whether a User Name is likely to be a token or a part of one, so that it must not be shown.
    pub fn may_be_token(text: &str) -> bool {
        begins_as_token(text.as_bytes()) && text.contains('.')
    }

    /// Returns the check of a token. `user_name` is what the client calls itself, if it does.
    pub fn verification(
        tokens: &Arc<Tokens>,
        token: &[u8],
        user_name: Option<&str>,
        now: WallTime,
    ) -> Verification {
        if token.len() > TOKEN_BYTES_MAX {
            return Box::new(|| Finding::BadToken(TokenFault::TooLong));
        }
        let tokens = Arc::clone(tokens);
        let token = token.to_vec();
        let user_name = user_name.filter(|name| !name.is_empty()).map(str::to_owned);
        Box::new(move || match tokens.verify(&token, user_name.as_deref(), now) {
            Ok(bearer) => Finding::Bearer(Box::new(bearer)),
            Err(fault) => Finding::BadToken(fault),
        })
    }

    /// Whom a token lets in.
    pub fn verify(
        &self,
        token: &[u8],
        user_name: Option<&str>,
        now: WallTime,
    ) -> Result<Bearer, TokenFault> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenFault::TooLong);
        }
        let parts = Parts::of(token)?;
        match (self.keys.verify(&parts), &self.fetched) {
            (Err(own), Some(fetched)) => fetched.verify(&parts).map_err(|fault| match fault {
                // Who guesses at a key of a file is told so, also before any others have come.
                TokenFault::KeysMissing if own == TokenFault::Signature => own,
                fault => fault,
            })?,
            (verified, _) => verified?,
        }
        self.accept(&decode(parts.claims)?, user_name, now)
    }

    /// Whom the claims let in that the issuer has signed.
    pub fn accept(
        &self,
        json: &[u8],
        user_name: Option<&str>,
        now: WallTime,
    ) -> Result<Bearer, TokenFault> {
        let claims = Claims::parse(json)?;
        claims.check(&self.rules, now)?;
        let bearer = claims.user(&self.rules)?;
        if user_name.is_some_and(|said| said != bearer) {
            return Err(TokenFault::OfAnother);
        }
        Ok(Bearer { user_name: bearer.into(), grant: self.grant(&claims)?.map(Arc::new) })
    }

    fn grant(&self, claims: &Claims) -> Result<Option<Grant>, TokenFault> {
        let rules = claims.acl().map(rights::parse).transpose()?;
        let ends_connection = self.rules.ends_connections;
        let is_held = ends_connection || rules.is_some();
        let ends_at = claims.expires_at(&self.rules).filter(|_| is_held);
        let is_nothing = ends_at.is_none() && rules.is_none();
        Ok((!is_nothing).then_some(Grant { ends_at, ends_connection, rules, is_superuser: false }))
    }
}

/// Reads rights in the form of the claim `acl`.
pub fn rules_of(claim: &Value) -> Result<ClaimedRules, TokenFault> {
    rights::parse(claim)
}

/// The header of a token is a JSON object, which begins with `{` and a space or a quotation mark.
fn begins_as_token(text: &[u8]) -> bool {
    text.starts_with(b"ey") || text.starts_with(b"ew")
}

/// The parts of a token. The signature may be of anyone until it has been verified.
#[derive(Clone, Copy, Debug)]
struct Parts<'a> {
    header: &'a str,
    claims: &'a str,
    signature: &'a str,
    /// What is signed: header and claims, as they came.
    signed: &'a str,
}

/// What the header says.
#[derive(Debug)]
struct Header {
    algorithm: Algorithm,
    key_id: Option<String>,
}

impl Parts<'_> {
    fn of(token: &[u8]) -> Result<Parts<'_>, TokenFault> {
        let text = str::from_utf8(token).map_err(|_| TokenFault::Malformed)?;
        let (signed, signature) = text.rsplit_once('.').ok_or(TokenFault::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenFault::Malformed)?;
        let is_more = claims.contains('.');
        if is_more {
            Err(TokenFault::Malformed)
        } else {
            Ok(Parts { header, claims, signature, signed })
        }
    }

    fn header(&self) -> Result<Header, TokenFault> {
        let json = decode(self.header)?;
        let header: Value = serde_json::from_slice(&json).map_err(|_| TokenFault::Malformed)?;
        let header = header.as_object().ok_or(TokenFault::Malformed)?;
        let name = header.get("alg").and_then(Value::as_str).ok_or(TokenFault::Malformed)?;
        // `none` is no algorithm here. What has to be understood, and is not, refuses the token.
        let algorithm = name.parse().map_err(|_| TokenFault::Algorithm)?;
        if header.contains_key("crit") {
            return Err(TokenFault::Algorithm);
        }
        let key_id = header.get("kid").map(|id| id.as_str().ok_or(TokenFault::Malformed));
        Ok(Header { algorithm, key_id: key_id.transpose()?.map(str::to_owned) })
    }
}

fn decode(part: &str) -> Result<Vec<u8>, TokenFault> {
    Base64UrlUnpadded::decode_vec(part).map_err(|_| TokenFault::Malformed)
}

/// The longest token. A longer one is not looked at.
pub const TOKEN_BYTES_MAX: usize = 16 << 10;
