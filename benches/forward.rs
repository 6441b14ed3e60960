//! One PUBLISH through a whole shard without sockets: from received bytes to outboxes and letters.

#[path = "support/forwarding.rs"]
mod forwarding;
#[path = "../tests/support/workbench.rs"]
mod workbench;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use forwarding::{
    AT_LEAST_ONCE, EXACTLY_ONCE, acknowledged, across, long_topic, publisher_for_elsewhere, qos_0,
    shared, subscriber,
};
use ringmq::{
    mqtt::{Delivery, QoS},
    runtime::Allocator,
};
use workbench::Workbench;

/// The broker's own: a message at QoS 1 is kept until it is acknowledged.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn within_a_shard(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("forward");
    for subscribers in [1, 500] {
        group.throughput(Throughput::Elements(subscribers));
        let mut forward = qos_0(1, subscribers);
        group.bench_function(format!("QoS 0 to {subscribers}"), |b| b.iter(&mut forward));
    }
    group.throughput(Throughput::Elements(10));
    let mut forward = qos_0(10, 1);
    group.bench_function("QoS 0 to 1, ten in a run", |b| b.iter(&mut forward));
    let mut forward = shared(8);
    group.bench_function("QoS 0 to one member of 8", |b| b.iter(&mut forward));
    group.throughput(Throughput::Elements(101));
    for (name, aliases) in [("5.0", 0), ("by alias", 8)] {
        let mut forward = long_topic(aliases);
        group.bench_function(format!("long topic to 101, {name}"), |b| b.iter(&mut forward));
    }
    group.throughput(Throughput::Elements(1));
    let mut forward = acknowledged(AT_LEAST_ONCE);
    group.bench_function("QoS 1 to 1, acknowledged", |b| b.iter(&mut forward));
    let mut forward = acknowledged(EXACTLY_ONCE);
    group.bench_function("QoS 2 to 1, acknowledged", |b| b.iter(&mut forward));
    group.finish();
}

fn across_shards(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("across");
    group.throughput(Throughput::Elements(1));
    let mut post = into_a_letter();
    group.bench_function("QoS 0 into a letter", |b| b.iter(&mut post));
    let mut hear = out_of_a_letter();
    group.bench_function("QoS 0 out of a letter to 1", |b| b.iter(&mut hear));
    for delivery in [Delivery::AtMostOnce, AT_LEAST_ONCE, EXACTLY_ONCE] {
        let mut forward = across(delivery);
        let name = format!("QoS {} to 1", delivery.qos() as u8);
        group.bench_function(name, |b| b.iter(&mut forward));
    }
    group.finish();
}

/// A message that only the other shard wants.
fn into_a_letter() -> impl FnMut() {
    let (mut bench, post) = publisher_for_elsewhere(Delivery::AtMostOnce);
    move || {
        post(&mut bench);
        assert!(!bench.ports.letters[1].is_empty());
    }
}

/// The other end: the letter of such a message, to a subscriber here.
fn out_of_a_letter() -> impl FnMut() {
    let (mut elsewhere, post) = publisher_for_elsewhere(Delivery::AtMostOnce);
    post(&mut elsewhere);
    let letters = elsewhere.ports.letters.remove(1);
    let mut bench = Workbench::new(2);
    subscriber(&mut bench, QoS::AtMostOnce);
    move || {
        let before = bench.ports.sent;
        bench.hear(&letters);
        assert_eq!(bench.ports.sent - before, 1);
    }
}

criterion_group!(benches, within_a_shard, across_shards);
criterion_main!(benches);
