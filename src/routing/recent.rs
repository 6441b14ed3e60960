//! A cache of what the latest Topic Names have matched: devices publish to the same few names.
//!
//! A name in the cache needs one lookup instead of a walk level by level. An entry is valid until
//! any filter gains its first user or loses its last one.

use super::target::TargetId;
use crate::{
    base::{hash::Seed, ids::ShardSet},
    topic::TopicName,
};

/// What the latest names have matched. A new name replaces an older one in the same place.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// [`PLACES`] of them; none until the first name is kept.
    places: Box<[Found]>,
}

/// One name and what it matched.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) shards: ShardSet,
    /// The number of changes of the trie when the entry was made, plus one; 0 if the place is free.
    valid_at: u64,
    targets: [Option<TargetId>; TARGETS_MAX],
    name_len: u8,
    name: Name,
}

const _: () = assert!(size_of::<Found>() <= 160, "each shard has a thousand");

#[derive(Clone, Debug)]
struct Name([u8; NAME_BYTES_MAX]);

impl Default for Name {
    fn default() -> Name {
        Name([0; NAME_BYTES_MAX])
    }
}

impl Recent {
    /// What this name has matched, if the entry exists and is valid.
    #[inline]
    pub(super) fn find(&self, name: TopicName<'_>, seed: Seed, changes: u64) -> Option<&Found> {
        let found = self.places.get(place(name, seed))?;
        (found.valid_at == changes + 1 && found.name() == name.as_str().as_bytes()).then_some(found)
    }

    /// Keeps what a name has matched, unless the name is long or many filters match it.
    pub(super) fn keep(
        &mut self,
        name: TopicName<'_>,
        seed: Seed,
        changes: u64,
        (targets, shards): (&[TargetId], ShardSet),
    ) {
        let bytes = name.as_str().as_bytes();
        if bytes.len() > NAME_BYTES_MAX || targets.len() > TARGETS_MAX {
            return;
        }
        if self.places.is_empty() {
            self.places = vec![Found::default(); PLACES].into();
        }
        let found = &mut self.places[place(name, seed)];
        found.valid_at = changes + 1;
        found.shards = shards;
        found.targets = [None; TARGETS_MAX];
        for (place, target) in found.targets.iter_mut().zip(targets) {
            *place = Some(*target);
        }
        found.name.0[..bytes.len()].copy_from_slice(bytes);
        found.name_len = u8::try_from(bytes.len()).expect("short names only");
    }
}

impl Found {
    pub(super) fn targets(&self) -> impl Iterator<Item = TargetId> {
        self.targets.iter().map_while(|target| *target)
    }

    fn name(&self) -> &[u8] {
        &self.name.0[..usize::from(self.name_len)]
    }
}

#[inline]
fn place(name: TopicName<'_>, seed: Seed) -> usize {
    let place = seed.hash(name.as_str()) % PLACES as u64;
    usize::try_from(place).expect("few places")
}

const PLACES: usize = 1024;
const NAME_BYTES_MAX: usize = 112;
const TARGETS_MAX: usize = 4;
