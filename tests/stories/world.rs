//! A broker without sockets, threads or clock: real shards, and everything around them in memory.

#[path = "../support/disk.rs"]
mod disk;

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::{Arc, mpsc},
    thread,
};

use bytes::Bytes;
use ringmq::{
    access::{Accounts, Failures, HookReply, Policy},
    base::{
        hash::Seed,
        ids::{ConnectionId, ShardId},
        shared_count::SharedCount,
        time::{Moment, Span, WallClock, WallTime},
    },
    mqtt::{self, Delivery, Packet, PacketId, Version},
    routing::Strategies,
    session::queue::QueueLimits,
    shard::{
        Shard,
        events::Presence,
        letter::LetterBatch,
        memory::MemoryBudget,
        offer::Offer,
        ports::{
            Arrival, Backlog, Brain, Closing, End, Finding, HeldByRuntime, HookCall, Load, Ports,
            Secret, Undelivered, Verification,
        },
        referral::Referral,
        restore::Restoration,
        rules::{Limits, Rules, WhenQueueFull},
        settings::{Settings, StoreSettings},
        stats::Counters,
    },
    storage::RecordBatch,
    transport::Listener,
};

use self::disk::Disk;
use crate::{log, story};

/// What is around one shard.
#[derive(Debug)]
pub(crate) struct Surroundings {
    connections: BTreeMap<(u32, u32), Wire>,
    next_slot: u32,
    held_for_connections: usize,
    letters: Vec<LetterBatch>,
    verdicts: Vec<(ConnectionId, Finding)>,
    /// Password checks that the threads work on, and how many they take.
    open_checks: usize,
    open_checks_max: usize,
    random: u64,
    outbox_bytes_max: usize,
    records: RecordBatch,
    /// How many batches of records the shard has posted.
    posted: u64,
    /// The moment of the call.
    now: Moment,
}

/// One connection as the runtime would keep it.
#[derive(Default, Debug)]
struct Wire {
    client: usize,
    arrival: Option<Arrival>,
    /// Bytes from the client that the shard has not taken.
    unread: Vec<u8>,
    /// Bytes to the client that it has not read.
    outbox: VecDeque<u8>,
    /// Since when there are any, and how many it has read since then or since the shard asked.
    since: Option<Moment>,
    moved: Option<Moment>,
    taken: u64,
    paused: bool,
    asked_drained: bool,
    finished: bool,
    closing: Option<Closing>,
    moved_to: Option<ShardId>,
}

/// One client as a test sees it.
#[derive(Debug)]
pub(crate) struct Client {
    shard: usize,
    id: Option<ConnectionId>,
    version: Version,
    received: Vec<u8>,
    reads: bool,
    pub(crate) closed: bool,
}

/// All shards, all clients, and the time.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
pub(crate) struct World {
    shards: Vec<Shard>,
    around: Vec<Surroundings>,
    clients: Vec<Client>,
    rules: Rules,
    pub(crate) now: Moment,
    /// New connections are more than the runtime may hold.
    pub(crate) full: bool,
    /// How many connections the runtime may hold.
    pub(crate) connections_max: usize,
    /// Where new connections come from.
    pub(crate) peer: [u8; 4],
    /// By sender and receiver: a batch of letters of which some were handled.
    begun: Vec<Vec<Option<LetterBatch>>>,
    /// Letters between shards wait.
    pub(crate) mail_waits: bool,
    /// The threads that check passwords do not come to an end.
    pub(crate) verdicts_wait: bool,
    /// What survives the end of the world, if anything does.
    pub(crate) disk: Option<Disk>,
    /// Records wait to be written.
    pub(crate) disk_waits: bool,
}

fn key(id: ConnectionId) -> (u32, u32) {
    (id.slot, id.generation)
}

impl Surroundings {
    fn wire(&mut self, id: ConnectionId) -> Option<&mut Wire> {
        self.connections.get_mut(&key(id)).filter(|wire| wire.closing.is_none())
    }
}

impl Ports for Surroundings {
    fn outbox_room(&self, connection: ConnectionId) -> usize {
        let wire = self.connections.get(&key(connection));
        wire.map_or(0, |wire| self.outbox_bytes_max.saturating_sub(wire.outbox.len()))
    }

    fn take_backlog(&mut self, connection: ConnectionId) -> Backlog {
        let Some(wire) = self.wire(connection) else { return Backlog::default() };
        let since = wire.since.filter(|_| !wire.outbox.is_empty());
        Backlog { since, moved: wire.moved, taken: std::mem::take(&mut wire.taken) }
    }

    fn send(&mut self, connection: ConnectionId, frame: &[u8]) {
        let now = self.now;
        if let Some(wire) = self.wire(connection) {
            if wire.outbox.is_empty() && !wire.asked_drained {
                (wire.since, wire.moved, wire.taken) = (Some(now), Some(now), 0);
            }
            wire.outbox.extend(frame);
        }
    }

    fn send_shared(&mut self, connection: ConnectionId, head: &[u8], payload: &Bytes) {
        self.send(connection, head);
        self.send(connection, payload);
    }

    fn notify_drained(&mut self, connection: ConnectionId) {
        if let Some(wire) = self.wire(connection) {
            wire.asked_drained = true;
        }
    }

    fn close(&mut self, connection: ConnectionId, closing: Closing) {
        if let Some(wire) = self.wire(connection) {
            wire.closing = Some(closing);
        }
    }

    fn pause(&mut self, connection: ConnectionId) {
        if let Some(wire) = self.wire(connection) {
            wire.paused = true;
        }
    }

    fn resume(&mut self, connection: ConnectionId) {
        if let Some(wire) = self.wire(connection) {
            wire.paused = false;
        }
    }

    fn hand_over(&mut self, connection: ConnectionId, home: ShardId) {
        if let Some(wire) = self.wire(connection) {
            wire.moved_to = Some(home);
        }
    }

    fn records(&mut self) -> &mut RecordBatch {
        &mut self.records
    }

    fn record_mark(&self) -> u64 {
        self.posted + 1
    }

    fn letters(&mut self, to: ShardId) -> &mut LetterBatch {
        &mut self.letters[to.index()]
    }

    fn can_verify(&self) -> bool {
        self.open_checks < self.open_checks_max
    }

    fn verify(&mut self, connection: ConnectionId, verification: Verification) {
        self.open_checks += 1;
        self.verdicts.push((connection, verification()));
    }

    fn can_ask_hook(&self) -> bool {
        true
    }

    fn ask_hook(&mut self, connection: ConnectionId, call: HookCall) {
        self.open_checks += 1;
        let (sender, answer) = mpsc::channel();
        call(HookReply::new(move |finding| drop(sender.send(finding))));
        self.verdicts.push((connection, answer.recv().expect("each question has an answer")));
    }

    fn has_gone(&mut self, connection: ConnectionId) -> bool {
        self.wire(connection).is_none_or(|wire| wire.finished && wire.unread.is_empty())
    }

    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.random
    }

    fn secret(&mut self) -> Secret {
        (u128::from(self.random()) << 64 | u128::from(SECRET_BITS)).to_be_bytes()
    }

    fn load(&self) -> Load {
        Load::default()
    }

    fn held(&self) -> HeldByRuntime {
        let outboxes = self.connections.values().map(|wire| wire.outbox.len()).sum();
        let letters = self.letters.iter().map(LetterBatch::bytes).sum();
        let connections = self.held_for_connections;
        HeldByRuntime { connections, outboxes, letters, ..HeldByRuntime::default() }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let counters = self.counters();
        let all = counters.connections + counters.ended();
        let holds = counters.connections_accepted == all;
        assert!(
            thread::panicking() || holds,
            "a connection is open or has ended once: {counters:?}"
        );
    }
}

/// When worlds begin, by both clocks.
pub(crate) const START: Moment = Moment::from_nanos(1_000_000_000);
/// How long Wills wait after a restart.
pub(crate) const WILL_GRACE: Span = Span::from_secs(2);
/// How every secret ends in base64: a number that was drawn to choose by does not.
pub(crate) const SECRET_END: &str = "secretA";
const SECRET_BITS: u64 = 0x002C_79CA_DEB4;

/// Limits that no ordinary story touches.
pub(crate) fn limits() -> Limits {
    Limits {
        packet_size_max: 1 << 20,
        connect_size_max: 128 << 10,
        outbox_bytes_max: 1 << 20,
        inflight_max: 64,
        queue: QueueLimits { messages_max: 10_000, bytes_max: 16 << 20 },
        when_queue_full: WhenQueueFull::Disconnect,
        receive_maximum: 1024,
        topic_alias_maximum: 16,
        topic_aliases_max: 32,
        session_expiry_max: u32::MAX,
        connect_timeout: Span::from_secs(10),
        rate_timeout: Span::from_secs(10),
        patience: Span::from_millis(200),
        sessions_max: 10_000,
        topic_levels_max: 70_000,
        user_properties_max: 10_000,
        user_property_bytes_max: 1 << 20,
        subscribe_filters_max: 1_000_000,
        subscriptions_max: 10_000,
        subscription_bytes_max: 64 << 20,
        wildcard_patterns_max: 100_000,
        retained_max: 10_000,
        retained_bytes_max: 64 << 20,
        slice_steps: ringmq::shard::rules::SLICE_STEPS,
        password_checks_max: 1024,
    }
}

impl World {
    pub(crate) fn new(shards: usize) -> World {
        World::with(shards, &limits(), &Policy::default())
    }

    pub(crate) fn with(shards: usize, limits: &Limits, policy: &Policy) -> World {
        World::told(shards, |rules| {
            rules.limits = limits.clone();
            rules.policy = policy.clone();
        })
    }

    /// A broker whose share groups choose like this.
    pub(crate) fn sharing(shards: usize, strategies: &Strategies) -> World {
        World::told(shards, |rules| rules.strategies = strategies.clone())
    }

    /// A broker that was told something else than usual.
    pub(crate) fn told(shards: usize, tell: impl FnOnce(&mut Rules)) -> World {
        World::within(usize::MAX, shards, tell)
    }

    /// A broker that may take so many bytes of memory.
    pub(crate) fn within(memory: usize, shards: usize, tell: impl FnOnce(&mut Rules)) -> World {
        let listeners =
            [[127, 0, 0, 1], [0, 0, 0, 0]].map(|ip| Listener::tcp(SocketAddr::from((ip, 1883))));
        let mut rules = Rules {
            limits: limits(),
            offer: Offer::default(),
            referral: Referral::default(),
            policy: Policy::default(),
            strategies: Strategies::default(),
            sys_interval: None,
            presence: Presence::Off,
            listeners: listeners.to_vec().into(),
        };
        tell(&mut rules);
        World::build((shards, memory), rules, None, START)
    }

    /// A broker whose state survives its end.
    pub(crate) fn stored(shards: usize) -> World {
        World::stored_with(shards, |_| {})
    }

    /// The same, told something else than usual.
    pub(crate) fn stored_with(shards: usize, tell: impl FnOnce(&mut Rules)) -> World {
        let world = World::told(1, tell);
        World::build((shards, usize::MAX), world.rules.clone(), Some(Disk::default()), world.now)
    }

    /// The process is killed, and another one with so many shards begins at once. Of the batches
    /// of records that are not on disk, `survives` come to be.
    pub(crate) fn restart(&mut self, shards: usize, survives: usize) {
        let mut disk = self.disk.take().expect("the world has a disk");
        (0..self.shards.len()).for_each(|shard| self.post_records_to(shard, &mut disk));
        disk.crash(survives);
        let (rules, now) = (self.rules.clone(), self.now);
        *self = World::build((shards, usize::MAX), rules, Some(disk), now);
    }

    fn build(
        (shards, memory): (usize, usize),
        rules: Rules,
        mut disk: Option<Disk>,
        now: Moment,
    ) -> World {
        log::subscribe();
        let (seed, wall_clock) = (Seed::new(42), WallClock::new(START, WallTime::default()));
        let restored =
            disk.as_mut().map(|disk| disk.restore(shards, seed, wall_clock.time_of(now)));
        let store = restored.as_ref().map(|it| StoreSettings::new(it, shards, WILL_GRACE));
        let restoration = restored.map(|it| Arc::new(Restoration::new(it, wall_clock)));
        let template = Settings {
            shard: ShardId::FIRST,
            shards,
            seed,
            started_at: now,
            wall_clock,
            failures: Failures::new(Seed::new(42)),
            sessions: SharedCount::default(),
            accounts: Accounts::new(Seed::new(42)),
            memory: MemoryBudget::new(memory),
            store,
        };
        let settings = |shard| Settings { shard, ..template.clone() };
        let around = |shard: ShardId| Surroundings {
            connections: BTreeMap::new(),
            next_slot: 0,
            held_for_connections: 0,
            letters: (0..shards).map(|_| LetterBatch::default()).collect(),
            verdicts: Vec::new(),
            open_checks: 0,
            open_checks_max: 2,
            random: shard.index() as u64,
            outbox_bytes_max: rules.limits.outbox_bytes_max,
            records: RecordBatch::default(),
            posted: 0,
            now,
        };
        let brain = |shard| {
            let mut brain = Shard::new(settings(shard), &rules);
            if let Some(restoration) = &restoration {
                brain.begin_with(Arc::clone(restoration));
            }
            brain
        };
        let mut world = World {
            shards: ShardId::all(shards).map(brain).collect(),
            around: ShardId::all(shards).map(around).collect(),
            clients: Vec::new(),
            now,
            rules,
            full: false,
            connections_max: 10_000,
            peer: [127, 0, 0, 1],
            begun: (0..shards).map(|_| (0..shards).map(|_| None).collect()).collect(),
            mail_waits: false,
            verdicts_wait: false,
            disk,
            disk_waits: false,
        };
        for (shard, around) in world.shards.iter_mut().zip(&mut world.around) {
            shard.handle_start(now, around);
        }
        world.run();
        assert!(world.shards.iter().all(Shard::is_ready), "clients may be let in");
        world
    }

    /// Posts the records of a shard's turn.
    fn post_records_to(&mut self, shard: usize, disk: &mut Disk) {
        let around = &mut self.around[shard];
        if !around.records.is_empty() {
            around.posted += 1;
            disk.post(shard, around.posted, &mut around.records);
        }
    }

    fn post_records(&mut self, shard: usize) {
        let Some(mut disk) = self.disk.take() else {
            let records = &self.around[shard].records;
            return assert!(records.is_empty(), "nothing is written down without a disk");
        };
        self.post_records_to(shard, &mut disk);
        self.disk = Some(disk);
    }

    /// So many batches of records more are on disk, and what waited for that happens.
    pub(crate) fn sync(&mut self, batches: usize) {
        let marks = self.disk.as_mut().expect("the world has a disk").sync(batches);
        for (shard, mark) in marks {
            self.shards[shard].handle_durable(self.now, mark, &mut self.around[shard]);
        }
        self.run();
    }

    /// The store has room for messages, or has none.
    pub(crate) fn tell_store_room(&mut self, has_room: bool) {
        for (shard, around) in self.shards.iter_mut().zip(&mut self.around) {
            shard.handle_store_room(self.now, has_room, around);
        }
        self.run();
    }

    /// How many batches of records are not on disk.
    pub(crate) fn unsynced(&self) -> usize {
        self.disk.as_ref().map_or(0, Disk::unsynced)
    }

    /// How many messages, queued or in flight, sessions of these clients have.
    pub(crate) fn waiting_for(&self, client_id: &str) -> usize {
        let inventories = self.shards.iter().map(|shard| shard.inventory(self.now));
        let sessions = inventories.flat_map(|inventory| inventory.sessions);
        sessions.filter(|it| it.client_id == client_id).map(|it| it.queued + it.in_flight).sum()
    }

    /// A new connection, accepted on a shard that has nothing to do with who the client is.
    pub(crate) fn open(&mut self, version: Version) -> usize {
        self.open_on(version, 0)
    }

    /// A new connection to one of the listeners: 0 is on loopback, 1 is not.
    pub(crate) fn open_on(&mut self, version: Version, listener: u16) -> usize {
        self.open_at(version, listener, IpAddr::from(self.peer))
    }

    /// A new connection from this address.
    pub(crate) fn open_from(&mut self, version: Version, ip: IpAddr) -> usize {
        self.open_at(version, 1, ip)
    }

    fn open_at(&mut self, version: Version, listener: u16, ip: IpAddr) -> usize {
        let client = self.clients.len();
        let shard = client % self.shards.len();
        let peer = SocketAddr::new(ip, 40_000);
        self.clients.push(Client {
            shard,
            id: None,
            version,
            received: Vec::new(),
            reads: true,
            closed: false,
        });
        let (surplus, connections_max) = (self.full, self.connections_max);
        let arrival = Arrival { listener, peer, surplus, connections_max, handed_over: false };
        self.adopt(shard, client, arrival, Vec::new());
        client
    }

    fn adopt(&mut self, shard: usize, client: usize, arrival: Arrival, unread: Vec<u8>) {
        let around = &mut self.around[shard];
        let id = ConnectionId { slot: around.next_slot, generation: 0 };
        around.next_slot += 1;
        let wire = Wire { client, arrival: Some(arrival), unread, ..Wire::default() };
        around.connections.insert(key(id), wire);
        self.clients[client].shard = shard;
        self.clients[client].id = Some(id);
        self.shards[shard].handle_accepted(self.now, id, arrival, around);
    }

    /// The client sends these bytes, and everything that follows happens.
    pub(crate) fn send(&mut self, client: usize, bytes: &[u8]) {
        self.push(client, bytes);
        self.run();
    }

    /// The client sends these bytes; nothing happens yet.
    pub(crate) fn push(&mut self, client: usize, bytes: &[u8]) {
        let Client { shard, id: Some(id), .. } = self.clients[client] else { return };
        if let Some(wire) = self.around[shard].wire(id) {
            wire.unread.extend_from_slice(bytes);
        }
    }

    /// The client stops or begins to read what it is sent.
    pub(crate) fn reads(&mut self, client: usize, reads: bool) {
        self.clients[client].reads = reads;
        self.run();
    }

    /// The client reads so many bytes, although it has stopped to read all that it is sent.
    pub(crate) fn read_some(&mut self, client: usize, bytes: usize) {
        let Client { shard, id: Some(id), .. } = self.clients[client] else { return };
        let around = &mut self.around[shard];
        let limit = around.outbox_bytes_max;
        let Some(wire) = around.wire(id) else { return };
        let bytes = bytes.min(wire.outbox.len());
        self.clients[client].received.extend(wire.outbox.drain(..bytes));
        wire.taken += bytes as u64;
        wire.moved = if bytes > 0 { Some(self.now) } else { wire.moved };
        let has_drained = wire.outbox.len() <= limit / 4;
        if has_drained && std::mem::take(&mut wire.asked_drained) {
            self.shards[shard].handle_drained(self.now, id, around);
        }
        self.run();
    }

    /// The client's connection breaks, as a reset does.
    pub(crate) fn break_off(&mut self, client: usize) {
        self.break_off_for(client, End::Broken);
    }

    /// The client's connection is gone, and this is why.
    pub(crate) fn break_off_for(&mut self, client: usize, end: End) {
        let Client { shard, id: Some(id), .. } = self.clients[client] else { return };
        self.clients[client].closed = true;
        self.clients[client].id = None;
        self.around[shard].connections.remove(&key(id));
        self.shards[shard].handle_end(self.now, id, end, &mut self.around[shard]);
        self.run();
    }

    /// The client sends nothing more, but reads on.
    pub(crate) fn finish(&mut self, client: usize) {
        let Client { shard, id: Some(id), .. } = self.clients[client] else { return };
        if let Some(wire) = self.around[shard].wire(id) {
            wire.finished = true;
        }
        self.run();
    }

    /// Time passes, in small steps, and what is due happens.
    pub(crate) fn pass(&mut self, span: Span) {
        let until = self.now + span;
        while self.now < until {
            let step = Span::from_nanos((until - self.now).as_nanos().min(50_000_000));
            self.stand_still(step);
            for (shard, around) in self.shards.iter_mut().zip(&mut self.around) {
                shard.handle_time(self.now, around);
            }
            self.run();
        }
    }

    /// A proxy says that the client has this address.
    pub(crate) fn announce(&mut self, client: usize, ip: impl Into<IpAddr>) {
        let Client { shard, id: Some(id), .. } = self.clients[client] else { return };
        let peer = SocketAddr::new(ip.into(), 40_000);
        let around = &mut self.around[shard];
        let Some(wire) = around.wire(id) else { return };
        wire.arrival = wire.arrival.map(|arrival| Arrival { peer, ..arrival });
        self.shards[shard].handle_peer(self.now, id, peer, around);
        self.run();
    }

    /// The whole process stands still.
    pub(crate) fn stand_still(&mut self, span: Span) {
        self.now = self.now + span;
        self.around.iter_mut().for_each(|around| around.now = self.now);
    }

    /// Every shard is told other rules than those that the broker began with.
    pub(crate) fn change_rules(&mut self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.rules);
        let rules = Arc::new(self.rules.clone());
        for (shard, around) in self.shards.iter_mut().zip(&mut self.around) {
            shard.handle_rules(self.now, &rules, around);
        }
        self.run();
    }

    /// The broker is about to stop, and takes leave of those that it has not let in.
    pub(crate) fn drain_clients(&mut self) {
        for (shard, around) in self.shards.iter_mut().zip(&mut self.around) {
            shard.handle_drain(self.now, around);
        }
        self.run();
    }

    /// The broker stops.
    pub(crate) fn stop(&mut self) {
        for (shard, around) in self.shards.iter_mut().zip(&mut self.around) {
            shard.handle_stop(self.now, around);
        }
        self.run();
    }

    /// What the client has received since the last look, as bytes.
    pub(crate) fn received_bytes(&mut self, client: usize) -> Vec<u8> {
        std::mem::take(&mut self.clients[client].received)
    }

    /// What the client has received since the last look, one line a packet.
    pub(crate) fn received(&mut self, client: usize) -> Vec<String> {
        let mut lines = Vec::new();
        self.look(client, |packet| {
            lines
                .push(packet.map_or_else(|error| error.to_string(), |packet| story::tell(&packet)));
        });
        lines
    }

    /// The same with the packets themselves.
    pub(crate) fn look(
        &mut self,
        client: usize,
        mut see: impl FnMut(Result<Packet<'_>, mqtt::DecodeError>),
    ) {
        let client = &mut self.clients[client];
        let bytes = std::mem::take(&mut client.received);
        let mut rest = &bytes[..];
        while let Ok(Some(frame)) = mqtt::frame::split(rest, 1 << 28) {
            see(Packet::decode(frame, client.version));
            rest = &rest[frame.len..];
        }
        assert!(rest.is_empty(), "the broker sends whole packets");
    }

    /// The Packet Identifiers of the QoS 1 messages that the client has received since the last
    /// look; other packets are passed over.
    pub(crate) fn received_ids(&mut self, client: usize) -> Vec<PacketId> {
        let mut ids = Vec::new();
        self.look(client, |packet| {
            if let Ok(Packet::Publish(publish)) = packet
                && let Delivery::AtLeastOnce(packet_id) = publish.delivery
            {
                ids.push(packet_id);
            }
        });
        ids
    }

    /// What a stop would leave undelivered.
    pub(crate) fn undelivered(&self) -> Undelivered {
        let mut sum = Undelivered::default();
        for Undelivered { connected, absent } in self.shards.iter().map(Brain::undelivered) {
            sum.connected += connected;
            sum.absent += absent;
        }
        sum
    }

    /// The connections take so much memory on each shard.
    pub(crate) fn hold_for_connections(&mut self, bytes: usize) {
        self.around.iter_mut().for_each(|around| around.held_for_connections = bytes);
        self.turn();
    }

    /// The shard that the client is connected to.
    pub(crate) fn shard_of(&self, client: usize) -> usize {
        self.clients[client].shard
    }

    pub(crate) fn is_closed(&self, client: usize) -> bool {
        self.clients[client].closed
    }

    /// Whether the broker reads from this client.
    pub(crate) fn is_read_from(&self, client: usize) -> bool {
        let Client { shard, id: Some(id), .. } = self.clients[client] else { return false };
        !self.around[shard].connections[&key(id)].paused
    }

    /// Works of all shards that go on in the next turn.
    pub(crate) fn unfinished(&self) -> usize {
        self.shards.iter().map(|shard| shard.inventory(self.now).unfinished).sum()
    }

    /// The sum of all shards' counters.
    pub(crate) fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        self.shards.iter().for_each(|shard| sum.add(&shard.counters()));
        sum
    }

    /// Turns, until nothing happens any more.
    pub(crate) fn run(&mut self) {
        let mut turns = 0;
        while self.turn() {
            turns += 1;
            assert!(turns < 100_000, "the world comes to rest");
        }
    }

    /// One turn of every shard. False: nothing has happened.
    pub(crate) fn turn(&mut self) -> bool {
        let mut moved = false;
        for shard in 0..self.shards.len() {
            moved |= self.feed(shard);
            moved |= self.tell_verdicts(shard);
            moved |= self.post(shard);
            moved |= self.drain(shard);
            moved |= self.bury(shard);
            moved |= self.go_on(shard);
            self.shards[shard].handle_turn(self.now, &mut self.around[shard]);
            self.post_records(shard);
        }
        if !moved && !self.disk_waits && self.unsynced() > 0 {
            self.sync_all();
            return true;
        }
        moved
    }

    fn sync_all(&mut self) {
        let marks = self.disk.as_mut().expect("something waits for it").sync(usize::MAX >> 1);
        for (shard, mark) in marks {
            self.shards[shard].handle_durable(self.now, mark, &mut self.around[shard]);
        }
    }

    /// Hands unread bytes to the shard.
    fn feed(&mut self, shard: usize) -> bool {
        let mut moved = false;
        let keys: Vec<_> = self.around[shard].connections.keys().copied().collect();
        for (slot, generation) in keys {
            let id = ConnectionId { slot, generation };
            let around = &mut self.around[shard];
            let Some(wire) = around.wire(id) else { continue };
            if wire.paused || wire.moved_to.is_some() {
                continue;
            }
            let (bytes, finished) = (wire.unread.clone(), wire.finished);
            if !bytes.is_empty() {
                let taken = self.shards[shard].handle_bytes(self.now, id, &bytes, around);
                if let Some(wire) = around.connections.get_mut(&(slot, generation)) {
                    wire.unread.drain(..taken);
                }
                moved |= taken > 0;
            }
            let stays = around.wire(id).is_some_and(|wire| !wire.paused && wire.moved_to.is_none());
            if finished && stays {
                self.shards[shard].handle_end(self.now, id, End::Finished, around);
                moved = true;
            }
        }
        moved | self.move_connections(shard)
    }

    fn move_connections(&mut self, shard: usize) -> bool {
        let connections = &mut self.around[shard].connections;
        let leaving: Vec<_> = connections
            .iter()
            .filter(|(_, wire)| wire.moved_to.is_some())
            .map(|(k, _)| *k)
            .collect();
        for at in &leaving {
            let Some(wire) = self.around[shard].connections.remove(at) else { continue };
            let (Some(home), Some(arrival)) = (wire.moved_to, wire.arrival) else { continue };
            assert!(wire.outbox.is_empty(), "nothing was said before the hand-over");
            let arrival = Arrival { handed_over: true, ..arrival };
            self.adopt(home.index(), wire.client, arrival, wire.unread);
            if wire.finished {
                self.finish(wire.client);
            }
        }
        !leaving.is_empty()
    }

    fn tell_verdicts(&mut self, shard: usize) -> bool {
        if self.verdicts_wait {
            return false;
        }
        let verdicts = std::mem::take(&mut self.around[shard].verdicts);
        let is_any = !verdicts.is_empty();
        for (id, finding) in verdicts {
            self.around[shard].open_checks -= 1;
            self.shards[shard].handle_verdict(self.now, id, finding, &mut self.around[shard]);
        }
        is_any
    }

    fn post(&mut self, shard: usize) -> bool {
        self.post_records(shard);
        let mut moved = false;
        let peers = if self.mail_waits { 0 } else { self.shards.len() };
        for to in 0..peers {
            let Some(mut batch) = self.next_batch(shard, to) else { continue };
            assert_ne!(to, shard, "a shard writes no letters to itself");
            let from = ShardId::new(shard).expect("few shards");
            let around = &mut self.around[to];
            let handled = self.shards[to].handle_letters(self.now, from, &batch, around);
            if !batch.note_handled(handled) {
                self.begun[shard][to] = Some(batch);
            }
            moved = true;
        }
        moved
    }

    /// What is left of a batch of letters, or another one that has been posted.
    fn next_batch(&mut self, from: usize, to: usize) -> Option<LetterBatch> {
        let begun = self.begun[from][to].take();
        if begun.is_some() {
            return begun;
        }
        let batch = std::mem::take(&mut self.around[from].letters[to]);
        if batch.is_crowded() {
            let to = ShardId::new(to).expect("few shards");
            self.shards[from].handle_posted(self.now, to, &mut self.around[from]);
        }
        (!batch.is_empty()).then_some(batch)
    }

    /// Clients read what is in their outboxes.
    fn drain(&mut self, shard: usize) -> bool {
        let mut moved = false;
        let mut drained = Vec::new();
        for (&(slot, generation), wire) in &mut self.around[shard].connections {
            let client = &mut self.clients[wire.client];
            if client.reads && !wire.outbox.is_empty() {
                wire.taken += wire.outbox.len() as u64;
                client.received.extend(wire.outbox.drain(..));
                moved = true;
            }
            let empty = wire.outbox.is_empty() && wire.closing.is_none();
            if empty && std::mem::take(&mut wire.asked_drained) {
                drained.push(ConnectionId { slot, generation });
            }
        }
        for id in &drained {
            self.shards[shard].handle_drained(self.now, *id, &mut self.around[shard]);
        }
        moved || !drained.is_empty()
    }

    /// The shard goes on with what it has begun in this moment.
    fn go_on(&mut self, shard: usize) -> bool {
        let is_due = self.shards[shard].next_deadline().is_some_and(|due| due <= self.now);
        if is_due {
            self.shards[shard].handle_time(self.now, &mut self.around[shard]);
        }
        is_due
    }

    /// Forgets connections that were closed and have nothing more to send.
    fn bury(&mut self, shard: usize) -> bool {
        let clients = &mut self.clients;
        let before = self.around[shard].connections.len();
        self.around[shard].connections.retain(|_, wire| {
            let over = match wire.closing {
                Some(Closing::Abort) => true,
                Some(Closing::Flush) => wire.outbox.is_empty(),
                None => false,
            };
            if over {
                clients[wire.client].closed = true;
                clients[wire.client].id = None;
            }
            !over
        });
        before != self.around[shard].connections.len()
    }
}
