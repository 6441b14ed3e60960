//! What can be wrong with received bytes, and the Reason Code that each fault deserves.
//!
//! All enums are closed and `Copy`: a hostile client cannot make anyone allocate by failing.

use super::reason_code::ReasonCode;

/// Why bytes are not a packet that may be acted upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DecodeError {
    #[error("malformed packet: {0}")]
    Malformed(#[from] Malformed),
    #[error("protocol error: {0}")]
    Protocol(#[from] ProtocolError),
    #[error("the packet is larger than the receiver takes")]
    PacketTooLarge,
    #[error("the Protocol Name or Protocol Version is not one that the server speaks")]
    UnsupportedProtocolVersion,
    #[error("the Topic Name contains a wildcard character")]
    TopicNameInvalid,
}

impl DecodeError {
    /// What to tell the other side in a CONNACK or a DISCONNECT.
    pub const fn reason_code(self) -> ReasonCode {
        match self {
            DecodeError::Malformed(_) => ReasonCode::MalformedPacket,
            DecodeError::Protocol(error) => error.reason_code(),
            DecodeError::PacketTooLarge => ReasonCode::PacketTooLarge,
            DecodeError::UnsupportedProtocolVersion => ReasonCode::UnsupportedProtocolVersion,
            DecodeError::TopicNameInvalid => ReasonCode::TopicNameInvalid,
        }
    }

    /// The family of the fault, as a label for metrics.
    pub const fn kind(self) -> &'static str {
        match self {
            DecodeError::Malformed(_) => "malformed",
            DecodeError::Protocol(_) => "protocol",
            DecodeError::PacketTooLarge => "packet_too_large",
            DecodeError::UnsupportedProtocolVersion => "unsupported_protocol_version",
            DecodeError::TopicNameInvalid => "topic_name_invalid",
        }
    }
}

/// The bytes cannot be parsed according to the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    #[error("a field runs past the end of the packet or is missing")]
    Truncated,
    #[error("bytes are left over after the last field")]
    Trailing,
    #[error("a Variable Byte Integer has more than four bytes or is not in its shortest form")]
    VariableByteInteger,
    #[error("a string is not well-formed UTF-8")]
    Utf8,
    #[error("a string contains the null character")]
    NullCharacter,
    #[error("the packet type is reserved")]
    PacketType,
    #[error("reserved flags of the fixed header have the wrong value")]
    FixedHeaderFlags,
    #[error("the QoS has the value 3")]
    QoS,
    #[error("DUP is set on a QoS 0 PUBLISH")]
    DupWithoutQoS,
    #[error("the Connect Flags contradict each other or a reserved flag is set")]
    ConnectFlags,
    #[error("reserved Connect Acknowledge Flags are set")]
    ConnectAcknowledgeFlags,
    #[error("the return code is reserved")]
    ReturnCode,
    #[error("a property is unknown or does not belong into this packet")]
    PropertyIdentifier,
    #[error("reserved bits of the Subscription Options are set")]
    SubscriptionOptions,
    #[error("a wildcard or a `$share` stands where a Topic Filter does not allow it")]
    TopicFilter,
}

/// The bytes can be parsed, but say what the protocol does not allow, or not at this moment.
///
/// The variants of the second group need more than the packet to be seen: whoever knows the
/// connection raises them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ProtocolError {
    #[error("the Packet Identifier is zero")]
    PacketIdZero,
    #[error("a property is included more than once")]
    PropertyTwice,
    #[error("a property has a value that it may not have")]
    PropertyValue,
    #[error("the Reason Code does not belong to this packet")]
    ReasonCode,
    #[error("the Topic Name is empty and there is no Topic Alias")]
    TopicNameMissing,
    #[error("the Response Topic is empty or contains a wildcard character")]
    ResponseTopic,
    #[error("there is no Topic Filter")]
    NoTopicFilter,
    #[error("the Maximum QoS of a subscription has the value 3")]
    SubscriptionQoS,
    #[error("the Retain Handling of a subscription has the value 3")]
    RetainHandling,
    #[error("No Local is set on a Shared Subscription")]
    NoLocalOnShared,
    #[error("the Authentication Method is missing")]
    AuthenticationMethodMissing,
    #[error("Session Present is set although the connection is refused")]
    SessionPresent,

    #[error("the first packet is not a CONNECT")]
    ConnectExpected,
    #[error("a second CONNECT")]
    SecondConnect,
    #[error("an AUTH that no authentication exchange expects")]
    UnexpectedAuth,
    #[error("the Authentication Method is not that of the CONNECT")]
    AuthenticationMethodChanged,
    #[error("neither AUTH nor DISCONNECT during the authentication")]
    AuthExpected,
    #[error("a packet that only servers send")]
    ServerPacket,
    #[error("the Topic Alias stands for no Topic Name yet")]
    TopicAliasUnknown,
    #[error("the Topic Alias is zero or above the Topic Alias Maximum")]
    TopicAliasInvalid,
    #[error("a Session Expiry Interval in DISCONNECT although it was zero in CONNECT")]
    SessionExpiryRaised,
    #[error("a Subscription Identifier in a PUBLISH from a client")]
    SubscriptionIdentifierFromClient,
    #[error("more unacknowledged PUBLISH packets than the Receive Maximum")]
    ReceiveMaximumExceeded,
}

impl ProtocolError {
    /// What to tell the other side in a CONNACK or a DISCONNECT.
    pub const fn reason_code(self) -> ReasonCode {
        match self {
            // Section 3.3.4 names this code for an alias of zero, too. [MQTT-3.3.2-8]
            ProtocolError::TopicAliasInvalid => ReasonCode::TopicAliasInvalid,
            ProtocolError::ReceiveMaximumExceeded => ReasonCode::ReceiveMaximumExceeded,
            ProtocolError::AuthenticationMethodChanged => ReasonCode::BadAuthenticationMethod,
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
            | ProtocolError::AuthExpected
            | ProtocolError::ServerPacket
            | ProtocolError::SessionExpiryRaised
            | ProtocolError::TopicAliasUnknown
            | ProtocolError::SubscriptionIdentifierFromClient => ReasonCode::ProtocolError,
        }
    }
}
