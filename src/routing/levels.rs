//! The texts of topic levels, each kept once however many filters use it.

use hashbrown::HashTable;

use super::arena::{Arena, Slot};
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
    text: Box<str>,
    users: u32,
}

#[derive(Debug)]
pub(super) struct Levels {
    seed: Seed,
    arena: Arena<Level>,
    by_text: HashTable<LevelId>,
}

impl Levels {
    pub(super) fn new(seed: Seed) -> Levels {
        Levels { seed, arena: Arena::default(), by_text: HashTable::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.arena.len()
    }

    #[inline]
    pub(super) fn find(&self, text: &str) -> Option<LevelId> {
        let hash = self.seed.hash(text);
        self.by_text.find(hash, |id| &*self.arena[id.0].text == text).copied()
    }

    /// The level with this text, with one more user.
    pub(super) fn acquire(&mut self, text: &str) -> LevelId {
        let id = self.find(text).unwrap_or_else(|| self.insert(text));
        self.arena[id.0].users += 1;
        id
    }

    /// Takes one user away; a level without any is forgotten.
    pub(super) fn release(&mut self, id: LevelId) {
        self.arena[id.0].users -= 1;
        if self.arena[id.0].users == 0 {
            self.remove(id);
        }
    }

    fn insert(&mut self, text: &str) -> LevelId {
        let id = LevelId(self.arena.insert(Level { text: text.into(), users: 0 }));
        let (seed, arena) = (self.seed, &self.arena);
        let rehash = |id: &LevelId| seed.hash(&*arena[id.0].text);
        self.by_text.insert_unique(seed.hash(text), id, rehash);
        id
    }

    fn remove(&mut self, id: LevelId) {
        let level = self.arena.remove(id.0);
        if let Ok(found) = self.by_text.find_entry(self.seed.hash(&*level.text), |&at| at == id) {
            found.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_lives_as_long_as_it_has_users() {
        let mut levels = Levels::new(Seed::new(1));
        let a = levels.acquire("a");
        assert_eq!(levels.acquire("a"), a);
        let empty = levels.acquire("");
        assert_eq!((levels.find(""), levels.len()), (Some(empty), 2));
        levels.release(a);
        assert_eq!(levels.find("a"), Some(a));
        levels.release(a);
        assert_eq!((levels.find("a"), levels.len()), (None, 1));
    }
}
