//! CONNECT: who a client is, which version it speaks, and what it asks of the session.

use std::num::{NonZeroU16, NonZeroU32};

use super::{
    delivery::QoS,
    error::{DecodeError, Malformed, ProtocolError},
    frame::{self, Frame, PacketType},
    primitive::{Reader, put_binary, put_string, put_u16},
    properties::{self, PropertyReader, UserProperties, put},
    property::{CONNECT, Property},
    version::Version,
    will::Will,
};

/// The first packet of a client. [Section 3.1]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    pub version: Version,
    /// The client is a bridge of mosquitto: before 5.0 such a bridge sets the high bit of the
    /// Protocol Version, because the specification has no flag for it.
    pub is_bridge: bool,
    /// Called Clean Session before 5.0.
    pub clean_start: bool,
    /// Seconds; 0 turns it off.
    pub keep_alive: u16,
    /// May be empty. The server then assigns one or refuses the client.
    pub client_id: &'a str,
    pub will: Option<Will<'a>>,
    pub user_name: Option<&'a str>,
    pub password: Option<&'a [u8]>,
    pub properties: ConnectProperties<'a>,
}

/// What a CONNECT adds in version 5.0; the defaults hold for all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectProperties<'a> {
    /// Seconds; absent means 0, `u32::MAX` means never.
    pub session_expiry_interval: Option<u32>,
    /// Absent means 65,535.
    pub receive_maximum: Option<NonZeroU16>,
    /// Bytes; absent means no limit.
    pub maximum_packet_size: Option<NonZeroU32>,
    pub topic_alias_maximum: u16,
    pub request_response_information: bool,
    pub request_problem_information: bool,
    pub user_properties: UserProperties<'a>,
    pub authentication_method: Option<&'a str>,
    pub authentication_data: Option<&'a [u8]>,
}

impl Default for ConnectProperties<'_> {
    fn default() -> Self {
        ConnectProperties {
            session_expiry_interval: None,
            receive_maximum: None,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            request_response_information: false,
            request_problem_information: true,
            user_properties: UserProperties::default(),
            authentication_method: None,
            authentication_data: None,
        }
    }
}

/// Reads the version in which to answer an invalid CONNECT: its own, or the nearest one that is
/// supported. `None`: the bytes are not MQTT, or too short to tell.
pub fn peek_version(body: &[u8]) -> Option<Version> {
    let mut reader = Reader::new(body);
    let name = reader.binary().ok()?;
    let level = reader.u8().ok()?;
    let protocol = Protocol::from_name_and_level(name, level);
    protocol.map_or_else(|_| Version::nearest(name, level), |protocol| Some(protocol.version))
}

/// What Protocol Name and Protocol Version say.
#[derive(Clone, Copy)]
struct Protocol {
    version: Version,
    is_bridge: bool,
}

impl Protocol {
    /// [MQTT-3.1.2-1] [MQTT-3.1.2-2]
    fn read(reader: &mut Reader<'_>) -> Result<Protocol, DecodeError> {
        let name = reader.binary()?;
        Protocol::from_name_and_level(name, reader.u8()?)
    }

    fn from_name_and_level(name: &[u8], level: u8) -> Result<Protocol, DecodeError> {
        let marked = Version::from_name_and_level(name, level & !BRIDGE)
            .filter(|&version| level & BRIDGE != 0 && version < Version::V5);
        match (marked, Version::from_name_and_level(name, level)) {
            (Some(version), _) => Ok(Protocol { version, is_bridge: true }),
            (None, Some(version)) => Ok(Protocol { version, is_bridge: false }),
            (None, None) if Version::nearest(name, level).is_none() => {
                Err(DecodeError::UnsupportedProtocolName)
            }
            (None, None) => Err(DecodeError::UnsupportedProtocolVersion),
        }
    }
}

impl<'a> Connect<'a> {
    /// A CONNECT with Clean Start, without Keep Alive and without a Will.
    pub fn new(version: Version, client_id: &'a str) -> Connect<'a> {
        Connect {
            version,
            is_bridge: false,
            clean_start: true,
            keep_alive: 0,
            client_id,
            will: None,
            user_name: None,
            password: None,
            properties: ConnectProperties::default(),
        }
    }

    /// The fields of the payload stand in one order. [MQTT-3.1.3-1]
    pub fn decode(frame: Frame<'a>) -> Result<Connect<'a>, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let Protocol { version, is_bridge } = Protocol::read(&mut reader)?;
        frame.check_connect_flags(version)?;
        let flags = ConnectFlags::decode(reader.u8()?, version)?;
        let connect = Connect {
            version,
            is_bridge,
            clean_start: flags.has(CLEAN_START),
            keep_alive: reader.u16()?,
            properties: ConnectProperties::decode(&mut reader, version)?,
            // [MQTT-3.1.3-3] [MQTT-3.1.3-4]
            client_id: reader.string()?,
            will: flags.decode_will(&mut reader, version)?,
            user_name: flags.decode_user_name(&mut reader, version)?,
            password: flags.decode_password(&mut reader, version)?,
        };
        reader.finish()?;
        Ok(connect)
    }

    /// Appends the packet, in its own version.
    pub fn encode(&self, out: &mut Vec<u8>) {
        frame::encode(PacketType::Connect, out, |out| {
            put_string(out, self.version.protocol_name());
            out.push(self.version.level() | if self.is_bridge { BRIDGE } else { 0 });
            out.push(self.flags());
            put_u16(out, self.keep_alive);
            self.properties.encode(self.version, out);
            put_string(out, self.client_id);
            self.encode_payload(out);
        });
    }

    fn encode_payload(&self, out: &mut Vec<u8>) {
        if let Some(will) = &self.will {
            will.encode(self.version, out);
        }
        if let Some(user_name) = self.user_name {
            put_string(out, user_name);
        }
        if let Some(password) = self.password {
            put_binary(out, password);
        }
    }

    fn flags(&self) -> u8 {
        let flag = |bit, set: bool| if set { bit } else { 0 };
        let will = self.will.map_or(0, |will| {
            WILL | (will.qos as u8) << WILL_QOS_SHIFT | flag(WILL_RETAIN, will.retain)
        });
        flag(CLEAN_START, self.clean_start)
            | will
            | flag(PASSWORD, self.password.is_some())
            | flag(USER_NAME, self.user_name.is_some())
    }
}

/// The Connect Flags, free of contradictions.
#[derive(Clone, Copy)]
struct ConnectFlags(u8);

impl ConnectFlags {
    fn decode(bits: u8, version: Version) -> Result<ConnectFlags, Malformed> {
        let flags = ConnectFlags(bits);
        // 3.1 does not require unused bits to be zero.
        if version > Version::V31 && flags.has_unused_bits() {
            return Err(Malformed::ConnectFlags);
        }
        // [MQTT-3.1.2-22@3.1.1]
        if version < Version::V5 && flags.has(PASSWORD) && !flags.has(USER_NAME) {
            return Err(Malformed::ConnectFlags);
        }
        Ok(flags)
    }

    /// [MQTT-3.1.2-3] [MQTT-3.1.2-11] [MQTT-3.1.2-13]
    fn has_unused_bits(self) -> bool {
        self.has(RESERVED) || (!self.has(WILL) && self.has(WILL_QOS | WILL_RETAIN))
    }

    fn has(self, bits: u8) -> bool {
        self.0 & bits != 0
    }

    /// [MQTT-3.1.2-9] [MQTT-3.1.2-12]
    fn decode_will<'a>(
        self,
        reader: &mut Reader<'a>,
        version: Version,
    ) -> Result<Option<Will<'a>>, DecodeError> {
        if !self.has(WILL) {
            return Ok(None);
        }
        let qos = QoS::from_bits((self.0 & WILL_QOS) >> WILL_QOS_SHIFT).ok_or(Malformed::QoS)?;
        Will::decode(qos, self.has(WILL_RETAIN), version, reader).map(Some)
    }

    /// [MQTT-3.1.2-16] [MQTT-3.1.2-17] [MQTT-3.1.3-12]
    fn decode_user_name<'a>(
        self,
        reader: &mut Reader<'a>,
        version: Version,
    ) -> Result<Option<&'a str>, Malformed> {
        if self.has(USER_NAME) && !is_left_out(reader, version) {
            reader.string().map(Some)
        } else {
            Ok(None)
        }
    }

    /// [MQTT-3.1.2-18] [MQTT-3.1.2-19]
    fn decode_password<'a>(
        self,
        reader: &mut Reader<'a>,
        version: Version,
    ) -> Result<Option<&'a [u8]>, Malformed> {
        if self.has(PASSWORD) && !is_left_out(reader, version) {
            reader.binary().map(Some)
        } else {
            Ok(None)
        }
    }
}

/// 3.1 lets a client announce a user name or password and then leave it out.
fn is_left_out(reader: &Reader<'_>, version: Version) -> bool {
    version == Version::V31 && reader.is_empty()
}

impl<'a> ConnectProperties<'a> {
    fn decode(
        packet: &mut Reader<'a>,
        version: Version,
    ) -> Result<ConnectProperties<'a>, DecodeError> {
        let mut properties = ConnectProperties::default();
        if !version.has_properties() {
            return Ok(properties);
        }
        let mut reader = PropertyReader::take_from(packet, CONNECT)?;
        for property in &mut reader {
            properties.set(property?);
        }
        properties.user_properties = reader.user_properties();
        properties.check_authentication()?;
        Ok(properties)
    }

    fn set(&mut self, property: Property<'a>) {
        match property {
            Property::SessionExpiryInterval(secs) => self.session_expiry_interval = Some(secs),
            Property::ReceiveMaximum(maximum) => self.receive_maximum = Some(maximum),
            Property::MaximumPacketSize(bytes) => self.maximum_packet_size = Some(bytes),
            Property::TopicAliasMaximum(maximum) => self.topic_alias_maximum = maximum,
            Property::RequestResponseInformation(yes) => self.request_response_information = yes,
            Property::RequestProblemInformation(yes) => self.request_problem_information = yes,
            Property::AuthenticationMethod(method) => self.authentication_method = Some(method),
            Property::AuthenticationData(data) => self.authentication_data = Some(data),
            _ => {}
        }
    }

    /// Fails if there is Authentication Data without a method. [Section 3.1.2.11.10]
    fn check_authentication(&self) -> Result<(), ProtocolError> {
        if self.authentication_data.is_some() && self.authentication_method.is_none() {
            return Err(ProtocolError::AuthenticationMethodMissing);
        }
        Ok(())
    }

    fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if version.has_properties() {
            properties::encode(out, |out| self.encode_each(out));
        }
    }

    fn encode_each(&self, out: &mut Vec<u8>) {
        let aliases = (self.topic_alias_maximum > 0).then_some(self.topic_alias_maximum);
        let response = self.request_response_information.then_some(true);
        let no_problem = (!self.request_problem_information).then_some(false);
        put(out, self.session_expiry_interval.map(Property::SessionExpiryInterval));
        put(out, self.receive_maximum.map(Property::ReceiveMaximum));
        put(out, self.maximum_packet_size.map(Property::MaximumPacketSize));
        put(out, aliases.map(Property::TopicAliasMaximum));
        put(out, response.map(Property::RequestResponseInformation));
        put(out, no_problem.map(Property::RequestProblemInformation));
        put(out, self.authentication_method.map(Property::AuthenticationMethod));
        put(out, self.authentication_data.map(Property::AuthenticationData));
        self.user_properties.encode(out);
    }
}

/// In the Protocol Version.
const BRIDGE: u8 = 0x80;

const RESERVED: u8 = 0x01;
const CLEAN_START: u8 = 0x02;
const WILL: u8 = 0x04;
const WILL_QOS: u8 = 0x18;
const WILL_QOS_SHIFT: u8 = 3;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USER_NAME: u8 = 0x80;
