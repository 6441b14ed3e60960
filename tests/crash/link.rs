//! One connection that never blocks, in packets.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, TcpStream},
    os::fd::{AsFd, BorrowedFd},
};

use ringmq::mqtt::{Packet, Version, frame};
use rustix::event::{PollFd, PollFlags};

pub(crate) struct Link {
    stream: TcpStream,
    unread: Vec<u8>,
    pub(crate) unsent: Vec<u8>,
    /// Bytes that have come.
    pub(crate) received: usize,
    is_broken: bool,
}

impl Link {
    pub(crate) fn open(port: u16) -> Link {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream.set_nodelay(true).unwrap();
        Link { stream, unread: Vec::new(), unsent: Vec::new(), received: 0, is_broken: false }
    }

    /// What to wait for.
    pub(crate) fn interest(&self) -> PollFd<'_> {
        let write = if self.unsent.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        PollFd::from_borrowed_fd(self.as_fd(), PollFlags::IN | write)
    }

    /// Whether the other side has ended the connection.
    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken
    }

    pub(crate) fn flush(&mut self) {
        while !self.unsent.is_empty() && !self.is_broken {
            match self.stream.write(&self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.is_broken = true,
            }
        }
    }

    /// Takes what has come.
    pub(crate) fn receive(&mut self) {
        let mut bytes = [0; 16 << 10];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => break self.is_broken = true,
                Ok(count) => {
                    self.received += count;
                    self.unread.extend_from_slice(&bytes[..count]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => break self.is_broken = true,
            }
        }
    }

    /// Shows each whole packet that has come, with the bytes to be sent.
    pub(crate) fn each_packet(
        &mut self,
        version: Version,
        mut look: impl FnMut(&Packet<'_>, &mut Vec<u8>),
    ) {
        let mut at = 0;
        while let Some(frame) = frame::split(&self.unread[at..], usize::MAX).unwrap() {
            at += frame.len;
            look(&Packet::decode(frame, version).unwrap(), &mut self.unsent);
        }
        self.unread.drain(..at);
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
