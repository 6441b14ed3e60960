//! What stands in for a ring, with real sockets and nothing else.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown},
    thread,
};

use super::*;
use crate::runtime::chunks::Chunks;

/// What stands in for the ring, with its buffers.
struct Rig {
    epoll: Epoll,
    pool: Pool,
}

impl Rig {
    fn new() -> Rig {
        Rig { epoll: Epoll::new().unwrap(), pool: Pool::new(1024) }
    }

    /// All completions until there has been one of this operation, at least one look's.
    fn until(&mut self, operation: Operation) -> Vec<Completion> {
        let mut all = Vec::new();
        while !all.iter().any(|it: &Completion| it.operation == operation) {
            self.epoll.wait(PATIENCE);
            self.epoll.reap(&mut all, &mut self.pool);
        }
        all
    }

    /// The bytes of the next completion, which is a receive of this connection.
    fn received(&mut self, id: ConnectionId) -> Vec<u8> {
        let all = self.until(Operation::Receive(id));
        assert_eq!(all.len(), 1, "{all:?}");
        let Some(buffer) = all[0].buffer else { return Vec::new() };
        let bytes = self.pool.filled(buffer, all[0].outcome.bytes()).to_vec();
        self.pool.give_back(buffer);
        bytes
    }

    /// What has become of things when epoll was looked at, without waiting for long.
    fn soon(&mut self) -> Vec<Completion> {
        let mut all = Vec::new();
        for _ in 0..4 {
            self.epoll.wait(Span::from_millis(2));
            self.epoll.reap(&mut all, &mut self.pool);
        }
        all
    }
}

/// Both ends of a connection: ours, and that of a client.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    (ours, client)
}

fn id(slot: u32, generation: u32) -> ConnectionId {
    ConnectionId { slot, generation }
}

#[test]
fn nothing_is_read_that_was_not_asked_for() {
    let (mut rig, (ours, mut client)) = (Rig::new(), pair());
    rig.epoll.receive_once(id(0, 0), &ours);
    client.write_all(b"first").unwrap();
    assert_eq!(rig.received(id(0, 0)), b"first");
    client.write_all(b"second").unwrap();
    assert!(rig.soon().is_empty(), "nobody has asked for more");
    assert!(system::has_unread(&ours));
    rig.epoll.receive_many(id(0, 0), &ours);
    assert_eq!(rig.received(id(0, 0)), b"second", "it was told before it was asked for");
    client.write_all(b"third").unwrap();
    assert_eq!(rig.received(id(0, 0)), b"third");
}

#[test]
fn the_end_is_told_whenever_it_came() {
    for ends_early in [true, false] {
        let (mut rig, (ours, mut client)) = (Rig::new(), pair());
        rig.epoll.receive_many(id(0, 0), &ours);
        client.write_all(b"last").unwrap();
        if ends_early {
            client.shutdown(Shutdown::Write).unwrap();
        }
        let mut outcomes = Vec::new();
        while outcomes.len() < 2 {
            rig.epoll.wait(PATIENCE);
            let mut completions = Vec::new();
            rig.epoll.reap(&mut completions, &mut rig.pool);
            outcomes.extend(completions.iter().map(|it| (it.outcome.bytes(), it.more)));
            if outcomes.len() == 1 {
                client.shutdown(Shutdown::Write).unwrap();
            }
        }
        assert_eq!(outcomes, [(4, true), (0, false)]);
    }
}

#[test]
fn a_reset_fails_the_receive() {
    let (mut rig, (ours, client)) = (Rig::new(), pair());
    rig.epoll.receive_many(id(0, 0), &ours);
    system::reset_when_closed(&client);
    drop(client);
    let all = rig.until(Operation::Receive(id(0, 0)));
    assert!(matches!(all[..], [Completion { outcome: Outcome::Failed(_), more: false, .. }]));
}

#[test]
fn a_cancelled_receive_ends_and_takes_nothing() {
    let (mut rig, (ours, mut client)) = (Rig::new(), pair());
    rig.epoll.receive_many(id(0, 0), &ours);
    rig.epoll.cancel(Operation::Receive(id(0, 0)));
    rig.epoll.cancel(Operation::Receive(id(0, 0)));
    let all = rig.until(Operation::Receive(id(0, 0)));
    assert!(matches!(all[..], [Completion { outcome: Outcome::Passing, more: false, .. }]));
    client.write_all(b"kept").unwrap();
    assert!(rig.soon().is_empty());
    rig.epoll.receive_once(id(0, 0), &ours);
    assert_eq!(rig.received(id(0, 0)), b"kept");
}

#[test]
fn without_a_buffer_bytes_wait_in_the_socket() {
    let (mut rig, (ours, mut client)) = (Rig::new(), pair());
    let mut taken: Vec<_> = std::iter::from_fn(|| rig.pool.take()).collect();
    rig.epoll.receive_once(id(0, 0), &ours);
    client.write_all(b"bytes").unwrap();
    assert!(rig.soon().is_empty());
    assert!(rig.epoll.has_completions(), "so that nobody sleeps");
    rig.pool.give_back(taken.pop().unwrap());
    assert_eq!(rig.received(id(0, 0)), b"bytes");
}

#[test]
fn a_send_without_room_waits_and_goes_on() {
    let (mut rig, (ours, mut client)) = (Rig::new(), pair());
    let (mut chunks, mut outbox) = (Chunks::default(), Outbox::new());
    let (send, bytes) = (Operation::Send(id(0, 0)), vec![7; 100_000]);
    let mut sent = 0;
    loop {
        outbox.append(&bytes, &mut chunks);
        rig.epoll.send(id(0, 0), &ours, &mut outbox);
        if !rig.epoll.has_completions() {
            break;
        }
        let moved = rig.until(send)[0].outcome.bytes();
        outbox.complete(moved, &mut chunks);
        sent += moved;
    }
    assert!(rig.soon().is_empty(), "the client reads nothing");
    client.read_exact(&mut vec![0; sent]).unwrap();
    let all = rig.until(send);
    assert!(all.len() == 1 && all[0].outcome.bytes() > 0, "{all:?}");
    outbox.complete(all[0].outcome.bytes(), &mut chunks);
    outbox.discard(&mut chunks);
}

#[test]
fn a_send_to_nobody_fails() {
    let (mut rig, (ours, client)) = (Rig::new(), pair());
    let (mut chunks, mut outbox) = (Chunks::default(), Outbox::new());
    rig.epoll.receive_many(id(0, 0), &ours);
    system::reset_when_closed(&client);
    drop(client);
    rig.until(Operation::Receive(id(0, 0)));
    outbox.append(b"lost", &mut chunks);
    rig.epoll.send(id(0, 0), &ours, &mut outbox);
    let all = rig.until(Operation::Send(id(0, 0)));
    assert!(matches!(all[..], [Completion { outcome: Outcome::Failed(_), .. }]));
    outbox.complete(0, &mut chunks);
}

#[test]
fn what_is_told_of_a_former_connection_is_not_taken_for_the_next_one() {
    let (mut rig, (first, mut gone), (second, mut next)) = (Rig::new(), pair(), pair());
    rig.epoll.receive_many(id(3, 0), &first);
    gone.write_all(b"first").unwrap();
    rig.epoll.wait(PATIENCE);
    rig.epoll.cancel(Operation::Receive(id(3, 0)));
    rig.epoll.forget(id(3, 0));
    rig.epoll.receive_many(id(3, 1), &second);
    let all = rig.soon();
    assert!(matches!(all[..], [Completion { outcome: Outcome::Passing, .. }]), "{all:?}");
    next.write_all(b"second").unwrap();
    assert_eq!(rig.received(id(3, 1)), b"second");
    assert!(system::has_unread(&first));
}

#[test]
fn a_socket_that_moves_is_told_of_where_it_went() {
    let (mut from, mut to, (ours, mut client)) = (Rig::new(), Rig::new(), pair());
    from.epoll.receive_once(id(0, 0), &ours);
    client.write_all(b"before").unwrap();
    assert_eq!(from.received(id(0, 0)), b"before");
    client.write_all(b"meanwhile").unwrap();
    from.epoll.forget(id(0, 0));
    to.epoll.receive_many(id(9, 4), &ours);
    assert_eq!(to.received(id(9, 4)), b"meanwhile");
    client.write_all(b"after").unwrap();
    assert_eq!(to.received(id(9, 4)), b"after");
    assert!(from.soon().is_empty());
}

#[test]
fn a_large_packet_is_received_where_it_belongs() {
    let (mut rig, (ours, mut client)) = (Rig::new(), pair());
    let packet: Vec<u8> = (0..=250).cycle().take(300_000).collect();
    let mut reassembly = ReassemblyBuffer::new(&packet[..10], packet.len(), usize::MAX).unwrap();
    let sent = packet.clone();
    let writer = thread::spawn(move || {
        client.write_all(&sent[10..]).unwrap();
        client
    });
    while reassembly.missing() > 0 {
        rig.epoll.receive_rest(id(0, 0), &ours, &mut reassembly);
        let all = rig.until(Operation::Receive(id(0, 0)));
        assert!(all[0].buffer.is_none() && !all[0].more);
        reassembly.complete(all[0].outcome.bytes()).unwrap();
    }
    assert_eq!(reassembly.packet(Into::into).unwrap(), packet);
    writer.join().unwrap();
}

#[test]
fn listeners_accept_until_they_are_cancelled_and_can_begin_again() {
    let mut rig = Rig::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    rig.epoll.accept(1, &listener);
    for _ in 0..2 {
        let _client = TcpStream::connect(address).unwrap();
        let all = rig.until(Operation::Accept(1));
        assert!(matches!(all[..], [Completion { outcome: Outcome::Accepted(_), more: true, .. }]));
    }
    rig.epoll.cancel(Operation::Accept(1));
    let all = rig.until(Operation::Accept(1));
    assert!(matches!(all[..], [Completion { outcome: Outcome::Passing, more: false, .. }]));
    let _waits = TcpStream::connect(address).unwrap();
    assert!(rig.soon().is_empty());
    rig.epoll.accept(1, &listener);
    let all = rig.until(Operation::Accept(1));
    assert!(matches!(all[..], [Completion { outcome: Outcome::Accepted(_), .. }]));
}

#[test]
fn bells_wakes_and_alarms_end_a_sleep() {
    let mut rig = Rig::new();
    let (mut button, sound) = UnixStream::pair().unwrap();
    for _ in 0..2 {
        rig.epoll.watch_bell(&sound);
        button.write_all(&[1]).unwrap();
        assert_eq!(rig.until(Operation::Bell).len(), 1);
        let waker = rig.epoll.address();
        thread::spawn(move || waker.wake().unwrap());
        assert_eq!(rig.until(Operation::Wake).len(), 1);
        let at = system::now() + Span::from_millis(5);
        rig.epoll.set_alarm(at);
        assert_eq!(rig.until(Operation::Alarm).len(), 1);
        assert!(system::now() >= at);
    }
}

#[test]
fn a_wait_that_epoll_cannot_count_takes_its_time() {
    let mut rig = Rig::new();
    let (span, begun) = (Span::from_micros(50), system::now());
    rig.epoll.wait(span);
    assert!(system::now() >= begun + span);
    assert!(!rig.epoll.has_completions());
}

/// Longer than anything takes.
const PATIENCE: Span = Span::from_secs(20);
