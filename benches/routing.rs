//! Who wants a message, among few filters and among many.

#[path = "support/forest.rs"]
mod forest;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use forest::{Forest, SHAPES, entry, filter};

fn matching(criterion: &mut Criterion) {
    for shape in &SHAPES {
        let mut group = criterion.benchmark_group(format!("match {}", shape.name));
        group.throughput(Throughput::Elements(1));
        for filters in [1, 1_000, 1_000_000] {
            let mut forest = Forest::new(shape, filters);
            let id = BenchmarkId::new("filters", filters);
            group.bench_function(id, |b| b.iter(|| forest.match_next()));
        }
        group.finish();
    }
}

/// One filter comes and goes among all those that stay.
fn subscribing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("subscribe and unsubscribe");
    group.throughput(Throughput::Elements(1));
    for shape in &SHAPES {
        let mut trie = Forest::new(shape, FILTERS).trie;
        let (filter, entry) = (filter("site/new/+/temperature"), entry(FILTERS));
        group.bench_function(format!("among {FILTERS} filters, {}", shape.name), |b| {
            b.iter(|| {
                trie.subscribe(filter, entry);
                trie.unsubscribe(filter, entry.subscriber)
            });
        });
    }
    group.finish();
}

const FILTERS: u32 = 100_000;

criterion_group!(benches, matching, subscribing);
criterion_main!(benches);
