//! What can be wrong with received bytes, and the Reason Code that each fault deserves.
//!
//! All enums are closed and `Copy`, and all texts are constants. So an error of a hostile client
//! causes no allocation and no formatting.

use std::fmt;

use super::reason_code::ReasonCode;

/// Why received bytes are not an acceptable packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DecodeError {
    #[error("malformed packet: {0}")]
    Malformed(#[from] Malformed),
    #[error("protocol error: {0}")]
    Protocol(#[from] ProtocolError),
    #[error("{PACKET_TOO_LARGE}")]
    PacketTooLarge,
    #[error("{UNSUPPORTED_PROTOCOL_NAME}")]
    UnsupportedProtocolName,
    #[error("{UNSUPPORTED_PROTOCOL_VERSION}")]
    UnsupportedProtocolVersion,
}

const PACKET_TOO_LARGE: &str = "the packet is larger than the receiver's Maximum Packet Size";
const UNSUPPORTED_PROTOCOL_NAME: &str = "the Protocol Name is neither MQTT nor MQIsdp";
const UNSUPPORTED_PROTOCOL_VERSION: &str =
    "the Protocol Version is not supported: the server supports 3.1, 3.1.1 and 5.0";

impl DecodeError {
    /// What to tell the other side in a CONNACK or a DISCONNECT.
    pub const fn reason_code(self) -> ReasonCode {
        match self {
            DecodeError::Malformed(_) => ReasonCode::MalformedPacket,
            DecodeError::Protocol(error) => error.reason_code(),
            DecodeError::PacketTooLarge => ReasonCode::PacketTooLarge,
            DecodeError::UnsupportedProtocolName | DecodeError::UnsupportedProtocolVersion => {
                ReasonCode::UnsupportedProtocolVersion
            }
        }
    }

    /// The same in words, for the person at the other side.
    pub const fn reason_string(self) -> &'static str {
        match self {
            DecodeError::Malformed(error) => error.reason_string(),
            DecodeError::Protocol(error) => error.reason_string(),
            DecodeError::PacketTooLarge => PACKET_TOO_LARGE,
            DecodeError::UnsupportedProtocolName => UNSUPPORTED_PROTOCOL_NAME,
            DecodeError::UnsupportedProtocolVersion => UNSUPPORTED_PROTOCOL_VERSION,
        }
    }

    /// The family of the fault, as a label for metrics.
    pub const fn kind(self) -> &'static str {
        match self {
            DecodeError::Malformed(_) => "malformed",
            DecodeError::Protocol(_) => "protocol",
            DecodeError::PacketTooLarge => "packet_too_large",
            DecodeError::UnsupportedProtocolName => "unsupported_protocol_name",
            DecodeError::UnsupportedProtocolVersion => "unsupported_protocol_version",
        }
    }
}

/// Writes down each fault once, with the text that tells it.
macro_rules! faults {
    ($(#[$about:meta])* $fault:ident { $($variant:ident: $text:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $fault {
            $(#[doc = $text] $variant,)+
        }

        impl $fault {
            pub const ALL: &[$fault] = &[$($fault::$variant,)+];

            /// What is wrong, in words.
            pub const fn reason_string(self) -> &'static str {
                match self {
                    $($fault::$variant => $text,)+
                }
            }
        }

        impl fmt::Display for $fault {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.reason_string())
            }
        }

        impl std::error::Error for $fault {}
    };
}

faults! {
    /// The bytes cannot be parsed according to the specification.
    Malformed {
        Truncated: "a field is missing, or runs past the end of the packet",
        Trailing: "the packet has extra bytes after the last field",
        VariableByteInteger:
            "a Variable Byte Integer has more than four bytes or is not in its shortest form",
        Utf8: "a string is not well-formed UTF-8",
        NullCharacter: "a string contains the null character",
        DisallowedCodePoint: "a topic contains a control character or a Unicode noncharacter",
        PacketType: "the packet type is reserved",
        FixedHeaderFlags: "reserved flags of the fixed header have the wrong value",
        QoS: "the QoS has the value 3: it is 0, 1 or 2",
        DupWithoutQoS: "DUP is set on a PUBLISH at QoS 0: it must be 0",
        ConnectFlags: "the Connect Flags contradict each other or a reserved flag is set",
        ConnectAcknowledgeFlags: "reserved Connect Acknowledge Flags are set",
        ReturnCode: "the return code is reserved",
        PropertyIdentifier: "a property is unknown, or is not allowed in this packet",
        SubscriptionOptions: "reserved bits of the Subscription Options are set",
        TopicName: "a Topic Name contains a wildcard: only a Topic Filter may contain one",
        TopicFilter:
            "a Topic Filter is empty, has a misplaced wildcard, or an invalid $share",
    }
}

faults! {
    /// The bytes can be parsed, but the protocol does not allow their content, or not at this
    /// moment.
    ///
    /// The variants of the second group depend on more than the packet. The code that knows the
    /// connection returns them.
    ProtocolError {
        PacketIdZero: "the Packet Identifier is zero: it is from 1 to 65535",
        PropertyTwice: "a property is included more than once",
        PropertyValue: "a property has a value that is not allowed",
        ReasonCode: "the Reason Code is not allowed in this packet",
        TopicNameMissing: "the Topic Name is empty, and the packet has no Topic Alias",
        ResponseTopic: "the Response Topic is empty or contains a wildcard character",
        NoTopicFilter: "there is no Topic Filter: there must be at least one",
        SubscriptionQoS: "the Maximum QoS of a subscription has the value 3: it is 0, 1 or 2",
        RetainHandling: "the Retain Handling of a subscription has the value 3: it is 0, 1 or 2",
        NoLocalOnShared: "No Local is set on a Shared Subscription: it must be 0",
        AuthenticationMethodMissing: "the Authentication Method is missing",
        SessionPresent: "Session Present is set although the connection is refused",

        ConnectExpected: "the first packet is not a CONNECT",
        SecondConnect: "a second CONNECT arrived: a client may send only one per connection",
        UnexpectedAuth: "an AUTH arrived outside an authentication exchange",
        AcknowledgementType:
            "wrong acknowledgement: PUBACK is for QoS 1, PUBREC and PUBCOMP are for QoS 2",
        AuthenticationMethodChanged: "the Authentication Method is not that of the CONNECT",
        AuthExpected: "only AUTH and DISCONNECT are allowed during authentication",
        ServerPacket: "the client sent a packet that only servers may send",
        TopicAliasUnknown:
            "the Topic Alias is not defined: send it with its Topic Name once in each connection",
        TopicAliasInvalid:
            "the Topic Alias is zero, or above the Topic Alias Maximum of the CONNACK",
        SessionExpiryRaised:
            "DISCONNECT has a Session Expiry Interval, although it was zero in CONNECT",
        SubscriptionIdentifierFromClient:
            "a PUBLISH from a client has a Subscription Identifier: only servers send it",
        ReceiveMaximumExceeded:
            "more PUBLISH packets are unacknowledged than the Receive Maximum of CONNACK allows",
        QosNotSupported: "the QoS is above the Maximum QoS of CONNACK",
        RetainNotSupported: "RETAIN is set, but CONNACK said that retain is not available",
        WildcardSubscriptionsNotSupported:
            "a Topic Filter has a wildcard, but CONNACK said that wildcards are not available",
        SubscriptionIdentifiersNotSupported:
            "SUBSCRIBE has a Subscription Identifier, but CONNACK said that they are not available",
        SharedSubscriptionsNotSupported:
            "a Topic Filter begins with $share, but CONNACK said that sharing is not available",
    }
}

impl ProtocolError {
    /// What to tell the other side in a CONNACK or a DISCONNECT.
    pub const fn reason_code(self) -> ReasonCode {
        match self {
            // Section 3.3.4 names this code for an alias of zero, too. [MQTT-3.3.2-8]
            ProtocolError::TopicAliasInvalid => ReasonCode::TopicAliasInvalid,
            ProtocolError::ReceiveMaximumExceeded => ReasonCode::ReceiveMaximumExceeded,
            ProtocolError::AuthenticationMethodChanged => ReasonCode::BadAuthenticationMethod,
            ProtocolError::QosNotSupported => ReasonCode::QosNotSupported,
            ProtocolError::RetainNotSupported => ReasonCode::RetainNotSupported,
            ProtocolError::WildcardSubscriptionsNotSupported => {
                ReasonCode::WildcardSubscriptionsNotSupported
            }
            ProtocolError::SubscriptionIdentifiersNotSupported => {
                ReasonCode::SubscriptionIdentifiersNotSupported
            }
            ProtocolError::SharedSubscriptionsNotSupported => {
                ReasonCode::SharedSubscriptionsNotSupported
            }
            ProtocolError::PacketIdZero
            | ProtocolError::PropertyTwice
            | ProtocolError::PropertyValue
            | ProtocolError::ReasonCode
            | ProtocolError::TopicNameMissing
            | ProtocolError::ResponseTopic
            | ProtocolError::NoTopicFilter
            | ProtocolError::SubscriptionQoS
            | ProtocolError::RetainHandling
            | ProtocolError::NoLocalOnShared
            | ProtocolError::AuthenticationMethodMissing
            | ProtocolError::SessionPresent
            | ProtocolError::ConnectExpected
            | ProtocolError::SecondConnect
            | ProtocolError::UnexpectedAuth
            | ProtocolError::AcknowledgementType
            | ProtocolError::AuthExpected
            | ProtocolError::ServerPacket
            | ProtocolError::SessionExpiryRaised
            | ProtocolError::TopicAliasUnknown
            | ProtocolError::SubscriptionIdentifierFromClient => ReasonCode::ProtocolError,
        }
    }
}
