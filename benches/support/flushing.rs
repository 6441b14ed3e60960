//! Outboxes that are filled and flushed, again and again.

use bytes::Bytes;
use ringmq::runtime::SocketlessOutbox;

/// So many PUBLISH packets with such a payload, to one client that reads them at once.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) frames: usize,
    payload_bytes: usize,
}

pub(crate) const SHAPES: [Shape; 4] = [
    Shape { name: "one small frame", frames: 1, payload_bytes: 64 },
    Shape { name: "ten small frames", frames: 10, payload_bytes: 64 },
    Shape { name: "a thousand small frames", frames: 1_000, payload_bytes: 64 },
    Shape { name: "one frame of 64 KiB", frames: 1, payload_bytes: 64 << 10 },
];

impl Shape {
    pub(crate) fn flush(&self) -> impl FnMut() + use<> {
        let (mut outbox, frames) = (SocketlessOutbox::default(), self.frames);
        let payload = Bytes::from(vec![b'x'; self.payload_bytes]);
        move || {
            let sends = outbox.flush(&HEAD, &payload, frames);
            assert!(sends > 0);
        }
    }
}

/// As long as the head of a PUBLISH with a topic of ordinary length.
const HEAD: [u8; 24] = [b'h'; 24];
