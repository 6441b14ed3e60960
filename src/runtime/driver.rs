//! The driver of a shard: does what its brain asks for through [`Ports`], on the ring.
//!
//! A call only notes what is wanted. [`Driver::settle`] looks at each touched connection once, when
//! the turn ends, and is the one place where operations on connections are begun.

mod parts;

use std::{collections::VecDeque, mem, net::Shutdown, sync::Arc};

use bytes::Bytes;

use self::parts::Sleepers;
pub(super) use self::parts::{DriverLimits, DriverParts};
use super::{
    chunks::Chunks,
    connection::{Moved, Phase, SocketConnection},
    due::Due,
    events::EventLane,
    load::LoadCounters,
    mailbox::Mail,
    outbox::Outbox,
    partials::Partials,
    precede::Follower,
    random::Random,
    records::Records,
    ring::{Outcome, Ring, RingAddress, system},
    send_budget::SendBudget,
    stalled::Stalls,
    verify::Verifier,
};
use crate::{
    base::{
        ids::{ConnectionId, ShardId, ShardSet},
        slab::Slab,
        time::{Moment, Span},
    },
    shard::{
        events::Watcher,
        letter::LetterBatch,
        ports::{
            Backlog, Closing, Finding, HeldByRuntime, HookCall, Load, Payer, Ports, Secret,
            Verification,
        },
        store_figures::StoreFigures,
        trace::Tap,
    },
    storage::RecordBatch,
    transport::tls::Certified,
};

pub(super) struct Driver {
    pub(super) ring: Ring,
    pub(super) connections: Slab<SocketConnection>,
    pub(super) chunks: Chunks,
    pub(super) mail: Mail,
    pub(super) counters: LoadCounters,
    pub(super) due: Vec<Due>,
    pub(super) now: Moment,
    verifier: Verifier,
    pub(super) limits: DriverLimits,
    /// How the rings of all shards are reached.
    addresses: Arc<[RingAddress]>,
    pub(super) touched: Vec<ConnectionId>,
    /// Connections whose TLS handshake goes on when it is their turn, first come first served.
    pub(super) handshakes: VecDeque<ConnectionId>,
    /// What the transports of all connections take by themselves.
    pub(super) transport_bytes: usize,
    /// The memory for incomplete packets.
    pub(super) partials: Partials,
    pub(super) stalls: Stalls,
    /// The large packet that is being handed in; otherwise empty.
    pub(super) handed_in: Bytes,
    /// Deadlines of the connections that flush or linger, soonest first.
    flushing: VecDeque<(Moment, ConnectionId)>,
    lingering: VecDeque<(Moment, ConnectionId)>,
    /// Connections that wait until the bytes of an earlier connection have been handled.
    pub(super) followers: Vec<Follower>,
    /// Completions are being handled, so further ones of any connection may follow.
    pub(super) reaping: bool,
    random: Random,
    pub(super) records: Records,
    /// To those who watch what happens to clients.
    events: EventLane,
    /// What traced connections send and are sent.
    tap: Tap,
    /// The broker is stopping.
    pub(super) stopping: bool,
}

/// A connection leaves its slot only when a turn settles it, and not before its operations have
/// ended.
const PRESENT: &str = "no operation of the connection is left behind in a later turn";

/// The connection that a completion or the end of the turn is about.
pub(super) fn present(
    connections: &mut Slab<SocketConnection>,
    id: ConnectionId,
) -> &mut SocketConnection {
    connections.get_mut(id).expect(PRESENT)
}

impl Driver {
    pub(super) fn new(tools: DriverParts, limits: DriverLimits) -> Driver {
        let DriverParts { ring, mail, verifier, addresses, random, store, events, traces } = tools;
        Driver {
            ring,
            connections: Slab::default(),
            chunks: Chunks::default(),
            mail,
            counters: LoadCounters::default(),
            due: Vec::new(),
            now: Moment::default(),
            verifier,
            limits,
            addresses,
            touched: Vec::new(),
            handshakes: VecDeque::new(),
            transport_bytes: 0,
            partials: Partials::new(limits.partials),
            stalls: Stalls::new(limits.stalled_timeout),
            handed_in: Bytes::new(),
            flushing: VecDeque::new(),
            lingering: VecDeque::new(),
            followers: Vec::new(),
            reaping: false,
            random,
            records: Records::new(store),
            events,
            tap: Tap::new(Box::new(traces)),
            stopping: false,
        }
    }

    /// A connection that may have gone since its identifier was noted.
    pub(super) fn get(&mut self, id: ConnectionId) -> Option<&mut SocketConnection> {
        self.connections.get_mut(id)
    }

    /// The same as [`present`].
    pub(super) fn present(&mut self, id: ConnectionId) -> &mut SocketConnection {
        present(&mut self.connections, id)
    }

    /// The connection, if the brain still has it.
    fn open(&mut self, id: ConnectionId) -> Option<&mut SocketConnection> {
        self.connections.get_mut(id).filter(|connection| connection.is_open())
    }

    /// Marks the connection to be settled when the turn ends.
    pub(super) fn touch(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if !connection.flags.touched {
            connection.flags.touched = true;
            self.touched.push(id);
        }
    }

    /// The next verdict that has come back.
    pub(super) fn verdict(&mut self) -> Option<(ConnectionId, Finding)> {
        self.verifier.verdict()
    }

    /// Asks the verify threads for no more verifications.
    pub(super) fn end_verifying(&mut self) {
        self.verifier.end();
    }

    /// Ends a connection at once, in any phase.
    pub(super) fn kill(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.phase = Phase::Dead;
            self.note_kept(id);
            self.touch(id);
        }
    }

    /// Ends a connection at once with a reset, so that a client that is still sending learns of it
    /// without waiting for a timeout of its system.
    pub(super) fn reset(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get(id) {
            system::reset_when_closed(&connection.socket);
        }
        self.kill(id);
    }

    /// Ends a connection that has not been ended before.
    pub(super) fn end(&mut self, id: ConnectionId, closing: Closing) {
        self.forget_kept(id);
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.phase = match closing {
            Closing::Flush => Phase::Flushing,
            Closing::Abort => Phase::Dead,
        };
        self.note_kept(id);
        if closing == Closing::Flush {
            self.flushing.push_back((self.now + self.limits.flush_time_max, id));
        }
        self.touch(id);
    }

    /// A send has ended.
    pub(super) fn handle_sent(&mut self, id: ConnectionId, outcome: &Outcome) {
        let connection = present(&mut self.connections, id);
        let outbox = connection.outbox.as_mut().expect("a send is under way from it");
        let sent = outcome.bytes();
        outbox.complete(sent, &mut self.chunks);
        connection.reading.note_sent(sent);
        outbox.moved = self.now;
        connection.left += sent as u64;
        self.counters.bytes_sent += sent as u64;
        if matches!(outcome, Outcome::Failed(_)) {
            connection.flags.send_failed = true;
            // An error means that the socket is shut down already. The receive ends in both cases.
            let _ = connection.socket.shutdown(Shutdown::Both);
        }
        if outbox.unsent() == 0 {
            self.chunks.give_back_outbox(connection.outbox.take().expect("it is there"));
        }
        self.notice_drained(id);
        self.touch(id);
    }

    /// Begins the operations that the turn has made necessary: posts batches, wakes other shards,
    /// and settles all touched connections. The kernel copies what is sent before it goes on, so
    /// that a turn sends only so much: other connections with much to send wait for the next one,
    /// in their order.
    pub(super) fn flush(&mut self) {
        // First, so that other shards wake up while the kernel is busy with what follows.
        self.flush_mail();
        let mut touched = mem::take(&mut self.touched);
        let mut budget = SendBudget::of_turn();
        touched.retain(|&id| {
            let begins = budget.takes(present(&mut self.connections, id).next_send());
            if begins {
                self.settle(id);
            }
            !begins
        });
        // Settling a connection touches no other one, so nothing was added meanwhile.
        self.touched = touched;
        self.flush_mail();
    }

    /// Records go to the store before letters leave, so that what follows from a letter is never on
    /// disk without its cause. Letters wait while the store takes no records.
    fn flush_mail(&mut self) {
        if !self.records.post() || !self.mail.is_held_up() {
            return;
        }
        let mut sleepers = Sleepers(ShardSet::EMPTY);
        let relieved = self.mail.flush(&mut sleepers);
        self.due.extend(relieved.iter().map(Due::Posted));
        for shard in sleepers.0.iter() {
            self.ring.wake_peer(&self.addresses[shard.index()]);
        }
    }

    /// Whether something waits because a mailbox or the store was full.
    pub(super) fn is_held_up(&self) -> bool {
        self.mail.is_held_up() || self.records.are_held_up()
    }

    /// Begins or ends the operations of a connection, as its state asks for.
    fn settle(&mut self, id: ConnectionId) {
        let connection = present(&mut self.connections, id);
        connection.flags.touched = false;
        if connection.flags.send_failed {
            self.drop_unsendable(id);
        }
        self.settle_receive(id);
        self.settle_send(id);
        self.settle_phase(id);
    }

    /// Discards the outbox after a send has failed. The receive fails as well and ends the
    /// connection.
    fn drop_unsendable(&mut self, id: ConnectionId) {
        let connection = present(&mut self.connections, id);
        if let Some(outbox) = connection.outbox.take_if(|outbox| !outbox.is_in_flight()) {
            self.drop_outbox(outbox);
            // The brain may wait for the outbox to drain. It goes on until the input ends.
            self.notice_drained(id);
        }
    }

    fn drop_outbox(&mut self, mut outbox: Box<Outbox>) {
        outbox.discard(&mut self.chunks);
        self.chunks.give_back_outbox(outbox);
    }

    fn settle_send(&mut self, id: ConnectionId) {
        let connection = present(&mut self.connections, id);
        if !connection.transport.is_transparent() {
            connection.settle_transport(&mut self.chunks, self.stopping);
            connection.flags.throttled |= connection.unsent() > self.limits.unsent_max();
        }
        let Some(outbox) = &mut connection.outbox else { return };
        if !outbox.is_in_flight() && outbox.unsent() > 0 && connection.phase != Phase::Dead {
            self.ring.send(id, &connection.socket, outbox);
            if connection.reading.begin_watch() {
                self.stalls.look_later(id, self.now);
            }
        }
    }

    fn settle_phase(&mut self, id: ConnectionId) {
        let connection = present(&mut self.connections, id);
        let has_sent = connection.outbox.is_none();
        let finished = connection.flags.finished;
        match connection.phase {
            Phase::Moving(home) if has_sent && !connection.is_busy() => self.send_off(id, home),
            Phase::Flushing if has_sent && !finished => self.linger(id),
            Phase::Flushing | Phase::Lingering if has_sent && finished => {
                connection.phase = Phase::Dead;
                self.remove_dead(id);
            }
            Phase::Dead => self.remove_dead(id),
            Phase::Open | Phase::Moving(_) | Phase::Flushing | Phase::Lingering => {}
        }
    }

    /// Everything is sent: shuts the sending half down and waits for the client to close. If the
    /// socket were closed while bytes of the client arrive, the kernel would reset the connection,
    /// and the client could lose what it has not read yet.
    fn linger(&mut self, id: ConnectionId) {
        let connection = self.present(id);
        connection.phase = Phase::Lingering;
        // The shutdown fails if the client has gone. The receive then ends by itself.
        drop(connection.socket.shutdown(Shutdown::Write));
        self.lingering.push_back((self.now + LINGER_MAX, id));
    }

    /// Frees the slot of a dead connection once its operations have ended.
    fn remove_dead(&mut self, id: ConnectionId) {
        let connection = present(&mut self.connections, id);
        if connection.is_busy() {
            if !connection.flags.shut_down {
                connection.flags.shut_down = true;
                // The shutdown ends the operations. It fails if the connection has ended by itself.
                drop(connection.socket.shutdown(Shutdown::Both));
            }
            return;
        }
        self.forget_kept(id);
        self.ring.forget(id);
        let mut connection = self.connections.remove(id).expect(PRESENT);
        self.partials.release(connection.share);
        self.transport_bytes -= connection.transport.state_bytes();
        self.counters.handshakes_failed += u64::from(connection.transport.is_shaking_hands());
        if let Some(outbox) = connection.outbox.take() {
            self.drop_outbox(outbox);
        }
    }

    /// Sends a connection to its home shard.
    fn send_off(&mut self, id: ConnectionId, home: ShardId) {
        self.ring.forget(id);
        let connection = self.connections.remove(id).expect(PRESENT);
        self.partials.release(connection.share);
        self.transport_bytes -= connection.transport.state_bytes();
        self.mail.hand_over(home, Box::new(connection.into()));
    }

    /// Takes over a connection that another shard has sent here.
    pub(super) fn adopt(&mut self, moved: Moved) -> ConnectionId {
        let mut connection = SocketConnection::from(moved);
        connection.progress.begin(self.now);
        let id = self.insert(connection);
        self.note_kept(id);
        id
    }

    pub(super) fn insert(&mut self, connection: SocketConnection) -> ConnectionId {
        self.transport_bytes += connection.transport.state_bytes();
        let id = self.connections.insert(connection);
        self.touch(id);
        id
    }

    /// Ends those connections whose time for flushing or lingering is up.
    pub(super) fn handle_time(&mut self) {
        while let Some((_, id)) = self.flushing.pop_front_if(|(until, _)| *until <= self.now) {
            self.give_up(id);
        }
        while let Some((_, id)) = self.lingering.pop_front_if(|(until, _)| *until <= self.now) {
            self.give_up(id);
        }
    }

    fn give_up(&mut self, id: ConnectionId) {
        let Some(connection) = self.get(id) else { return };
        match connection.phase {
            Phase::Flushing | Phase::Lingering if connection.discarded > 0 => self.reset(id),
            Phase::Flushing | Phase::Lingering => self.kill(id),
            Phase::Open | Phase::Moving(_) | Phase::Dead => {}
        }
    }

    /// When [`Driver::handle_time`] next has something to do.
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        let first = |queue: &VecDeque<(Moment, ConnectionId)>| queue.front().map(|&(at, _)| at);
        let ends = first(&self.flushing).into_iter().chain(first(&self.lingering));
        ends.chain(self.next_release())
            .chain(self.partials.next_look())
            .chain(self.stalls.next_look())
            .min()
    }
}

impl Ports for Driver {
    #[inline]
    fn outbox_room(&self, connection: ConnectionId) -> usize {
        let open =
            self.connections.get(connection).filter(|it| it.is_open() && !it.flags.send_failed);
        open.map_or(0, |open| self.limits.outbox_bytes_max.saturating_sub(open.unsent()))
    }

    fn take_backlog(&mut self, connection: ConnectionId) -> Backlog {
        let Some(connection) = self.connections.get_mut(connection) else {
            return Backlog::default();
        };
        let outbox = connection.outbox.as_ref();
        let (since, moved) = outbox.map(|outbox| (outbox.since, outbox.moved)).unzip();
        Backlog { since, moved, taken: mem::take(&mut connection.left) }
    }

    #[inline]
    fn send(&mut self, id: ConnectionId, frame: &[u8]) {
        self.send_with(id, frame, None);
    }

    fn send_shared(&mut self, id: ConnectionId, head: &[u8], payload: &Bytes) {
        self.send_with(id, head, Some(payload));
    }

    fn share(&mut self, part: &[u8]) -> Bytes {
        self.share_part(part)
    }

    fn certified(&self, id: ConnectionId) -> Certified {
        self.connections.get(id).map_or(Certified::Nobody, SocketConnection::certified)
    }

    fn notify_drained(&mut self, id: ConnectionId) {
        if let Some(connection) = self.open(id).filter(|it| !it.flags.send_failed) {
            connection.flags.wants_drained = true;
            self.notice_drained(id);
        }
    }

    fn close(&mut self, id: ConnectionId, closing: Closing) {
        if self.open(id).is_some() {
            self.end(id, closing);
        }
    }

    fn pause(&mut self, id: ConnectionId) {
        if let Some(connection) = self.open(id) {
            connection.flags.paused = true;
            self.touch(id);
        }
    }

    fn resume(&mut self, id: ConnectionId) {
        if let Some(connection) = self.open(id).filter(|connection| connection.flags.paused) {
            connection.flags.paused = false;
            self.feed_later(id);
            self.touch(id);
        }
    }

    fn hand_over(&mut self, id: ConnectionId, home: ShardId) {
        if let Some(connection) = self.open(id) {
            connection.phase = Phase::Moving(home);
            self.touch(id);
        }
    }

    fn precede(&mut self, earlier: ConnectionId, later: ConnectionId) -> bool {
        self.may_follow(earlier, later)
    }

    fn bill(&mut self, id: ConnectionId, payer: Payer) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.payer = payer;
            self.note_kept(id);
        }
    }

    fn letters(&mut self, to: ShardId) -> &mut LetterBatch {
        self.mail.letters(to)
    }

    fn records(&mut self) -> &mut RecordBatch {
        &mut self.records.batch
    }

    fn record_mark(&self) -> u64 {
        self.records.mark()
    }

    fn are_records_crowded(&self) -> bool {
        self.records.are_crowded()
    }

    fn watcher(&self) -> Option<&dyn Watcher> {
        self.events.watcher()
    }

    fn tap(&mut self) -> Option<&mut Tap> {
        Some(&mut self.tap)
    }

    fn set_traced(&mut self, id: ConnectionId, is_traced: bool) {
        if let Some(connection) = self.open(id) {
            connection.flags.traced = is_traced;
        }
    }

    fn unsent_since(&self, id: ConnectionId) -> Option<Moment> {
        Some(self.connections.get(id)?.outbox.as_ref()?.since)
    }

    fn can_verify(&self) -> bool {
        self.verifier.can_ask()
    }

    fn verify(&mut self, connection: ConnectionId, verification: Verification) {
        self.verifier.ask(connection, verification);
    }

    fn can_ask_hook(&self) -> bool {
        self.verifier.can_ask_hook()
    }

    fn ask_hook(&mut self, connection: ConnectionId, call: HookCall) {
        self.verifier.ask_hook(connection, call);
    }

    fn has_gone(&mut self, id: ConnectionId) -> bool {
        self.open(id).is_none_or(|connection| connection.has_gone())
    }

    fn random(&mut self) -> u64 {
        self.random.next()
    }

    fn secret(&mut self) -> Secret {
        self.random.secret()
    }

    fn load(&self) -> Load {
        self.counters.load()
    }

    fn store_figures(&self) -> Option<StoreFigures> {
        self.records.store_figures()
    }

    fn held(&self) -> HeldByRuntime {
        self.held_for_clients()
    }
}

impl Driver {
    #[inline]
    fn send_with(&mut self, id: ConnectionId, frame: &[u8], payload: Option<&Bytes>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if !connection.is_open() || connection.flags.is_special() {
            if !connection.is_open() || connection.flags.send_failed {
                return;
            }
            connection.flags.traced = self.tap.note_sent((id, self.now), frame, payload);
        }
        if frame.is_empty() && payload.is_none_or(Bytes::is_empty) {
            return;
        }
        let head = connection.transport.head();
        if connection.outbox.is_none() && !connection.flags.wants_drained {
            connection.left = 0;
        }
        let outbox = connection.outbox.get_or_insert_with(|| self.chunks.outbox(head));
        outbox.append(frame, &mut self.chunks);
        if let Some(payload) = payload {
            outbox.append_shared(payload, &mut self.chunks);
        }
        if outbox.unsent() > self.limits.unsent_max() {
            connection.flags.throttled = true;
        }
        if !connection.flags.touched {
            connection.flags.touched = true;
            self.touched.push(id);
        }
    }
}

/// How long a client may take to close after the broker has.
const LINGER_MAX: Span = Span::from_secs(1);
