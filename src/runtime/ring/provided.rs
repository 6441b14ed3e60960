//! The provided buffers: memory that all connections of a shard receive into.
//!
//! The kernel picks a buffer when bytes arrive, so an idle connection owns none. The kernel reads
//! the table of the buffers that are lent to it; only this file writes to that table.
#![expect(unsafe_code, reason = "memory is shared with the kernel")]

use std::{
    alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error},
    io,
    ptr::NonNull,
    slice,
    sync::atomic::{AtomicU16, Ordering},
    thread,
};

use io_uring::{IoUring, types::BufRingEntry};

use super::buffers::BufferId;

/// The group of provided buffers; a ring has one.
pub(super) const GROUP: u16 = 0;

/// `count` buffers of `size` bytes each, lent to one ring.
#[derive(Debug)]
pub(in crate::runtime) struct Provided {
    table: Region,
    memory: Region,
    count: u16,
    size: u32,
    tail: u16,
}

impl Provided {
    /// Makes the buffers and lends all of them to `ring`. `count` is a power of two.
    pub(super) fn lend(ring: &IoUring, count: u16, size: u32) -> io::Result<Provided> {
        assert!(count.is_power_of_two(), "the table of provided buffers is a ring");
        let table = Region::new(usize::from(count) * size_of::<BufRingEntry>());
        let memory = Region::new(usize::from(count) * size as usize);
        let address = table.start.as_ptr() as u64;
        // SAFETY: the table outlives the ring's use of it: see the drop of `Region`.
        unsafe { ring.submitter().register_buf_ring_with_flags(address, count, GROUP, 0) }?;
        let mut buffers = Provided { table, memory, count, size, tail: 0 };
        for index in 0..count {
            buffers.give_back(BufferId(index));
        }
        Ok(buffers)
    }

    /// The first `length` bytes of a buffer that the kernel has filled, to be used in their place.
    pub(super) fn filled(&mut self, BufferId(index): BufferId, length: usize) -> &mut [u8] {
        assert!(index < self.count, "the kernel returns buffers that it was lent");
        let length = length.min(self.size as usize);
        let offset = usize::from(index) * self.size as usize;
        // SAFETY: the offset is inside of the region, as the index was checked.
        let start = unsafe { self.memory.start.add(offset) };
        // SAFETY: the region is initialised and as long; the kernel does not use a buffer between
        // its completion and `give_back`, and `self` is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(start.as_ptr(), length) }
    }

    /// Lends a buffer to the kernel again.
    pub(super) fn give_back(&mut self, BufferId(index): BufferId) {
        assert!(index < self.count, "the kernel returns buffers that it was lent");
        let place = usize::from(self.tail & (self.count - 1));
        let offset = usize::from(index) * self.size as usize;
        // SAFETY: the place is inside of the table by the mask.
        let mut entry = unsafe { self.entries().add(place) };
        // SAFETY: the entry is initialised, and the kernel does not read it before the tail moves.
        let entry = unsafe { entry.as_mut() };
        entry.set_addr(self.memory.start.as_ptr() as u64 + offset as u64);
        entry.set_len(self.size);
        entry.set_bid(index);
        self.tail = self.tail.wrapping_add(1);
        // Release: the kernel that sees the new tail sees the entry.
        self.shared_tail().store(self.tail, Ordering::Release);
    }

    fn entries(&self) -> NonNull<BufRingEntry> {
        self.table.start.cast()
    }

    fn shared_tail(&self) -> &AtomicU16 {
        let table = self.entries().as_ptr();
        // SAFETY: the pointer is to the first entry of a table that was zeroed.
        let tail = unsafe { BufRingEntry::tail(table) };
        // SAFETY: the tail is aligned, lives as long as the table, and is only used atomically.
        unsafe { AtomicU16::from_ptr(tail.cast_mut()) }
    }
}

/// Zeroed memory that begins on a page.
#[derive(Debug)]
struct Region {
    start: NonNull<u8>,
    layout: Layout,
}

impl Region {
    fn new(bytes: usize) -> Region {
        let layout = Layout::from_size_align(bytes.max(1), PAGE).expect("buffers fit into memory");
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Region { start, layout }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // A panicking shard has operations under way that may still write here.
        if thread::panicking() {
            return;
        }
        // SAFETY: the pointer and the layout are those of the allocation. No operation uses the
        // memory: a shard drops its buffers after its last receive has completed.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

const PAGE: usize = 4096;
