//! Budgets of memory: what one forwarded message may allocate.
//!
//! The counters are of one thread each, and so every test has its own.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    net::SocketAddr,
};

use bytes::Bytes;
use ringmq::{
    access::Policy,
    base::{
        hash::Seed,
        ids::{ConnectionId, ShardId},
        time::{Moment, Span},
    },
    mqtt::{
        Connect, ConnectProperties, Delivery, Packet, PacketId, Publish, PublishProperties, QoS,
        Subscribe, SubscribeFilters, SubscriptionOptions, UserProperties, Version,
    },
    routing::Strategies,
    session::queue::QueueLimits,
    shard::{
        Shard,
        letter::{Letter, LetterBatch},
        ports::{Arrival, Brain, Closing, Load, Ports, Verification},
        settings::{Limits, Settings},
    },
};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    /// Bytes that are allocated and not freed.
    static LIVE: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, with a count of what this thread asks it for.
struct Counting;

#[expect(unsafe_code, reason = "an allocator cannot be counted from outside")]
// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        LIVE.with(|live| live.set(live.get().wrapping_add(layout.size())));
        // SAFETY: the caller keeps the contract of `alloc`, which is the system's too.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.with(|live| live.set(live.get().wrapping_sub(layout.size())));
        // SAFETY: the pointer came from the system's allocator with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Everything around the shard, without memory of its own after warm-up.
struct Nothing {
    random: u64,
    sent: u64,
    outbox: Vec<u8>,
    letters: Vec<LetterBatch>,
}

impl Ports for Nothing {
    fn outbox_room(&self, _: ConnectionId) -> usize {
        1 << 20
    }

    fn send(&mut self, _: ConnectionId, frame: &[u8]) {
        self.sent += 1;
        self.outbox.clear();
        self.outbox.extend_from_slice(frame);
    }

    fn send_shared(&mut self, connection: ConnectionId, head: &[u8], _: &Bytes) {
        self.send(connection, head);
    }

    fn notify_drained(&mut self, _: ConnectionId) {}
    fn close(&mut self, _: ConnectionId, _: Closing) {}
    fn pause(&mut self, _: ConnectionId) {}
    fn resume(&mut self, _: ConnectionId) {}
    fn hand_over(&mut self, _: ConnectionId, _: ShardId) {}

    fn letters(&mut self, to: ShardId) -> &mut LetterBatch {
        &mut self.letters[to.index()]
    }

    fn verify(&mut self, _: ConnectionId, _: Verification) -> bool {
        false
    }

    fn random(&mut self) -> u64 {
        self.random += 1;
        self.random
    }

    fn load(&self) -> Load {
        Load::default()
    }
}

fn limits() -> Limits {
    Limits {
        packet_size_max: 1 << 20,
        outbox_bytes_max: 1 << 20,
        inflight_max: 64,
        queue: QueueLimits { messages_max: 1000, bytes_max: 1 << 20 },
        receive_maximum: 1024,
        topic_alias_maximum: 0,
        session_expiry_max: u32::MAX,
        connect_timeout: Span::from_secs(10),
        patience: Span::from_millis(200),
        sessions_max: 100_000,
        subscriptions_max: 1000,
        retained_max: 1000,
        retained_bytes_max: 1 << 20,
    }
}

/// A shard with clients on it, and what it takes to hand packets to it.
struct Bench {
    shard: Shard,
    nothing: Nothing,
    now: Moment,
    clients: u32,
    /// Changes of interest that the other shard has been told.
    told: u64,
}

impl Bench {
    fn new(shards: usize) -> Bench {
        let now = Moment::from_nanos(1);
        let settings = Settings {
            shard: ShardId::FIRST,
            shards,
            seed: Seed::new(1),
            started_at: now,
            limits: limits(),
            strategies: Strategies::default(),
            policy: Policy::default(),
            loopback_listeners: vec![true],
            sys_interval: None,
        };
        let letters = (0..shards).map(|_| LetterBatch::default()).collect();
        let nothing = Nothing { random: 0, sent: 0, outbox: Vec::new(), letters };
        Bench { shard: Shard::new(settings), nothing, now, clients: 0, told: 0 }
    }

    /// A client at home on this shard.
    fn client(&mut self, version: Version) -> ConnectionId {
        let id = ConnectionId { slot: self.clients, generation: 0 };
        self.clients += 1;
        let arrival = Arrival { listener: 0, peer: SocketAddr::from(([127, 0, 0, 1], 9)) };
        self.shard.handle_accepted(self.now, id, arrival, &mut self.nothing);
        let connect = Connect {
            version,
            clean_start: true,
            keep_alive: 60,
            client_id: if version == Version::V31 { "old" } else { "" },
            will: None,
            user_name: None,
            password: None,
            properties: ConnectProperties::default(),
        };
        self.hand_in(id, &Packet::Connect(connect), version);
        id
    }

    fn hand_in(&mut self, id: ConnectionId, packet: &Packet<'_>, version: Version) {
        let mut bytes = Vec::new();
        packet.encode(version, &mut bytes);
        let taken = self.shard.handle_bytes(self.now, id, &bytes, &mut self.nothing);
        assert_eq!(taken, bytes.len());
    }

    fn subscribe(&mut self, id: ConnectionId, version: Version, filter: &str, qos: QoS) {
        let filters = [(filter, SubscriptionOptions::with_qos(qos))];
        let subscribe = Subscribe {
            packet_id: PacketId::MIN,
            subscription_identifier: None,
            user_properties: UserProperties::default(),
            filters: SubscribeFilters::List(&filters[..]),
        };
        self.hand_in(id, &Packet::Subscribe(subscribe), version);
        self.apply_interest();
    }

    /// The other shard applies what it was told, so that the SUBACK can go out.
    fn apply_interest(&mut self) {
        let Some(letters) = self.nothing.letters.get_mut(1) else { return };
        let told = letters.iter().filter(|letter| matches!(letter, Letter::Interest { .. }));
        self.told += told.count() as u64;
        letters.clear();
        let mut answer = LetterBatch::default();
        answer.push(Letter::InterestApplied { upto: self.told });
        let from = ShardId::new(1).expect("there may be a second shard");
        self.shard.handle_letters(self.now, from, &answer, &mut self.nothing);
    }

    /// Allocations and deliveries of `rounds` times the same packets from one client.
    fn count(&mut self, publisher: ConnectionId, bytes: &[u8], rounds: u64) -> (u64, u64) {
        let (allocations, sent) = (ALLOCATIONS.get(), self.nothing.sent);
        for _ in 0..rounds {
            let taken = self.shard.handle_bytes(self.now, publisher, bytes, &mut self.nothing);
            assert_eq!(taken, bytes.len());
            self.nothing.letters.iter_mut().for_each(LetterBatch::clear);
        }
        (ALLOCATIONS.get() - allocations, self.nothing.sent - sent)
    }
}

fn publish(version: Version, topic: &str, payload: &[u8]) -> Vec<u8> {
    let publish = Publish {
        dup: false,
        retain: false,
        delivery: Delivery::AtMostOnce,
        topic,
        properties: PublishProperties::default(),
        payload,
    };
    let mut bytes = Vec::new();
    Packet::Publish(publish).encode(version, &mut bytes);
    bytes
}

#[test]
fn forwarding_a_small_qos_0_message_allocates_nothing() {
    for version in [Version::V311, Version::V5] {
        for shards in [1, 2] {
            let mut bench = Bench::new(shards);
            let publisher = bench.client(version);
            for (filter, qos) in [
                ("room/+/temperature", QoS::AtMostOnce),
                ("room/#", QoS::ExactlyOnce),
                ("room/1/temperature", QoS::AtLeastOnce),
            ] {
                let client = bench.client(version);
                bench.subscribe(client, version, filter, qos);
                // One subscriber may match by several filters.
                bench.subscribe(client, version, "+/1/#", qos);
            }
            // A filter that only another shard wants.
            if shards == 2 {
                let mut letters = LetterBatch::default();
                letters.push_interest("room/1/#", true);
                let from = ShardId::new(1).unwrap();
                bench.shard.handle_letters(bench.now, from, &letters, &mut bench.nothing);
            }
            let payload = [b'x'; 1024];
            let mut bytes = publish(version, "room/1/temperature", &payload);
            bytes.extend(publish(version, "room/1/temperature", b"20.5"));
            bench.count(publisher, &bytes, 10);
            let (allocations, sent) = bench.count(publisher, &bytes, 1000);
            assert_eq!(allocations, 0, "{version:?} on {shards} shards");
            if shards == 1 {
                assert_eq!(sent, 6000);
            }
        }
    }
}

/// What 10,000 clients with one subscription each may take of a shard's memory. The runtime's part
/// comes on top; both together are to stay within 1 KiB.
#[test]
fn an_idle_client_takes_little_memory() {
    let mut bench = Bench::new(2);
    let before = LIVE.get();
    for n in 0..10_000 {
        let client = bench.client(Version::V311);
        bench.subscribe(client, Version::V311, &format!("bench/{n}/x"), QoS::AtMostOnce);
    }
    let own = (LIVE.get() - before) / 10_000;
    let before = LIVE.get();
    for n in 0..10_000 {
        let mut letters = LetterBatch::default();
        letters.push_interest(&format!("bench/other-{n}/x"), true);
        let from = ShardId::new(1).unwrap();
        bench.shard.handle_letters(bench.now, from, &letters, &mut bench.nothing);
        bench.nothing.letters.iter_mut().for_each(LetterBatch::clear);
    }
    let replica = (LIVE.get() - before) / 10_000;
    assert!(own <= 560, "{own} bytes for a client at home here");
    assert!(replica <= 170, "{replica} bytes for a filter that another shard wants");
}
