//! Access: which clients are let in, and what they may publish and subscribe to.
//!
//! Knows neither packets nor Reason Codes. Does not run slow checks itself: it returns a
//! [`Verification`] for another thread to run.

#![forbid(unsafe_code)]

mod account;
pub mod acl;
mod bans;
pub mod dynamic;
mod failures;
mod hash;
mod hook;
pub mod jwt;
mod memory_hard;
mod passwords;
mod principal;
mod remembered;
pub mod scram;
pub mod share;
pub mod topics;

use std::{fmt, sync::Arc};

use crate::base::time::WallTime;

pub use self::account::{Account, AccountName, Accounts, Kind};
pub use self::acl::{Acl, Rights};
pub use self::bans::{Banned, Bans};
use self::dynamic::Desk;
pub use self::failures::{Admission, Failures};
pub use self::hash::{HashKind, ITERATIONS_MAX, Salt, hash_password};
pub use self::hook::{AuthHook, HookCall, HookReply, HookSettings, Inquiry};
pub use self::jwt::{Bearer, Grant, TokenFault, TokenFrom, TokenRules, Tokens};
pub use self::passwords::{PasswordFileError, Passwords, Problem};
pub use self::principal::Principal;
pub use self::remembered::{Mark, Remembered, Ticket};
use self::scram::{Exchange, Mechanism, ScramUsers};

/// 128 unpredictable bits.
pub type Secret = [u8; 16];

/// A slow check of a password or a token, which another thread runs.
pub type Verification = Box<dyn FnOnce() -> Finding + Send>;

/// What a check has found.
#[derive(Debug, PartialEq, Eq)]
pub enum Finding {
    /// The password is that of the user.
    Right,
    Wrong,
    /// The token says who the client is.
    Bearer(Box<Bearer>),
    BadToken(TokenFault),
    /// The hook leaves the decision to the next way to prove a user.
    Ignored,
    /// The hook could not be asked, or gave no answer that can be understood.
    Unanswered,
}

impl From<bool> for Finding {
    fn from(is_right: bool) -> Finding {
        if is_right { Finding::Right } else { Finding::Wrong }
    }
}

/// Decides which clients are let in. The same on every shard.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    pub passwords: Option<Arc<Passwords>>,
    /// Users that may authenticate by SCRAM instead.
    pub scram: Option<Arc<ScramUsers>>,
    /// Tokens that clients may have instead of passwords.
    pub tokens: Option<Arc<Tokens>>,
    /// Who is asked about all who have no token, before the password file.
    pub hook: Option<Arc<dyn AuthHook>>,
    pub anonymous: Anonymous,
    /// What clients may read and write; `None` if all may do the same.
    pub acl: Option<Arc<Acl>>,
    /// Takes the commands of dynamic security; `None`: there is none.
    pub desk: Option<Arc<dyn Desk>>,
    /// A subscription of which the client may read nothing is granted all the same, and gets
    /// nothing. Else it is refused.
    pub grants_unreadable: bool,
    /// A client may take over the session of another user by its Client Identifier.
    pub shares_sessions: bool,
    /// A retained message is replayed even if its publisher may no longer write to its topic.
    pub ignores_retain_source: bool,
}

/// Where clients are let in without authentication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Anonymous {
    Refused,
    /// On listeners that only this machine reaches.
    #[default]
    OnLoopback,
    Everywhere,
}

/// The decision about a CONNECT.
pub enum Decision {
    Granted,
    NotAuthorized,
    /// The result of this check of a password decides.
    Verify(Verification),
    /// The result of this check of a token decides.
    VerifyToken(Verification),
    /// The hook decides. If it leaves that to others, this check of a password does; without one
    /// the client is refused.
    Ask(Arc<dyn AuthHook>, Option<Verification>),
}

impl Policy {
    /// Decides about a CONNECT with this User Name and Password.
    ///
    /// If there is a password file or a hook, a client with a User Name has to prove it. Without
    /// both the name means nothing, and the client counts as anonymous. `lets_anonymous_in` is the
    /// rule of the listener. The hook is not asked about clients that say nothing and are let in
    /// anyway.
    ///
    /// What has the form of a token is checked as one and in no other way. So the time of a check
    /// tells nothing about the names in the password file.
    pub fn admit(
        &self,
        lets_anonymous_in: bool,
        user_name: Option<&str>,
        password: Option<&[u8]>,
        now: WallTime,
    ) -> Decision {
        if let Some(tokens) = &self.tokens
            && (user_name.is_some() || password.is_some())
        {
            let text = password.unwrap_or_default();
            if !self.has_names() || Tokens::has_form(text) {
                let check = Tokens::verification(tokens, text, user_name, now);
                return Decision::VerifyToken(check);
            }
        }
        let verification = self
            .passwords
            .as_ref()
            .zip(user_name)
            .map(|(passwords, name)| Passwords::verification(passwords, name, password));
        let is_nobody = user_name.is_none() && password.is_none();
        match (&self.hook, verification) {
            (Some(hook), next) if !(is_nobody && lets_anonymous_in) => {
                Decision::Ask(Arc::clone(hook), next)
            }
            (_, Some(verification)) => Decision::Verify(verification),
            _ if lets_anonymous_in => Decision::Granted,
            _ => Decision::NotAuthorized,
        }
    }

    /// Whether a client that has proven who it is may come with this Client Identifier.
    pub fn admits(&self, principal: &Principal) -> bool {
        let (user_name, client_id) = (principal.user_name(), principal.client_id());
        self.acl.as_ref().is_none_or(|acl| acl.admits(user_name, client_id))
    }

    /// Whether this User Name is to be taken as a token, and never as a name.
    pub fn is_token(&self, user_name: &str) -> bool {
        let takes = |tokens: &Arc<Tokens>| tokens.from() == TokenFrom::UserName;
        self.tokens.as_ref().is_some_and(takes)
            && (!self.has_names() || Tokens::may_be_token(user_name))
    }

    /// Whether users can be proven by a name and a password.
    fn has_names(&self) -> bool {
        self.passwords.is_some() || self.hook.is_some()
    }

    /// Begins an exchange in which a client proves who it is; `None` if no user has that mechanism.
    /// `secret` must not have been used before.
    pub fn begin_exchange(&self, mechanism: &str, secret: Secret) -> Option<Exchange> {
        let mechanism = Mechanism::from_name(mechanism)?;
        Exchange::begin(self.scram.as_ref()?, mechanism, secret)
    }
}

impl Anonymous {
    /// Whether clients without authentication are let in on such a listener.
    pub fn is_let_in(self, listener_is_loopback: bool) -> bool {
        match self {
            Anonymous::Refused => false,
            Anonymous::OnLoopback => listener_is_loopback,
            Anonymous::Everywhere => true,
        }
    }
}

impl fmt::Debug for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Decision::Granted => "Granted",
            Decision::NotAuthorized => "NotAuthorized",
            Decision::Verify(_) => "Verify",
            Decision::VerifyToken(_) => "VerifyToken",
            Decision::Ask(..) => "Ask",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A password file with the one user `alice`, whose password is `correct-horse`.
    const ALICE: &str = "alice:$7$101$PxkC23maIR3STJZx$\
        WWEGb43HNXbS9iXF693jd7G6h0EPrnoWMNoi/SVtX584YaWxQ8xbiKQiYwnC4bBitImJS1+K6nAlFjiYcDg3DA==";

    fn with_alice(anonymous: Anonymous) -> Policy {
        let passwords = Some(Arc::new(Passwords::parse(ALICE).unwrap()));
        Policy { passwords, anonymous, ..Policy::default() }
    }

    /// The outcome of an admission, any verification included.
    fn lets_in(policy: &Policy, loopback: bool, user: Option<&str>, password: &str) -> bool {
        let anonymous = policy.anonymous.is_let_in(loopback);
        match policy.admit(anonymous, user, Some(password.as_bytes()), WallTime::default()) {
            Decision::Granted => true,
            Decision::NotAuthorized => false,
            Decision::Verify(verification) => verification() == Finding::Right,
            Decision::VerifyToken(_) | Decision::Ask(..) => panic!("there is a file only"),
        }
    }

    #[test]
    fn anonymous_clients_are_let_in_where_the_policy_says() {
        for (anonymous, loopback, expected) in [
            (Anonymous::Refused, true, false),
            (Anonymous::Refused, false, false),
            (Anonymous::OnLoopback, true, true),
            (Anonymous::OnLoopback, false, false),
            (Anonymous::Everywhere, true, true),
            (Anonymous::Everywhere, false, true),
        ] {
            let open = Policy { anonymous, ..Policy::default() };
            assert_eq!(lets_in(&open, loopback, None, ""), expected, "{anonymous:?} {loopback}");
            let named = lets_in(&open, loopback, Some("anyone"), "anything");
            assert_eq!(named, expected, "{anonymous:?} {loopback}, a name that means nothing");
            let closed = with_alice(anonymous);
            assert_eq!(lets_in(&closed, loopback, None, ""), expected, "{anonymous:?} {loopback}");
        }
    }

    #[test]
    fn a_user_name_is_verified_even_where_anonymous_clients_are_let_in() {
        let policy = with_alice(Anonymous::Everywhere);
        assert!(lets_in(&policy, true, Some("alice"), "correct-horse"));
        assert!(!lets_in(&policy, true, Some("alice"), "wrong"));
        assert!(!lets_in(&policy, true, Some("mallory"), "correct-horse"));
        assert!(!lets_in(&policy, true, Some(""), ""));
    }
}
