//! The connections of a shard, as MQTT sees them.

use std::{num::NonZeroU16, rc::Rc};

use super::{auth::Authentication, ports::Arrival, rules::Rules};
use crate::{
    access::Principal,
    base::{
        ids::{ConnectionId, SubscriberId},
        time::{Moment, Span},
    },
    mqtt::{Frame, PacketType, Version},
    session::{
        client_aliases::{AliasesFull, ClientAliases},
        terms::Terms,
    },
};

/// One network connection, from its arrival to its end.
///
/// ```text
///            CONNECT             verdict            CONNECT again
///   Fresh ------------> Verifying ------> Verified ---------------> Connected
///     |  no password to check, or none needed                         ^  ^
///     +---------------------------------------------------------------+  |
///     |  CONNECT with an Authentication Method           AUTH, proven    |
///     +---------------------------------> Authenticating ----------------+
/// ```
#[derive(Debug)]
pub(super) struct MqttConnection {
    /// Those that held when it came, and then those that held at its CONNECT: its CONNACK has told
    /// them to the client.
    pub(super) rules: Rc<Rules>,
    /// Who its client is: a stranger until its CONNECT has been taken.
    pub(super) principal: Rc<Principal>,
    /// It is one too many, and only there to be told so.
    pub(super) surplus: bool,
    /// It is a bridge of mosquitto's, by the mark in its CONNECT.
    pub(super) is_bridge: bool,
    pub(super) stage: Stage,
    /// Valid once its CONNECT has been taken.
    pub(super) terms: Terms,
    /// Seconds; 0 is never.
    pub(super) keep_alive: u16,
    /// For how many reasons nothing is read from it now.
    holds: u32,
    /// For how many subscribers that cannot keep up it should publish no more now.
    presses: u32,
    /// A PUBLISH has come that waits until it is pressed no more.
    stalled: bool,
    pub(super) last_packet: Moment,
    extras: Option<Box<Extras>>,
}

/// The QoS of a PUBLISH in the first byte of its frame.
const QOS_BITS: u8 = 0b110;
/// Some sixty acknowledgements: the windows of most clients are smaller.
const DEFERRED_BYTES_MAX: usize = 256;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Fresh,
    Verifying,
    Verified {
        passed: bool,
    },
    /// CONNECT has been taken and is kept until it can be answered.
    Authenticating,
    Connected(SubscriberId),
}

/// What most connections never have.
#[derive(Debug, Default)]
struct Extras {
    /// The topics for which the client has set a Topic Alias. [MQTT-3.3.2-7]
    aliases: ClientAliases,
    /// PUBACK and PUBREC packets that wait until it is pressed no more: a publisher with a window
    /// stops by itself without them, and everything else that it sends is still read.
    deferred: Vec<u8>,
    /// Of a client that authenticates by AUTH packets.
    authentication: Option<Box<Authentication>>,
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
            holds: 0,
            presses: 0,
            stalled: false,
            last_packet: now,
            extras: None,
        }
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

    /// When the client will have been silent for too long: one and a half times its Keep Alive.
    /// [MQTT-3.1.2-22]
    pub(super) fn keep_alive_deadline(&self) -> Option<Moment> {
        let span = Span::from_millis(u64::from(self.keep_alive) * 1_500);
        (self.keep_alive > 0).then(|| self.last_packet + span)
    }

    /// Whether nothing is read from it now.
    pub(super) fn is_held(&self) -> bool {
        self.holds > 0 || self.stalled
    }

    /// Whether this packet has to wait. It is to be handed in again then.
    pub(super) fn stalls(&mut self, frame: &Frame<'_>) -> bool {
        self.stalled = self.presses > 0
            && frame.packet_type() == PacketType::Publish
            && (frame.first & QOS_BITS == 0 || self.deferred_len() >= DEFERRED_BYTES_MAX);
        self.stalled
    }

    /// Takes an acknowledgement of a PUBLISH to keep it back, if it is to be kept back.
    pub(super) fn defer(&mut self, acknowledgement: &[u8]) -> bool {
        if self.presses > 0 {
            let extras = self.extras.get_or_insert_default();
            extras.deferred.extend_from_slice(acknowledgement);
        }
        self.presses > 0
    }

    pub(super) fn hold(&mut self) {
        self.holds += 1;
    }

    pub(super) fn release(&mut self) {
        self.holds = self.holds.checked_sub(1).expect("each release answers one hold");
    }

    pub(super) fn press(&mut self) {
        self.presses += 1;
    }

    /// Takes one press back. With the last one the acknowledgements that were kept back are due.
    pub(super) fn unpress(&mut self) -> Vec<u8> {
        self.presses = self.presses.checked_sub(1).expect("each easing answers one press");
        if self.presses > 0 {
            return Vec::new();
        }
        self.stalled = false;
        self.extras.as_mut().map(|extras| std::mem::take(&mut extras.deferred)).unwrap_or_default()
    }

    fn deferred_len(&self) -> usize {
        self.extras.as_ref().map_or(0, |extras| extras.deferred.len())
    }

    pub(super) fn authentication(&mut self) -> Option<&mut Authentication> {
        self.extras.as_mut()?.authentication.as_deref_mut()
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
    /// What all authentications hold that have not been concluded.
    authenticating_bytes: usize,
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
        self.set_authentication(id, None);
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

    /// Gives a connection the state of its authentication, and takes the earlier one.
    pub(super) fn set_authentication(
        &mut self,
        id: ConnectionId,
        authentication: Option<Authentication>,
    ) -> Option<Box<Authentication>> {
        let connection = self.get_mut(id)?;
        if authentication.is_none() && connection.extras.is_none() {
            return None;
        }
        let extras = connection.extras.get_or_insert_default();
        let coming = authentication.as_ref().map_or(0, Authentication::bytes);
        let earlier = std::mem::replace(&mut extras.authentication, authentication.map(Box::new));
        self.authenticating_bytes += coming;
        self.authenticating_bytes -= earlier.as_deref().map_or(0, Authentication::bytes);
        earlier
    }

    pub(super) fn authenticating_bytes(&self) -> usize {
        self.authenticating_bytes
    }

    /// How many connections are held back, and how many topics stand behind aliases.
    pub(super) fn held_back_and_aliases(&self) -> (usize, usize) {
        let connections = || self.entries.iter().flatten().map(|(_, connection)| connection);
        let held_back = connections().filter(|it| it.is_held() || it.presses > 0).count();
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
