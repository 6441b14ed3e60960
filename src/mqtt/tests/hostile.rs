//! Bytes from someone who means no good, or whose wire is noisy: answered, always.

use proptest::{collection::vec, prelude::*, strategy::ValueTree, test_runner::TestRunner};

use super::{decoded, encoded, framed, packets};
use crate::mqtt::{Packet, Version, frame};

/// Packets of each version that are damaged in every possible way.
const SAMPLES: usize = 120;
/// Longer samples are skipped: their payloads would only cost time.
const SAMPLE_BYTES_MAX: usize = 400;

/// Decodes the bytes. What is accepted is a packet: written again, it reads as the same.
fn answer(bytes: &[u8], version: Version) {
    let Ok(Some(packet)) = decoded(bytes, version) else {
        return;
    };
    let written = encoded(&packet, version_of(&packet, version));
    assert_eq!(decoded(&written, version), Ok(Some(packet)), "{bytes:x?}");
}

fn version_of(packet: &Packet<'_>, version: Version) -> Version {
    if let Packet::Connect(connect) = packet { connect.version } else { version }
}

/// The same packets on every run.
fn samples() -> Vec<(Version, Vec<u8>)> {
    let mut runner = TestRunner::deterministic();
    let mut samples = Vec::new();
    for version in Version::ALL {
        let strategy = packets::packet(version);
        samples.extend((0..SAMPLES).map(|_| {
            let packet = strategy.new_tree(&mut runner).unwrap().current();
            (version, encoded(&packet, version))
        }));
    }
    samples.retain(|(_, bytes)| bytes.len() <= SAMPLE_BYTES_MAX);
    assert!(samples.len() > 2 * SAMPLES, "few packets are long");
    samples
}

#[test]
fn a_packet_that_has_not_arrived_completely_is_waited_for() {
    for (version, bytes) in samples() {
        for end in 0..bytes.len() {
            assert_eq!(decoded(&bytes[..end], version), Ok(None));
        }
    }
}

#[test]
fn a_packet_whose_body_ends_anywhere_is_answered() {
    for (version, bytes) in samples() {
        let frame = frame::split(&bytes, frame::PACKET_SIZE_MAX).unwrap().unwrap();
        for end in 0..frame.body.len() {
            answer(&framed(frame.first, &frame.body[..end]), version);
        }
    }
}

#[test]
fn a_packet_with_any_bit_flipped_is_answered() {
    for (version, bytes) in samples() {
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            answer(&flipped, version);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4_000) })]

    #[test]
    fn random_bytes_are_answered(bytes in vec(any::<u8>(), 0..64), version in packets::version()) {
        answer(&bytes, version);
    }

    #[test]
    fn a_random_body_is_answered(
        first in any::<u8>(),
        body in vec(prop_oneof![any::<u8>(), 0..4u8], 0..64),
        version in packets::version(),
    ) {
        answer(&framed(first, &body), version);
    }

    #[test]
    fn the_size_that_is_peeked_at_is_the_size(bytes in vec(any::<u8>(), 0..64)) {
        if let Ok(Some(frame)) = frame::split(&bytes, frame::PACKET_SIZE_MAX) {
            prop_assert_eq!(frame::packet_size(&bytes), Some(frame.len));
        }
    }
}
