//! How much room there is, who may use it, and when cleaning has to make more.
//!
//! Some segments are always ready before a store takes more messages. When no more can be made, the
//! store is full, and these are for acknowledgements and for cleaning.

use std::{io, time::Duration};

use tracing::{info, warn};

use super::{fault::StoreFault, handle::Posts, supply::READY, writer::Writer};
use crate::{shard::store_figures::StoreCondition, storage::segment::BLOCK};

/// How much room a store takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpaceLimits {
    /// Bytes of each new segment; `None`: an eighth of what counts, 1 to 64 MiB.
    pub(super) segment_bytes: Option<usize>,
    /// Bytes of all files.
    pub(super) bytes_max: usize,
}

impl SpaceLimits {
    /// Bytes of the next segment, with so many bytes of records that count.
    pub(super) fn bytes_of_next(&self, live_bytes: usize) -> usize {
        let eighth = (live_bytes / 8).next_multiple_of(SEGMENT_BYTES_MIN);
        let adapted = eighth.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
        self.segment_bytes.unwrap_or(adapted)
    }
}

/// The room of a store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) limits: SpaceLimits,
    /// No more segments can be made.
    pub(super) is_full: bool,
    /// Segments that were cleaned since the store became full, or since the last whole pass.
    swept: usize,
    /// The gain that was left after a whole pass over a full store: another pass would not free it.
    residue: usize,
}

impl Room {
    pub(super) fn new(limits: SpaceLimits) -> Room {
        Room { limits, is_full: false, swept: 0, residue: 0 }
    }
}

impl Writer {
    /// Orders the segments that come next, while there is room for them.
    pub(super) fn order_segments(&mut self) -> Result<(), StoreFault> {
        self.supply.collect(Duration::ZERO);
        if let Some(error) = self.supply.take_failure() {
            return Err(StoreFault::Make { path: self.directory.path().into(), error });
        }
        if self.may_order() {
            self.supply.order(self.segment_bytes(), self.enough_ready());
        }
        Ok(())
    }

    pub(super) fn segment_bytes(&self) -> usize {
        self.room.limits.bytes_of_next(self.ledger.live_bytes())
    }

    /// Bytes of all segments that count.
    pub(super) fn bytes(&self) -> usize {
        self.active.bytes + self.used.iter().map(|used| used.bytes).sum::<usize>()
    }

    /// How many segments are to be ready. A store that is full needs some more before it takes
    /// messages again: otherwise it would be full again a moment later.
    pub(super) fn enough_ready(&self) -> usize {
        let all = self.room.limits.bytes_max / self.segment_bytes();
        READY + if self.room.is_full { all.saturating_sub(SEGMENTS_MIN).min(GAP) } else { 0 }
    }

    /// Whether the next segment may be taken. The others that are ready are kept for the time when
    /// no more can be made.
    pub(super) fn may_open(&self) -> bool {
        self.supply.ready() >= if self.room.is_full { 1 } else { READY }
    }

    /// Whether posts are taken. Of a full store, the last segment that is ready is for cleaning,
    /// which makes room.
    pub(super) fn takes_posts(&self) -> bool {
        let left = self.active.bytes.saturating_sub(self.active.offset);
        let has_spare = self.supply.ready() > 1 || left >= self.active.bytes / 4;
        !self.room.is_full || has_spare || !self.is_sweep_due()
    }

    /// Whether the oldest segment has to be cleaned.
    pub(super) fn is_sweep_due(&self) -> bool {
        self.may_sweep() && (self.is_long() || self.is_short_ahead() || self.is_scarce())
    }

    /// Whether there is a segment to clean now.
    pub(super) fn may_sweep(&self) -> bool {
        // What is read before the first batch of this process would be taken for its own, and what
        // shards of the process before were asked for is void then.
        !self.used.is_empty() && self.freed.is_none() && self.tally.records > 0
    }

    fn is_long(&self) -> bool {
        let slack = SLACK.min(self.room.limits.bytes_max / 4);
        self.bytes() > FACTOR * self.ledger.live_bytes() + slack
    }

    /// Whether room is short, and so much can be freed that it is worth the writes: then the store
    /// does not become full.
    pub(super) fn is_short_ahead(&self) -> bool {
        let (live, segment) = (self.ledger.live_bytes(), self.segment_bytes());
        // What comes and goes may lie behind all that stays, which is then read first.
        let is_short = self.room_left() < HEADROOM * segment + live / WORTH;
        is_short && self.gain() > (live / WORTH).max(2 * segment)
    }

    /// Whether a full store has something to free. Acknowledgements must not use up what is kept
    /// for them before this is so.
    fn is_scarce(&self) -> bool {
        self.room.is_full && self.gain() > self.room.residue + self.segment_bytes() / 2
    }

    /// Bytes of an old segment that are cleaned for each byte of records that comes.
    pub(super) fn sweep_pace(&self) -> usize {
        // A whole pass ends before so much has come as there was room for when it began.
        if self.is_short_ahead() { WORTH + 2 } else { FACTOR }
    }

    /// A segment has been cleaned.
    pub(super) fn count_swept(&mut self) {
        self.room.swept += 1;
        if self.room.is_full && self.room.swept >= self.used.len() {
            self.room.swept = 0;
            self.room.residue = self.gain();
        }
    }

    /// Bytes of groups beyond what counts. The rest of a segment that had no room for one group
    /// more is no gain: the next pass leaves such rests, too.
    fn gain(&self) -> usize {
        let before = self.used.iter().map(|used| used.end).sum::<usize>();
        let headers = (self.used.len() + 1) * BLOCK;
        (before + self.active.offset).saturating_sub(headers + self.ledger.live_bytes())
    }

    /// Bytes that the log can still grow by, besides the segments that are ready.
    fn room_left(&self) -> usize {
        self.limit_left().min(self.supply.disk_left())
    }

    /// Bytes up to the limit of all files.
    fn limit_left(&self) -> usize {
        self.room.limits.bytes_max.saturating_sub(self.bytes() + self.supply.bytes())
    }

    /// Whether one more segment is within the limit of all.
    fn may_order(&self) -> bool {
        self.segment_bytes() <= self.limit_left()
    }

    /// Whether there are fewer segments ahead than there have to be, and no more can be made.
    fn is_cramped(&self) -> bool {
        let is_short = self.supply.shortage().is_some() || !self.may_order();
        self.supply.ready() < READY && is_short
    }

    /// Tells the shards when room is short, and when there is enough again.
    pub(super) fn judge_room(&mut self, posts: &Posts) {
        let is_full = self.is_cramped();
        let is_short = self.supply.ready() < self.enough_ready();
        if is_full == self.room.is_full || (self.room.is_full && is_short) {
            return;
        }
        self.room = Room { is_full, ..Room::new(self.room.limits) };
        self.tally.filled += u64::from(is_full);
        self.tell_figures(posts);
        posts.set_condition(if is_full { StoreCondition::Full } else { StoreCondition::Running });
        let (bytes, live) = (self.bytes() + self.supply.bytes(), self.ledger.live_bytes());
        if is_full {
            let reason = self.supply.shortage().map(io::Error::to_string);
            let reason = reason.as_deref().unwrap_or("--max-store-bytes");
            warn!(bytes, live, reason, "the store is full: no durable message is taken");
        } else {
            info!(bytes, live, "the store has room again");
        }
    }
}

/// The log may take this many times what counts, and as much more.
const FACTOR: usize = 2;
const SLACK: usize = 64 << 20;
/// Cleaning begins when there is room for so many segments and a fourth of what counts, so that the
/// store does not become full meanwhile.
const HEADROOM: usize = 4;
/// It is worth the writes if more than a fourth of what counts can be freed: then one byte in five
/// that is read is free.
const WORTH: usize = 4;
/// Segments that have to be ready besides the usual ones until a full store has room again.
const GAP: usize = 2;
/// A store of so few segments has no room for a gap.
const SEGMENTS_MIN: usize = 8;
const SEGMENT_BYTES_MIN: usize = 1 << 20;
const SEGMENT_BYTES_MAX: usize = 64 << 20;
