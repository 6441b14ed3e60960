//! PUBACK, PUBREC, PUBREL and PUBCOMP: the acknowledgements of QoS 1 and 2.

use super::{
    delivery::PacketId,
    error::DecodeError,
    frame::{self, Frame, PacketType},
    primitive::{Reader, put_u16},
    properties::ReasonProperties,
    reason_code::ReasonCode,
    version::Version,
};

/// The content of one of the four packets. [Section 3.4] to [Section 3.7]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    pub packet_id: PacketId,
    /// Before 5.0 it is not sent, and is always Success.
    pub reason_code: ReasonCode,
    pub properties: ReasonProperties<'a>,
}

impl<'a> Ack<'a> {
    /// An answer with the Reason Code Success.
    #[inline]
    pub fn success(packet_id: PacketId) -> Ack<'a> {
        Ack::with_reason(packet_id, ReasonCode::Success)
    }

    /// An answer with only a Reason Code.
    #[inline]
    pub fn with_reason(packet_id: PacketId, reason_code: ReasonCode) -> Ack<'a> {
        Ack { packet_id, reason_code, properties: ReasonProperties::default() }
    }

    #[inline]
    pub fn decode(frame: Frame<'a>, version: Version) -> Result<Ack<'a>, DecodeError> {
        frame.check_not_resent(version)?;
        let mut reader = Reader::new(frame.body);
        let mut ack = Ack::success(reader.packet_id()?);
        if version.has_properties() && !reader.is_empty() {
            ack.decode_reason(frame.packet_type(), &mut reader)?;
        }
        reader.finish()?;
        Ok(ack)
    }

    /// [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1]
    fn decode_reason(
        &mut self,
        packet_type: PacketType,
        reader: &mut Reader<'a>,
    ) -> Result<(), DecodeError> {
        self.reason_code = ReasonCode::decode(reader.u8()?, packet_type)?;
        if !reader.is_empty() {
            self.properties = ReasonProperties::decode(reader, Version::V5)?;
        }
        Ok(())
    }

    /// Appends the packet as one of this type, in its shortest form.
    #[inline]
    pub fn encode(&self, packet_type: PacketType, version: Version, out: &mut Vec<u8>) {
        let plain = self.reason_code == ReasonCode::Success && self.properties.is_empty();
        if plain || !version.has_properties() {
            let [high, low] = self.packet_id.value().to_be_bytes();
            out.extend_from_slice(&[packet_type.first_byte(), 2, high, low]);
        } else {
            self.encode_reason(packet_type, out);
        }
    }

    fn encode_reason(&self, packet_type: PacketType, out: &mut Vec<u8>) {
        frame::encode(packet_type, out, |out| {
            put_u16(out, self.packet_id.value());
            out.push(self.reason_code.value());
            if !self.properties.is_empty() {
                self.properties.encode(Version::V5, out);
            }
        });
    }
}
