//! For how long publishers wait for subscribers that read slowly, on purpose or not.

use ringmq::{
    access::Policy,
    base::time::Span,
    mqtt::{Delivery, QoS, Version},
    shard::rules::Limits,
};

use crate::{
    SHARDS, join_as, publish, subscriber,
    world::{World, limits},
};

const V5: Version = Version::V5;
const MILLI: Span = Span::from_millis(1);
const PATIENCE: Span = Span::from_millis(500);
const OUTBOX: usize = 64 << 10;

fn world(shards: usize) -> World {
    let limits = Limits { outbox_bytes_max: OUTBOX, patience: PATIENCE, ..limits() };
    World::with(shards, &limits, &Policy::default())
}

/// Subscribers that do not read, each from this address.
fn deaf(world: &mut World, count: u8, address: impl Fn(u8) -> [u8; 4]) -> Vec<usize> {
    let mut subscribers = Vec::new();
    for n in 0..count {
        world.peer = address(n);
        let name = format!("slow {n}");
        let client = subscriber(world, V5, &name, "t", QoS::AtMostOnce);
        world.reads(client, false);
        subscribers.push(client);
    }
    world.peer = [198, 51, 100, 1];
    subscribers
}

/// An innocent client publishes a kilobyte every millisecond, for so many of them. Says in which of
/// them it had to wait. `read` is what the subscribers do in a millisecond.
fn waits(world: &mut World, millis: u64, mut read: impl FnMut(&mut World, u64)) -> Vec<bool> {
    let writer = join_as(world, V5, "writer");
    let payload = "x".repeat(1_000);
    let mut waits = Vec::new();
    for milli in 0..millis {
        if world.is_read_from(writer) {
            publish(world, writer, V5, "t", Delivery::AtMostOnce, &payload);
        }
        world.pass(MILLI);
        read(world, milli);
        waits.push(!world.is_read_from(writer));
    }
    waits
}

/// The longest time, in milliseconds, that the client had to wait in any ten seconds.
fn longest(waits: &[bool]) -> usize {
    let count = |window: &[bool]| window.iter().filter(|&&waits| waits).count();
    waits.windows(10_000).map(count).max().unwrap_or_else(|| count(waits))
}

/// Each reads all that has come when it is nearly too late, at a time of its own.
fn reads_late(world: &mut World, subscribers: &[usize], milli: u64) {
    for (&client, n) in subscribers.iter().zip(0..) {
        if milli > 450 && milli % 450 == n * 9 {
            world.read_some(client, OUTBOX);
        }
    }
}

#[test]
fn one_slow_reader_delays_a_publisher_for_at_most_100_ms_in_any_10_s() {
    for shards in SHARDS {
        let mut world = world(shards);
        let slow = deaf(&mut world, 1, |_| [192, 0, 2, 1]);
        // A quarter of the outbox in 60 ms would be fast.
        let waits = waits(&mut world, 25_000, |world, milli| {
            if milli % 10 == 0 {
                world.read_some(slow[0], 2_500);
            }
        });
        let longest = longest(&waits);
        assert!((20..=100).contains(&longest), "{longest} ms");
        assert!(world.counters().waits_ended > 0 && world.counters().dropped_outbox_full > 0);
    }
}

#[test]
fn fifty_slow_readers_delay_a_publisher_for_no_longer_whether_of_one_account_or_of_many() {
    let one: fn(u8) -> [u8; 4] = |_| [192, 0, 2, 1];
    let many: fn(u8) -> [u8; 4] = |n| [192, 0, 2, n];
    for address in [one, many] {
        let mut world = world(2);
        let slow = deaf(&mut world, 50, address);
        let waits = waits(&mut world, 11_000, |world, milli| {
            if milli % 50 == 0 {
                for &client in &slow {
                    world.read_some(client, 150);
                }
            }
        });
        let longest = longest(&waits);
        assert!((20..=100).contains(&longest), "{longest} ms");
    }
}

#[test]
fn who_reads_all_just_in_time_again_and_again_is_a_slow_reader_too() {
    let mut world = world(2);
    let slow = deaf(&mut world, 50, |n| [192, 0, 2, n]);
    let waits = waits(&mut world, 11_000, |world, milli| reads_late(world, &slow, milli));
    let longest = longest(&waits);
    assert!(longest <= 100, "{longest} ms");
}

/// Saturation: the publisher sends as fast as it is read from.
#[test]
fn a_fast_reader_slows_its_publisher_down_for_as_long_as_it_takes_and_loses_nothing() {
    for shards in SHARDS {
        let mut world = world(shards);
        let reader = deaf(&mut world, 1, |_| [192, 0, 2, 1])[0];
        let writer = join_as(&mut world, V5, "writer");
        let payload = "x".repeat(1_000);
        let (mut sent, mut held) = (0, 0);
        for _ in 0..5_000 {
            for _ in 0..20 {
                if world.is_read_from(writer) {
                    publish(&mut world, writer, V5, "t", Delivery::AtMostOnce, &payload);
                    sent += 1;
                }
            }
            held += u32::from(!world.is_read_from(writer));
            world.pass(MILLI);
            world.read_some(reader, 1_000);
        }
        world.reads(reader, true);
        let received = world.received(reader).len();
        assert_eq!(received, sent, "{shards} {held} {:?}", world.counters());
        assert!((4_900..5_200).contains(&sent), "as many as are read: {sent}");
        assert!(held > 3_000, "held in {held} of 5,000 ms");
        assert_eq!(world.counters().dropped_outbox_full, 0);
        assert_eq!(world.counters().patience_exhausted, 0);
    }
}

#[test]
fn a_device_that_stalls_once_for_half_a_second_loses_nothing() {
    for shards in SHARDS {
        let mut world = world(shards);
        let device = deaf(&mut world, 1, |_| [192, 0, 2, 1])[0];
        let mut read = 0;
        let waits = waits(&mut world, 3_000, |world, milli| {
            if !(1_000..1_450).contains(&milli) {
                world.read_some(device, 4_000);
                read = milli;
            }
        });
        assert_eq!(read, 2_999);
        assert!(longest(&waits) <= 500);
        assert_eq!(world.counters().dropped_outbox_full, 0);
    }
}
