//! The broker with its disk: records are posted and become durable, the process ends, and another
//! one begins with what is on disk.

use std::sync::Arc;

use ringmq::{
    base::{hash::Seed, ids::ShardId, time::Span},
    shard::{
        Shard,
        ports::Brain,
        restore::{Restoration, redo},
        settings::StoreSettings,
    },
    storage::RecordBatch,
};

use crate::{
    broker::{Broker, Verdict},
    disk::Disk,
    link::Phase,
    oracle::Event,
    plan::{Plan, START},
    violation::Violation,
};

impl Broker {
    /// Posts the records of a shard's turn. While the disk takes none, they wait.
    pub(crate) fn post_records(&mut self, shard: usize) {
        let place = &mut self.places[shard];
        let Some(disk) = self.disk.as_mut().filter(|_| !place.records.is_empty()) else { return };
        if !disk.takes(place.records.len()) {
            return;
        }
        place.posted += 1;
        for (shard, mark, records) in
            self.planted_records.alter(shard, place.posted, &place.records)
        {
            disk.post(shard, mark, records);
        }
        place.records.clear();
        if self.planted_records.tells_early() {
            place.durable = Some(place.posted);
        }
    }

    fn are_held_up(&self, shard: usize) -> bool {
        !self.places[shard].records.is_empty()
    }

    /// The disk does one thing, or a shard hears of what it has done. False: there is nothing.
    pub(crate) fn move_disk(&mut self, choice: usize) -> Result<bool, Violation> {
        let shards = self.shards.len();
        let told = (0..shards).map(|at| (choice + at) % shards);
        let waiting = told.clone().find(|&at| self.places[at].durable.is_some());
        if let Some(shard) = waiting.filter(|_| choice.is_multiple_of(2) || self.is_idle()) {
            self.tell_durable(shard)?;
            return Ok(true);
        }
        told.for_each(|shard| self.post_records(shard));
        if let (Some(disk), Some((shard, mark, records))) =
            (&mut self.disk, self.planted_records.take_held())
        {
            disk.post(shard, mark, records);
        }
        let Some(disk) = self.disk.as_mut().filter(|disk| !disk.is_idle()) else {
            return Ok(false);
        };
        for (shard, mark) in disk.advance() {
            let durable = &mut self.places[shard].durable;
            *durable = (*durable).max(Some(mark));
        }
        Ok(true)
    }

    /// Nothing waits for the disk.
    fn is_idle(&self) -> bool {
        let held_up = (0..self.shards.len()).any(|shard| self.are_held_up(shard));
        !held_up && self.disk.as_ref().is_none_or(Disk::is_idle)
    }

    fn tell_durable(&mut self, shard: usize) -> Verdict {
        let Some(mark) = self.places[shard].durable.take() else { return Ok(()) };
        self.call(shard, Event::Durable, |brain, now, ports| {
            brain.handle_durable(now, mark, ports);
            0
        })?;
        Ok(())
    }

    /// The process ends at this moment. What was sent may still come to the clients.
    pub(crate) fn crash(&mut self) {
        for link in &mut self.links {
            link.upstream.clear();
            link.unread.clear();
            link.outbox.clear();
            link.follows = None;
            link.wants_drained = false;
            link.phase = Phase::Closed;
        }
        self.planted_records.crash();
        if let Some(disk) = &mut self.disk {
            disk.crash();
        }
    }

    /// A process begins, with the shards of the plan and what is on disk.
    pub(crate) fn restart(&mut self, plan: &Plan) -> Verdict {
        let disk = self.disk.as_mut().expect("the broker has a disk");
        let reading = disk.recover(plan.shards)?;
        let mut restored = reading.restored;
        self.planted_records.alter_restored(&mut restored);
        let count = u8::try_from(plan.shards).expect("few shards");
        let (seed, clock) = (Seed::new(plan.seed), plan.wall_clock(START));
        let first = redo(&mut restored, count, seed, clock.time_of(self.now));
        let store = StoreSettings::new(&restored, plan.shards, WILL_GRACE);
        let restoration = Arc::new(Restoration::new(restored, clock));
        self.begin(plan, Some(store));
        self.post_first(first);
        if let Some(witness) = &mut self.witness {
            witness.note_restart(reading.kept, self.now, plan.shards);
        }
        for shard in 0..plan.shards {
            self.shards[shard].begin_with(Arc::clone(&restoration));
            self.call(shard, Event::Start, |brain, now, ports| {
                brain.handle_start(now, ports);
                0
            })?;
        }
        Ok(())
    }

    /// The records with which a process begins go before all others.
    fn post_first(&mut self, first: RecordBatch) {
        if self.planted_records.loses_first() {
            return;
        }
        let disk = self.disk.as_mut().expect("the broker has a disk");
        disk.post(ShardId::FIRST.index(), 1, first);
        self.places[ShardId::FIRST.index()].posted = 1;
    }

    /// Whether all shards know what the others have, so that clients may be let in.
    pub(crate) fn is_ready(&self) -> bool {
        self.shards.iter().all(Shard::is_ready)
    }
}

/// How long Wills wait after a start.
const WILL_GRACE: Span = Span::from_secs(2);
