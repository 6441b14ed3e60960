//! Sessions whose clients are away, by the account that pays for them, longest absent first.
//!
//! Knows which session has to go when there is no room for another one. Does not end it.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    access::{Account, Kind},
    base::{
        hash::{Map, Seed},
        ids::SubscriberId,
    },
};

/// The absent sessions of a shard.
///
/// ```text
///   row of an account: first (longest absent) <-> ... <-> last
/// ```
#[derive(Debug)]
pub(super) struct Absent {
    /// By the number of the session. A session that is not absent has an empty one.
    links: Vec<Option<Link>>,
    rows: Map<u64, Row>,
    /// The rows with their numbers of sessions, the shortest first.
    by_count: BTreeSet<(usize, u64)>,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    account: u64,
    earlier: Option<SubscriberId>,
    later: Option<SubscriberId>,
}

#[derive(Debug)]
struct Row {
    account: Arc<Account>,
    first: SubscriberId,
    last: SubscriberId,
    count: usize,
}

impl Absent {
    pub(super) fn new(seed: Seed) -> Absent {
        Absent { links: Vec::new(), rows: Map::with_hasher(seed), by_count: BTreeSet::new() }
    }

    /// The client of a session has gone just now. The session is not absent yet.
    pub(super) fn add(&mut self, subscriber: SubscriberId, account: &Arc<Account>) {
        if self.links.len() <= subscriber.index() {
            self.links.resize(subscriber.index() + 1, None);
        }
        let number = account.number();
        let new =
            Row { account: Arc::clone(account), first: subscriber, last: subscriber, count: 0 };
        let row = self.rows.entry(number).or_insert(new);
        let earlier = (row.count > 0).then_some(row.last);
        row.last = subscriber;
        row.count += 1;
        self.by_count.remove(&(row.count - 1, number));
        self.by_count.insert((row.count, number));
        self.links[subscriber.index()] = Some(Link { account: number, earlier, later: None });
        if let Some(link) = earlier.and_then(|earlier| self.link(earlier)) {
            link.later = Some(subscriber);
        }
    }

    /// The client has come back, or the session has ended. Nothing happens if it is not absent.
    pub(super) fn remove(&mut self, subscriber: SubscriberId) {
        let place = self.links.get_mut(subscriber.index());
        let Some(Link { account, earlier, later }) = place.and_then(Option::take) else { return };
        if let Some(link) = earlier.and_then(|earlier| self.link(earlier)) {
            link.later = later;
        }
        if let Some(link) = later.and_then(|later| self.link(later)) {
            link.earlier = earlier;
        }
        let row = self.rows.get_mut(&account).expect("an absent session is in a row");
        row.first = if row.first == subscriber { later.unwrap_or(row.first) } else { row.first };
        row.last = if row.last == subscriber { earlier.unwrap_or(row.last) } else { row.last };
        row.count -= 1;
        self.by_count.remove(&(row.count + 1, account));
        if row.count == 0 {
            self.rows.remove(&account);
        } else {
            self.by_count.insert((row.count, account));
        }
    }

    /// The session that has to go so that this account can have another one, if there is room for
    /// `maximum` sessions: the longest absent one of the account that holds most sessions. An
    /// account keeps its fair share, and no account pays for one that holds as much.
    pub(super) fn victim(&self, newcomer: &Newcomer, maximum: usize) -> Option<SubscriberId> {
        let share = (maximum / newcomer.holders).max(1);
        let held = |row: &Row| {
            let own = row.account.number() == newcomer.account;
            row.account.held(Kind::Sessions) + usize::from(own)
        };
        let pays = |row: &&Row| {
            let own = row.account.number() == newcomer.account;
            held(row) > share && (own || held(row) > newcomer.held + 1)
        };
        let own = self.rows.get(&newcomer.account);
        let longest = self.by_count.iter().rev().take(ROWS_LOOKED_AT);
        let rows = longest.filter_map(|(_, account)| self.rows.get(account)).chain(own);
        let heaviest = rows.filter(pays).max_by_key(|row| held(row))?;
        Some(heaviest.first)
    }

    fn link(&mut self, subscriber: SubscriberId) -> Option<&mut Link> {
        self.links.get_mut(subscriber.index())?.as_mut()
    }
}

/// An account that needs room for another session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newcomer {
    /// The number of the account.
    pub account: u64,
    /// How many sessions it has.
    pub held: usize,
    /// How many accounts have sessions, this one included.
    pub holders: usize,
}

impl Newcomer {
    pub fn of(account: &Account) -> Newcomer {
        let (held, holders) = (account.held(Kind::Sessions), account.sharers(Kind::Sessions));
        Newcomer { account: account.number(), held, holders }
    }

    /// Whether the account has fewer than an equal part of so many sessions.
    pub fn has_less_than_a_share_of(&self, sessions: usize) -> bool {
        self.held.saturating_mul(self.holders) < sessions
    }
}

/// The rows with most absent sessions, among which the account with most sessions is looked for.
const ROWS_LOOKED_AT: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{AccountName, Accounts};

    /// A shard with these numbers of absent sessions of as many accounts, which begin in turn.
    fn absent(counts: &[usize]) -> (Absent, Vec<Arc<Account>>) {
        let accounts = Accounts::default();
        let mut absent = Absent::new(Seed::new(1));
        let mut all = Vec::new();
        let mut subscribers = (0..).map(SubscriberId);
        for (place, &count) in counts.iter().enumerate() {
            let account = accounts.of(AccountName::User(place.to_string().into()));
            for subscriber in subscribers.by_ref().take(count) {
                account.add(Kind::Sessions, 1);
                absent.add(subscriber, &account);
            }
            all.push(account);
        }
        (absent, all)
    }

    fn victim(absent: &Absent, newcomer: &Arc<Account>, maximum: usize) -> Option<u32> {
        absent.victim(&Newcomer::of(newcomer), maximum).map(|victim| victim.0)
    }

    #[test]
    fn who_holds_most_loses_its_longest_absent_session() {
        let (mut absent, accounts) = absent(&[2, 4, 0]);
        assert_eq!(victim(&absent, &accounts[2], 6), Some(2));
        assert_eq!(victim(&absent, &accounts[0], 6), Some(2));
        assert_eq!(victim(&absent, &accounts[1], 6), Some(2), "it pays for itself");
        absent.remove(SubscriberId(2));
        absent.remove(SubscriberId(2));
        assert_eq!(victim(&absent, &accounts[2], 6), Some(3));
        absent.add(SubscriberId(2), &accounts[1]);
        for next in [3, 4, 5, 2] {
            assert_eq!(victim(&absent, &accounts[1], 6), Some(next));
            absent.remove(SubscriberId(next));
        }
        assert_eq!(victim(&absent, &accounts[2], 6), None, "its other sessions are not absent");
        assert_eq!((absent.rows.len(), absent.by_count.len()), (1, 1));
    }

    #[test]
    fn a_fair_share_is_kept() {
        let (absent, accounts) = absent(&[3, 3, 0]);
        assert_eq!(victim(&absent, &accounts[2], 9), None);
        assert!(victim(&absent, &accounts[2], 8).is_some());
        // With two holders the share is 3, and a fourth session of an account is beyond it.
        assert_eq!(victim(&absent, &accounts[0], 6), Some(0));
        assert_eq!(victim(&absent, &accounts[1], 6), Some(3));
    }

    /// Three sessions of four accounts are less than one each.
    #[test]
    fn who_has_nothing_has_less_than_a_share() {
        let of = |held, holders| Newcomer { account: 0, held, holders };
        assert!(of(0, 4).has_less_than_a_share_of(3) && !of(0, 1).has_less_than_a_share_of(0));
        assert!(of(1, 4).has_less_than_a_share_of(5) && !of(1, 4).has_less_than_a_share_of(4));
    }

    #[test]
    fn the_only_account_has_room_for_itself_by_its_longest_absent_session() {
        let (absent, accounts) = absent(&[5]);
        assert_eq!(victim(&absent, &accounts[0], 5), Some(0));
        assert_eq!(victim(&absent, &accounts[0], 6), None);
    }

    #[test]
    fn a_session_is_unlinked_wherever_it_stands() {
        let (mut absent, accounts) = absent(&[4]);
        absent.remove(SubscriberId(1));
        absent.remove(SubscriberId(3));
        absent.add(SubscriberId(1), &accounts[0]);
        for next in [0, 2, 1] {
            assert_eq!(victim(&absent, &accounts[0], 1), Some(next));
            absent.remove(SubscriberId(next));
        }
        assert!(absent.rows.is_empty() && absent.by_count.is_empty());
    }
}
