//! Large payloads: the memory of each is counted once, until nobody refers to it any more.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;

use super::{connection::SocketConnection, driver::Driver};
use crate::shard::ports::HeldByRuntime;

/// The bytes of the large payloads that have come to one shard. Other shards may refer to them.
#[derive(Clone, Debug, Default)]
pub(super) struct Payloads(Arc<AtomicUsize>);

/// The memory of one payload, or of a packet with one.
struct Counted {
    bytes: Vec<u8>,
    payloads: Payloads,
}

impl Payloads {
    /// Memory that can be shared, and that counts until the last reference to it has gone.
    pub(super) fn share(&self, bytes: Vec<u8>) -> Bytes {
        // Relaxed, here and below: the number guards no other memory.
        self.0.fetch_add(bytes.capacity(), Ordering::Relaxed);
        Bytes::from_owner(Counted { bytes, payloads: self.clone() })
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.payloads.0.fetch_sub(self.bytes.capacity(), Ordering::Relaxed);
    }
}

impl Driver {
    /// A part of what is being handed in: of a large packet without a copy.
    pub(super) fn share_part(&self, part: &[u8]) -> Bytes {
        let (whole, wanted) = (self.handed_in.as_ptr_range(), part.as_ptr_range());
        if whole.start <= wanted.start && wanted.end <= whole.end {
            self.handed_in.slice_ref(part)
        } else {
            self.partials.payloads.share(part.to_vec())
        }
    }

    /// What is kept for clients besides what the brain keeps.
    pub(super) fn held_for_clients(&self) -> HeldByRuntime {
        HeldByRuntime {
            connections: self.connections.len() * CONNECTION_BYTES + self.transport_bytes,
            outboxes: self.chunks.lent(),
            incomplete: self.partials.taken(),
            payloads: self.partials.payloads.bytes(),
            letters: self.mail.held(),
        }
    }
}

/// What a connection takes in the runtime and in the brain, with its reminders.
const CONNECTION_BYTES: usize = size_of::<SocketConnection>() + 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_counts_until_the_last_reference_to_it_has_gone() {
        let payloads = Payloads::default();
        let whole = payloads.share(vec![7; 1_000]);
        let part = whole.slice(990..);
        assert_eq!(payloads.bytes(), 1_000);
        drop(whole);
        assert_eq!((&part[..], payloads.bytes()), (&[7; 10][..], 1_000));
        drop(part);
        assert_eq!(payloads.bytes(), 0);
    }
}
