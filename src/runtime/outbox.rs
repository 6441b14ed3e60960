//! The unsent bytes of a connection.
//!
//! ```text
//!            append                begin                complete(all)
//!   (none) ----------> waiting ------------> in flight ---------------> (none)
//!                         ^    complete(some)    |
//!                         +----------------------+
//! ```
//! Bytes in flight are neither moved nor freed before [`Outbox::complete`], because the kernel
//! reads them. More bytes may be appended meanwhile.
//!
//! Where the transport has a [`Head`], the bytes leave in frames. What is appended belongs to one
//! open frame, until [`Outbox::close_frame`] writes its head into the room that was left for it.

use std::{collections::VecDeque, mem};

use bytes::Bytes;

use super::{
    chunks::{Chunks, SMALL_BYTES},
    ring::vector::Vector,
};
use crate::{
    base::time::Moment,
    transport::{
        Head,
        tls::{RECORD_BYTES_MAX, RECORD_OVERHEAD, Tls},
    },
};

/// Payloads of this size and more are sent by reference. Copying a smaller one is cheaper.
pub(super) const SHARED_BYTES_MIN: usize = 8 << 10;

/// The unsent bytes of one connection.
pub(super) struct Outbox {
    pieces: VecDeque<Piece>,
    unsent: usize,
    in_flight: bool,
    /// Since when there have been unsent bytes.
    pub(super) since: Moment,
    /// When some were sent last, or have begun to wait.
    pub(super) moved: Moment,
    vector: Box<Vector>,
    /// The kind of head that the transport puts before the bytes of each send, if it has one.
    head: Option<Head>,
    /// With a head: the pieces of the open frame, at the back.
    open_pieces: usize,
    /// With TLS: the pieces at the front that are sealed.
    sealed_pieces: usize,
}

/// Consecutive bytes, of which the first have been sent.
struct Piece {
    bytes: Content,
    sent: usize,
}

enum Content {
    /// Frames one after the other, in a chunk of the pool. It is never written past its capacity.
    Chunk(Vec<u8>),
    /// A chunk that ends with a frame: nothing is appended to it.
    Sealed(Vec<u8>),
    Payload(Bytes),
}

impl Outbox {
    pub(super) fn new() -> Outbox {
        let vector = Vector::new();
        let pieces = VecDeque::new();
        let since = Moment::default();
        Outbox {
            pieces,
            unsent: 0,
            in_flight: false,
            since,
            moved: since,
            vector,
            head: None,
            open_pieces: 0,
            sealed_pieces: 0,
        }
    }

    /// Sets the kind of head for the frames that are appended from now on; `None` for no frames.
    /// The outbox is empty.
    pub(super) fn set_head(&mut self, head: Option<Head>) {
        self.head = head;
    }

    pub(super) fn unsent(&self) -> usize {
        self.unsent
    }

    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight
    }

    /// Appends a copy.
    pub(super) fn append(&mut self, mut bytes: &[u8], chunks: &mut Chunks) {
        self.unsent += bytes.len();
        while !bytes.is_empty() {
            let chunk = self.writable(chunks);
            let room = chunk.capacity() - chunk.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            chunk.extend_from_slice(now);
            bytes = later;
        }
    }

    /// Appends a payload, without a copy when it is large.
    pub(super) fn append_shared(&mut self, payload: &Bytes, chunks: &mut Chunks) {
        if payload.len() < SHARED_BYTES_MIN {
            return self.append(payload, chunks);
        }
        self.unsent += payload.len();
        self.open_frame(chunks);
        self.push(Content::Payload(payload.clone()));
    }

    /// Appends bytes that are sent without a head: HTTP, or complete frames.
    pub(super) fn append_bare(&mut self, bytes: &[u8], chunks: &mut Chunks) {
        self.close_frame();
        self.unsent += bytes.len();
        let mut chunk = chunks.small();
        chunk.extend_from_slice(bytes);
        self.pieces.push_back(Piece { bytes: Content::Sealed(chunk), sent: 0 });
    }

    /// Appends bytes that TLS has sealed, to an outbox that is sealed.
    pub(super) fn append_sealed(&mut self, bytes: &[u8], chunks: &mut Chunks) {
        self.append_bare(bytes, chunks);
        self.sealed_pieces = self.pieces.len();
    }

    /// Writes the head of the open frame, if there is one. Bytes appended later form another frame.
    pub(super) fn close_frame(&mut self) {
        let Some(head) = self.head.filter(|_| self.open_pieces > 0) else { return };
        let first = self.pieces.len() - mem::take(&mut self.open_pieces);
        let room_and_payload: usize =
            self.pieces.range(first..).map(|piece| piece.unsent().len()).sum();
        let Piece { bytes: Content::Chunk(chunk), sent } = &mut self.pieces[first] else {
            unreachable!("a frame begins in a chunk")
        };
        *sent = head.write(&mut chunk[..head.room()], room_and_payload - head.room());
        self.unsent += head.room() - *sent;
        if let Some(Piece { bytes: last, .. }) = self.pieces.back_mut()
            && let Content::Chunk(chunk) = last
        {
            *last = Content::Sealed(mem::take(chunk));
        }
    }

    /// Seals all that was appended since the last call. What TLS itself owes goes before it,
    /// because it was sealed before. False: some of it cannot be sealed, and is dropped.
    #[must_use]
    pub(super) fn seal(&mut self, tls: &mut Tls, chunks: &mut Chunks) -> bool {
        let plain = self.pieces.split_off(self.sealed_pieces);
        let owed = tls.take_owed();
        for part in owed.chunks(SMALL_BYTES) {
            self.append_bare(part, chunks);
        }
        let (mut is_sealed, mut records) = (true, Vec::new());
        for piece in plain {
            self.unsent -= piece.unsent().len();
            for part in piece.unsent().chunks(RECORD_BYTES_MAX) {
                let room = part.len() + RECORD_OVERHEAD;
                // Several records share a chunk, so that small ones do not take large memory.
                if records.capacity() - records.len() < room {
                    self.push_sealed(mem::replace(&mut records, chunks.with_room(room)));
                }
                is_sealed = is_sealed && tls.seal(part, &mut records);
            }
            if let Content::Chunk(chunk) | Content::Sealed(chunk) = piece.bytes {
                chunks.give_back(chunk);
            }
        }
        if records.is_empty() {
            chunks.give_back(records);
        } else {
            self.push_sealed(records);
        }
        self.sealed_pieces = self.pieces.len();
        is_sealed
    }

    fn push_sealed(&mut self, records: Vec<u8>) {
        if !records.is_empty() {
            self.unsent += records.len();
            self.pieces.push_back(Piece { bytes: Content::Sealed(records), sent: 0 });
        }
    }

    /// Puts the bytes at the front in flight. They stay where they are until [`Outbox::complete`].
    pub(super) fn begin(&mut self) -> &mut Vector {
        assert!(!self.in_flight, "a connection has one send in flight");
        self.in_flight = true;
        self.vector.fill(self.pieces.iter().map(Piece::unsent));
        &mut self.vector
    }

    /// The send has ended, and the kernel has taken `sent` bytes.
    pub(super) fn complete(&mut self, sent: usize, chunks: &mut Chunks) {
        self.in_flight = false;
        self.unsent -= sent;
        let mut left = sent;
        while let Some(piece) = self.pieces.front_mut() {
            let gone = left.min(piece.unsent().len());
            piece.sent += gone;
            left -= gone;
            if !piece.unsent().is_empty() {
                return;
            }
            self.drop_front(chunks);
        }
    }

    /// Forgets everything; nothing is in flight.
    pub(super) fn discard(&mut self, chunks: &mut Chunks) {
        assert!(!self.in_flight, "the kernel reads what is in flight");
        self.unsent = 0;
        self.open_pieces = 0;
        while !self.pieces.is_empty() {
            self.drop_front(chunks);
        }
    }

    /// The capacity of the list of pieces.
    pub(super) fn capacity(&self) -> usize {
        self.pieces.capacity()
    }

    fn drop_front(&mut self, chunks: &mut Chunks) {
        self.sealed_pieces = self.sealed_pieces.saturating_sub(1);
        match self.pieces.pop_front().map(|piece| piece.bytes) {
            Some(Content::Chunk(chunk) | Content::Sealed(chunk)) => chunks.give_back(chunk),
            Some(Content::Payload(_)) | None => {}
        }
    }

    /// The last chunk if it has room, or a new one: a small one for the first frames.
    fn writable(&mut self, chunks: &mut Chunks) -> &mut Vec<u8> {
        let has_room = matches!(
            self.pieces.back(),
            Some(Piece { bytes: Content::Chunk(chunk), .. }) if chunk.len() < chunk.capacity()
        );
        if !has_room && !self.open_frame(chunks) {
            let chunk = match self.pieces.back() {
                Some(Piece { bytes: Content::Chunk(_), .. }) => chunks.large(),
                _ => chunks.small(),
            };
            self.push(Content::Chunk(chunk));
        }
        match self.pieces.back_mut() {
            Some(Piece { bytes: Content::Chunk(chunk), .. }) => chunk,
            _ => unreachable!("a chunk with room is at the back"),
        }
    }

    /// Opens a frame, if the transport has frames and none is open: adds a chunk with room for its
    /// head. False: it did nothing.
    fn open_frame(&mut self, chunks: &mut Chunks) -> bool {
        let Some(head) = self.head.filter(|_| self.open_pieces == 0) else { return false };
        let mut chunk = chunks.small();
        chunk.resize(head.room(), 0);
        self.push(Content::Chunk(chunk));
        true
    }

    fn push(&mut self, bytes: Content) {
        self.pieces.push_back(Piece { bytes, sent: 0 });
        if self.head.is_some() {
            self.open_pieces += 1;
        }
    }
}

impl Piece {
    fn unsent(&self) -> &[u8] {
        match &self.bytes {
            Content::Chunk(chunk) | Content::Sealed(chunk) => &chunk[self.sent..],
            Content::Payload(payload) => &payload[self.sent..],
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        // Only a panicking shard drops an outbox in flight. The kernel may still read its bytes.
        if self.in_flight {
            mem::forget(mem::take(&mut self.pieces));
            mem::forget(mem::replace(&mut self.vector, Vector::new()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the outbox would send next.
    fn front(outbox: &Outbox) -> Vec<u8> {
        outbox.pieces.iter().flat_map(|piece| piece.unsent().to_vec()).collect()
    }

    fn numbers(count: usize) -> Vec<u8> {
        (0..=250).cycle().take(count).collect()
    }

    #[test]
    fn bytes_leave_in_the_order_in_which_they_came() {
        let mut chunks = Chunks::default();
        let mut outbox = Outbox::new();
        let mut expected = Vec::new();
        for length in [1, 2_047, 5, 40_000, SHARED_BYTES_MIN, 3, SHARED_BYTES_MIN - 1, 100_000] {
            let bytes = numbers(length);
            outbox.append_shared(&Bytes::from(bytes.clone()), &mut chunks);
            outbox.append(&bytes, &mut chunks);
            expected.extend_from_slice(&bytes);
            expected.extend_from_slice(&bytes);
        }
        assert_eq!(outbox.unsent(), expected.len());
        let mut sent = Vec::new();
        for step in (1..).map(|step| step * 7_919 % 60_000) {
            let front = front(&outbox);
            let step = step.min(front.len());
            outbox.begin();
            sent.extend_from_slice(&front[..step]);
            outbox.complete(step, &mut chunks);
            if outbox.unsent() == 0 {
                break;
            }
        }
        assert_eq!(sent, expected);
        assert!(outbox.pieces.is_empty(), "an outbox with nothing to say owns no chunk");
    }

    #[test]
    fn what_comes_during_a_send_waits_behind_it() {
        let mut chunks = Chunks::default();
        let mut outbox = Outbox::new();
        outbox.append(b"first", &mut chunks);
        outbox.begin();
        outbox.append(b"second", &mut chunks);
        outbox.complete(3, &mut chunks);
        assert_eq!(front(&outbox), b"stsecond");
        assert_eq!(outbox.unsent(), 8);
    }

    /// Takes the payload out of the frames of a server.
    fn unframed(mut wire: &[u8]) -> Vec<Vec<u8>> {
        let mut payloads = Vec::new();
        while let [0x82, short, rest @ ..] = wire {
            let longer = [0, 2, 8][usize::from(short.saturating_sub(125))];
            let (length, rest) = rest.split_at(longer);
            let length = length.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
            let length = if longer == 0 { usize::from(*short) } else { length };
            payloads.push(rest[..length].to_vec());
            wire = &rest[length..];
        }
        assert!(wire.is_empty(), "{wire:?}");
        payloads
    }

    #[test]
    fn what_waits_for_a_send_leaves_in_one_frame() {
        let mut chunks = Chunks::default();
        let mut outbox = Outbox::new();
        outbox.set_head(Some(Head::WebSocket));
        outbox.append_bare(b"HTTP", &mut chunks);
        outbox.append(b"first", &mut chunks);
        outbox.append(b" packet", &mut chunks);
        outbox.close_frame();
        outbox.close_frame();
        assert_eq!(front(&outbox), b"HTTP\x82\x0Cfirst packet");
        outbox.begin();
        let mut later = b"second".to_vec();
        outbox.append(b"second", &mut chunks);
        for length in [SHARED_BYTES_MIN, 3_000, 70_000] {
            outbox.append_shared(&Bytes::from(numbers(length)), &mut chunks);
            later.extend(numbers(length));
        }
        outbox.complete(14, &mut chunks);
        outbox.close_frame();
        outbox.append_bare(b"\x82\x01!", &mut chunks);
        let wire = front(&outbox);
        assert_eq!(wire.len(), outbox.unsent());
        assert_eq!(&wire[..4], b"cket");
        assert_eq!(unframed(&wire[4..]), [later, b"!".to_vec()]);
        outbox.begin();
        outbox.complete(wire.len(), &mut chunks);
        assert!(outbox.pieces.is_empty() && outbox.unsent() == 0);
        outbox.append_shared(&Bytes::from(numbers(SHARED_BYTES_MIN)), &mut chunks);
        outbox.close_frame();
        assert_eq!(unframed(&front(&outbox)), [numbers(SHARED_BYTES_MIN)]);
        outbox.discard(&mut chunks);
        outbox.set_head(None);
        outbox.append(b"plain", &mut chunks);
        outbox.close_frame();
        assert_eq!(front(&outbox), b"plain");
    }

    #[test]
    fn small_heads_between_large_payloads_take_little_memory() {
        let mut chunks = Chunks::default();
        let mut outbox = Outbox::new();
        let payload = Bytes::from(numbers(SHARED_BYTES_MIN));
        for _ in 0..128 {
            outbox.append(b"head and topic", &mut chunks);
            outbox.append_shared(&payload, &mut chunks);
        }
        let capacity = |piece: &Piece| match &piece.bytes {
            Content::Chunk(chunk) | Content::Sealed(chunk) => chunk.capacity(),
            Content::Payload(_) => 0,
        };
        let held: usize = outbox.pieces.iter().map(capacity).sum();
        assert!(held < outbox.unsent() / 2);
    }

    #[test]
    fn a_discarded_outbox_gives_its_chunks_back() {
        let mut chunks = Chunks::default();
        let mut outbox = Outbox::new();
        outbox.append(&numbers(5_000), &mut chunks);
        outbox.discard(&mut chunks);
        assert_eq!(outbox.unsent(), 0);
        assert_eq!(chunks.held_bytes(), (2 << 10) + (32 << 10));
    }
}
