//! What it costs to say something to one client, up to the kernel.

#[path = "support/flushing.rs"]
mod flushing;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flushing::SHAPES;
use ringmq::runtime::Allocator;

/// The broker's own.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn flush(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("flush an outbox");
    for shape in &SHAPES {
        group.throughput(Throughput::Elements(shape.frames as u64));
        let mut flush = shape.flush();
        group.bench_function(shape.name, |b| b.iter(&mut flush));
    }
    group.finish();
}

criterion_group!(benches, flush);
criterion_main!(benches);
