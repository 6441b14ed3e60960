//! Frames: where one packet ends and the next begins.
//!
//! Checks the fixed header as soon as it has arrived, so that the broker neither waits nor makes
//! room for a packet that it will refuse. Does not look into the body.

use super::{
    error::{DecodeError, Malformed},
    primitive::{VARIABLE_MAX, decode_variable, put_with_length},
    version::Version,
};

/// The largest packet that can be expressed, in bytes, fixed header included.
pub const PACKET_SIZE_MAX: usize = 1 + 4 + VARIABLE_MAX;

/// The types of the MQTT Control Packets.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PacketType {
    Connect = 1,
    Connack = 2,
    Publish = 3,
    Puback = 4,
    Pubrec = 5,
    Pubrel = 6,
    Pubcomp = 7,
    Subscribe = 8,
    Suback = 9,
    Unsubscribe = 10,
    Unsuback = 11,
    Pingreq = 12,
    Pingresp = 13,
    Disconnect = 14,
    Auth = 15,
}

impl PacketType {
    pub const ALL: [PacketType; 15] = [
        PacketType::Connect,
        PacketType::Connack,
        PacketType::Publish,
        PacketType::Puback,
        PacketType::Pubrec,
        PacketType::Pubrel,
        PacketType::Pubcomp,
        PacketType::Subscribe,
        PacketType::Suback,
        PacketType::Unsubscribe,
        PacketType::Unsuback,
        PacketType::Pingreq,
        PacketType::Pingresp,
        PacketType::Disconnect,
        PacketType::Auth,
    ];

    /// The first byte of a packet of this type, with the reserved flags. For a PUBLISH, the caller
    /// adds the flags.
    #[inline]
    pub const fn first_byte(self) -> u8 {
        let flags = match self {
            PacketType::Pubrel | PacketType::Subscribe | PacketType::Unsubscribe => RESERVED,
            _ => 0,
        };
        (self as u8) << 4 | flags
    }

    /// The name of the type that a first byte says, whatever its flags are.
    pub fn name_of(first: u8) -> &'static str {
        const NAMES: [&str; 16] = [
            "reserved",
            "CONNECT",
            "CONNACK",
            "PUBLISH",
            "PUBACK",
            "PUBREC",
            "PUBREL",
            "PUBCOMP",
            "SUBSCRIBE",
            "SUBACK",
            "UNSUBSCRIBE",
            "UNSUBACK",
            "PINGREQ",
            "PINGRESP",
            "DISCONNECT",
            "AUTH",
        ];
        NAMES[usize::from(first >> 4)]
    }

    /// The packet type of a first byte, if its flags are valid for that type.
    #[inline]
    const fn from_first_byte(first: u8) -> Result<PacketType, Malformed> {
        let flags = first & FLAGS;
        let (packet_type, valid) = match first >> 4 {
            // [MQTT-3.3.1-4]
            3 if flags & QOS_BITS == QOS_BITS => return Err(Malformed::QoS),
            3 => (PacketType::Publish, true),
            // 3.1 only says that the flags of a CONNECT are not used.
            1 => (PacketType::Connect, true),
            2 => (PacketType::Connack, flags == 0),
            4 => (PacketType::Puback, flags == 0),
            5 => (PacketType::Pubrec, flags == 0),
            // Before 3.1.1 these three may have DUP set. Their decoders know the version and check.
            // [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1]
            6 => (PacketType::Pubrel, flags & !DUP == RESERVED),
            8 => (PacketType::Subscribe, flags & !DUP == RESERVED),
            10 => (PacketType::Unsubscribe, flags & !DUP == RESERVED),
            7 => (PacketType::Pubcomp, flags == 0),
            9 => (PacketType::Suback, flags == 0),
            11 => (PacketType::Unsuback, flags == 0),
            12 => (PacketType::Pingreq, flags == 0),
            13 => (PacketType::Pingresp, flags == 0),
            // [MQTT-3.14.1-1]
            14 => (PacketType::Disconnect, flags == 0),
            // [MQTT-3.15.1-1]
            15 => (PacketType::Auth, flags == 0),
            _ => return Err(Malformed::PacketType),
        };
        // [MQTT-2.1.3-1]
        if valid { Ok(packet_type) } else { Err(Malformed::FixedHeaderFlags) }
    }
}

/// The bytes of one packet. Its fixed header is valid; its body has not been looked at.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Packet type and flags.
    pub first: u8,
    /// What follows the fixed header.
    pub body: &'a [u8],
    /// Bytes of the whole packet, fixed header included.
    pub len: usize,
    packet_type: PacketType,
}

impl Frame<'_> {
    #[inline]
    pub const fn packet_type(&self) -> PacketType {
        self.packet_type
    }

    /// Fails if a flag of a CONNECT is set, except in 3.1, where it has no meaning.
    pub(super) fn check_connect_flags(&self, version: Version) -> Result<(), Malformed> {
        if self.first & FLAGS != 0 && version > Version::V31 {
            return Err(Malformed::FixedHeaderFlags);
        }
        Ok(())
    }

    /// Fails if the packet has DUP set, except in 3.1, which allows it for other packets than
    /// PUBLISH.
    #[inline]
    pub(super) fn check_not_resent(&self, version: Version) -> Result<(), Malformed> {
        if self.first & DUP != 0 && version > Version::V31 {
            return Err(Malformed::FixedHeaderFlags);
        }
        Ok(())
    }
}

/// Splits the first packet off `bytes`. `Ok(None)`: the rest of it has not arrived.
#[expect(clippy::inline_always, reason = "a frame is not to go through memory")]
#[inline(always)]
pub fn split(bytes: &[u8], packet_size_max: usize) -> Result<Option<Frame<'_>>, DecodeError> {
    let Some((&first, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    let packet_type = PacketType::from_first_byte(first)?;
    let Some((remaining_length, length_len)) = decode_variable(rest)? else {
        return Ok(None);
    };
    let header_len = 1 + length_len;
    let len = header_len + remaining_length as usize;
    // [MQTT-3.2.2-15]
    if len > packet_size_max {
        return Err(DecodeError::PacketTooLarge);
    }
    Ok(bytes.get(header_len..len).map(|body| Frame { first, body, len, packet_type }))
}

/// The frame of a packet whose payload is elsewhere: its body ends where `bytes` end. `None`: the
/// fixed header is incomplete or malformed.
pub fn split_head(bytes: &[u8]) -> Option<Frame<'_>> {
    let packet_type = PacketType::from_first_byte(*bytes.first()?).ok()?;
    let (remaining_length, length_len) = decode_variable(bytes.get(1..)?).ok()??;
    let header_len = 1 + length_len;
    let (first, len) = (bytes[0], header_len + remaining_length as usize);
    Some(Frame { first, body: bytes.get(header_len..)?, len, packet_type })
}

/// The size of the first packet in `bytes`, fixed header included. `None`: the header is
/// incomplete or malformed.
#[inline]
pub fn packet_size(bytes: &[u8]) -> Option<usize> {
    let (remaining_length, length_len) = decode_variable(bytes.get(1..)?).ok()??;
    Some(1 + length_len + remaining_length as usize)
}

/// Appends a packet whose body is what `write` writes.
pub(super) fn encode(packet_type: PacketType, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(packet_type.first_byte());
    put_with_length(out, 0, write);
}

const FLAGS: u8 = 0x0F;
/// The flags that PUBREL, SUBSCRIBE and UNSUBSCRIBE always carry.
const RESERVED: u8 = 0b0010;
pub(super) const DUP: u8 = 0b1000;
const QOS_BITS: u8 = 0b0110;

#[cfg(test)]
mod tests {
    use super::*;

    fn split_max(bytes: &[u8]) -> Result<Option<Frame<'_>>, DecodeError> {
        split(bytes, PACKET_SIZE_MAX)
    }

    #[test]
    fn a_frame_ends_where_its_length_says() {
        let bytes = [0xD0, 0x00, 0x40, 0x02, 0x00, 0x01];
        let ping = split_max(&bytes).unwrap().unwrap();
        assert_eq!((ping.packet_type(), ping.len), (PacketType::Pingresp, 2));
        let ack = split_max(&bytes[ping.len..]).unwrap().unwrap();
        assert_eq!((ack.packet_type(), ack.body, ack.len), (PacketType::Puback, &bytes[4..], 4));
        for end in 0..4 {
            assert!(split_max(&bytes[2..2 + end]).unwrap().is_none());
        }
    }

    #[test]
    fn lengths_of_one_to_four_bytes_are_read_and_a_fifth_is_malformed() {
        assert_eq!(packet_size(&[0x30, 80]), Some(82));
        assert_eq!(packet_size(&[0x30, 0xAC, 0x02]), Some(303));
        assert_eq!(packet_size(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]), Some(PACKET_SIZE_MAX));
        assert_eq!(packet_size(&[0x30, 0xFF, 0xFF]), None);
        assert_eq!(
            split_max(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF]).unwrap_err(),
            Malformed::VariableByteInteger.into()
        );
    }

    /// [MQTT-3.2.2-15]
    #[test]
    fn a_packet_above_the_limit_is_refused_by_its_header_alone() {
        assert_eq!(split(&[0x30, 0x64], 101).unwrap_err(), DecodeError::PacketTooLarge);
        assert!(split(&[0x30, 0x64], 102).unwrap().is_none());
    }

    #[test]
    fn every_type_has_the_name_of_the_specification() {
        for packet_type in PacketType::ALL {
            let name = PacketType::name_of(packet_type.first_byte() | FLAGS);
            assert_eq!(name, format!("{packet_type:?}").to_uppercase());
        }
        assert_eq!(PacketType::name_of(0x0F), "reserved");
    }

    /// [MQTT-2.1.3-1] [MQTT-3.3.1-4] [MQTT-3.14.1-1] [MQTT-3.15.1-1] [MQTT-2.2.2-1@3.1.1]
    /// [MQTT-3.3.1-4@3.1.1] [MQTT-3.14.1-1@3.1.1]
    #[test]
    fn a_first_byte_is_judged_alone() {
        let valid: Vec<u8> = (0..=u8::MAX).filter(|&first| split_max(&[first]).is_ok()).collect();
        let publishes = (0x30..0x40).filter(|first| first & QOS_BITS != QOS_BITS);
        let mut expected: Vec<u8> = PacketType::ALL
            .into_iter()
            .filter(|&packet_type| packet_type != PacketType::Publish)
            .map(PacketType::first_byte)
            .chain([0x6A, 0x8A, 0xAA])
            .chain(0x11..=0x1F)
            .chain(publishes)
            .collect();
        expected.sort_unstable();
        assert_eq!(valid, expected);
        assert_eq!(split_max(&[0x06]).unwrap_err(), Malformed::PacketType.into());
        assert_eq!(split_max(&[0x36]).unwrap_err(), Malformed::QoS.into());
    }
}
