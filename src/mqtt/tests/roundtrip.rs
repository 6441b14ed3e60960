//! What is written is what is read.

use proptest::{collection::vec, prelude::*, sample::Index};

use super::{decoded, encoded, packets};
use crate::mqtt::{
    ApplicationProperties, Blanks, DecodeError, Packet, Publish, PublishHead, Version,
    frame::{self, PACKET_SIZE_MAX},
};

fn a_packet() -> impl Strategy<Value = (Version, Packet<'static>)> {
    packets::version()
        .prop_flat_map(|version| packets::packet(version).prop_map(move |packet| (version, packet)))
}

fn some_packets() -> impl Strategy<Value = (Version, Vec<Packet<'static>>)> {
    packets::version().prop_flat_map(|version| (Just(version), vec(packets::packet(version), 1..6)))
}

fn a_publish() -> impl Strategy<Value = (Version, Publish<'static>)> {
    packets::version().prop_flat_map(|version| (Just(version), packets::publish(version)))
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(1_500)
    })]

    #[test]
    fn a_packet_survives_the_wire((version, packet) in a_packet()) {
        let bytes = encoded(&packet, version);
        prop_assert_eq!(frame::packet_size(&bytes), Some(bytes.len()));
        prop_assert_eq!(decoded(&bytes, version), Ok(Some(packet)));
    }

    #[test]
    fn what_was_read_is_written_as_it_came((version, packet) in a_packet()) {
        let bytes = encoded(&packet, version);
        let read = decoded(&bytes, version).unwrap().unwrap();
        prop_assert_eq!(encoded(&read, version), bytes);
    }

    #[test]
    fn any_split_of_a_stream_gives_the_same_packets(
        (version, packets) in some_packets(),
        cuts in vec(any::<Index>(), 0..8),
    ) {
        let stream: Vec<u8> =
            packets.iter().flat_map(|packet| encoded(packet, version)).collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len())).collect();
        cuts.sort_unstable();
        cuts.push(stream.len());
        let mut read = Vec::new();
        let mut taken = 0;
        for arrived in cuts {
            taken += read_all(&stream[taken..arrived], version, &mut read).unwrap();
        }
        prop_assert_eq!(taken, stream.len());
        prop_assert_eq!(read, packets);
    }

    #[test]
    fn a_head_and_a_payload_are_a_publish((version, publish) in a_publish()) {
        let mut application = Vec::new();
        publish.properties.application.encode(&mut application);
        let identifiers: Vec<u32> = publish.properties.subscription_identifiers.iter().collect();
        let head = PublishHead {
            dup: publish.dup,
            qos: publish.delivery.qos(),
            retain: publish.retain,
            topic: publish.topic,
            application: &application,
            message_expiry_interval: publish.properties.message_expiry_interval,
            subscription_identifiers: &identifiers,
            topic_alias: publish.properties.topic_alias,
            payload_len: publish.payload.len(),
        };
        let expected = encoded(&Packet::Publish(publish), version);
        prop_assert_eq!(head.len(version), expected.len());
        let mut out = vec![0xEE; 3];
        let Blanks { packet_id: packet_id_at, topic_alias } =
            head.encode_with_blanks(version, &mut out);
        prop_assert_eq!(packet_id_at.is_some(), publish.delivery.packet_id().is_some());
        if let (Some(at), Some(id)) = (packet_id_at, publish.delivery.packet_id()) {
            prop_assert_eq!(&out[at..at + 2], &[0, 0]);
            out[at..at + 2].copy_from_slice(&id.value().to_be_bytes());
        }
        let alias = publish.properties.topic_alias.filter(|_| version.has_properties());
        prop_assert_eq!(topic_alias.is_some(), alias.is_some());
        if let (Some(at), Some(alias)) = (topic_alias, alias) {
            prop_assert_eq!(&out[at..at + 2], alias.get().to_be_bytes());
        }
        out.extend_from_slice(publish.payload);
        prop_assert_eq!(&out[3..], expected);
    }

    #[test]
    fn application_properties_survive_on_their_own(properties in packets::application()) {
        let mut raw = Vec::new();
        properties.encode(&mut raw);
        prop_assert_eq!(properties.is_empty(), raw.is_empty());
        prop_assert_eq!(properties.bytes(), raw.len());
        prop_assert_eq!(ApplicationProperties::decode(&raw), Ok(properties));
    }

    #[test]
    fn user_properties_know_their_size(properties in packets::application()) {
        let alone = ApplicationProperties {
            user_properties: properties.user_properties,
            ..ApplicationProperties::default()
        };
        let mut raw = Vec::new();
        alone.encode(&mut raw);
        prop_assert_eq!(properties.user_properties.bytes(), raw.len());
        prop_assert_eq!(properties.user_properties.is_empty(), alone.user_properties.count() == 0);
    }
}

/// Reads packets as long as they are complete, and says how many bytes they took.
fn read_all<'a>(
    bytes: &'a [u8],
    version: Version,
    read: &mut Vec<Packet<'a>>,
) -> Result<usize, DecodeError> {
    let mut taken = 0;
    while let Some(frame) = frame::split(&bytes[taken..], PACKET_SIZE_MAX)? {
        read.push(Packet::decode(frame, version)?);
        taken += frame.len;
    }
    Ok(taken)
}
