//! All shards of a broker, taking turns in one thread, with the real mesh between them.

use std::{fmt, mem};

use ringmq::{
    base::ids::{ConnectionId, ShardId, ShardSet},
    mesh::{Endpoint, WakePeer, mesh},
    mqtt::{Delivery, QoS, Version},
    shard::letter::LetterBatch,
};

use crate::workbench::{self, Workbench};

pub(crate) struct Broker {
    shards: Vec<Workbench>,
    ends: Vec<Endpoint<LetterBatch>>,
    bells: Bells,
    counts: Counts,
    /// What `counts.delivered` was when the counts were forgotten.
    sent_before: u64,
}

/// What happened between the shards.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// PUBLISH packets to clients.
    pub(crate) delivered: u64,
    letters: u64,
    batches: u64,
    /// Shards that had to be woken.
    doorbells: u64,
    /// Bytes of the letters.
    bytes: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { delivered, letters, batches, doorbells, bytes } = self;
        write!(f, "{delivered} {letters} {batches} {doorbells} {bytes}")
    }
}

/// Counts the shards that are woken.
#[derive(Default)]
struct Bells(u64);

impl WakePeer for Bells {
    fn wake_peer(&mut self, _: ShardId) {
        self.0 += 1;
    }
}

impl Broker {
    pub(crate) fn new(shards: usize) -> Broker {
        let workbench = |shard| Workbench::of(shard, shards);
        Broker {
            shards: ShardId::all(shards).map(workbench).collect(),
            ends: mesh(shards, BATCHES_MAX),
            bells: Bells::default(),
            counts: Counts::default(),
            sent_before: 0,
        }
    }

    /// A client at home on this shard.
    pub(crate) fn client(&mut self, home: usize) -> ConnectionId {
        self.shards[home].client(VERSION)
    }

    /// A new client at home on this shard subscribes, and all shards hear of it.
    pub(crate) fn subscribe(&mut self, home: usize, filters: &[String]) {
        let id = self.client(home);
        for filter in filters {
            let bytes = workbench::subscribe(VERSION, filter, QoS::AtMostOnce);
            self.shards[home].take_in(id, &bytes);
            self.post();
            self.receive();
        }
    }

    /// Every shard falls asleep.
    pub(crate) fn sleep(&self) {
        for end in &self.ends {
            assert!(end.doorbell().announce_sleep(), "all letters have been received");
        }
    }

    pub(crate) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// A client at home on this shard sends a PUBLISH.
    pub(crate) fn publish(&mut self, home: usize, id: ConnectionId, packet: &[u8]) {
        self.shards[home].take_in(id, packet);
    }

    /// Every turn ends: one batch of letters for each other shard that is to hear something.
    pub(crate) fn post(&mut self) {
        for (bench, end) in self.shards.iter_mut().zip(&self.ends) {
            bench.ports.outbox.clear();
            for to in mem::replace(&mut bench.ports.waiting, ShardSet::EMPTY).iter() {
                let letters = &mut bench.ports.letters[to.index()];
                if letters.is_empty() {
                    continue;
                }
                self.counts.letters += letters.iter().count() as u64;
                self.counts.bytes += letters.bytes() as u64;
                self.counts.batches += 1;
                let full = mem::replace(letters, end.blank(to).unwrap_or_default());
                end.try_send(to, full, &mut self.bells).expect("all mailboxes are empty");
            }
        }
    }

    /// Every shard hears what has come, and what it says to that is posted, until all are silent.
    pub(crate) fn receive(&mut self) {
        while self.ends.iter().any(|end| end.doorbell().has_marks()) {
            for (bench, end) in self.shards.iter_mut().zip(&self.ends) {
                end.doorbell().wake();
                for from in end.collect().iter() {
                    while let Some(mut letters) = end.receive(from) {
                        let handled = bench.take_letters(from, &letters);
                        assert_eq!(handled, letters.iter().count());
                        letters.clear();
                        end.recycle(from, letters);
                    }
                }
            }
            self.post();
        }
    }

    pub(crate) fn forget_counts(&mut self) {
        self.counts = Counts::default();
        self.bells.0 = 0;
        self.sent_before = self.sent();
    }

    pub(crate) fn counts(&self) -> Counts {
        let delivered = self.sent() - self.sent_before;
        Counts { delivered, doorbells: self.bells.0, ..self.counts }
    }

    fn sent(&self) -> u64 {
        self.shards.iter().map(|bench| bench.ports.sent).sum()
    }
}

/// A PUBLISH at QoS 0 with 64 bytes.
pub(crate) fn publish(topic: &str) -> Vec<u8> {
    workbench::publish(VERSION, Delivery::AtMostOnce, topic, &PAYLOAD)
}

const VERSION: Version = Version::V311;
const PAYLOAD: [u8; 64] = [b'x'; 64];
const BATCHES_MAX: usize = 2;
