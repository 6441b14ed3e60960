//! Which other shards want which topics: a digest of each of their filters, and no text.
//!
//! The shard that gets a message matches it again, so two filters with one digest cost no more than
//! a message in vain. There is an entry for each filter and shard. So one of two filters of a shard
//! with one digest can go, and the other one stays.
//!
//! A filter with wildcards has the digest of its literal levels. A name is looked up once for each
//! [`Shape`] of filter in use, with those of its levels that the shape has not left out. There are
//! few shapes, whatever the number of filters.

use super::index::Index;
use crate::{
    base::{
        hash::Seed,
        ids::{ShardId, ShardSet},
    },
    topic::{TopicFilter, TopicName},
};

/// The interest of the other shards, as far as it is kept as digests.
#[derive(Debug)]
pub(super) struct Digests {
    seed: Seed,
    wanted: Index<Wanted>,
    len: usize,
    /// How many of these are of filters without wildcards.
    literal: usize,
    /// The other ones by their shapes, in no order.
    shapes: Vec<(Shape, usize)>,
}

/// The digest of a filter, and a shard that wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted(u64);

/// Where the wildcards of a filter are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    /// The levels that are `+`: one bit each, the lowest for the first level.
    plus: u64,
    /// The number of levels, without `#`.
    levels: u8,
    /// Whether the filter ends in `#`.
    rest: bool,
}

/// The digests of the levels of one name.
struct Levels {
    /// Of no more than the first [`LEVELS_MAX`] levels.
    digests: [u64; LEVELS_MAX],
    count: usize,
}

/// Filters of further shapes are not kept as digests. A name is looked up for each shape.
const SHAPES_MAX: usize = 32;
/// Filters with wildcards and more levels are not kept as digests.
const LEVELS_MAX: usize = 16;

impl Digests {
    pub(super) fn new(seed: Seed) -> Digests {
        let (wanted, shapes) = (Index::default(), Vec::new());
        Digests { seed, wanted, len: 0, literal: 0, shapes }
    }

    /// How many filters there are, counted for each shard.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A shard wants a filter that it did not want before. False: the filter cannot be kept as a
    /// digest.
    pub(super) fn add(&mut self, filter: TopicFilter<'_>, shard: ShardId) -> bool {
        if !filter.has_wildcard() {
            self.literal += 1;
        } else if !Shape::of(filter).is_some_and(|shape| self.count_shape(shape)) {
            return false;
        }
        let digest = self.digest_of(filter);
        self.wanted.insert(digest, Wanted::new(digest, shard), |wanted| wanted.digest());
        self.len += 1;
        true
    }

    /// A shard no longer wants a filter. False: nothing is known of it.
    pub(super) fn remove(&mut self, filter: TopicFilter<'_>, shard: ShardId) -> bool {
        let digest = self.digest_of(filter);
        let wanted = Wanted::new(digest, shard);
        if !self.wanted.remove(digest, wanted, |wanted| wanted.digest()) {
            return false;
        }
        self.len -= 1;
        if filter.has_wildcard() {
            self.discount_shape(filter);
        } else {
            self.literal -= 1;
        }
        true
    }

    /// The shards that want exactly this filter.
    pub(super) fn of_filter(&self, filter: TopicFilter<'_>) -> ShardSet {
        self.shards_of(self.digest_of(filter))
    }

    /// The shards that want messages with this name.
    pub(super) fn of_name(&self, name: TopicName<'_>) -> ShardSet {
        let mut shards = ShardSet::EMPTY;
        if self.literal > 0 {
            shards = self.shards_of(self.seed.hash(name.as_str()));
        }
        if self.shapes.is_empty() {
            return shards;
        }
        let levels = Levels::of(self.seed, name.levels());
        for (shape, _) in &self.shapes {
            if shape.fits(&levels, name.is_reserved()) {
                shards = shards.union(self.shards_of(shape.digest(&levels, self.seed)));
            }
        }
        shards
    }

    fn shards_of(&self, digest: u64) -> ShardSet {
        let mut shards = ShardSet::EMPTY;
        for wanted in self.wanted.all(digest) {
            if wanted.digest() == whole(digest) {
                shards.insert(wanted.shard());
            }
        }
        shards
    }

    /// The digest of any filter. A filter without a shape has none that is in use.
    fn digest_of(&self, filter: TopicFilter<'_>) -> u64 {
        match Shape::of(filter) {
            Some(shape) => shape.digest(&Levels::of(self.seed, filter.levels()), self.seed),
            None => self.seed.hash(filter.as_str()),
        }
    }

    /// Counts one more filter of a shape. False: there are too many other shapes.
    fn count_shape(&mut self, shape: Shape) -> bool {
        if let Some((_, count)) = self.shapes.iter_mut().find(|(other, _)| *other == shape) {
            *count += 1;
            return true;
        }
        let has_room = self.shapes.len() < SHAPES_MAX;
        if has_room {
            self.shapes.push((shape, 1));
        }
        has_room
    }

    fn discount_shape(&mut self, filter: TopicFilter<'_>) {
        let shape = Shape::of(filter);
        let place = self.shapes.iter().position(|(other, _)| Some(*other) == shape);
        let place = place.expect("each filter with a wildcard was counted");
        self.shapes[place].1 -= 1;
        if self.shapes[place].1 == 0 {
            self.shapes.swap_remove(place);
        }
    }
}

impl Shape {
    /// The shape of a filter with wildcards; `None` if there is no wildcard or too many levels.
    fn of(filter: TopicFilter<'_>) -> Option<Shape> {
        if !filter.has_wildcard() {
            return None;
        }
        let mut shape = Shape { plus: 0, levels: 0, rest: false };
        for level in filter.levels() {
            if level == "#" {
                shape.rest = true;
                break;
            }
            if usize::from(shape.levels) == LEVELS_MAX {
                return None;
            }
            shape.plus |= u64::from(level == "+") << shape.levels;
            shape.levels += 1;
        }
        Some(shape)
    }

    /// Whether a filter of this shape may match a name with these levels.
    #[inline]
    fn fits(&self, levels: &Levels, is_reserved: bool) -> bool {
        let count = usize::from(self.levels);
        // [MQTT-4.7.2-1]
        let begins_with_wildcard = self.plus & 1 == 1 || count == 0;
        (if self.rest { levels.count >= count } else { levels.count == count })
            && !(is_reserved && begins_with_wildcard)
    }

    /// The digest of the filter of this shape that matches these levels.
    fn digest(&self, levels: &Levels, seed: Seed) -> u64 {
        let mut digest = u64::from(self.levels) << 1 | u64::from(self.rest);
        for (index, level) in levels.digests[..usize::from(self.levels)].iter().enumerate() {
            if self.plus >> index & 1 == 0 {
                digest = (digest ^ level).wrapping_mul(ODD).rotate_left(29);
            }
        }
        seed.hash(&(digest, self.plus))
    }
}

/// An odd number without a pattern: the golden ratio.
const ODD: u64 = 0x9E37_79B9_7F4A_7C15;

impl Levels {
    fn of<'a>(seed: Seed, texts: impl Iterator<Item = &'a str>) -> Levels {
        let mut levels = Levels { digests: [0; LEVELS_MAX], count: 0 };
        for text in texts {
            if let Some(place) = levels.digests.get_mut(levels.count) {
                *place = seed.hash(text);
            }
            levels.count += 1;
        }
        levels
    }
}

impl Wanted {
    fn new(digest: u64, shard: ShardId) -> Wanted {
        Wanted(whole(digest) | (shard.index() as u64) << SHARD_SHIFT)
    }

    /// The digest without the bits that have the shard.
    #[inline]
    fn digest(self) -> u64 {
        whole(self.0)
    }

    #[inline]
    fn shard(self) -> ShardId {
        let index = self.0 >> SHARD_SHIFT & SHARD_BITS;
        ShardId::new(index as usize).expect("it was the number of a shard")
    }
}

/// The part of a digest that is kept.
#[inline]
fn whole(digest: u64) -> u64 {
    digest & !(SHARD_BITS << SHARD_SHIFT)
}

/// The index uses the bits below and above these.
const SHARD_SHIFT: u32 = 44;
const SHARD_BITS: u64 = 0x7F;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::topic::twin;

    const SEED: Seed = Seed::new(5);

    fn shard(index: usize) -> ShardId {
        ShardId::new(index).unwrap()
    }

    fn filter(text: &str) -> TopicFilter<'_> {
        TopicFilter::parse(text).unwrap()
    }

    fn shards(digests: &Digests, name: &str) -> Vec<usize> {
        digests.of_name(TopicName::parse(name).unwrap()).iter().map(ShardId::index).collect()
    }

    #[test]
    fn each_filter_matches_the_names_that_section_4_7_says() {
        for text in twin::filters() {
            let mut digests = Digests::new(SEED);
            assert!(digests.add(filter(&text), shard(127)));
            for name in twin::names() {
                let expected = if twin::matches(&text, &name) { vec![127] } else { vec![] };
                assert_eq!(shards(&digests, &name), expected, "{text} {name}");
            }
            assert!(digests.remove(filter(&text), shard(127)));
            assert!(!digests.remove(filter(&text), shard(127)) && digests.is_empty());
            assert!(digests.shapes.is_empty() && digests.literal == 0);
        }
    }

    /// Two filters with one digest differ for the shard that has them, and for no other one.
    #[test]
    fn one_of_two_equal_digests_of_a_shard_stays() {
        for text in ["a/b", "a/+"] {
            let mut digests = Digests::new(SEED);
            for _ in 0..2 {
                assert!(digests.add(filter(text), shard(3)));
            }
            assert!(digests.remove(filter(text), shard(3)));
            assert!(!digests.remove(filter(text), shard(4)));
            assert_eq!((shards(&digests, "a/b"), digests.len()), (vec![3], 1));
        }
    }

    #[test]
    fn filters_of_too_many_shapes_or_levels_are_not_kept() {
        let mut digests = Digests::new(SEED);
        let deep = format!("{}+", "a/".repeat(LEVELS_MAX));
        assert!(!digests.add(filter(&deep), shard(1)));
        let texts: Vec<String> = (0..=SHAPES_MAX)
            .map(|n| {
                let level = |bit: usize| if n >> bit & 1 == 1 { "+" } else { "a" };
                let levels: Vec<&str> = (0..6).map(level).collect();
                format!("{}/#", levels.join("/"))
            })
            .collect();
        for (n, text) in texts.iter().enumerate() {
            assert_eq!(digests.add(filter(text), shard(1)), n < SHAPES_MAX, "{text}");
        }
        assert!(digests.add(filter("b/a/a/a/a/a/#"), shard(2)));
        assert!(digests.remove(filter(&texts[5]), shard(1)));
        assert!(digests.add(filter(&texts[SHAPES_MAX]), shard(1)));
        assert!(!digests.remove(filter(&deep), shard(1)));
    }

    #[test]
    fn a_name_with_many_levels_is_matched_by_its_first_ones() {
        let mut digests = Digests::new(SEED);
        assert!(digests.add(filter("a/+/#"), shard(1)));
        assert_eq!(shards(&digests, &"a/".repeat(100)), [1]);
        assert!(shards(&digests, &"b/".repeat(100)).is_empty());
    }

    proptest! {
        #[test]
        fn what_any_shard_wants_is_known(
            wanted in prop::collection::vec(
                (prop::sample::select(twin::filters()), 0..5usize), 0..20,
            ),
        ) {
            let mut digests = Digests::new(SEED);
            for (text, index) in &wanted {
                prop_assert!(digests.add(filter(text), shard(*index)));
            }
            for name in twin::names() {
                let matching = wanted.iter().filter(|(text, _)| twin::matches(text, &name));
                let mut expected: Vec<usize> = matching.map(|(_, index)| *index).collect();
                expected.sort_unstable();
                expected.dedup();
                prop_assert_eq!(shards(&digests, &name), expected);
            }
        }
    }
}
