//! Segments that are ready to be written, made by a thread of their own: making one takes as long
//! as writing it full.

use std::{
    collections::VecDeque,
    io,
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, unbounded};
use rustix::io::Errno;

use super::{
    files::{Directory, FREE, UNFINISHED},
    layer::StoreFile,
};
use crate::storage::segment::{Origin, SegmentHeader};

/// A segment with its header and nothing else.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) number: u32,
    pub(super) origin: Origin,
    pub(super) file: Box<dyn StoreFile>,
    /// Bytes of the file.
    pub(super) bytes: usize,
    /// Bytes that the disk still had for other segments when this one was made.
    pub(super) disk_left: usize,
}

/// What became of an order: the number of the segment, and the segment.
type Made = (u32, io::Result<Ready>);

/// The segments that come next.
#[derive(Debug)]
pub(super) struct Supply {
    orders: Option<Sender<Order>>,
    made: Receiver<Made>,
    maker: Option<Maker>,
    thread: Option<JoinHandle<()>>,
    ready: VecDeque<Ready>,
    /// What the headers say, but for the number.
    header: SegmentHeader,
    next: u32,
    is_ordered: bool,
    /// Bytes that the disk had left when the latest segment was made.
    disk_left: usize,
    /// Why the last order was not filled.
    shortage: Option<io::Error>,
    /// The disk failed while a segment was made. What it has lost is not known.
    failure: Option<io::Error>,
}

#[derive(Debug)]
enum Order {
    Make { header: SegmentHeader, bytes: usize },
    Recycle { number: u32 },
}

impl Supply {
    /// `header` is that of the segments to come, with the number of the first.
    pub(super) fn start(
        directory: Arc<Directory>,
        header: SegmentHeader,
        free: Vec<PathBuf>,
    ) -> io::Result<Supply> {
        let mut supply = Supply::without_thread(directory, header, free);
        if let Some(maker) = supply.maker.take() {
            let name = "ringmq-segments".to_owned();
            supply.thread = Some(thread::Builder::new().name(name).spawn(move || maker.run())?);
        }
        Ok(supply)
    }

    /// Segments that are made by whoever waits for them.
    pub(super) fn without_thread(
        directory: Arc<Directory>,
        header: SegmentHeader,
        free: Vec<PathBuf>,
    ) -> Supply {
        let (orders, ordered) = unbounded();
        let (send, made) = unbounded();
        Supply {
            orders: Some(orders),
            made,
            maker: Some(Maker { directory, free, ordered, made: send }),
            thread: None,
            ready: VecDeque::new(),
            header,
            next: header.number,
            is_ordered: false,
            disk_left: usize::MAX,
            shortage: None,
            failure: None,
        }
    }

    /// Orders one more segment of so many bytes, unless `enough` are ready or one is on its way.
    pub(super) fn order(&mut self, bytes: usize, enough: usize) {
        if self.is_ordered || self.ready.len() >= enough {
            return;
        }
        self.is_ordered = true;
        let header = SegmentHeader { number: self.next, ..self.header };
        self.send(Order::Make { header, bytes });
    }

    /// Gives a segment back that does not count any more.
    pub(super) fn recycle(&mut self, number: u32) {
        self.send(Order::Recycle { number });
    }

    fn send(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // If the maker has ended, no segment comes, and the store says that there is no room.
            drop(orders.send(order));
        }
    }

    /// Takes over what was made, and waits up to `patience` for it.
    pub(super) fn collect(&mut self, patience: Duration) {
        if let Some(maker) = self.maker.as_mut().filter(|_| !patience.is_zero()) {
            maker.work_off();
        }
        let Ok((number, made)) = self.made.recv_timeout(patience) else { return };
        self.is_ordered = false;
        match made {
            Ok(ready) => {
                self.next = number + 1;
                self.shortage = None;
                self.disk_left = ready.disk_left;
                self.ready.push_back(ready);
            }
            Err(error) if Errno::from_io_error(&error) == Some(Errno::IO) => {
                self.failure = Some(error);
            }
            Err(error) => self.shortage = Some(error),
        }
    }

    pub(super) fn take(&mut self) -> Option<Ready> {
        self.ready.pop_front()
    }

    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Bytes of all segments that are ready.
    pub(super) fn bytes(&self) -> usize {
        self.ready.iter().map(|ready| ready.bytes).sum()
    }

    /// Bytes that the disk had left for more segments, as far as is known.
    pub(super) fn disk_left(&self) -> usize {
        self.disk_left
    }

    /// Why there are fewer segments than there should be.
    pub(super) fn shortage(&self) -> Option<&io::Error> {
        self.shortage.as_ref()
    }

    pub(super) fn take_failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }

    pub(super) fn take_shortage(&mut self) -> Option<io::Error> {
        self.shortage.take()
    }
}

impl Drop for Supply {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

#[derive(Debug)]
struct Maker {
    directory: Arc<Directory>,
    /// Files that can become segments.
    free: Vec<PathBuf>,
    ordered: Receiver<Order>,
    made: Sender<Made>,
}

impl Maker {
    fn run(mut self) {
        while let Ok(order) = self.ordered.recv() {
            self.fill(&order);
        }
    }

    /// Fills the orders that wait.
    fn work_off(&mut self) {
        while let Ok(order) = self.ordered.try_recv() {
            self.fill(&order);
        }
    }

    fn fill(&mut self, order: &Order) {
        match order {
            Order::Make { header, bytes } => {
                let ready = self.make(header, *bytes);
                drop(self.made.send((header.number, ready)));
            }
            Order::Recycle { number } => self.recycle(*number),
        }
    }

    fn make(&mut self, header: &SegmentHeader, bytes: usize) -> io::Result<Ready> {
        let former = self.take_free(bytes);
        let (file, bytes) = self.directory.make_segment(header, bytes, former.as_deref())?;
        let spare = self.free.len() * bytes;
        let disk_left = self.directory.layer().room_below(self.directory.path());
        let disk_left = disk_left.saturating_add(spare);
        Ok(Ready { number: header.number, origin: header.origin(), file, bytes, disk_left })
    }

    /// A free file of exactly this size. Others are removed: they were made for another size, or a
    /// backup reads them.
    fn take_free(&mut self, bytes: usize) -> Option<PathBuf> {
        while let Some(path) = self.free.pop() {
            let layer = self.directory.layer();
            let fits = layer.bytes_of(&path).is_ok_and(|length| length == bytes);
            if fits && !self.directory.is_pinned() {
                return Some(path);
            }
            drop(layer.remove(&path));
        }
        None
    }

    /// A segment that could not be renamed or removed is found again at the next start.
    fn recycle(&mut self, number: u32) {
        let (path, free) = (self.directory.segment_path(number), self.free_path(number));
        let layer = self.directory.layer();
        if self.free.len() >= FREE_MAX {
            drop(layer.remove(&path));
        } else if layer.rename(&path, &free).is_ok() {
            self.free.push(free);
        }
    }

    fn free_path(&self, number: u32) -> PathBuf {
        self.directory.path().join(format!("{number}.{FREE}"))
    }
}

/// Sets aside what a former process has left: files in the making, and segments behind the end of
/// the log. The latest goes first, so that no gap arises. Returns files that can be used again.
pub(super) fn set_aside(directory: &Directory, behind: &[u32]) -> io::Result<Vec<PathBuf>> {
    let layer = directory.layer();
    for path in directory.files(UNFINISHED)? {
        layer.remove(&path)?;
    }
    for number in behind.iter().rev() {
        let path = directory.segment_path(*number);
        layer.rename(&path, &path.with_extension(FREE))?;
    }
    directory.sync()?;
    let mut free = directory.files(FREE)?;
    for path in free.drain(FREE_MAX.min(free.len())..) {
        layer.remove(&path)?;
    }
    Ok(free)
}

/// Segments that are kept ready: one to go on with, and two for what frees room when the disk is
/// full.
pub(super) const READY: usize = 3;
/// Files that are kept to be used again.
const FREE_MAX: usize = 2;
