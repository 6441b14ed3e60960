//! Random numbers from a seed that the kernel gives.

use std::{fs::File, io, io::Read};

use crate::base::ids::ShardId;

/// A stream of random numbers; each shard has its own.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    /// A seed that nobody outside can know.
    pub(super) fn seed() -> io::Result<u64> {
        let mut seed = [0; 8];
        File::open("/dev/urandom")?.read_exact(&mut seed)?;
        Ok(u64::from_ne_bytes(seed))
    }

    pub(super) fn new(seed: u64, shard: ShardId) -> Random {
        Random(seed.wrapping_add((shard.index() as u64) << 56))
    }

    /// `SplitMix64`: every seed gives all numbers once before it repeats.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ bits >> 31
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_draw_different_numbers_from_one_seed() {
        let seed = Random::seed().unwrap();
        let mut drawn: Vec<u64> = ShardId::all(4)
            .flat_map(|shard| {
                let mut random = Random::new(seed, shard);
                (0..64).map(move |_| random.next())
            })
            .collect();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), 4 * 64);
    }
}
