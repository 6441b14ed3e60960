//! What holds for all packets.

mod faults;
mod fields;
mod golden;
mod hostile;
mod packets;
mod roundtrip;

use super::{DecodeError, Packet, Version, frame};

fn encoded(packet: &Packet<'_>, version: Version) -> Vec<u8> {
    let mut out = Vec::new();
    packet.encode(version, &mut out);
    out
}

/// Decodes the packet that the bytes begin with: `None` if it has not arrived completely.
fn decoded(bytes: &[u8], version: Version) -> Result<Option<Packet<'_>>, DecodeError> {
    let Some(frame) = frame::split(bytes, frame::PACKET_SIZE_MAX)? else {
        return Ok(None);
    };
    Packet::decode(frame, version).map(Some)
}

/// A packet of any body behind this first byte.
fn framed(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    super::primitive::put_with_length(&mut bytes, 0, |out| out.extend_from_slice(body));
    bytes
}
