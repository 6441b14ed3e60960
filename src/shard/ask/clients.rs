//! Questions about clients: who there is, and their end.

use std::net::SocketAddr;

use super::{Answer, Shard};
use crate::{
    base::ids::SubscriberId,
    mqtt::Version,
    session::Session,
    shard::{end::Cause, ports::Ports},
    transport::Address,
};

/// Which clients are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sought {
    /// What their Client Identifiers begin with.
    pub prefix: String,
    /// Their user, if it matters.
    pub user: Option<String>,
    /// Whether they are connected, if it matters.
    pub connected: Option<bool>,
}

/// Some clients of a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientPage {
    pub clients: Vec<ClientReport>,
    /// Where to go on; `None` if there are no more.
    pub next: Option<u32>,
}

/// What a shard knows of a client and its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientReport {
    pub client_id: String,
    /// The user that it has proven to be.
    pub user: Option<String>,
    /// Its address at its last CONNECT.
    pub peer: SocketAddr,
    /// `None` while the client is away.
    pub connection: Option<ConnectionReport>,
    /// Seconds that the session outlasts its connection; `u32::MAX` for ever.
    pub session_expiry: u32,
    pub subscriptions: usize,
    /// Messages to the client that it has not acknowledged.
    pub in_flight: usize,
    /// QoS 2 messages from the client that it has not released.
    pub unreleased: usize,
    /// Messages that wait.
    pub queued: usize,
    pub queued_bytes: usize,
    /// Publishers wait for the client.
    pub presses: bool,
    /// The session survives a restart of the broker.
    pub is_stored: bool,
}

/// What a shard knows of the connection of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionReport {
    pub version: Version,
    pub listener: Address,
    /// Seconds; 0 is never.
    pub keep_alive: u16,
    /// The broker does not read from it now.
    pub is_held_back: bool,
}

impl Sought {
    fn has(&self, session: &Session) -> bool {
        let principal = session.principal();
        session.client_id().starts_with(&self.prefix)
            && self.user.as_deref().is_none_or(|user| principal.user_name() == Some(user))
            && self.connected.is_none_or(|connected| session.link().is_some() == connected)
    }
}

impl Shard {
    /// Some of the sessions whose numbers are `from` or larger. A session keeps its number for as
    /// long as it lasts, so a walk meets each one that is there all the time once.
    pub(super) fn client_page(&self, from: u32, sought: &Sought, count: usize) -> ClientPage {
        let mut clients = Vec::new();
        let places = self.sessions.places();
        let until = places.min(from.saturating_add(LOOKS_MAX));
        for place in from..until {
            if clients.len() == count.min(CLIENTS_MAX) {
                return ClientPage { clients, next: Some(place) };
            }
            let session = self.sessions.get(SubscriberId(place));
            if let Some(session) = session.filter(|session| sought.has(session)) {
                clients.push(self.report(SubscriberId(place), session));
            }
        }
        ClientPage { clients, next: (until < places).then_some(until) }
    }

    pub(super) fn client(&self, client_id: &str) -> Answer {
        let found = self.sessions.find(client_id);
        let session = found.and_then(|found| Some((found, self.sessions.get(found)?)));
        session.map_or(Answer::Nothing, |(subscriber, session)| {
            Answer::Client(Box::new(self.report(subscriber, session)))
        })
    }

    fn report(&self, subscriber: SubscriberId, session: &Session) -> ClientReport {
        let (principal, outbound) = (session.principal(), session.outbound());
        let connection = session.link().and_then(|link| {
            let connection = self.connections.get(link.connection)?;
            Some(ConnectionReport {
                version: link.terms.version(),
                listener: self.context.rules.listener_address(principal.listener()),
                keep_alive: connection.keep_alive(),
                is_held_back: connection.is_held(),
            })
        });
        ClientReport {
            client_id: session.client_id().to_owned(),
            user: principal.user_name().map(str::to_owned),
            peer: principal.peer(),
            connection,
            session_expiry: session.expiry_interval(),
            subscriptions: session.filters().len(),
            in_flight: outbound.in_flight(),
            unreleased: session.inbound().held(),
            queued: outbound.queue.len(),
            queued_bytes: outbound.queue.bytes(),
            presses: self.router.deliveries().is_pressing(subscriber),
            is_stored: session.stored().is_some(),
        }
    }

    /// Disconnects a client. Its Will is published.
    pub(super) fn kick(&mut self, client_id: &str, ports: &mut impl Ports) -> Answer {
        let Some(link) = self.sessions.link_of(client_id) else { return Answer::Nothing };
        self.end(link.connection, Cause::Kicked, ports);
        Answer::Done
    }

    /// Ends a session, whether its client is connected or not.
    pub(super) fn end_session_of(&mut self, client_id: &str, ports: &mut impl Ports) -> Answer {
        let was_connected = matches!(self.kick(client_id, ports), Answer::Done);
        // A session that does not outlast its connection has just ended.
        let left = self.sessions.find(client_id);
        if let Some(subscriber) = left {
            self.end_absent(subscriber, "administrative", ports);
        }
        if was_connected || left.is_some() { Answer::Done } else { Answer::Nothing }
    }
}

/// Sessions that one question looks at.
const LOOKS_MAX: u32 = 256;
/// Clients that one answer tells of.
const CLIENTS_MAX: usize = 64;
