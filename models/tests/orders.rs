//! Every order in which the threads of these models can run, and all that their atomics may show.

use std::sync::Arc;

use loom::thread;
use models::{
    base::ids::ShardId,
    mesh::{Endpoint, WakePeer, mesh},
    sleeper::{Sleeper, Waker, explore, one_sender, shard},
};

#[test]
fn a_sleeper_is_woken_and_sees_what_was_put_in() {
    explore(one_sender);
}

#[test]
fn a_sleeper_is_woken_by_one_sender_of_two() {
    explore(|| {
        let sleeper = Arc::new(Sleeper::default());
        let senders = [0, 1].map(|from| {
            let sender = Arc::clone(&sleeper);
            thread::spawn(move || sender.put(from, 1 << from))
        });
        let mut sum = 0;
        while sum < 3 {
            sum += sleeper.take();
        }
        assert_eq!(sum, 3, "each is collected once");
        for sender in senders {
            sender.join().expect("the sender ends");
        }
    });
}

/// The bells of all shards.
#[derive(Clone)]
struct Bells(Arc<Vec<Waker>>);

impl WakePeer for Bells {
    fn wake_peer(&mut self, shard: ShardId) {
        self.0[shard.index()].ring();
    }
}

fn bells(shards: usize) -> Bells {
    Bells(Arc::new((0..shards).map(|_| Waker::default()).collect()))
}

fn sleep(end: &Endpoint<u64>, bells: &Bells) {
    if end.doorbell().announce_sleep() {
        bells.0[end.me().index()].wait();
        end.doorbell().wake();
    }
}

/// Takes batches until there are so many, asleep in between; each is given back empty.
fn receive(end: &Endpoint<u64>, bells: &Bells, count: usize) -> Vec<u64> {
    let mut batches = Vec::new();
    while batches.len() < count {
        for from in end.collect().iter() {
            while let Some(batch) = end.receive(from) {
                batches.push(batch);
                end.recycle(from, 0);
            }
        }
        if batches.len() < count {
            sleep(end, bells);
        }
    }
    batches
}

#[test]
fn batches_arrive_in_order_and_come_back() {
    explore(|| {
        let mut ends = mesh::<u64>(2, 2);
        let (receiver, sender) = (ends.pop().expect("two"), ends.pop().expect("two"));
        let bells = bells(2);
        let mut ringer = bells.clone();
        let thread = thread::spawn(move || {
            for batch in [1, 2] {
                sender.try_send(shard(1), batch, &mut ringer).expect("there is room");
            }
            sender
        });
        assert_eq!(receive(&receiver, &bells, 2), [1, 2]);
        let sender = thread.join().expect("the sender ends");
        assert_eq!([sender.blank(shard(1)), sender.blank(shard(1))], [Some(0); 2]);
    });
}

#[test]
fn a_full_mailbox_loses_nothing() {
    explore(|| {
        let mut ends = mesh::<u64>(2, 1);
        let (receiver, sender) = (ends.pop().expect("two"), ends.pop().expect("two"));
        let bells = bells(2);
        let mut ringer = bells.clone();
        let thread = thread::spawn(move || {
            sender.try_send(shard(1), 1, &mut ringer).expect("there is room");
            while sender.try_send(shard(1), 2, &mut ringer).is_err() {
                thread::yield_now();
            }
        });
        assert_eq!(receive(&receiver, &bells, 2), [1, 2]);
        thread.join().expect("the sender ends");
    });
}

#[test]
fn two_shards_that_answer_each_other_both_wake_up() {
    explore(|| {
        let mut ends = mesh::<u64>(2, 1);
        let (second, first) = (ends.pop().expect("two"), ends.pop().expect("two"));
        let bells = bells(2);
        let mut others = bells.clone();
        let thread = thread::spawn(move || {
            assert_eq!(receive(&second, &others.clone(), 1), [1]);
            second.try_send(shard(0), 2, &mut others).expect("there is room");
        });
        first.try_send(shard(1), 1, &mut bells.clone()).expect("there is room");
        assert_eq!(receive(&first, &bells, 1), [2]);
        thread.join().expect("the other shard ends");
    });
}

#[test]
fn two_senders_reach_one_sleeper() {
    explore(|| {
        let mut ends = mesh::<u64>(3, 1);
        let receiver = ends.pop().expect("three");
        let bells = bells(3);
        let senders: Vec<_> = ends
            .into_iter()
            .zip(1..)
            .map(|(end, batch)| {
                let mut ringer = bells.clone();
                thread::spawn(move || end.try_send(shard(2), batch, &mut ringer))
            })
            .collect();
        let mut batches = receive(&receiver, &bells, 2);
        batches.sort_unstable();
        assert_eq!(batches, [1, 2]);
        for sender in senders {
            sender.join().expect("the sender ends").expect("there is room");
        }
    });
}
