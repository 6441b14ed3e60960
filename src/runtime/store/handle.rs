//! A shard's access to the store, and the queue between the two.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};

use super::figures::SharedFigures;
use crate::{
    base::ids::ShardId,
    runtime::bell::Bells,
    shard::store_figures::{StoreCondition, StoreFigures},
    storage::RecordBatch,
};

/// How many batches a shard has posted. A batch is safe when [`StoreHandle::durable`] has reached
/// the mark of its post.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(pub u64);

/// The queue of the store is full. The batch was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreFull;

/// A shard's end of the store.
#[derive(Debug)]
pub struct StoreHandle {
    me: ShardId,
    posts: Sender<Item>,
    emptied: Receiver<RecordBatch>,
    posted: Mark,
    shared: Arc<Shared>,
}

/// One batch on its way to the store.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) shard: ShardId,
    pub(super) mark: Mark,
    pub(super) batch: RecordBatch,
}

#[derive(Debug)]
enum Item {
    Post(Post),
    /// No post comes after this.
    End,
}

/// What waiting for posts has come to.
#[derive(Debug)]
pub(super) enum Waited {
    Post(Post),
    Nothing,
    /// All posts have come.
    End,
}

/// Ends the queue behind all that was posted.
#[derive(Debug)]
pub(super) struct Ender {
    posts: Sender<Item>,
    shared: Arc<Shared>,
}

/// The store's end of the queue.
#[derive(Debug)]
pub(super) struct Posts {
    waiting: Receiver<Item>,
    has_ended: bool,
    emptied: Vec<Sender<RecordBatch>>,
    shared: Arc<Shared>,
    bells: Bells,
}

#[derive(Debug)]
struct Shared {
    /// Bytes of all batches in the queue.
    queued_bytes: AtomicUsize,
    condition: AtomicU8,
    /// The broker ends, and waits for the store.
    is_closing: AtomicBool,
    /// For each shard, how many of its batches are safe.
    durable: Box<[DurableMark]>,
    figures: SharedFigures,
}

/// In a cache line of its own: each shard reads its mark in each turn.
#[derive(Debug, Default)]
#[repr(align(64))]
struct DurableMark(AtomicU64);

/// The ends of the queue: one for each shard, the store's, and one that ends it.
pub(super) fn queue(bells: &Bells) -> (Vec<StoreHandle>, Posts, Ender) {
    let (sender, receiver) = unbounded();
    let shared = Arc::new(Shared {
        queued_bytes: AtomicUsize::new(0),
        condition: AtomicU8::new(StoreCondition::Running as u8),
        is_closing: AtomicBool::new(false),
        durable: bells.shards().map(|_| DurableMark::default()).collect(),
        figures: SharedFigures::default(),
    });
    let handle = |me| {
        let (back, emptied) = bounded(EMPTIED_MAX);
        let (posts, shared) = (sender.clone(), Arc::clone(&shared));
        (StoreHandle { me, posts, emptied, posted: Mark::default(), shared }, back)
    };
    let (handles, emptied) = bells.shards().map(handle).unzip();
    let ender = Ender { posts: sender, shared: Arc::clone(&shared) };
    let bells = bells.clone();
    (handles, Posts { waiting: receiver, has_ended: false, emptied, shared, bells }, ender)
}

impl Ender {
    pub(super) fn end(self) {
        self.shared.is_closing.store(true, Ordering::Relaxed);
        // The store may have ended already.
        drop(self.posts.send(Item::End));
    }
}

impl StoreHandle {
    /// Posts the records and leaves an empty batch. `Err`: nothing was taken, and the shard tries
    /// again in a later turn. The queue is full while a slow disk has not written what is in it.
    pub fn try_post(&mut self, batch: &mut RecordBatch) -> Result<Mark, StoreFull> {
        if batch.is_empty() {
            return Ok(self.posted);
        }
        let bytes = batch.len();
        let queued = self.shared.queued_bytes.load(Ordering::Relaxed);
        // A batch that is larger than the queue finds it empty at some time.
        if queued > 0 && queued + bytes > QUEUE_BYTES_MAX {
            return Err(StoreFull);
        }
        self.shared.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        let emptied = self.emptied.try_recv().unwrap_or_default();
        let batch = std::mem::replace(batch, emptied);
        self.posted.0 += 1;
        // The send fails only if the store has ended: then the mark is never reached.
        drop(self.posts.send(Item::Post(Post { shard: self.me, mark: self.posted, batch })));
        Ok(self.posted)
    }

    /// Up to which post everything is safe. The bell of the shard rings when this has grown.
    #[inline]
    pub fn durable(&self) -> Mark {
        Mark(self.shared.durable[self.me.index()].0.load(Ordering::Acquire))
    }

    /// The mark of the latest post.
    #[inline]
    pub fn posted(&self) -> Mark {
        self.posted
    }

    #[inline]
    pub fn condition(&self) -> StoreCondition {
        match self.shared.condition.load(Ordering::Acquire) {
            0 => StoreCondition::Running,
            1 => StoreCondition::Full,
            _ => StoreCondition::Failed,
        }
    }

    /// What the store says of itself.
    pub fn figures(&self) -> StoreFigures {
        let queued = self.shared.queued_bytes.load(Ordering::Relaxed);
        self.shared.figures.get(self.condition(), queued as u64)
    }
}

impl Posts {
    /// Waits for a post, for so long.
    pub(super) fn wait(&mut self, patience: Duration) -> Waited {
        if self.has_ended {
            return Waited::End;
        }
        match self.waiting.recv_timeout(patience) {
            Ok(Item::Post(post)) => Waited::Post(post),
            Ok(Item::End) | Err(RecvTimeoutError::Disconnected) => Waited::End,
            Err(RecvTimeoutError::Timeout) => Waited::Nothing,
        }
    }

    /// The next post, if one waits.
    pub(super) fn next(&mut self) -> Option<Post> {
        match self.waiting.try_recv().ok()? {
            Item::Post(post) => Some(post),
            Item::End => {
                self.has_ended = true;
                None
            }
        }
    }

    /// The broker waits for the end of the store.
    pub(super) fn is_closing(&self) -> bool {
        self.shared.is_closing.load(Ordering::Relaxed)
    }

    /// The records of a batch have been copied: its memory goes back to its shard.
    pub(super) fn give_back(&self, Post { shard, mut batch, .. }: Post) {
        self.shared.queued_bytes.fetch_sub(batch.len(), Ordering::Relaxed);
        batch.clear();
        // A shard with many emptied batches needs no more.
        drop(self.emptied[shard.index()].try_send(batch));
    }

    /// Tells a shard that its posts are safe up to this mark.
    pub(super) fn tell(&self, shard: ShardId, mark: Mark) {
        self.shared.durable[shard.index()].0.store(mark.0, Ordering::Release);
        self.bells.ring(shard);
    }

    /// Where the shards see the figures.
    pub(super) fn figures(&self) -> &SharedFigures {
        &self.shared.figures
    }

    /// Tells all shards what the store can do.
    pub(super) fn set_condition(&self, condition: StoreCondition) {
        if self.shared.condition.swap(condition as u8, Ordering::Release) != condition as u8 {
            self.bells.ring_all();
        }
    }
}

/// Bytes of records that wait for the disk, at most: some seconds of a slow one.
const QUEUE_BYTES_MAX: usize = 32 << 20;
/// Empty batches that are kept for a shard.
const EMPTIED_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::storage::{Record, SessionNumber};

    fn wait(posts: &mut Posts) -> Post {
        match posts.wait(Duration::from_secs(10)) {
            Waited::Post(post) => post,
            other => panic!("a post comes, not {other:?}"),
        }
    }

    fn batch(session: u64) -> RecordBatch {
        let mut batch = RecordBatch::default();
        batch.push(&Record::SessionEnd { session: SessionNumber(session) });
        batch
    }

    #[test]
    fn posts_come_in_order_and_marks_go_back() {
        let bells = Bells::new(2).unwrap();
        let (mut handles, mut posts, ender) = queue(&bells);
        assert_eq!(handles[1].try_post(&mut batch(1)), Ok(Mark(1)));
        assert_eq!(handles[0].try_post(&mut batch(2)), Ok(Mark(1)));
        assert_eq!(handles[1].try_post(&mut batch(3)), Ok(Mark(2)));
        assert_eq!(handles[1].try_post(&mut RecordBatch::default()), Ok(Mark(2)));
        for (shard, expected) in [(1, batch(1)), (0, batch(2)), (1, batch(3))] {
            let post = wait(&mut posts);
            assert_eq!((post.shard.index(), &post.batch), (shard, &expected));
            posts.give_back(post);
        }
        assert_eq!(handles[1].durable(), Mark(0));
        let second = ShardId::new(1).unwrap();
        posts.tell(second, Mark(2));
        bells.listen(second).read_exact(&mut [0; 1]).unwrap();
        assert_eq!((handles[0].durable(), handles[1].durable()), (Mark(0), Mark(2)));
        assert!(matches!(posts.wait(Duration::ZERO), Waited::Nothing));
        ender.end();
        assert!(posts.is_closing() && posts.next().is_none());
        assert!(matches!(posts.wait(Duration::ZERO), Waited::End));
    }

    #[test]
    fn a_full_queue_takes_nothing_until_the_store_has_written() {
        let bells = Bells::new(1).unwrap();
        let (mut handles, mut posts, ender) = queue(&bells);
        let mut large = RecordBatch::default();
        let filter = "f".repeat(QUEUE_BYTES_MAX);
        large.push(&Record::Unsubscribe { session: SessionNumber(1), filter: &filter });
        assert_eq!(handles[0].try_post(&mut large), Ok(Mark(1)), "larger than the queue");
        assert!(large.is_empty());
        let mut small = batch(7);
        assert_eq!(handles[0].try_post(&mut small), Err(StoreFull));
        assert_eq!(small, batch(7));
        let post = posts.next().unwrap();
        posts.give_back(post);
        assert_eq!(handles[0].try_post(&mut small), Ok(Mark(2)));
        assert!(handles[0].emptied.is_empty(), "the emptied batch is used again");
        ender.end();
    }

    #[test]
    fn a_condition_that_changes_wakes_all_shards() {
        let bells = Bells::new(1).unwrap();
        let (handles, posts, _ender) = queue(&bells);
        assert_eq!(handles[0].condition(), StoreCondition::Running);
        posts.set_condition(StoreCondition::Full);
        bells.listen(ShardId::FIRST).read_exact(&mut [0; 1]).unwrap();
        assert_eq!(handles[0].condition(), StoreCondition::Full);
        posts.set_condition(StoreCondition::Failed);
        assert_eq!(handles[0].condition(), StoreCondition::Failed);
    }
}
