//! Packets: what is accepted is a packet, and written again it reads as the same.

use ringmq::mqtt::{Packet, Version, frame};

/// One byte says the version; the others are packets.
pub(super) fn check(input: &[u8]) {
    let Some((&version, mut rest)) = input.split_first() else { return };
    let version = Version::ALL[usize::from(version) % Version::ALL.len()];
    while let Ok(Some(frame)) = frame::split(rest, frame::PACKET_SIZE_MAX) {
        rest = &rest[frame.len..];
        if let Ok(packet) = Packet::decode(frame, version) {
            check_written(&packet, version);
        }
    }
}

fn check_written(packet: &Packet<'_>, version: Version) {
    let mut written = Vec::new();
    packet.encode(spoken_by(packet, version), &mut written);
    let frame = frame::split(&written, frame::PACKET_SIZE_MAX).expect("it is well formed");
    let frame = frame.expect("it is whole");
    assert_eq!(frame.len, written.len());
    assert_eq!(Packet::decode(frame, version).as_ref(), Ok(packet));
}

/// CONNECT says itself in which version it is written.
fn spoken_by(packet: &Packet<'_>, version: Version) -> Version {
    if let Packet::Connect(connect) = packet { connect.version } else { version }
}
