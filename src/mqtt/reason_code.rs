//! Reason Codes: how an operation went, and in which packets each may say so.

use super::{delivery::QoS, error::ProtocolError, frame::PacketType};

/// Writes down table 2-6 once: each code, its value, and the packets it belongs to.
macro_rules! reason_codes {
    ($($name:ident = $value:literal in $($packet:ident)|+;)+) => {
        /// The result of an operation, as version 5.0 names it. [Table 2-6]
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ReasonCode {
            $($name = $value,)+
        }

        impl ReasonCode {
            pub const ALL: &[ReasonCode] = &[$(ReasonCode::$name,)+];

            pub const fn from_u8(value: u8) -> Option<ReasonCode> {
                match value {
                    $($value => Some(ReasonCode::$name),)+
                    _ => None,
                }
            }

            /// Whether a packet of this type may carry the code.
            pub const fn belongs_to(self, packet_type: PacketType) -> bool {
                let packets: u16 = match self {
                    $(ReasonCode::$name => 0 $(| 1 << PacketType::$packet as u16)+,)+
                };
                packets >> packet_type as u16 & 1 == 1
            }
        }
    };
}

reason_codes! {
    Success = 0x00 in
        Connack | Puback | Pubrec | Pubrel | Pubcomp | Suback | Unsuback | Disconnect | Auth;
    GrantedQos1 = 0x01 in Suback;
    GrantedQos2 = 0x02 in Suback;
    DisconnectWithWillMessage = 0x04 in Disconnect;
    NoMatchingSubscribers = 0x10 in Puback | Pubrec;
    NoSubscriptionExisted = 0x11 in Unsuback;
    ContinueAuthentication = 0x18 in Auth;
    ReAuthenticate = 0x19 in Auth;
    UnspecifiedError = 0x80 in Connack | Puback | Pubrec | Suback | Unsuback | Disconnect;
    MalformedPacket = 0x81 in Connack | Disconnect;
    ProtocolError = 0x82 in Connack | Disconnect;
    ImplementationSpecificError = 0x83 in
        Connack | Puback | Pubrec | Suback | Unsuback | Disconnect;
    UnsupportedProtocolVersion = 0x84 in Connack;
    ClientIdentifierNotValid = 0x85 in Connack;
    BadUserNameOrPassword = 0x86 in Connack;
    NotAuthorized = 0x87 in Connack | Puback | Pubrec | Suback | Unsuback | Disconnect;
    ServerUnavailable = 0x88 in Connack;
    ServerBusy = 0x89 in Connack | Disconnect;
    Banned = 0x8A in Connack;
    ServerShuttingDown = 0x8B in Disconnect;
    BadAuthenticationMethod = 0x8C in Connack | Disconnect;
    KeepAliveTimeout = 0x8D in Disconnect;
    SessionTakenOver = 0x8E in Disconnect;
    TopicFilterInvalid = 0x8F in Suback | Unsuback | Disconnect;
    TopicNameInvalid = 0x90 in Connack | Puback | Pubrec | Disconnect;
    PacketIdentifierInUse = 0x91 in Puback | Pubrec | Suback | Unsuback;
    PacketIdentifierNotFound = 0x92 in Pubrel | Pubcomp;
    ReceiveMaximumExceeded = 0x93 in Disconnect;
    TopicAliasInvalid = 0x94 in Disconnect;
    PacketTooLarge = 0x95 in Connack | Disconnect;
    MessageRateTooHigh = 0x96 in Disconnect;
    QuotaExceeded = 0x97 in Connack | Puback | Pubrec | Suback | Disconnect;
    AdministrativeAction = 0x98 in Disconnect;
    PayloadFormatInvalid = 0x99 in Connack | Puback | Pubrec | Disconnect;
    RetainNotSupported = 0x9A in Connack | Disconnect;
    QosNotSupported = 0x9B in Connack | Disconnect;
    UseAnotherServer = 0x9C in Connack | Disconnect;
    ServerMoved = 0x9D in Connack | Disconnect;
    SharedSubscriptionsNotSupported = 0x9E in Suback | Disconnect;
    ConnectionRateExceeded = 0x9F in Connack | Disconnect;
    MaximumConnectTime = 0xA0 in Disconnect;
    SubscriptionIdentifiersNotSupported = 0xA1 in Suback | Disconnect;
    WildcardSubscriptionsNotSupported = 0xA2 in Suback | Disconnect;
}

impl ReasonCode {
    /// What 0x00 is called in a DISCONNECT.
    pub const NORMAL_DISCONNECTION: ReasonCode = ReasonCode::Success;
    /// What 0x00 is called in a SUBACK.
    pub const GRANTED_QOS_0: ReasonCode = ReasonCode::Success;

    /// The code that a received packet of this type carries.
    #[inline]
    pub(super) fn decode(value: u8, packet_type: PacketType) -> Result<ReasonCode, ProtocolError> {
        ReasonCode::from_u8(value)
            .filter(|code| code.belongs_to(packet_type))
            .ok_or(ProtocolError::ReasonCode)
    }

    /// Fails unless each value is a code that a packet of this type carries.
    pub(super) fn check_all(values: &[u8], packet_type: PacketType) -> Result<(), ProtocolError> {
        values.iter().try_for_each(|&value| ReasonCode::decode(value, packet_type).map(|_| ()))
    }

    /// A subscription was accepted at this QoS at the most.
    pub const fn granted(qos: QoS) -> ReasonCode {
        match qos {
            QoS::AtMostOnce => ReasonCode::Success,
            QoS::AtLeastOnce => ReasonCode::GrantedQos1,
            QoS::ExactlyOnce => ReasonCode::GrantedQos2,
        }
    }

    #[inline]
    pub const fn value(self) -> u8 {
        self as u8
    }

    /// Whether the operation failed.
    #[inline]
    pub const fn is_error(self) -> bool {
        self.value() >= 0x80
    }

    /// The CONNACK return code that says the same before 5.0.
    pub const fn connect_return_code(self) -> u8 {
        match self {
            ReasonCode::Success => 0,
            ReasonCode::UnsupportedProtocolVersion => 1,
            ReasonCode::ClientIdentifierNotValid => 2,
            ReasonCode::BadUserNameOrPassword => 4,
            ReasonCode::NotAuthorized
            | ReasonCode::Banned
            | ReasonCode::BadAuthenticationMethod => 5,
            // Server unavailable: the client may try again. [MQTT-3.2.2-5@3.1.1]
            _ => 3,
        }
    }

    /// The Reason Code that says the same as a CONNACK return code from before 5.0.
    pub const fn from_connect_return_code(value: u8) -> Option<ReasonCode> {
        match value {
            0 => Some(ReasonCode::Success),
            1 => Some(ReasonCode::UnsupportedProtocolVersion),
            2 => Some(ReasonCode::ClientIdentifierNotValid),
            3 => Some(ReasonCode::ServerUnavailable),
            4 => Some(ReasonCode::BadUserNameOrPassword),
            5 => Some(ReasonCode::NotAuthorized),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_is_found_by_its_value() {
        for value in 0..=u8::MAX {
            let found = ReasonCode::from_u8(value);
            assert!(found.is_none_or(|code| code.value() == value));
        }
        assert_eq!(ReasonCode::ALL.len(), 43);
    }

    #[test]
    fn return_codes_survive_the_way_there_and_back() {
        for value in 0..=5 {
            let code = ReasonCode::from_connect_return_code(value).unwrap();
            assert_eq!(code.connect_return_code(), value);
        }
        assert_eq!(ReasonCode::from_connect_return_code(6), None);
    }

    #[test]
    fn a_code_is_refused_where_the_table_does_not_list_it() {
        assert!(ReasonCode::PacketIdentifierNotFound.belongs_to(PacketType::Pubrel));
        assert!(!ReasonCode::PacketIdentifierNotFound.belongs_to(PacketType::Puback));
        assert!(ReasonCode::Success.belongs_to(PacketType::Auth));
        assert!(!ReasonCode::Success.belongs_to(PacketType::Publish));
    }
}
