//! The buffer of one large packet: memory of its own that the kernel receives into.
//!
//! ```text
//!           begin               complete(some)
//!   open ----------> in flight ----------------> open
//!                        |   complete(the rest)
//!                        +---------------------> whole
//! ```
//! A packet that comes in several of the shard's buffers is copied out of them. A large packet is
//! received into its own memory instead, and its payload is shared from there without a copy.
#![expect(unsafe_code, reason = "the kernel fills memory that the compiler takes for unused")]

use std::mem;

use bytes::Bytes;

/// The bytes of one packet whose size is known, as far as they have come.
#[derive(Debug)]
pub(in crate::runtime) struct ReassemblyBuffer {
    memory: Memory,
    /// Bytes of the whole packet.
    size: usize,
    in_flight: bool,
}

#[derive(Debug)]
enum Memory {
    Open(Vec<u8>),
    Whole(Bytes),
}

/// The allocator has no memory for a packet of that size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runtime) struct OutOfMemory;

impl ReassemblyBuffer {
    /// Makes a buffer for a packet of `size` bytes that begins with `begun`. It has room for `room`
    /// bytes, or for some more than have come if that is more.
    pub(in crate::runtime) fn new(
        begun: &[u8],
        size: usize,
        room: usize,
    ) -> Result<ReassemblyBuffer, OutOfMemory> {
        let mut memory = Vec::new();
        make_room(&mut memory, begun.len(), size, room)?;
        memory.extend_from_slice(begun);
        Ok(ReassemblyBuffer { memory: Memory::Open(memory), size, in_flight: false })
    }

    /// How many bytes have come.
    pub(in crate::runtime) fn len(&self) -> usize {
        match &self.memory {
            Memory::Open(memory) => memory.len(),
            Memory::Whole(packet) => packet.len(),
        }
    }

    pub(in crate::runtime) fn is_in_flight(&self) -> bool {
        self.in_flight
    }

    /// How many bytes of memory it takes.
    pub(in crate::runtime) fn room(&self) -> usize {
        match &self.memory {
            Memory::Open(memory) => memory.capacity().min(self.size),
            Memory::Whole(_) => self.size,
        }
    }

    /// How many bytes have not come.
    pub(in crate::runtime) fn missing(&self) -> usize {
        self.size - self.len()
    }

    /// The packet, once all of it has come, in memory that is shared by `share`.
    pub(in crate::runtime) fn packet(
        &mut self,
        share: impl FnOnce(Vec<u8>) -> Bytes,
    ) -> Option<Bytes> {
        if let Memory::Open(memory) = &mut self.memory {
            if memory.len() < self.size {
                return None;
            }
            self.memory = Memory::Whole(share(mem::take(memory)));
        }
        match &self.memory {
            Memory::Whole(packet) => Some(packet.clone()),
            Memory::Open(_) => None,
        }
    }

    /// Takes the bytes of this packet from the front of `bytes`, and returns how many they are.
    pub(in crate::runtime) fn append(&mut self, bytes: &[u8]) -> Result<usize, OutOfMemory> {
        assert!(!self.in_flight, "bytes come in one way at a time");
        let Memory::Open(memory) = &mut self.memory else { return Ok(0) };
        let taken = bytes.len().min(self.size - memory.len());
        make_room(memory, taken, self.size, 0)?;
        memory.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    /// Puts the room for the rest in flight. The room is not moved until
    /// [`ReassemblyBuffer::complete`].
    pub(super) fn begin(&mut self) -> (*mut u8, usize) {
        assert!(!self.in_flight, "a connection has one receive in flight");
        let missing = self.missing();
        let Memory::Open(memory) = &mut self.memory else { unreachable!("the rest is missing") };
        self.in_flight = true;
        let room = memory.spare_capacity_mut();
        (room.as_mut_ptr().cast(), room.len().min(missing).min(RECEIVE_BYTES_MAX))
    }

    /// The receive has ended, and has brought `received` bytes.
    pub(in crate::runtime) fn complete(&mut self, received: usize) -> Result<(), OutOfMemory> {
        assert!(self.in_flight, "a receive that was begun has ended");
        self.in_flight = false;
        let Memory::Open(memory) = &mut self.memory else { return Ok(()) };
        let filled = memory.len() + received;
        assert!(filled <= self.size.min(memory.capacity()), "the kernel stays within the room");
        // SAFETY: the kernel has written as many bytes to the room that began at the old length.
        unsafe { memory.set_len(filled) };
        make_room(memory, 0, self.size, 0)
    }
}

impl Drop for ReassemblyBuffer {
    fn drop(&mut self) {
        // Only a panicking shard drops a buffer in flight. The kernel may still write to it.
        if self.in_flight {
            let memory = mem::replace(&mut self.memory, Memory::Whole(Bytes::new()));
            mem::forget(memory);
        }
    }
}

/// Makes room for `more` bytes of a packet of `size` bytes and, if these are not its last, for
/// later ones. The capacity becomes `wanted` bytes or [`GROWTH`] times the bytes that have come,
/// whichever is larger, but no more than `size`.
fn make_room(
    memory: &mut Vec<u8>,
    more: usize,
    size: usize,
    wanted: usize,
) -> Result<(), OutOfMemory> {
    let filled = memory.len() + more;
    if filled + usize::from(filled < size) > memory.capacity() {
        let room = wanted.max(filled.saturating_mul(GROWTH)).min(size);
        memory.try_reserve_exact(room - memory.len()).map_err(|_| OutOfMemory)?;
    }
    Ok(())
}

/// Factor by which the memory of a packet grows if it does not get room for all of it at once.
const GROWTH: usize = 4;
/// Bytes of one receive: bounded, so that no client keeps the shard in the kernel for long.
const RECEIVE_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn land(reassembly: &mut ReassemblyBuffer, bytes: &[u8]) -> usize {
        let (room, length) = reassembly.begin();
        let length = length.min(bytes.len());
        // SAFETY: the room is as long, and nobody else uses it.
        unsafe { room.copy_from_nonoverlapping(bytes.as_ptr(), length) };
        reassembly.complete(length).unwrap();
        length
    }

    #[test]
    fn a_packet_is_whole_when_its_size_has_come_in_whatever_way() {
        let packet: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        let mut reassembly = ReassemblyBuffer::new(&packet[..7], packet.len(), 0).unwrap();
        assert_eq!(reassembly.append(&packet[7..20]), Ok(13));
        let mut come = 20;
        while reassembly.packet(Bytes::from).is_none() {
            assert_eq!(reassembly.len(), come);
            come += land(&mut reassembly, &packet[come..packet.len().min(come + 33_333)]);
        }
        assert_eq!(reassembly.packet(Bytes::from).unwrap(), packet);
        assert_eq!(reassembly.append(b"the next"), Ok(0));
        assert_eq!(reassembly.packet(Bytes::from).unwrap(), packet, "it can be asked for again");
    }

    #[test]
    fn a_packet_gets_the_room_that_is_wanted_or_some_as_it_comes() {
        let packet = vec![7; 3 << 20];
        let mut reassembly =
            ReassemblyBuffer::new(&packet[..10], packet.len(), usize::MAX).unwrap();
        assert_eq!(reassembly.room(), packet.len());
        assert_eq!(land(&mut reassembly, &packet[10..]), RECEIVE_BYTES_MAX, "of one receive");
        let mut reassembly = ReassemblyBuffer::new(&packet[..4096], packet.len(), 0).unwrap();
        let mut rooms = vec![reassembly.room()];
        while reassembly.missing() > 0 {
            let come = reassembly.len();
            land(&mut reassembly, &packet[come..]);
            rooms.push(reassembly.room());
        }
        rooms.dedup();
        assert_eq!(rooms, [16 << 10, 64 << 10, 256 << 10, 1 << 20, 3 << 20]);
        assert_eq!(reassembly.packet(Bytes::from).unwrap(), packet);
    }

    #[test]
    fn what_no_allocator_has_is_refused() {
        assert_eq!(make_room(&mut Vec::new(), usize::MAX / 2, usize::MAX, 0), Err(OutOfMemory));
    }
}
