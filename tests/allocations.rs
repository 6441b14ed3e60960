//! Budgets of memory: what one forwarded message may allocate.
//!
//! The counters are of one thread each, and so every test has its own.

#[path = "support/workbench.rs"]
mod workbench;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::Arc,
};

use ringmq::{
    base::{
        hash::Seed,
        ids::{ConnectionId, ShardId},
        time::Moment,
    },
    mqtt::{
        Connect, ConnectProperties, Delivery, Packet, PacketId, QoS, Unsubscribe,
        UnsubscribeFilters, UserProperties, Version,
    },
    routing::{Change, Counts, RetainedStore, Stamp, Trie},
    session::message::{Message, MessageView, Payload},
    shard::letter::LetterBatch,
    topic::{ShareName, SharedFilter, TopicFilter, TopicName},
};
use workbench::{Workbench, publish};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    /// Bytes that are allocated and not freed.
    static LIVE: Cell<usize> = const { Cell::new(0) };
    /// The most that there have been.
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, with a count of what this thread asks it for.
struct Counting;

#[expect(unsafe_code, reason = "an allocator cannot be counted from outside")]
// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        LIVE.with(|live| live.set(live.get().wrapping_add(layout.size())));
        PEAK.with(|peak| peak.set(peak.get().max(LIVE.get())));
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

/// Allocations and deliveries of `rounds` times the same packets from one client.
fn count(bench: &mut Workbench, client: ConnectionId, bytes: &[u8], rounds: u64) -> (u64, u64) {
    let (allocations, sent) = (ALLOCATIONS.get(), bench.ports.sent);
    for _ in 0..rounds {
        bench.hand_in(client, bytes);
    }
    (ALLOCATIONS.get() - allocations, bench.ports.sent - sent)
}

#[test]
fn forwarding_a_small_qos_0_message_allocates_nothing() {
    for version in [Version::V311, Version::V5] {
        for shards in [1, 2] {
            let mut bench = Workbench::new(shards);
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
                letters.push_interest(TopicFilter::from_valid("room/1/#"), true);
                bench.hear(&letters);
            }
            let payload = [b'x'; 1024];
            let mut bytes = publish(version, Delivery::AtMostOnce, "room/1/temperature", &payload);
            bytes.extend(publish(version, Delivery::AtMostOnce, "room/1/temperature", b"20.5"));
            count(&mut bench, publisher, &bytes, 10);
            let (allocations, sent) = count(&mut bench, publisher, &bytes, 1000);
            assert_eq!(allocations, 0, "{version:?} on {shards} shards");
            if shards == 1 {
                assert_eq!(sent, 6000);
            }
        }
    }
}

#[test]
fn forwarding_by_topic_alias_allocates_nothing() {
    let mut bench = Workbench::new(1);
    let publisher = bench.client(Version::V5);
    for topic_alias_maximum in [1, 2, 8] {
        let connect = Connect::new(Version::V5, "");
        let properties = ConnectProperties { topic_alias_maximum, ..connect.properties };
        let client = bench.client_by(&Connect { properties, ..connect });
        bench.subscribe(client, Version::V5, "room/#", QoS::AtMostOnce);
    }
    let topics = ["room/1/temperature", "room/2/temperature", "room/3/temperature"];
    let bytes: Vec<u8> = topics
        .iter()
        .flat_map(|topic| publish(Version::V5, Delivery::AtMostOnce, topic, b"20.5"))
        .collect();
    count(&mut bench, publisher, &bytes, 10);
    let (allocations, sent) = count(&mut bench, publisher, &bytes, 1000);
    assert_eq!((allocations, sent), (0, 9000));
}

/// The bytes of an UNSUBSCRIBE.
fn unsubscribe(filter: &str) -> Vec<u8> {
    let unsubscribe = Unsubscribe {
        packet_id: PacketId::MIN,
        user_properties: UserProperties::default(),
        filters: UnsubscribeFilters::List(&[filter]),
    };
    let mut bytes = Vec::new();
    Packet::Unsubscribe(unsubscribe).encode(Version::V311, &mut bytes);
    bytes
}

fn hear_interest(bench: &mut Workbench, filter: &str, wanted: bool) {
    let mut letters = LetterBatch::default();
    letters.push_interest(TopicFilter::from_valid(filter), wanted);
    bench.hear(&letters);
}

/// Filters come and go, here and on the other shard. Tables may grow once; a single byte for each
/// filter would be more than that.
#[test]
fn filters_that_come_and_go_leave_no_memory_behind() {
    let mut bench = Workbench::new(2);
    let client = bench.client(Version::V311);
    let mut held = Vec::new();
    for round in 0..24 {
        // Other names in each round, of the same lengths.
        let name = |n| format!("churn/{round:02}/{n:04}/+");
        let filters: Vec<String> = (0..2_000).map(name).collect();
        for filter in &filters {
            bench.subscribe(client, Version::V311, filter, QoS::AtLeastOnce);
            hear_interest(&mut bench, filter, true);
        }
        for filter in &filters {
            bench.ask(client, &unsubscribe(filter));
            hear_interest(&mut bench, filter, false);
        }
        drop(filters);
        held.push(LIVE.get());
    }
    let grown = held[23].saturating_sub(held[2]);
    assert!(grown <= 16 << 10, "{held:?}");
}

/// What 10,000 clients with one subscription each may take of a shard's memory. The runtime's part
/// comes on top; both together are to stay within 1 KiB.
#[test]
fn an_idle_client_takes_little_memory() {
    let mut bench = Workbench::new(2);
    let before = LIVE.get();
    for n in 0..10_000 {
        let client = bench.client(Version::V311);
        bench.subscribe(client, Version::V311, &format!("bench/{n}/x"), QoS::AtMostOnce);
    }
    let own = (LIVE.get() - before) / 10_000;
    let before = LIVE.get();
    for n in 0..10_000 {
        let mut letters = LetterBatch::default();
        let filter = format!("bench/other-{n}/x");
        letters.push_interest(TopicFilter::from_valid(&filter), true);
        bench.hear(&letters);
    }
    let replica = (LIVE.get() - before) / 10_000;
    assert!(own <= 708, "{own} bytes for a client at home here");
    assert!(replica <= 48, "{replica} bytes for a filter that another shard wants");
}

/// What each further shard takes for a filter: the mean over three sizes, and the most at any time
/// while the filters come.
#[test]
fn a_filter_takes_little_memory_of_a_further_shard() {
    let other = ShardId::new(1).expect("there may be a second shard");
    for wildcard in [false, true] {
        let text = |n: usize| {
            let plain = format!("site/{:03}/device/{n:07}/state", n % 100);
            if wildcard { format!("site/{n:07}/+/state") } else { plain }
        };
        let (mut trie, before) = (Trie::new(Seed::new(1)), LIVE.get());
        let (mut means, mut added) = (Vec::new(), 0);
        for size in [100_000, 300_000, 1_000_000] {
            while added < size {
                PEAK.set(LIVE.get());
                for _ in 0..1_000 {
                    trie.add_interest(TopicFilter::from_valid(&text(added)), other);
                    added += 1;
                }
                let peak = (PEAK.get() - before) / added;
                assert!(peak <= 48 || added < 10_000, "{peak} bytes of {added} at the peak");
            }
            means.push((LIVE.get() - before) / size);
        }
        let mean = means.iter().sum::<usize>() / means.len();
        assert!(mean <= 24, "{means:?} bytes for a filter on a further shard");
        for n in 0..added {
            assert!(trie.remove_interest(TopicFilter::from_valid(&text(n)), other));
        }
        // Each part of the table keeps room for some entries.
        let left = LIVE.get().saturating_sub(before);
        assert!(left <= 512 << 10, "{left} bytes are left");
    }
}

/// A share group whose members are all on one other shard.
#[test]
fn a_share_group_of_another_shard_takes_bounded_memory() {
    let (mut bench, count) = (Workbench::new(2), 10_000);
    let before = LIVE.get();
    for n in 0..count {
        let filter = format!("site/{:03}/{n:08}/s", n % 100);
        let group = SharedFilter {
            share: ShareName::parse("workers").expect("a ShareName"),
            filter: TopicFilter::from_valid(&filter),
        };
        let mut letters = LetterBatch::default();
        letters.push_group(group, Counts { online: 1, all: 1, ..Counts::default() });
        bench.hear(&letters);
    }
    let replica = (LIVE.get() - before) / count;
    assert!(replica <= 480, "{replica} bytes for a share group of another shard");
}

/// Changes of retained messages as another shard has made them, with topics of 27 bytes.
fn retained(count: u64, time: u64, is_stored: bool) -> Vec<Arc<Change<Message>>> {
    let change = |n: u64| {
        // Neighbours in the order of names come at different times.
        let topic = format!("site/{:05}/device/{n:06}/t", n * 7_919 % 100_000);
        let view = MessageView {
            topic: TopicName::from_valid(&topic),
            application: &[],
            payload: Payload::Small(&[b'x'; 64]),
            qos: QoS::AtLeastOnce,
            retain: true,
            expires_at: n.is_multiple_of(2).then(|| Moment::from_nanos(1 + n)),
            publisher: None,
            publisher_hash: 0,
        };
        let stamp = Stamp { time, shard: ShardId::FIRST };
        let message = is_stored.then(|| Message::keep(&view));
        Arc::new(Change::new(view.topic, message, stamp))
    };
    (0..count).map(change).collect()
}

/// What each further shard takes for a retained message, half of which expire. What is removed or
/// has expired leaves nothing.
#[test]
fn a_retained_message_takes_little_memory_of_a_further_shard() {
    let count = 50_000;
    let (stored, removed) = (retained(count, 1, true), retained(count, 2, false));
    let mut store = RetainedStore::default();
    let before = LIVE.get();
    for change in &stored {
        assert!(store.apply(change));
    }
    let replica = (LIVE.get() - before) as u64 / count;
    assert!(replica <= 32, "{replica} bytes for a retained message on a further shard");
    while store.expire_next(Moment::from_nanos(count / 2)) {}
    for change in &removed {
        assert!(store.apply(change));
    }
    while store.forget_tombstones(u64::MAX) {}
    let left = LIVE.get() - before;
    assert!(left <= 4 << 10, "{left} bytes are left");
}
