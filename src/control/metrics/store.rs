//! The figures of the store, if there is one.

use super::{
    families::seconds,
    text::{Kind, Text},
};
use crate::{
    base::time::Span,
    shard::store_figures::{FigureKind, SYNC_BOUNDS, StoreCondition, StoreFigures},
};

pub(super) fn tell(text: &mut Text, figures: &StoreFigures) {
    tell_condition(text, figures.condition);
    for figure in figures.all().filter(|figure| !OF_SYNCS.contains(&figure.topic)) {
        let (kind, total) = match figure.kind {
            FigureKind::Now => (Kind::Gauge, ""),
            FigureKind::Total => (Kind::Counter, "_total"),
        };
        let name = format!("ringmq_{}{total}", figure.topic.replace(['/', '-'], "_"));
        text.single(&name, kind, figure.meaning, figure.value);
    }
    tell_syncs(text, figures);
}

/// One of the samples is 1.
fn tell_condition(text: &mut Text, now: StoreCondition) {
    let name = "ringmq_store_condition";
    text.family(name, Kind::Gauge, "1 for what the store can do at present.");
    for condition in StoreCondition::ALL {
        text.labelled(name, ("condition", condition.word()), u8::from(condition == now));
    }
}

fn tell_syncs(text: &mut Text, figures: &StoreFigures) {
    let longest = seconds(Span::from_nanos(figures.sync_nanos_max));
    let name = "ringmq_store_sync_max_seconds";
    text.single(name, Kind::Gauge, "How long the longest sync took.", longest);
    let name = "ringmq_store_sync_seconds";
    text.family(name, Kind::Histogram, "How long the disk took to confirm what was written.");
    for (bound, count) in SYNC_BOUNDS.iter().zip(figures.syncs_within) {
        let bound = seconds(Span::from_micros(*bound));
        text.line(format_args!("{name}_bucket{{le=\"{bound}\"}} {count}"));
    }
    text.line(format_args!("{name}_bucket{{le=\"+Inf\"}} {}", figures.syncs));
    text.sample(&format!("{name}_sum"), seconds(Span::from_nanos(figures.sync_nanos)));
    text.sample(&format!("{name}_count"), figures.syncs);
}

/// The topics that the histogram and the longest sync tell.
const OF_SYNCS: [&str; 3] = ["store/syncs", "store/sync-ns", "store/sync-max-ns"];
