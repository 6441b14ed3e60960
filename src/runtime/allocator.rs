//! The allocator of the process.

use std::alloc::{GlobalAlloc, Layout};

use libmimalloc_sys::{mi_free, mi_malloc, mi_realloc, mi_zalloc};
use mimalloc::MiMalloc;

/// mimalloc, called as from C.
///
/// The calls that name an alignment take the slow way for many sizes, and then round the size up by
/// the alignment. Almost all memory needs no more than what every block has.
#[derive(Clone, Copy, Debug)]
pub struct Allocator;

/// Every block is aligned to this, or to its size if that is less.
const ALIGNMENT: usize = 16;

#[inline]
fn is_ordinary(size: usize, layout: Layout) -> bool {
    layout.align() <= ALIGNMENT && layout.align() <= size
}

// SAFETY: each block comes from mimalloc, with the size and the alignment that were asked for.
#[expect(unsafe_code, reason = "an allocator hands out raw memory")]
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_ordinary(layout.size(), layout) {
            // SAFETY: any size may be asked for.
            return unsafe { mi_malloc(layout.size()) }.cast();
        }
        // SAFETY: the caller keeps to the contract of this function.
        unsafe { MiMalloc.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_ordinary(layout.size(), layout) {
            // SAFETY: any size may be asked for.
            return unsafe { mi_zalloc(layout.size()) }.cast();
        }
        // SAFETY: the caller keeps to the contract of this function.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: every block of this allocator is one of mimalloc.
        unsafe { mi_free(block.cast()) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if is_ordinary(size, layout) {
            // SAFETY: every block of this allocator is one of mimalloc.
            return unsafe { mi_realloc(block.cast(), size) }.cast();
        }
        // SAFETY: the caller keeps to the contract of this function.
        unsafe { MiMalloc.realloc(block, layout, size) }
    }
}

#[cfg(test)]
#[expect(unsafe_code, reason = "an allocator hands out raw memory")]
mod tests {
    use super::*;

    /// Also when it has grown, and for sizes that are less than the alignment.
    #[test]
    fn every_block_is_aligned_and_keeps_its_bytes() {
        for align in [1, 2, 4, 8, 16, 32, 64, 4096] {
            for size in 1..300 {
                let layout = Layout::from_size_align(size, align).unwrap();
                // SAFETY: the size is not zero.
                let block = unsafe { Allocator.alloc_zeroed(layout) };
                assert_eq!(block.addr() % align, 0, "{layout:?}");
                // SAFETY: the block was allocated with this layout.
                let grown = unsafe { Allocator.realloc(block, layout, size * 3) };
                assert_eq!(grown.addr() % align, 0, "{layout:?}");
                // SAFETY: the block has more than `size` bytes, of which these are initialized.
                let bytes = unsafe { std::slice::from_raw_parts(grown, size) };
                assert!(bytes.iter().all(|&byte| byte == 0));
                let layout = Layout::from_size_align(size * 3, align).unwrap();
                // SAFETY: the block was allocated with this layout.
                unsafe { Allocator.dealloc(grown, layout) };
            }
        }
    }
}
