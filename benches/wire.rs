//! Bytes to packets and back.

#[path = "support/samples.rs"]
mod samples;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use samples::{PAYLOAD, application, decode, heads, received};

fn decoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(1));
    for (name, version, bytes) in received() {
        group.bench_function(name, |b| b.iter(|| decode(black_box(&bytes), version)));
    }
    group.finish();
}

fn encoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(1));
    for (name, version, head) in heads(&application()) {
        let mut out = Vec::new();
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                black_box(&head).encode(version, &mut out);
                black_box(out.as_slice());
            });
        });
        assert_eq!(out.len() + PAYLOAD.len(), head.len(version));
    }
    group.finish();
}

criterion_group!(benches, decoding, encoding);
criterion_main!(benches);
