//! The pieces of one send, in the form in which the kernel reads them.
#![expect(unsafe_code, reason = "the kernel's structures begin as zeroes")]

use std::mem::MaybeUninit;

/// Where the bytes of one send lie. It is allocated on the heap, because its header points to its
/// parts.
pub(in crate::runtime) struct Vector {
    header: libc::msghdr,
    parts: [libc::iovec; PARTS_MAX],
    count: usize,
}

impl Vector {
    pub(in crate::runtime) fn new() -> Box<Vector> {
        let header = MaybeUninit::zeroed();
        // SAFETY: zeroes are a valid header, one without address, parts and control data.
        let header = unsafe { header.assume_init() };
        let nothing = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        Box::new(Vector { header, parts: [nothing; PARTS_MAX], count: 0 })
    }

    /// Points to the first `pieces`, as many as one send takes, and returns their number of bytes.
    pub(in crate::runtime) fn fill<'a>(&mut self, pieces: impl Iterator<Item = &'a [u8]>) -> usize {
        let mut bytes = 0;
        self.count = 0;
        for (part, piece) in self.parts.iter_mut().zip(pieces) {
            let length = piece.len().min(SEND_BYTES_MAX - bytes);
            *part = libc::iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: length };
            self.count += 1;
            bytes += length;
            if bytes == SEND_BYTES_MAX {
                break;
            }
        }
        bytes
    }

    /// How many bytes it points to.
    pub(in crate::runtime) fn bytes(&self) -> usize {
        self.parts().iter().map(|part| part.iov_len).sum()
    }

    pub(super) fn parts(&self) -> &[libc::iovec] {
        &self.parts[..self.count]
    }

    /// The header of all parts, valid until the next [`Vector::fill`].
    pub(super) fn header(&mut self) -> *const libc::msghdr {
        self.header.msg_iov = self.parts.as_mut_ptr();
        self.header.msg_iovlen = self.count;
        &raw const self.header
    }
}

/// Parts of one send. From the second chunk on, so many parts hold more bytes than a send takes.
const PARTS_MAX: usize = 18;
/// Bytes of one send: bounded, so that no client keeps the shard in the kernel for long.
pub(in crate::runtime) const SEND_BYTES_MAX: usize = 512 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_send_has_an_upper_limit() {
        let large = vec![0; SEND_BYTES_MAX - 1];
        let mut vector = Vector::new();
        let pieces = [&large[..], b"ab", b"cd"];
        assert_eq!(vector.fill(pieces.into_iter()), SEND_BYTES_MAX);
        let lengths: Vec<usize> = vector.parts().iter().map(|part| part.iov_len).collect();
        assert_eq!(lengths, [SEND_BYTES_MAX - 1, 1]);
        assert_eq!(vector.fill(std::iter::repeat_n(&b"x"[..], 40)), PARTS_MAX);
    }
}
