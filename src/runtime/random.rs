//! Random numbers: cheap ones for choices, and secrets that nobody can predict.

use std::io;

use crate::shard::ports::Secret;

/// The random numbers of one shard.
#[derive(Debug)]
pub(super) struct Random {
    /// The state of `SplitMix64`.
    state: u64,
    secrets: Secrets,
}

impl Random {
    /// Seeded by the kernel.
    pub(super) fn new() -> io::Result<Random> {
        Ok(Random { state: getrandom::u64()?, secrets: Secrets::new()? })
    }

    /// `SplitMix64`: every seed gives all numbers once before it repeats. The next numbers can be
    /// computed from one number, so a client is never told one.
    pub(super) fn next(&mut self) -> u64 {
        split_mix(&mut self.state)
    }

    /// 128 bits of the kernel's cryptographic generator.
    pub(super) fn secret(&mut self) -> Secret {
        self.secrets.next()
    }
}

/// The next number of `SplitMix64`.
#[inline]
pub(super) fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut bits = *state;
    bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ bits >> 31
}

/// Secrets fetched from the kernel ahead of their use, so that one system call serves many.
struct Secrets {
    fetched: [Secret; SECRETS_AT_ONCE],
    used: usize,
}

impl Secrets {
    fn new() -> io::Result<Secrets> {
        let mut secrets = Secrets { fetched: [[0; 16]; SECRETS_AT_ONCE], used: 0 };
        secrets.fetch()?;
        Ok(secrets)
    }

    fn next(&mut self) -> Secret {
        if self.used == SECRETS_AT_ONCE {
            self.fetch().expect("the kernel's generator has answered at start, and it stays ready");
        }
        let secret = std::mem::take(&mut self.fetched[self.used]);
        self.used += 1;
        secret
    }

    fn fetch(&mut self) -> io::Result<()> {
        getrandom::fill(self.fetched.as_flattened_mut())?;
        self.used = 0;
        Ok(())
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets").field("used", &self.used).finish_non_exhaustive()
    }
}

/// 256 bytes: a signal does not interrupt a request for so many.
const SECRETS_AT_ONCE: usize = 16;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn shards_draw_different_numbers_and_secrets() {
        let mut shards: Vec<Random> = (0..4).map(|_| Random::new().unwrap()).collect();
        let drawn: BTreeSet<(u64, Secret)> = shards
            .iter_mut()
            .flat_map(|random| (0..64).map(|_| (random.next(), random.secret())))
            .collect();
        assert_eq!(drawn.iter().map(|(number, _)| number).collect::<BTreeSet<_>>().len(), 4 * 64);
        assert_eq!(drawn.iter().map(|(_, secret)| secret).collect::<BTreeSet<_>>().len(), 4 * 64);
    }

    #[test]
    fn a_secret_is_not_kept_once_it_was_given() {
        let mut secrets = Secrets::new().unwrap();
        for given in 1..=SECRETS_AT_ONCE {
            assert_ne!(secrets.next(), [0; 16]);
            assert!(secrets.fetched[..given].iter().all(|secret| *secret == [0; 16]));
        }
    }
}
