//! The Will Message, which a CONNECT leaves with the server.

use super::{
    application::ApplicationProperties,
    delivery::QoS,
    error::{DecodeError, ProtocolError},
    primitive::{Reader, put_binary, put_string},
    properties::{self, PropertyReader, put},
    property::{Property, WILL},
    version::Version,
};

/// The message that the server publishes when a connection ends without a normal DISCONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    pub qos: QoS,
    pub retain: bool,
    pub topic: &'a str,
    pub payload: &'a [u8],
    pub properties: WillProperties<'a>,
}

/// What a Will Message adds in version 5.0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WillProperties<'a> {
    /// Seconds between the end of the connection and the publication.
    pub will_delay_interval: u32,
    /// Seconds; absent means never.
    pub message_expiry_interval: Option<u32>,
    pub application: ApplicationProperties<'a>,
}

impl<'a> Will<'a> {
    /// Takes the Will Properties, Will Topic and Will Payload from a CONNECT.
    pub(super) fn decode(
        qos: QoS,
        retain: bool,
        version: Version,
        reader: &mut Reader<'a>,
    ) -> Result<Will<'a>, DecodeError> {
        let properties = WillProperties::decode(reader, version)?;
        // [MQTT-3.1.3-11]
        let topic = reader.topic()?;
        // [MQTT-4.7.3-1]
        if topic.is_empty() {
            return Err(ProtocolError::TopicNameMissing.into());
        }
        Ok(Will { qos, retain, topic, payload: reader.binary()?, properties })
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if version.has_properties() {
            properties::encode(out, |out| self.properties.encode_each(out));
        }
        put_string(out, self.topic);
        put_binary(out, self.payload);
    }
}

impl<'a> WillProperties<'a> {
    fn decode(
        packet: &mut Reader<'a>,
        version: Version,
    ) -> Result<WillProperties<'a>, DecodeError> {
        let mut properties = WillProperties::default();
        if !version.has_properties() {
            return Ok(properties);
        }
        let mut reader = PropertyReader::take_from(packet, WILL)?;
        for property in &mut reader {
            properties.set(property?);
        }
        properties.application.user_properties = reader.user_properties();
        Ok(properties)
    }

    fn set(&mut self, property: Property<'a>) {
        match property {
            Property::WillDelayInterval(secs) => self.will_delay_interval = secs,
            Property::MessageExpiryInterval(secs) => self.message_expiry_interval = Some(secs),
            other => self.application.set(other),
        }
    }

    fn encode_each(&self, out: &mut Vec<u8>) {
        let delay = (self.will_delay_interval > 0).then_some(self.will_delay_interval);
        put(out, delay.map(Property::WillDelayInterval));
        put(out, self.message_expiry_interval.map(Property::MessageExpiryInterval));
        self.application.encode(out);
    }
}
