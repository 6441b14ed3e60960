//! DISCONNECT: the last packet of a connection. Before 5.0 only clients send it.

use super::{
    error::DecodeError,
    frame::{self, Frame, PacketType},
    primitive::Reader,
    properties::{self, PropertyReader, ReasonProperties, put},
    property::{DISCONNECT, Property},
    reason_code::ReasonCode,
    version::Version,
};

/// The end, and why. [Section 3.14]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect<'a> {
    pub reason_code: ReasonCode,
    /// Seconds; only clients send it. [MQTT-3.14.2-2]
    pub session_expiry_interval: Option<u32>,
    pub server_reference: Option<&'a str>,
    pub properties: ReasonProperties<'a>,
}

impl<'a> Disconnect<'a> {
    /// A DISCONNECT that says no more than its Reason Code.
    pub fn with_reason(reason_code: ReasonCode) -> Disconnect<'a> {
        Disconnect {
            reason_code,
            session_expiry_interval: None,
            server_reference: None,
            properties: ReasonProperties::default(),
        }
    }

    pub fn decode(frame: Frame<'a>, version: Version) -> Result<Disconnect<'a>, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let mut disconnect = Disconnect::with_reason(ReasonCode::NORMAL_DISCONNECTION);
        if version.has_properties() && !reader.is_empty() {
            disconnect.decode_reason(&mut reader)?;
        }
        reader.finish()?;
        Ok(disconnect)
    }

    /// [MQTT-3.14.2-1]
    fn decode_reason(&mut self, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        self.reason_code = ReasonCode::decode(reader.u8()?, PacketType::Disconnect)?;
        if reader.is_empty() {
            return Ok(());
        }
        let mut properties = PropertyReader::take_from(reader, DISCONNECT)?;
        for property in &mut properties {
            self.set(property?);
        }
        self.properties.user_properties = properties.user_properties();
        Ok(())
    }

    fn set(&mut self, property: Property<'a>) {
        match property {
            Property::SessionExpiryInterval(secs) => self.session_expiry_interval = Some(secs),
            Property::ServerReference(server) => self.server_reference = Some(server),
            other => self.properties.set(other),
        }
    }

    /// Appends the packet. It has no body before 5.0, or for a normal disconnection without
    /// properties. A Property Length of zero is written, although it is optional, because some
    /// clients reject the packet without it.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        frame::encode(PacketType::Disconnect, out, |out| {
            if !version.has_properties() {
                return;
            }
            if self.has_properties() || self.reason_code != ReasonCode::NORMAL_DISCONNECTION {
                out.push(self.reason_code.value());
                properties::encode(out, |out| self.encode_properties(out));
            }
        });
    }

    fn has_properties(&self) -> bool {
        self.session_expiry_interval.is_some()
            || self.server_reference.is_some()
            || !self.properties.is_empty()
    }

    fn encode_properties(&self, out: &mut Vec<u8>) {
        put(out, self.session_expiry_interval.map(Property::SessionExpiryInterval));
        put(out, self.server_reference.map(Property::ServerReference));
        self.properties.encode_each(out);
    }
}
