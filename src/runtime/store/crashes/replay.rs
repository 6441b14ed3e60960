//! What a disk may hold after a crash: all that a sync has covered; of the rest any sectors, in any
//! order, and any names.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    disk::{Image, Inode, Naming, Step},
    random::Random,
};

/// The disk at one moment: what is surely on it, and what may be.
#[derive(Clone, Debug, Default)]
pub(super) struct Replay {
    durable: Image,
    /// Writes to each file that no sync has covered, in their order.
    pending: BTreeMap<Inode, Vec<Pending>>,
    /// Sectors that a sync has failed for. No later sync covers them.
    limbo: BTreeMap<Inode, BTreeMap<usize, Sector>>,
    namings: Vec<Naming>,
}

#[derive(Clone, Debug)]
struct Pending {
    offset: usize,
    bytes: Arc<[u8]>,
}

type Sector = [u8; SECTOR];

/// Which part of a write a crash leaves.
#[derive(Clone, Copy)]
enum Left {
    All,
    Nothing,
    /// Units of so many bytes, up to this one.
    First(usize, usize),
    /// All units but this one.
    AllBut(usize, usize),
    /// Each unit or not.
    Any(usize),
}

impl Replay {
    /// A disk on which all of this is.
    pub(super) fn of(image: Image) -> Replay {
        Replay { durable: image, ..Replay::default() }
    }

    /// Whether all that was done is on the disk.
    pub(super) fn is_settled(&self) -> bool {
        self.pending.is_empty() && self.limbo.is_empty() && self.namings.is_empty()
    }

    pub(super) fn apply(&mut self, step: &Step) {
        match step {
            Step::Name(naming) => {
                if let Naming::Create { inode, .. } = naming {
                    self.durable.files.resize(inode + 1, Arc::default());
                }
                self.namings.push(naming.clone());
            }
            Step::Write { inode, offset, bytes } => {
                let pending = Pending { offset: *offset, bytes: Arc::clone(bytes) };
                self.pending.entry(*inode).or_default().push(pending);
            }
            Step::Sync { inode } => self.settle(*inode),
            Step::FailedSync { inode } => self.give_up(*inode),
            Step::SyncNames => {
                for naming in std::mem::take(&mut self.namings) {
                    self.durable.apply(&naming);
                }
            }
            Step::Restart | Step::End => {}
        }
    }

    fn settle(&mut self, inode: Inode) {
        for write in self.pending.remove(&inode).unwrap_or_default() {
            self.durable.write(inode, write.offset, &write.bytes);
            if let Some(limbo) = self.limbo.get_mut(&inode) {
                limbo
                    .retain(|at, _| !(write.offset..write.offset + write.bytes.len()).contains(at));
            }
        }
        self.limbo.retain(|_, sectors| !sectors.is_empty());
    }

    fn give_up(&mut self, inode: Inode) {
        for write in self.pending.remove(&inode).unwrap_or_default() {
            let limbo = self.limbo.entry(inode).or_default();
            for (at, sector) in write.bytes.chunks_exact(SECTOR).enumerate() {
                limbo.insert(write.offset + at * SECTOR, sector.try_into().unwrap());
            }
        }
    }

    /// What is surely on the disk.
    pub(super) fn durable(&self) -> &Image {
        &self.durable
    }

    /// One of the states that a crash may leave.
    pub(super) fn crash(&self, random: &mut Random) -> Image {
        let mut image = self.durable.clone();
        self.name_some(&mut image, random);
        for (inode, sectors) in &self.limbo {
            for (at, sector) in sectors {
                if random.one_in(2) {
                    image.write(*inode, *at, sector);
                }
            }
        }
        for (inode, writes) in &self.pending {
            let all = random.one_in(4);
            for write in writes {
                let left = if all { Left::All } else { Left::some(write.bytes.len(), random) };
                left.write(write, *inode, &mut image, random);
            }
        }
        image
    }

    /// Changes of names come to the disk in their order for each file, and all or some of them.
    fn name_some(&self, image: &mut Image, random: &mut Random) {
        let in_order = random.one_in(2);
        let first = random.below(self.namings.len() + 1);
        let mut stopped = Vec::new();
        for (at, naming) in self.namings.iter().enumerate() {
            let inode = match naming {
                Naming::Create { inode, .. }
                | Naming::Rename { inode, .. }
                | Naming::Remove { inode, .. } => *inode,
            };
            let stops = if in_order { at >= first } else { random.one_in(3) };
            if stops {
                stopped.push(inode);
            }
            if !stopped.contains(&inode) {
                image.apply(naming);
            }
        }
    }
}

impl Left {
    fn some(bytes: usize, random: &mut Random) -> Left {
        let unit = if random.one_in(2) { SECTOR } else { PAGE };
        let units = bytes.div_ceil(unit);
        match random.below(6) {
            0 => Left::All,
            1 => Left::Nothing,
            2 => Left::First(unit, random.below(units)),
            3 => Left::AllBut(unit, random.below(units)),
            _ => Left::Any(unit),
        }
    }

    fn write(self, write: &Pending, inode: Inode, image: &mut Image, random: &mut Random) {
        let unit = match self {
            Left::All => return image.write(inode, write.offset, &write.bytes),
            Left::Nothing => return,
            Left::First(unit, _) | Left::AllBut(unit, _) | Left::Any(unit) => unit,
        };
        for (at, bytes) in write.bytes.chunks(unit).enumerate() {
            let is_left = match self {
                Left::First(_, count) => at < count,
                Left::AllBut(_, lost) => at != lost,
                _ => random.one_in(2),
            };
            if is_left {
                image.write(inode, write.offset + at * unit, bytes);
            }
        }
    }
}

/// What a disk writes as a whole: 512 bytes or 4 KiB.
const SECTOR: usize = 512;
const PAGE: usize = 4096;
