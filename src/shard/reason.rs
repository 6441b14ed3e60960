//! The Reason Code and the Reason String of everything that the broker refuses.
//!
//! A text names the problem, and what would help. All texts are constants, so that an answer costs
//! nothing but its bytes, and reveals nothing about other clients or users.

use crate::{
    access::TokenFault,
    mqtt::{DecodeError, ReasonCode},
    session::filters::FiltersFull,
};

/// Declares all reasons, each with its code and its text.
macro_rules! reasons {
    ($($(#[$about:meta])* $name:ident = $code:ident, $text:literal;)+) => {
        /// Why something is refused, or why an answer is not a plain success.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Reason {
            /// The bytes or the moment were wrong.
            Packet(DecodeError),
            $($(#[$about])* $name,)+
        }

        impl Reason {
            pub(super) const fn code(self) -> ReasonCode {
                match self {
                    Reason::Packet(error) => error.reason_code(),
                    $(Reason::$name => ReasonCode::$code,)+
                }
            }

            pub(super) const fn text(self) -> &'static str {
                match self {
                    Reason::Packet(error) => error.reason_string(),
                    $(Reason::$name => $text,)+
                }
            }
        }

        #[cfg(test)]
        const ALL: &[Reason] = &[$(Reason::$name,)+];
    };
}

reasons! {
    ClientIdentifierMissing = ClientIdentifierNotValid,
        "the Client Identifier is empty: only a client with Clean Session may leave it empty";
    SessionOfAnother = ClientIdentifierNotValid,
        "another user has a session with this Client Identifier: choose another identifier";
    WillForbidden = NotAuthorized,
        "the client may not publish to the Will Topic: $SYS, $share and $CONTROL are reserved";
    /// The text does not tell whether the user exists.
    PasswordWrong = BadUserNameOrPassword,
        "the User Name or the Password is wrong";
    UserNotAdmitted = NotAuthorized,
        "the user is disabled, or has to connect with another Client Identifier";
    TokenTooLong = BadUserNameOrPassword,
        "the token is longer than the server takes: ask for one with fewer claims";
    TokenMalformed = BadUserNameOrPassword,
        "no JSON Web Token came, or only a part of one: send the token as it was issued";
    TokenAlgorithm = BadUserNameOrPassword,
        "the algorithm of the token is none that the keys of the server are for";
    TokenKeyUnknown = BadUserNameOrPassword,
        "the server has no key with the identifier (kid) in the token: ask for a new token";
    TokenKeysMissing = ServerUnavailable,
        "the server has not got the keys of tokens yet: connect again in a few seconds";
    TokenForged = BadUserNameOrPassword,
        "the signature of the token is wrong: it is of another issuer, or was changed";
    TokenExpired = NotAuthorized,
        "the token has expired (exp): ask for a new one";
    TokenTooEarly = NotAuthorized,
        "the token is not valid yet (nbf): compare the clocks of issuer and server";
    TokenEndless = NotAuthorized,
        "the token has no expiration time (exp): ask for one that expires";
    TokenIssuer = NotAuthorized,
        "the token was issued (iss) by someone else than the server expects";
    TokenAudience = NotAuthorized,
        "the token is for another audience (aud) than this server";
    TokenNameless = NotAuthorized,
        "the token does not say who its user is: it lacks the claim with the name";
    TokenOfAnother = NotAuthorized,
        "the User Name is not that of the token: send the same one, or none";
    TokenRights = NotAuthorized,
        "the claim acl of the token has something that the server does not understand";
    TokenEnded = MaximumConnectTime,
        "the login of the client has expired: connect again, with a new token if it has one";
    HookSilent = ServerUnavailable,
        "the server could not find out whether the client may connect: try again later";
    Anonymous = NotAuthorized,
        "this listener requires authentication: send User Name and Password, or use AUTH";
    CertificateNameless = NotAuthorized,
        "the certificate of the client has no name that can be its user name";
    ClientIdentifierOfOther = ClientIdentifierNotValid,
        "the Client Identifier has to be the user name in the certificate, or empty";
    PasswordChecksFull = ServerBusy,
        "too many passwords are waiting to be checked: connect again in a few seconds";
    TooManyFailures = ServerBusy,
        "too many logins from this address or of this user have failed: connect again later";
    AuthenticationsFull = ServerBusy,
        "too many clients are authenticating: connect again in a few seconds";
    AuthenticationMethodUnknown = BadAuthenticationMethod,
        "the server does not support this Authentication Method: ask the administrator";
    NotAuthenticated = NotAuthorized,
        "authentication failed: check the user, the password and the order of messages";
    /// Not a refusal: it asks for the next step.
    FirstMessageMissing = ContinueAuthentication,
        "CONNECT had no Authentication Data: send the first message of the method in AUTH";
    SessionsFull = QuotaExceeded,
        "the server has reached its limit of sessions: connect again when some have expired";
    MemoryFull = QuotaExceeded,
        "the server has no memory for more: connect or subscribe again in a while";
    ConnectionsFull = QuotaExceeded,
        "the server has reached its limit of connections: connect again later";
    ConnectionShare = QuotaExceeded,
        "this user or address has its share of all connections: close some, or connect later";
    FullUseAnother = UseAnotherServer,
        "this server is full: use a server in the Server Reference for now";
    StoppedUseAnother = UseAnotherServer,
        "this server is shutting down: use a server in the Server Reference for now";
    Moved = ServerMoved,
        "this server has moved: use a server in the Server Reference from now on";
    PublishForbidden = NotAuthorized,
        "the client may not publish here: $SYS, $share and $CONTROL are reserved for the server";
    PublishDenied = NotAuthorized,
        "the client may not publish to this Topic Name: ask the administrator for the right to";
    CommandTooLarge = QuotaExceeded,
        "the commands are longer than the server takes: send several messages";
    CommandsFull = QuotaExceeded,
        "too many commands wait for the server: send them again in a few seconds";
    TopicTooDeep = TopicNameInvalid,
        "the Topic Name has more levels than the server allows: use fewer levels";
    UserPropertiesFull = QuotaExceeded,
        "the User Properties exceed the limit of the server: put data into the payload";
    RetainedFull = QuotaExceeded,
        "the server has reached its limit of retained messages: remove some, or do not set RETAIN";
    StoreFull = QuotaExceeded,
        "the server has no room on its disk for messages that have to be kept: publish later";
    AliasesFull = QuotaExceeded,
        "the topics of all Topic Aliases are too long in total: use aliases for fewer topics";
    PayloadNotText = PayloadFormatInvalid,
        "the Payload Format Indicator says that the payload is UTF-8 text, but it is not";
    SubscribeForbidden = NotAuthorized,
        "the client may not subscribe to this Topic Filter";
    UnsubscribeForbidden = NotAuthorized,
        "the client may not end this subscription: ask the administrator for the right to";
    FilterTooDeep = TopicFilterInvalid,
        "the Topic Filter has more levels than the server allows: use a wildcard";
    SubscribeTooLong = QuotaExceeded,
        "the SUBSCRIBE has more Topic Filters than the server allows: send several packets";
    SubscriptionsFull = QuotaExceeded,
        "the session has reached its limit of subscriptions: unsubscribe, or use a wildcard";
    PatternsFull = QuotaExceeded,
        "the Topic Filters of the session have '+' at too many different places: use fewer, or #";
    ReplaysFull = QuotaExceeded,
        "too many subscriptions wait for retained messages: read them, then subscribe again";
    NoSubscription = NoSubscriptionExisted,
        "the session has no subscription with exactly this Topic Filter";
    NothingSent = PacketIdentifierNotFound,
        "no QoS 2 message to the client is in flight with this Packet Identifier";
    NothingReceived = PacketIdentifierNotFound,
        "no QoS 2 message from the client waits for release with this Packet Identifier";
    Silent = KeepAliveTimeout,
        "no packet arrived within one and a half times the Keep Alive: send PINGREQ when idle";
    PacketIncomplete = QuotaExceeded,
        "a packet was begun and its rest did not arrive in time: send whole packets";
    NothingRead = QuotaExceeded,
        "the client has read nothing for a long time, although bytes were waiting for it";
    TooFast = MessageRateTooHigh,
        "the client has sent more than it may in a second, for too long: publish less often";
    TakenOver = SessionTakenOver,
        "another client connected with this Client Identifier: each client needs its own";
    QueueFull = QuotaExceeded,
        "too many messages are queued for this client: acknowledge sooner, or subscribe to less";
    AnswerTooLarge = PacketTooLarge,
        "the response is larger than the Maximum Packet Size in CONNECT";
    Kicked = AdministrativeAction,
        "an administrator has ended this connection";
    Banned = Banned,
        "this client, its user or its address is banned: ask the administrator";
    /// No DISCONNECT may say Banned.
    BannedNow = AdministrativeAction,
        "an administrator has banned this client, its user or its address";
    ShuttingDown = ServerShuttingDown,
        "the server is shutting down: connect again later";
}

impl From<TokenFault> for Reason {
    fn from(fault: TokenFault) -> Reason {
        match fault {
            TokenFault::TooLong => Reason::TokenTooLong,
            TokenFault::Malformed => Reason::TokenMalformed,
            TokenFault::Algorithm => Reason::TokenAlgorithm,
            TokenFault::KeyUnknown => Reason::TokenKeyUnknown,
            TokenFault::KeysMissing => Reason::TokenKeysMissing,
            TokenFault::Signature => Reason::TokenForged,
            TokenFault::Expired => Reason::TokenExpired,
            TokenFault::TooEarly => Reason::TokenTooEarly,
            TokenFault::Endless => Reason::TokenEndless,
            TokenFault::Issuer => Reason::TokenIssuer,
            TokenFault::Audience => Reason::TokenAudience,
            TokenFault::Nameless => Reason::TokenNameless,
            TokenFault::OfAnother => Reason::TokenOfAnother,
            TokenFault::Rights => Reason::TokenRights,
        }
    }
}

impl From<FiltersFull> for Reason {
    fn from(full: FiltersFull) -> Reason {
        match full {
            FiltersFull::Filters => Reason::SubscriptionsFull,
            FiltersFull::Patterns => Reason::PatternsFull,
        }
    }
}

impl Reason {
    /// Whether a token was refused.
    pub(super) fn is_about_token(self) -> bool {
        use Reason as R;
        matches!(
            self,
            R::TokenTooLong
                | R::TokenMalformed
                | R::TokenAlgorithm
                | R::TokenKeyUnknown
                | R::TokenForged
                | R::TokenExpired
                | R::TokenTooEarly
                | R::TokenEndless
                | R::TokenIssuer
                | R::TokenAudience
                | R::TokenNameless
                | R::TokenOfAnother
                | R::TokenRights
        )
    }

    /// Whether the client may not publish the message, whatever it is.
    pub(super) fn is_about_rights(self) -> bool {
        matches!(self, Reason::PublishForbidden | Reason::PublishDenied)
    }

    /// The flag of the limit that was reached, or of the time that has passed. Only the log says
    /// it: clients are not told how the broker is configured.
    pub(super) const fn flag(self) -> Option<&'static str> {
        Some(match self {
            Reason::SessionOfAnother => "--takeover",
            Reason::ConnectionsFull | Reason::ConnectionShare => "--max-connections",
            Reason::SessionsFull => "--max-sessions",
            Reason::TopicTooDeep | Reason::FilterTooDeep => "--max-topic-levels",
            Reason::UserPropertiesFull => "--max-user-properties, --max-user-property-bytes",
            Reason::RetainedFull => "--max-retained, --max-retained-bytes",
            Reason::StoreFull => "--max-store-bytes",
            Reason::SubscribeTooLong => "--max-filters-in-subscribe",
            Reason::SubscriptionsFull => "--max-subscriptions, --max-subscription-bytes",
            Reason::PatternsFull => "--max-wildcard-patterns",
            Reason::PublishDenied | Reason::SubscribeForbidden => {
                "--acl-file, --dynamic-security-file"
            }
            Reason::UnsubscribeForbidden | Reason::UserNotAdmitted => "--dynamic-security-file",
            Reason::QueueFull => "--max-queued, --max-queued-bytes",
            Reason::CertificateNameless => "--tls-user-from, --proxy-user-from-cn",
            Reason::ClientIdentifierOfOther => "--tls-user-is-client-id",
            Reason::TokenAlgorithm | Reason::TokenKeyUnknown | Reason::TokenForged => {
                "--jwt-key-file, --jwt-jwks-url"
            }
            Reason::TokenKeysMissing => "--jwt-jwks-url",
            Reason::HookSilent => "--auth-http-url",
            Reason::TokenEndless => "--jwt-require-expiry",
            Reason::TokenIssuer => "--jwt-issuer",
            Reason::TokenAudience => "--jwt-audience",
            Reason::TokenNameless | Reason::TokenOfAnother => "--jwt-user-claim",
            Reason::TokenEnded => "--jwt-disconnect-at-expiry, --auth-http-url",
            Reason::PacketIncomplete => "--packet-timeout",
            Reason::NothingRead => "--stalled-timeout",
            Reason::TooFast => "--max-message-rate, --max-byte-rate, --rate-timeout",
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::{Malformed, ProtocolError};

    #[test]
    fn every_text_is_a_short_line_of_its_own() {
        let malformed = Malformed::ALL.iter().map(|&error| Reason::Packet(error.into()));
        let protocol = ProtocolError::ALL.iter().map(|&error| Reason::Packet(error.into()));
        let others = [
            DecodeError::PacketTooLarge,
            DecodeError::UnsupportedProtocolVersion,
            DecodeError::UnsupportedProtocolName,
        ];
        let others = others.into_iter().map(Reason::Packet);
        let mut texts: Vec<&str> = ALL
            .iter()
            .copied()
            .chain(malformed)
            .chain(protocol)
            .chain(others)
            .map(Reason::text)
            .collect();
        for text in &texts {
            let is_line = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
            assert!(is_line && (20..=TEXT_MAX).contains(&text.len()), "{text}");
        }
        let count = texts.len();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), count, "each says something else");
    }

    /// A Reason String that is sent with every refusal is to cost little.
    const TEXT_MAX: usize = 96;
}
