//! UNSUBSCRIBE: the subscriptions that a client ends.

use std::fmt;

use super::{
    delivery::PacketId,
    error::{DecodeError, ProtocolError},
    frame::{self, Frame, PacketType},
    primitive::{Reader, put_string, put_u16},
    properties::{self, PropertyReader, UserProperties},
    property::UNSUBSCRIBE,
    version::Version,
};

/// A request to end one or more subscriptions. [Section 3.10]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    pub packet_id: PacketId,
    pub user_properties: UserProperties<'a>,
    pub filters: UnsubscribeFilters<'a>,
}

impl<'a> Unsubscribe<'a> {
    pub fn decode(frame: Frame<'a>, version: Version) -> Result<Unsubscribe<'a>, DecodeError> {
        frame.check_not_resent(version)?;
        let mut reader = Reader::new(frame.body);
        let packet_id = reader.packet_id()?;
        let user_properties = decode_properties(&mut reader, version)?;
        let filters = UnsubscribeFilters::decode(reader)?;
        Ok(Unsubscribe { packet_id, user_properties, filters })
    }

    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        frame::encode(PacketType::Unsubscribe, out, |out| {
            put_u16(out, self.packet_id.value());
            if version.has_properties() {
                properties::encode(out, |out| self.user_properties.encode(out));
            }
            for filter in self.filters.iter() {
                put_string(out, filter);
            }
        });
    }
}

fn decode_properties<'a>(
    packet: &mut Reader<'a>,
    version: Version,
) -> Result<UserProperties<'a>, DecodeError> {
    if !version.has_properties() {
        return Ok(UserProperties::default());
    }
    let mut reader = PropertyReader::take_from(packet, UNSUBSCRIBE)?;
    for property in &mut reader {
        property?;
    }
    Ok(reader.user_properties())
}

/// Topic Filters.
#[derive(Clone, Copy)]
pub enum UnsubscribeFilters<'a> {
    /// To be sent.
    List(&'a [&'a str]),
    /// As they came: at least one, each well-formed.
    Received(UnsubscribeBlock<'a>),
}

/// The bytes of Topic Filters that have been found valid.
#[derive(Clone, Copy, Debug)]
pub struct UnsubscribeBlock<'a>(&'a [u8]);

impl<'a> UnsubscribeFilters<'a> {
    /// [MQTT-3.10.3-1] [MQTT-3.10.3-2]
    fn decode(mut reader: Reader<'a>) -> Result<UnsubscribeFilters<'a>, DecodeError> {
        if reader.is_empty() {
            return Err(ProtocolError::NoTopicFilter.into());
        }
        let block = UnsubscribeBlock(reader.rest());
        while !reader.is_empty() {
            reader.string()?;
        }
        Ok(UnsubscribeFilters::Received(block))
    }

    pub fn iter(self) -> impl Iterator<Item = &'a str> + use<'a> {
        let (list, block) = match self {
            UnsubscribeFilters::List(list) => (list, &[][..]),
            UnsubscribeFilters::Received(UnsubscribeBlock(block)) => (&[][..], block),
        };
        let mut reader = Reader::new(block);
        list.iter().copied().chain(std::iter::from_fn(move || reader.string().ok()))
    }

    pub fn count(self) -> usize {
        self.iter().count()
    }
}

impl PartialEq for UnsubscribeFilters<'_> {
    fn eq(&self, other: &UnsubscribeFilters<'_>) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for UnsubscribeFilters<'_> {}

impl fmt::Debug for UnsubscribeFilters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
