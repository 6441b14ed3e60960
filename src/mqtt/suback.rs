//! SUBACK: the result of each requested subscription.

use super::{
    delivery::PacketId,
    error::{DecodeError, Malformed, ProtocolError},
    frame::{self, Frame, PacketType},
    primitive::{Reader, put_u16},
    properties::ReasonProperties,
    reason_code::ReasonCode,
    version::Version,
};

/// The answer to a SUBSCRIBE. [Section 3.9]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suback<'a> {
    pub packet_id: PacketId,
    pub properties: ReasonProperties<'a>,
    /// One for each Topic Filter, in their order, as the version writes them. [MQTT-3.9.3-1]
    pub reason_codes: &'a [u8],
}

impl<'a> Suback<'a> {
    /// What any refusal is called before 5.0.
    pub const FAILURE: u8 = ReasonCode::UnspecifiedError.value();

    pub fn decode(frame: Frame<'a>, version: Version) -> Result<Suback<'a>, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let packet_id = reader.packet_id()?;
        let properties = ReasonProperties::decode(&mut reader, version)?;
        let reason_codes = reader.rest();
        if reason_codes.is_empty() {
            return Err(Malformed::Truncated.into());
        }
        check_codes(reason_codes, version)?;
        Ok(Suback { packet_id, properties, reason_codes })
    }

    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        frame::encode(PacketType::Suback, out, |out| {
            put_u16(out, self.packet_id.value());
            self.properties.encode(version, out);
            out.extend_from_slice(self.reason_codes);
        });
    }
}

/// [MQTT-3.9.3-2]
fn check_codes(codes: &[u8], version: Version) -> Result<(), DecodeError> {
    if version.has_properties() {
        return Ok(ReasonCode::check_all(codes, PacketType::Suback)?);
    }
    // [MQTT-3.9.3-2@3.1.1]
    let is_valid = |&code: &u8| matches!(code, 0..=2 | Suback::FAILURE);
    if codes.iter().all(is_valid) { Ok(()) } else { Err(ProtocolError::ReasonCode.into()) }
}
