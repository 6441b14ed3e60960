//! The sessions that are at home on a shard.

use hashbrown::HashTable;

use super::{pressure::Pressure, replay::Replays, terms::Terms};
use crate::{
    base::{
        hash::Seed,
        ids::{ConnectionId, SubscriberId},
        time::Moment,
    },
    session::{
        filters::Filters, inbound::Inbound, outbound::Outbound, topic_aliases::TopicAliases,
        will::Will,
    },
};

/// One client's session, with all that other rooms keep for it here.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client_id: Box<str>,
    /// A hash of the Client Identifier, the same on all shards.
    pub(super) client_hash: u32,
    /// The connection that it is on; `None` while its client is away.
    pub(super) link: Option<Link>,
    /// What Topic Aliases stand for on that connection, once it has been sent topics.
    /// [MQTT-3.3.2-7]
    pub(super) topic_aliases: Option<Box<TopicAliases>>,
    pub(super) inbound: Inbound,
    pub(super) outbound: Outbound,
    pub(super) filters: Filters,
    /// How many of the filters are of shared subscriptions.
    pub(super) shared_filters: u32,
    /// Seconds that it outlives its connection; `u32::MAX` is for ever. [MQTT-3.1.2-23]
    pub(super) expiry_interval: u32,
    /// When it ends, while its client is away.
    pub(super) ends_at: Option<Moment>,
    /// When the next reminder comes to look at it while its client is away.
    pub(super) look_at: Option<Moment>,
    pub(super) will: Option<Box<Will>>,
    /// Retained messages that its subscriptions asked for and that have not been sent yet.
    pub(super) replays: Option<Box<Replays>>,
    /// Publishers that are held back for it.
    pub(super) pressure: Option<Box<Pressure>>,
}

/// What delivery must know of a session's connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) connection: ConnectionId,
    pub(super) terms: Terms,
}

impl Session {
    fn new(client_id: Box<str>, hash: u64) -> Session {
        Session {
            client_id,
            // The other half says where the client is at home.
            client_hash: (hash >> 32) as u32,
            link: None,
            topic_aliases: None,
            inbound: Inbound::default(),
            outbound: Outbound::default(),
            filters: Filters::default(),
            shared_filters: 0,
            expiry_interval: 0,
            ends_at: None,
            look_at: None,
            will: None,
            replays: None,
            pressure: None,
        }
    }

    /// Messages on their way to the client.
    pub(super) fn load(&self) -> usize {
        usize::from(self.outbound.outstanding()) + self.outbound.queue.len()
    }
}

/// Sessions by number and by Client Identifier. They stand in chunks, so that none ever moves.
#[derive(Debug)]
pub(super) struct Sessions {
    chunks: Vec<Box<[Option<Session>]>>,
    free: Vec<SubscriberId>,
    by_client_id: HashTable<SubscriberId>,
    seed: Seed,
}

const CHUNK: usize = 64;

impl Sessions {
    pub(super) fn new(seed: Seed) -> Sessions {
        Sessions { chunks: Vec::new(), free: Vec::new(), by_client_id: HashTable::new(), seed }
    }

    pub(super) fn len(&self) -> usize {
        self.by_client_id.len()
    }

    pub(super) fn find(&self, client_id: &str) -> Option<SubscriberId> {
        let is_it = |&subscriber: &SubscriberId| {
            self.get(subscriber).is_some_and(|session| *session.client_id == *client_id)
        };
        self.by_client_id.find(self.seed.hash(client_id), is_it).copied()
    }

    pub(super) fn create(&mut self, client_id: &str) -> SubscriberId {
        debug_assert!(self.find(client_id).is_none(), "a Client Identifier has one session");
        let subscriber = self.free.pop().unwrap_or_else(|| self.grow());
        self.chunks[subscriber.index() / CHUNK][subscriber.index() % CHUNK] =
            Some(Session::new(client_id.into(), self.seed.hash(client_id)));
        let (seed, chunks) = (self.seed, &self.chunks);
        let rehash = |&subscriber: &SubscriberId| seed.hash(client_id_of(chunks, subscriber));
        self.by_client_id.insert_unique(seed.hash(client_id), subscriber, rehash);
        subscriber
    }

    pub(super) fn remove(&mut self, subscriber: SubscriberId) -> Option<Session> {
        let session = self.place(subscriber)?.take()?;
        let hash = self.seed.hash(&*session.client_id);
        if let Ok(found) = self.by_client_id.find_entry(hash, |&other| other == subscriber) {
            found.remove();
        }
        self.free.push(subscriber);
        Some(session)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Session> {
        self.chunks.iter().flatten().flatten()
    }

    #[inline]
    pub(super) fn get(&self, subscriber: SubscriberId) -> Option<&Session> {
        self.chunks.get(subscriber.index() / CHUNK)?[subscriber.index() % CHUNK].as_ref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, subscriber: SubscriberId) -> Option<&mut Session> {
        self.place(subscriber)?.as_mut()
    }

    #[inline]
    fn place(&mut self, subscriber: SubscriberId) -> Option<&mut Option<Session>> {
        let chunk = self.chunks.get_mut(subscriber.index() / CHUNK)?;
        Some(&mut chunk[subscriber.index() % CHUNK])
    }

    /// Adds a chunk, and says which of its places is to be used first.
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
    &session.as_ref().expect("the table names present sessions only").client_id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_found_until_it_is_removed_and_its_place_is_used_again() {
        let mut sessions = Sessions::new(Seed::new(1));
        let ids: Vec<_> = (0..200).map(|n| sessions.create(&format!("client {n}"))).collect();
        assert_eq!(sessions.len(), 200);
        for (n, &id) in ids.iter().enumerate() {
            assert_eq!(sessions.find(&format!("client {n}")), Some(id));
            assert_eq!(&*sessions.get(id).unwrap().client_id, format!("client {n}"));
        }
        let removed = sessions.remove(ids[70]).unwrap();
        assert_eq!(&*removed.client_id, "client 70");
        assert!(sessions.get(ids[70]).is_none() && sessions.find("client 70").is_none());
        assert_eq!(sessions.create("another"), ids[70]);
    }
}
