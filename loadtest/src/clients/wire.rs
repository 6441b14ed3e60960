//! Fast encoding and decoding of the few packet types that make up a load.

use std::ops::Range;

use ringmq::{
    base::time::Span,
    mqtt::{
        Connect, DecodeError, Delivery, Disconnect, Frame, PacketId, PacketType, Publish,
        PublishHead, QoS, ReasonCode, Subscribe, SubscribeFilters, SubscriptionOptions, Version,
    },
};

use super::outbox::Outbox;
use crate::{
    payload::{Filling, STAMP_LEN, Stamp},
    request::plan::SessionTerms,
};

/// A PUBLISH that is complete but for its Packet Identifier and its stamp.
#[derive(Debug)]
pub struct PublishTemplate {
    /// The packet without the shared rest of its payload.
    frame: Vec<u8>,
    /// The rest of a large payload, of which all packets share one copy.
    shared: Range<usize>,
    packet_id_at: Option<usize>,
    stamp_at: Option<usize>,
}

impl PublishTemplate {
    pub fn new(version: Version, qos: QoS, topic: &str, filling: &Filling) -> PublishTemplate {
        let payload = filling.bytes();
        let head = head(qos, false, topic, payload.len());
        let mut frame = Vec::new();
        let packet_id_at = head.encode(version, &mut frame);
        let stamp_at = filling.is_stamped().then_some(frame.len());
        let own = own_len(payload.len());
        frame.extend_from_slice(&payload[..own]);
        PublishTemplate { frame, shared: own..payload.len(), packet_id_at, stamp_at }
    }

    #[inline]
    pub fn append(&self, packet_id: Option<PacketId>, stamp: Stamp, outbox: &mut Outbox) {
        let out = &mut outbox.bytes;
        let start = out.len();
        out.extend_from_slice(&self.frame);
        if let (Some(at), Some(id)) = (self.packet_id_at, packet_id) {
            out[start + at..][..2].copy_from_slice(&id.value().to_be_bytes());
        }
        if let Some(at) = self.stamp_at {
            out[start + at..][..STAMP_LEN].copy_from_slice(&stamp.to_bytes());
        }
        if !self.shared.is_empty() {
            outbox.share(self.shared.clone());
        }
    }

    pub fn packet_len(&self) -> usize {
        self.frame.len() + self.shared.len()
    }
}

/// Bytes at the front of a payload that are copied into each packet.
#[inline]
fn own_len(payload_len: usize) -> usize {
    if payload_len < SHARED_BYTES_MIN { payload_len } else { STAMP_LEN }
}

/// A PUBLISH that is made for one message, with a topic of its own.
#[derive(Clone, Copy, Debug)]
pub struct SinglePublish<'a> {
    pub qos: QoS,
    pub retain: bool,
    pub topic: &'a str,
    pub packet_id: Option<PacketId>,
}

impl SinglePublish<'_> {
    pub fn append(&self, version: Version, filling: &Filling, stamp: Stamp, outbox: &mut Outbox) {
        let (payload, out) = (filling.bytes_of(stamp), &mut outbox.bytes);
        self.append_head(version, payload.len(), out);
        let (start, own) = (out.len(), own_len(payload.len()));
        out.extend_from_slice(&payload[..own]);
        if filling.is_stamped() {
            out[start..][..STAMP_LEN].copy_from_slice(&stamp.to_bytes());
        }
        if own < payload.len() {
            outbox.share(own..payload.len());
        }
    }

    /// A payload of no bytes removes what is retained. [MQTT-3.3.1-6]
    pub fn append_empty(&self, version: Version, out: &mut Vec<u8>) {
        self.append_head(version, 0, out);
    }

    fn append_head(&self, version: Version, payload_len: usize, out: &mut Vec<u8>) {
        let at = head(self.qos, self.retain, self.topic, payload_len).encode(version, out);
        if let (Some(at), Some(id)) = (at, self.packet_id) {
            out[at..][..2].copy_from_slice(&id.value().to_be_bytes());
        }
    }
}

fn head(qos: QoS, retain: bool, topic: &str, payload_len: usize) -> PublishHead<'_> {
    PublishHead {
        dup: false,
        qos,
        retain,
        topic,
        application: &[],
        message_expiry_interval: None,
        subscription_identifiers: &[],
        topic_alias: None,
        payload_len,
    }
}

/// How a PUBLISH came, and its payload.
#[inline]
pub fn read_publish(frame: Frame<'_>, version: Version) -> Result<(Delivery, &[u8]), DecodeError> {
    if let Some(skimmed) = skim_publish(frame, version) {
        return Ok(skimmed);
    }
    let publish = Publish::decode(frame, version)?;
    Ok((publish.delivery, publish.payload))
}

/// Steps over the topic and short properties. `None`: the packet must be decoded as a whole.
#[inline]
fn skim_publish(frame: Frame<'_>, version: Version) -> Option<(Delivery, &[u8])> {
    let (topic_len, rest) = frame.body.split_first_chunk()?;
    let rest = rest.get(usize::from(u16::from_be_bytes(*topic_len))..)?;
    let (delivery, rest) = match QoS::from_bits(frame.first >> 1 & 3)? {
        QoS::AtMostOnce => (Delivery::AtMostOnce, rest),
        QoS::AtLeastOnce => skim_packet_id(rest, Delivery::AtLeastOnce)?,
        QoS::ExactlyOnce => skim_packet_id(rest, Delivery::ExactlyOnce)?,
    };
    if version < Version::V5 {
        return Some((delivery, rest));
    }
    let (&properties_len, rest) = rest.split_first()?;
    let short = properties_len < 0x80;
    short.then(|| rest.get(usize::from(properties_len)..)).flatten().map(|rest| (delivery, rest))
}

#[inline]
fn skim_packet_id(bytes: &[u8], form: fn(PacketId) -> Delivery) -> Option<(Delivery, &[u8])> {
    let (packet_id, rest) = bytes.split_first_chunk()?;
    Some((form(PacketId::new(u16::from_be_bytes(*packet_id))?), rest))
}

/// Reads an acknowledgement in its shortest form, which means success, at the front of `bytes`.
/// Nearly all packets that a publisher receives have it. `None`: the packet must be decoded.
#[inline]
pub fn skim_ack(bytes: &[u8]) -> Option<(PacketType, PacketId)> {
    let (&[first, ACK_BODY_LEN, high, low], _) = bytes.split_first_chunk()? else { return None };
    let packet_type = match first {
        PUBACK => PacketType::Puback,
        PUBREC => PacketType::Pubrec,
        PUBCOMP => PacketType::Pubcomp,
        _ => return None,
    };
    Some((packet_type, PacketId::new(u16::from_be_bytes([high, low]))?))
}

/// How often a client with this Keep Alive shows that it is still there.
pub fn ping_interval(keep_alive: u16) -> Option<Span> {
    (keep_alive > 0).then(|| Span::from_millis(u64::from(keep_alive) * 500))
}

pub fn encode_connect(version: Version, client_id: &str, terms: SessionTerms, out: &mut Vec<u8>) {
    let mut connect = Connect::new(version, client_id);
    connect.clean_start = !terms.persistent;
    connect.keep_alive = terms.keep_alive;
    if terms.persistent && version.has_properties() {
        connect.properties.session_expiry_interval = Some(SESSION_EXPIRY_SECONDS);
    }
    connect.encode(out);
}

/// Subscribes to any number of filters, and says how many packets that takes.
pub fn encode_subscribe(
    version: Version,
    filters: &[String],
    qos: QoS,
    out: &mut Vec<u8>,
) -> usize {
    let options = SubscriptionOptions::with_qos(qos);
    let packets = filters.chunks(FILTERS_PER_PACKET);
    let count = packets.len();
    for (packet_id, chunk) in (1..).filter_map(PacketId::new).zip(packets) {
        let filters: Vec<_> = chunk.iter().map(|filter| (filter.as_str(), options)).collect();
        let subscribe = Subscribe {
            packet_id,
            subscription_identifier: None,
            user_properties: ringmq::mqtt::UserProperties::default(),
            filters: SubscribeFilters::List(&filters),
        };
        subscribe.encode(version, out);
    }
    count
}

/// Writes the last packet of a client. Where the version allows it, the session ends with it.
pub fn encode_disconnect(version: Version, terms: SessionTerms, out: &mut Vec<u8>) {
    let ends = terms.persistent && version.has_properties();
    let disconnect = Disconnect {
        reason_code: ReasonCode::Success,
        session_expiry_interval: ends.then_some(0),
        server_reference: None,
        properties: ringmq::mqtt::ReasonProperties::default(),
    };
    disconnect.encode(version, out);
}

/// The smallest payload whose rest is shared. A smaller one is cheaper to copy than to send as a
/// piece of its own.
const SHARED_BYTES_MIN: usize = 8 * 1024;

/// First bytes of the acknowledgements that publishers are sent.
const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBCOMP: u8 = 0x70;

/// What follows the fixed header of an acknowledgement in its shortest form.
const ACK_BODY_LEN: u8 = 2;

/// Bytes of an acknowledgement in its shortest form.
pub const ACK_LEN: usize = 4;

/// The Session Expiry Interval: longer than any run.
const SESSION_EXPIRY_SECONDS: u32 = 24 * 3600;

/// Brokers limit the size of packets other than PUBLISH.
const FILTERS_PER_PACKET: usize = 100;

#[cfg(test)]
mod tests {
    use ringmq::{
        base::time::Moment,
        mqtt::{Ack, frame},
    };

    use super::*;
    use crate::payload::{Content, Phase, Sizes};

    const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];
    const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
    const STAMP: Stamp =
        Stamp { publisher: 3, phase: Phase::Measured, sequence: 9, moment: Moment::from_nanos(5) };

    fn whole(bytes: &[u8]) -> Frame<'_> {
        let frame = frame::split(bytes, usize::MAX).unwrap().unwrap();
        assert_eq!(frame.len, bytes.len());
        frame
    }

    #[test]
    fn what_a_template_appends_is_the_publish_that_was_meant() {
        let id = PacketId::new(0x1234).unwrap();
        for size in [0, 15, 16, 300, SHARED_BYTES_MIN, 20_000] {
            let filling = Filling::new(Sizes { min: size, max: size }, 1);
            for version in VERSIONS {
                for qos in QOS {
                    let template = PublishTemplate::new(version, qos, "a/b", &filling);
                    let mut outbox = Outbox::default();
                    template.append(Some(id), STAMP, &mut outbox);
                    let bytes = outbox.contents(filling.bytes());
                    assert_eq!(bytes.len(), template.packet_len());
                    let publish = Publish::decode(whole(&bytes), version).unwrap();
                    assert_eq!((publish.topic, publish.delivery.qos()), ("a/b", qos));
                    let sent_id = (qos > QoS::AtMostOnce).then_some(id);
                    assert_eq!(publish.delivery.packet_id(), sent_id);
                    let content = filling.read(publish.payload);
                    let stamped = size >= STAMP_LEN;
                    let sent = if stamped { Content::Stamped(STAMP) } else { Content::Unstamped };
                    assert_eq!(content, sent);
                }
            }
        }
    }

    #[test]
    fn skimming_finds_what_decoding_finds() {
        let subscription_identifiers = [200_000_000; 60];
        for version in VERSIONS {
            for qos in QOS {
                for identifiers in [0, 1, 60] {
                    let head = PublishHead {
                        dup: false,
                        qos,
                        retain: false,
                        topic: "a/b",
                        application: &[],
                        message_expiry_interval: Some(5),
                        subscription_identifiers: &subscription_identifiers[..identifiers],
                        topic_alias: None,
                        payload_len: 4,
                    };
                    let mut bytes = Vec::new();
                    if let Some(at) = head.encode(version, &mut bytes) {
                        bytes[at + 1] = 1;
                    }
                    bytes.extend_from_slice(b"load");
                    let frame = whole(&bytes);
                    let decoded = Publish::decode(frame, version).unwrap();
                    let (delivery, payload) = read_publish(frame, version).unwrap();
                    assert_eq!((delivery, payload), (decoded.delivery, &b"load"[..]));
                    assert_eq!(decoded.payload, payload);
                }
            }
        }
    }

    #[test]
    fn plain_acknowledgements_are_skimmed_and_no_other_packets() {
        let id = PacketId::new(0x1234).unwrap();
        let encode = |packet_type, reason_code| {
            let mut bytes = Vec::new();
            Ack::with_reason(id, reason_code).encode(packet_type, Version::V5, &mut bytes);
            bytes
        };
        for packet_type in [PacketType::Puback, PacketType::Pubrec, PacketType::Pubcomp] {
            let bytes = encode(packet_type, ReasonCode::Success);
            assert_eq!(bytes.len(), ACK_LEN);
            assert_eq!(skim_ack(&[&bytes[..], &[0]].concat()), Some((packet_type, id)));
            assert_eq!(skim_ack(&bytes[..3]), None);
            assert_eq!(skim_ack(&[bytes[0], 2, 0, 0]), None);
            assert_eq!(skim_ack(&encode(packet_type, ReasonCode::UnspecifiedError)), None);
        }
        assert_eq!(skim_ack(&encode(PacketType::Pubrel, ReasonCode::Success)), None);
    }
}
