//! Which fields a packet has, in which order, and of what they are made.

use super::{decoded, encoded, framed};
use crate::mqtt::{
    Connect, DecodeError, Malformed, Packet, PacketId, PacketType, ProtocolError, QoS, ReasonCode,
    ReasonProperties, Suback, Version,
};

/// Checks that each of the packets is refused with that error.
fn check(version: Version, error: Malformed, packets: &[(u8, &[u8])]) {
    for (first, body) in packets {
        let bytes = framed(*first, body);
        assert_eq!(decoded(&bytes, version), Err(error.into()), "{first:x} {body:x?}");
    }
}

/// A CONNECT with these flags and this payload.
fn connect(version: Version, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut body = b"\0\x04MQTT".to_vec();
    body.extend([version.level(), flags, 0, 9]);
    body.extend((version == Version::V5).then_some(0));
    body.extend(payload);
    framed(0x10, &body)
}

/// [MQTT-3.1.3-1] [MQTT-3.1.3-3] [MQTT-3.1.3-12] [MQTT-3.1.3-1@3.1.1] [MQTT-3.1.3-3@3.1.1]
/// [MQTT-3.1.3-11@3.1.1]
#[test]
fn the_fields_of_a_connect_stand_in_their_order() {
    let payload = b"\0\x02id\0\x04will\0\x04gone\0\x03ada\0\x02pw";
    let old = connect(Version::V311, 0xEC, payload);
    let modern = connect(Version::V5, 0xEC, b"\0\x02id\0\0\x04will\0\x04gone\0\x03ada\0\x02pw");
    for (bytes, version) in [(old, Version::V311), (modern, Version::V5)] {
        let Ok(Some(Packet::Connect(connect))) = decoded(&bytes, version) else {
            panic!("{bytes:x?} is no CONNECT")
        };
        let Connect { client_id, will: Some(will), user_name, password, .. } = connect else {
            panic!("{connect:?} has no Will")
        };
        assert_eq!((client_id, will.topic, will.payload), ("id", "will", &b"gone"[..]));
        assert_eq!((user_name, password), (Some("ada"), Some(&b"pw"[..])));
        assert_eq!((will.qos, will.retain), (QoS::AtLeastOnce, true));
        assert_eq!((connect.keep_alive, connect.clean_start), (9, false));
        assert_eq!(encoded(&Packet::Connect(connect), version), bytes);
    }
}

/// [MQTT-3.1.2-9] [MQTT-3.1.2-16] [MQTT-3.1.2-17] [MQTT-3.1.2-18] [MQTT-3.1.2-19] [MQTT-3.1.3-3]
/// [MQTT-3.1.2-9@3.1.1] [MQTT-3.1.2-11@3.1.1] [MQTT-3.1.2-18@3.1.1] [MQTT-3.1.2-19@3.1.1]
/// [MQTT-3.1.2-20@3.1.1] [MQTT-3.1.2-21@3.1.1] [MQTT-3.1.3-3@3.1.1]
#[test]
fn a_connect_has_the_fields_that_its_flags_announce_and_no_others() {
    let missing: [(u8, &[u8]); 5] = [
        (0x02, b""),
        (0x06, b"\0\x01c"),
        (0x06, b"\0\x01c\0\x01w"),
        (0x82, b"\0\x01c"),
        (0xC2, b"\0\x01c\0\x01u"),
    ];
    for (flags, payload) in missing {
        let bytes = connect(Version::V311, flags, payload);
        assert_eq!(decoded(&bytes, Version::V311), Err(Malformed::Truncated.into()), "{flags:x}");
    }
    let unannounced: [(u8, &[u8]); 3] = [
        (0x02, b"\0\x01c\0\x01w\0\x01p"),
        (0x02, b"\0\x01c\0\x01u"),
        (0x82, b"\0\x01c\0\x01u\0\x01p"),
    ];
    for (flags, payload) in unannounced {
        for version in [Version::V311, Version::V5] {
            let bytes = connect(version, flags, payload);
            assert_eq!(decoded(&bytes, version), Err(Malformed::Trailing.into()), "{flags:x}");
        }
    }
    // Password without User Name, Will Properties without anything behind them.
    let bytes = connect(Version::V5, 0x42, b"\0\x01c");
    assert_eq!(decoded(&bytes, Version::V5), Err(Malformed::Truncated.into()));
    let bytes = connect(Version::V5, 0x06, b"\0\x01c\0");
    assert_eq!(decoded(&bytes, Version::V5), Err(Malformed::Truncated.into()));
}

/// [MQTT-3.1.2-12]
#[test]
fn a_will_qos_of_3_is_malformed_in_5_0() {
    let bytes = connect(Version::V5, 0x1E, b"\0\x01c\0\0\x01w\0\0");
    assert_eq!(decoded(&bytes, Version::V5), Err(Malformed::QoS.into()));
}

/// [MQTT-3.1.3-4] [MQTT-3.1.3-11] [MQTT-3.1.3-12] [MQTT-1.5.3-2@3.1.1] [MQTT-3.1.3-4@3.1.1]
/// [MQTT-3.1.3-10@3.1.1] [MQTT-3.1.3-11@3.1.1]
#[test]
fn each_string_of_a_connect_is_well_formed() {
    for (wrong, error) in [(0xFF, Malformed::Utf8), (0, Malformed::NullCharacter)] {
        let payloads = [
            (0x02, [b"\0\x01", &[wrong][..]].concat()),
            (0x06, [b"\0\x01c\0\x01", &[wrong][..], b"\0\0"].concat()),
            (0x82, [b"\0\x01c\0\x01", &[wrong][..]].concat()),
        ];
        for (flags, payload) in payloads {
            let bytes = connect(Version::V311, flags, &payload);
            assert_eq!(decoded(&bytes, Version::V311), Err(error.into()), "{payload:x?}");
        }
    }
}

/// [MQTT-3.8.3-1] [MQTT-3.10.3-1] [MQTT-3.8.3-1@3.1.1] [MQTT-3.10.3-1@3.1.1]
#[test]
fn each_topic_filter_is_well_formed() {
    for (wrong, error) in [(0xFF, Malformed::Utf8), (0, Malformed::NullCharacter)] {
        let packets: [(u8, &[u8]); 2] =
            [(0x82, &[0, 1, 0, 1, wrong, 0]), (0xA2, &[0, 1, 0, 1, b'a', 0, 1, wrong])];
        check(Version::V311, error, &packets);
    }
}

/// [MQTT-1.5.7-1] [MQTT-3.3.2-13] [MQTT-3.3.2-19]
#[test]
fn each_string_of_a_property_is_well_formed() {
    let packets: [(u8, &[u8]); 4] = [
        // Content Type, Response Topic, and a User Property's name and value.
        (0x30, &[0, 1, b't', 4, 0x03, 0, 1, 0xFF]),
        (0x30, &[0, 1, b't', 4, 0x08, 0, 1, 0xFF]),
        (0x30, &[0, 1, b't', 7, 0x26, 0, 1, 0xFF, 0, 1, b'v']),
        (0x30, &[0, 1, b't', 7, 0x26, 0, 1, b'n', 0, 1, 0xFF]),
    ];
    check(Version::V5, Malformed::Utf8, &packets);
}

/// [MQTT-2.2.2-1]
#[test]
fn without_properties_their_length_is_zero() {
    let suback = Suback {
        packet_id: PacketId::MIN,
        properties: ReasonProperties::default(),
        reason_codes: &[0],
    };
    assert_eq!(encoded(&Packet::Suback(suback), Version::V5), [0x90, 4, 0, 1, 0, 0]);
    check(Version::V5, Malformed::Truncated, &[(0x30, &[0, 1, b't']), (0x82, &[0, 1])]);
}

/// [MQTT-3.2.2-8]
#[test]
fn what_a_connect_is_refused_for_is_a_code_of_connack() {
    let faults = [
        Malformed::Utf8.into(),
        ProtocolError::PropertyTwice.into(),
        DecodeError::PacketTooLarge,
        DecodeError::UnsupportedProtocolVersion,
        DecodeError::UnsupportedProtocolName,
    ];
    let refusals = [
        ReasonCode::ClientIdentifierNotValid,
        ReasonCode::BadUserNameOrPassword,
        ReasonCode::NotAuthorized,
        ReasonCode::ServerBusy,
        ReasonCode::BadAuthenticationMethod,
        ReasonCode::TopicNameInvalid,
        ReasonCode::QuotaExceeded,
    ];
    for code in faults.map(DecodeError::reason_code).into_iter().chain(refusals) {
        assert!(code.belongs_to(PacketType::Connack) && code.is_error(), "{code:?}");
        assert!((1..=5).contains(&code.connect_return_code()), "{code:?}");
    }
}
