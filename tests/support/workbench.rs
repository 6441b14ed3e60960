//! One shard with clients on it and no sockets: what enters is handed in, what leaves is counted.
//!
//! Time stands still, and a peer shard is there only as far as a letter says so.

use std::net::SocketAddr;

use bytes::Bytes;
use ringmq::{
    access::{Accounts, Failures, Policy},
    base::{
        hash::Seed,
        ids::{ConnectionId, ShardId, ShardSet},
        shared_count::SharedCount,
        time::{Moment, Span, WallClock, WallTime},
    },
    mqtt::{
        Connect, Delivery, Packet, PacketId, Publish, PublishProperties, QoS, Subscribe,
        SubscribeFilters, SubscriptionOptions, UserProperties, Version,
    },
    routing::Strategies,
    session::queue::QueueLimits,
    shard::{
        Shard,
        events::Presence,
        letter::{Letter, LetterBatch},
        memory::MemoryBudget,
        offer::Offer,
        ports::{Arrival, Backlog, Brain, Closing, Load, Ports, Secret, Verification},
        referral::Referral,
        rules::{Limits, Rules, WhenQueueFull},
        settings::Settings,
    },
    storage::RecordBatch,
    transport::Listener,
};

/// A shard with clients on it, and what it takes to hand packets to it.
pub(crate) struct Workbench {
    shard: Shard,
    pub(crate) ports: Nothing,
    now: Moment,
    clients: u32,
    /// Changes of interest that the other shard has been told.
    told: u64,
}

impl Workbench {
    /// The first shard of so many.
    pub(crate) fn new(shards: usize) -> Workbench {
        Workbench::of(ShardId::FIRST, shards)
    }

    pub(crate) fn of(shard: ShardId, shards: usize) -> Workbench {
        let now = Moment::from_nanos(1);
        let settings = Settings {
            shard,
            shards,
            seed: Seed::new(1),
            started_at: now,
            wall_clock: WallClock::new(now, WallTime::default()),
            failures: Failures::new(Seed::new(1)),
            sessions: SharedCount::default(),
            accounts: Accounts::new(Seed::new(1)),
            memory: MemoryBudget::new(usize::MAX),
            store: None,
        };
        let rules = Rules {
            limits: limits(),
            offer: Offer::default(),
            referral: Referral::default(),
            policy: Policy::default(),
            strategies: Strategies::default(),
            sys_interval: None,
            presence: Presence::Off,
            listeners: vec![Listener::tcp(SocketAddr::from(([127, 0, 0, 1], 1883)))].into(),
        };
        let letters = (0..shards).map(|_| LetterBatch::default()).collect();
        let (outbox, records) = (Vec::new(), RecordBatch::default());
        let ports =
            Nothing { random: 0, sent: 0, outbox, letters, records, waiting: ShardSet::EMPTY };
        Workbench { shard: Shard::new(settings, &rules), ports, now, clients: 0, told: 0 }
    }

    /// A client at home on this shard.
    pub(crate) fn client(&mut self, version: Version) -> ConnectionId {
        let client_id = if version == Version::V31 { "old" } else { "" };
        self.client_by(&Connect { keep_alive: 60, ..Connect::new(version, client_id) })
    }

    /// A client that connects like this.
    pub(crate) fn client_by(&mut self, connect: &Connect<'_>) -> ConnectionId {
        let id = ConnectionId { slot: self.clients, generation: 0 };
        self.clients += 1;
        let peer = SocketAddr::from(([127, 0, 0, 1], 9));
        let (surplus, connections_max) = (false, 10_000);
        let arrival = Arrival { listener: 0, peer, surplus, connections_max, handed_over: false };
        self.shard.handle_accepted(self.now, id, arrival, &mut self.ports);
        self.hand_in(id, &encode(&Packet::Connect(*connect), connect.version));
        id
    }

    pub(crate) fn subscribe(&mut self, id: ConnectionId, version: Version, filter: &str, qos: QoS) {
        self.ask(id, &subscribe(version, filter, qos));
    }

    /// Hands in a SUBSCRIBE or an UNSUBSCRIBE, and what the other shard has to say to it.
    pub(crate) fn ask(&mut self, id: ConnectionId, bytes: &[u8]) {
        self.hand_in(id, bytes);
        self.apply_interest();
    }

    /// One turn with whole packets of one client.
    pub(crate) fn hand_in(&mut self, id: ConnectionId, bytes: &[u8]) {
        self.ports.flush();
        self.take_in(id, bytes);
    }

    /// Whole packets of one client, within a turn.
    #[expect(clippy::inline_always, reason = "a call of its own would be counted, too")]
    #[inline(always)]
    pub(crate) fn take_in(&mut self, id: ConnectionId, bytes: &[u8]) {
        let taken = self.shard.handle_bytes(self.now, id, bytes, &mut self.ports);
        assert_eq!(taken, bytes.len());
    }

    /// One turn with letters of the other shard.
    pub(crate) fn hear(&mut self, letters: &LetterBatch) {
        self.ports.flush();
        self.take_letters(ShardId::new(1).expect("there may be a second shard"), letters);
    }

    /// Letters of another shard, within a turn. Returns how many were handled.
    #[expect(clippy::inline_always, reason = "a call of its own would be counted, too")]
    #[inline(always)]
    pub(crate) fn take_letters(&mut self, from: ShardId, letters: &LetterBatch) -> usize {
        self.shard.handle_letters(self.now, from, letters, &mut self.ports)
    }

    /// The other shard applies what it was told, so that the SUBACK can go out.
    fn apply_interest(&mut self) {
        let Some(letters) = self.ports.letters.get(1) else { return };
        let told = letters.iter().filter(|letter| matches!(letter, Letter::Interest { .. }));
        self.told += told.count() as u64;
        let mut answer = LetterBatch::default();
        answer.push(Letter::InterestApplied { upto: self.told });
        self.hear(&answer);
    }
}

/// Everything around the shard, without memory of its own after warm-up.
pub(crate) struct Nothing {
    random: u64,
    /// Packets that have left, ever.
    pub(crate) sent: u64,
    /// What has left in this turn, for whichever client; large payloads left out.
    pub(crate) outbox: Vec<u8>,
    /// By shard, what is posted at the end of this turn.
    pub(crate) letters: Vec<LetterBatch>,
    records: RecordBatch,
    /// The shards with something to be posted.
    pub(crate) waiting: ShardSet,
}

impl Nothing {
    fn flush(&mut self) {
        self.outbox.clear();
        self.letters.iter_mut().for_each(LetterBatch::clear);
        self.records.clear();
    }
}

impl Ports for Nothing {
    fn outbox_room(&self, _: ConnectionId) -> usize {
        1 << 20
    }

    fn take_backlog(&mut self, _: ConnectionId) -> Backlog {
        Backlog::default()
    }

    fn send(&mut self, _: ConnectionId, frame: &[u8]) {
        self.sent += 1;
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

    fn records(&mut self) -> &mut RecordBatch {
        &mut self.records
    }

    fn record_mark(&self) -> u64 {
        1
    }

    fn letters(&mut self, to: ShardId) -> &mut LetterBatch {
        self.waiting.insert(to);
        &mut self.letters[to.index()]
    }

    fn can_verify(&self) -> bool {
        false
    }

    fn verify(&mut self, _: ConnectionId, _: Verification) {}

    fn random(&mut self) -> u64 {
        self.random += 1;
        self.random
    }

    fn secret(&mut self) -> Secret {
        u128::from(self.random()).to_be_bytes()
    }

    fn load(&self) -> Load {
        Load::default()
    }
}

/// The bytes of a PUBLISH without properties.
pub(crate) fn publish(
    version: Version,
    delivery: Delivery,
    topic: &str,
    payload: &[u8],
) -> Vec<u8> {
    let publish = Publish {
        dup: false,
        retain: false,
        delivery,
        topic,
        properties: PublishProperties::default(),
        payload,
    };
    encode(&Packet::Publish(publish), version)
}

/// The bytes of a SUBSCRIBE with one filter.
pub(crate) fn subscribe(version: Version, filter: &str, qos: QoS) -> Vec<u8> {
    let filters = [(filter, SubscriptionOptions::with_qos(qos))];
    let subscribe = Subscribe {
        packet_id: PacketId::MIN,
        subscription_identifier: None,
        user_properties: UserProperties::default(),
        filters: SubscribeFilters::List(&filters[..]),
    };
    encode(&Packet::Subscribe(subscribe), version)
}

fn encode(packet: &Packet<'_>, version: Version) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes);
    bytes
}

fn limits() -> Limits {
    Limits {
        packet_size_max: 1 << 20,
        connect_size_max: 128 << 10,
        outbox_bytes_max: 1 << 20,
        inflight_max: 64,
        queue: QueueLimits { messages_max: 1000, bytes_max: 1 << 20 },
        when_queue_full: WhenQueueFull::Drop,
        receive_maximum: 1024,
        topic_alias_maximum: 0,
        topic_aliases_max: 32,
        session_expiry_max: u32::MAX,
        connect_timeout: Span::from_secs(10),
        rate_timeout: Span::from_secs(10),
        patience: Span::from_millis(200),
        sessions_max: 100_000,
        topic_levels_max: 200,
        user_properties_max: 10_000,
        user_property_bytes_max: 1 << 20,
        subscribe_filters_max: 1_000_000,
        subscriptions_max: 1000,
        subscription_bytes_max: 64 << 20,
        wildcard_patterns_max: 512,
        retained_max: 1000,
        retained_bytes_max: 1 << 20,
        slice_steps: ringmq::shard::rules::SLICE_STEPS,
        password_checks_max: 1024,
    }
}
