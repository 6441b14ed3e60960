//! Argon2id: a hash that takes much memory, and the room for it.

use std::sync::{Condvar, PoisonError};

use argon2::{Algorithm, Argon2, Params, Version};

use super::hash::{HASH_BYTES_MAX, HashProblem};

/// The cost of a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    /// KiB of memory.
    memory: u32,
    passes: u32,
    lanes: u32,
}

impl Cost {
    /// As `mosquitto_passwd` 2.1 chooses it.
    pub(super) const USUAL: Cost = Cost { memory: 47_104, passes: 1, lanes: 1 };

    /// Parses `m=KIB,t=PASSES,p=LANES`.
    pub(super) fn parse(text: &str) -> Result<Cost, HashProblem> {
        let mut fields = text.split(',');
        let mut field = |name: &str| {
            let digits = fields.next()?.strip_prefix(name)?.strip_prefix('=')?;
            digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
        };
        let (Some(memory), Some(passes), Some(lanes)) = (field("m"), field("t"), field("p")) else {
            return Err(HashProblem::Cost);
        };
        let cost = Cost { memory, passes, lanes };
        let is_whole = fields.next().is_none();
        if is_whole && cost.fits() { Ok(cost) } else { Err(HashProblem::Cost) }
    }

    fn fits(self) -> bool {
        let Cost { memory, passes, lanes } = self;
        let work = u64::from(memory).saturating_mul(u64::from(passes));
        (1..=LANES_MAX).contains(&lanes)
            && (8 * lanes..=MEMORY_KIB_MAX).contains(&memory)
            && (1..=WORK_MAX).contains(&work)
    }

    pub(super) fn text(self) -> String {
        let Cost { memory, passes, lanes } = self;
        format!("m={memory},t={passes},p={lanes}")
    }

    /// Hashes into all of `hash`, and waits for the memory before.
    pub(super) fn hash(self, password: &[u8], salt: &[u8], hash: &mut [u8]) {
        let Cost { memory, passes, lanes } = self;
        let params = Params::new(memory, passes, lanes, Some(hash.len()));
        let params = params.expect("the cost and the length were checked when they were parsed");
        let _taken = ROOM.take(memory);
        let outcome = Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(password, salt, hash);
        outcome.expect("the lengths of password and salt were checked before");
    }
}

/// The memory of all hashes that are computed at the same time, in KiB.
struct Room {
    free: Lock<u32>,
    returned: Condvar,
}

impl Room {
    /// Waits until so much is free. Only threads that check passwords wait.
    fn take(&self, memory: u32) -> Taken<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let is_short = |free: &mut u32| *free < memory;
        let waited = self.returned.wait_while(free, is_short);
        *waited.unwrap_or_else(PoisonError::into_inner) -= memory;
        Taken { room: self, memory }
    }
}

struct Taken<'a> {
    room: &'a Room,
    memory: u32,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.room.free.lock().unwrap_or_else(PoisonError::into_inner) += self.memory;
        self.room.returned.notify_all();
    }
}

#[expect(
    clippy::disallowed_types,
    reason = "the threads that check passwords share it, not shards"
)]
type Lock<T> = std::sync::Mutex<T>;

static ROOM: Room = Room { free: Lock::new(MEMORY_KIB_MAX), returned: Condvar::new() };

/// KiB of all hashes at the same time, and so of one: five of the usual cost.
const MEMORY_KIB_MAX: u32 = 256 << 10;
const LANES_MAX: u32 = 16;
/// KiB times passes. So many take about a second.
const WORK_MAX: u64 = 1 << 20;

const _: () = assert!(Cost::USUAL.memory < MEMORY_KIB_MAX && HASH_BYTES_MAX >= 4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_parsed_within_limits() {
        assert_eq!(Cost::parse("m=47104,t=1,p=1"), Ok(Cost::USUAL));
        assert_eq!(Cost::parse(&Cost::USUAL.text()), Ok(Cost::USUAL));
        assert!(Cost::parse("m=262144,t=4,p=16").is_ok());
        for text in [
            "",
            "m=47104",
            "m=47104,t=1",
            "m=47104,t=1,p=1,x=1",
            "t=1,m=47104,p=1",
            "m=+47104,t=1,p=1",
            "m=47104,t=0,p=1",
            "m=47104,t=1,p=0",
            "m=7,t=1,p=1",
            "m=262145,t=1,p=1",
            "m=262144,t=5,p=1",
            "m=1024,t=1,p=17",
            "m=99999999999,t=1,p=1",
        ] {
            assert_eq!(Cost::parse(text), Err(HashProblem::Cost), "{text}");
        }
    }

    #[test]
    fn hashes_take_memory_and_give_it_back() {
        let room = Room { free: Lock::new(10), returned: Condvar::new() };
        let first = room.take(7);
        let second = room.take(3);
        assert_eq!(*room.free.lock().unwrap(), 0);
        drop((first, second));
        drop(room.take(10));
        assert_eq!(*room.free.lock().unwrap(), 10);
    }
}
