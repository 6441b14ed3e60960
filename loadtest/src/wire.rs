//! The few packets that a load consists of, written and read without a detour.

use ringmq::mqtt::{
    Connect, DecodeError, Delivery, Disconnect, Frame, PacketId, Publish, PublishHead, QoS,
    ReasonCode, Subscribe, SubscribeFilters, SubscriptionOptions, Version,
};

use crate::payload::{Filling, STAMP_LEN, Stamp};

/// A PUBLISH that is complete but for its Packet Identifier and its stamp.
#[derive(Debug)]
pub struct Template {
    frame: Vec<u8>,
    packet_id_at: Option<usize>,
    stamp_at: Option<usize>,
}

impl Template {
    pub fn new(version: Version, qos: QoS, topic: &str, filling: &Filling) -> Template {
        let payload = filling.bytes();
        let head = head(qos, false, topic, payload.len());
        let mut frame = Vec::new();
        let packet_id_at = head.encode(version, &mut frame);
        let stamp_at = filling.is_stamped().then_some(frame.len());
        frame.extend_from_slice(payload);
        Template { frame, packet_id_at, stamp_at }
    }

    #[inline]
    pub fn append(&self, packet_id: Option<PacketId>, stamp: Stamp, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.frame);
        if let (Some(at), Some(id)) = (self.packet_id_at, packet_id) {
            out[start + at..][..2].copy_from_slice(&id.value().to_be_bytes());
        }
        if let Some(at) = self.stamp_at {
            out[start + at..][..STAMP_LEN].copy_from_slice(&stamp.to_bytes());
        }
    }

    pub fn packet_len(&self) -> usize {
        self.frame.len()
    }
}

/// A PUBLISH whose topic is its own.
#[derive(Clone, Copy, Debug)]
pub struct Single<'a> {
    pub qos: QoS,
    pub retain: bool,
    pub topic: &'a str,
    pub packet_id: Option<PacketId>,
}

impl Single<'_> {
    pub fn append(&self, version: Version, filling: &Filling, stamp: Stamp, out: &mut Vec<u8>) {
        let payload = filling.bytes();
        self.append_head(version, payload.len(), out);
        let start = out.len();
        out.extend_from_slice(payload);
        if filling.is_stamped() {
            out[start..][..STAMP_LEN].copy_from_slice(&stamp.to_bytes());
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

/// Steps over the topic and short properties; `None` for whatever needs a closer look.
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

/// A client that starts afresh, may stay silent for longer than any run, and leaves nothing behind.
pub fn encode_connect(version: Version, client_id: &str, out: &mut Vec<u8>) {
    Connect { keep_alive: KEEP_ALIVE, ..Connect::new(version, client_id) }.encode(out);
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

pub fn encode_disconnect(version: Version, out: &mut Vec<u8>) {
    let disconnect = Disconnect {
        reason_code: ReasonCode::Success,
        session_expiry_interval: None,
        server_reference: None,
        properties: ringmq::mqtt::ReasonProperties::default(),
    };
    disconnect.encode(version, out);
}

/// In seconds: as long as can be. Some brokers refuse a client that may be silent for ever.
const KEEP_ALIVE: u16 = u16::MAX;

/// Brokers bound the size of a packet that is no PUBLISH.
const FILTERS_PER_PACKET: usize = 100;

#[cfg(test)]
mod tests {
    use ringmq::{base::time::Moment, mqtt::frame};

    use super::*;
    use crate::payload::{Content, Phase};

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
        for size in [0, 15, 16, 300] {
            let filling = Filling::new(size, 1);
            for version in VERSIONS {
                for qos in QOS {
                    let template = Template::new(version, qos, "a/b", &filling);
                    let mut bytes = Vec::new();
                    template.append(Some(id), STAMP, &mut bytes);
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
}
