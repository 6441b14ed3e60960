//! The unsent bytes of one connection.
//!
//! Knows no packets: bytes of its own, and between them parts of bytes that all connections share.

use std::{
    io::{self, IoSlice},
    ops::Range,
    os::fd::OwnedFd,
};

use crate::machine::network;

#[derive(Debug, Default)]
pub struct Outbox {
    /// The bytes of its own.
    pub bytes: Vec<u8>,
    /// Shared parts, in the order in which they are sent.
    shared: Vec<SharedPart>,
    /// Bytes of all shared parts together.
    shared_len: usize,
    sent: usize,
    /// The limit of bytes that a publisher collects for one write.
    room: usize,
    /// The socket takes nothing until it reports that it is writable.
    blocked: bool,
}

/// A part of the bytes that all connections share.
#[derive(Clone, Debug)]
struct SharedPart {
    /// How many of the outbox's own bytes come before it.
    after: usize,
    part: Range<usize>,
}

impl Outbox {
    /// An outbox of a socket that is not connected yet.
    pub fn new_blocked(room: usize) -> Outbox {
        Outbox { room, blocked: true, ..Outbox::default() }
    }

    #[inline]
    pub fn has_room(&self) -> bool {
        !self.blocked && self.len() < self.room && self.shared.len() < SHARED_MAX
    }

    pub fn unblock(&mut self) {
        self.blocked = false;
    }

    /// Sends a part of the shared bytes next, without a copy of it.
    #[inline]
    pub fn share(&mut self, part: Range<usize>) {
        self.shared_len += part.len();
        self.shared.push(SharedPart { after: self.bytes.len(), part });
    }

    fn len(&self) -> usize {
        self.bytes.len() + self.shared_len
    }

    /// Sends with one call what the socket takes. `common` are the shared bytes.
    pub fn flush(&mut self, socket: &OwnedFd, common: &[u8]) -> io::Result<()> {
        if self.blocked || self.len() == 0 {
            return Ok(());
        }
        let sent = if self.shared.is_empty() {
            network::send(socket, &self.bytes[self.sent..])?
        } else {
            self.send_pieces(socket, common)?
        };
        self.sent += sent.unwrap_or_default();
        self.blocked = self.sent < self.len();
        if !self.blocked {
            self.clear();
        }
        Ok(())
    }

    fn send_pieces(&self, socket: &OwnedFd, common: &[u8]) -> io::Result<Option<usize>> {
        let mut pieces = [IoSlice::new(&[]); PIECES_MAX];
        let mut count = 0;
        let mut skip = self.sent;
        for piece in self.pieces(common) {
            let skipped = skip.min(piece.len());
            skip -= skipped;
            if skipped < piece.len() && count < PIECES_MAX {
                pieces[count] = IoSlice::new(&piece[skipped..]);
                count += 1;
            }
        }
        network::send_vectored(socket, &pieces[..count])
    }

    /// All bytes, with those that have been sent already.
    fn pieces<'a>(&'a self, common: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let mut end = 0;
        let between = self.shared.iter().flat_map(move |shared| {
            let own = &self.bytes[end..shared.after];
            end = shared.after;
            [own, &common[shared.part.clone()]]
        });
        let last = self.shared.last().map_or(0, |shared| shared.after);
        between.chain([&self.bytes[last..]])
    }

    /// The same in one piece.
    #[cfg(test)]
    pub(crate) fn contents(&self, common: &[u8]) -> Vec<u8> {
        self.pieces(common).collect::<Vec<_>>().concat()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.shared.clear();
        (self.shared_len, self.sent) = (0, 0);
    }
}

/// Shared parts that a publisher collects for one write.
const SHARED_MAX: usize = 32;

/// Each shared part, the bytes before it, and those after the last.
const PIECES_MAX: usize = 2 * SHARED_MAX + 1;

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        net::{IpAddr, Ipv4Addr, TcpListener, TcpStream},
    };

    use ringmq::base::time::Span;

    use super::*;
    use crate::machine::network::{Poll, begin_connect};

    /// A socket that is connected, and its other end.
    fn connect() -> (OwnedFd, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let from = Some(IpAddr::from([127, 0, 0, 2]));
        let socket = begin_connect(listener.local_addr().unwrap(), from).unwrap();
        let (accepted, peer) = listener.accept().unwrap();
        assert_eq!(Some(peer.ip()), from);
        (socket, accepted)
    }

    #[test]
    fn an_outbox_sends_all_once_the_socket_is_connected() {
        let (socket, mut accepted) = connect();
        let mut outbox = Outbox::new_blocked(5);
        outbox.bytes.extend_from_slice(b"hello");
        outbox.flush(&socket, &[]).unwrap();
        assert_eq!(outbox.bytes.len(), 5);
        let mut poll = Poll::new().unwrap();
        poll.add(&socket, 0).unwrap();
        poll.wait(Some(Span::from_secs(5))).unwrap();
        assert!(poll.readiness(0).writable);
        outbox.unblock();
        outbox.flush(&socket, &[]).unwrap();
        assert!(outbox.bytes.is_empty());
        let mut received = [0; 5];
        accepted.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"hello");
    }

    /// Far more than the kernel takes at one time, so that sends end anywhere.
    #[test]
    fn shared_parts_come_between_the_bytes_that_were_there_before_and_after() {
        let (socket, mut accepted) = connect();
        network::bound_send_buffer(&socket, 4096).unwrap();
        let common: Vec<u8> = (0..200_000u32).map(|number| number.to_le_bytes()[0]).collect();
        let (mut outbox, mut expected) = (Outbox::new_blocked(usize::MAX), Vec::new());
        outbox.unblock();
        for number in 0..u8::try_from(SHARED_MAX).unwrap() {
            assert!(outbox.has_room());
            outbox.bytes.extend_from_slice(&[number; 3]);
            outbox.share(usize::from(number)..common.len());
            expected.extend_from_slice(&[number; 3]);
            expected.extend_from_slice(&common[usize::from(number)..]);
        }
        assert!(!outbox.has_room());
        outbox.bytes.extend_from_slice(b"end");
        expected.extend_from_slice(b"end");
        let reader = std::thread::spawn(move || {
            let mut received = Vec::new();
            accepted.read_to_end(&mut received).map(|_| received)
        });
        let mut poll = Poll::new().unwrap();
        poll.add(&socket, 0).unwrap();
        while !outbox.bytes.is_empty() {
            poll.wait(Some(Span::from_secs(5))).unwrap();
            outbox.unblock();
            outbox.flush(&socket, &common).unwrap();
        }
        drop((socket, poll));
        assert!(reader.join().unwrap().unwrap() == expected);
        assert!(outbox.has_room());
    }
}
