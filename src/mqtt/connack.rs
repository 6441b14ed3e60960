//! CONNACK: whether the server accepts the client, and which limits and features it has.

use std::num::{NonZeroU16, NonZeroU32};

use super::{
    delivery::QoS,
    error::{DecodeError, Malformed, ProtocolError},
    frame::{self, Frame, PacketType},
    primitive::Reader,
    properties::{self, PropertyReader, UserProperties, put},
    property::{CONNACK, MaximumQos, Property},
    reason_code::ReasonCode,
    version::Version,
};

/// The answer to a CONNECT. [Section 3.2]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connack<'a> {
    pub session_present: bool,
    /// Before 5.0 this is sent as the nearest return code.
    pub reason_code: ReasonCode,
    pub properties: ConnackProperties<'a>,
}

/// The properties of a CONNACK of version 5.0. The defaults mean that a property is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the specification has that many yes and no")]
pub struct ConnackProperties<'a> {
    /// Seconds; absent means what the client asked for.
    pub session_expiry_interval: Option<u32>,
    /// Absent means 65,535.
    pub receive_maximum: Option<NonZeroU16>,
    pub maximum_qos: QoS,
    pub retain_available: bool,
    /// Bytes; absent means no limit.
    pub maximum_packet_size: Option<NonZeroU32>,
    pub assigned_client_identifier: Option<&'a str>,
    pub topic_alias_maximum: u16,
    pub reason_string: Option<&'a str>,
    pub user_properties: UserProperties<'a>,
    pub wildcard_subscription_available: bool,
    pub subscription_identifiers_available: bool,
    pub shared_subscription_available: bool,
    /// Seconds; absent means what the client asked for.
    pub server_keep_alive: Option<u16>,
    pub response_information: Option<&'a str>,
    pub server_reference: Option<&'a str>,
    pub authentication_method: Option<&'a str>,
    pub authentication_data: Option<&'a [u8]>,
}

impl Default for ConnackProperties<'_> {
    fn default() -> Self {
        ConnackProperties {
            session_expiry_interval: None,
            receive_maximum: None,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            maximum_packet_size: None,
            assigned_client_identifier: None,
            topic_alias_maximum: 0,
            reason_string: None,
            user_properties: UserProperties::default(),
            wildcard_subscription_available: true,
            subscription_identifiers_available: true,
            shared_subscription_available: true,
            server_keep_alive: None,
            response_information: None,
            server_reference: None,
            authentication_method: None,
            authentication_data: None,
        }
    }
}

impl<'a> Connack<'a> {
    /// A CONNACK with only the reason why the client is refused. [MQTT-3.2.2-6]
    pub fn refusal(reason_code: ReasonCode) -> Connack<'a> {
        Connack { session_present: false, reason_code, properties: ConnackProperties::default() }
    }

    pub fn decode(frame: Frame<'a>, version: Version) -> Result<Connack<'a>, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let session_present = decode_flags(reader.u8()?, version)?;
        let reason_code = decode_reason_code(reader.u8()?, version)?;
        // [MQTT-3.2.2-6]
        if session_present && reason_code != ReasonCode::Success {
            return Err(ProtocolError::SessionPresent.into());
        }
        let properties = ConnackProperties::decode(&mut reader, version)?;
        reader.finish()?;
        Ok(Connack { session_present, reason_code, properties })
    }

    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        frame::encode(PacketType::Connack, out, |out| {
            // 3.1 has no Session Present.
            out.push(u8::from(self.session_present && version > Version::V31));
            out.push(match version {
                Version::V5 => self.reason_code.value(),
                Version::V31 | Version::V311 => self.reason_code.connect_return_code(),
            });
            self.properties.encode(version, out);
        });
    }
}

/// [MQTT-3.2.2-1]
fn decode_flags(flags: u8, version: Version) -> Result<bool, Malformed> {
    match flags {
        // 3.1 does not use this byte.
        _ if version == Version::V31 => Ok(false),
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed::ConnectAcknowledgeFlags),
    }
}

/// [MQTT-3.2.2-8]
fn decode_reason_code(value: u8, version: Version) -> Result<ReasonCode, DecodeError> {
    if version < Version::V5 {
        return Ok(ReasonCode::from_connect_return_code(value).ok_or(Malformed::ReturnCode)?);
    }
    Ok(ReasonCode::decode(value, PacketType::Connack)?)
}

impl<'a> ConnackProperties<'a> {
    fn decode(
        packet: &mut Reader<'a>,
        version: Version,
    ) -> Result<ConnackProperties<'a>, DecodeError> {
        let mut properties = ConnackProperties::default();
        if !version.has_properties() {
            return Ok(properties);
        }
        let mut reader = PropertyReader::take_from(packet, CONNACK)?;
        for property in &mut reader {
            properties.set(property?);
        }
        properties.user_properties = reader.user_properties();
        Ok(properties)
    }

    fn set(&mut self, property: Property<'a>) {
        match property {
            Property::SessionExpiryInterval(secs) => self.session_expiry_interval = Some(secs),
            Property::ReceiveMaximum(maximum) => self.receive_maximum = Some(maximum),
            Property::MaximumQos(MaximumQos(qos)) => self.maximum_qos = qos,
            Property::RetainAvailable(yes) => self.retain_available = yes,
            Property::MaximumPacketSize(bytes) => self.maximum_packet_size = Some(bytes),
            Property::AssignedClientIdentifier(id) => self.assigned_client_identifier = Some(id),
            Property::TopicAliasMaximum(maximum) => self.topic_alias_maximum = maximum,
            Property::ReasonString(reason) => self.reason_string = Some(reason),
            Property::WildcardSubscriptionAvailable(yes) => {
                self.wildcard_subscription_available = yes;
            }
            Property::SubscriptionIdentifierAvailable(yes) => {
                self.subscription_identifiers_available = yes;
            }
            Property::SharedSubscriptionAvailable(yes) => self.shared_subscription_available = yes,
            Property::ServerKeepAlive(secs) => self.server_keep_alive = Some(secs),
            Property::ResponseInformation(text) => self.response_information = Some(text),
            Property::ServerReference(server) => self.server_reference = Some(server),
            Property::AuthenticationMethod(method) => self.authentication_method = Some(method),
            Property::AuthenticationData(data) => self.authentication_data = Some(data),
            _ => {}
        }
    }

    fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if version.has_properties() {
            properties::encode(out, |out| {
                self.encode_limits(out);
                self.encode_texts(out);
            });
        }
    }

    fn encode_limits(&self, out: &mut Vec<u8>) {
        let unavailable = |available: bool| (!available).then_some(false);
        let qos = (self.maximum_qos < QoS::ExactlyOnce).then_some(MaximumQos(self.maximum_qos));
        let aliases = (self.topic_alias_maximum > 0).then_some(self.topic_alias_maximum);
        let retain = unavailable(self.retain_available);
        let wildcard = unavailable(self.wildcard_subscription_available);
        let identifiers = unavailable(self.subscription_identifiers_available);
        let shared = unavailable(self.shared_subscription_available);
        put(out, self.session_expiry_interval.map(Property::SessionExpiryInterval));
        put(out, self.receive_maximum.map(Property::ReceiveMaximum));
        put(out, qos.map(Property::MaximumQos));
        put(out, retain.map(Property::RetainAvailable));
        put(out, self.maximum_packet_size.map(Property::MaximumPacketSize));
        put(out, aliases.map(Property::TopicAliasMaximum));
        put(out, wildcard.map(Property::WildcardSubscriptionAvailable));
        put(out, identifiers.map(Property::SubscriptionIdentifierAvailable));
        put(out, shared.map(Property::SharedSubscriptionAvailable));
        put(out, self.server_keep_alive.map(Property::ServerKeepAlive));
    }

    fn encode_texts(&self, out: &mut Vec<u8>) {
        put(out, self.assigned_client_identifier.map(Property::AssignedClientIdentifier));
        put(out, self.reason_string.map(Property::ReasonString));
        put(out, self.response_information.map(Property::ResponseInformation));
        put(out, self.server_reference.map(Property::ServerReference));
        put(out, self.authentication_method.map(Property::AuthenticationMethod));
        put(out, self.authentication_data.map(Property::AuthenticationData));
        self.user_properties.encode(out);
    }
}
