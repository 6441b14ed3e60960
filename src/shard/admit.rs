//! Places for new sessions: when there is none, an absent session has to go, here or elsewhere.
//!
//! ```text
//!                      a place is free, or a session here goes
//!   new session ---------------------------------------------------> let in
//!        |  no session here has to go                                   ^
//!        '---> Letter::AskPlace to one shard after the other ---------'
//!                    |  none has one, or time is over
//!                    '---> refused
//! ```

use std::rc::Rc;

use super::{
    Shard,
    auth::Proof,
    connection::Stage,
    connections::{Connections, Room},
    end::Cause,
    kept_connect::KeptConnect,
    letter::Letter,
    log::Claim,
    memory::Scarcity,
    notices::Notice,
    owed::{Answer, Condition},
    ports::Ports,
    reason::Reason,
    rules::Limits,
    timers::Timer,
};
use crate::{
    access::{Account, AccountName},
    base::{
        hash::{Map, Seed},
        ids::{ConnectionId, ShardId, ShardSet, SubscriberId},
        time::{Moment, Span},
    },
    session::{Session, absent::Newcomer},
};

/// A client that is let in once there is a place for its session.
#[derive(Debug)]
pub(super) struct Entrance {
    pub(super) connect: KeptConnect,
    pub(super) proof: Proof,
    /// Which shards have not been asked for a place, and until when they may be.
    wait: Option<(ShardSet, Moment)>,
    /// Its session was written down, and the client is let in when that is on disk.
    pub(super) written: Option<Written>,
}

/// The session of a client whose CONNECT waits until that is on disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    /// The number of the session, as [`Session::number`](crate::session::Session::number) has it;
    /// `None` if only the end of a session was written down.
    pub(super) session: Option<u64>,
    pub(super) session_present: bool,
}

impl Entrance {
    pub(super) fn new(connect: KeptConnect, proof: Proof) -> Entrance {
        Entrance { connect, proof, wait: None, written: None }
    }

    /// The same, once a session was written down.
    pub(super) fn after(self: Box<Entrance>, written: Written) -> Box<Entrance> {
        Box::new(Entrance { written: Some(written), ..*self })
    }

    /// Whether this session was written down for it.
    pub(super) fn has_written(&self, session: &Session) -> bool {
        self.written.is_some_and(|written| written.session == Some(session.number()))
    }

    /// The next shard to ask for a place; `None` if all have been asked, or time is over.
    fn next_peer(
        &mut self,
        here: ShardId,
        peers: impl Iterator<Item = ShardId>,
        now: Moment,
    ) -> Option<ShardId> {
        let begun = || {
            let mut left = ShardSet::EMPTY;
            peers.for_each(|peer| left.insert(peer));
            (left, now + PLACE_SPAN)
        };
        let (left, until) = self.wait.get_or_insert_with(begun);
        let after = left.iter().find(|&peer| peer > here);
        let peer = after.or_else(|| left.iter().next()).filter(|_| now < *until)?;
        left.remove(peer);
        Some(peer)
    }
}

/// The clients whose CONNECT waits for a place or for the disk, by their Client Identifiers.
#[derive(Debug)]
pub(super) struct Candidates(Map<Box<str>, ConnectionId>);

impl Candidates {
    pub(super) fn new(seed: Seed) -> Candidates {
        Candidates(Map::with_hasher(seed))
    }

    /// A client waits. Of those that have gone meanwhile, no more are kept than of others.
    fn add(&mut self, client_id: &str, id: ConnectionId, connections: &Connections) {
        if self.0.len() == self.0.capacity() {
            self.0.retain(|_, &mut id| connections.get(id).is_some());
        }
        self.0.insert(client_id.into(), id);
    }

    /// Whether a client waits still.
    pub(super) fn has(&self, client_id: &str, connections: &Connections) -> bool {
        self.0.get(client_id).is_some_and(|&id| connections.get(id).is_some())
    }

    /// A client is let in or refused, or asks again. Returns an earlier connection of the client
    /// that waits still.
    fn take(&mut self, client_id: &str, id: ConnectionId) -> Option<ConnectionId> {
        self.0.remove(client_id).filter(|&earlier| earlier != id)
    }
}

/// How long a CONNECT may wait until another shard has made a place for its session.
const PLACE_SPAN: Span = Span::from_secs(1);

impl Limits {
    /// How many sessions there may be when one begins. Some places are kept for sessions that end
    /// with their connection.
    fn sessions_max_for(&self, is_lasting: bool) -> usize {
        let kept = if is_lasting { self.sessions_max / KEPT_PART } else { 0 };
        self.sessions_max - kept
    }
}

/// One of so many places is kept for sessions that end with their connection.
const KEPT_PART: usize = 32;

impl Shard {
    /// Lets a client in, if there is room for its connection. A client that takes its own earlier
    /// connection over needs none.
    pub(super) fn enter(
        &mut self,
        id: ConnectionId,
        entrance: Box<Entrance>,
        ports: &mut impl Ports,
    ) {
        if self.sessions.link_of(entrance.connect.named()).is_none()
            && let Err(reason) = self.make_room(id, entrance.proof.user_name.as_deref(), ports)
        {
            let claim = Claim::of(&entrance.connect);
            return self.refuse_connect(id, claim, reason, ports);
        }
        self.accept(id, entrance, ports);
    }

    /// Makes room for a connection. The connection of another client may end for it.
    fn make_room(
        &mut self,
        id: ConnectionId,
        user_name: Option<&str>,
        ports: &mut impl Ports,
    ) -> Result<(), Reason> {
        let stranger = Rc::clone(self.connections.connected(id).principal());
        let name = AccountName::of(user_name, stranger.peer().ip());
        let account = self.context.settings.accounts.of(name);
        match self.connections.room_for(id, &account) {
            Room::Free => Ok(()),
            Room::Made(victim) => {
                self.end(victim, Cause::Share, ports);
                Ok(())
            }
            Room::Full => Err(Reason::ConnectionsFull),
            Room::Kept => {
                let notices = self.router.notices_mut();
                notices.note(Notice::ConnectionRefused, &stranger, self.context.now);
                Err(Reason::ConnectionShare)
            }
        }
    }

    /// Ends an earlier connection of a client whose CONNECT waits for a place still.
    /// [MQTT-3.1.4-3]
    pub(super) fn end_candidate(
        &mut self,
        client_id: &str,
        id: ConnectionId,
        ports: &mut impl Ports,
    ) {
        if let Some(earlier) = self.candidates.take(client_id, id) {
            let peer = self.connections.connected(id).principal().peer();
            self.end(earlier, Cause::TakenOver(peer), ports);
        }
    }

    /// Takes a place for a new session of this account. If there is none, the session of another
    /// client may end for it.
    pub(super) fn take_place(
        &mut self,
        account: &Account,
        is_lasting: bool,
        ports: &mut impl Ports,
    ) -> bool {
        let limits = &self.context.rules.limits;
        let (free_max, all_max) = (limits.sessions_max_for(is_lasting), limits.sessions_max);
        self.context.settings.sessions.try_add(free_max)
            || self.evict(&Newcomer::of(account), free_max, ports)
                && self.context.settings.sessions.try_add(all_max)
    }

    /// Asks another shard to make a place for the session of a client, which waits. A client for
    /// which no shard has one is refused.
    pub(super) fn ask_for_place(
        &mut self,
        id: ConnectionId,
        mut entrance: Box<Entrance>,
        account: &Account,
        ports: &mut impl Ports,
    ) {
        let (settings, now) = (&self.context.settings, self.context.now);
        let peer = entrance.next_peer(settings.shard, settings.peers(), now);
        let waits = peer.filter(|_| self.authenticator.have_wait(&mut entrance.connect).is_ok());
        let Some(peer) = waits else {
            let claim = Claim::of(&entrance.connect);
            return self.refuse_connect(id, claim, Reason::SessionsFull, ports);
        };
        let connection = self.connections.connected_mut(id);
        connection.wait(Stage::Waiting, entrance.connect.terms);
        self.candidates.add(entrance.connect.named(), id, &self.connections);
        let is_lasting = self.context.rules.session_expiry(&entrance.connect) > 0;
        let newcomer = Newcomer::of(account);
        ports.letters(peer).push(Letter::AskPlace { connection: id, newcomer, is_lasting });
        self.context.timers.set(now + PLACE_SPAN, Timer::Place(id));
        let answer = Answer::Enter(entrance);
        self.connections.owe(id, (Condition::Place { is_told: false }, answer), ports);
    }

    /// A client waits until its session is on disk.
    pub(super) fn wait_until_durable(
        &mut self,
        id: ConnectionId,
        mut entrance: Box<Entrance>,
        ports: &mut impl Ports,
    ) {
        let mark = self.context.recorder.take_promise();
        if self.authenticator.have_wait(&mut entrance.connect).is_err() {
            let claim = Claim::of(&entrance.connect);
            return self.refuse_connect(id, claim, Reason::AuthenticationsFull, ports);
        }
        let connection = self.connections.connected_mut(id);
        connection.wait(Stage::Waiting, entrance.connect.terms);
        self.candidates.add(entrance.connect.named(), id, &self.connections);
        let answer = Answer::Enter(entrance);
        self.connections.owe(id, (Condition::Durable(mark), answer), ports);
    }

    /// Another shard asks for a place for a session.
    pub(super) fn make_place(
        &mut self,
        newcomer: &Newcomer,
        is_lasting: bool,
        ports: &mut impl Ports,
    ) {
        let maximum = self.context.rules.limits.sessions_max_for(is_lasting);
        if self.context.settings.sessions.get() >= maximum {
            self.evict(newcomer, maximum, ports);
        }
    }

    /// Whether there is memory for a new session of this account, or for a Will. When the budget is
    /// almost taken, only accounts with less than a fair share of the sessions get more.
    pub(super) fn has_memory_for(&self, account: &Account) -> bool {
        match self.context.memory.scarcity() {
            Scarcity::Plenty | Scarcity::Short => true,
            Scarcity::Full => {
                let sessions = self.context.settings.sessions.get();
                Newcomer::of(account).has_less_than_a_share_of(sessions)
            }
            Scarcity::Spent => false,
        }
    }

    /// Ends the absent session that has to go for another one, where there is room for `maximum`.
    /// False: none has to.
    fn evict(&mut self, newcomer: &Newcomer, maximum: usize, ports: &mut impl Ports) -> bool {
        let Some(victim) = self.sessions.victim(newcomer, maximum) else { return false };
        self.end_evicted(victim, ports);
        true
    }

    /// Ends an absent session for want of room.
    pub(super) fn end_evicted(&mut self, victim: SubscriberId, ports: &mut impl Ports) {
        let session = self.sessions.get(victim).expect("an absent session is a session");
        let notices = self.router.notices_mut();
        notices.note(Notice::Evicted, session.principal(), self.context.now);
        self.context.counters.clients_evicted += 1;
        self.end_absent(victim, "evicted", ports);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::byte_count::ByteCount,
        mqtt::{Connect, Version},
        session::terms::Terms,
    };

    #[test]
    fn each_other_shard_is_asked_once_within_a_second() {
        let shards = || ShardId::all(3).filter(|shard| shard.index() != 1);
        let ask = |entrance: &mut Entrance, now: Moment| {
            let here = ShardId::new(1).unwrap();
            entrance.next_peer(here, shards(), now).map(ShardId::index)
        };
        let entrance = || {
            let (connect, terms) = (Connect::new(Version::V5, "a"), Terms::plain(Version::V5));
            let connect = KeptConnect::keep(&connect, terms, &ByteCount::default());
            Entrance::new(connect, Proof::default())
        };
        let now = Moment::default();
        let mut first = entrance();
        let asked = [(); 3].map(|()| ask(&mut first, now));
        assert_eq!(asked, [Some(2), Some(0), None]);
        let mut second = entrance();
        assert_eq!(ask(&mut second, now), Some(2));
        assert_eq!(ask(&mut second, now + PLACE_SPAN), None);
    }

    #[test]
    fn some_places_are_kept_for_sessions_that_end_with_their_connection() {
        let limits =
            |sessions_max| Limits { sessions_max, ..super::super::rules::tests::rules().limits };
        assert_eq!(limits(64).sessions_max_for(true), 62);
        assert_eq!(limits(64).sessions_max_for(false), 64);
        assert_eq!(limits(8).sessions_max_for(true), 8);
    }
}
