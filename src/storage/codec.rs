//! Records as bytes: the length of the rest, the kind, the fields.
//!
//! The length lets a reader of this major version pass over fields that a later minor version has
//! added at the end of a record.

use std::net::IpAddr;

use thiserror::Error;

use super::{
    field::{List, Reader, put_bytes, put_option, put_shard, put_u64},
    record::{
        MessageId, MessageRecord, Record, RefRecord, RetainRecord, SessionNumber, SessionRecord,
        Stamp, WillRecord,
    },
};
use crate::{
    base::time::WallTime,
    mqtt::{PacketId, QoS},
};

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unreadable {
    #[error("a record ends early")]
    Truncated,
    #[error("a record has an impossible value")]
    Value,
    #[error("a record is of an unknown kind")]
    Kind,
}

/// Appends a record, behind its length.
pub(super) fn encode(record: &Record<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    let width = if is_short(record) { SHORT } else { LONG };
    out.resize(start + width, 0);
    put_record(record, out);
    let length = out.len() - start - width;
    fill_length(&mut out[start..start + width], length);
}

/// Whether the record is shorter than 128 bytes, whatever it says.
fn is_short(record: &Record<'_>) -> bool {
    match record {
        Record::Session(_)
        | Record::Subscription { .. }
        | Record::Unsubscribe { .. }
        | Record::Message(_)
        | Record::Ref(_)
        | Record::Retain(_) => false,
        Record::Epoch { .. }
        | Record::SessionEnd { .. }
        | Record::Disconnected { .. }
        | Record::Ack { .. }
        | Record::Released { .. }
        | Record::Hold { .. }
        | Record::Unhold { .. }
        | Record::Taken { .. } => true,
    }
}

/// Writes the length in exactly these bytes, seven bits in each.
fn fill_length(out: &mut [u8], length: usize) {
    let last = out.len() - 1;
    for (index, byte) in out.iter_mut().enumerate() {
        let more = if index < last { 0x80 } else { 0 };
        *byte = (length >> (7 * index)).to_le_bytes()[0] & 0x7F | more;
    }
}

/// Takes the record at the front of these bytes.
pub(super) fn decode<'a>(bytes: &mut &'a [u8]) -> Result<Record<'a>, Unreadable> {
    let mut reader = Reader::new(bytes);
    let mut fields = Reader::new(reader.bytes()?);
    let record = read_record(&mut fields)?;
    *bytes = reader.rest();
    Ok(record)
}

fn put_record(record: &Record<'_>, out: &mut Vec<u8>) {
    match record {
        Record::Epoch { number, shards } => {
            out.push(EPOCH);
            put_u64(out, *number);
            out.push(*shards);
        }
        Record::Session(session) => put_session(session, out),
        Record::SessionEnd { session } => put_named(out, SESSION_END, *session),
        Record::Disconnected { session, at, keeps_will } => {
            put_named(out, DISCONNECTED, *session);
            put_u64(out, at.as_nanos());
            out.push(u8::from(*keeps_will));
        }
        Record::Subscription { session, filter, options, subscription_id } => {
            put_named(out, SUBSCRIPTION, *session);
            put_bytes(out, filter.as_bytes());
            out.push(*options);
            put_option(out, *subscription_id, |out, id| put_u64(out, id.into()));
        }
        Record::Unsubscribe { session, filter } => {
            put_named(out, UNSUBSCRIBE, *session);
            put_bytes(out, filter.as_bytes());
        }
        Record::Message(message) => put_message(message, out),
        Record::Ref(reference) => put_ref(reference, out),
        Record::Ack { session, ordinal } => put_numbered(out, ACK, *session, *ordinal),
        Record::Released { session, ordinal } => put_numbered(out, RELEASED, *session, *ordinal),
        Record::Hold { session, packet_id } => {
            put_numbered(out, HOLD, *session, packet_id.value().into());
        }
        Record::Unhold { session, packet_id } => {
            put_numbered(out, UNHOLD, *session, packet_id.value().into());
        }
        Record::Retain(retain) => put_retain(retain, out),
        Record::Taken { from, to, n } => {
            out.push(TAKEN);
            put_shard(out, *from);
            put_shard(out, *to);
            put_u64(out, *n);
        }
    }
}

fn put_named(out: &mut Vec<u8>, kind: u8, session: SessionNumber) {
    out.push(kind);
    put_u64(out, session.0);
}

fn put_numbered(out: &mut Vec<u8>, kind: u8, session: SessionNumber, number: u64) {
    put_named(out, kind, session);
    put_u64(out, number);
}

fn put_session(record: &SessionRecord<'_>, out: &mut Vec<u8>) {
    put_named(out, SESSION, record.session);
    put_bytes(out, record.client_id.as_bytes());
    put_option(out, record.user, |out, user| put_bytes(out, user.as_bytes()));
    put_option(out, record.peer, put_address);
    put_u64(out, record.expiry_interval.into());
    put_u64(out, record.created_at.as_nanos());
    put_u64(out, record.connected_at.as_nanos());
    put_option(out, record.will, |out, will| put_will(&will, out));
}

fn put_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => put_bytes(out, &address.octets()),
        IpAddr::V6(address) => put_bytes(out, &address.octets()),
    }
}

fn put_will(will: &WillRecord<'_>, out: &mut Vec<u8>) {
    put_bytes(out, will.topic.as_bytes());
    put_bytes(out, will.application);
    put_bytes(out, will.payload);
    out.push(will.qos as u8);
    out.push(u8::from(will.retain));
    put_u64(out, will.delay.into());
    put_option(out, will.message_expiry, |out, secs| put_u64(out, secs.into()));
}

fn put_message(record: &MessageRecord<'_>, out: &mut Vec<u8>) {
    out.push(MESSAGE);
    put_u64(out, record.id.0);
    out.extend_from_slice(&record.publisher_hash.to_le_bytes());
    put_u64(out, record.publisher.0);
    put_bytes(out, record.topic.as_bytes());
    put_bytes(out, record.application);
    put_bytes(out, record.payload);
    out.push(record.qos as u8);
    out.push(u8::from(record.retain));
    put_option(out, record.expires_at, put_time);
    put_shard(out, record.from);
    record.targets.put(out);
    put_bytes(out, record.groups.as_bytes());
}

fn put_ref(record: &RefRecord<'_>, out: &mut Vec<u8>) {
    put_numbered(out, REF, record.session, record.ordinal);
    put_u64(out, record.message.0);
    out.push(record.qos as u8);
    out.push(u8::from(record.retain));
    record.subscription_ids.put(out);
    put_option(out, record.group, |out, group| put_bytes(out, group.as_bytes()));
}

fn put_retain(record: &RetainRecord<'_>, out: &mut Vec<u8>) {
    out.push(RETAIN);
    put_bytes(out, record.topic.as_bytes());
    put_option(out, record.message, |out, id| put_u64(out, id.0));
    put_u64(out, record.stamp.time);
    out.push(record.stamp.shard);
    put_option(out, record.expires_at, put_time);
}

fn put_time(out: &mut Vec<u8>, at: WallTime) {
    put_u64(out, at.as_nanos());
}

fn read_record<'a>(reader: &mut Reader<'a>) -> Result<Record<'a>, Unreadable> {
    Ok(match reader.u8()? {
        EPOCH => Record::Epoch { number: reader.u64()?, shards: reader.u8()? },
        SESSION => Record::Session(read_session(reader)?),
        SESSION_END => Record::SessionEnd { session: session(reader)? },
        DISCONNECTED => Record::Disconnected {
            session: session(reader)?,
            at: time(reader)?,
            keeps_will: reader.flag()?,
        },
        SUBSCRIPTION => Record::Subscription {
            session: session(reader)?,
            filter: reader.text()?,
            options: reader.u8()?,
            subscription_id: reader.option(Reader::u32)?,
        },
        UNSUBSCRIBE => Record::Unsubscribe { session: session(reader)?, filter: reader.text()? },
        MESSAGE => Record::Message(read_message(reader)?),
        REF => Record::Ref(read_ref(reader)?),
        ACK => Record::Ack { session: session(reader)?, ordinal: reader.u64()? },
        RELEASED => Record::Released { session: session(reader)?, ordinal: reader.u64()? },
        HOLD => Record::Hold { session: session(reader)?, packet_id: packet_id(reader)? },
        UNHOLD => Record::Unhold { session: session(reader)?, packet_id: packet_id(reader)? },
        RETAIN => Record::Retain(read_retain(reader)?),
        TAKEN => Record::Taken { from: reader.shard()?, to: reader.shard()?, n: reader.u64()? },
        _ => return Err(Unreadable::Kind),
    })
}

fn read_session<'a>(reader: &mut Reader<'a>) -> Result<SessionRecord<'a>, Unreadable> {
    Ok(SessionRecord {
        session: session(reader)?,
        client_id: reader.text()?,
        user: reader.option(Reader::text)?,
        peer: reader.option(read_address)?,
        expiry_interval: reader.u32()?,
        created_at: time(reader)?,
        connected_at: time(reader)?,
        will: reader.option(read_will)?,
    })
}

fn read_address(reader: &mut Reader<'_>) -> Result<IpAddr, Unreadable> {
    let octets = reader.bytes()?;
    let short = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    let long = || <[u8; 16]>::try_from(octets).map(IpAddr::from);
    short.or_else(|_| long()).map_err(|_| Unreadable::Value)
}

fn read_will<'a>(reader: &mut Reader<'a>) -> Result<WillRecord<'a>, Unreadable> {
    Ok(WillRecord {
        topic: reader.text()?,
        application: reader.bytes()?,
        payload: reader.bytes()?,
        qos: qos(reader)?,
        retain: reader.flag()?,
        delay: reader.u32()?,
        message_expiry: reader.option(Reader::u32)?,
    })
}

fn read_message<'a>(reader: &mut Reader<'a>) -> Result<MessageRecord<'a>, Unreadable> {
    Ok(MessageRecord {
        id: MessageId(reader.u64()?),
        publisher_hash: publisher_hash(reader)?,
        publisher: session(reader)?,
        topic: reader.text()?,
        application: reader.bytes()?,
        payload: reader.bytes()?,
        qos: qos(reader)?,
        retain: reader.flag()?,
        expires_at: reader.option(time)?,
        from: reader.shard()?,
        targets: List::read(reader)?,
        groups: reader.text()?,
    })
}

fn read_ref<'a>(reader: &mut Reader<'a>) -> Result<RefRecord<'a>, Unreadable> {
    Ok(RefRecord {
        session: session(reader)?,
        ordinal: reader.u64()?,
        message: MessageId(reader.u64()?),
        qos: qos(reader)?,
        retain: reader.flag()?,
        subscription_ids: List::read(reader)?,
        group: reader.option(Reader::text)?,
    })
}

fn read_retain<'a>(reader: &mut Reader<'a>) -> Result<RetainRecord<'a>, Unreadable> {
    Ok(RetainRecord {
        topic: reader.text()?,
        message: reader.option(|reader| reader.u64().map(MessageId))?,
        stamp: Stamp { time: reader.u64()?, shard: reader.u8()? },
        expires_at: reader.option(time)?,
    })
}

fn session(reader: &mut Reader<'_>) -> Result<SessionNumber, Unreadable> {
    reader.u64().map(SessionNumber)
}

fn time(reader: &mut Reader<'_>) -> Result<WallTime, Unreadable> {
    reader.u64().map(WallTime::from_nanos)
}

fn qos(reader: &mut Reader<'_>) -> Result<QoS, Unreadable> {
    QoS::from_bits(reader.u8()?).ok_or(Unreadable::Value)
}

fn packet_id(reader: &mut Reader<'_>) -> Result<PacketId, Unreadable> {
    let value = u16::try_from(reader.u64()?).ok();
    value.and_then(PacketId::new).ok_or(Unreadable::Value)
}

fn publisher_hash(reader: &mut Reader<'_>) -> Result<u32, Unreadable> {
    let bytes = reader.take(size_of::<u32>())?;
    let bytes = bytes.try_into().map_err(|_| Unreadable::Truncated)?;
    Ok(u32::from_le_bytes(bytes))
}

const EPOCH: u8 = 1;
const SESSION: u8 = 2;
const SESSION_END: u8 = 3;
const DISCONNECTED: u8 = 4;
const SUBSCRIPTION: u8 = 5;
const UNSUBSCRIBE: u8 = 6;
const MESSAGE: u8 = 7;
const REF: u8 = 8;
const ACK: u8 = 9;
const RELEASED: u8 = 10;
const HOLD: u8 = 11;
const UNHOLD: u8 = 12;
const RETAIN: u8 = 13;
const TAKEN: u8 = 14;

/// Bytes of the length before a record that is shorter than 128 bytes.
const SHORT: usize = 1;
/// The same before any other record: up to 32 GiB.
const LONG: usize = 5;
