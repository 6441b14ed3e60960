//! What the latest names have matched: devices publish to the same few names again and again.
//!
//! A name that comes again is looked up whole instead of walked level by level. What was found
//! holds until some filter gains its first user or loses its last one.

use super::target::TargetId;
use crate::{
    base::{hash::Seed, ids::ShardSet},
    topic::TopicName,
};

/// What each of the latest names has matched. Whoever comes to a taken place takes it over.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// [`PLACES`] of them; none until the first name is kept.
    places: Box<[Found]>,
}

/// One name and what it matched.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) shards: ShardSet,
    /// How often the trie had changed by then, plus one; 0 in a place that is free.
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
    /// What this name has matched, if that is known and still true.
    #[inline]
    pub(super) fn find(&self, name: TopicName<'_>, seed: Seed, changes: u64) -> Option<&Found> {
        let found = self.places.get(place(name, seed))?;
        (found.valid_at == changes + 1 && found.name() == name.as_str().as_bytes()).then_some(found)
    }

    /// Keeps what a name has matched. A long name, or one that many filters match, is not kept.
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
