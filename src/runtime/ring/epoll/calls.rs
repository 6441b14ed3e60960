//! System calls on sockets that never wait. One that a signal interrupts is repeated.

use std::{
    io::{self, ErrorKind},
    net::TcpStream,
    os::fd::{FromRawFd, RawFd},
    ptr,
};

/// Receives at most `length` bytes to `room`.
///
/// # Safety
///
/// The room is as long, and nobody else uses it.
pub(super) unsafe fn receive(fd: RawFd, room: *mut u8, length: usize) -> io::Result<usize> {
    repeated(|| {
        // SAFETY: the caller has the room.
        unsafe { libc::recv(fd, room.cast(), length, libc::MSG_DONTWAIT) }
    })
}

/// Sends one part.
///
/// # Safety
///
/// The part points to bytes that do not change.
pub(super) unsafe fn send(fd: RawFd, part: &libc::iovec) -> io::Result<usize> {
    repeated(|| {
        // SAFETY: the caller has the bytes.
        unsafe { libc::send(fd, part.iov_base.cast_const(), part.iov_len, SEND_FLAGS) }
    })
}

/// Sends all parts of a header.
///
/// # Safety
///
/// The header and its parts are there, and point to bytes that do not change.
pub(super) unsafe fn send_all(fd: RawFd, header: *const libc::msghdr) -> io::Result<usize> {
    repeated(|| {
        // SAFETY: the caller has the header, the parts and the bytes.
        unsafe { libc::sendmsg(fd, header, SEND_FLAGS) }
    })
}

/// Accepts a connection from a listener that does not block. One that was given up meanwhile is
/// passed over.
pub(super) fn accept(fd: RawFd) -> io::Result<TcpStream> {
    loop {
        let accepted = repeated(|| {
            let nobody = ptr::null_mut();
            // SAFETY: the call writes no address, as there is no room for one.
            let accepted =
                unsafe { libc::accept4(fd, nobody, ptr::null_mut(), libc::SOCK_CLOEXEC) };
            isize::try_from(accepted).unwrap_or(-1)
        });
        match accepted {
            Ok(accepted) => {
                let accepted = RawFd::try_from(accepted).map_err(io::Error::other)?;
                // SAFETY: the kernel has just made this descriptor, and reports it once.
                return Ok(unsafe { TcpStream::from_raw_fd(accepted) });
            }
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The result of a system call as it returns it, or its error.
fn repeated(call: impl Fn() -> isize) -> io::Result<usize> {
    loop {
        if let Ok(result) = usize::try_from(call()) {
            return Ok(result);
        }
        let error = io::Error::last_os_error();
        if error.kind() != ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

const SEND_FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
