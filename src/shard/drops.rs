//! For which sessions messages were dropped, and how many.
//!
//! Of many such sessions those are remembered that have lost most.

use crate::{
    base::{
        hash::{Map, Seed},
        ids::SubscriberId,
    },
    session::Session,
};

#[derive(Debug)]
pub(super) struct Drops(Map<SubscriberId, Count>);

#[derive(Clone, Copy, Debug)]
struct Count {
    /// The number of the session: another one may have its place later.
    session: u64,
    dropped: u64,
}

impl Drops {
    pub(super) fn new(seed: Seed) -> Drops {
        Drops(Map::with_hasher(seed))
    }

    /// One more message was dropped for this session.
    pub(super) fn note(&mut self, subscriber: SubscriberId, session: &Session) {
        let number = session.number();
        if self.0.len() >= SESSIONS_MAX && !self.0.contains_key(&subscriber) {
            self.forget_the_least();
        }
        let count = self.0.entry(subscriber).or_insert(Count { session: number, dropped: 0 });
        if count.session != number {
            *count = Count { session: number, dropped: 0 };
        }
        count.dropped += 1;
    }

    /// How many messages were dropped for this session, as far as is remembered.
    pub(super) fn of(&self, subscriber: SubscriberId, session: &Session) -> u64 {
        let count = self.0.get(&subscriber).filter(|count| count.session == session.number());
        count.map_or(0, |count| count.dropped)
    }

    /// Forgets those that have lost no more than the average.
    fn forget_the_least(&mut self) {
        let sum: u64 = self.0.values().map(|count| count.dropped).sum();
        let average = sum / self.0.len() as u64;
        self.0.retain(|_, count| count.dropped > average);
    }
}

const SESSIONS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::{
        access::{Accounts, Principal},
        session::sessions::Sessions,
    };

    fn sessions(count: usize) -> (Sessions, Vec<SubscriberId>) {
        let accounts = Accounts::default();
        let mut sessions = Sessions::new(Seed::new(1));
        let mut begin = |n: usize| {
            let stranger = Principal::stranger(0, ([127, 0, 0, 1], 1).into(), &accounts);
            sessions.create(Rc::new(stranger.named(&n.to_string(), None, &accounts)))
        };
        let all = (0..count).map(&mut begin).collect();
        (sessions, all)
    }

    #[test]
    fn those_that_have_lost_most_are_remembered() {
        let (sessions, all) = sessions(2 * SESSIONS_MAX);
        let session = |it: &SubscriberId| sessions.get(*it).unwrap();
        let mut drops = Drops::new(Seed::new(2));
        for _ in 0..10 {
            drops.note(all[0], session(&all[0]));
        }
        for it in &all {
            drops.note(*it, session(it));
        }
        assert_eq!(drops.of(all[0], session(&all[0])), 11);
        assert!(drops.0.len() <= SESSIONS_MAX);
    }

    #[test]
    fn another_session_in_the_same_place_has_lost_nothing() {
        let (mut sessions, all) = sessions(1);
        let mut drops = Drops::new(Seed::new(2));
        drops.note(all[0], sessions.get(all[0]).unwrap());
        sessions.remove(all[0]);
        sessions.release(all[0]);
        let accounts = Accounts::default();
        let stranger = Principal::stranger(0, ([127, 0, 0, 1], 1).into(), &accounts);
        let next = sessions.create(Rc::new(stranger.named("next", None, &accounts)));
        assert_eq!(next, all[0]);
        assert_eq!(drops.of(next, sessions.get(next).unwrap()), 0);
        drops.note(next, sessions.get(next).unwrap());
        assert_eq!(drops.of(next, sessions.get(next).unwrap()), 1);
    }
}
