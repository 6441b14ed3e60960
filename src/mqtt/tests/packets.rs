//! Any packet of any version, with all that it can say.
//!
//! What the packets borrow is leaked, so that strategies can hand out packets themselves: a few
//! kilobytes per property, gone with the test process.

use std::{
    fmt::Debug,
    num::{NonZeroU16, NonZeroU32},
};

use proptest::{collection::vec, option, prelude::*, sample::select};

use crate::mqtt::{
    Ack, ApplicationProperties, Auth, Connack, ConnackProperties, Connect, ConnectProperties,
    Delivery, Disconnect, Packet, PacketId, PacketType, Publish, PublishProperties, QoS,
    ReasonCode, ReasonProperties, RetainHandling, Suback, Subscribe, SubscribeFilters,
    SubscriptionIdentifiers, SubscriptionOptions, Unsuback, Unsubscribe, UnsubscribeFilters,
    UserProperties, Version, Will, WillProperties,
};

type Any<T> = BoxedStrategy<T>;

/// The largest Subscription Identifier.
const IDENTIFIER_MAX: u32 = 268_435_455;

pub(super) fn version() -> impl Strategy<Value = Version> {
    select(&Version::ALL)
}

pub(super) fn packet(version: Version) -> Any<Packet<'static>> {
    let of_all_versions = prop_oneof![
        connect(version).prop_map(Packet::Connect),
        connack(version).prop_map(Packet::Connack),
        publish(version).prop_map(Packet::Publish),
        ack(PacketType::Puback, version).prop_map(Packet::Puback),
        ack(PacketType::Pubrec, version).prop_map(Packet::Pubrec),
        ack(PacketType::Pubrel, version).prop_map(Packet::Pubrel),
        ack(PacketType::Pubcomp, version).prop_map(Packet::Pubcomp),
        subscribe(version).prop_map(Packet::Subscribe),
        suback(version).prop_map(Packet::Suback),
        unsubscribe(version).prop_map(Packet::Unsubscribe),
        unsuback(version).prop_map(Packet::Unsuback),
        Just(Packet::Pingreq),
        Just(Packet::Pingresp),
        disconnect(version).prop_map(Packet::Disconnect),
    ];
    match version {
        Version::V5 => {
            prop_oneof![14 => of_all_versions, 1 => auth().prop_map(Packet::Auth)].boxed()
        }
        Version::V31 | Version::V311 => of_all_versions.boxed(),
    }
}

/// What only version 5.0 can say; the others say nothing.
fn since_5<T: Clone + Debug + Default + 'static>(
    version: Version,
    strategy: impl Strategy<Value = T> + 'static,
) -> Any<T> {
    if version.has_properties() { strategy.boxed() } else { Just(T::default()).boxed() }
}

fn text() -> impl Strategy<Value = &'static str> {
    prop_oneof![9 => "[^\\x00]{0,8}", 1 => "[a-z]{120,300}"].prop_map(|text| &*text.leak())
}

fn topic() -> impl Strategy<Value = &'static str> {
    prop_oneof![9 => "[^\\p{Cc}\\p{NChar}+#]{1,8}", 1 => "[a-z/]{120,300}"]
        .prop_map(|topic| &*topic.leak())
}

fn binary() -> impl Strategy<Value = &'static [u8]> {
    vec(any::<u8>(), 0..12).prop_map(|bytes| &*bytes.leak())
}

/// As long as not to fit into one or two bytes of Remaining Length, now and then.
fn payload() -> impl Strategy<Value = &'static [u8]> {
    let lens = prop_oneof![8 => 0..20usize, 1 => 100..300usize, 1 => 16_300..16_500usize];
    (lens, any::<u8>()).prop_map(|(len, byte)| &*vec![byte; len].leak())
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_map(|value| PacketId::new(value).unwrap())
}

fn identifier() -> impl Strategy<Value = u32> {
    prop_oneof![1..200u32, 1..=IDENTIFIER_MAX]
}

fn nonzero_u16() -> impl Strategy<Value = NonZeroU16> {
    (1..=u16::MAX).prop_map(|value| NonZeroU16::new(value).unwrap())
}

fn nonzero_u32() -> impl Strategy<Value = NonZeroU32> {
    (1..=u32::MAX).prop_map(|value| NonZeroU32::new(value).unwrap())
}

fn user_properties() -> impl Strategy<Value = UserProperties<'static>> {
    vec((text(), text()), 0..3).prop_map(|pairs| UserProperties::Pairs(pairs.leak()))
}

fn reason_code(packet_type: PacketType) -> impl Strategy<Value = ReasonCode> {
    select(ReasonCode::ALL)
        .prop_filter("another packet's", move |code| code.belongs_to(packet_type))
}

fn connect(version: Version) -> impl Strategy<Value = Connect<'static>> {
    let credentials = (option::of(text()), option::of(binary()), any::<bool>());
    let fields = (any::<bool>(), any::<u16>(), text(), option::of(will(version)), credentials);
    (fields, since_5(version, connect_properties())).prop_map(move |(fields, properties)| {
        let (clean_start, keep_alive, client_id, will, (user_name, password, is_bridge)) = fields;
        // Before 5.0 a password stands only behind a user name.
        let password = password.filter(|_| version == Version::V5 || user_name.is_some());
        Connect {
            version,
            is_bridge: is_bridge && version < Version::V5,
            clean_start,
            keep_alive,
            client_id,
            will,
            user_name,
            password,
            properties,
        }
    })
}

fn connect_properties() -> impl Strategy<Value = ConnectProperties<'static>> {
    let limits = (
        option::of(any::<u32>()),
        option::of(nonzero_u16()),
        option::of(nonzero_u32()),
        any::<u16>(),
    );
    let requests = (any::<bool>(), any::<bool>());
    (limits, requests, user_properties(), authentication()).prop_map(
        |(limits, requests, user_properties, (method, data))| ConnectProperties {
            session_expiry_interval: limits.0,
            receive_maximum: limits.1,
            maximum_packet_size: limits.2,
            topic_alias_maximum: limits.3,
            request_response_information: requests.0,
            request_problem_information: requests.1,
            user_properties,
            authentication_method: method,
            authentication_data: data,
        },
    )
}

/// Data comes only with a method.
fn authentication() -> impl Strategy<Value = (Option<&'static str>, Option<&'static [u8]>)> {
    (option::of(text()), option::of(binary()))
        .prop_map(|(method, data)| (method, data.filter(|_| method.is_some())))
}

fn will(version: Version) -> impl Strategy<Value = Will<'static>> {
    let fields = (select(&QoS::ALL), any::<bool>(), topic(), binary());
    (fields, since_5(version, will_properties())).prop_map(
        |((qos, retain, topic, payload), properties)| Will {
            qos,
            retain,
            topic,
            payload,
            properties,
        },
    )
}

fn will_properties() -> impl Strategy<Value = WillProperties<'static>> {
    (any::<u32>(), option::of(any::<u32>()), application()).prop_map(
        |(will_delay_interval, message_expiry_interval, application)| WillProperties {
            will_delay_interval,
            message_expiry_interval,
            application,
        },
    )
}

pub(super) fn application() -> impl Strategy<Value = ApplicationProperties<'static>> {
    (
        option::of(0..=1u8),
        option::of(text()),
        option::of(topic()),
        option::of(binary()),
        user_properties(),
    )
        .prop_map(
            |(format, content_type, response_topic, correlation_data, user_properties)| {
                ApplicationProperties {
                    payload_format_indicator: format,
                    content_type,
                    response_topic,
                    correlation_data,
                    user_properties,
                }
            },
        )
}

fn connack(version: Version) -> Any<Connack<'static>> {
    let codes = match version {
        Version::V5 => reason_code(PacketType::Connack).boxed(),
        Version::V31 | Version::V311 => {
            (0..=5u8).prop_map(|code| ReasonCode::from_connect_return_code(code).unwrap()).boxed()
        }
    };
    (any::<bool>(), codes, since_5(version, connack_properties()))
        .prop_map(move |(session_present, reason_code, properties)| Connack {
            session_present: session_present
                && version > Version::V31
                && reason_code == ReasonCode::Success,
            reason_code,
            properties,
        })
        .boxed()
}

fn connack_properties() -> impl Strategy<Value = ConnackProperties<'static>> {
    let limits = (
        option::of(any::<u32>()),
        option::of(nonzero_u16()),
        select(&QoS::ALL),
        option::of(nonzero_u32()),
        any::<u16>(),
        option::of(any::<u16>()),
    );
    let available = any::<[bool; 4]>();
    let texts = (option::of(text()), option::of(text()), option::of(text()), option::of(text()));
    (limits, available, texts, user_properties(), authentication()).prop_map(
        |(limits, available, texts, user_properties, (method, data))| ConnackProperties {
            session_expiry_interval: limits.0,
            receive_maximum: limits.1,
            maximum_qos: limits.2,
            retain_available: available[0],
            maximum_packet_size: limits.3,
            assigned_client_identifier: texts.0,
            topic_alias_maximum: limits.4,
            reason_string: texts.1,
            user_properties,
            wildcard_subscription_available: available[1],
            subscription_identifiers_available: available[2],
            shared_subscription_available: available[3],
            server_keep_alive: limits.5,
            response_information: texts.2,
            server_reference: texts.3,
            authentication_method: method,
            authentication_data: data,
        },
    )
}

pub(super) fn publish(version: Version) -> impl Strategy<Value = Publish<'static>> {
    let delivery = prop_oneof![
        Just(Delivery::AtMostOnce),
        packet_id().prop_map(Delivery::AtLeastOnce),
        packet_id().prop_map(Delivery::ExactlyOnce),
    ];
    let fields = (any::<bool>(), any::<bool>(), delivery, topic(), any::<bool>());
    (fields, since_5(version, publish_properties()), payload()).prop_map(
        |((dup, retain, delivery, topic, anonymous), properties, payload)| Publish {
            dup: dup && delivery != Delivery::AtMostOnce,
            retain,
            delivery,
            // An alias may stand for the name.
            topic: if anonymous && properties.topic_alias.is_some() { "" } else { topic },
            properties,
            payload,
        },
    )
}

fn publish_properties() -> impl Strategy<Value = PublishProperties<'static>> {
    let identifiers = vec(identifier(), 0..4);
    (option::of(any::<u32>()), option::of(nonzero_u16()), application(), identifiers).prop_map(
        |(message_expiry_interval, topic_alias, application, identifiers)| PublishProperties {
            message_expiry_interval,
            topic_alias,
            application,
            subscription_identifiers: SubscriptionIdentifiers::List(identifiers.leak()),
        },
    )
}

fn reason_properties() -> impl Strategy<Value = ReasonProperties<'static>> {
    (option::of(text()), user_properties()).prop_map(|(reason_string, user_properties)| {
        ReasonProperties { reason_string, user_properties }
    })
}

fn ack(packet_type: PacketType, version: Version) -> impl Strategy<Value = Ack<'static>> {
    let codes = match version {
        Version::V5 => reason_code(packet_type).boxed(),
        Version::V31 | Version::V311 => Just(ReasonCode::Success).boxed(),
    };
    (packet_id(), codes, since_5(version, reason_properties()))
        .prop_map(|(packet_id, reason_code, properties)| Ack { packet_id, reason_code, properties })
}

fn options(version: Version) -> Any<SubscriptionOptions> {
    let qos = select(&QoS::ALL);
    if version < Version::V5 {
        return qos.prop_map(SubscriptionOptions::with_qos).boxed();
    }
    let retain_handling = select(&[
        RetainHandling::SendAtSubscribe,
        RetainHandling::SendIfNew,
        RetainHandling::DoNotSend,
    ]);
    (qos, any::<bool>(), any::<bool>(), retain_handling)
        .prop_map(|(qos, no_local, retain_as_published, retain_handling)| SubscriptionOptions {
            qos,
            no_local,
            retain_as_published,
            retain_handling,
        })
        .boxed()
}

fn subscribe(version: Version) -> impl Strategy<Value = Subscribe<'static>> {
    let properties = (option::of(identifier()), user_properties());
    let filters = vec((text(), options(version)), 1..4);
    (packet_id(), since_5(version, properties), filters).prop_map(
        |(packet_id, (identifier, user_properties), filters)| Subscribe {
            packet_id,
            subscription_identifier: identifier.and_then(NonZeroU32::new),
            user_properties,
            filters: SubscribeFilters::List(filters.leak()),
        },
    )
}

fn unsubscribe(version: Version) -> impl Strategy<Value = Unsubscribe<'static>> {
    (packet_id(), since_5(version, user_properties()), vec(text(), 1..4)).prop_map(
        |(packet_id, user_properties, filters)| Unsubscribe {
            packet_id,
            user_properties,
            filters: UnsubscribeFilters::List(filters.leak()),
        },
    )
}

fn suback(version: Version) -> impl Strategy<Value = Suback<'static>> {
    let code = match version {
        Version::V5 => reason_code(PacketType::Suback).prop_map(ReasonCode::value).boxed(),
        Version::V31 | Version::V311 => select(&[0, 1, 2, Suback::FAILURE]).boxed(),
    };
    (packet_id(), since_5(version, reason_properties()), vec(code, 1..4)).prop_map(
        |(packet_id, properties, codes)| Suback {
            packet_id,
            properties,
            reason_codes: codes.leak(),
        },
    )
}

fn unsuback(version: Version) -> impl Strategy<Value = Unsuback<'static>> {
    let codes = vec(reason_code(PacketType::Unsuback).prop_map(ReasonCode::value), 1..4);
    (packet_id(), since_5(version, reason_properties()), since_5(version, codes)).prop_map(
        |(packet_id, properties, codes)| Unsuback {
            packet_id,
            properties,
            reason_codes: codes.leak(),
        },
    )
}

fn disconnect(version: Version) -> Any<Disconnect<'static>> {
    let plain = Just(Disconnect::with_reason(ReasonCode::NORMAL_DISCONNECTION));
    if version < Version::V5 {
        return plain.boxed();
    }
    let fields = (option::of(any::<u32>()), option::of(text()), reason_properties());
    let full = (reason_code(PacketType::Disconnect), fields).prop_map(
        |(reason_code, (session_expiry_interval, server_reference, properties))| Disconnect {
            reason_code,
            session_expiry_interval,
            server_reference,
            properties,
        },
    );
    let short = reason_code(PacketType::Disconnect).prop_map(Disconnect::with_reason);
    prop_oneof![plain, short, full].boxed()
}

fn auth() -> impl Strategy<Value = Auth<'static>> {
    let fields = (text(), option::of(binary()), reason_properties());
    (reason_code(PacketType::Auth), fields).prop_map(|(reason_code, (method, data, properties))| {
        Auth { reason_code, method: Some(method), data, properties }
    })
}
