//! The world of one shard: its place in the simulation, and the [`Ports`] over it.

use bytes::Bytes;
use ringmq::{
    base::{
        ids::{ConnectionId, ShardId},
        time::Moment,
    },
    shard::{
        letter::LetterBatch,
        ports::{Backlog, Closing, Finding, Load, Ports, Secret, Verification},
    },
    storage::RecordBatch,
};

use crate::{
    link::{Link, Phase},
    planted::{Fault, Planted, Recipient},
    random::{Random, purpose},
};

/// What belongs to one shard.
#[derive(Debug)]
pub(crate) struct Place {
    slots: Vec<(u32, Option<usize>)>,
    free: Vec<u32>,
    pub(crate) letters: Vec<LetterBatch>,
    pub(crate) verdicts: Vec<(ConnectionId, Finding)>,
    pub(crate) random: Random,
    /// The records of the latest calls, and how many batches of them were posted.
    pub(crate) records: RecordBatch,
    pub(crate) posted: u64,
    /// A mark that is on disk and that the shard has not been told.
    pub(crate) durable: Option<u64>,
}

/// What a shard has made happen in one call.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) list: Vec<Effect>,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Effect {
    /// `room` is what the outbox had before.
    Sent {
        link: usize,
        start: usize,
        end: usize,
        room: usize,
    },
    Closed {
        link: usize,
    },
    /// Nothing is read from it until it is resumed.
    Paused {
        link: usize,
    },
    Resumed {
        link: usize,
    },
    /// It waits until the bytes of an earlier link have been handed in.
    Follows {
        link: usize,
    },
    HandedOver {
        link: usize,
        home: ShardId,
    },
}

impl Effects {
    pub(crate) fn clear(&mut self) {
        self.list.clear();
        self.bytes.clear();
    }

    /// What was sent, in order: the link and the bytes, which are whole packets.
    pub(crate) fn sent(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.sent_with_room().map(|(link, bytes, _)| (link, bytes))
    }

    /// The same, with the room that the outbox had before.
    pub(crate) fn sent_with_room(&self) -> impl Iterator<Item = (usize, &[u8], usize)> {
        self.list.iter().filter_map(|effect| match *effect {
            Effect::Sent { link, start, end, room } => Some((link, &self.bytes[start..end], room)),
            _ => None,
        })
    }

    pub(crate) fn closed(&self) -> impl Iterator<Item = usize> {
        self.list.iter().filter_map(|effect| match *effect {
            Effect::Closed { link, .. } => Some(link),
            _ => None,
        })
    }

    /// Links that are read from no more, or again.
    pub(crate) fn turned(&self) -> impl Iterator<Item = (usize, bool)> {
        self.list.iter().filter_map(|effect| match *effect {
            Effect::Paused { link } => Some((link, true)),
            Effect::Resumed { link } => Some((link, false)),
            _ => None,
        })
    }

    /// Links that have begun to wait for an earlier one.
    pub(crate) fn follows(&self) -> impl Iterator<Item = usize> {
        self.list.iter().filter_map(|effect| match *effect {
            Effect::Follows { link } => Some(link),
            _ => None,
        })
    }

    fn note_sent(&mut self, link: usize, room: usize, parts: [&[u8]; 2]) {
        let start = self.bytes.len();
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.list.push(Effect::Sent { link, start, end: self.bytes.len(), room });
    }
}

impl Place {
    pub(crate) fn new(seed: u64, shard: usize, shards: usize) -> Place {
        let number = u64::try_from(shard).expect("few shards");
        Place {
            slots: Vec::new(),
            free: Vec::new(),
            letters: (0..shards).map(|_| LetterBatch::default()).collect(),
            verdicts: Vec::new(),
            random: Random::new(seed ^ number, purpose::BROKER),
            records: RecordBatch::default(),
            posted: 0,
            durable: None,
        }
    }

    /// Gives a link a name here. Places are used again, names are not.
    pub(crate) fn adopt(&mut self, link: usize) -> ConnectionId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            u32::try_from(self.slots.len() - 1).expect("few links")
        });
        let place = &mut self.slots[slot as usize];
        place.0 += 1;
        place.1 = Some(link);
        ConnectionId { slot, generation: place.0 }
    }

    pub(crate) fn release(&mut self, id: ConnectionId) {
        self.slots[id.slot as usize].1 = None;
        self.free.push(id.slot);
    }

    pub(crate) fn find(&self, id: ConnectionId) -> Option<usize> {
        let (generation, link) = *self.slots.get(id.slot as usize)?;
        link.filter(|_| generation == id.generation)
    }
}

/// What a shard may ask of the world during one call.
pub(crate) struct SimulatedPorts<'a> {
    pub(crate) place: &'a mut Place,
    pub(crate) links: &'a mut [Link],
    pub(crate) effects: &'a mut Effects,
    pub(crate) planted: &'a mut Planted,
    pub(crate) now: Moment,
    pub(crate) outbox_bytes_max: usize,
    /// The link that the shard is called for, if it is for one.
    pub(crate) called_for: Option<usize>,
}

impl SimulatedPorts<'_> {
    pub(crate) fn open(&mut self, id: ConnectionId) -> Option<(usize, &mut Link)> {
        let index = self.place.find(id)?;
        let link = &mut self.links[index];
        (link.phase == Phase::Open).then_some((index, link))
    }

    fn put(&mut self, id: ConnectionId, parts: [&[u8]; 2]) {
        let outbox_bytes_max = self.outbox_bytes_max;
        let Some((index, link)) = self.open(id) else { return };
        if parts.iter().all(|part| part.is_empty()) {
            return;
        }
        let room = outbox_bytes_max.saturating_sub(link.outbox.len());
        for part in parts {
            link.outbox.extend(part);
        }
        link.throttled |= link.outbox.len() > outbox_bytes_max + OVERRUN_BYTES_MAX;
        self.effects.note_sent(index, room, parts);
    }
}

impl Ports for SimulatedPorts<'_> {
    fn outbox_room(&self, connection: ConnectionId) -> usize {
        if self.planted.is(Fault::OverfillOutbox) {
            return self.outbox_bytes_max;
        }
        let link = self.place.find(connection).map(|index| &self.links[index]);
        link.filter(|link| link.is_open())
            .map_or(0, |link| self.outbox_bytes_max.saturating_sub(link.outbox.len()))
    }

    fn take_backlog(&mut self, connection: ConnectionId) -> Backlog {
        let link = self.place.find(connection).map(|index| &mut self.links[index]);
        let taken = link.map_or(0, |link| std::mem::take(&mut link.sent));
        Backlog { since: None, moved: None, taken }
    }

    fn send(&mut self, connection: ConnectionId, frame: &[u8]) {
        if !self.planted.is_on() {
            return self.put(connection, [frame, &[]]);
        }
        let Some((index, link)) = self.open(connection) else { return };
        let to = Recipient { link: index, client: link.client, version: link.version };
        let waited = self.called_for == Some(index);
        for altered in self.planted.alter(to, waited, frame) {
            self.put(connection, [&altered, &[]]);
        }
    }

    fn send_shared(&mut self, connection: ConnectionId, head: &[u8], payload: &Bytes) {
        if !self.planted.is_on() {
            return self.put(connection, [head, payload]);
        }
        self.send(connection, &[head, payload].concat());
    }

    fn notify_drained(&mut self, connection: ConnectionId) {
        if let Some((_, link)) = self.open(connection) {
            link.wants_drained = true;
        }
    }

    fn close(&mut self, connection: ConnectionId, closing: Closing) {
        if self.planted.forgets_to_close() {
            return;
        }
        if let Some((index, link)) = self.open(connection) {
            link.close(closing);
            self.place.release(connection);
            self.effects.list.push(Effect::Closed { link: index });
        }
    }

    fn pause(&mut self, connection: ConnectionId) {
        if let Some((index, link)) = self.open(connection) {
            link.paused = true;
            self.effects.list.push(Effect::Paused { link: index });
        }
    }

    fn resume(&mut self, connection: ConnectionId) {
        if self.planted.forgets_to_resume() {
            return;
        }
        if let Some((index, link)) = self.open(connection).filter(|(_, link)| link.paused) {
            link.paused = false;
            link.feedable = true;
            self.effects.list.push(Effect::Resumed { link: index });
        }
    }

    fn hand_over(&mut self, connection: ConnectionId, home: ShardId) {
        if let Some((index, link)) = self.open(connection) {
            link.phase = Phase::Moving(home);
            self.place.release(connection);
            self.effects.list.push(Effect::HandedOver { link: index, home });
        }
    }

    fn precede(&mut self, earlier: ConnectionId, later: ConnectionId) -> bool {
        self.may_follow(earlier, later)
    }

    fn records(&mut self) -> &mut RecordBatch {
        &mut self.place.records
    }

    fn record_mark(&self) -> u64 {
        self.place.posted + 1
    }

    fn are_records_crowded(&self) -> bool {
        self.place.records.len() >= CROWDED_BYTES
    }

    fn letters(&mut self, to: ShardId) -> &mut LetterBatch {
        &mut self.place.letters[to.index()]
    }

    fn can_verify(&self) -> bool {
        self.place.verdicts.len() < OPEN_CHECKS_MAX
    }

    fn verify(&mut self, connection: ConnectionId, verification: Verification) {
        self.place.verdicts.push((connection, verification()));
    }

    fn has_gone(&mut self, connection: ConnectionId) -> bool {
        let link = self.place.find(connection).map(|index| &self.links[index]);
        link.is_none_or(|link| link.reset || link.is_finished() && link.unread.is_empty())
    }

    fn random(&mut self) -> u64 {
        self.place.random.next()
    }

    fn secret(&mut self) -> Secret {
        u128::from(self.place.random.next()).to_be_bytes()
    }

    fn load(&self) -> Load {
        Load::default()
    }
}

/// Bytes of records that wait for the store when no more messages are taken.
const CROWDED_BYTES: usize = 2_000;
/// Password checks that the threads take of one shard.
const OPEN_CHECKS_MAX: usize = 2;
/// Answers may go this far past the limit before their client is not read from any more.
const OVERRUN_BYTES_MAX: usize = 64 << 10;
