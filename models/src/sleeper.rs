//! What the models share: a shard that sleeps, and who wakes it.

use alloc::sync::Arc;

use loom::{
    model::Builder,
    sync::{
        Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use crate::{base::ids::ShardId, mesh::doorbell::Doorbell};

/// Runs a model in every order of its threads.
pub fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(model);
}

/// The shard with this number.
pub fn shard(index: usize) -> ShardId {
    ShardId::new(index).expect("few shards")
}

/// What wakes a shard: rung once or often, it wakes once.
#[derive(Debug, Default)]
pub struct Waker {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Waker {
    pub fn ring(&self) {
        *self.rung.lock().expect("nobody panics with the lock") = true;
        self.changed.notify_one();
    }

    pub fn wait(&self) {
        let mut rung = self.rung.lock().expect("nobody panics with the lock");
        while !*rung {
            rung = self.changed.wait(rung).expect("nobody panics with the lock");
        }
        *rung = false;
    }
}

/// A shard that can sleep, and a mailbox for each sender that only the doorbell orders.
#[derive(Debug, Default)]
pub struct Sleeper {
    doorbell: Doorbell,
    bell: Waker,
    mailboxes: [AtomicU64; 2],
}

impl Sleeper {
    pub fn put(&self, from: usize, value: u64) {
        self.mailboxes[from].store(value, Ordering::Relaxed);
        if self.doorbell.mark(shard(from)) {
            self.bell.ring();
        }
    }

    /// Sleeps until somebody has marked, and adds up what is in the mailboxes of those.
    pub fn take(&self) -> u64 {
        if self.doorbell.announce_sleep() {
            self.bell.wait();
            self.doorbell.wake();
        }
        let marked = self.doorbell.collect();
        marked.iter().map(|from| self.mailboxes[from.index()].load(Ordering::Relaxed)).sum()
    }
}

/// A lost wake-up leaves the sleeper waiting for ever, which loom finds.
pub fn one_sender() {
    let sleeper = Arc::new(Sleeper::default());
    let sender = Arc::clone(&sleeper);
    let thread = thread::spawn(move || sender.put(0, 7));
    assert_eq!(sleeper.take(), 7);
    thread.join().expect("the sender ends");
}

/// How often a thread may be interrupted in the middle of something.
const PREEMPTIONS: usize = 3;
