//! Tokens for tests.

use base64ct::{Base64UrlUnpadded, Encoding};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};

/// The secret of most tokens.
pub(crate) const SECRET: &str = "a secret that nobody guesses, for tests only";

/// A token of these claims, signed with the secret.
pub(crate) fn token(claims: &str) -> String {
    signed(r#"{"alg":"HS256","typ":"JWT"}"#, claims, SECRET)
}

/// A token with this header, signed as HS256 does whatever the header says.
pub(crate) fn signed(header: &str, claims: &str, secret: &str) -> String {
    let [header, claims] =
        [header, claims].map(|it| Base64UrlUnpadded::encode_string(it.as_bytes()));
    let key = EncodingKey::from_secret(secret.as_bytes()).expect("it is not empty");
    let message = format!("{header}.{claims}");
    let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("the key fits");
    format!("{message}.{signature}")
}
