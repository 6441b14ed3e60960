//! The flags of JSON Web Tokens.

use std::path::PathBuf;

use clap::Args;

use super::{
    Contradiction,
    values::{Switch, parse_seconds, parse_switch},
};
use crate::{
    access::{TokenFrom, TokenRules},
    base::time::Span,
};

#[derive(Args, Debug)]
#[expect(clippy::struct_field_names, reason = "the flags have the names of the fields")]
pub(super) struct JwtFlags {
    /// File with a key for JSON Web Tokens, which clients may then send instead of a password: a
    /// secret of 32 bytes or more (HS256, HS384, HS512), a public key in PEM (RSA for RS and PS,
    /// P-256 for ES256, P-384 for ES384, Ed25519 for `EdDSA`), or a JWK Set with several of them.
    /// Clients without a token or a user name are then refused, unless --allow-anonymous is given.
    /// May be repeated
    #[arg(long, value_name = "FILE")]
    pub(super) jwt_key_file: Vec<PathBuf>,
    /// URL of a JWK Set with public keys for JSON Web Tokens, which is fetched now and then:
    /// `http://HOST[:PORT]/PATH` or https. Until it has come, tokens that no --jwt-key-file is for
    /// are refused; after that, one that cannot be fetched leaves the former one in force. What is
    /// said of clients without a token at --jwt-key-file holds here, too
    #[arg(long, value_name = "URL")]
    jwt_jwks_url: Option<String>,
    /// How often --jwt-jwks-url is fetched, in seconds. It is also fetched when a token names an
    /// unknown key, but not within 30 seconds of the time before
    #[arg(long, value_name = "SECONDS", default_value = "300")]
    #[arg(value_parser = parse_seconds(1, 86_400))]
    jwt_jwks_interval: Span,
    /// PEM file with the certificates of the authorities that may prove who the server of an https
    /// --jwt-jwks-url is [default: those that the system trusts]
    #[arg(long, value_name = "FILE")]
    jwt_jwks_ca: Option<PathBuf>,
    /// Where in CONNECT the token is. With `username`, the user name is that in the token
    #[arg(long, value_name = "password|username", default_value = "password")]
    #[arg(value_parser = parse_from)]
    jwt_from: TokenFrom,
    /// What the claim `iss` of a token has to be [default: anything]
    #[arg(long, value_name = "ISSUER")]
    jwt_issuer: Option<String>,
    /// What the claim `aud` of a token has to be, or to have in its list [default: anything]
    #[arg(long, value_name = "AUDIENCE")]
    jwt_audience: Option<String>,
    /// The claim of a token that is the user name. A client that sends a user name with its token
    /// has to send this one
    #[arg(long, value_name = "CLAIM", default_value = "sub")]
    jwt_user_claim: String,
    /// By how much the clock of the issuer may differ from that of the broker, in seconds: for so
    /// long a token is taken before `nbf` and after `exp`
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = parse_seconds(0, 3600))]
    jwt_leeway: Span,
    /// Whether a token without the claim `exp`, which never expires, is refused
    #[arg(long, value_name = "on|off", default_value = "on", value_parser = parse_switch)]
    jwt_require_expiry: Switch,
    /// Whether a connection ends when the token of its client expires. With `off`, what the claim
    /// `acl` has granted ends then, and all else goes on
    #[arg(long, value_name = "on|off", default_value = "on", value_parser = parse_switch)]
    jwt_disconnect_at_expiry: Switch,
}

/// Where keys of tokens are fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwksOptions {
    pub url: String,
    pub interval: Span,
    pub authorities: Option<PathBuf>,
}

fn parse_from(text: &str) -> Result<TokenFrom, String> {
    match text {
        "password" => Ok(TokenFrom::Password),
        "username" => Ok(TokenFrom::UserName),
        _ => Err("neither password nor username".to_owned()),
    }
}

impl JwtFlags {
    /// Whether tokens are taken at all.
    pub(super) fn are_on(&self) -> bool {
        !self.jwt_key_file.is_empty() || self.jwt_jwks_url.is_some()
    }

    /// Where keys are fetched.
    pub(super) fn jwks(&self) -> Result<Option<JwksOptions>, Contradiction> {
        match (&self.jwt_jwks_url, &self.jwt_jwks_ca) {
            (None, Some(_)) => Err(Contradiction::Needs("--jwt-jwks-ca", "--jwt-jwks-url")),
            (None, None) => Ok(None),
            (Some(url), authorities) => Ok(Some(JwksOptions {
                url: url.clone(),
                interval: self.jwt_jwks_interval,
                authorities: authorities.clone(),
            })),
        }
    }

    pub(super) fn rules(self) -> Result<Option<TokenRules>, Contradiction> {
        if !self.are_on() {
            let given = [
                (self.jwt_issuer.is_some(), "--jwt-issuer"),
                (self.jwt_audience.is_some(), "--jwt-audience"),
            ];
            return match given.into_iter().find(|&(is_given, _)| is_given) {
                Some((_, flag)) => {
                    Err(Contradiction::Needs(flag, "--jwt-key-file or --jwt-jwks-url"))
                }
                None => Ok(None),
            };
        }
        Ok(Some(TokenRules {
            key_files: self.jwt_key_file,
            from: self.jwt_from,
            issuer: self.jwt_issuer,
            audience: self.jwt_audience,
            user_claim: self.jwt_user_claim,
            leeway: self.jwt_leeway,
            requires_expiry: self.jwt_require_expiry == Switch::On,
            ends_connections: self.jwt_disconnect_at_expiry == Switch::On,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        access::Anonymous,
        config::tests::{accepted, contradiction},
    };

    #[test]
    fn tokens_are_taken_if_there_is_a_key() {
        assert_eq!(accepted("").tokens, None);
        let config = accepted("--jwt-key-file a --jwt-key-file b --listen 0.0.0.0");
        assert_eq!(config.anonymous, Anonymous::Refused);
        let rules = config.tokens.unwrap();
        assert_eq!(rules.key_files, [PathBuf::from("a"), PathBuf::from("b")]);
        assert_eq!((rules.from, rules.user_claim.as_str()), (TokenFrom::Password, "sub"));
        assert!(rules.requires_expiry && rules.ends_connections && rules.leeway.is_zero());
        let rules = accepted(
            "--jwt-key-file a --jwt-from username --jwt-issuer i --jwt-audience d --jwt-leeway 5 \
             --jwt-user-claim u --jwt-require-expiry off --jwt-disconnect-at-expiry off",
        );
        let rules = rules.tokens.unwrap();
        assert_eq!((rules.issuer.as_deref(), rules.audience.as_deref()), (Some("i"), Some("d")));
        assert_eq!((rules.from, rules.user_claim.as_str()), (TokenFrom::UserName, "u"));
        assert_eq!(rules.leeway, Span::from_secs(5));
        assert!(!rules.requires_expiry && !rules.ends_connections);
    }

    #[test]
    fn what_is_asked_of_tokens_needs_a_key() {
        for flag in ["--jwt-issuer", "--jwt-audience"] {
            let said = contradiction(&format!("{flag} x")).to_string();
            assert_eq!(said, format!("{flag} needs --jwt-key-file or --jwt-jwks-url"));
        }
        let said = contradiction("--jwt-jwks-ca x").to_string();
        assert_eq!(said, "--jwt-jwks-ca needs --jwt-jwks-url");
    }

    #[test]
    fn keys_are_fetched_if_there_is_a_url() {
        assert_eq!(accepted("--jwt-key-file a").jwks, None);
        let config = accepted("--jwt-jwks-url http://a/ --jwt-jwks-interval 7 --jwt-jwks-ca c");
        assert_eq!(config.anonymous, Anonymous::Refused);
        assert!(config.tokens.is_some_and(|rules| rules.key_files.is_empty()));
        let expected = JwksOptions {
            url: "http://a/".to_owned(),
            interval: Span::from_secs(7),
            authorities: Some("c".into()),
        };
        assert_eq!(config.jwks, Some(expected));
    }
}
