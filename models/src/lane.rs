//! What the sources take from `crossbeam_channel`: a bounded channel, as a queue behind a lock.
//!
//! The lock orders more than the real channel does; what the doorbell alone orders is tried
//! without it.

use alloc::{collections::VecDeque, sync::Arc};

use loom::sync::Mutex;

type Queue<T> = Arc<Mutex<VecDeque<T>>>;

#[derive(Debug)]
pub struct Sender<T> {
    queue: Queue<T>,
    places: usize,
}

#[derive(Debug)]
pub struct Receiver<T>(Queue<T>);

#[derive(Debug)]
pub enum TrySendError<T> {
    Full(T),
    Disconnected(T),
}

impl<T> TrySendError<T> {
    pub fn into_inner(self) -> T {
        match self {
            TrySendError::Full(value) | TrySendError::Disconnected(value) => value,
        }
    }
}

#[derive(Debug)]
pub struct Empty;

pub fn bounded<T>(places: usize) -> (Sender<T>, Receiver<T>) {
    let queue = Queue::new(Mutex::new(VecDeque::new()));
    (Sender { queue: Arc::clone(&queue), places }, Receiver(queue))
}

impl<T> Sender<T> {
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let mut queue = self.queue.lock().expect("nobody panics with the lock");
        if queue.len() == self.places {
            return Err(TrySendError::Full(value));
        }
        queue.push_back(value);
        Ok(())
    }
}

impl<T> Receiver<T> {
    pub fn try_recv(&self) -> Result<T, Empty> {
        self.0.lock().expect("nobody panics with the lock").pop_front().ok_or(Empty)
    }
}
