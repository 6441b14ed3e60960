//! PUBLISH: a message from a client or to a client.
//!
//! [`Publish`] is a received packet. [`PublishHead`] is what the server writes for subscribers: the
//! packet up to its payload, which many subscribers share.

use std::num::{NonZeroU16, NonZeroU32};

use super::{
    application::ApplicationProperties,
    delivery::{Delivery, QoS},
    error::{DecodeError, Malformed, ProtocolError},
    frame::{DUP, Frame, PacketType},
    primitive::{Reader, put_string, put_u16, put_variable, put_with_length, variable_len},
    properties::{self, PropertyReader, SubscriptionIdentifiers, put},
    property::{Identifier, PUBLISH, Property, TopicAlias},
    version::Version,
};

/// A message and how it travels. [Section 3.3]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    pub dup: bool,
    pub retain: bool,
    pub delivery: Delivery,
    /// Empty only if a Topic Alias stands for it.
    pub topic: &'a str,
    pub properties: PublishProperties<'a>,
    pub payload: &'a [u8],
}

/// What a PUBLISH adds in version 5.0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublishProperties<'a> {
    /// Seconds; absent means never.
    pub message_expiry_interval: Option<u32>,
    pub topic_alias: Option<NonZeroU16>,
    pub application: ApplicationProperties<'a>,
    pub subscription_identifiers: SubscriptionIdentifiers<'a>,
}

impl<'a> Publish<'a> {
    pub fn decode(frame: Frame<'a>, version: Version) -> Result<Publish<'a>, DecodeError> {
        Publish::decode_next(frame, version, &mut "")
    }

    /// As [`Publish::decode`], but faster if the topic is equal to `latest`, the topic of the
    /// PUBLISH before: it is then not checked again.
    #[expect(clippy::inline_always, reason = "the frame is not to go through memory")]
    #[inline(always)]
    pub fn decode_next(
        frame: Frame<'a>,
        version: Version,
        latest: &mut &'a str,
    ) -> Result<Publish<'a>, DecodeError> {
        let mut reader = Reader::new(frame.body);
        // [MQTT-3.3.2-1]
        let topic = reader.topic_like(latest)?;
        *latest = topic;
        let delivery = decode_delivery(frame.first, &mut reader)?;
        let dup = decode_dup(frame.first, delivery, version)?;
        let retain = frame.first & RETAIN != 0;
        // Each version returns by itself, so that absent properties are not moved.
        if version.has_properties() {
            let properties = PublishProperties::decode(&mut reader)?;
            // Without an alias, the name must not be empty. [MQTT-4.7.3-1] [Section 3.3.2.1]
            if topic.is_empty() && properties.topic_alias.is_none() {
                return Err(ProtocolError::TopicNameMissing.into());
            }
            return Ok(Publish {
                dup,
                retain,
                delivery,
                topic,
                properties,
                payload: reader.rest(),
            });
        }
        if topic.is_empty() {
            return Err(ProtocolError::TopicNameMissing.into());
        }
        let properties = PublishProperties::default();
        Ok(Publish { dup, retain, delivery, topic, properties, payload: reader.rest() })
    }

    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        out.push(first_byte(self.dup, self.delivery.qos(), self.retain));
        put_with_length(out, self.payload.len(), |out| {
            put_string(out, self.topic);
            if let Some(id) = self.delivery.packet_id() {
                put_u16(out, id.value());
            }
            self.properties.encode(version, out);
        });
        out.extend_from_slice(self.payload);
    }
}

#[inline]
const fn first_byte(dup: bool, qos: QoS, retain: bool) -> u8 {
    PacketType::Publish.first_byte() | (dup as u8) << 3 | (qos as u8) << QOS_SHIFT | retain as u8
}

/// [MQTT-2.2.1-2] [MQTT-2.2.1-3]
#[inline]
fn decode_delivery(first: u8, reader: &mut Reader<'_>) -> Result<Delivery, DecodeError> {
    match QoS::from_bits(first >> QOS_SHIFT & 0b11).ok_or(Malformed::QoS)? {
        QoS::AtMostOnce => Ok(Delivery::AtMostOnce),
        QoS::AtLeastOnce => reader.packet_id().map(Delivery::AtLeastOnce),
        QoS::ExactlyOnce => reader.packet_id().map(Delivery::ExactlyOnce),
    }
}

/// [MQTT-3.3.1-2]
#[inline]
fn decode_dup(first: u8, delivery: Delivery, version: Version) -> Result<bool, Malformed> {
    let dup = first & DUP != 0;
    if !dup || delivery != Delivery::AtMostOnce {
        return Ok(dup);
    }
    // In 3.1 the flag has no meaning here.
    if version == Version::V31 { Ok(false) } else { Err(Malformed::DupWithoutQoS) }
}

impl<'a> PublishProperties<'a> {
    #[inline]
    fn decode(packet: &mut Reader<'a>) -> Result<PublishProperties<'a>, DecodeError> {
        let mut properties = PublishProperties::default();
        let mut reader = PropertyReader::take_from(packet, PUBLISH)?;
        for property in &mut reader {
            properties.set(property?);
        }
        properties.application.user_properties = reader.user_properties();
        properties.subscription_identifiers = reader.subscription_identifiers();
        Ok(properties)
    }

    fn set(&mut self, property: Property<'a>) {
        match property {
            Property::MessageExpiryInterval(secs) => self.message_expiry_interval = Some(secs),
            Property::TopicAlias(TopicAlias(alias)) => self.topic_alias = Some(alias),
            other => self.application.set(other),
        }
    }

    fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if version.has_properties() {
            properties::encode(out, |out| self.encode_each(out));
        }
    }

    fn encode_each(&self, out: &mut Vec<u8>) {
        put(out, self.message_expiry_interval.map(Property::MessageExpiryInterval));
        put(out, self.topic_alias.map(|alias| Property::TopicAlias(TopicAlias(alias))));
        self.subscription_identifiers.encode(out);
        self.application.encode(out);
    }
}

/// A PUBLISH up to its payload, for one shape of subscriber.
#[derive(Clone, Copy, Debug)]
pub struct PublishHead<'a> {
    pub dup: bool,
    pub qos: QoS,
    pub retain: bool,
    pub topic: &'a str,
    /// As [`ApplicationProperties::encode`] has written them.
    pub application: &'a [u8],
    /// Seconds that are left.
    pub message_expiry_interval: Option<u32>,
    /// Zeros are left out, since no subscription has that identifier.
    pub subscription_identifiers: &'a [u32],
    pub topic_alias: Option<NonZeroU16>,
    /// Bytes of the payload that the caller appends.
    pub payload_len: usize,
}

/// Where in an encoded head the bytes are that differ between receivers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blanks {
    /// Still zero.
    pub packet_id: Option<usize>,
    /// As the head has it.
    pub topic_alias: Option<usize>,
}

impl PublishHead<'_> {
    /// Appends everything up to the payload. Returns where in `out` the two bytes of the Packet
    /// Identifier are, if there is one; they are zero. Fields that the version lacks are left out.
    ///
    /// A packet whose [`PublishHead::len`] is above [`super::frame::PACKET_SIZE_MAX`] cannot be
    /// expressed and must not be sent.
    #[inline]
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) -> Option<usize> {
        self.encode_with_blanks(version, out).packet_id
    }

    /// As [`PublishHead::encode`], and also returns where the Topic Alias is.
    #[expect(clippy::inline_always, reason = "the blanks are not to go through memory")]
    #[inline(always)]
    pub fn encode_with_blanks(&self, version: Version, out: &mut Vec<u8>) -> Blanks {
        let property_length = self.property_length(version);
        let remaining_length = self.remaining_length(version, property_length);
        out.reserve(FIXED_HEADER_MAX + remaining_length - self.payload_len);
        out.push(first_byte(self.dup, self.qos, self.retain));
        put_variable(out, remaining_length);
        put_string(out, self.topic);
        let packet_id = (self.qos > QoS::AtMostOnce).then_some(out.len());
        if packet_id.is_some() {
            put_u16(out, 0);
        }
        let mut topic_alias = None;
        if version.has_properties() {
            put_variable(out, property_length);
            topic_alias = self.encode_properties(out);
        }
        Blanks { packet_id, topic_alias }
    }

    /// Bytes of the whole packet, payload included.
    #[inline]
    pub fn len(&self, version: Version) -> usize {
        let remaining_length = self.remaining_length(version, self.property_length(version));
        1 + variable_len(remaining_length) + remaining_length
    }

    #[inline]
    fn remaining_length(&self, version: Version, property_length: usize) -> usize {
        let packet_id_len = if self.qos > QoS::AtMostOnce { 2 } else { 0 };
        let properties_len = if version.has_properties() {
            variable_len(property_length) + property_length
        } else {
            0
        };
        2 + self.topic.len() + packet_id_len + properties_len + self.payload_len
    }

    #[inline]
    fn property_length(&self, version: Version) -> usize {
        if !version.has_properties() {
            return 0;
        }
        let expiry_len = self.message_expiry_interval.map_or(0, |_| 5);
        let alias_len = self.topic_alias.map_or(0, |_| 3);
        let identifiers_len: usize =
            self.identifiers().map(|identifier| 1 + variable_len(identifier.get() as usize)).sum();
        expiry_len + alias_len + identifiers_len + self.application.len()
    }

    fn identifiers(&self) -> impl Iterator<Item = NonZeroU32> {
        self.subscription_identifiers.iter().copied().filter_map(NonZeroU32::new)
    }

    #[inline]
    fn encode_properties(&self, out: &mut Vec<u8>) -> Option<usize> {
        put(out, self.message_expiry_interval.map(Property::MessageExpiryInterval));
        put(out, self.topic_alias.map(|alias| Property::TopicAlias(TopicAlias(alias))));
        let topic_alias = self.topic_alias.map(|_| out.len() - 2);
        for identifier in self.identifiers() {
            Property::SubscriptionIdentifier(Identifier(identifier)).encode(out);
        }
        out.extend_from_slice(self.application);
        topic_alias
    }
}

/// Bytes of the longest fixed header.
const FIXED_HEADER_MAX: usize = 5;
const RETAIN: u8 = 0b0001;
const QOS_SHIFT: u8 = 1;
