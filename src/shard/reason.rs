//! Why the broker answers as it does: the Reason Code and the Reason String of everything that it
//! refuses, each said once.
//!
//! The texts say what is wrong and what would help. They are written down here and never put
//! together, so that an answer costs nothing but its bytes, and none says anything of other clients
//! or of which users there are.

use crate::mqtt::{DecodeError, ReasonCode};

/// Writes down the reasons once: each with its code and its text.
macro_rules! reasons {
    ($($(#[$about:meta])* $name:ident = $code:ident, $text:literal;)+) => {
        /// Why something is refused, or an answer is not all that was hoped for.
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
        "the Client Identifier is empty: without Clean Session the client must have one";
    WillForbidden = NotAuthorized,
        "the client may not publish to the Will Topic: $SYS and $share are the server's own";
    /// Neither which users there are nor which half was wrong.
    PasswordWrong = BadUserNameOrPassword,
        "the User Name or the Password is wrong";
    Anonymous = NotAuthorized,
        "this listener is for clients that authenticate: send User Name and Password, or use AUTH";
    PasswordChecksFull = ServerBusy,
        "too many passwords are waiting to be checked: connect again in a few seconds";
    AuthenticationsFull = ServerBusy,
        "too many clients are authenticating: connect again in a few seconds";
    AuthenticationMethodUnknown = BadAuthenticationMethod,
        "nobody can authenticate by this method here: ask the administrator which one to use";
    NotAuthenticated = NotAuthorized,
        "the authentication has failed: check the user, the password and the order of messages";
    /// Not a refusal, but the way on.
    FirstMessageMissing = ContinueAuthentication,
        "CONNECT had no Authentication Data: send the first message of the method in AUTH";
    SessionsFull = QuotaExceeded,
        "there are as many sessions as the server keeps: let old ones expire, then connect again";
    ConnectionsFull = QuotaExceeded,
        "there are as many connections as the server takes: connect again later";
    FullUseAnother = UseAnotherServer,
        "this server has no room for another client: use one in the Server Reference for now";
    StoppedUseAnother = UseAnotherServer,
        "this server is being stopped: use one in the Server Reference for now";
    Moved = ServerMoved,
        "clients are not served here any more: use the servers in the Server Reference";
    PublishForbidden = NotAuthorized,
        "the client may not publish to this Topic Name: $SYS and $share are the server's own";
    TopicTooDeep = TopicNameInvalid,
        "the Topic Name has more levels than the server takes: use fewer separators";
    UserPropertiesFull = QuotaExceeded,
        "the message has more User Properties than the server takes: use the payload for data";
    RetainedFull = QuotaExceeded,
        "there are as many retained messages as the server keeps: remove some, or do not retain";
    AliasesFull = QuotaExceeded,
        "the topics behind all Topic Aliases are too long together: use aliases for fewer of them";
    PayloadNotText = PayloadFormatInvalid,
        "the Payload Format Indicator says that the payload is UTF-8 text, but it is not";
    SubscribeForbidden = NotAuthorized,
        "the client may not subscribe to this Topic Filter";
    FilterTooDeep = TopicFilterInvalid,
        "the Topic Filter has more levels than the server takes: use a wildcard";
    SubscribeTooLong = QuotaExceeded,
        "the SUBSCRIBE has more Topic Filters than the server takes: use several packets";
    SubscriptionsFull = QuotaExceeded,
        "the session has as many subscriptions as it may: unsubscribe first, or use a wildcard";
    ReplaysFull = QuotaExceeded,
        "too many subscriptions still wait for retained messages: read those, then subscribe again";
    NoSubscription = NoSubscriptionExisted,
        "the session has no subscription with exactly this Topic Filter";
    NothingSent = PacketIdentifierNotFound,
        "no message at QoS 2 is on its way to the client with this Packet Identifier";
    NothingReceived = PacketIdentifierNotFound,
        "no message at QoS 2 has come with this Packet Identifier, or it has been released before";
    Silent = KeepAliveTimeout,
        "nothing has come for one and a half times the Keep Alive: send PINGREQ when idle";
    TakenOver = SessionTakenOver,
        "another connection has come with this Client Identifier: each client needs its own";
    QueueFull = QuotaExceeded,
        "too many messages wait for this client: acknowledge them sooner, or subscribe to less";
    AnswerTooLarge = PacketTooLarge,
        "an answer is larger than the Maximum Packet Size in CONNECT";
    ShuttingDown = ServerShuttingDown,
        "the server is being stopped: connect again later";
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
