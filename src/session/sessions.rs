//! The sessions that are at home on a shard.

use std::{rc::Rc, sync::Arc};

use hashbrown::HashTable;

use super::{
    Link, Session,
    absent::{Absent, Newcomer},
};
use crate::{
    access::Principal,
    base::{hash::Seed, ids::SubscriberId},
};

/// Sessions by number and by Client Identifier. They are stored in chunks, so that none ever moves.
#[derive(Debug)]
pub struct Sessions {
    chunks: Vec<Box<[Option<Session>]>>,
    free: Vec<SubscriberId>,
    by_client_id: HashTable<SubscriberId>,
    /// How many have ever begun.
    begun: u64,
    seed: Seed,
    absent: Absent,
    /// What all sessions take by themselves.
    bytes: usize,
}

const CHUNK: usize = 64;
/// What a session takes besides its Client Identifier: itself, its principal and its entries in
/// tables, with what the allocator adds.
const SESSION_BYTES: usize = size_of::<Session>() + 512;

impl Sessions {
    pub fn new(seed: Seed) -> Sessions {
        Sessions {
            chunks: Vec::new(),
            free: Vec::new(),
            by_client_id: HashTable::new(),
            begun: 0,
            seed,
            absent: Absent::new(seed),
            bytes: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.by_client_id.len()
    }

    /// How many have ever begun: the number of the latest one.
    pub fn begun(&self) -> u64 {
        self.begun
    }

    /// What all sessions take, without what is queued, in flight or subscribed.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The numbers of all sessions are below this.
    pub fn places(&self) -> u32 {
        u32::try_from(self.chunks.len() * CHUNK).expect("fewer than 2^32 sessions")
    }

    pub fn is_empty(&self) -> bool {
        self.by_client_id.is_empty()
    }

    pub fn find(&self, client_id: &str) -> Option<SubscriberId> {
        let is_it = |&subscriber: &SubscriberId| {
            self.get(subscriber).is_some_and(|session| session.client_id() == client_id)
        };
        self.by_client_id.find(self.seed.hash(client_id), is_it).copied()
    }

    /// The connection of the client with this Client Identifier, if it has one.
    pub fn link_of(&self, client_id: &str) -> Option<Link> {
        self.get(self.find(client_id)?)?.link()
    }

    /// Begins the session of a client that has none.
    pub fn create(&mut self, principal: Rc<Principal>) -> SubscriberId {
        let client_id = principal.client_id();
        let hash = self.seed.hash(client_id);
        self.bytes += SESSION_BYTES + client_id.len();
        debug_assert!(self.find(client_id).is_none(), "a Client Identifier has one session");
        self.begun += 1;
        let subscriber = self.free.pop().unwrap_or_else(|| self.grow());
        self.chunks[subscriber.index() / CHUNK][subscriber.index() % CHUNK] =
            Some(Session::new(principal, hash, self.begun));
        let (seed, chunks) = (self.seed, &self.chunks);
        let rehash = |&subscriber: &SubscriberId| seed.hash(client_id_of(chunks, subscriber));
        self.by_client_id.insert_unique(hash, subscriber, rehash);
        subscriber
    }

    /// Ends a session. No other session gets its number before [`Sessions::release`].
    pub fn remove(&mut self, subscriber: SubscriberId) -> Option<Session> {
        let session = self.place(subscriber)?.take()?;
        self.absent.remove(subscriber);
        self.bytes -= SESSION_BYTES + session.client_id().len();
        let hash = self.seed.hash(session.client_id());
        if let Ok(found) = self.by_client_id.find_entry(hash, |&other| other == subscriber) {
            found.remove();
        }
        Some(session)
    }

    /// Nothing speaks of an ended session any more: its number is free.
    pub fn release(&mut self, subscriber: SubscriberId) {
        debug_assert!(self.get(subscriber).is_none(), "the session has ended");
        self.free.push(subscriber);
    }

    /// The client has gone, and the session stays.
    pub fn note_absent(&mut self, subscriber: SubscriberId) {
        if let Some(session) = self.get(subscriber) {
            let account = Arc::clone(session.principal().account());
            self.absent.add(subscriber, &account);
        }
    }

    /// The client has come to its session, which may be new.
    pub fn note_present(&mut self, subscriber: SubscriberId) {
        self.absent.remove(subscriber);
    }

    /// The absent session that has to go so that an account can have another one, if there is room
    /// for `maximum` sessions in the broker; `None` if none has to go.
    pub fn victim(&self, newcomer: &Newcomer, maximum: usize) -> Option<SubscriberId> {
        self.absent.victim(newcomer, maximum)
    }

    pub fn iter(&self) -> impl Iterator<Item = (SubscriberId, &Session)> {
        let places = (0..).map(SubscriberId).zip(self.chunks.iter().flatten());
        places.filter_map(|(subscriber, place)| Some((subscriber, place.as_ref()?)))
    }

    #[inline]
    pub fn get(&self, subscriber: SubscriberId) -> Option<&Session> {
        self.chunks.get(subscriber.index() / CHUNK)?[subscriber.index() % CHUNK].as_ref()
    }

    /// The session of a connection. It lasts at least as long as the connection.
    #[inline]
    pub fn of_connected_mut(&mut self, subscriber: SubscriberId) -> &mut Session {
        self.get_mut(subscriber).expect("a session outlives its connections")
    }

    #[inline]
    pub fn get_mut(&mut self, subscriber: SubscriberId) -> Option<&mut Session> {
        self.place(subscriber)?.as_mut()
    }

    #[inline]
    fn place(&mut self, subscriber: SubscriberId) -> Option<&mut Option<Session>> {
        let chunk = self.chunks.get_mut(subscriber.index() / CHUNK)?;
        Some(&mut chunk[subscriber.index() % CHUNK])
    }

    /// Adds a chunk, and returns the first of its places.
    fn grow(&mut self) -> SubscriberId {
        let first = u32::try_from(self.chunks.len() * CHUNK).expect("fewer than 2^32 sessions");
        self.chunks.push((0..CHUNK).map(|_| None).collect());
        let last = first + u32::try_from(CHUNK).expect("a small constant");
        self.free.extend((first + 1..last).rev().map(SubscriberId));
        SubscriberId(first)
    }
}

fn client_id_of(chunks: &[Box<[Option<Session>]>], subscriber: SubscriberId) -> &str {
    let session = &chunks[subscriber.index() / CHUNK][subscriber.index() % CHUNK];
    session.as_ref().expect("the table names present sessions only").client_id()
}

#[cfg(test)]
mod tests {
    use super::{super::tests::principal, *};

    #[test]
    fn a_session_is_found_until_it_is_removed_and_its_place_is_used_again() {
        let mut sessions = Sessions::new(Seed::new(1));
        let ids: Vec<_> =
            (0..200).map(|n| sessions.create(principal(&format!("client {n}")))).collect();
        assert_eq!(sessions.len(), 200);
        for (n, &id) in ids.iter().enumerate() {
            assert_eq!(sessions.find(&format!("client {n}")), Some(id));
            assert_eq!(sessions.get(id).unwrap().client_id(), format!("client {n}"));
        }
        let removed = sessions.remove(ids[70]).unwrap();
        assert_eq!(removed.client_id(), "client 70");
        assert!(sessions.get(ids[70]).is_none() && sessions.find("client 70").is_none());
        assert_ne!(sessions.create(principal("another")), ids[70]);
        sessions.release(ids[70]);
        assert_eq!(sessions.create(principal("a third")), ids[70]);
    }
}
