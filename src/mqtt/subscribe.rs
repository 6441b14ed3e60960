//! SUBSCRIBE: the subscriptions that a client asks for. The Topic Filters are not checked here.

use std::{fmt, num::NonZeroU32};

use super::{
    delivery::{PacketId, QoS},
    error::{DecodeError, Malformed, ProtocolError},
    frame::{self, Frame, PacketType},
    primitive::{Reader, put_string, put_u16},
    properties::{self, PropertyReader, UserProperties, put},
    property::{Identifier, Property, SUBSCRIBE},
    version::Version,
};

/// A request for one or more subscriptions. [Section 3.8]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    pub packet_id: PacketId,
    pub subscription_identifier: Option<NonZeroU32>,
    pub user_properties: UserProperties<'a>,
    pub filters: SubscribeFilters<'a>,
}

/// The Subscription Options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubscriptionOptions {
    /// The highest QoS at which messages are sent.
    pub qos: QoS,
    /// The client's own messages are not sent back to it.
    pub no_local: bool,
    /// Messages keep their RETAIN flag.
    pub retain_as_published: bool,
    pub retain_handling: RetainHandling,
}

/// Whether a new subscription is sent the retained messages.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetainHandling {
    SendAtSubscribe = 0,
    /// Only if the subscription did not exist before.
    SendIfNew = 1,
    DoNotSend = 2,
}

impl SubscriptionOptions {
    /// What 3.1 and 3.1.1 can say.
    pub const fn with_qos(qos: QoS) -> SubscriptionOptions {
        SubscriptionOptions {
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::SendAtSubscribe,
        }
    }

    /// The byte that stands for them on the wire of 5.0.
    pub const fn to_bits(self) -> u8 {
        self.qos as u8
            | (self.no_local as u8) << 2
            | (self.retain_as_published as u8) << 3
            | (self.retain_handling as u8) << RETAIN_HANDLING_SHIFT
    }

    /// The options of 5.0 that a byte stands for.
    pub const fn from_bits(bits: u8) -> Result<SubscriptionOptions, DecodeError> {
        // [MQTT-3.8.3-5]
        if bits & RESERVED != 0 {
            return Err(DecodeError::Malformed(Malformed::SubscriptionOptions));
        }
        let Some(qos) = QoS::from_bits(bits & QOS_BITS) else {
            return Err(DecodeError::Protocol(ProtocolError::SubscriptionQoS));
        };
        let retain_handling = match bits >> RETAIN_HANDLING_SHIFT {
            0 => RetainHandling::SendAtSubscribe,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(DecodeError::Protocol(ProtocolError::RetainHandling)),
        };
        Ok(SubscriptionOptions {
            qos,
            no_local: bits & NO_LOCAL != 0,
            retain_as_published: bits & RETAIN_AS_PUBLISHED != 0,
            retain_handling,
        })
    }

    fn decode(bits: u8, version: Version) -> Result<SubscriptionOptions, DecodeError> {
        // Before 5.0 there is the QoS and nothing else. [Section 3.8.3 of 3.1.1]
        if version < Version::V5 && bits & !QOS_BITS != 0 {
            return Err(Malformed::SubscriptionOptions.into());
        }
        SubscriptionOptions::from_bits(bits)
    }
}

impl<'a> Subscribe<'a> {
    pub fn decode(frame: Frame<'a>, version: Version) -> Result<Subscribe<'a>, DecodeError> {
        frame.check_not_resent(version)?;
        let mut reader = Reader::new(frame.body);
        let mut subscribe = Subscribe {
            packet_id: reader.packet_id()?,
            subscription_identifier: None,
            user_properties: UserProperties::default(),
            filters: SubscribeFilters::List(&[]),
        };
        if version.has_properties() {
            subscribe.decode_properties(&mut reader)?;
        }
        subscribe.filters = SubscribeFilters::decode(reader, version)?;
        Ok(subscribe)
    }

    fn decode_properties(&mut self, packet: &mut Reader<'a>) -> Result<(), DecodeError> {
        let mut reader = PropertyReader::take_from(packet, SUBSCRIBE)?;
        for property in &mut reader {
            if let Property::SubscriptionIdentifier(Identifier(identifier)) = property? {
                self.subscription_identifier = Some(identifier);
            }
        }
        self.user_properties = reader.user_properties();
        Ok(())
    }

    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        frame::encode(PacketType::Subscribe, out, |out| {
            put_u16(out, self.packet_id.value());
            if version.has_properties() {
                properties::encode(out, |out| self.encode_properties(out));
            }
            self.filters.encode(version, out);
        });
    }

    fn encode_properties(&self, out: &mut Vec<u8>) {
        let identifier = self.subscription_identifier.map(Identifier);
        put(out, identifier.map(Property::SubscriptionIdentifier));
        self.user_properties.encode(out);
    }
}

/// Topic Filters, each with its options.
#[derive(Clone, Copy)]
pub enum SubscribeFilters<'a> {
    /// To be sent.
    List(&'a [(&'a str, SubscriptionOptions)]),
    /// As they came: at least one, each well-formed.
    Received(SubscribeBlock<'a>),
}

/// The bytes of Topic Filters and options that have been found valid.
#[derive(Clone, Copy, Debug)]
pub struct SubscribeBlock<'a>(&'a [u8]);

impl<'a> SubscribeFilters<'a> {
    /// [MQTT-3.8.3-1] [MQTT-3.8.3-2]
    fn decode(
        mut reader: Reader<'a>,
        version: Version,
    ) -> Result<SubscribeFilters<'a>, DecodeError> {
        if reader.is_empty() {
            return Err(ProtocolError::NoTopicFilter.into());
        }
        let block = SubscribeBlock(reader.rest());
        while !reader.is_empty() {
            check_filter(&mut reader, version)?;
        }
        Ok(SubscribeFilters::Received(block))
    }

    pub fn iter(self) -> impl Iterator<Item = (&'a str, SubscriptionOptions)> + use<'a> {
        let (list, block) = match self {
            SubscribeFilters::List(list) => (list, SubscribeBlock(&[])),
            SubscribeFilters::Received(block) => (&[][..], block),
        };
        list.iter().copied().chain(block.iter())
    }

    pub fn count(self) -> usize {
        self.iter().count()
    }

    fn encode(self, version: Version, out: &mut Vec<u8>) {
        for (filter, options) in self.iter() {
            put_string(out, filter);
            out.push(match version {
                Version::V5 => options.to_bits(),
                Version::V31 | Version::V311 => options.qos as u8,
            });
        }
    }
}

fn check_filter(reader: &mut Reader<'_>, version: Version) -> Result<(), DecodeError> {
    let filter = reader.string()?;
    let options = SubscriptionOptions::decode(reader.u8()?, version)?;
    // [MQTT-3.8.3-4]
    if options.no_local && filter.starts_with("$share/") {
        return Err(ProtocolError::NoLocalOnShared.into());
    }
    Ok(())
}

impl<'a> SubscribeBlock<'a> {
    fn iter(self) -> impl Iterator<Item = (&'a str, SubscriptionOptions)> {
        let mut reader = Reader::new(self.0);
        std::iter::from_fn(move || {
            let filter = reader.string().ok()?;
            let options = SubscriptionOptions::from_bits(reader.u8().ok()?).ok()?;
            Some((filter, options))
        })
    }
}

impl PartialEq for SubscribeFilters<'_> {
    fn eq(&self, other: &SubscribeFilters<'_>) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for SubscribeFilters<'_> {}

impl fmt::Debug for SubscribeFilters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

const QOS_BITS: u8 = 0x03;
const NO_LOCAL: u8 = 0x04;
const RETAIN_AS_PUBLISHED: u8 = 0x08;
const RETAIN_HANDLING_SHIFT: u8 = 4;
const RESERVED: u8 = 0xC0;
