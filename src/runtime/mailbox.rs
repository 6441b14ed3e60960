//! The mailboxes between shards, and the items that wait at their sender for room in one.

use std::{
    collections::VecDeque,
    mem,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::connection::Moved;
use crate::{
    base::ids::{ShardId, ShardSet},
    mesh::{Endpoint, WakePeer},
    shard::letter::LetterBatch,
};

/// An item in a mailbox.
pub(super) enum MailboxItem {
    Letters(LetterBatch),
    Connection(Box<Moved>),
}

/// Items that a mailbox holds, in a broker with so many shards. Further ones wait at their sender.
/// The mailboxes on one shard hold 64 items together, but each has room for two.
pub(super) fn mailbox_items_max(shards: usize) -> usize {
    (SHARD_ITEMS_MAX / shards).clamp(2, MAILBOX_ITEMS_MAX)
}

const SHARD_ITEMS_MAX: usize = 64;
const MAILBOX_ITEMS_MAX: usize = 16;

/// The bytes of the letters that each shard has posted and that were not read to the end. All
/// clones are the same count.
#[derive(Clone)]
pub(super) struct Posted(Arc<[AtomicUsize]>);

impl Posted {
    pub(super) fn new(shards: usize) -> Posted {
        Posted((0..shards).map(|_| AtomicUsize::new(0)).collect())
    }

    fn by(&self, shard: ShardId) -> &AtomicUsize {
        &self.0[shard.index()]
    }
}

/// The mailboxes of one shard.
pub(super) struct Mail {
    endpoint: Endpoint<MailboxItem>,
    outgoing: Vec<Outgoing>,
    /// Peers for which something may wait on this shard.
    waiting: ShardSet,
    /// Peers whose mailbox on this shard may hold unread items.
    unread: ShardSet,
    /// By peer, a batch of which some letters were handled.
    begun: Vec<Option<LetterBatch>>,
    posted: Posted,
}

#[derive(Default)]
struct Outgoing {
    letters: LetterBatch,
    /// An empty batch that was not needed because the mailbox was full.
    spare: Option<LetterBatch>,
    connections: VecDeque<Box<Moved>>,
}

impl Mail {
    pub(super) fn new(endpoint: Endpoint<MailboxItem>, posted: Posted) -> Mail {
        let outgoing = (0..endpoint.shards()).map(|_| Outgoing::default()).collect();
        let begun = (0..endpoint.shards()).map(|_| None).collect();
        let (waiting, unread) = (ShardSet::EMPTY, ShardSet::EMPTY);
        Mail { endpoint, outgoing, waiting, unread, begun, posted }
    }

    pub(super) fn me(&self) -> ShardId {
        self.endpoint.me()
    }

    pub(super) fn letters(&mut self, to: ShardId) -> &mut LetterBatch {
        self.waiting.insert(to);
        &mut self.outgoing[to.index()].letters
    }

    pub(super) fn hand_over(&mut self, to: ShardId, connection: Box<Moved>) {
        self.waiting.insert(to);
        self.outgoing[to.index()].connections.push_back(connection);
    }

    /// Sends what is waiting, as far as the mailboxes have room. Returns the peers that were sent a
    /// crowded batch.
    pub(super) fn flush(&mut self, peers: &mut impl WakePeer) -> ShardSet {
        let mut relieved = ShardSet::EMPTY;
        for to in self.waiting.iter() {
            let crowded = self.outgoing[to.index()].letters.is_crowded();
            if self.flush_to(to, peers) {
                self.waiting.remove(to);
                if crowded {
                    relieved.insert(to);
                }
            }
        }
        relieved
    }

    /// Sends what waits for one peer. False: the mailbox had no room for all of it.
    fn flush_to(&mut self, to: ShardId, peers: &mut impl WakePeer) -> bool {
        let Outgoing { letters, spare, connections } = &mut self.outgoing[to.index()];
        while let Some(connection) = connections.pop_front() {
            let item = MailboxItem::Connection(connection);
            if let Err(MailboxItem::Connection(connection)) =
                self.endpoint.try_send(to, item, peers)
            {
                connections.push_front(connection);
                return false;
            }
        }
        if letters.is_empty() {
            return true;
        }
        let blank = spare.take().or_else(|| match self.endpoint.blank(to) {
            Some(MailboxItem::Letters(blank)) => Some(blank),
            _ => None,
        });
        let full = mem::replace(letters, blank.unwrap_or_default());
        let bytes = full.bytes();
        // Relaxed, here and below: the number guards no other memory. It is counted before the
        // receiver can take it off.
        let posted = self.posted.by(self.endpoint.me());
        posted.fetch_add(bytes, Ordering::Relaxed);
        match self.endpoint.try_send(to, MailboxItem::Letters(full), peers) {
            Err(MailboxItem::Letters(full)) => {
                posted.fetch_sub(bytes, Ordering::Relaxed);
                *spare = Some(mem::replace(letters, full));
                false
            }
            _ => true,
        }
    }

    /// Whether something waits because a mailbox was full.
    pub(super) fn is_held_up(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Bytes of the letters that this shard has written and that were not read to the end.
    pub(super) fn held(&self) -> usize {
        let waiting = self.waiting.iter().map(|to| self.outgoing[to.index()].letters.bytes());
        waiting.sum::<usize>() + self.posted.by(self.me()).load(Ordering::Relaxed)
    }

    /// The peers whose mailboxes are to be read.
    pub(super) fn senders(&mut self) -> ShardSet {
        self.unread = self.unread.union(self.endpoint.collect());
        self.unread
    }

    /// The next item of `from`. A batch of which some letters were handled comes first.
    pub(super) fn receive(&mut self, from: ShardId) -> Option<MailboxItem> {
        let begun = self.begun[from.index()].take().map(MailboxItem::Letters);
        let item = begun.or_else(|| self.endpoint.receive(from));
        if item.is_none() {
            self.unread.remove(from);
        }
        item
    }

    /// Keeps a batch of `from` of which some letters are left.
    pub(super) fn put_back(&mut self, from: ShardId, letters: LetterBatch) {
        self.begun[from.index()] = Some(letters);
    }

    pub(super) fn recycle(&self, from: ShardId, mut letters: LetterBatch) {
        self.posted.by(from).fetch_sub(letters.bytes(), Ordering::Relaxed);
        letters.clear();
        self.endpoint.recycle(from, MailboxItem::Letters(letters));
    }

    /// Whether a mailbox has new or unread items.
    pub(super) fn has_unread(&self) -> bool {
        !self.unread.is_empty() || self.endpoint.doorbell().has_marks()
    }

    /// Announces that this shard is about to sleep. False: something has come, so it must not.
    pub(super) fn announce_sleep(&self) -> bool {
        self.unread.is_empty() && self.endpoint.doorbell().announce_sleep()
    }

    pub(super) fn wake(&self) {
        self.endpoint.doorbell().wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{mesh::mesh, shard::letter::Letter};

    struct NobodySleeps;

    impl WakePeer for NobodySleeps {
        fn wake_peer(&mut self, shard: ShardId) {
            panic!("{shard} does not sleep");
        }
    }

    fn pair() -> (Mail, Mail, ShardId, ShardId) {
        let posted = Posted::new(2);
        let ends = mesh(2, MAILBOX_ITEMS_MAX).into_iter();
        let mut ends = ends.map(|end| Mail::new(end, posted.clone()));
        let (first, second) = (ends.next().unwrap(), ends.next().unwrap());
        let (from, to) = (first.me(), second.me());
        (first, second, from, to)
    }

    fn write(mail: &mut Mail, to: ShardId, upto: u64) {
        mail.letters(to).push(Letter::InterestApplied { upto });
    }

    /// The numbers of all letters that have come, in their order.
    fn read(mail: &mut Mail, from: ShardId) -> Vec<u64> {
        let mut numbers = Vec::new();
        assert!(mail.senders().contains(from));
        while let Some(MailboxItem::Letters(letters)) = mail.receive(from) {
            numbers.extend(letters.iter().map(|letter| match letter {
                Letter::InterestApplied { upto } => *upto,
                other => panic!("nobody has written {other:?}"),
            }));
            mail.recycle(from, letters);
        }
        numbers
    }

    #[test]
    fn the_mailboxes_on_one_shard_have_a_limit_together() {
        let each = [1, 4, 5, 16, 32, 128].map(mailbox_items_max);
        assert_eq!(each, [16, 16, 12, 4, 2, 2]);
    }

    #[test]
    fn letters_wait_in_order_while_the_mailbox_is_full() {
        let (mut sender, mut receiver, from, to) = pair();
        let rounds = 3 * MAILBOX_ITEMS_MAX as u64;
        for number in 0..rounds {
            write(&mut sender, to, number);
            sender.flush(&mut NobodySleeps);
        }
        assert!(sender.is_held_up());
        let mut numbers = read(&mut receiver, from);
        assert_eq!(numbers.len(), MAILBOX_ITEMS_MAX);
        sender.flush(&mut NobodySleeps);
        assert!(!sender.is_held_up());
        numbers.extend(read(&mut receiver, from));
        assert!(numbers.into_iter().eq(0..rounds));
    }

    #[test]
    fn what_is_left_of_a_batch_comes_before_later_ones_and_keeps_the_shard_awake() {
        let (mut sender, mut receiver, from, to) = pair();
        for numbers in [1..=3, 4..=5] {
            numbers.for_each(|number| write(&mut sender, to, number));
            sender.flush(&mut NobodySleeps);
        }
        assert!(receiver.senders().contains(from));
        let Some(MailboxItem::Letters(mut letters)) = receiver.receive(from) else { panic!() };
        assert!(!letters.note_handled(2));
        receiver.put_back(from, letters);
        assert!(receiver.has_unread() && !receiver.announce_sleep());
        assert_eq!(read(&mut receiver, from), [3, 4, 5]);
    }

    #[test]
    fn letters_are_counted_until_they_have_been_read() {
        let (mut sender, mut receiver, from, to) = pair();
        for _ in 0..=MAILBOX_ITEMS_MAX {
            write(&mut sender, to, 1);
            sender.flush(&mut NobodySleeps);
        }
        let each = size_of::<Letter>();
        assert_eq!(sender.held(), (MAILBOX_ITEMS_MAX + 1) * each);
        assert_eq!((read(&mut receiver, from).len(), sender.held()), (MAILBOX_ITEMS_MAX, each));
        sender.flush(&mut NobodySleeps);
        read(&mut receiver, from);
        assert_eq!(sender.held(), 0);
    }

    #[test]
    fn whoever_wrote_a_crowded_batch_is_told_when_it_has_gone() {
        let (mut sender, mut receiver, from, to) = pair();
        write(&mut sender, to, 0);
        assert!(sender.flush(&mut NobodySleeps).is_empty(), "it was not crowded");
        for _ in 1..MAILBOX_ITEMS_MAX {
            write(&mut sender, to, 0);
            sender.flush(&mut NobodySleeps);
        }
        while !sender.letters(to).is_crowded() {
            write(&mut sender, to, 0);
        }
        assert!(sender.flush(&mut NobodySleeps).is_empty(), "the mailbox is full");
        read(&mut receiver, from);
        assert!(sender.flush(&mut NobodySleeps).contains(to));
        assert!(!sender.is_held_up());
    }

    #[test]
    fn nobody_is_kept_awake_by_what_was_read() {
        let (mut sender, mut receiver, from, to) = pair();
        write(&mut sender, to, 1);
        sender.flush(&mut NobodySleeps);
        assert!(receiver.has_unread());
        assert!(!receiver.announce_sleep());
        assert_eq!(read(&mut receiver, from), [1]);
        assert!(!receiver.has_unread());
        assert!(receiver.announce_sleep());
    }
}
