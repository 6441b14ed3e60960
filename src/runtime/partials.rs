//! Memory for incomplete packets: how much of it there is, who pays when it is short, and which
//! packets take too long.
//!
//! Clients that have been let in have a pool of their own, so that strangers cannot take it. When a
//! pool is short, the payer that holds most of it pays, with the connections that hold much and
//! hold it for long.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
};

use super::payloads::Payloads;
use crate::base::{
    ids::ConnectionId,
    time::{Moment, Span},
};

/// Whose memory it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Pool {
    /// Clients that have not been let in.
    #[default]
    Strangers,
    Clients,
    /// Connections that have ended. The kernel still writes to their memory for a moment.
    Leaving,
}

/// What one connection has of a pool.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Share {
    pool: Pool,
    bytes: usize,
}

/// Limits for incomplete packets.
#[derive(Clone, Copy, Debug)]
pub(super) struct PartialLimits {
    /// Bytes of a shard for clients that have been let in.
    pub(super) clients_max: usize,
    /// Bytes of a shard for all others.
    pub(super) strangers_max: usize,
    /// A packet that is incomplete, and of which less than [`PROGRESS_MIN`] has come in this time,
    /// takes too long.
    pub(super) packet_timeout: Span,
}

/// What all connections of a shard have of the pools, and whose packets are watched.
#[derive(Debug)]
pub(super) struct Partials {
    limits: PartialLimits,
    taken: [usize; 3],
    /// Packets that are complete, while their large payloads are in use.
    pub(super) payloads: Payloads,
    /// Connections that have had an incomplete packet, and when to look at them again: soonest
    /// first.
    watched: VecDeque<(Moment, ConnectionId)>,
}

/// A connection that has a share of a pool that is short.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holder {
    pub(super) id: ConnectionId,
    pub(super) payer: u64,
    pub(super) bytes: usize,
    pub(super) since: Moment,
}

impl Share {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}

impl Partials {
    pub(super) fn new(limits: PartialLimits) -> Partials {
        let (payloads, watched) = (Payloads::default(), VecDeque::new());
        Partials { limits, taken: [0; 3], payloads, watched }
    }

    /// Notes that a connection has so much of this pool now.
    pub(super) fn note(&mut self, share: &mut Share, pool: Pool, bytes: usize) {
        self.taken[share.pool as usize] -= share.bytes;
        self.taken[pool as usize] += bytes;
        *share = Share { pool, bytes };
    }

    /// The connection with this share has gone.
    pub(super) fn release(&mut self, share: Share) {
        self.taken[share.pool as usize] -= share.bytes;
    }

    /// What all connections have together.
    pub(super) fn taken(&self) -> usize {
        self.taken.iter().sum()
    }

    /// Whether so many bytes more leave half of a pool free.
    pub(super) fn is_roomy(&self, pool: Pool, more: usize) -> bool {
        self.taken[pool as usize] + more <= self.max(pool) / 2
    }

    /// Whether more is taken from a pool than it has.
    #[inline]
    pub(super) fn is_short(&self, pool: Pool) -> bool {
        self.taken[pool as usize] > self.max(pool)
    }

    fn max(&self, pool: Pool) -> usize {
        match pool {
            Pool::Strangers => self.limits.strangers_max,
            Pool::Clients => self.limits.clients_max,
            Pool::Leaving => usize::MAX,
        }
    }

    /// Which of these have to go, so that the pool is no longer short. Some more is freed, so that
    /// this need not be asked often.
    pub(super) fn payers(
        &self,
        pool: Pool,
        holders: Vec<Holder>,
        now: Moment,
    ) -> Vec<ConnectionId> {
        let max = self.max(pool);
        let excess = self.taken[pool as usize].saturating_sub(max - max / FREED_PART);
        choose(holders, excess, now)
    }

    /// Watches a connection whose packet is incomplete, beginning at `now`.
    pub(super) fn watch(&mut self, id: ConnectionId, now: Moment) {
        self.watched.push_back((now + self.limits.packet_timeout, id));
    }

    /// The next connection to look at, if it is time, and whether that time is long over: the
    /// process has stood still, and has not read what has come.
    pub(super) fn next_due(&mut self, now: Moment) -> Option<(ConnectionId, bool)> {
        let (due, id) = self.watched.pop_front_if(|(due, _)| *due <= now)?;
        Some((id, due + LATE < now))
    }

    pub(super) fn next_look(&self) -> Option<Moment> {
        self.watched.front().map(|&(due, _)| due)
    }
}

/// The connections that free so many bytes: always one of the payer that holds most, and of this
/// payer the one with most bytes times the time that it has held them.
fn choose(holders: Vec<Holder>, excess: usize, now: Moment) -> Vec<ConnectionId> {
    let mut payers: BTreeMap<u64, (usize, Vec<Holder>)> = BTreeMap::new();
    for holder in holders {
        let (total, held) = payers.entry(holder.payer).or_default();
        *total += holder.bytes;
        held.push(holder);
    }
    let weight =
        |holder: &Holder| holder.bytes as u128 * u128::from(now.since(holder.since).as_nanos() + 1);
    let mut by_total: BTreeMap<(usize, u64), Vec<Holder>> = BTreeMap::new();
    for (payer, (total, mut held)) in payers {
        held.sort_unstable_by_key(weight);
        by_total.insert((total, payer), held);
    }
    let (mut chosen, mut freed) = (Vec::new(), 0);
    while freed < excess
        && let Some(((total, payer), mut held)) = by_total.pop_last()
    {
        let Some(holder) = held.pop() else { continue };
        freed += holder.bytes;
        chosen.push(holder.id);
        by_total.insert((total - holder.bytes, payer), held);
    }
    chosen
}

/// How a packet comes along.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// When the packet began.
    since: Moment,
    /// How much of it had come at the last look, and when that was.
    come: usize,
    looked: Moment,
    is_watched: bool,
}

impl Progress {
    /// When the packet began.
    pub(super) fn since(&self) -> Moment {
        self.since
    }

    /// Another packet begins now, or the shard begins to read from the client again.
    pub(super) fn begin(&mut self, now: Moment) {
        self.since = now;
    }

    /// Begins a time of watching with so many bytes of the packet. False: it is watched already.
    pub(super) fn begin_watch(&mut self, come: usize, now: Moment) -> bool {
        let begins = !mem::replace(&mut self.is_watched, true);
        if begins {
            (self.come, self.looked) = (come, now);
        }
        begins
    }

    /// Ends a time of watching: `come` bytes of the packet have come by now. True: that is too
    /// little. A packet that has begun meanwhile has time until the next look.
    pub(super) fn end_watch(&mut self, come: usize) -> bool {
        self.is_watched = false;
        self.since <= self.looked && come < self.come + PROGRESS_MIN
    }
}

/// Bytes of an incomplete packet that have to come in each `packet_timeout`.
const PROGRESS_MIN: usize = 1 << 10;
/// This part of a pool is freed when the pool is short.
const FREED_PART: usize = 8;
/// Looks that come later than this are late.
const LATE: Span = Span::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: PartialLimits =
        PartialLimits { clients_max: 800, strangers_max: 80, packet_timeout: Span::from_secs(60) };

    fn id(slot: u32) -> ConnectionId {
        ConnectionId { slot, generation: 0 }
    }

    fn at(seconds: u64) -> Moment {
        Moment::default() + Span::from_secs(seconds)
    }

    fn holder(slot: u32, payer: u64, bytes: usize, since: u64) -> Holder {
        Holder { id: id(slot), payer, bytes, since: at(since) }
    }

    #[test]
    fn strangers_have_a_pool_of_their_own_and_those_who_leave_count_in_none() {
        let mut partials = Partials::new(LIMITS);
        let short = |partials: &Partials| {
            [Pool::Strangers, Pool::Clients, Pool::Leaving].map(|pool| partials.is_short(pool))
        };
        let [mut stranger, mut client] = [Share::default(); 2];
        partials.note(&mut stranger, Pool::Strangers, 80);
        partials.note(&mut client, Pool::Clients, 800);
        assert_eq!(short(&partials), [false; 3]);
        partials.note(&mut stranger, Pool::Strangers, 81);
        assert_eq!(short(&partials), [true, false, false]);
        partials.note(&mut stranger, Pool::Leaving, 1_000);
        partials.note(&mut client, Pool::Clients, 801);
        assert_eq!(short(&partials), [false, true, false]);
        partials.note(&mut client, Pool::Clients, 400);
        partials.release(stranger);
        assert_eq!((short(&partials), partials.taken), ([false; 3], [0, 400, 0]));
        assert!(partials.is_roomy(Pool::Clients, 0) && !partials.is_roomy(Pool::Clients, 1));
    }

    #[test]
    fn who_holds_most_pays_with_what_is_largest_and_oldest() {
        // Payer 1 has much in many connections, payer 2 the largest single one.
        let many = (1..=10).map(|slot| holder(slot, 1, 10, 90 - u64::from(slot)));
        let holders: Vec<Holder> = many.chain([holder(11, 2, 60, 0)]).collect();
        assert_eq!(choose(holders.clone(), 1, at(100)), [id(10)]);
        assert_eq!(choose(holders.clone(), 30, at(100)), [10, 9, 8].map(id));
        // Until both hold the same.
        let chosen = choose(holders.clone(), 70, at(100));
        assert_eq!(chosen, [10, 9, 8, 7, 11].map(id));
        assert_eq!(choose(holders, 1_000, at(100)).len(), 11);
        // A large packet that has just begun is worth less than a small one that stands still.
        let of_one = vec![holder(1, 1, 1_000, 99), holder(2, 1, 50, 0)];
        assert_eq!(choose(of_one, 1, at(100)), [id(2)]);
    }

    #[test]
    fn an_eighth_of_a_pool_is_freed_at_once() {
        let mut partials = Partials::new(LIMITS);
        let mut share = Share::default();
        partials.note(&mut share, Pool::Clients, 810);
        let holders = (0..81).map(|slot| holder(slot, 1, 10, 0)).collect();
        assert_eq!(partials.payers(Pool::Clients, holders, at(1)).len(), 11);
    }

    #[test]
    fn a_packet_has_to_come_along() {
        let mut progress = Progress::default();
        progress.begin(at(1));
        assert!(progress.begin_watch(10, at(1)) && !progress.begin_watch(10, at(1)));
        assert!(!progress.end_watch(10 + PROGRESS_MIN), "enough has come");
        assert!(progress.begin_watch(2_000, at(61)));
        progress.begin(at(70));
        assert!(!progress.end_watch(10), "it is another packet");
        assert!(progress.begin_watch(10, at(121)) && progress.end_watch(10 + PROGRESS_MIN - 1));
    }

    #[test]
    fn a_look_is_late_when_the_process_has_stood_still() {
        let mut partials = Partials::new(LIMITS);
        partials.watch(id(1), at(0));
        partials.watch(id(2), at(2));
        assert_eq!((partials.next_due(at(59)), partials.next_look()), (None, Some(at(60))));
        assert_eq!(partials.next_due(at(60)), Some((id(1), false)));
        assert_eq!(partials.next_due(at(64)), Some((id(2), true)));
    }
}
