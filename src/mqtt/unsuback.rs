//! UNSUBACK: the result for each subscription to end.

use super::{
    delivery::PacketId,
    error::{DecodeError, Malformed},
    frame::{self, Frame, PacketType},
    primitive::{Reader, put_u16},
    properties::ReasonProperties,
    reason_code::ReasonCode,
    version::Version,
};

/// The answer to an UNSUBSCRIBE. [Section 3.11]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsuback<'a> {
    pub packet_id: PacketId,
    pub properties: ReasonProperties<'a>,
    /// One for each Topic Filter, in their order; none before 5.0. [MQTT-3.11.3-1]
    pub reason_codes: &'a [u8],
}

impl<'a> Unsuback<'a> {
    pub fn decode(frame: Frame<'a>, version: Version) -> Result<Unsuback<'a>, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let packet_id = reader.packet_id()?;
        let properties = ReasonProperties::decode(&mut reader, version)?;
        let reason_codes = decode_codes(reader, version)?;
        Ok(Unsuback { packet_id, properties, reason_codes })
    }

    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        frame::encode(PacketType::Unsuback, out, |out| {
            put_u16(out, self.packet_id.value());
            self.properties.encode(version, out);
            if version.has_properties() {
                out.extend_from_slice(self.reason_codes);
            }
        });
    }
}

/// [MQTT-3.11.3-2]
fn decode_codes(reader: Reader<'_>, version: Version) -> Result<&[u8], DecodeError> {
    if !version.has_properties() {
        reader.finish()?;
        return Ok(&[]);
    }
    let codes = reader.rest();
    if codes.is_empty() {
        return Err(Malformed::Truncated.into());
    }
    ReasonCode::check_all(codes, PacketType::Unsuback)?;
    Ok(codes)
}
