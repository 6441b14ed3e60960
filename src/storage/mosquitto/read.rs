//! The persistence file of mosquitto 2.0, versions 5 and 6 of its format, as chunks.
//!
//! Numbers of 16 and 32 bits are big-endian; those of 64 bits are as the machine had them, which is
//! taken to be little-endian. Each chunk says its kind and its length.

use std::fmt;

/// What is wrong, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged {
    pub offset: usize,
    what: &'static str,
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offset {}: {}", self.offset, self.what)
    }
}

/// One chunk of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Chunk<'a> {
    Config,
    Message(StoredMessage<'a>),
    Delivery(Delivery<'a>),
    /// The message with this number is retained.
    Retained(u64),
    Subscription(StoredSubscription<'a>),
    Client(StoredClient<'a>),
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredMessage<'a> {
    pub(super) id: u64,
    /// Seconds since 1970; 0 is never.
    pub(super) expiry_time: i64,
    pub(super) source: &'a str,
    pub(super) topic: &'a str,
    pub(super) payload: &'a [u8],
    /// The properties of PUBLISH, without their length.
    pub(super) properties: &'a [u8],
    pub(super) qos: u8,
    pub(super) retain: bool,
}

/// A message on its way to a client, or from one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Delivery<'a> {
    pub(super) client_id: &'a str,
    pub(super) message: u64,
    pub(super) packet_id: u16,
    pub(super) qos: u8,
    pub(super) state: u8,
    pub(super) retain: bool,
    pub(super) to_client: bool,
    /// Properties, without their length.
    pub(super) properties: &'a [u8],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredSubscription<'a> {
    pub(super) client_id: &'a str,
    pub(super) filter: &'a str,
    pub(super) qos: u8,
    pub(super) options: u8,
    /// 0 is none.
    pub(super) identifier: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredClient<'a> {
    pub(super) client_id: &'a str,
    pub(super) user: Option<&'a str>,
    /// Seconds since 1970; 0 if the client was connected, or never.
    pub(super) expiry_time: i64,
    pub(super) expiry_interval: u32,
}

/// The chunks of a file, in order. It ends after the first that is damaged.
#[derive(Clone, Debug)]
pub(super) struct Chunks<'a> {
    fields: Fields<'a>,
    version: u32,
}

impl<'a> Chunks<'a> {
    pub(super) fn open(bytes: &'a [u8]) -> Result<Chunks<'a>, Damaged> {
        let mut fields = Fields { rest: bytes, offset: 0 };
        if !bytes.starts_with(MAGIC) {
            return Err(fields.wrong("this is no persistence file of mosquitto"));
        }
        fields.take(MAGIC.len())?;
        // A checksum that is always 0.
        fields.u32()?;
        let at = fields.clone();
        let version = fields.u32()?;
        if !VERSIONS.contains(&version) {
            return Err(at.wrong("the format is not version 5 or 6: have mosquitto 2.0 write it"));
        }
        Ok(Chunks { fields, version })
    }

    fn read(&mut self) -> Result<Chunk<'a>, Damaged> {
        let begin = self.fields.clone();
        let (kind, length) = (self.fields.u32()?, self.fields.u32()?);
        let offset = self.fields.offset;
        let body = usize::try_from(length).ok().and_then(|length| self.fields.take(length).ok());
        let Some(body) = body else {
            return Err(begin.wrong("the file ends before this chunk does"));
        };
        let mut fields = Fields { rest: body, offset };
        Ok(match kind {
            1 => {
                fields.take(CONFIG_BEFORE_SIZE)?;
                if fields.u8()? != 8 {
                    return Err(begin.wrong("numbers of messages do not have 64 bits"));
                }
                Chunk::Config
            }
            2 => Chunk::Message(StoredMessage::read(&mut fields)?),
            3 => Chunk::Delivery(Delivery::read(&mut fields)?),
            4 => Chunk::Retained(fields.u64()?),
            5 => Chunk::Subscription(StoredSubscription::read(&mut fields)?),
            6 => Chunk::Client(StoredClient::read(&mut fields, self.version)?),
            _ => Chunk::Unknown,
        })
    }
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Result<Chunk<'a>, Damaged>;

    fn next(&mut self) -> Option<Result<Chunk<'a>, Damaged>> {
        if self.fields.rest.is_empty() {
            return None;
        }
        let read = self.read();
        if read.is_err() {
            self.fields.rest = &[];
        }
        Some(read)
    }
}

impl<'a> StoredMessage<'a> {
    fn read(fields: &mut Fields<'a>) -> Result<StoredMessage<'a>, Damaged> {
        let (id, expiry_time) = (fields.u64()?, fields.i64()?);
        let payload_len = fields.u32()?;
        let _source_packet_id = fields.u16()?;
        let (source_len, user_len, topic_len) = (fields.u16()?, fields.u16()?, fields.u16()?);
        let _source_port = fields.u16()?;
        let (qos, retain) = (fields.u8()?, fields.u8()? != 0);
        let source = fields.text(source_len)?;
        fields.text(user_len)?;
        let topic = fields.text(topic_len)?;
        let payload_len = usize::try_from(payload_len).map_err(|_| fields.wrong(TOO_SHORT))?;
        let payload = fields.take(payload_len)?;
        let properties = fields.properties()?;
        if qos > 2 {
            return Err(fields.wrong("the QoS of a message is above 2"));
        }
        Ok(StoredMessage { id, expiry_time, source, topic, payload, properties, qos, retain })
    }
}

impl<'a> Delivery<'a> {
    fn read(fields: &mut Fields<'a>) -> Result<Delivery<'a>, Damaged> {
        let (message, packet_id, id_len) = (fields.u64()?, fields.u16()?, fields.u16()?);
        let (qos, state) = (fields.u8()?, fields.u8()?);
        let (retain_and_dup, direction) = (fields.u8()?, fields.u8()?);
        let client_id = fields.text(id_len)?;
        let properties = fields.properties()?;
        if qos > 2 || direction > 1 {
            return Err(fields.wrong("the QoS or the direction of a message is unknown"));
        }
        let (retain, to_client) = (retain_and_dup >> 4 != 0, direction == 1);
        Ok(Delivery { client_id, message, packet_id, qos, state, retain, to_client, properties })
    }
}

impl<'a> StoredSubscription<'a> {
    fn read(fields: &mut Fields<'a>) -> Result<StoredSubscription<'a>, Damaged> {
        let identifier = fields.u32()?;
        let (id_len, filter_len) = (fields.u16()?, fields.u16()?);
        let (qos, options) = (fields.u8()?, fields.u8()?);
        fields.take(SUBSCRIPTION_PADDING)?;
        let (client_id, filter) = (fields.text(id_len)?, fields.text(filter_len)?);
        if qos > 2 {
            return Err(fields.wrong("the QoS of a subscription is above 2"));
        }
        Ok(StoredSubscription { client_id, filter, qos, options, identifier })
    }
}

impl<'a> StoredClient<'a> {
    fn read(fields: &mut Fields<'a>, version: u32) -> Result<StoredClient<'a>, Damaged> {
        let (expiry_time, expiry_interval) = (fields.i64()?, fields.u32()?);
        let _last_packet_id = fields.u16()?;
        let id_len = fields.u16()?;
        let user_len = if version >= 6 {
            let _listener_port = fields.u16()?;
            let user_len = fields.u16()?;
            fields.take(CLIENT_PADDING)?;
            user_len
        } else {
            0
        };
        let client_id = fields.text(id_len)?;
        let user = fields.text(user_len)?;
        let user = (!user.is_empty()).then_some(user);
        Ok(StoredClient { client_id, user, expiry_time, expiry_interval })
    }
}

/// Takes one field after the other, and knows where it is in the file.
#[derive(Clone, Debug)]
struct Fields<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Fields<'a> {
    fn wrong(&self, what: &'static str) -> Damaged {
        Damaged { offset: self.offset, what }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Damaged> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(self.wrong(TOO_SHORT));
        };
        self.rest = rest;
        self.offset += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        let at = self.wrong(TOO_SHORT);
        self.take(N)?.try_into().map_err(|_| at)
    }

    fn u8(&mut self) -> Result<u8, Damaged> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, Damaged> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Damaged> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, Damaged> {
        self.array().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Result<i64, Damaged> {
        self.array().map(i64::from_le_bytes)
    }

    fn text(&mut self, length: u16) -> Result<&'a str, Damaged> {
        let at = self.wrong("a text is not UTF-8");
        std::str::from_utf8(self.take(length.into())?).map_err(|_| at)
    }

    /// The rest: nothing, or properties with their length before them.
    fn properties(&mut self) -> Result<&'a [u8], Damaged> {
        if self.rest.is_empty() {
            return Ok(&[]);
        }
        let at = self.wrong("the length of properties is wrong");
        let length = self.variable()?;
        let rest = std::mem::take(&mut self.rest);
        if rest.len() == length { Ok(rest) } else { Err(at) }
    }

    fn variable(&mut self) -> Result<usize, Damaged> {
        let mut value = 0;
        for place in 0..4 {
            let byte = self.u8()?;
            value |= usize::from(byte & 0x7F) << (7 * place);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.wrong("a number has too many bytes"))
    }
}

/// The Subscription Identifiers in the properties of a delivery. `None`: there is something else.
pub(super) fn subscription_ids(properties: &[u8]) -> Option<Vec<u32>> {
    let mut fields = Fields { rest: properties, offset: 0 };
    let mut ids = Vec::new();
    while !fields.rest.is_empty() {
        if fields.u8().ok()? != SUBSCRIPTION_IDENTIFIER {
            return None;
        }
        ids.push(
            fields.variable().ok().and_then(|id| u32::try_from(id).ok()).filter(|id| *id > 0)?,
        );
    }
    Some(ids)
}

const MAGIC: &[u8] = b"\x00\xB5\x00mosquitto db";
const VERSIONS: [u32; 2] = [5, 6];
const TOO_SHORT: &str = "a chunk is shorter than what it has to say";
/// The number of the last message, and a flag.
const CONFIG_BEFORE_SIZE: usize = 9;
/// Bytes that the C compiler puts behind the fields of these.
const SUBSCRIPTION_PADDING: usize = 2;
const CLIENT_PADDING: usize = 4;
const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;
