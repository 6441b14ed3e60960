//! The properties of version 5.0, one by one: identifier, type, and where each may stand.

use std::num::{NonZeroU16, NonZeroU32};

use super::{
    delivery::QoS,
    error::{DecodeError, Malformed, ProtocolError},
    frame::PacketType,
    primitive::{Reader, put_binary, put_string, put_u16, put_u32, put_variable},
};

/// A set of places where a property may stand, one bit each.
pub(super) type Places = u32;

pub(super) const CONNECT: Places = 1 << PacketType::Connect as u32;
pub(super) const CONNACK: Places = 1 << PacketType::Connack as u32;
pub(super) const PUBLISH: Places = 1 << PacketType::Publish as u32;
pub(super) const SUBSCRIBE: Places = 1 << PacketType::Subscribe as u32;
pub(super) const UNSUBSCRIBE: Places = 1 << PacketType::Unsubscribe as u32;
pub(super) const DISCONNECT: Places = 1 << PacketType::Disconnect as u32;
pub(super) const AUTH: Places = 1 << PacketType::Auth as u32;
/// The acknowledgements whose only properties are a Reason String and User Properties.
pub(super) const ACK: Places = 1 << PacketType::Puback as u32;
pub(super) const WILL: Places = 1 << 16;
/// Outside any packet: what a message carries from publisher to subscriber unaltered.
pub(super) const APPLICATION: Places = 1 << 17;

/// Places that carry a message.
const MESSAGE: Places = PUBLISH | WILL | APPLICATION;
/// Places that carry the result of an operation.
const RESULT: Places = CONNACK | ACK | DISCONNECT | AUTH;

/// Writes down table 2-4 once: each property's identifier, name, type and places.
macro_rules! properties {
    ($($id:literal $name:ident($value:ty) in $places:expr;)+) => {
        /// One property with its value. [Table 2-4]
        #[derive(Clone, Copy, Debug)]
        #[expect(clippy::enum_variant_names, reason = "a User Property is called so")]
        pub(super) enum Property<'a> {
            $($name($value),)+
        }

        impl<'a> Property<'a> {
            /// Reads the value that follows an identifier.
            pub(super) fn decode(
                id: u8,
                reader: &mut Reader<'a>,
            ) -> Result<Property<'a>, DecodeError> {
                match id {
                    $($id => Ok(Property::$name(Value::read(reader)?)),)+
                    _ => Err(Malformed::PropertyIdentifier.into()),
                }
            }

            /// Appends identifier and value.
            pub(super) fn encode(self, out: &mut Vec<u8>) {
                match self {
                    $(Property::$name(value) => {
                        out.push($id);
                        value.write(out);
                    })+
                }
            }
        }

        /// Where the property with this identifier may stand: nowhere if there is none.
        pub(super) const fn places(id: u8) -> Places {
            match id {
                $($id => $places,)+
                _ => 0,
            }
        }
    };
}

properties! {
    0x01 PayloadFormatIndicator(bool) in MESSAGE;
    0x02 MessageExpiryInterval(u32) in PUBLISH | WILL;
    0x03 ContentType(&'a str) in MESSAGE;
    0x08 ResponseTopic(ResponseTopic<'a>) in MESSAGE;
    0x09 CorrelationData(&'a [u8]) in MESSAGE;
    0x0B SubscriptionIdentifier(Identifier) in PUBLISH | SUBSCRIBE;
    0x11 SessionExpiryInterval(u32) in CONNECT | CONNACK | DISCONNECT;
    0x12 AssignedClientIdentifier(&'a str) in CONNACK;
    0x13 ServerKeepAlive(u16) in CONNACK;
    0x15 AuthenticationMethod(&'a str) in CONNECT | CONNACK | AUTH;
    0x16 AuthenticationData(&'a [u8]) in CONNECT | CONNACK | AUTH;
    0x17 RequestProblemInformation(bool) in CONNECT;
    0x18 WillDelayInterval(u32) in WILL;
    0x19 RequestResponseInformation(bool) in CONNECT;
    0x1A ResponseInformation(&'a str) in CONNACK;
    0x1C ServerReference(&'a str) in CONNACK | DISCONNECT;
    0x1F ReasonString(&'a str) in RESULT;
    0x21 ReceiveMaximum(NonZeroU16) in CONNECT | CONNACK;
    0x22 TopicAliasMaximum(u16) in CONNECT | CONNACK;
    0x23 TopicAlias(TopicAlias) in PUBLISH;
    0x24 MaximumQos(MaximumQos) in CONNACK;
    0x25 RetainAvailable(bool) in CONNACK;
    0x26 UserProperty((&'a str, &'a str)) in CONNECT | MESSAGE | SUBSCRIBE | UNSUBSCRIBE | RESULT;
    0x27 MaximumPacketSize(NonZeroU32) in CONNECT | CONNACK;
    0x28 WildcardSubscriptionAvailable(bool) in CONNACK;
    0x29 SubscriptionIdentifierAvailable(bool) in CONNACK;
    0x2A SharedSubscriptionAvailable(bool) in CONNACK;
}

/// The only properties that may stand more than once: any number of pairs, and in a PUBLISH any
/// number of Subscription Identifiers.
pub(super) const USER_PROPERTY: u8 = 0x26;
pub(super) const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;

/// A Subscription Identifier: a Variable Byte Integer that is not zero.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identifier(pub(super) NonZeroU32);

/// A Topic Alias. Zero has an error of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct TopicAlias(pub(super) NonZeroU16);

/// A Maximum QoS: 0 or 1, since 2 is said by leaving the property out.
#[derive(Clone, Copy, Debug)]
pub(super) struct MaximumQos(pub(super) QoS);

/// A Response Topic: a Topic Name, neither empty nor with wildcards.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResponseTopic<'a>(pub(super) &'a str);

/// A type that properties have.
trait Value<'a>: Sized {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError>;
    fn write(self, out: &mut Vec<u8>);
}

impl Value<'_> for bool {
    fn read(reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
        match reader.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(ProtocolError::PropertyValue.into()),
        }
    }

    fn write(self, out: &mut Vec<u8>) {
        out.push(u8::from(self));
    }
}

impl Value<'_> for u16 {
    fn read(reader: &mut Reader<'_>) -> Result<u16, DecodeError> {
        Ok(reader.u16()?)
    }

    fn write(self, out: &mut Vec<u8>) {
        put_u16(out, self);
    }
}

impl Value<'_> for u32 {
    fn read(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
        Ok(reader.u32()?)
    }

    fn write(self, out: &mut Vec<u8>) {
        put_u32(out, self);
    }
}

impl Value<'_> for NonZeroU16 {
    fn read(reader: &mut Reader<'_>) -> Result<NonZeroU16, DecodeError> {
        Ok(NonZeroU16::new(reader.u16()?).ok_or(ProtocolError::PropertyValue)?)
    }

    fn write(self, out: &mut Vec<u8>) {
        put_u16(out, self.get());
    }
}

impl Value<'_> for NonZeroU32 {
    fn read(reader: &mut Reader<'_>) -> Result<NonZeroU32, DecodeError> {
        Ok(NonZeroU32::new(reader.u32()?).ok_or(ProtocolError::PropertyValue)?)
    }

    fn write(self, out: &mut Vec<u8>) {
        put_u32(out, self.get());
    }
}

impl Value<'_> for Identifier {
    fn read(reader: &mut Reader<'_>) -> Result<Identifier, DecodeError> {
        let value = NonZeroU32::new(reader.variable()?).ok_or(ProtocolError::PropertyValue)?;
        Ok(Identifier(value))
    }

    fn write(self, out: &mut Vec<u8>) {
        put_variable(out, self.0.get() as usize);
    }
}

impl Value<'_> for TopicAlias {
    fn read(reader: &mut Reader<'_>) -> Result<TopicAlias, DecodeError> {
        // [MQTT-3.3.2-8]
        let alias = NonZeroU16::new(reader.u16()?).ok_or(ProtocolError::TopicAliasInvalid)?;
        Ok(TopicAlias(alias))
    }

    fn write(self, out: &mut Vec<u8>) {
        put_u16(out, self.0.get());
    }
}

impl Value<'_> for MaximumQos {
    fn read(reader: &mut Reader<'_>) -> Result<MaximumQos, DecodeError> {
        let limited = bool::read(reader)?;
        Ok(MaximumQos(if limited { QoS::AtLeastOnce } else { QoS::AtMostOnce }))
    }

    fn write(self, out: &mut Vec<u8>) {
        out.push(self.0 as u8);
    }
}

impl<'a> Value<'a> for ResponseTopic<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<ResponseTopic<'a>, DecodeError> {
        match reader.topic() {
            // [MQTT-4.7.3-1] [MQTT-3.3.2-14]
            Ok("") | Err(DecodeError::Malformed(Malformed::TopicName)) => {
                Err(ProtocolError::ResponseTopic.into())
            }
            topic => topic.map(ResponseTopic),
        }
    }

    fn write(self, out: &mut Vec<u8>) {
        put_string(out, self.0);
    }
}

impl<'a> Value<'a> for &'a str {
    fn read(reader: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
        Ok(reader.string()?)
    }

    fn write(self, out: &mut Vec<u8>) {
        put_string(out, self);
    }
}

impl<'a> Value<'a> for &'a [u8] {
    fn read(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
        Ok(reader.binary()?)
    }

    fn write(self, out: &mut Vec<u8>) {
        put_binary(out, self);
    }
}

impl<'a> Value<'a> for (&'a str, &'a str) {
    /// [MQTT-1.5.7-1]
    fn read(reader: &mut Reader<'a>) -> Result<(&'a str, &'a str), DecodeError> {
        Ok((reader.string()?, reader.string()?))
    }

    fn write(self, out: &mut Vec<u8>) {
        put_string(out, self.0);
        put_string(out, self.1);
    }
}
