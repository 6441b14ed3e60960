//! The texts of topic levels. Each text is kept once, even if many filters use it.

use super::{
    arena::{Arena, Slot},
    index::Index,
};
use crate::base::hash::Seed;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LevelId(Slot);

impl LevelId {
    pub(super) fn number(self) -> u32 {
        self.0.number()
    }
}

#[derive(Debug, Default)]
struct Level {
    text: LevelText,
    users: u32,
}

const _: () = assert!(size_of::<Level>() <= 32, "a level without an allocation of its own");

/// The bytes of a level, in place when they are few.
#[derive(Debug)]
enum LevelText {
    Short { length: u8, bytes: [u8; SHORT_MAX] },
    Long(Box<[u8]>),
}

#[derive(Debug)]
pub(super) struct LevelTable {
    seed: Seed,
    arena: Arena<Level>,
    by_text: Index<LevelId>,
}

impl LevelTable {
    pub(super) fn new(seed: Seed) -> LevelTable {
        LevelTable { seed, arena: Arena::default(), by_text: Index::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.arena.len()
    }

    #[inline]
    pub(super) fn find(&self, text: &str) -> Option<LevelId> {
        let hash = self.seed.hash(text.as_bytes());
        self.by_text.find(hash, |id| self.arena[id.0].text.as_bytes() == text.as_bytes())
    }

    /// The level with this text, with one more user.
    pub(super) fn acquire(&mut self, text: &str) -> LevelId {
        let id = self.find(text).unwrap_or_else(|| self.insert(text));
        self.arena[id.0].users += 1;
        id
    }

    /// Removes one user. A level without users is forgotten.
    pub(super) fn release(&mut self, id: LevelId) {
        self.arena[id.0].users -= 1;
        if self.arena[id.0].users == 0 {
            self.remove(id);
        }
    }

    fn insert(&mut self, text: &str) -> LevelId {
        let level = Level { text: LevelText::new(text.as_bytes()), users: 0 };
        let id = LevelId(self.arena.insert(level));
        let rehash = |id: &LevelId| self.arena[id.0].hash(self.seed);
        self.by_text.insert(self.arena[id.0].hash(self.seed), id, rehash);
        id
    }

    fn remove(&mut self, id: LevelId) {
        let rehash = |id: &LevelId| self.arena[id.0].hash(self.seed);
        self.by_text.remove(self.arena[id.0].hash(self.seed), id, rehash);
        self.arena.remove(id.0);
    }
}

impl Level {
    fn hash(&self, seed: Seed) -> u64 {
        seed.hash(self.text.as_bytes())
    }
}

impl LevelText {
    fn new(text: &[u8]) -> LevelText {
        let mut bytes = [0; SHORT_MAX];
        match (u8::try_from(text.len()), bytes.get_mut(..text.len())) {
            (Ok(length), Some(place)) => {
                place.copy_from_slice(text);
                LevelText::Short { length, bytes }
            }
            _ => LevelText::Long(text.into()),
        }
    }

    #[inline]
    fn as_bytes(&self) -> &[u8] {
        match self {
            LevelText::Short { length, bytes } => &bytes[..usize::from(*length)],
            LevelText::Long(bytes) => bytes,
        }
    }
}

impl Default for LevelText {
    fn default() -> LevelText {
        LevelText::Short { length: 0, bytes: [0; SHORT_MAX] }
    }
}

/// Bytes of a short text. With its length and its kind it takes three machine words.
const SHORT_MAX: usize = 22;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_lives_as_long_as_it_has_users() {
        let mut levels = LevelTable::new(Seed::new(1));
        let a = levels.acquire("a");
        assert_eq!(levels.acquire("a"), a);
        let empty = levels.acquire("");
        assert_eq!((levels.find(""), levels.len()), (Some(empty), 2));
        levels.release(a);
        assert_eq!(levels.find("a"), Some(a));
        levels.release(a);
        assert_eq!((levels.find("a"), levels.len()), (None, 1));
    }

    #[test]
    fn levels_of_any_length_are_told_apart() {
        let mut levels = LevelTable::new(Seed::new(1));
        let texts: Vec<String> = (0..60).map(|length| "x".repeat(length)).collect();
        let ids: Vec<LevelId> = texts.iter().map(|text| levels.acquire(text)).collect();
        for (text, id) in texts.iter().zip(ids) {
            assert_eq!(levels.find(text), Some(id));
            levels.release(id);
            assert_eq!(levels.find(text), None);
        }
    }
}
