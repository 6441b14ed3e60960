//! The mesh between the shards: for each ordered pair of shards a bounded lane for batches, and a
//! lane back for emptied batches. The lanes of a pair are made when the first batch is sent.
//!
//! Knows nothing of the content of a batch. Does no input or output: the caller's [`WakePeer`]
//! wakes a sleeping shard. Nothing in this module blocks.

pub mod doorbell;

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use self::doorbell::Doorbell;
use crate::base::ids::{ShardId, ShardSet};

/// Wakes a shard that sleeps.
pub trait WakePeer {
    fn wake_peer(&mut self, shard: ShardId);
}

/// One shard's ends of all its lanes.
#[derive(Debug)]
pub struct Endpoint<T> {
    me: ShardId,
    mesh: Arc<Mesh<T>>,
}

/// What all endpoints share.
#[derive(Debug)]
struct Mesh<T> {
    /// How many batches each lane has room for.
    batches: usize,
    /// The lanes from the first shard to all others, then those from the second one, and so on.
    lanes: Box<[OnceLock<Box<Lanes<T>>>]>,
    doorbells: Box<[Doorbell]>,
    /// The shards that receive nothing any more.
    ended: Box<[AtomicBool]>,
}

/// The lanes for the batches of one shard to one peer.
#[derive(Debug)]
struct Lanes<T> {
    there: (Sender<T>, Receiver<T>),
    /// Emptied batches on their way back.
    back: (Sender<T>, Receiver<T>),
}

/// The endpoints of `shards` shards, with room for `batches` in each lane.
pub fn mesh<T>(shards: usize, batches: usize) -> Vec<Endpoint<T>> {
    let mesh = Arc::new(Mesh {
        batches,
        lanes: (0..shards * shards).map(|_| OnceLock::new()).collect(),
        doorbells: (0..shards).map(|_| Doorbell::default()).collect(),
        ended: (0..shards).map(|_| AtomicBool::default()).collect(),
    });
    ShardId::all(shards).map(|me| Endpoint { me, mesh: Arc::clone(&mesh) }).collect()
}

impl<T> Mesh<T> {
    fn slot(&self, from: ShardId, to: ShardId) -> &OnceLock<Box<Lanes<T>>> {
        &self.lanes[from.index() * self.doorbells.len() + to.index()]
    }

    /// The lanes from one shard to another; `None` if nothing has been sent there yet.
    fn used_lanes(&self, from: ShardId, to: ShardId) -> Option<&Lanes<T>> {
        self.slot(from, to).get().map(|lanes| &**lanes)
    }

    fn lanes(&self, from: ShardId, to: ShardId) -> &Lanes<T> {
        let make = || Lanes { there: bounded(self.batches), back: bounded(self.batches) };
        self.slot(from, to).get_or_init(|| Box::new(make()))
    }
}

impl<T> Endpoint<T> {
    pub fn me(&self) -> ShardId {
        self.me
    }

    pub fn shards(&self) -> usize {
        self.mesh.doorbells.len()
    }

    /// Puts a batch into the mailbox of `to`, and rings if `to` sleeps. Returns the batch if the
    /// mailbox is full. A batch for a shard that has ended is dropped, because the broker stops.
    pub fn try_send(&self, to: ShardId, batch: T, peers: &mut impl WakePeer) -> Result<(), T> {
        // Relaxed: a batch that is sent meanwhile stays in its lane until the mesh is dropped.
        if self.mesh.ended[to.index()].load(Ordering::Relaxed) {
            return Ok(());
        }
        self.mesh.lanes(self.me, to).there.0.try_send(batch).map_err(TrySendError::into_inner)?;
        if self.mesh.doorbells[to.index()].mark(self.me) {
            peers.wake_peer(to);
        }
        Ok(())
    }

    /// The shards that have sent something since the last call. The caller receives from each of
    /// them until nothing is left.
    pub fn collect(&self) -> ShardSet {
        self.doorbell().collect()
    }

    /// The next batch that `from` has sent.
    pub fn receive(&self, from: ShardId) -> Option<T> {
        self.mesh.used_lanes(from, self.me)?.there.1.try_recv().ok()
    }

    /// Gives an emptied batch back to the shard that has sent it, or drops it if that shard has
    /// enough.
    pub fn recycle(&self, from: ShardId, batch: T) {
        // If the lane back is full, the sender has more empty batches than the mailbox holds.
        drop(self.mesh.lanes(from, self.me).back.0.try_send(batch));
    }

    /// An emptied batch that was sent to `to` before.
    pub fn blank(&self, to: ShardId) -> Option<T> {
        self.mesh.used_lanes(self.me, to)?.back.1.try_recv().ok()
    }

    /// This shard's own doorbell.
    pub fn doorbell(&self) -> &Doorbell {
        &self.mesh.doorbells[self.me.index()]
    }
}

/// Nobody waits for a shard that has ended, and what it has not received is dropped.
impl<T> Drop for Endpoint<T> {
    fn drop(&mut self) {
        self.mesh.ended[self.me.index()].store(true, Ordering::Relaxed);
        for from in ShardId::all(self.shards()) {
            while self.receive(from).is_some() {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use super::*;

    struct NobodySleeps;

    impl WakePeer for NobodySleeps {
        fn wake_peer(&mut self, shard: ShardId) {
            panic!("{shard} does not sleep");
        }
    }

    fn shard(index: usize) -> ShardId {
        ShardId::new(index).unwrap()
    }

    #[test]
    fn a_full_mailbox_gives_the_batch_back() {
        let ends = mesh::<u32>(2, 2);
        assert_eq!(ends[0].try_send(shard(1), 1, &mut NobodySleeps), Ok(()));
        assert_eq!(ends[0].try_send(shard(1), 2, &mut NobodySleeps), Ok(()));
        assert_eq!(ends[0].try_send(shard(1), 3, &mut NobodySleeps), Err(3));
        assert_eq!(ends[1].receive(shard(0)), Some(1));
        assert_eq!(ends[0].try_send(shard(1), 3, &mut NobodySleeps), Ok(()));
    }

    #[test]
    fn what_is_for_a_shard_that_has_ended_holds_nobody_up() {
        let mut ends = mesh::<u32>(2, 1);
        assert_eq!(ends[0].try_send(shard(1), 1, &mut NobodySleeps), Ok(()));
        assert_eq!(ends[0].try_send(shard(1), 2, &mut NobodySleeps), Err(2));
        drop(ends.pop());
        assert_eq!(ends[0].try_send(shard(1), 2, &mut NobodySleeps), Ok(()));
        assert_eq!(ends[0].try_send(shard(1), 3, &mut NobodySleeps), Ok(()));
    }

    #[test]
    fn a_pair_has_lanes_once_a_batch_was_sent() {
        let ends = mesh::<u32>(2, 1);
        let used = |from: usize, to: usize| ends[0].mesh.used_lanes(shard(from), shard(to));
        assert_eq!((ends[1].receive(shard(0)), ends[0].blank(shard(1))), (None, None));
        assert!(used(0, 1).is_none());
        ends[0].try_send(shard(1), 1, &mut NobodySleeps).unwrap();
        assert!(used(0, 1).is_some() && used(1, 0).is_none());
    }

    #[test]
    fn what_a_shard_that_ends_has_not_received_is_dropped() {
        let mut ends = mesh::<Arc<()>>(2, 1);
        let batch = Arc::new(());
        ends[0].try_send(shard(1), Arc::clone(&batch), &mut NobodySleeps).unwrap();
        drop(ends.pop());
        assert_eq!(Arc::strong_count(&batch), 1);
    }

    #[test]
    fn every_ordered_pair_has_its_own_lane() {
        let ends = mesh::<(usize, usize)>(3, 4);
        for (from, end) in ends.iter().enumerate() {
            for to in 0..3 {
                end.try_send(shard(to), (from, to), &mut NobodySleeps).unwrap();
            }
        }
        for (to, end) in ends.iter().enumerate() {
            assert_eq!(end.collect().iter().count(), 3);
            for from in 0..3 {
                assert_eq!(end.receive(shard(from)), Some((from, to)));
                assert_eq!(end.receive(shard(from)), None);
            }
        }
    }

    #[test]
    fn an_emptied_batch_comes_back_to_its_sender() {
        let ends = mesh::<Vec<u8>>(2, 1);
        assert_eq!(ends[0].blank(shard(1)), None);
        ends[0].try_send(shard(1), Vec::with_capacity(64), &mut NobodySleeps).unwrap();
        let batch = ends[1].receive(shard(0)).unwrap();
        ends[1].recycle(shard(0), batch);
        assert_eq!(ends[1].blank(shard(0)), None);
        assert_eq!(ends[0].blank(shard(1)).map(|batch| batch.capacity()), Some(64));
    }

    /// Sleeps on a channel; a lost wake-up is one that does not come for long.
    struct PeerBells(Vec<Sender<()>>);

    impl WakePeer for PeerBells {
        fn wake_peer(&mut self, shard: ShardId) {
            let _full = self.0[shard.index()].try_send(());
        }
    }

    fn bells(shards: usize) -> (Vec<Sender<()>>, Vec<Receiver<()>>) {
        (0..shards).map(|_| bounded(1)).unzip()
    }

    fn sleep(end: &Endpoint<u64>, bell: &Receiver<()>) {
        if end.doorbell().announce_sleep() {
            bell.recv_timeout(Duration::from_secs(20)).expect("the bell rings");
            end.doorbell().wake();
        }
    }

    const ROUNDS: u64 = 50_000;

    /// Sends a number back and forth; each side sleeps whenever it has nothing.
    fn play(end: &Endpoint<u64>, others: &mut PeerBells, bell: &Receiver<()>, mut last: u64) {
        while last < ROUNDS {
            for from in end.collect().iter() {
                while let Some(number) = end.receive(from) {
                    assert_eq!(number, last + 1);
                    last = number + 1;
                    // The last number finds a peer that has gone.
                    let _gone = end.try_send(from, last, others);
                }
            }
            if last < ROUNDS {
                sleep(end, bell);
            }
        }
    }

    #[test]
    fn no_wake_up_is_ever_lost() {
        let mut ends = mesh::<u64>(2, 4);
        let (ringers, mut sleepers) = bells(2);
        let (second, second_bell) = (ends.pop().unwrap(), sleepers.pop().unwrap());
        let mut others = PeerBells(ringers.clone());
        let other = thread::spawn(move || play(&second, &mut others, &second_bell, 0));
        let mut others = PeerBells(ringers);
        ends[0].try_send(shard(1), 1, &mut others).unwrap();
        play(&ends[0], &mut others, &sleepers[0], 1);
        other.join().unwrap();
    }

    #[test]
    fn batches_arrive_in_order_from_many_senders_at_once() {
        const SENDERS: usize = 3;
        const BATCHES: u64 = 20_000;
        let mut ends = mesh::<u64>(SENDERS + 1, 8);
        let receiver = ends.pop().unwrap();
        let (ringers, sleepers) = bells(SENDERS + 1);
        let senders: Vec<_> = ends
            .into_iter()
            .map(|end| {
                let mut others = PeerBells(ringers.clone());
                thread::spawn(move || {
                    for number in 0..BATCHES {
                        while end.try_send(shard(SENDERS), number, &mut others).is_err() {
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        let mut next = [0; SENDERS];
        while next != [BATCHES; SENDERS] {
            for from in receiver.collect().iter() {
                while let Some(number) = receiver.receive(from) {
                    assert_eq!(number, next[from.index()]);
                    next[from.index()] += 1;
                }
            }
            if next != [BATCHES; SENDERS] {
                sleep(&receiver, &sleepers[SENDERS]);
            }
        }
        for sender in senders {
            sender.join().unwrap();
        }
    }
}
