//! Where one large packet lands: memory of its own, which the kernel receives into.
//!
//! ```text
//!           begin               complete(some)
//!   open ----------> in flight ----------------> open
//!                        |   complete(the rest)
//!                        +---------------------> whole
//! ```
//! A packet that comes in the shard's buffers is copied out of them piece by piece. A large one is
//! received where it stays instead, and its payload is shared from there without another copy.
#![expect(unsafe_code, reason = "the kernel fills memory that the compiler takes for unused")]

use std::mem;

use bytes::Bytes;

/// The bytes of one packet whose size is known, as far as they have come.
#[derive(Debug)]
pub(in crate::runtime) struct Landing {
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

/// The allocator has not got the memory for a packet of that size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runtime) struct OutOfMemory;

impl Landing {
    /// For a packet of `size` bytes, of which `begun` have come.
    pub(in crate::runtime) fn new(begun: &[u8], size: usize) -> Result<Landing, OutOfMemory> {
        let mut memory = Vec::new();
        make_room(&mut memory, begun.len(), size)?;
        memory.extend_from_slice(begun);
        Ok(Landing { memory: Memory::Open(memory), size, in_flight: false })
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

    /// How many bytes have not come.
    pub(in crate::runtime) fn missing(&self) -> usize {
        self.size - self.len()
    }

    /// The packet, once all of it has come.
    pub(in crate::runtime) fn packet(&mut self) -> Option<Bytes> {
        if let Memory::Open(memory) = &mut self.memory {
            if memory.len() < self.size {
                return None;
            }
            self.memory = Memory::Whole(mem::take(memory).into());
        }
        match &self.memory {
            Memory::Whole(packet) => Some(packet.clone()),
            Memory::Open(_) => None,
        }
    }

    /// Takes what belongs to this packet from the front of `bytes`, and says how many these are.
    pub(in crate::runtime) fn append(&mut self, bytes: &[u8]) -> Result<usize, OutOfMemory> {
        assert!(!self.in_flight, "bytes come in one way at a time");
        let Memory::Open(memory) = &mut self.memory else { return Ok(0) };
        let taken = bytes.len().min(self.size - memory.len());
        make_room(memory, taken, self.size)?;
        memory.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    /// Puts the room for the rest in flight. It stays where it is until [`Landing::complete`].
    pub(super) fn begin(&mut self) -> (*mut u8, usize) {
        assert!(!self.in_flight, "a connection has one receive in flight");
        let Memory::Open(memory) = &mut self.memory else { unreachable!("the rest is missing") };
        self.in_flight = true;
        let missing = self.size - memory.len();
        let room = memory.spare_capacity_mut();
        (room.as_mut_ptr().cast(), room.len().min(missing))
    }

    /// The receive has ended, and has brought `received` bytes.
    pub(in crate::runtime) fn complete(&mut self, received: usize) -> Result<(), OutOfMemory> {
        self.in_flight = false;
        let Memory::Open(memory) = &mut self.memory else { return Ok(()) };
        let filled = memory.len() + received;
        assert!(filled <= memory.capacity(), "the kernel stays within the room");
        // SAFETY: the kernel has written as many bytes to the room that began at the old length.
        unsafe { memory.set_len(filled) };
        make_room(memory, 0, self.size)
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        // Only a shard that unwinds drops one in flight; the kernel may still write to it.
        if self.in_flight {
            let memory = mem::replace(&mut self.memory, Memory::Whole(Bytes::new()));
            mem::forget(memory);
        }
    }
}

/// Makes room for `more` bytes of a packet of `size` and, if these are not its last, for some that
/// follow: for all of it when it is not very large. Of a very large one there is never room for
/// much more than has come.
fn make_room(memory: &mut Vec<u8>, more: usize, size: usize) -> Result<(), OutOfMemory> {
    let filled = memory.len() + more;
    if filled + usize::from(filled < size) <= memory.capacity() {
        return Ok(());
    }
    let room = ROOM_MAX.max(filled.saturating_mul(GROWTH)).min(size);
    memory.try_reserve_exact(room - memory.len()).map_err(|_| OutOfMemory)
}

/// Packets up to this size get room for all of them at once.
const ROOM_MAX: usize = 2 << 20;
/// The memory of larger ones grows by this factor.
const GROWTH: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn land(landing: &mut Landing, bytes: &[u8]) -> usize {
        let (room, length) = landing.begin();
        let length = length.min(bytes.len());
        // SAFETY: the room is as long, and nobody else uses it.
        unsafe { room.copy_from_nonoverlapping(bytes.as_ptr(), length) };
        landing.complete(length).unwrap();
        length
    }

    #[test]
    fn a_packet_is_whole_when_its_size_has_come_in_whatever_way() {
        let packet: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        let mut landing = Landing::new(&packet[..7], packet.len()).unwrap();
        assert_eq!(landing.append(&packet[7..20]), Ok(13));
        let mut come = 20;
        while landing.packet().is_none() {
            assert_eq!(landing.len(), come);
            come += land(&mut landing, &packet[come..packet.len().min(come + 33_333)]);
        }
        assert_eq!(landing.packet().unwrap(), packet);
        assert_eq!(landing.append(b"the next"), Ok(0));
        assert_eq!(landing.packet().unwrap(), packet, "it can be asked for again");
    }

    #[test]
    fn a_very_large_packet_gets_room_as_it_comes() {
        let packet = vec![7; 18 << 20];
        let mut landing = Landing::new(&packet[..1], packet.len()).unwrap();
        let mut rooms = Vec::new();
        while landing.len() < packet.len() {
            let come = landing.len();
            rooms.push(land(&mut landing, &packet[come..]));
        }
        assert_eq!(rooms.len(), 3, "{rooms:?}");
        assert_eq!(rooms[0], ROOM_MAX - 1);
        assert_eq!(landing.packet().unwrap(), packet);
    }

    #[test]
    fn what_no_allocator_has_is_refused() {
        assert_eq!(make_room(&mut Vec::new(), usize::MAX / 2, usize::MAX), Err(OutOfMemory));
        assert_eq!(Landing::new(b"begun", 1 << 20).map(|landing| landing.len()), Ok(5));
    }
}
