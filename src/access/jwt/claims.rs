//! The claims of a token that its issuer has signed.

use serde_json::{Map, Value};

use super::{TokenFault, TokenRules};
use crate::base::time::WallTime;

#[derive(Debug)]
pub(super) struct Claims(Map<String, Value>);

impl Claims {
    /// Nesting is limited by the parser, and size by that of a token.
    pub(super) fn parse(json: &[u8]) -> Result<Claims, TokenFault> {
        match serde_json::from_slice(json) {
            Ok(Value::Object(claims)) => Ok(Claims(claims)),
            _ => Err(TokenFault::Malformed),
        }
    }

    /// Whether the token is for this broker, now.
    pub(super) fn check(&self, rules: &TokenRules, now: WallTime) -> Result<(), TokenFault> {
        let not_before = self.time("nbf")?.unwrap_or_default();
        if now.as_nanos().saturating_add(rules.leeway.as_nanos()) < not_before {
            return Err(TokenFault::TooEarly);
        }
        self.time("exp")?;
        match self.expires_at(rules) {
            Some(end) if end <= now => return Err(TokenFault::Expired),
            None if rules.requires_expiry => return Err(TokenFault::Endless),
            _ => {}
        }
        if rules.issuer.as_deref().is_some_and(|wanted| self.text("iss") != Some(wanted)) {
            return Err(TokenFault::Issuer);
        }
        if rules.audience.as_deref().is_some_and(|wanted| !self.is_for(wanted)) {
            return Err(TokenFault::Audience);
        }
        Ok(())
    }

    /// When the token expires, with the leeway.
    pub(super) fn expires_at(&self, rules: &TokenRules) -> Option<WallTime> {
        let expires_at = self.time("exp").ok().flatten()?;
        Some(WallTime::from_nanos(expires_at.saturating_add(rules.leeway.as_nanos())))
    }

    /// The user whose token it is.
    pub(super) fn user(&self, rules: &TokenRules) -> Result<&str, TokenFault> {
        let user = self.text(&rules.user_claim).filter(|user| is_user_name(user));
        user.ok_or(TokenFault::Nameless)
    }

    pub(super) fn acl(&self) -> Option<&Value> {
        self.0.get("acl")
    }

    fn is_for(&self, audience: &str) -> bool {
        match self.0.get("aud") {
            Some(Value::String(one)) => one == audience,
            Some(Value::Array(several)) => several.iter().any(|one| one == audience),
            _ => false,
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// A time in nanoseconds since 1970; the earliest or the latest if it is beyond.
    fn time(&self, name: &str) -> Result<Option<u64>, TokenFault> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        if let Some(seconds) = value.as_u64() {
            return Ok(Some(seconds.saturating_mul(NANOS)));
        }
        let seconds = value.as_f64().ok_or(TokenFault::Malformed)?;
        let nanos = (seconds * 1e9).clamp(0.0, 1.8e19);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it was brought into range before"
        )]
        Ok(Some(nanos as u64))
    }
}

/// What a User Name in CONNECT could be.
fn is_user_name(text: &str) -> bool {
    let fits = (1..=usize::from(u16::MAX)).contains(&text.len());
    fits && !text.chars().any(char::is_control)
}

const NANOS: u64 = 1_000_000_000;
