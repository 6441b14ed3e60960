//! AUTH: one step of an authentication that takes several. Exists since 5.0.

use super::{
    error::{DecodeError, Malformed, ProtocolError},
    frame::{self, Frame, PacketType},
    primitive::Reader,
    properties::{self, PropertyReader, ReasonProperties, put},
    property::{AUTH, Property},
    reason_code::ReasonCode,
    version::Version,
};

/// One step. [Section 3.15]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Auth<'a> {
    pub reason_code: ReasonCode,
    /// Absent only from a Success that says nothing else.
    pub method: Option<&'a str>,
    pub data: Option<&'a [u8]>,
    pub properties: ReasonProperties<'a>,
}

impl<'a> Auth<'a> {
    pub fn decode(frame: Frame<'a>, version: Version) -> Result<Auth<'a>, DecodeError> {
        if !version.has_properties() {
            return Err(Malformed::PacketType.into());
        }
        let mut reader = Reader::new(frame.body);
        let mut auth = Auth {
            reason_code: ReasonCode::Success,
            method: None,
            data: None,
            properties: ReasonProperties::default(),
        };
        if !reader.is_empty() {
            auth.decode_step(&mut reader)?;
        }
        reader.finish()?;
        Ok(auth)
    }

    /// [MQTT-3.15.2-1]
    fn decode_step(&mut self, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        self.reason_code = ReasonCode::decode(reader.u8()?, PacketType::Auth)?;
        let mut properties = PropertyReader::take_from(reader, AUTH)?;
        for property in &mut properties {
            self.set(property?);
        }
        self.properties.user_properties = properties.user_properties();
        // [Section 3.15.2.2.2]
        if self.method.is_none() {
            return Err(ProtocolError::AuthenticationMethodMissing.into());
        }
        Ok(())
    }

    fn set(&mut self, property: Property<'a>) {
        match property {
            Property::AuthenticationMethod(method) => self.method = Some(method),
            Property::AuthenticationData(data) => self.data = Some(data),
            other => self.properties.set(other),
        }
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        frame::encode(PacketType::Auth, out, |out| {
            if self.says_nothing() {
                return;
            }
            out.push(self.reason_code.value());
            properties::encode(out, |out| {
                put(out, self.method.map(Property::AuthenticationMethod));
                put(out, self.data.map(Property::AuthenticationData));
                self.properties.encode_each(out);
            });
        });
    }

    fn says_nothing(&self) -> bool {
        self.reason_code == ReasonCode::Success
            && self.method.is_none()
            && self.data.is_none()
            && self.properties.is_empty()
    }
}
