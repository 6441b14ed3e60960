//! Failed logins of the whole broker, and how long the next ones have to wait for them.
//!
//! ```text
//!   delay of a record, after its first failures, which are free
//!     8 s |                           +--------
//!         |                     +-----+   doubles with each failure
//!  125 ms |    +-----+-----+----+
//!         +-----------------------------------> failures; one is forgotten in a minute
//! ```
//! Each failure counts for the address, for the User Name, and for the pair of both. Attempts for
//! one record are let through one at a time, a delay apart. An attempt that would have to wait for
//! too long is refused without a look at the password, and changes nothing.
//!
//! Nobody can lock a user out: where the user has logged in from, only failures of that user from
//! that address count; and a clean address waits for the User Name for a short while only.
//!
//! Knows addresses and names. Does not know how anyone waits, nor what a password is. A lock is
//! taken at a login, never for a message.

use std::sync::{Arc, MutexGuard, PoisonError};

use super::AccountName;
use crate::base::{
    hash::Seed,
    time::{Moment, Span},
};

/// What becomes of an attempt to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Now,
    /// The attempt is let through at this moment.
    At(Moment),
    /// There were so many failures that it would have to wait for too long.
    Refused,
}

/// The failed logins of a broker. All clones are the same.
#[derive(Clone, Debug)]
pub struct Failures(Arc<Lock<Records>>);

#[derive(Debug)]
struct Records {
    seed: Seed,
    failed: Table<Record>,
    /// When a user last logged in from an address.
    proven: Table<Moment>,
}

/// Who an attempt counts for: each of these has a record.
#[derive(Clone, Copy, Debug)]
struct Keys {
    address: u64,
    user: u64,
    pair: u64,
}

/// What is known of an attempt before it is made.
#[derive(Clone, Copy, Debug)]
struct Standing {
    /// When it is let through.
    start: Moment,
    /// The user has logged in from the address.
    is_proven: bool,
    /// The address has no failures.
    is_clean: bool,
}

/// The failures of one address, user or pair.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    failures: u32,
    /// Since when they are being forgotten.
    since: Moment,
    /// When the next attempt is let through.
    next: Moment,
}

impl Failures {
    pub fn new(seed: Seed) -> Failures {
        let records = Records { seed, failed: Table::default(), proven: Table::default() };
        Failures(Arc::new(Lock::new(records)))
    }

    /// Judges an attempt of this user from this address, which can wait for as long as `patience`.
    pub fn admit(
        &self,
        address: &AccountName,
        user_name: &str,
        now: Moment,
        patience: Span,
    ) -> Admission {
        let mut records = self.lock();
        let keys = records.keys(address, user_name);
        records.admit(keys, now, patience)
    }

    /// When an attempt of this user from this address would be let through. Changes nothing.
    pub fn earliest(&self, address: &AccountName, user_name: &str, now: Moment) -> Moment {
        let mut records = self.lock();
        let keys = records.keys(address, user_name);
        records.standing(keys, now).start
    }

    /// Whether attempts of this user from this address are let through one at a time.
    pub fn are_many(&self, address: &AccountName, user_name: &str, now: Moment) -> bool {
        let mut records = self.lock();
        let keys = records.keys(address, user_name);
        records.are_many(keys, now)
    }

    /// Notes that an attempt has failed, and says how long its answer is to wait.
    pub fn note_failure(&self, address: &AccountName, user_name: &str, now: Moment) -> Span {
        let mut records = self.lock();
        let keys = records.keys(address, user_name);
        records.note_failure(keys, now)
    }

    /// Notes that the user has logged in from this address.
    pub fn note_success(&self, address: &AccountName, user_name: &str, now: Moment) {
        let mut records = self.lock();
        let keys = records.keys(address, user_name);
        records.failed.remove(keys.pair);
        records.proven.put(keys.pair, now, |last| *last);
    }

    /// A thread that has panicked left the tables whole: each change is complete in itself.
    fn lock(&self) -> MutexGuard<'_, Records> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Records {
    fn keys(&self, address: &AccountName, user_name: &str) -> Keys {
        Keys {
            address: self.seed.hash(address),
            user: self.seed.hash(user_name),
            pair: self.seed.hash(&(address, user_name)),
        }
    }

    fn are_many(&mut self, keys: Keys, now: Moment) -> bool {
        if self.has_delay(keys.pair, PAIR_FREE, now) {
            return true;
        }
        // The failures of other addresses count for one that has failed itself.
        let has_failed =
            self.failed.get_mut(keys.address).is_some_and(|it| it.at(now).failures > 0);
        !self.is_proven(keys.pair, now)
            && has_failed
            && [keys.address, keys.user]
                .into_iter()
                .any(|key| self.has_delay(key, OTHERS_FREE, now))
    }

    fn has_delay(&mut self, key: u64, free: u32, now: Moment) -> bool {
        self.failed.get_mut(key).is_some_and(|record| !record.at(now).delay(free).is_zero())
    }

    fn is_proven(&mut self, pair: u64, now: Moment) -> bool {
        self.proven.get_mut(pair).is_some_and(|last| now.since(*last) < PROVEN_SPAN)
    }

    fn standing(&mut self, keys: Keys, now: Moment) -> Standing {
        let is_proven = self.is_proven(keys.pair, now);
        let [pair, address, user] = [keys.pair, keys.address, keys.user]
            .map(|key| self.failed.get_mut(key).copied().unwrap_or_default().at(now));
        let is_clean = address.failures == 0;
        let mut start = now.max(pair.next);
        if !is_proven {
            start = start.max(address.next);
            let user_wait =
                if is_clean { now + user.delay(OTHERS_FREE).min(CLEAN_MAX) } else { user.next };
            start = start.max(user_wait);
        }
        Standing { start, is_proven, is_clean }
    }

    fn admit(&mut self, keys: Keys, now: Moment, patience: Span) -> Admission {
        let Standing { start, is_proven, is_clean } = self.standing(keys, now);
        if start.since(now) > patience {
            return Admission::Refused;
        }
        self.space(keys.pair, PAIR_FREE, start, now);
        if !is_proven {
            self.space(keys.address, OTHERS_FREE, start, now);
        }
        if !is_proven && !is_clean {
            self.space(keys.user, OTHERS_FREE, start, now);
        }
        if start > now { Admission::At(start) } else { Admission::Now }
    }

    /// The next attempt for a record comes a delay after one that is let through at `start`. Until
    /// it is known how that one ends, it counts like a failure.
    fn space(&mut self, key: u64, free: u32, start: Moment, now: Moment) {
        if let Some(record) = self.failed.get_mut(key) {
            *record = record.at(now);
            if !record.delay(free).is_zero() {
                record.count();
                record.next = start + record.delay(free);
            }
        }
    }

    fn note_failure(&mut self, keys: Keys, now: Moment) -> Span {
        let records =
            [(keys.pair, PAIR_FREE), (keys.address, OTHERS_FREE), (keys.user, OTHERS_FREE)];
        let delays = records.map(|(key, free)| {
            let mut record = self.failed.get_mut(key).copied().unwrap_or_default().at(now);
            record.count();
            let delay = record.delay(free);
            record.next = record.next.max(now + delay);
            self.failed.put(key, record, |it| it.at(now).failures);
            delay
        });
        delays.into_iter().max().unwrap_or_default()
    }
}

impl Record {
    /// The record at this moment: one failure is forgotten for each [`FORGET_SPAN`].
    fn at(self, now: Moment) -> Record {
        if self.failures == 0 {
            return Record { since: now, ..self };
        }
        let forgotten = now.since(self.since).as_nanos() / FORGET_SPAN.as_nanos();
        let failures = self.failures.saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX));
        let since = self.since + Span::from_nanos(forgotten * FORGET_SPAN.as_nanos());
        Record { failures, since, ..self }
    }

    fn count(&mut self) {
        self.failures = (self.failures + 1).min(FAILURES_MAX);
    }

    /// How far apart attempts are, if so many failures are free.
    fn delay(self, free: u32) -> Span {
        match self.failures.saturating_sub(free) {
            0 => Span::ZERO,
            more => Span::from_millis(DELAY_MIN.as_millis() << (more - 1).min(DOUBLINGS_MAX)),
        }
    }
}

/// Values by hashed keys, of a limited number: a new one takes the place of the lightest of those
/// whose keys are alike.
#[derive(Debug)]
struct Table<T> {
    /// Empty until the first value comes.
    buckets: Vec<Vec<(u64, T)>>,
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table { buckets: Vec::new() }
    }
}

impl<T> Table<T> {
    fn bucket(&mut self, key: u64) -> Option<&mut Vec<(u64, T)>> {
        let place = usize::try_from(key % BUCKETS as u64).expect("there are few buckets");
        self.buckets.get_mut(place)
    }

    fn get_mut(&mut self, key: u64) -> Option<&mut T> {
        self.bucket(key)?.iter_mut().find(|(other, _)| *other == key).map(|(_, value)| value)
    }

    fn remove(&mut self, key: u64) {
        if let Some(bucket) = self.bucket(key) {
            bucket.retain(|(other, _)| *other != key);
        }
    }

    fn put<W: Ord>(&mut self, key: u64, value: T, weight: impl Fn(&T) -> W) {
        if let Some(present) = self.get_mut(key) {
            *present = value;
            return;
        }
        self.buckets.resize_with(BUCKETS, Vec::new);
        let bucket = self.bucket(key).expect("all buckets have been made");
        if bucket.len() < BUCKET_MAX {
            return bucket.push((key, value));
        }
        if let Some(lightest) = bucket.iter_mut().min_by_key(|(_, value)| weight(value)) {
            *lightest = (key, value);
        }
    }
}

#[expect(clippy::disallowed_types, reason = "taken at a login only, for a few operations")]
type Lock<T> = std::sync::Mutex<T>;

/// Failures of a user from one address that cost nothing: a person may be mistaken.
const PAIR_FREE: u32 = 3;
/// The same of one address, and of one user: others may use them, too.
const OTHERS_FREE: u32 = 10;
/// A record counts no more failures, so that it is forgotten in twenty minutes.
const FAILURES_MAX: u32 = 20;
/// In this time a record forgets one failure.
const FORGET_SPAN: Span = Span::from_secs(60);
/// The delay after the first failure that is not free. It doubles so many times, to 8 seconds.
const DELAY_MIN: Span = Span::from_millis(125);
const DOUBLINGS_MAX: u32 = 6;
/// How long an address without failures waits for the failures of others with its User Name.
const CLEAN_MAX: Span = Span::from_secs(2);
/// How long a login speaks for its user and its address.
const PROVEN_SPAN: Span = Span::from_secs(7 * 24 * 3600);
/// The tables have room for 65,536 records each, some 2.5 MB.
const BUCKETS: usize = 8192;
const BUCKET_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::from_nanos(1_000_000_000_000);
    const PATIENCE: Span = Span::from_secs(5);

    fn failures() -> Failures {
        Failures::new(Seed::new(1))
    }

    fn ip(n: u32) -> AccountName {
        AccountName::of_address(std::net::Ipv4Addr::from_bits(n).into())
    }

    /// Attempts of one after the other, each as soon as it is let through, all of them wrong.
    /// Returns how many there are in this time.
    fn attack(failures: &Failures, address: &AccountName, user_name: &str, span: Span) -> usize {
        let (mut now, mut count) = (NOW, 0);
        while now < NOW + span {
            match failures.admit(address, user_name, now, PATIENCE) {
                Admission::Now => _ = failures.note_failure(address, user_name, now),
                Admission::At(then) => {
                    now = then;
                    failures.note_failure(address, user_name, now);
                }
                Admission::Refused => {
                    now = now + Span::from_millis(100);
                    continue;
                }
            }
            count += 1;
            now = now + Span::from_millis(1);
        }
        count
    }

    #[test]
    fn the_first_mistakes_are_free_and_then_the_delay_doubles() {
        let failures = failures();
        let delays = [(); 12].map(|()| failures.note_failure(&ip(1), "ada", NOW).as_millis());
        assert_eq!(delays, [0, 0, 0, 125, 250, 500, 1_000, 2_000, 4_000, 8_000, 8_000, 8_000]);
    }

    #[test]
    fn guesses_from_one_address_are_few_whatever_names_they_are_for() {
        let hour = Span::from_secs(3600);
        let one_name = attack(&failures(), &ip(1), "ada", hour);
        assert!((400..500).contains(&one_name), "{one_name}");
        let failures = failures();
        let mut names = (0..).map(|n| n.to_string());
        let mut let_through = 0;
        for second in 0..3600 {
            let now = NOW + Span::from_secs(second);
            for user_name in names.by_ref().take(50) {
                if failures.admit(&ip(1), &user_name, now, PATIENCE) != Admission::Refused {
                    let_through += 1;
                    failures.note_failure(&ip(1), &user_name, now);
                }
            }
        }
        assert!(let_through < 500, "{let_through}");
    }

    #[test]
    fn attempts_at_once_are_let_through_one_at_a_time() {
        let failures = failures();
        (0..7).for_each(|_| _ = failures.note_failure(&ip(1), "ada", NOW));
        let admitted = [(); 4].map(|()| failures.admit(&ip(1), "ada", NOW, PATIENCE));
        let at = |seconds| Admission::At(NOW + Span::from_secs(seconds));
        assert_eq!(admitted, [at(1), at(3), Admission::Refused, Admission::Refused]);
        assert_eq!(failures.earliest(&ip(1), "ada", NOW), NOW + Span::from_secs(7));
    }

    #[test]
    fn guesses_from_many_addresses_wait_for_each_other_by_the_name() {
        let failures = failures();
        let mut let_through = 0;
        for second in 0..60 {
            let now = NOW + Span::from_secs(second);
            for n in 0..100 {
                if failures.admit(&ip(n), "ada", now, PATIENCE) != Admission::Refused {
                    let_through += 1;
                    failures.note_failure(&ip(n), "ada", now);
                }
            }
        }
        // Each address has one guess before it is known.
        assert!((100..130).contains(&let_through), "{let_through}");
    }

    #[test]
    fn who_has_logged_in_from_an_address_is_not_locked_out_by_others() {
        let failures = failures();
        failures.note_success(&ip(1), "ada", NOW);
        for n in 1..100 {
            attack(&failures, &ip(n), if n == 1 { "bob" } else { "ada" }, Span::from_secs(60));
        }
        assert_eq!(failures.admit(&ip(1), "ada", NOW, PATIENCE), Admission::Now);
        // A clean address waits for the name, and not for long.
        let clean = failures.admit(&ip(200), "ada", NOW, PATIENCE);
        assert_eq!(clean, Admission::At(NOW + CLEAN_MAX));
        let week_later = NOW + PROVEN_SPAN;
        assert_eq!(failures.admit(&ip(1), "ada", week_later, PATIENCE), Admission::Now);
    }

    #[test]
    fn guesses_from_the_address_of_the_user_are_slowed_too() {
        let failures = failures();
        failures.note_success(&ip(1), "ada", NOW);
        let count = attack(&failures, &ip(1), "ada", Span::from_secs(600));
        assert!((60..120).contains(&count), "{count}");
        failures.note_success(&ip(1), "ada", NOW);
        assert_eq!(failures.admit(&ip(1), "ada", NOW, PATIENCE), Admission::Now);
    }

    #[test]
    fn failures_are_forgotten() {
        let failures = failures();
        (0..100).for_each(|_| _ = failures.note_failure(&ip(1), "ada", NOW));
        assert_eq!(failures.admit(&ip(1), "ada", NOW, PATIENCE), Admission::Refused);
        let later = NOW + Span::from_secs(20 * 60);
        assert_eq!(failures.admit(&ip(1), "ada", later, PATIENCE), Admission::Now);
        assert_eq!(failures.note_failure(&ip(1), "ada", later), Span::ZERO);
    }

    #[test]
    fn many_addresses_take_no_more_memory_and_make_nobody_else_wait() {
        let failures = failures();
        (0..20).for_each(|_| _ = failures.note_failure(&ip(1), "ada", NOW));
        for n in 2..200_000 {
            failures.note_failure(&ip(n), &n.to_string(), NOW);
        }
        let records = failures.lock();
        let len: usize = records.failed.buckets.iter().map(Vec::len).sum();
        assert!(len <= BUCKETS * BUCKET_MAX);
        drop(records);
        assert_eq!(failures.admit(&ip(300_000), "bob", NOW, PATIENCE), Admission::Now);
        // A record of many failures outlasts those of one.
        assert_eq!(failures.admit(&ip(1), "ada", NOW, PATIENCE), Admission::Refused);
    }
}
