//! What the store says of itself: how much room it takes, what it writes, and how long the disk
//! takes for it.
//!
//! The storage thread counts. A shard only passes the figures on.

use crate::base::time::Span;

/// What the store can do at present.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoreCondition {
    /// All records are taken.
    #[default]
    Running = 0,
    /// The disk or `--max-store-bytes` is nearly full. Records that end something are taken;
    /// a shard posts no new messages.
    Full = 1,
    /// A write has failed. Nothing more becomes durable, and the broker ends.
    Failed = 2,
}

impl StoreCondition {
    pub const ALL: [StoreCondition; 3] =
        [StoreCondition::Running, StoreCondition::Full, StoreCondition::Failed];

    /// The payload of `$SYS/broker/store/condition`.
    pub fn word(self) -> &'static str {
        match self {
            StoreCondition::Running => "ok",
            StoreCondition::Full => "full",
            StoreCondition::Failed => "failed",
        }
    }
}

/// The bounds by which the lengths of syncs are told, in microseconds.
pub const SYNC_BOUNDS: [u64; 12] =
    [50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, SLOW_SYNC_MICROS, 1_000_000];

/// Whether a figure has the present value, or grows from the start of the broker on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FigureKind {
    Now,
    Total,
}

/// One figure with its topic below `$SYS/broker/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreFigure {
    pub topic: &'static str,
    pub meaning: &'static str,
    pub kind: FigureKind,
    pub value: u64,
}

/// Declares the figures once: field, meaning, kind, and the place under `$SYS/broker/`.
macro_rules! figures {
    ($($(#[doc = $meaning:literal])* $kind:ident $field:ident => $topic:literal,)*) => {
        /// The figures of the store since the start of the broker.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct StoreFigures {
            pub condition: StoreCondition,
            $($(#[doc = $meaning])* pub $field: u64,)*
            /// How many syncs took as long as each of [`SYNC_BOUNDS`] or less.
            pub syncs_within: [u64; SYNC_BOUNDS.len()],
        }

        impl StoreFigures {
            /// Each figure that is a number.
            pub fn all(&self) -> impl Iterator<Item = StoreFigure> {
                [$(StoreFigure {
                    topic: $topic,
                    meaning: concat!($($meaning),*).trim_ascii(),
                    kind: FigureKind::$kind,
                    value: self.$field,
                },)*].into_iter()
            }
        }
    };
}

figures! {
    /// Bytes of the segments that count or are ready, on disk.
    Now bytes => "store/bytes",
    /// Bytes of the records that count.
    Now live_bytes => "store/live-bytes",
    /// The records that count.
    Now live_records => "store/live-records",
    /// Bytes of records that wait for the disk.
    Now queued_bytes => "store/queued-bytes",
    /// Segments that count.
    Now segments => "store/segments",
    /// Segments that are ready to be written.
    Now ready_segments => "store/ready-segments",
    /// Segments that cleaning has freed.
    Total cleaned_segments => "store/cleaned-segments",
    /// Records that shards have written.
    Total records => "store/records",
    /// Records that cleaning has written again.
    Total rewritten_records => "store/rewritten-records",
    /// Groups that were written, each by one write.
    Total groups => "store/groups",
    /// Bytes of all groups that were written.
    Total written_bytes => "store/written-bytes",
    /// Times that the store became full.
    Total filled => "store/filled",
    /// Times that the disk was asked to confirm what was written.
    Total syncs => "store/syncs",
    /// Syncs that took longer than 100 ms.
    Total slow_syncs => "store/slow-syncs",
    /// Nanoseconds that all syncs took together.
    Total sync_nanos => "store/sync-ns",
    /// Nanoseconds that the longest sync took.
    Now sync_nanos_max => "store/sync-max-ns",
}

impl StoreFigures {
    /// A sync has ended.
    pub fn count_sync(&mut self, took: Span) {
        self.syncs += 1;
        self.sync_nanos += took.as_nanos();
        self.sync_nanos_max = self.sync_nanos_max.max(took.as_nanos());
        self.slow_syncs += u64::from(took > Span::from_micros(SLOW_SYNC_MICROS));
        for (count, bound) in self.syncs_within.iter_mut().zip(SYNC_BOUNDS) {
            *count += u64::from(took <= Span::from_micros(bound));
        }
    }
}

const SLOW_SYNC_MICROS: u64 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syncs_are_told_apart_by_their_length() {
        let mut figures = StoreFigures::default();
        for micros in [50, 51, 900, 100_000, 100_001, 3_000_000] {
            figures.count_sync(Span::from_micros(micros));
        }
        assert_eq!(figures.syncs_within, [1, 2, 2, 2, 3, 3, 3, 3, 3, 3, 4, 5]);
        assert_eq!((figures.syncs, figures.slow_syncs), (6, 2));
        assert_eq!(figures.sync_nanos_max, 3_000_000_000);
        assert_eq!(figures.sync_nanos, 3_201_002_000);
    }

    #[test]
    fn each_figure_has_a_topic_of_its_own_that_the_page_explains() {
        let page = include_str!("../../docs/sys.md");
        let mut topics: Vec<_> = StoreFigures::default().all().map(|it| it.topic).collect();
        topics.push("store/condition");
        for topic in &topics {
            assert!(page.contains(&format!("| `{topic}` |")), "{topic}");
        }
        let count = topics.len();
        topics.sort_unstable();
        topics.dedup();
        assert_eq!(topics.len(), count);
    }
}
