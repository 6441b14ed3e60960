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
        !self.jwt_key_file.is_empty()
    }

    pub(super) fn rules(self) -> Result<Option<TokenRules>, Contradiction> {
        if !self.are_on() {
            let given = [
                (self.jwt_issuer.is_some(), "--jwt-issuer"),
                (self.jwt_audience.is_some(), "--jwt-audience"),
            ];
            return match given.into_iter().find(|&(is_given, _)| is_given) {
                Some((_, flag)) => Err(Contradiction::Needs(flag, "--jwt-key-file")),
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
            assert_eq!(said, format!("{flag} needs --jwt-key-file"));
        }
    }
}
