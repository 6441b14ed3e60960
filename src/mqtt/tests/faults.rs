//! What is wrong with a packet, and the Reason Code that answers it.

use super::{decoded, encoded, framed};
use crate::mqtt::{
    Connack, ConnackProperties, DecodeError, Malformed, Packet, ProtocolError, ReasonCode, Version,
    connect::peek_version,
};

const V31: Version = Version::V31;
const V311: Version = Version::V311;
const V5: Version = Version::V5;

/// A first byte and the body behind it.
type Sample<'a> = (u8, &'a [u8]);

/// Checks that each of the packets is refused with that error.
fn check(version: Version, error: impl Into<DecodeError>, samples: &[Sample<'_>]) {
    let error = error.into();
    for (first, body) in samples {
        let refused = decoded(&framed(*first, body), version).map(|packet| format!("{packet:?}"));
        assert_eq!(refused, Err(error), "{first:x} {body:x?} in {version:?}");
    }
}

fn check_accepted(version: Version, samples: &[Sample<'_>]) {
    for (first, body) in samples {
        let bytes = framed(*first, body);
        let answer = decoded(&bytes, version);
        assert!(matches!(answer, Ok(Some(_))), "{first:x} {body:x?} in {version:?}: {answer:?}");
    }
}

/// The body of a CONNECT with these flags, a Keep Alive of zero and what follows.
fn connect(version: Version, flags: u8, rest: &[u8]) -> Vec<u8> {
    let name = version.protocol_name();
    let mut body = vec![0, u8::try_from(name.len()).unwrap()];
    body.extend(name.bytes());
    body.extend([version.level(), flags, 0, 0]);
    body.extend(rest);
    body
}

#[test]
fn each_family_of_faults_has_its_reason_code() {
    let expected = [
        (DecodeError::Malformed(Malformed::Utf8), ReasonCode::MalformedPacket),
        (DecodeError::Protocol(ProtocolError::PropertyTwice), ReasonCode::ProtocolError),
        (DecodeError::PacketTooLarge, ReasonCode::PacketTooLarge),
        (DecodeError::UnsupportedProtocolVersion, ReasonCode::UnsupportedProtocolVersion),
        (DecodeError::UnsupportedProtocolName, ReasonCode::UnsupportedProtocolVersion),
        (ProtocolError::TopicAliasInvalid.into(), ReasonCode::TopicAliasInvalid),
        (ProtocolError::ReceiveMaximumExceeded.into(), ReasonCode::ReceiveMaximumExceeded),
        (ProtocolError::SecondConnect.into(), ReasonCode::ProtocolError),
    ];
    for (error, code) in expected {
        assert_eq!(error.reason_code(), code, "{error}");
        assert!(!error.kind().is_empty());
    }
}

/// [MQTT-3.1.2-1] [MQTT-3.1.2-2] [MQTT-3.1.2-1@3.1.1]
#[test]
fn a_connect_of_an_unknown_protocol_or_version_is_unsupported() {
    let bodies: [(&[u8], Version); 6] = [
        (b"\0\x04MQTT\x06", V5),
        (b"\0\x04MQTT\xFF", V5),
        // Mosquitto's mark of a bridge stands on no other level.
        (b"\0\x04MQTT\x85", V5),
        (b"\0\x04MQTT\x03", V311),
        (b"\0\x06MQIsdp\x04", V31),
        (b"\0\x06MQIsdp\x84", V31),
    ];
    for (body, version) in bodies {
        check(V5, DecodeError::UnsupportedProtocolVersion, &[(0x10, body)]);
        assert_eq!(peek_version(body), Some(version));
    }
    for body in [&b"\0\x04mqtt\x04"[..], b"\0\0\x04", b"\0\x05MQTT\x05\x05"] {
        check(V5, DecodeError::UnsupportedProtocolName, &[(0x10, body)]);
        assert_eq!(peek_version(body), None);
    }
}

#[test]
fn the_version_of_a_malformed_connect_can_be_read() {
    for version in Version::ALL {
        let body = connect(version, 0x01, &[]);
        assert_eq!(peek_version(&body), Some(version));
        assert_eq!(peek_version(&body[..body.len() - 5]), None);
    }
}

/// [MQTT-3.1.2-3] [MQTT-3.1.2-11] [MQTT-3.1.2-13] [MQTT-3.1.2-3@3.1.1] [MQTT-3.1.2-11@3.1.1]
/// [MQTT-3.1.2-13@3.1.1] [MQTT-3.1.2-15@3.1.1]
#[test]
fn connect_flags_that_are_not_used_are_zero_since_3_1_1() {
    for flags in [0x01, 0x08, 0x10, 0x20] {
        check(V5, Malformed::ConnectFlags, &[(0x10, &connect(V5, flags, &[0, 0, 0]))]);
        check(V5, Malformed::ConnectFlags, &[(0x10, &connect(V311, flags, &[0, 0]))]);
        check_accepted(V5, &[(0x10, &connect(V31, flags, &[0, 0]))]);
    }
}

/// [MQTT-3.1.2-14@3.1.1]
#[test]
fn a_will_qos_of_3_is_malformed() {
    for version in [V31, V311] {
        let body = connect(version, 0x1C, b"\0\0\0\x01w\0\0");
        check(version, Malformed::QoS, &[(0x10, &body)]);
    }
}

#[test]
fn a_will_topic_is_a_topic_name() {
    let invalid = connect(V311, 0x04, b"\0\0\0\x01#\0\0");
    check(V311, Malformed::TopicName, &[(0x10, &invalid)]);
    let empty = connect(V311, 0x04, b"\0\0\0\0\0\0");
    check(V311, ProtocolError::TopicNameMissing, &[(0x10, &empty)]);
}

/// [MQTT-3.1.2-22@3.1.1]
#[test]
fn a_password_without_a_user_name_is_for_5_0_only() {
    check(V311, Malformed::ConnectFlags, &[(0x10, &connect(V311, 0x40, b"\0\0\0\x01p"))]);
    check_accepted(V5, &[(0x10, &connect(V5, 0x40, b"\0\0\0\0\x01p"))]);
}

#[test]
fn a_user_name_may_be_announced_and_left_out_in_3_1_only() {
    check_accepted(V31, &[(0x10, &connect(V31, 0xC0, &[0, 0]))]);
    check(V311, Malformed::Truncated, &[(0x10, &connect(V311, 0xC0, &[0, 0]))]);
}

/// [MQTT-3.1.4-1] [MQTT-3.1.4-1@3.1.1]
#[test]
fn bytes_after_the_last_field_are_malformed() {
    check(V5, Malformed::Trailing, &[(0x10, &connect(V311, 0, &[0, 0, 7]))]);
    let samples: [Sample<'_>; 6] = [
        (0x20, &[0, 0, 0, 0]),
        (0x40, &[0, 1, 0]),
        (0xB0, &[0, 1, 0]),
        (0xC0, &[0]),
        (0xD0, &[0]),
        (0xE0, &[0]),
    ];
    check(V311, Malformed::Trailing, &samples);
}

/// Each packet that 5.0 marks as an error in a property. [Section 2.2.2.2]
#[test]
fn a_property_that_does_not_belong_into_its_packet_is_malformed() {
    let samples: [Sample<'_>; 6] = [
        // A Topic Alias in a PUBACK, an unknown identifier, identifiers of more than one byte.
        (0x40, &[0, 1, 0, 3, 0x23, 0, 1]),
        (0x30, &[0, 1, b'a', 2, 0x7F, 0]),
        (0x30, &[0, 1, b'a', 3, 0x80, 0x01, 0]),
        (0x30, &[0, 1, b'a', 3, 0x81, 0x00, 0]),
        // A Session Expiry Interval in a SUBSCRIBE, a Will Delay Interval in a PUBLISH.
        (0x82, &[0, 1, 5, 0x11, 0, 0, 0, 1, 0, 1, b'a', 0]),
        (0x30, &[0, 1, b'a', 5, 0x18, 0, 0, 0, 1]),
    ];
    check(V5, Malformed::PropertyIdentifier, &samples);
}

#[test]
fn a_property_that_stands_twice_is_a_protocol_error() {
    let samples: [Sample<'_>; 3] = [
        (0x30, &[0, 1, b'a', 4, 0x01, 0, 0x01, 0]),
        (0x82, &[0, 1, 4, 0x0B, 1, 0x0B, 2, 0, 1, b'a', 0]),
        (0xE0, &[0, 10, 0x11, 0, 0, 0, 1, 0x11, 0, 0, 0, 1]),
    ];
    check(V5, ProtocolError::PropertyTwice, &samples);
    let repeated: [Sample<'_>; 2] = [
        (0x30, &[0, 1, b'a', 4, 0x0B, 1, 0x0B, 1]),
        (0x40, &[0, 1, 0, 10, 0x26, 0, 0, 0, 0, 0x26, 0, 0, 0, 0]),
    ];
    check_accepted(V5, &repeated);
}

#[test]
fn a_property_with_a_value_out_of_its_range_is_a_protocol_error() {
    let zero_receive_maximum = connect(V5, 0, &[3, 0x21, 0, 0, 0, 0]);
    let zero_packet_size = connect(V5, 0, &[5, 0x27, 0, 0, 0, 0, 0, 0]);
    let request_of_2 = connect(V5, 0, &[2, 0x17, 2, 0, 0]);
    let samples: [Sample<'_>; 6] = [
        (0x10, &zero_receive_maximum),
        (0x10, &zero_packet_size),
        (0x10, &request_of_2),
        (0x20, &[0, 0, 2, 0x24, 2]),
        (0x30, &[0, 1, b'a', 2, 0x01, 2]),
        (0x82, &[0, 1, 2, 0x0B, 0, 0, 1, b'a', 0]),
    ];
    check(V5, ProtocolError::PropertyValue, &samples);
}

#[test]
fn properties_end_where_their_length_says() {
    let samples: [Sample<'_>; 3] = [
        (0x30, &[0, 1, b'a', 9, 0x01, 0]),
        (0x30, &[0, 1, b'a', 1, 0x01, 0]),
        (0x30, &[0, 1, b'a']),
    ];
    check(V5, Malformed::Truncated, &samples);
}

#[test]
fn authentication_data_without_a_method_is_a_protocol_error() {
    let body = connect(V5, 0, &[3, 0x16, 0, 0, 0, 0]);
    let samples: [Sample<'_>; 2] = [(0x10, &body), (0xF0, &[0x18, 3, 0x16, 0, 0])];
    check(V5, ProtocolError::AuthenticationMethodMissing, &samples);
    check_accepted(V5, &[(0xF0, &[])]);
}

#[test]
fn there_is_no_auth_before_5_0() {
    check(V311, Malformed::PacketType, &[(0xF0, &[])]);
}

/// [MQTT-3.3.1-2] [MQTT-3.3.1-2@3.1.1]
#[test]
fn dup_means_something_only_above_qos_0() {
    check(V5, Malformed::DupWithoutQoS, &[(0x38, &[0, 1, b'a', 0])]);
    check(V311, Malformed::DupWithoutQoS, &[(0x38, &[0, 1, b'a'])]);
    check_accepted(V31, &[(0x38, &[0, 1, b'a'])]);
}

/// [MQTT-3.3.2-1] [MQTT-3.3.2-2] [MQTT-3.3.2-1@3.1.1] [MQTT-3.3.2-2@3.1.1]
#[test]
fn a_publish_names_its_topic() {
    check(V311, Malformed::TopicName, &[(0x30, b"\0\x03a/+"), (0x30, b"\0\x01#")]);
    check(V311, ProtocolError::TopicNameMissing, &[(0x30, &[0, 0])]);
    check(V5, ProtocolError::TopicNameMissing, &[(0x30, &[0, 0, 0])]);
    check_accepted(V5, &[(0x30, &[0, 0, 3, 0x23, 0, 1])]);
}

/// [MQTT-3.3.2-8]
#[test]
fn a_topic_alias_of_zero_is_invalid() {
    check(V5, ProtocolError::TopicAliasInvalid, &[(0x30, &[0, 0, 3, 0x23, 0, 0])]);
}

/// [MQTT-3.3.2-14]
#[test]
fn a_response_topic_is_a_topic_name() {
    let samples: [Sample<'_>; 2] =
        [(0x30, b"\0\x01a\x04\x08\0\x01+"), (0x30, b"\0\x01a\x03\x08\0\0")];
    check(V5, ProtocolError::ResponseTopic, &samples);
}

/// [MQTT-2.2.1-3] [MQTT-2.3.1-1@3.1.1]
#[test]
fn a_packet_identifier_of_zero_is_a_protocol_error() {
    let samples: [Sample<'_>; 5] = [
        (0x32, &[0, 1, b'a', 0, 0]),
        (0x40, &[0, 0]),
        (0x62, &[0, 0]),
        (0x82, &[0, 0, 0, 1, b'a', 0]),
        (0xA2, &[0, 0, 0, 1, b'a']),
    ];
    check(V311, ProtocolError::PacketIdZero, &samples);
}

/// [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-3.6.1-1@3.1.1] [MQTT-3.8.1-1@3.1.1]
/// [MQTT-3.10.1-1@3.1.1]
#[test]
fn only_3_1_sends_requests_again_with_a_mark() {
    let samples: [Sample<'_>; 3] =
        [(0x6A, &[0, 1]), (0x8A, &[0, 1, 0, 1, b'a', 0]), (0xAA, &[0, 1, 0, 1, b'a'])];
    check_accepted(V31, &samples);
    check(V311, Malformed::FixedHeaderFlags, &samples);
}

/// [MQTT-3.8.3-2] [MQTT-3.10.3-2] [MQTT-3.8.3-3@3.1.1] [MQTT-3.10.3-2@3.1.1]
#[test]
fn a_request_names_at_least_one_topic_filter() {
    let samples: [Sample<'_>; 2] = [(0x82, &[0, 1]), (0xA2, &[0, 1])];
    check(V311, ProtocolError::NoTopicFilter, &samples);
    let samples: [Sample<'_>; 2] = [(0x82, &[0, 1, 0]), (0xA2, &[0, 1, 0])];
    check(V5, ProtocolError::NoTopicFilter, &samples);
}

/// [MQTT-3.8.3-4] [MQTT-3.8.3-5]
#[test]
fn subscription_options_say_what_their_version_allows() {
    let with = |options| [0, 1, 0, 0, 1, b'a', options];
    check(V5, Malformed::SubscriptionOptions, &[(0x82, &with(0x40)), (0x82, &with(0x80))]);
    check(V5, ProtocolError::SubscriptionQoS, &[(0x82, &with(0x03))]);
    check(V5, ProtocolError::RetainHandling, &[(0x82, &with(0x30))]);
    check_accepted(V5, &[(0x82, &with(0x2E))]);
    let shared = b"\0\x01\0\0\x0A$share/g/a\x04";
    check(V5, ProtocolError::NoLocalOnShared, &[(0x82, shared)]);
    let samples: [Sample<'_>; 2] = [(0x82, &[0, 1, 0, 1, b'a', 4]), (0x82, &[0, 1, 0, 1, b'a', 8])];
    check(V311, Malformed::SubscriptionOptions, &samples);
}

/// [MQTT-3.4.2-1] [MQTT-3.6.2-1] [MQTT-3.9.3-2] [MQTT-3.11.3-2] [MQTT-3.15.2-1]
/// [MQTT-3.9.3-2@3.1.1]
#[test]
fn a_reason_code_belongs_to_its_packet() {
    let samples: [Sample<'_>; 7] = [
        (0x40, &[0, 1, 0x92]),
        (0x62, &[0, 1, 0x10]),
        (0x90, &[0, 1, 0, 0x11]),
        (0xB0, &[0, 1, 0, 0x01]),
        (0xE0, &[0x03]),
        (0xF0, &[0x04, 0]),
        (0x20, &[0, 0x8B, 0]),
    ];
    check(V5, ProtocolError::ReasonCode, &samples);
    check(V311, ProtocolError::ReasonCode, &[(0x90, &[0, 1, 3])]);
    check(V311, Malformed::ReturnCode, &[(0x20, &[0, 6])]);
}

/// [MQTT-3.9.3-2] [MQTT-3.11.3-2]
#[test]
fn an_answer_to_a_list_has_at_least_one_reason_code() {
    check(V5, Malformed::Truncated, &[(0x90, &[0, 1, 0]), (0xB0, &[0, 1, 0])]);
    check(V311, Malformed::Truncated, &[(0x90, &[0, 1])]);
    check_accepted(V311, &[(0xB0, &[0, 1])]);
}

/// [MQTT-3.2.2-1]
#[test]
fn session_present_is_not_told_in_3_1() {
    let connack = Packet::Connack(Connack {
        session_present: true,
        reason_code: ReasonCode::Success,
        properties: ConnackProperties::default(),
    });
    assert_eq!(encoded(&connack, V31), [0x20, 2, 0, 0]);
    assert_eq!(encoded(&connack, V311), [0x20, 2, 1, 0]);
}

/// [MQTT-3.2.2-1]
#[test]
fn session_present_is_a_single_bit_of_a_success() {
    check(V5, ProtocolError::SessionPresent, &[(0x20, &[1, 0x87, 0])]);
    check(V311, ProtocolError::SessionPresent, &[(0x20, &[1, 5])]);
    check(V5, Malformed::ConnectAcknowledgeFlags, &[(0x20, &[2, 0, 0])]);
    check_accepted(V31, &[(0x20, &[0xFF, 0])]);
}

#[test]
fn short_forms_are_read_in_5_0() {
    let samples: [Sample<'_>; 6] = [
        (0x40, &[0, 1]),
        (0x40, &[0, 1, 0x10]),
        (0x50, &[0, 1, 0x10, 0]),
        (0xE0, &[]),
        (0xE0, &[0x04]),
        (0xE0, &[0x04, 0]),
    ];
    check_accepted(V5, &samples);
}
