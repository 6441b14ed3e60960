//! Absent sessions that have to go because there is no room for another one.

use std::collections::BTreeSet;

use super::{Oracle, Seen, model::Session, sessions::has_struck};
use crate::violation::{Violation, ensure};

impl Session {
    /// The order in which clients have gone. Those that go in this call are the last.
    fn is_absent_since(&self) -> u64 {
        if self.link.is_some() { u64::MAX } else { self.absent_since }
    }
}

impl Oracle {
    /// Finds out which sessions had to go in this call, longest absent first, and whether these
    /// were the right ones.
    pub(super) fn note_evicted(&mut self, seen: &Seen<'_>) -> Result<(), Violation> {
        let (before, after) = seen.counters;
        let count =
            usize::try_from(after.clients_evicted - before.clients_evicted).expect("few sessions");
        let Some(survivors) = seen.survivors.filter(|_| count > 0) else { return Ok(()) };
        // A client may go in the same call. A session that lasts no longer ends then by itself.
        let is_absent = |session: &Session| {
            session.link.is_none_or(|link| {
                session.expiry > 0 && seen.effects.closed().any(|closed| closed == link)
            })
        };
        let has_gone = |&at: &usize| {
            let session = &self.sessions[at];
            session.home == seen.shard
                && is_absent(session)
                && !survivors.contains(&session.client_id)
        };
        let all_gone = self.current.values().copied().filter(has_gone);
        let (mut expired, mut gone): (Vec<_>, Vec<_>) =
            all_gone.partition(|&at| self.has_expired(at, seen));
        // A session may have to go when it has expired and its timer has not come yet.
        expired.sort_by_key(|&at| self.sessions[at].is_absent_since());
        gone.extend(expired.into_iter().take(count.saturating_sub(gone.len())));
        gone.sort_by_key(|&at| self.sessions[at].is_absent_since());
        ensure(gone.len() == count, "a session that has to go is counted", || {
            format!("{count} are counted, and {gone:?} have gone")
        })?;
        for &at in &gone {
            self.check_evicted(at, &gone)?;
        }
        self.evicted = gone.into();
        Ok(())
    }

    /// The longest absent session of an account goes, and only beyond a fair share.
    fn check_evicted(&self, at: usize, gone: &[usize]) -> Result<(), Violation> {
        let session = &self.sessions[at];
        let is_earlier = |other: &usize| {
            let it = &self.sessions[*other];
            it.home == session.home
                && it.account == session.account
                && it.link.is_none()
                && it.is_absent_since() < session.is_absent_since()
                && !gone.contains(other)
        };
        let tell = || format!("{} of {}", session.client_id, session.account);
        let earlier = self.current.values().find(|at| is_earlier(at));
        ensure(earlier.is_none(), "the longest absent session goes first", tell)?;
        let account = |at: &usize| &self.sessions[*at].account;
        let held = self.current.values().filter(|at| *account(at) == session.account).count();
        let holders: BTreeSet<_> = self.current.values().map(account).collect();
        // The account may be the one that needs another session, or that account has had none.
        let share = self.limits.sessions_max / (holders.len() + 1);
        ensure(held + 1 > share.max(1), "an account keeps its fair share of sessions", tell)
    }

    /// Makes room for a session as the shard has done.
    pub(super) fn evict_for_place(&mut self, seen: &Seen<'_>) -> Result<(), Violation> {
        if !self.has_place() {
            let victim = self.evicted.pop_front();
            let victim = victim.filter(|&at| self.sessions[at].ended_at.is_none());
            // One that expires in the same call leaves its place, too.
            let victim = victim.or_else(|| {
                let is_here = |at: &usize| self.sessions[*at].home == seen.shard;
                let mut here = self.current.values().copied().filter(is_here);
                here.find(|&at| self.has_expired(at, seen))
            });
            ensure(victim.is_some(), "there is a place for each session", || {
                format!("there are {}", self.current.len())
            })?;
            if let Some(at) = victim {
                self.end_session(seen, at);
            }
        }
        Ok(())
    }

    /// Ends a session that had to go for another shard, which asks for a place.
    pub(super) fn evict_for_other(&mut self, seen: &Seen<'_>) {
        if !self.has_place()
            && let Some(at) = self.evicted.pop_front()
        {
            self.end_session(seen, at);
        }
    }

    /// Ends the sessions that had to go for other shards.
    pub(super) fn evict_for_others(&mut self, seen: &Seen<'_>) -> Result<(), Violation> {
        while let Some(at) = self.evicted.pop_front() {
            ensure(!self.has_place(), "no session goes while there is room", || {
                self.sessions[at].client_id.clone()
            })?;
            self.end_session(seen, at);
        }
        Ok(())
    }

    fn has_expired(&self, at: usize, seen: &Seen<'_>) -> bool {
        self.sessions[at].ends_at.is_some_and(|ends_at| has_struck(ends_at, seen.now))
    }

    /// Whether there is a place for another session.
    pub(super) fn has_place(&self) -> bool {
        self.current.len() < self.limits.sessions_max
    }
}
