//! The connections of a shard, as MQTT sees them.

use std::{num::NonZeroU16, rc::Rc};

use super::{
    auth::Authentication,
    kept_connect::KeptConnect,
    log::Claim,
    owed::{Account, Answer, Condition, Due, Owed},
    ports::{Arrival, Ports},
    rules::Rules,
};
use crate::{
    access::Principal,
    base::{
        ids::{ConnectionId, SubscriberId},
        time::{Moment, Span},
    },
    mqtt::{Frame, Version},
    session::{
        client_aliases::{AliasesFull, ClientAliases},
        terms::Terms,
    },
};

/// One network connection, from its arrival to its end.
///
/// ```text
///            CONNECT                           the password was right
///   Fresh ------------> Waiting ---------------------------------------> Connected
///     |  no password to check, or none needed                              ^  ^
///     +--------------------------------------------------------------------+  |
///     |  CONNECT with an Authentication Method                AUTH, proven    |
///     +---------------------------------> Authenticating ---------------------+
/// ```
#[derive(Debug)]
pub(super) struct MqttConnection {
    /// Those that held when it came, and then those that held at its CONNECT: its CONNACK has told
    /// them to the client.
    rules: Rc<Rules>,
    /// Who its client is: a stranger until it has been let in.
    principal: Rc<Principal>,
    /// It is one too many, and only there to be told so.
    surplus: bool,
    /// It is a bridge of mosquitto's, by the mark in its CONNECT.
    is_bridge: bool,
    stage: Stage,
    /// Valid once its CONNECT has been taken.
    terms: Terms,
    /// Seconds; 0 is never.
    keep_alive: u16,
    last_packet: Moment,
    /// What it is owed.
    account: Account,
    extras: Option<Box<Extras>>,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Fresh,
    /// CONNECT has been taken and is answered once the password has been checked.
    Waiting,
    /// CONNECT has been taken and is answered once the client has proven who it is.
    Authenticating,
    Connected(SubscriberId),
}

/// What most connections never have.
#[derive(Debug, Default)]
struct Extras {
    /// The topics for which the client has set a Topic Alias. [MQTT-3.3.2-7]
    aliases: ClientAliases,
    /// Of a client that authenticates by AUTH packets.
    authentication: Option<Box<Authentication>>,
    /// Who the client claims to be, while its CONNECT waits for its answer.
    claim: Option<Claim>,
}

impl MqttConnection {
    pub(super) fn new(arrival: Arrival, now: Moment, rules: Rc<Rules>) -> MqttConnection {
        MqttConnection {
            rules,
            principal: Rc::new(Principal::stranger(arrival.listener, arrival.peer)),
            surplus: arrival.surplus,
            is_bridge: false,
            stage: Stage::Fresh,
            terms: Terms::plain(Version::V311),
            keep_alive: 0,
            last_packet: now,
            account: Account::default(),
            extras: None,
        }
    }

    /// The rules that its client has been told, or those that held when it came.
    #[inline]
    pub(super) fn rules(&self) -> &Rc<Rules> {
        &self.rules
    }

    /// Who its client is: a stranger until it has been let in.
    #[inline]
    pub(super) fn principal(&self) -> &Rc<Principal> {
        &self.principal
    }

    /// Its client has sent CONNECT, and claims to be this one.
    pub(super) fn claim(&mut self, claim: Claim) {
        self.extras.get_or_insert_default().claim = Some(claim);
    }

    /// Who its client claims to be, while a CONNECT waits for its answer.
    pub(super) fn claimed(&self) -> Option<&Claim> {
        self.extras.as_ref()?.claim.as_ref()
    }

    /// Whether it is one too many, and only there to be told so.
    pub(super) fn is_surplus(&self) -> bool {
        self.surplus
    }

    pub(super) fn is_bridge(&self) -> bool {
        self.is_bridge
    }

    #[inline]
    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    /// Those of its client, once its CONNECT has been taken.
    #[inline]
    pub(super) fn terms(&self) -> Terms {
        self.terms
    }

    pub(super) fn subscriber(&self) -> Option<SubscriberId> {
        match self.stage {
            Stage::Connected(subscriber) => Some(subscriber),
            _ => None,
        }
    }

    /// How many QoS 2 messages it may have unreleased. Before 5.0 it is told no limit but the
    /// number of Packet Identifiers.
    pub(super) fn receive_maximum(&self) -> u16 {
        match self.terms.version() {
            Version::V5 => self.rules.limits.receive_maximum,
            Version::V31 | Version::V311 => u16::MAX,
        }
    }

    /// Its CONNECT has been taken, and is answered once its client is known to be who it is.
    pub(super) fn wait(&mut self, stage: Stage, terms: Terms) {
        self.stage = stage;
        self.terms = terms;
    }

    /// Its client is let in as this principal, and told these rules.
    pub(super) fn connect(
        &mut self,
        (subscriber, principal): (SubscriberId, Rc<Principal>),
        connect: &KeptConnect,
        rules: Rc<Rules>,
    ) {
        self.stage = Stage::Connected(subscriber);
        self.principal = principal;
        // Only AUTH packets leave more than the claim behind before this.
        self.extras.take_if(|extras| extras.authentication.is_none());
        self.extras.iter_mut().for_each(|extras| extras.claim = None);
        self.terms = connect.terms;
        self.is_bridge = connect.is_bridge;
        self.keep_alive = rules.keep_alive(connect);
        self.rules = rules;
    }

    /// A packet of the client has come, or its silence until now was not its own doing.
    #[inline]
    pub(super) fn touch(&mut self, now: Moment) {
        self.last_packet = now;
    }

    /// In seconds; 0 is never.
    pub(super) fn keep_alive(&self) -> u16 {
        self.keep_alive
    }

    /// When the client will have been silent for too long: one and a half times its Keep Alive.
    /// [MQTT-3.1.2-22]
    pub(super) fn keep_alive_deadline(&self) -> Option<Moment> {
        let span = Span::from_millis(u64::from(self.keep_alive) * 1_500);
        (self.keep_alive > 0).then(|| self.last_packet + span)
    }

    /// Whether nothing is read from it now.
    #[inline]
    pub(super) fn is_held(&self) -> bool {
        self.account.is_held()
    }

    /// Whether this packet has to wait. It is to be handed in again then.
    #[inline]
    pub(super) fn stalls(&mut self, frame: &Frame<'_>) -> bool {
        self.account.stalls(frame)
    }

    /// Takes an acknowledgement of a PUBLISH to keep it back, if it is to be kept back.
    #[inline]
    pub(super) fn keeps_back(&mut self, acknowledgement: &[u8]) -> bool {
        self.account.keeps_back(acknowledgement)
    }

    pub(super) fn authentication(&mut self) -> Option<&mut Authentication> {
        self.extras.as_mut()?.authentication.as_deref_mut()
    }

    pub(super) fn set_authentication(&mut self, authentication: Authentication) {
        self.extras.get_or_insert_default().authentication = Some(Box::new(authentication));
    }

    pub(super) fn set_alias(&mut self, alias: NonZeroU16, topic: &str) -> Result<(), AliasesFull> {
        self.extras.get_or_insert_default().aliases.set(alias, topic)
    }

    pub(super) fn alias(&self, alias: NonZeroU16) -> Option<&str> {
        self.extras.as_ref()?.aliases.topic(alias)
    }
}

/// Connections by the identity that the runtime gave them.
#[derive(Debug, Default)]
pub(super) struct Connections {
    entries: Vec<Option<(u32, MqttConnection)>>,
    count: usize,
}

impl Connections {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn insert(&mut self, id: ConnectionId, connection: MqttConnection) {
        let slot = id.slot as usize;
        if self.entries.len() <= slot {
            self.entries.resize_with(slot + 1, || None);
        }
        let earlier = self.entries[slot].replace((id.generation, connection));
        assert!(earlier.is_none(), "the runtime gives a place away only after its end was told");
        self.count += 1;
    }

    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<MqttConnection> {
        self.get(id)?;
        self.count -= 1;
        self.entries[id.slot as usize].take().map(|(_, connection)| connection)
    }

    #[inline]
    pub(super) fn get(&self, id: ConnectionId) -> Option<&MqttConnection> {
        match self.entries.get(id.slot as usize)? {
            Some((generation, connection)) if *generation == id.generation => Some(connection),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut MqttConnection> {
        match self.entries.get_mut(id.slot as usize)? {
            Some((generation, connection)) if *generation == id.generation => Some(connection),
            _ => None,
        }
    }

    /// The connection whose packet is being handled.
    #[inline]
    pub(super) fn connected(&self, id: ConnectionId) -> &MqttConnection {
        self.get(id).expect("it lasts until its packet has been handled")
    }

    /// The connection whose packet is being handled.
    #[inline]
    pub(super) fn connected_mut(&mut self, id: ConnectionId) -> &mut MqttConnection {
        self.get_mut(id).expect("it lasts until its packet has been handled")
    }

    /// Owes a connection an answer, and stops reading from it until it has been given. A connection
    /// that has gone is owed nothing.
    pub(super) fn owe(
        &mut self,
        id: ConnectionId,
        owed: &mut Owed,
        (condition, answer): (Condition, Answer),
        ports: &mut impl Ports,
    ) {
        if let Some(connection) = self.get_mut(id) {
            owed.owe(id, &mut connection.account, condition, answer);
            ports.pause(id);
        }
    }

    /// The password of a client has been checked.
    pub(super) fn note_verdict(&mut self, id: ConnectionId, owed: &mut Owed, passed: bool) {
        // It may have gone meanwhile.
        if let Some(connection) = self.get_mut(id) {
            owed.note_verdict(id, &mut connection.account, passed);
        }
    }

    /// The next answer that is owed no longer, and whose it is.
    pub(super) fn next_due(&mut self, owed: &mut Owed) -> Option<(ConnectionId, Due)> {
        loop {
            let id = owed.next_ready()?;
            // It may have gone meanwhile.
            let due = self.get_mut(id).and_then(|it| owed.take_due(id, &mut it.account));
            if let Some(due) = due {
                return Some((id, due));
            }
        }
    }

    /// Reads from a connection again, if nothing stands against it. The client could not be heard
    /// until now.
    pub(super) fn read_on(&mut self, id: ConnectionId, now: Moment, ports: &mut impl Ports) {
        // It may have gone with its last answer.
        if let Some(connection) = self.get_mut(id).filter(|connection| !connection.is_held()) {
            connection.touch(now);
            ports.resume(id);
        }
    }

    /// One more subscriber cannot keep up with this publisher. One that has gone meanwhile has
    /// nothing to wait for.
    pub(super) fn press(&mut self, id: ConnectionId) {
        if let Some(publisher) = self.get_mut(id) {
            publisher.account.press();
        }
    }

    /// One subscriber less presses this publisher, which may have gone meanwhile.
    pub(super) fn ease(&mut self, id: ConnectionId, now: Moment, ports: &mut impl Ports) {
        let Some(publisher) = self.get_mut(id) else { return };
        let was_held = publisher.is_held();
        let acknowledgements = publisher.account.ease();
        if !acknowledgements.is_empty() {
            ports.send(id, &acknowledgements);
        }
        if was_held {
            self.read_on(id, now, ports);
        }
    }

    /// How many connections are held back, and how many topics stand behind aliases.
    pub(super) fn held_back_and_aliases(&self) -> (usize, usize) {
        let connections = || self.entries.iter().flatten().map(|(_, connection)| connection);
        let held_back = connections().filter(|it| it.account.is_held_back()).count();
        let extras = connections().filter_map(|connection| connection.extras.as_ref());
        (held_back, extras.map(|extras| extras.aliases.count()).sum())
    }

    pub(super) fn ids(&self) -> Vec<ConnectionId> {
        let present = self.entries.iter().zip(0u32..);
        present
            .filter_map(|(entry, slot)| {
                entry.as_ref().map(|&(generation, _)| ConnectionId { slot, generation })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
